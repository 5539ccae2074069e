//! Contracts as values: callers and providers of different versions, and the service that describes services.

mod changes;
mod json;
mod matrix;
mod reflection;
mod rolling;
mod types;
mod versions;
