//! The implementation of `demo.Greeter:1.0`.

use contracts::{GreetError, Greeter};
use msnb::Context;

/// An implementation of [`Greeter`] that rejects only empty names.
#[derive(Debug, Clone, Default)]
pub(crate) struct PoliteGreeter;

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
