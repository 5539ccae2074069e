//! The limit of running handlers that follows their latency.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rpc_client::Client;
use rpc_core::{Code, Discovery as _, ServiceClient, Streaming};
use rpc_registry::Memory;
use rpc_server::{Server, ServerConfig};
use tests::{in_time, serving::Serving};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::region::{Region, RegionClient, RegionServer, without_zone};

/// A provider whose handlers share a resource for eight of them. The latency of further ones grows with their number.
#[derive(Clone)]
struct Contended {
    resource: Arc<Semaphore>,
    running: Arc<AtomicUsize>,
    /// The largest number of running handlers since the last reset.
    most: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

impl Region for Contended {
    async fn name(&self) -> String {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        let permit = self.resource.acquire().await.unwrap();
        tokio::time::sleep(Duration::from_millis(3)).await;
        drop(permit);
        self.running.fetch_sub(1, Ordering::SeqCst);
        self.ended.fetch_add(1, Ordering::SeqCst);
        "contended".to_owned()
    }

    async fn relay(&self) -> String {
        "contended".to_owned()
    }

    async fn exclusive(&self) -> String {
        "contended".to_owned()
    }

    async fn watch(&self) -> Streaming<u64> {
        Streaming::from_iterator(0..)
    }
}

/// Overloads a server with 200 callers. Returns the largest number of handlers that ran after the first 4 000.
async fn most_running(name: &str, config: ServerConfig) -> usize {
    let registry = Arc::new(Memory::named(name));
    let contended = Contended {
        resource: Arc::new(Semaphore::new(8)),
        running: Arc::default(),
        most: Arc::default(),
        ended: Arc::default(),
    };
    let server = Server::builder().service(RegionServer::new(contended.clone())).config(config);
    let _serving = Serving::start(server.registry(Arc::clone(&registry) as _)).await;
    // The server registers in the background.
    let mut listed = registry.watch(<RegionClient<Client> as ServiceClient>::service_id());
    in_time(listed.wait_for(|list| list.as_ref().is_some_and(|list| !list.is_empty()))).await.unwrap();
    let client =
        Client::builder().registry(registry).config(without_zone().with_cache_directory(None)).build().unwrap();
    in_time(client.warm_up::<RegionClient<_>>()).await.unwrap();
    let mut callers = JoinSet::new();
    for _ in 0..200 {
        let region = RegionClient::new(client.clone());
        callers.spawn(async move {
            loop {
                // The handlers end, so that each one counts.
                let call = region.name().timeout(Duration::from_secs(100)).wait_for_ready(true);
                match call.await {
                    Ok(_) => {}
                    Err(error) if error.code() == Code::ResourceExhausted => tokio::task::yield_now().await,
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    let until = async |ended: usize| {
        while contended.ended.load(Ordering::SeqCst) < ended {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    in_time(until(4_000)).await;
    contended.most.store(0, Ordering::SeqCst);
    in_time(until(6_000)).await;
    contended.most.load(Ordering::SeqCst)
}

/// The latency of a handler is the number of running ones divided by eight, times 3 ms.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adaptive_limit_bounds_latency_of_overloaded_server() {
    let config = ServerConfig::default().with_max_running(1000);
    let fixed = most_running("fixed limit", config.clone()).await;
    let adaptive = most_running("adaptive limit", config.with_adaptive_limit(true)).await;
    eprintln!("up to {fixed} handlers ran with a fixed limit, up to {adaptive} with an adaptive one");
    assert!(fixed >= 150, "{fixed}");
    assert!((4..=60).contains(&adaptive), "{adaptive}");
}
