//! The service with which every server describes its services.
//!
//! Servers of rpc-server serve it unless `ServerBuilder::reflection(false)` disables it. It is an ordinary service: access
//! rules and layers apply. A server does not register it, so a caller names the address of a server. Calls use
//! MessagePack, so that servers and callers of different versions understand each other.

use serde::{Deserialize, Serialize};

use crate::{Status, descriptor::Contract, rpc_service};

/// Describes the services of a server.
#[rpc_service(name = "msnb.Reflection", version = "1.0", codec = "messagepack", crate = "crate")]
pub trait Reflection {
    /// Returns the services of the server, sorted by name and version.
    #[rpc(idempotent)]
    async fn list(&self) -> Vec<ServiceSummary>;

    /// Returns the description of a service, such as `demo.Greeter:1.0`.
    ///
    /// Fails with `NotFound` if the server does not have the service, and with `Unimplemented` if the service has no
    /// description.
    #[rpc(idempotent)]
    async fn describe(&self, service: String) -> Result<Contract, Status>;
}

/// A service of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServiceSummary {
    /// The name and version, such as `demo.Greeter:1.0`.
    pub service: String,
    /// The names of the methods.
    pub methods: Vec<String>,
    /// The digest of the contract as 16 hexadecimal digits; `None` for a service without a description.
    #[serde(default)]
    pub digest: Option<String>,
    /// The doc comment of the trait.
    #[serde(default)]
    pub docs: String,
}

impl ServiceSummary {
    /// Creates the summary of a service without a description.
    pub fn new(service: String, methods: Vec<String>) -> Self {
        Self { service, methods, digest: None, docs: String::new() }
    }

    /// Adds the digest and the docs of a contract.
    #[cfg(feature = "transport")]
    #[must_use]
    pub fn with_contract(self, contract: &Contract) -> Self {
        Self { digest: Some(format!("{:016x}", contract.digest())), docs: contract.docs.clone(), ..self }
    }
}
