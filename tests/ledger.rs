//! [`Ledger`]: the service `test.Ledger:1.0`, which writes down each time that it really runs, where a kill does not erase it.

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

/// What can be called, by what may be done when it is not known whether a call ran.
#[rpc_service(name = "test.Ledger", version = "1.0")]
pub trait Ledger {
    /// May be called again; is not written down.
    #[rpc(idempotent)]
    async fn look_up(&self, nonce: u64) -> Receipt;

    /// Is not to be called again.
    async fn enter(&self, nonce: u64) -> Receipt;

    /// Runs once on one server.
    #[rpc(once)]
    async fn enter_once(&self, nonce: u64) -> Receipt;

    /// Runs once on all servers together.
    #[rpc(once = "cluster")]
    async fn enter_once_of_all(&self, nonce: u64) -> Receipt;
}

/// Who ran a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The call's own number.
    pub nonce: u64,
    /// The process that ran it.
    pub process: u32,
    /// The address at which the caller reached it.
    pub address: Option<SocketAddr>,
}

/// Keeps the contract [`Ledger`]: writes into a file of its own, and takes a moment for each call.
#[derive(Debug, Clone)]
pub struct Clerk {
    file: Arc<File>,
    longest: Duration,
}

impl Clerk {
    /// A clerk who writes into a new file in `directory` and takes up to `longest` for a call, once it is written down.
    ///
    /// # Panics
    ///
    /// When the file cannot be made.
    pub fn new(directory: &Path, longest: Duration) -> Self {
        let name = format!("{}-{:016x}", std::process::id(), rand::random::<u64>());
        let file = OpenOptions::new().append(true).create_new(true).open(directory.join(name));
        Self { file: Arc::new(file.expect("a file can be made")), longest }
    }

    /// The service.
    pub fn server(self) -> LedgerServer<Self> {
        LedgerServer::new(self)
    }

    async fn write(&self, nonce: u64) -> Receipt {
        // One write of a line: it is in the file whatever happens to this process.
        (&*self.file).write_all(format!("{nonce}\n").as_bytes()).expect("a file can be written");
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

    async fn enter_once_of_all(&self, nonce: u64) -> Receipt {
        self.write(nonce).await
    }
}

/// How often each call ran, of all that the clerks of `directory` have written down.
///
/// # Panics
///
/// When it cannot be read.
pub fn executions(directory: &Path) -> BTreeMap<u64, usize> {
    let mut executions = BTreeMap::new();
    for entry in std::fs::read_dir(directory).expect("the directory is there") {
        let written = std::fs::read_to_string(entry.expect("it has entries").path()).expect("they are text");
        for nonce in written.lines() {
            *executions.entry(nonce.parse().expect("lines are numbers")).or_default() += 1;
        }
    }
    executions
}

/// The service.
pub static LEDGER: ServiceId = ServiceId::from_static("test.Ledger", "1.0");
