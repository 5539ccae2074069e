//! Simulated clusters of msnb services, for tests of services and of their callers under faults.
//!
//! A [`Cluster`] runs providers and consumers in one thread, with a simulated network and a simulated clock: an hour of
//! timeouts takes seconds, and no port is opened. Servers and clients are those of production. A seed determines all random
//! numbers and the order of events, so that a failure can be repeated.
//!
//! | topic | item |
//! |---|---|
//! | a cluster, and its faults | [`Cluster`], [`Fault`] |
//! | the clients of a provider or consumer | [`Node`] |
//! | many seeds, and the first one that fails | [`check_seeds`], [`FailedSeed`] |
//!
//! Time and the network are simulated only for code that uses tokio's clock and msnb's connections. A service that opens
//! sockets of its own, sleeps in threads or reads the clock of the system behaves as usual, and the seed does not determine
//! when.
//!
//! # Examples
//!
//! A wallet whose deposits are marked `idempotent` although they are not: the client may send a call again when the
//! answer is lost. Some seed shows it.
//!
//! ```
//! use std::{
//!     sync::{
//!         Arc,
//!         atomic::{AtomicU64, Ordering},
//!     },
//!     time::Duration,
//! };
//!
//! use rpc_core::rpc_service;
//! use rpc_server::Server;
//! use rpc_simulation::{Cluster, check_seeds};
//!
//! #[rpc_service(name = "shop.Wallet", version = "1.0")]
//! trait Wallet {
//!     #[rpc(idempotent, timeout = "2s")]
//!     async fn deposit(&self, amount: u64);
//! }
//!
//! #[derive(Clone, Default)]
//! struct Account(Arc<AtomicU64>);
//!
//! impl Wallet for Account {
//!     async fn deposit(&self, amount: u64) {
//!         self.0.fetch_add(amount, Ordering::Relaxed);
//!     }
//! }
//!
//! let failed = check_seeds(0..50, |seed| {
//!     let account = Account::default(); // shared by both providers, as in a database
//!     let mut cluster = Cluster::new(seed);
//!     for name in ["one", "two"] {
//!         let account = account.clone();
//!         cluster.provider(name, move |_| Server::builder().service(WalletServer::new(account.clone())));
//!     }
//!     cluster.consumer("shop", |node| async move {
//!         let wallet = WalletClient::new(node.client()?);
//!         for _ in 0..100 {
//!             // A deposit may fail, but none may count twice.
//!             let _ = wallet.deposit(1).wait_for_ready(true).await;
//!             tokio::time::sleep(Duration::from_millis(50)).await;
//!         }
//!         Ok(())
//!     });
//!     cluster.random_faults(Duration::from_secs(8));
//!     cluster.run()?;
//!     let balance = account.0.load(Ordering::Relaxed);
//!     if balance <= 100 { Ok(()) } else { Err(format!("100 deposits of 1 result in {balance}").into()) }
//! });
//! println!("{}", failed.unwrap_err()); // with `#[rpc(once)]`, all seeds pass
//! ```

mod cluster;
mod fault;
mod network;
mod node;
mod seeds;

pub use cluster::Cluster;
pub use fault::Fault;
pub use node::Node;
pub use seeds::{FailedSeed, check_seeds};
