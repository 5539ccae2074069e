//! The contract `demo.Greeter:1.0` and an implementation.

use rpc_core::{Context, rpc_service};
use serde::{Deserialize, Serialize};

/// Greets users.
#[rpc_service(name = "demo.Greeter", version = "1.0")]
pub trait Greeter {
    /// Greets `name`; the greeting ends with the address of the provider.
    #[rpc(idempotent)]
    async fn hello(&self, name: String) -> Result<String, GreetError>;
}

/// An error of [`Greeter`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum GreetError {
    /// The name is empty.
    #[error("the name is empty")]
    EmptyName,
}

/// An implementation of [`Greeter`] that rejects only empty names.
#[derive(Debug, Clone, Default)]
pub struct PoliteGreeter;

impl Greeter for PoliteGreeter {
    async fn hello(&self, name: String) -> Result<String, GreetError> {
        if name.is_empty() {
            return Err(GreetError::EmptyName);
        }
        let address = Context::current().and_then(|context| context.peer().local_address);
        let from = address.map_or_else(|| "this process".to_owned(), |address| address.to_string());
        Ok(format!("Hello {name}, from {from}"))
    }
}
