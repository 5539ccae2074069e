//! Statuses of the handler's choice, response metadata and baggage, over sockets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rpc_client::{Client, ClientConfig};
use rpc_core::{CallError, Code, Context, Delivery, DynCaller, HandlerError, Metadata, Status, rpc_service, testing};
use rpc_server::Server;
use serde::{Deserialize, Serialize};
use tests::{
    in_time,
    raw_peer::{RawFrame, RawHead, RawPeer},
    serving::Serving,
};

use super::caller;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct SoldOut;

#[rpc_service(name = "test.Stock")]
trait Stock {
    #[rpc(idempotent)]
    async fn status(&self, code: u8) -> Result<u32, Status>;
    #[rpc(once)]
    async fn status_once(&self, code: u8) -> Result<u32, Status>;
    async fn either(&self, code: Option<u8>) -> Result<u32, HandlerError<SoldOut>>;
    async fn describe(&self, length: u32, fails: bool) -> Result<String, SoldOut>;
    async fn tenant(&self) -> Result<Option<String>, Status>;
}

/// Serves `test.Stock`, and counts its executions.
#[derive(Clone)]
struct Shelf {
    executions: Arc<AtomicUsize>,
    /// Answers `tenant`, if there is one.
    next: Option<StockClient<DynCaller>>,
}

impl Shelf {
    fn chosen(&self, code: u8) -> Status {
        self.executions.fetch_add(1, Ordering::SeqCst);
        describe();
        Status::new(Code::from_u8(code), "chosen").with_retry_after(RETRY_AFTER)
    }
}

fn describe() {
    let context = Context::current().expect("a handler has a context");
    context.insert_response_metadata("shelf", "7").expect("the entry is valid");
}

impl Stock for Shelf {
    async fn status(&self, code: u8) -> Result<u32, Status> {
        if code == 0 { Ok(3) } else { Err(self.chosen(code)) }
    }

    async fn status_once(&self, code: u8) -> Result<u32, Status> {
        Err(self.chosen(code))
    }

    async fn either(&self, code: Option<u8>) -> Result<u32, HandlerError<SoldOut>> {
        match code {
            Some(code) => Err(self.chosen(code).into()),
            None => Err(SoldOut.into()),
        }
    }

    async fn describe(&self, length: u32, fails: bool) -> Result<String, SoldOut> {
        describe();
        if fails { Err(SoldOut) } else { Ok("x".repeat(length as usize)) }
    }

    async fn tenant(&self) -> Result<Option<String>, Status> {
        let context = Context::current().expect("a handler has a context");
        match &self.next {
            Some(next) => Ok(next.tenant().await?),
            None => Ok(context.baggage("tenant").map(str::to_owned)),
        }
    }
}

/// Longer than every test.
const RETRY_AFTER: Duration = Duration::from_secs(40);

struct Scene {
    executions: Arc<AtomicUsize>,
    serving: Vec<Serving>,
}

impl Scene {
    /// Starts `providers` servers of one shelf.
    async fn start(providers: usize) -> Self {
        let executions = Arc::<AtomicUsize>::default();
        let mut serving = Vec::new();
        for _ in 0..providers {
            serving.push(serve(Shelf { executions: Arc::clone(&executions), next: None }).await);
        }
        Self { executions, serving }
    }

    async fn client(&self) -> Client {
        let list: Vec<_> = self.serving.iter().map(|serving| serving.address().to_string()).collect();
        let registry =
            rpc_registry::connect(&format!("fixed:{}", list.join(","))).await.expect("the addresses resolve");
        let config = ClientConfig::default().with_cache_directory(None);
        Client::builder().registry(registry).config(config).build().expect("the config is valid")
    }

    async fn stock(&self) -> StockClient<Client> {
        StockClient::new(self.client().await)
    }
}

async fn serve(shelf: Shelf) -> Serving {
    Serving::start(Server::builder().service(StockServer::new(shelf))).await
}

#[tokio::test]
async fn handler_status_arrives_and_is_not_retried() {
    let scene = Scene::start(2).await;
    let stock = scene.stock().await;
    for (executed, code) in (1..=16).map(Code::from_u8).enumerate() {
        let error = in_time(stock.status(code as u8)).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (code, "chosen"));
        assert_eq!((error.delivery(), error.retry_after()), (Delivery::Answered, Some(RETRY_AFTER)), "{code}");
        assert_eq!(scene.executions.load(Ordering::SeqCst), executed + 1, "{code} was retried");
    }
}

#[tokio::test]
async fn retry_after_of_a_handler_delays_no_other_call() {
    let scene = Scene::start(1).await;
    let stock = scene.stock().await;
    let error = in_time(stock.status(Code::Unavailable as u8)).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(RETRY_AFTER));
    assert_eq!(in_time(stock.status(0).wait_for_ready(false)).await.unwrap(), 3);
}

