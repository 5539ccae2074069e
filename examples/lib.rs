//! msnb's examples.
