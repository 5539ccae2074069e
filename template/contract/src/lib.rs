//! The contract of `{{service}}`, which provider and consumer share.

use msnb::rpc_service;
use serde::{Deserialize, Serialize};

/// Why a greeting fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum {{service}}Error {
    /// The name is empty.
    #[error("the name is empty")]
    EmptyName,
}

/// Greets callers.
#[rpc_service(name = "{{project-name}}.{{service}}", version = "1.0")]
pub trait {{service}} {
    /// Returns a greeting. A client may retry it, because a repeated call does no harm.
    #[rpc(idempotent, timeout = "3s")]
    async fn hello(&self, name: String) -> Result<String, {{service}}Error>;
}
