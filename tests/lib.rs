//! msnb's tests.
