//! The endpoint: gRPC over HTTP/2 on the port of a server.
//!
//! | topic | module |
//! |---|---|
//! | the options, and binding to a server | `grpc` |
//! | limits and times | `config` |
//! | what all connections share | `state` |
//! | the task of a connection | `connection` |
//! | the tasks of a connection | `tasks` |
//! | the frames and the progress of a connection | `frames`, `watched`, `activity` |
//! | one call, from its head to its response | `exchange` |
//! | the items that a caller sends | `sending` |
//! | methods by their paths | `routes` |
//! | token, metadata, deadline and key of a call | `headers` |
//! | messages with their lengths, and their compression | `messages`, `compression`, `memory` |
//! | responses and their bodies | `response`, `body` |
//! | statuses | `status` |
//! | health checks | `health` |
//! | server reflection | `reflection`, `files`, `well_known` |

mod activity;
mod body;
mod compression;
mod config;
mod connection;
mod exchange;
mod files;
mod frames;
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
mod tasks;
mod watched;
mod well_known;

pub use config::GrpcConfig;
pub use grpc::Grpc;
