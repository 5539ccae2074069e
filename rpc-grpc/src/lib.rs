//! gRPC for msnb: [`Grpc`] lets callers with any implementation of gRPC call the services of a server, on its port.
//!
//! Every service whose trait has `#[rpc_service]` is a gRPC service. `msnb describe --proto` prints its `.proto` file, and server
//! reflection describes it. docs/GRPC.md specifies messages, statuses and limits.
//!
//! | topic | module |
//! |---|---|
//! | the form of services in protobuf | `schema` |
//! | conversion between protobuf and MessagePack | `transcode` |
//! | the endpoint of a server | `server` |
//!
//! # Examples
//!
//! ```
//! use rpc_core::rpc_service;
//! use rpc_grpc::Grpc;
//! use rpc_server::Server;
//!
//! #[rpc_service(name = "demo.Greeter", version = "1.0")]
//! trait Greeter {
//!     async fn hello(&self, name: String) -> String;
//! }
//!
//! struct MyGreeter;
//!
//! impl Greeter for MyGreeter {
//!     async fn hello(&self, name: String) -> String {
//!         format!("Hello {name}")
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), rpc_core::Error> {
//! let server = Server::builder().service(GreeterServer::new(MyGreeter)).endpoint(Grpc::new()).bind("127.0.0.1:0").await?;
//! // grpcurl -plaintext -d '{"name":"Bo"}' 127.0.0.1:PORT demo.greeter.v1_0.Greeter/Hello
//! # Ok(()) }
//! ```

mod schema;
mod server;
mod transcode;

pub use server::{Grpc, GrpcConfig};
