//! The contract `demo.Greeter:1.0`.

use msnb::rpc_service;
use serde::{Deserialize, Serialize};

/// Greets users.
#[rpc_service(name = "demo.Greeter", version = "1.0")]
pub trait Greeter {
    /// Greets `name`; the greeting ends with the address of the provider.
    #[rpc(idempotent, http = "GET /greetings/{name}")]
    async fn hello(&self, name: String) -> Result<String, GreetError>;
}

/// An error of [`Greeter`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum GreetError {
    /// The name is empty.
    #[error("the name is empty")]
    EmptyName,
}
