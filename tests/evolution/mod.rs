//! `test.Evolving:1.0` in two versions, which differ in one way in each method, and processes that serve one of them.

pub mod one;
pub mod two;

use std::{
    env,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use rpc_cli::{log_to_stderr, shutdown_signal};
use rpc_client::Client;
use rpc_core::{Code, Service};
use rpc_server::Server;

use crate::in_time;

/// Serves one version until SIGTERM. The process has the argument `LISTEN`, and the registry in `MSNB_REGISTRY`.
///
/// # Errors
///
/// The error of the arguments, the registry or the server.
pub async fn provide(service: impl Service) -> Result<(), Box<dyn Error>> {
    let listen = env::args().nth(1).ok_or("missing argument LISTEN")?;
    let registry = env::var("MSNB_REGISTRY").map_err(|_| "missing variable MSNB_REGISTRY")?;
    log_to_stderr("error");
    let registry = rpc_registry::connect(&registry).await?;
    let url = registry.url().to_owned();
    let server = Server::builder().registry(registry).service(service).bind(listen).await?;
    let shutdown = shutdown_signal();
    println!("serving on {}, listed as {} in {url}", server.local_address(), server.advertised_address());
    server.run_until(shutdown).await?;
    println!("drained");
    Ok(())
}

/// Calls of callers of both versions, which check each value.
#[derive(Debug, Default)]
pub struct Load {
    stops: AtomicBool,
    calls: AtomicU64,
    /// Whether all providers have the second version.
    upgraded: AtomicBool,
}

impl Load {
    /// Waits until the callers have made this number of further rounds of calls.
    ///
    /// # Panics
    ///
    /// Panics if they do not within the limit of [`in_time`].
    pub async fn proceed(&self, calls: u64) {
        let target = self.calls.load(Relaxed) + calls;
        in_time(async {
            while self.calls.load(Relaxed) < target {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Ends the callers after their current round.
    pub fn stop(&self) {
        self.stops.store(true, Relaxed);
    }

    /// Sets whether all providers have the second version, so that calls of its additions must succeed.
    pub fn set_upgraded(&self, upgraded: bool) {
        self.upgraded.store(upgraded, Relaxed);
    }

    fn continues(&self) -> bool {
        self.calls.fetch_add(1, Relaxed);
        !self.stops.load(Relaxed)
    }

    /// Calls as a caller of the first version until [`stop`](Self::stop).
    ///
    /// # Panics
    ///
    /// Panics if a call fails or returns another value than it must.
    pub async fn call_as_one(self: Arc<Self>, client: Client) {
        let evolving = one::EvolvingClient::new(client);
        let mut id = 0;
        while self.continues() {
            id += 1;
            let order = one::Order { id, item: format!("item {id}") };
            assert_eq!(evolving.unchanged(order.clone()).await.expect("the call succeeds"), order);
            assert_eq!(evolving.added_field(order.clone()).await.expect("the call succeeds"), order);
            assert_eq!(evolving.added_parameter(id).await.expect("the call succeeds"), id);
            let kind = if id % 2 == 0 { one::Kind::Plain } else { one::Kind::Sized(id as u8) };
            assert_eq!(evolving.added_variant(kind.clone()).await.expect("the call succeeds"), kind);
            let point = one::Point { x: id as u32, y: !(id as u32) };
            assert_eq!(evolving.reordered(point.clone()).await.expect("the call succeeds"), point);
        }
    }

    /// Calls as a caller of the second version until [`stop`](Self::stop).
    ///
    /// # Panics
    ///
    /// Panics if a call fails or returns another value than it must.
    pub async fn call_as_two(self: Arc<Self>, client: Client) {
        let evolving = two::EvolvingClient::new(client);
        let mut id = 0;
        while self.continues() {
            id += 1;
            let purchase = two::Purchase { id, item: format!("item {id}") };
            assert_eq!(evolving.unchanged(purchase.clone()).await.expect("the call succeeds"), purchase);
            let order = two::Order { id, currency: "SEK".into(), item: format!("item {id}") };
            let answer = evolving.added_field(order.clone()).await.expect("the call succeeds");
            // The provider of the first version does not have the field.
            let without = two::Order { currency: "EUR".into(), ..order.clone() };
            assert!(answer == order || answer == without, "{answer:?}");
            let answer = evolving.added_parameter(id, Some("abc".into())).await.expect("the call succeeds");
            assert!(answer == id || answer == id + 3, "{answer} for {id}");
            let kind = if id % 2 == 0 { two::Kind::Plain } else { two::Kind::Sized(id as u8) };
            assert_eq!(evolving.added_variant(kind.clone()).await.expect("the call succeeds"), kind);
            let point = two::Point { x: id as u32, y: !(id as u32) };
            assert_eq!(evolving.reordered(point.clone()).await.expect("the call succeeds"), point);
            self.call_additions(&evolving).await;
        }
    }

    /// Calls the method and the variant of the second version, which fail at a provider of the first one.
    async fn call_additions(&self, evolving: &two::EvolvingClient<Client>) {
        let was_upgraded = self.upgraded.load(Relaxed);
        let heavy = two::Kind::Heavy { weight: 3 };
        let (method, variant) = (evolving.added_method().await, evolving.added_variant(heavy.clone()).await);
        let is_upgraded = was_upgraded && self.upgraded.load(Relaxed);
        match method {
            Ok(answer) => assert_eq!(answer, 1),
            Err(error) => assert!(!is_upgraded && error.code() == Code::Unimplemented, "{error:?}"),
        }
        match variant {
            Ok(answer) => assert_eq!(answer, heavy),
            Err(error) => assert!(!is_upgraded && error.code() == Code::InvalidArgument, "{error:?}"),
        }
    }
}
