//! The endpoint: HTTP/1.1 and HTTP/2 on the port of a server.
//!
//! | topic | module |
//! |---|---|
//! | the options, and binding to a server | `http` |
//! | limits and times | `config` |
//! | the claim and the task of a connection of HTTP/1.1 | `connection` |
//! | the requests of HTTP/2 | `http2` |
//! | the idle time and the times of heads, and the write stall | `activity` |
//! | one request, from its head to its response | `exchange` |
//! | paths and verbs | `routes` |
//! | arguments from path, query and body | `arguments`, `values` |
//! | who calls, metadata, deadline and key | `caller_headers` |
//! | requests of browsers | `origins` |
//! | responses and their bodies | `response`, `body`, `problem` |
//! | the description of the services | `openapi` |

mod activity;
mod arguments;
mod body;
mod caller_headers;
mod config;
mod connection;
mod exchange;
mod http;
mod http2;
mod openapi;
mod origins;
mod problem;
mod response;
mod routes;
mod values;

pub use config::HttpConfig;
pub use http::Http;
