//! A Spring Boot application and providers in Rust call each other by their names in the official Nacos server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use rpc_core::{ServiceId, rpc_service};
use rpc_http::HttpCaller;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tests::{
    Task,
    http::RawHttp,
    nacos::{NacosServer, ServerKind},
    process::Provider,
    spring::SpringShop,
};
use tokio::time::{sleep, timeout};

/// The service that the application serves.
#[rpc_service(name = "shop.Stock")]
trait Stock {
    #[rpc(idempotent, http = "GET /stock/{id}")]
    async fn stock(&self, id: u64) -> Entry;
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    id: u64,
    pieces: u32,
}

/// Calls in a loop until the test ends it.
struct Driver {
    ended: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    task: Task<Vec<String>>,
}

impl Driver {
    /// `call` returns the number of its calls, and its failures.
    fn start<F: Future<Output = (usize, Vec<String>)> + Send>(call: impl Fn() -> F + Send + 'static) -> Self {
        let (ended, calls) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (is_over, counter) = (Arc::clone(&ended), Arc::clone(&calls));
        let task = Task::begin(async move {
            let mut failures = Vec::new();
            while !is_over.load(SeqCst) {
                let (count, failed) = call().await;
                counter.fetch_add(count, SeqCst);
                failures.extend(failed);
            }
            failures
        });
        Self { ended, calls, task }
    }

    /// Waits until further calls were made.
    async fn progress(&self) {
        let seen = self.calls.load(SeqCst);
        let progress = async {
            while self.calls.load(SeqCst) < seen + 100 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(60), progress).await.unwrap();
    }

    async fn end(self) -> (usize, Vec<String>) {
        self.ended.store(true, SeqCst);
        let failures = self.task.end().await;
        (self.calls.load(SeqCst), failures)
    }
}

/// Waits until Nacos lists `count` instances of a service.
async fn until_listed(nacos: &NacosServer, name: &str, count: usize) {
    let name = ServiceId::unversioned(name).unwrap();
    let listed = nacos.wait_for(&name, |instances| instances.len() == count);
    timeout(Duration::from_secs(60), listed).await.unwrap();
}

async fn provider(nacos: &NacosServer) -> Provider {
    Provider::start_with(&nacos.url(), &["--http-service", "goods", "--drain-notice", "3"]).await
}

/// The application's load balancer keeps no list (`spring.cloud.loadbalancer.cache.enabled`), so that the providers need to
/// serve only few seconds after they have deregistered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spring_and_rust_call_each_other_during_rolling_restarts() {
    if !SpringShop::is_available() {
        return;
    }
    let nacos = NacosServer::start_kind(ServerKind::Official3).await;
    let url = nacos.url();
    let server = url.strip_prefix("nacos://").unwrap().split(['?', '/']).next().unwrap().to_owned();
    let mut old = provider(&nacos).await;
    until_listed(&nacos, "goods", 1).await;
    let spring = SpringShop::start(&server).await;
    until_listed(&nacos, "stock", 1).await;
    assert_eq!(spring.get("/good/3").await, json!({ "id": 3, "name": "compass", "price": 1275 }));
    let missing = spring.get("/good/9").await;
    assert_eq!(missing["error"], r#"{"NotFound":{"id":9}}"#);

    let address = spring.address();
    let java = Driver::start(move || async move {
        let response = RawHttp::connect(address).await.get("/drive?n=20").await;
        let Value::Object(outcomes) = response.json() else { return (0, vec![response.text()]) };
        let failures = outcomes.iter().filter(|(outcome, _)| *outcome != "teapot");
        (20, failures.map(|(outcome, count)| format!("{count} {outcome}")).collect())
    });
    let registry = rpc_registry::connect(&url).await.unwrap();
    let stock = StockClient::new(HttpCaller::new(registry, "stock").unwrap());
    assert_eq!(stock.stock(3).wait_for_ready(true).await.unwrap(), Entry { id: 3, pieces: 30 });
    let error = stock.stock(9).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (rpc_core::Code::NotFound, "HTTP 404 Not Found: /stock/9"));
    let rust = Driver::start(move || {
        let call = stock.stock(3);
        async move {
            match call.await {
                Ok(Entry { id: 3, pieces: 30 }) => (1, Vec::new()),
                outcome => (1, vec![format!("{outcome:?}")]),
            }
        }
    });

    // The providers in Rust are replaced while the application calls them.
    java.progress().await;
    let _new = provider(&nacos).await;
    until_listed(&nacos, "goods", 2).await;
    java.progress().await;
    old.terminate();
    let (status, _) = old.wait().await;
    assert!(status.success());
    java.progress().await;
    let (calls, failures) = java.end().await;
    assert!(calls > 300 && failures.is_empty(), "{calls} calls, {} failures: {:?}", failures.len(), failures.first());

    // The application is replaced while callers in Rust call it.
    let new = SpringShop::start(&server).await;
    until_listed(&nacos, "stock", 2).await;
    // The push of Nacos has arrived when calls arrive.
    let used = async {
        while new.get("/served").await == json!(0) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(60), used).await.unwrap();
    spring.stop().await;
    rust.progress().await;
    let (calls, failures) = rust.end().await;
    println!("{calls} calls of the application");
    assert!(calls > 200 && failures.is_empty(), "{calls} calls, {} failures: {:?}", failures.len(), failures.first());
    drop(new);
}
