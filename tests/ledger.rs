//! [`Ledger`]: the service `test.Ledger:1.0`, which records each execution in a file that survives a kill.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Write as _,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::Duration,
};

use rpc_core::{Context, ServiceId, rpc_service};
use serde::{Deserialize, Serialize};

/// Methods with different rules for a retry after an unknown outcome.
#[rpc_service(name = "test.Ledger", version = "1.0")]
pub trait Ledger {
    /// Idempotent; not recorded.
    #[rpc(idempotent)]
    async fn look_up(&self, nonce: u64) -> Receipt;

    /// Neither idempotent nor a once call.
    async fn enter(&self, nonce: u64) -> Receipt;

    /// A once call: one server executes it once.
    #[rpc(once)]
    async fn enter_once(&self, nonce: u64) -> Receipt;
}

/// The method that needs servers with a shared store.
#[rpc_service(name = "test.SharedLedger", version = "1.0")]
pub trait SharedLedger {
    /// A cluster-wide once call: all servers together execute it once.
    #[rpc(once = "cluster")]
    async fn enter_once_of_all(&self, nonce: u64) -> Receipt;
}

/// The answer to a call, with the process that executed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The unique number of the call.
    pub nonce: u64,
    /// The id of the process that executed the call.
    pub process: u32,
    /// The server's address on the caller's connection.
    pub address: Option<SocketAddr>,
}

/// Implements [`Ledger`]: records calls in its own file, and delays each call by a random time.
#[derive(Debug, Clone)]
pub struct Clerk {
    file: Arc<File>,
    longest: Duration,
}

impl Clerk {
    /// Creates a clerk with a new file in `directory` that delays a call by up to `longest` after recording it.
    ///
    /// # Panics
    ///
    /// Panics if it cannot create the file.
    pub fn new(directory: &Path, longest: Duration) -> Self {
        let name = format!("{}-{:016x}", std::process::id(), rand::random::<u64>());
        let file = OpenOptions::new().append(true).create_new(true).open(directory.join(name));
        Self { file: Arc::new(file.expect("cannot create the ledger file")), longest }
    }

    /// Returns the service of this clerk.
    pub fn server(self) -> LedgerServer<Self> {
        LedgerServer::new(self)
    }

    async fn write(&self, nonce: u64) -> Receipt {
        // A single write of the whole line: the file has it completely or not at all, even if this process is killed.
        (&*self.file).write_all(format!("{nonce}\n").as_bytes()).expect("cannot write to the ledger file");
        self.work(nonce).await
    }

    async fn work(&self, nonce: u64) -> Receipt {
        if !self.longest.is_zero() {
            tokio::time::sleep(self.longest.mul_f64(rand::random())).await;
        }
        let address = Context::current().and_then(|context| context.peer().local_address);
        Receipt { nonce, process: std::process::id(), address }
    }
}

impl Ledger for Clerk {
    async fn look_up(&self, nonce: u64) -> Receipt {
        self.work(nonce).await
    }

    async fn enter(&self, nonce: u64) -> Receipt {
        self.write(nonce).await
    }

    async fn enter_once(&self, nonce: u64) -> Receipt {
        self.write(nonce).await
    }
}

impl SharedLedger for Clerk {
    async fn enter_once_of_all(&self, nonce: u64) -> Receipt {
        self.write(nonce).await
    }
}

/// Returns the number of executions of each call that the clerks recorded in `directory`.
///
/// # Panics
///
/// Panics if it cannot read the files.
pub fn executions(directory: &Path) -> BTreeMap<u64, usize> {
    let mut executions = BTreeMap::new();
    for entry in std::fs::read_dir(directory).expect("cannot read the ledger directory") {
        let written =
            std::fs::read_to_string(entry.expect("cannot list the directory").path()).expect("the files are text");
        for nonce in written.lines() {
            *executions.entry(nonce.parse().expect("ledger lines are numbers")).or_default() += 1;
        }
    }
    executions
}

/// The id of the service.
pub static LEDGER: ServiceId = ServiceId::from_static("test.Ledger", "1.0");
