//! Behaviour of calls between clients and servers through the public API.

mod balancing;
mod connections;
mod deadlines;
mod drain;
mod eviction;
mod identity;
mod layers;
mod limits;
mod metrics;
mod once;
mod once_calls;
#[cfg(feature = "opentelemetry")]
mod opentelemetry;
mod overload;
mod processes;
mod tls;
mod tracing;
mod unary;
mod uncopied;
