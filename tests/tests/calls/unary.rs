//! Unary calls over sockets: codecs, errors, metadata, timeouts, and failures of single calls.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rpc_client::{Client, ClientConfig};
use rpc_core::{CallError, Code, Codec, Compression, Delivery, Phase, rpc_service, transport::TransportConfig};
use rpc_server::{Server, ServerConfig};
use serde::{Deserialize, Serialize};
use tests::{
    Task, in_time,
    probe::{Event, Explosive, Probe, ProbeError, ProbingClient, Seen},
    serving::Serving,
};
use tokio::task::JoinSet;

use crate::caller;

/// Returns a client without a registry, whose calls specify an address.
fn client() -> ProbingClient<Client> {
    ProbingClient::new(caller())
}

async fn probe() -> (Probe, Serving) {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    (probe, serving)
}

#[tokio::test]
async fn codecs_and_compressions_round_trip() {
    let (_, serving) = probe().await;
    let client = client();
    // Texts below the compression threshold, above it, and larger than one read.
    let texts = ["".to_owned(), "a text".to_owned(), "a longer text ".repeat(200), "a long text ".repeat(100_000)];
    assert_eq!(Compression::SUPPORTED.len(), 4, "the tests enable all compressions");
    for codec in Codec::ALL {
        for &compression in Compression::SUPPORTED {
            for text in &texts {
                let call = client.echo(text.clone()).address(serving.address()).codec(codec).compression(compression);
                assert_eq!(in_time(call).await.unwrap(), *text, "{codec:?} {compression:?} {}", text.len());
            }
        }
    }
}

#[tokio::test]
async fn caller_receives_service_error() {
    let (_, serving) = probe().await;
    for codec in [Codec::Bincode, Codec::Json, Codec::MessagePack] {
        let outcome = client().fail("why not".to_owned()).address(serving.address()).codec(codec).await;
        let Err(CallError::Service(error)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(error, ProbeError { reason: "why not".to_owned() });
    }
}

#[tokio::test]
async fn unencodable_value_fails_only_its_call() {
    let (_, serving) = probe().await;
    let client = client();
    // The raw codec carries neither a number as arguments (an error of the caller) nor a structure as the answer (an
    // error of the server).
    let error = client.hold(1).address(serving.address()).codec(Codec::Raw).await.unwrap_err();
    assert_eq!(
        (error.code(), error.phase(), error.delivery()),
        (Code::InvalidArgument, Some(Phase::Send), Delivery::NotExecuted)
    );
    let error = client.context().address(serving.address()).codec(Codec::Raw).await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::Internal, Delivery::Answered));
    client.echo("x".to_owned()).address(serving.address()).await.unwrap();
}

#[tokio::test]
async fn one_way_calls_execute_in_order() {
    let (probe, serving) = probe().await;
    let client = client();
    for number in 0..100 {
        client.tell(number.to_string()).address(serving.address()).await.unwrap();
    }
    probe.until_true(|events| events.len() == 100).await;
    let expected: Vec<_> = (0..100).map(|number: u32| Event::Received(number.to_string())).collect();
    assert_eq!(probe.events(), expected);
}

#[tokio::test]
async fn handler_context_describes_its_call() {
    let (_, serving) = probe().await;
    let call = client().context().address(serving.address()).timeout(Duration::from_secs(20));
    let seen = call.metadata("tenant", "a").metadata("key", [0, 255]).await.unwrap();
    let peer = seen.peer.unwrap();
    assert!(peer.ip().is_loopback() && peer != serving.address());
    assert_eq!(seen.local_address, Some(serving.address()));
    let remaining = seen.remaining.unwrap();
    assert!(remaining > Duration::ZERO && remaining <= Duration::from_secs(20), "{remaining:?}");
    assert_eq!(seen.metadata, [("tenant".to_owned(), b"a".to_vec()), ("key".to_owned(), vec![0, 255])]);
}

