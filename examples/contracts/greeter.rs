//! The contract `demo.Greeter:1.0`.

use rpc_core::rpc_service;
use serde::{Deserialize, Serialize};

/// Says hello.
#[rpc_service(name = "demo.Greeter", version = "1.0")]
pub trait Greeter {
    /// Greets `name`; the greeting ends with the address of the provider that gave it.
    #[rpc(idempotent)]
    async fn hello(&self, name: String) -> Result<String, GreetError>;
}

/// Why nobody was greeted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum GreetError {
    /// There was nobody to greet.
    #[error("the name is empty")]
    EmptyName,
}
