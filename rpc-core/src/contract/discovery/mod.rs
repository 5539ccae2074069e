//! The contract between msnb and a registry.
//!
//! | topic | module |
//! |---|---|
//! | the name and version of a service | `service_id` |
//! | one registration of a provider | `instance` |
//! | registering and finding providers | `registry` |
//! | the documents with the rules of services | `rule_source` |

mod instance;
mod registry;
mod rule_source;
mod service_id;

pub use instance::Instance;
pub use registry::{Addresses, Discovery, RegisterOutcome, Registry};
pub use rule_source::{RuleDocument, RuleSource};
pub use service_id::ServiceId;