#[tokio::test]
async fn timeout_of_call_overrides_method_and_client() {
    let (_, serving) = probe().await;
    let config = ClientConfig::default().with_timeout(Duration::from_secs(30));
    let client = ProbingClient::new(Client::builder().config(config).build().unwrap());
    let by_client = client.context().address(serving.address()).await.unwrap().remaining.unwrap();
    assert!(by_client > Duration::from_secs(15) && by_client <= Duration::from_secs(30), "{by_client:?}");
    let by_caller = client.context().address(serving.address()).timeout(Duration::from_secs(10)).await.unwrap();
    assert!(by_caller.remaining.unwrap() <= Duration::from_secs(10), "{by_caller:?}");
    let error = client.hold_briefly(1).address(serving.address()).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    // The client caps a timeout at the maximum of the wire format.
    let unlimited = ServerConfig::default().with_max_timeout(Duration::MAX);
    let serving = Serving::probe(&Probe::default(), unlimited).await;
    let longest = client.context().address(serving.address()).timeout(Duration::MAX).await.unwrap();
    assert!(longest.remaining.unwrap() > Duration::from_secs(40 * 24 * 60 * 60), "{longest:?}");
}

#[tokio::test]
async fn invalid_metadata_fails_call_before_it_is_sent() {
    let (probe, serving) = probe().await;
    let client = client();
    let invalid = client.echo("x".to_owned()).address(serving.address()).metadata("Not Legal", "x").await.unwrap_err();
    assert_eq!((invalid.code(), invalid.delivery()), (Code::InvalidArgument, Delivery::NotExecuted));
    let too_much = client.echo("x".to_owned()).address(serving.address()).metadata("k", vec![0; 17 << 10]).await;
    let too_much = too_much.unwrap_err();
    assert_eq!((too_much.code(), too_much.delivery()), (Code::ResourceExhausted, Delivery::NotExecuted));
    assert_eq!(probe.events(), []);
}

/// A service that returns the context of a call made by its handler.
#[rpc_service(name = "test.Relaying")]
trait Relaying {
    async fn context_of_nested(&self, at: SocketAddr) -> Seen;
}

struct Relays(ProbingClient<Client>);

impl Relaying for Relays {
    async fn context_of_nested(&self, at: SocketAddr) -> Seen {
        self.0.context().address(at).await.unwrap()
    }
}

#[tokio::test]
async fn nested_call_inherits_deadline_and_trace() {
    let (_, inner) = probe().await;
    let outer = Serving::start(Server::builder().service(RelayingServer::new(Relays(client())))).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let call = RelayingClient::new(Client::builder().build().unwrap()).context_of_nested(inner.address());
    let call = call.address(outer.address()).timeout(Duration::from_secs(2));
    let seen = call.metadata("traceparent", trace).metadata("tracestate", "a=1").metadata("tenant", "a").await.unwrap();
    // The client's own timeout of 5 s is longer.
    assert!(seen.remaining.unwrap() <= Duration::from_secs(2), "{seen:?}");
    assert_eq!((seen.metadata("traceparent"), seen.metadata("tracestate")), (Some(trace), Some("a=1")));
    assert_eq!(seen.metadata("tenant"), None, "the client passes on only the trace context");
}

#[tokio::test]
async fn error_names_its_peer() {
    let (_, serving) = probe().await;
    let error = client().panic(true).address(serving.address()).await.unwrap_err();
    assert_eq!(error.peer(), Some(serving.address()));
    assert!(error.to_string().contains(&serving.address().to_string()), "{error}");
}

#[tokio::test]
async fn client_without_registry_requires_address() {
    let error = client().echo("x".to_owned()).await.unwrap_err();
    assert_eq!((error.code(), error.phase()), (Code::FailedPrecondition, Some(Phase::Resolve)));
    assert!(error.message().contains("registry") && error.message().contains("address"), "{error}");
}

/// A service that no server serves.
#[rpc_service(name = "test.Unserved")]
trait Unserved {
    async fn nothing(&self);
}

/// A later revision of `Probing` with a method that the server does not have.
mod later {
    use rpc_core::rpc_service;

    #[rpc_service(name = "test.Probe", version = "1.0")]
    pub(crate) trait Later {
        async fn brand_new(&self);
    }
}

#[tokio::test]
async fn error_names_unknown_service_and_method() {
    let (_, serving) = probe().await;
    let client = Client::builder().build().unwrap();
    let error = UnservedClient::new(client.clone()).nothing().address(serving.address()).await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::Unimplemented, Delivery::NotExecuted));
    assert!(error.message().contains("service") && error.message().contains("test.Unserved:1.0/nothing"), "{error}");
    let error = later::LaterClient::new(client).brand_new().address(serving.address()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    assert!(error.message().contains("method") && error.message().contains("test.Probe:1.0/brand_new"), "{error}");
}

