//! [`BoxFuture`].

use std::pin::Pin;

/// A boxed future, which keeps a trait with asynchronous methods `dyn`-compatible.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