#[tokio::test]
async fn once_call_stores_the_status_of_the_handler() {
    let scene = Scene::start(1).await;
    let stock = scene.stock().await;
    let (failed, metadata) = in_time(stock.status_once(Code::NotFound as u8).with_response_metadata()).await;
    let error = failed.unwrap_err();
    assert_eq!((error.code(), error.retry_after()), (Code::NotFound, Some(RETRY_AFTER)));
    assert_eq!(metadata.get("shelf"), Some("7"));
    let mut peer = RawPeer::connect(scene.serving[0].address()).await;
    let head = RawHead::route("test.Stock:1.0/status_once").with(RawHead::ONCE_KEY, [7; 16]);
    let first = peer.ask(&RawFrame::request(1, &head, r#"{"code":5}"#)).await;
    let again = peer.ask(&RawFrame::request(2, &head.with(RawHead::REPEAT, [1]), r#"{"code":5}"#)).await;
    assert_eq!((first.status().0, &first.body), (Code::NotFound as u8, &again.body));
    assert_eq!(scene.executions.load(Ordering::SeqCst), 2, "one execution for each key");
}

#[tokio::test]
async fn handler_error_arrives_as_service_error_or_status() {
    let scene = Scene::start(1).await;
    let stock = scene.stock().await;
    let failed = in_time(stock.either(None)).await.unwrap_err();
    assert!(matches!(failed, CallError::Service(SoldOut)), "{failed:?}");
    let failed = in_time(stock.either(Some(Code::NotFound as u8))).await.unwrap_err();
    assert_eq!(failed.rpc().unwrap().code(), Code::NotFound, "{failed:?}");
}

#[tokio::test]
async fn response_metadata_accompanies_every_answer() {
    let scene = Scene::start(1).await;
    let stock = scene.stock().await;
    let (result, metadata) = in_time(stock.describe(20_000, false).with_response_metadata()).await;
    assert_eq!((result.unwrap().len(), metadata.get("shelf")), (20_000, Some("7")));
    let (failed, metadata) = in_time(stock.describe(0, true).with_response_metadata()).await;
    assert!(matches!(failed, Err(CallError::Service(SoldOut))), "{failed:?}");
    assert_eq!(metadata.get("shelf"), Some("7"));
    // The server replaces a result that exceeds the frame limit by a status, which keeps the metadata.
    let (failed, metadata) = in_time(stock.describe(9 << 20, false).with_response_metadata()).await;
    let failed = failed.unwrap_err();
    assert_eq!((failed.rpc().unwrap().code(), metadata.get("shelf")), (Code::ResourceExhausted, Some("7")));
    let (result, metadata) = in_time(stock.status(0).with_response_metadata()).await;
    assert_eq!((result.unwrap(), metadata), (3, Metadata::default()), "contexts are reused without their metadata");
}

#[tokio::test]
async fn baggage_crosses_two_servers() {
    let scene = Scene::start(1).await;
    let next = Some(StockClient::new(DynCaller::new(scene.client().await)));
    let front = serve(Shelf { executions: Arc::default(), next }).await;
    let call = StockClient::new(caller()).tenant().address(front.address());
    assert_eq!(in_time(call.baggage("tenant", "a")).await.unwrap().as_deref(), Some("a"));
}

#[tokio::test]
async fn relayed_unavailable_does_not_state_that_nothing_executed() {
    let next = Some(StockClient::new(DynCaller::new(testing::failing(Code::Unavailable))));
    let front = serve(Shelf { executions: Arc::default(), next }).await;
    let error = in_time(StockClient::new(caller()).tenant().address(front.address())).await.unwrap_err();
    assert_eq!((error.code(), error.delivery(), error.is_retryable()), (Code::Unavailable, Delivery::Answered, false));
}

/// The contract of a provider that does not have the other methods of `test.Stock` yet.
mod older {
    #[rpc_core::rpc_service(name = "test.Stock")]
    pub(super) trait Older {
        async fn note(&self);
    }

    pub(super) struct OlderShelf;

    impl Older for OlderShelf {
        async fn note(&self) {}
    }
}

#[tokio::test]
async fn unimplemented_call_moves_to_a_newer_provider() {
    let mut scene = Scene::start(1).await;
    let service = older::OlderServer::new(older::OlderShelf);
    scene.serving.push(Serving::start(Server::builder().service(service)).await);
    let stock = scene.stock().await;
    let rejected = || scene.serving[1].handle().counts().unknown;
    in_time(async {
        // The balancer selects the older provider for about every other call.
        while rejected() == 0 {
            assert_eq!(stock.status(0).await.unwrap(), 3);
        }
    })
    .await;
}