#[tokio::test]
async fn handler_panic_fails_only_its_call() {
    let (probe, serving) = probe().await;
    let client = client();
    let held = Task::begin(client.hold(1).address(serving.address()).timeout(Duration::from_secs(50)));
    probe.until(Event::Began(1)).await;
    for at_once in [true, false] {
        let error = client.panic(at_once).address(serving.address()).await.unwrap_err();
        assert_eq!((error.code(), error.delivery()), (Code::Internal, Delivery::Answered), "{error}");
        assert!(error.message().contains("panicked"), "{error}");
    }
    // The connection is still open: the call in flight on it succeeds.
    probe.release(1);
    assert_eq!(held.end().await.unwrap(), 1);
}

#[tokio::test]
async fn result_serialize_panic_fails_only_its_call() {
    let (probe, serving) = probe().await;
    let client = client();
    let held = Task::begin(client.hold(1).address(serving.address()).timeout(Duration::from_secs(50)));
    probe.until(Event::Began(1)).await;
    let error = in_time(client.explode().address(serving.address())).await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::Internal, Delivery::Answered), "{error}");
    probe.release(1);
    assert_eq!(held.end().await.unwrap(), 1);
}

/// A service whose arguments panic during serialization.
#[rpc_service(name = "test.Fragile")]
trait Fragile {
    async fn take(&self, it: Explosive);
}

#[tokio::test]
async fn argument_serialize_panic_frees_its_slot() {
    let (_, serving) = probe().await;
    let client = Client::builder().config(ClientConfig::default().with_max_in_flight(1)).build().unwrap();
    let fragile = FragileClient::new(client.clone());
    let mut caller = JoinSet::new();
    caller.spawn(fragile.take(Explosive).address(serving.address()));
    assert!(caller.join_next().await.unwrap().unwrap_err().is_panic(), "the panic reaches the caller");
    ProbingClient::new(client).echo("x".to_owned()).address(serving.address()).await.unwrap();
}

#[tokio::test]
async fn unsendable_calls_are_not_retryable() {
    let (_, serving) = probe().await;
    let client = client();
    let too_long = client.echo("x".repeat(9 << 20)).address(serving.address()).await.unwrap_err();
    assert!(!too_long.is_retryable(), "{too_long:?}");
    let too_much = client.echo("x".to_owned()).address(serving.address()).metadata("k", vec![0; 17 << 10]).await;
    assert!(!too_much.as_ref().unwrap_err().is_retryable(), "{too_much:?}");
}

#[tokio::test]
async fn oversized_result_fails_only_its_call() {
    let probe = Probe::default();
    let mut transport = TransportConfig::default();
    transport.max_frame = 64 << 10;
    let serving = Serving::probe(&probe, ServerConfig::default().with_transport(transport.clone())).await;
    let wide = client();
    // The frame consists of a header, an empty head, a length of 8 bytes, and the text.
    let most = (64 << 10) - 16 - 2 - 8;
    assert_eq!(wide.large(most).address(serving.address()).await.unwrap().len() as u64, most);
    let error = wide.large(most + 1).address(serving.address()).await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::ResourceExhausted, Delivery::Answered), "{error}");
    assert!(error.message().contains("65537") && error.message().contains("65536"), "{error}");

    // The server sends the result, and this client rejects it.
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let config = ClientConfig::default().with_transport(transport);
    let narrow = ProbingClient::new(Client::builder().config(config).build().unwrap());
    assert_eq!(narrow.large(most).address(serving.address()).await.unwrap().len() as u64, most);
    let error = narrow.large(most + 1).address(serving.address()).await.unwrap_err();
    assert_eq!((error.code(), error.phase()), (Code::ResourceExhausted, Some(Phase::Decode)), "{error}");
    // The client does not send an oversized request either.
    let error = narrow.echo("x".repeat(64 << 10)).address(serving.address()).await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::ResourceExhausted, Delivery::NotExecuted), "{error}");
    narrow.echo("x".to_owned()).address(serving.address()).await.unwrap();
}

