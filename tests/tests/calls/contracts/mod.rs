//! Contracts as values: callers and providers of different versions, and the service that describes services.

mod evolution;
mod matrix;
mod reflection;
mod rolling;
