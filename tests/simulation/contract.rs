//! What the simulated servers serve: two services with a method of each kind, and [`Clerk`], who serves them and writes it down.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rpc_core::rpc_service;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::history::History;

/// What a call asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Errand {
    /// Tells this call from all others.
    pub(crate) nonce: u64,
    /// How long the handler takes.
    pub(crate) takes: Duration,
    /// Whether the service's own error is the answer.
    pub(crate) fails: bool,
    /// How many bytes the answer carries besides.
    pub(crate) padding: usize,
}

/// The answer to an errand.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Receipt {
    /// The errand's.
    pub(crate) nonce: u64,
    /// As many bytes as were asked for, all of them the nonce's last byte.
    pub(crate) padding: Vec<u8>,
}

/// The service's own error.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// The errand's.
    pub(crate) nonce: u64,
}

/// One of the two services.
#[rpc_service(name = "sim.Ledger", version = "1.0")]
pub(crate) trait Ledger {
    /// May run again.
    #[rpc(idempotent)]
    async fn read(&self, errand: Errand) -> Result<Receipt, Refusal>;
    /// Must not run twice.
    async fn write(&self, errand: Errand) -> Result<Receipt, Refusal>;
    /// Is not answered.
    #[rpc(one_way)]
    async fn note(&self, errand: Errand);
}

/// The other service, with the same methods.
#[rpc_service(name = "sim.Archive", version = "1.0")]
pub(crate) trait Archive {
    /// May run again.
    #[rpc(idempotent)]
    async fn read(&self, errand: Errand) -> Result<Receipt, Refusal>;
    /// Must not run twice.
    async fn write(&self, errand: Errand) -> Result<Receipt, Refusal>;
    /// Is not answered.
    #[rpc(one_way)]
    async fn note(&self, errand: Errand);
}

/// Which service is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Which {
    /// [`Ledger`].
    Ledger,
    /// [`Archive`].
    Archive,
}

/// Which method is called, by what may happen to its calls. A kind that runs at most once although it is sent again goes here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// May run again, and is sent again.
    Idempotent,
    /// Must not run twice.
    Plain,
    /// Is not answered, and must not run twice.
    OneWay,
}

impl Which {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Ledger, Self::Archive];

    /// The service of this name.
    pub(crate) fn named(name: &str) -> Self {
        if name == "sim.Ledger" { Self::Ledger } else { Self::Archive }
    }
}

impl Kind {
    /// How often a call may run.
    pub(crate) fn most_runs(self) -> usize {
        match self {
            Self::Idempotent => 3,
            Self::Plain | Self::OneWay => 1,
        }
    }
}

/// Serves one of the services at one server.
pub(crate) struct Clerk {
    /// Where what runs is written down.
    pub(crate) history: Arc<History>,
    /// The server's address.
    pub(crate) server: SocketAddr,
    /// The service.
    pub(crate) which: Which,
}

impl Clerk {
    async fn run(&self, errand: Errand) -> Result<Receipt, Refusal> {
        let execution = self.history.runs(errand.nonce, self.server, self.which);
        if !errand.takes.is_zero() {
            sleep(errand.takes).await;
        }
        self.history.ran(execution);
        let Errand { nonce, fails, padding, .. } = errand;
        if fails { Err(Refusal { nonce }) } else { Ok(Receipt { nonce, padding: vec![nonce as u8; padding] }) }
    }
}

impl Ledger for Clerk {
    async fn read(&self, errand: Errand) -> Result<Receipt, Refusal> {
        self.run(errand).await
    }

    async fn write(&self, errand: Errand) -> Result<Receipt, Refusal> {
        self.run(errand).await
    }

    async fn note(&self, errand: Errand) {
        let _ = self.run(errand).await;
    }
}

impl Archive for Clerk {
    async fn read(&self, errand: Errand) -> Result<Receipt, Refusal> {
        self.run(errand).await
    }

    async fn write(&self, errand: Errand) -> Result<Receipt, Refusal> {
        self.run(errand).await
    }

    async fn note(&self, errand: Errand) {
        let _ = self.run(errand).await;
    }
}
