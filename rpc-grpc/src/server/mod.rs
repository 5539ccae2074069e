//! The endpoint: gRPC over HTTP/2 on the port of a server, which serves the connections.
//!
//! | topic | module |
//! |---|---|
//! | the options, and binding to a server | `grpc` |
//! | limits and times | `config` |
//! | what all connections share | `state` |
//! | the requests that are calls | `calls` |
//! | entries of the registry for Dubbo | `dubbo` |
//! | one call, from its head to its response | `exchange` |
//! | the items that a caller sends | `sending` |
//! | methods by their paths | `routes` |
//! | token, metadata, deadline and key of a call | `headers` |
//! | messages with their lengths, and their compression | `messages`, `compression`, `memory` |
//! | responses and their bodies | `response`, `body` |
//! | statuses | `status` |
//! | health checks | `health` |
//! | server reflection | `reflection`, `files`, `well_known` |

mod body;
mod calls;
mod compression;
mod config;
mod dubbo;
mod exchange;
mod files;
mod grpc;
mod headers;
mod health;
mod memory;
mod messages;
mod reflection;
mod response;
mod routes;
mod sending;
mod state;
mod status;
mod well_known;

pub use config::GrpcConfig;
pub use grpc::Grpc;
