//! Clusters with faults.

use std::{
    error::Error,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rpc_core::rpc_service;
use rpc_server::Server;
use rpc_simulation::{Cluster, Fault, Node, check_seeds};
use tokio::time::sleep;

#[rpc_service(name = "test.Wallet", version = "1.0")]
trait Wallet {
    /// Marked wrongly: a repeated call deposits again.
    #[rpc(idempotent, timeout = "2s")]
    async fn naive_deposit(&self);
    #[rpc(once, timeout = "2s")]
    async fn deposit(&self);
}

#[derive(Clone, Default)]
struct Account(Arc<AtomicU64>);

impl Wallet for Account {
    async fn naive_deposit(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    async fn deposit(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

const DEPOSITS: u64 = 100;

/// Runs two providers and a consumer under random faults; an error states that a deposit counted twice.
fn deposit(seed: u64, naive: bool) -> Result<(), Box<dyn Error>> {
    let account = Account::default();
    let mut cluster = Cluster::new(seed);
    for name in ["one", "two"] {
        let account = account.clone();
        cluster.provider(name, move |_| Server::builder().service(WalletServer::new(account.clone())));
    }
    cluster.consumer("shop", |node| async move {
        let wallet = WalletClient::new(node.client()?);
        for _ in 0..DEPOSITS {
            // A deposit may fail.
            let _ = match naive {
                true => wallet.naive_deposit().wait_for_ready(true).await,
                false => wallet.deposit().wait_for_ready(true).await,
            };
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    });
    cluster.random_faults(Duration::from_secs(8)).run()?;
    let balance = account.0.load(Ordering::Relaxed);
    if balance <= DEPOSITS { Ok(()) } else { Err(format!("{DEPOSITS} deposits result in {balance}").into()) }
}

#[test]
fn seeds_show_a_method_that_is_not_idempotent() {
    let failed = check_seeds(0..50, |seed| deposit(seed, true)).unwrap_err();
    assert!(failed.message.starts_with("100 deposits result in 1"), "{failed}");
    assert_eq!(deposit(failed.seed, true).unwrap_err().to_string(), failed.message, "the seed repeats the failure");
}

#[test]
fn once_deposits_count_once_with_all_seeds() {
    check_seeds(0..50, |seed| deposit(seed, false)).unwrap();
}

#[test]
fn calls_survive_the_faults_of_one_provider() {
    let faults = [
        Fault::Kill("one".into()),
        Fault::Drain("one".into()),
        Fault::Partition("shop".into(), "one".into()),
        Fault::Hold("shop".into(), "one".into()),
    ];
    for fault in faults {
        let account = Account::default();
        let mut cluster = Cluster::new(1);
        for name in ["one", "two"] {
            let account = account.clone();
            cluster.provider(name, move |_| Server::builder().service(WalletServer::new(account.clone())));
        }
        cluster.consumer("shop", |node| async move {
            let wallet = WalletClient::new(node.client()?);
            wallet.naive_deposit().wait_for_ready(true).await?;
            while node_time() < Duration::from_secs(6) {
                wallet.naive_deposit().wait_for_ready(true).await?;
                sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        });
        cluster.fault(Duration::from_secs(1), fault.clone());
        cluster.fault(Duration::from_secs(3), Fault::Start("one".into()));
        cluster.fault(Duration::from_secs(3), Fault::Repair("shop".into(), "one".into()));
        cluster.run().unwrap_or_else(|error| panic!("{fault:?}: {error}"));
    }
}

fn node_time() -> Duration {
    turmoil::elapsed()
}

/// A provider that calls another one.
#[rpc_service(name = "test.Shop", version = "1.0")]
trait Shop {
    async fn buy(&self) -> Result<(), rpc_core::Status>;
}

struct Front(WalletClient);

impl Shop for Front {
    async fn buy(&self) -> Result<(), rpc_core::Status> {
        Ok(self.0.deposit().wait_for_ready(true).await?)
    }
}

#[test]
fn providers_call_each_other() {
    let account = Account::default();
    let mut cluster = Cluster::new(3);
    let stored = account.clone();
    cluster.provider("wallet", move |_| Server::builder().service(WalletServer::new(stored.clone())));
    cluster.provider("shop", |node: Node| {
        let client = node.client().unwrap();
        Server::builder().service(ShopServer::new(Front(WalletClient::new(rpc_core::DynCaller::new(client)))))
    });
    cluster.consumer("customer", |node| async move {
        let shop = ShopClient::new(node.client()?);
        shop.buy().wait_for_ready(true).await?;
        Ok(())
    });
    cluster.run().unwrap();
    assert_eq!(account.0.load(Ordering::Relaxed), 1);
}

#[test]
fn error_and_panic_of_a_consumer_end_the_run() {
    let failed = check_seeds([5], |seed| {
        let mut cluster = Cluster::new(seed);
        cluster.consumer("one", |_| async { Err("no money".into()) });
        cluster.run()
    });
    assert_eq!(failed.unwrap_err().to_string(), "seed 5: no money");
    let panicked = check_seeds([6], |seed| {
        let mut cluster = Cluster::new(seed);
        cluster.fault(Duration::ZERO, Fault::Kill("nobody".into()));
        cluster.run()
    });
    assert_eq!(panicked.unwrap_err().message, "panicked: the cluster has no provider nobody");
}

/// Both nodes write their times; a run with the same seed writes the same ones.
#[test]
fn seed_determines_the_times_of_events() {
    let run = |seed| {
        let times = Arc::new(Mutex::new(Vec::new()));
        let mut cluster = Cluster::new(seed);
        let account = Account::default();
        cluster.provider("one", move |_| Server::builder().service(WalletServer::new(account.clone())));
        for name in ["a", "b"] {
            let times = Arc::clone(&times);
            cluster.consumer(name, move |node| async move {
                let wallet = WalletClient::new(node.client()?);
                for _ in 0..20 {
                    let outcome = wallet.deposit().wait_for_ready(true).await;
                    times.lock().unwrap().push((node_time(), outcome.is_ok()));
                }
                Ok(())
            });
        }
        cluster.random_faults(Duration::from_secs(3)).run().unwrap();
        times.lock().unwrap().clone()
    };
    assert_eq!(run(9), run(9));
    assert_ne!(run(9), run(10));
}