#[tokio::test]
async fn oversized_request_fails_only_its_call() {
    let probe = Probe::default();
    let mut transport = TransportConfig::default();
    transport.max_frame = 64 << 10;
    let serving = Serving::probe(&probe, ServerConfig::default().with_transport(transport)).await;
    let client = client();
    let held = Task::begin(client.hold(1).address(serving.address()).timeout(Duration::from_secs(50)));
    probe.until(Event::Began(1)).await;
    let error = client.echo("x".repeat(100 << 10)).address(serving.address()).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    probe.release(1);
    assert_eq!(held.end().await.unwrap(), 1);
}

#[tokio::test]
async fn decompression_limit_fails_only_its_call() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default().with_max_decompressed(1 << 20)).await;
    let client = client();
    let call = |length| client.echo("x".repeat(length)).address(serving.address()).compression(Compression::Gzip);
    call((1 << 20) - 8).await.unwrap();
    let error = call((1 << 20) - 7).await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::ResourceExhausted, Delivery::NotExecuted), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_calls_receive_their_own_answers() {
    let (_, serving) = probe().await;
    let client = Arc::new(client());
    let mut callers = JoinSet::new();
    for caller in 0..100 {
        let (client, address) = (Arc::clone(&client), serving.address());
        callers.spawn(async move {
            for call in 0..50 {
                let nonce = format!("{caller}/{call} {}", "x".repeat(call * 40));
                assert_eq!(client.echo(nonce.clone()).address(address).await.unwrap(), nonce);
            }
        });
    }
    in_time(callers.join_all()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reordered_answers_reach_their_calls() {
    let (probe, serving) = probe().await;
    let client = client();
    let mut callers = JoinSet::new();
    for key in 0..200 {
        let call = client.hold(key).address(serving.address()).timeout(Duration::from_secs(50));
        callers.spawn(async move { (key, call.await.unwrap()) });
    }
    probe.until_all(&(0..200).map(Event::Began).collect::<Vec<_>>()).await;
    for key in (0..200).rev().step_by(2).chain(0..200) {
        probe.release(key);
    }
    for (key, answer) in in_time(callers.join_all()).await {
        assert_eq!(key, answer);
    }
}

/// A second service on the same port.
#[rpc_service(name = "test.Doubling", version = "2.1")]
trait Doubling {
    async fn double(&self, number: u64) -> u64;
}

#[derive(Serialize, Deserialize)]
struct Doubles;

impl Doubling for Doubles {
    async fn double(&self, number: u64) -> u64 {
        number * 2
    }
}

#[tokio::test]
async fn services_share_port_and_connection() {
    let probe = Probe::default();
    let server = Server::builder().service(probe.server()).service(DoublingServer::new(Doubles));
    let serving = Serving::start(server).await;
    let client = Client::builder().build().unwrap();
    let (probing, doubling) = (ProbingClient::new(client.clone()), DoublingClient::new(client));
    assert_eq!(doubling.double(21).address(serving.address()).await.unwrap(), 42);
    let one = probing.context().address(serving.address()).await.unwrap();
    doubling.double(1).address(serving.address()).await.unwrap();
    let other = probing.context().address(serving.address()).await.unwrap();
    assert_eq!(one.peer, other.peer);
}

#[tokio::test]
async fn server_rejects_duplicate_and_missing_services() {
    let probe = Probe::default();
    let duplicate = Server::builder().service(probe.server()).service(probe.server()).bind("127.0.0.1:0").await;
    let error = duplicate.unwrap_err();
    assert_eq!(error.code(), Code::AlreadyExists);
    assert!(error.message().contains("test.Probe:1.0/echo"), "{error}");
    assert_eq!(Server::builder().bind("127.0.0.1:0").await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn bind_error_names_taken_address() {
    let (probe, serving) = probe().await;
    let error = Server::builder().service(probe.server()).bind(serving.address()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains(&serving.address().to_string()), "{error}");
}

#[tokio::test]
async fn closed_client_rejects_calls() {
    let (probe, serving) = probe().await;
    let client = Client::builder().build().unwrap();
    let probing = ProbingClient::new(client.clone());
    let held = Task::begin(probing.hold(1).address(serving.address()));
    probe.until(Event::Began(1)).await;
    let closing = Task::begin(async move { client.close().await });
    probe.release(1);
    assert_eq!(held.end().await.unwrap(), 1, "a closing client completes the call in flight");
    closing.end().await;
    let error = in_time(probing.echo("x".to_owned()).address(serving.address())).await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::Unavailable, Delivery::NotExecuted), "{error}");
}
