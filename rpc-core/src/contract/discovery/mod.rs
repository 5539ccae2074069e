//! The contract between msnb and a registry.
//!
//! | topic | module |
//! |---|---|
//! | the name and version of a service | `service_id` |
//! | one registration of a provider | `instance` |
//! | registering and finding providers | `registry` |

mod instance;
mod registry;
mod service_id;

pub use instance::Instance;
pub use registry::{Addresses, Discovery, RegisterOutcome, Registry};
pub use service_id::ServiceId;
