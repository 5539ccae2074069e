//! The contracts of the two simulated services, and [`RecordingService`], which implements both.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rpc_core::rpc_service;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{history::History, services::SimService};

/// The arguments of a call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Arguments {
    /// Unique number of the call.
    pub(crate) nonce: u64,
    /// Time that the handler takes.
    pub(crate) duration: Duration,
    /// Whether the handler returns the service's own error.
    pub(crate) fails: bool,
    /// Whether the handler panics.
    pub(crate) panics: bool,
    /// Number of bytes in the answer's padding.
    pub(crate) padding: usize,
}

/// The answer to a call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// Number of the call.
    pub(crate) nonce: u64,
    /// The requested number of bytes, each of which is the last byte of the nonce.
    pub(crate) padding: Vec<u8>,
}

/// The service's own error.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ServiceError {
    /// Number of the call.
    pub(crate) nonce: u64,
}

/// The first service.
#[rpc_service(name = "sim.Ledger", version = "1.0")]
pub(crate) trait Ledger {
    /// May execute repeatedly.
    #[rpc(idempotent)]
    async fn read(&self, arguments: Arguments) -> Result<Answer, ServiceError>;
    /// Executes at most once.
    async fn write(&self, arguments: Arguments) -> Result<Answer, ServiceError>;
    /// Has no answer.
    #[rpc(one_way)]
    async fn note(&self, arguments: Arguments);
    /// Executes at most once; differs in [`OutdatedLedger`].
    async fn audit(&self, arguments: Arguments) -> Result<Answer, ServiceError>;
    /// Executes at most once although the client retries it.
    #[rpc(once)]
    async fn charge(&self, arguments: Arguments) -> Result<Answer, ServiceError>;
}

/// The first service in an incompatible contract: it lacks two methods, and one has other arguments and another answer.
#[rpc_service(name = "sim.Ledger", version = "1.0")]
pub(crate) trait OutdatedLedger {
    /// The same method.
    #[rpc(idempotent)]
    async fn read(&self, arguments: Arguments) -> Result<Answer, ServiceError>;
    /// A method of the same name.
    async fn audit(&self, label: String, reason: String) -> String;
    /// The same method in a build that executes every attempt.
    async fn charge(&self, arguments: Arguments) -> Result<Answer, ServiceError>;
}

/// The second service, with the same methods as the first but one.
#[rpc_service(name = "sim.Archive", version = "1.0")]
pub(crate) trait Archive {
    /// May execute repeatedly.
    #[rpc(idempotent)]
    async fn read(&self, arguments: Arguments) -> Result<Answer, ServiceError>;
    /// Executes at most once.
    async fn write(&self, arguments: Arguments) -> Result<Answer, ServiceError>;
    /// Has no answer.
    #[rpc(one_way)]
    async fn note(&self, arguments: Arguments);
}

/// Implements one of the services on one server.
pub(crate) struct RecordingService {
    /// Records the executions.
    pub(crate) history: Arc<History>,
    /// Address of the server.
    pub(crate) server: SocketAddr,
    /// Service that is implemented.
    pub(crate) service: SimService,
}

impl RecordingService {
    async fn run(&self, arguments: Arguments) -> Result<Answer, ServiceError> {
        let execution = self.history.record_execution(arguments.nonce, self.server, self.service);
        if !arguments.duration.is_zero() {
            sleep(arguments.duration).await;
        }
        let Arguments { nonce, fails, panics, padding, .. } = arguments;
        if panics {
            // Without the panic hook, which would print a message for each.
            std::panic::resume_unwind(Box::new("intended panic of a handler"));
        }
        self.history.record_completion(execution);
        if fails { Err(ServiceError { nonce }) } else { Ok(Answer { nonce, padding: vec![nonce as u8; padding] }) }
    }
}

impl Ledger for RecordingService {
    async fn read(&self, arguments: Arguments) -> Result<Answer, ServiceError> {
        self.run(arguments).await
    }

    async fn write(&self, arguments: Arguments) -> Result<Answer, ServiceError> {
        self.run(arguments).await
    }

    async fn note(&self, arguments: Arguments) {
        let _ = self.run(arguments).await;
    }

    async fn audit(&self, arguments: Arguments) -> Result<Answer, ServiceError> {
        self.run(arguments).await
    }

    async fn charge(&self, arguments: Arguments) -> Result<Answer, ServiceError> {
        self.run(arguments).await
    }
}

impl OutdatedLedger for RecordingService {
    async fn read(&self, arguments: Arguments) -> Result<Answer, ServiceError> {
        self.run(arguments).await
    }

    async fn audit(&self, label: String, _reason: String) -> String {
        label
    }

    async fn charge(&self, arguments: Arguments) -> Result<Answer, ServiceError> {
        self.run(arguments).await
    }
}

impl Archive for RecordingService {
    async fn read(&self, arguments: Arguments) -> Result<Answer, ServiceError> {
        self.run(arguments).await
    }

    async fn write(&self, arguments: Arguments) -> Result<Answer, ServiceError> {
        self.run(arguments).await
    }

    async fn note(&self, arguments: Arguments) {
        let _ = self.run(arguments).await;
    }
}
