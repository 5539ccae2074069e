//! The caller of JSON services.
