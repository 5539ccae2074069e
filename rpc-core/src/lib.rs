//! The words and seams of msnb.

mod error;
mod instance;
mod registry;
mod service_id;
mod status;

use std::pin::Pin;

pub use error::{CallError, Delivery, Error, Phase};
pub use instance::Instance;
pub use registry::{Addresses, Discovery, Registry};
pub use service_id::ServiceId;
pub use status::{Code, Status};

/// A future behind a pointer, where a trait must be usable as `dyn`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
