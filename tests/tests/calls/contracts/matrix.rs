//! Each change of a contract, with callers and providers of both versions, in each codec.

use std::net::SocketAddr;

use rpc_client::Client;
use rpc_core::{CallError, Code, Codec, Delivery, Error, Streaming, Token, Tokens};
use rpc_server::{Server, ServerBuilder};
use tests::{
    Task,
    evolution::{one, two},
    in_time,
    raw_peer::{RawFrame, RawHead, RawPeer},
    serving::Serving,
};
use tokio::net::TcpListener;

const CODECS: [Codec; 3] = [Codec::Bincode, Codec::Json, Codec::MessagePack];

fn first() -> ServerBuilder {
    Server::builder().service(one::EvolvingServer::new(one::Service))
}

fn second() -> ServerBuilder {
    Server::builder().service(two::EvolvingServer::new(two::Service))
}

fn client(codec: Codec) -> Client {
    Client::builder().config(tests::patient().with_codec(codec)).build().unwrap()
}

/// Checks an error of contracts that are not compatible.
fn check_incompatible(error: &Error, method: &str, parts: &[&str]) {
    let message = error.message();
    assert_eq!((error.code(), error.delivery()), (Code::FailedPrecondition, Delivery::NotExecuted), "{error:?}");
    assert!(message.starts_with(&format!("the contracts of test.Evolving:1.0/{method} differ: ")), "{message}");
    assert!(parts.iter().all(|part| message.contains(part)), "{message} names {parts:?}");
}

async fn collected<T: Send + 'static>(mut items: Streaming<T>) -> Vec<T> {
    let mut all = Vec::new();
    while let Some(item) = items.next().await {
        all.push(item.unwrap());
    }
    all
}

/// Calls of the first version that both versions serve.
async fn first_caller_succeeds(client: &Client, address: SocketAddr) {
    let evolving = one::EvolvingClient::new(client.clone());
    let order = one::Order { id: 1, item: "tea".into() };
    assert_eq!(evolving.unchanged(order.clone()).address(address).await.unwrap(), order);
    assert_eq!(evolving.renamed_type(order.clone()).address(address).await.unwrap(), order);
    assert_eq!(evolving.added_field(order.clone()).address(address).await.unwrap(), order);
    assert_eq!(evolving.added_parameter(7).address(address).await.unwrap(), 7);
    for kind in [one::Kind::Plain, one::Kind::Sized(9)] {
        assert_eq!(evolving.added_variant(kind.clone()).address(address).await.unwrap(), kind);
    }
    let point = one::Point { x: 1, y: 2 };
    assert_eq!(evolving.reordered(point.clone()).address(address).await.unwrap(), point);
    assert_eq!(evolving.removed_parameter(7, Some("x".into())).address(address).await.unwrap(), 7);
    assert!(evolving.widened_parameter(7).address(address).await.unwrap());
    assert!(evolving.optional_parameter(7).address(address).await.unwrap());
    assert_eq!(evolving.newtype(7).address(address).await.unwrap(), 7);
    assert_eq!(evolving.error_variant(false).address(address).await.unwrap(), 1);
    let error: one::Failure = evolving.error_variant(true).address(address).await.unwrap_err();
    assert!(matches!(error, CallError::Service(one::Fault::Late { by: 3 })), "{error:?}");
    let orders = vec![order.clone(), order];
    let items = evolving.items(Streaming::from_iterator(orders.clone())).address(address).await.unwrap();
    assert_eq!(collected(items).await, orders);
}

/// Calls of the second version that both versions serve. `first` tells whether the provider has the first one.
async fn second_caller_succeeds(client: &Client, address: SocketAddr, first: bool) {
    let evolving = two::EvolvingClient::new(client.clone());
    let purchase = two::Purchase { id: 1, item: "tea".into() };
    assert_eq!(evolving.unchanged(purchase.clone()).address(address).await.unwrap(), purchase);
    assert_eq!(evolving.renamed_type(purchase.clone()).address(address).await.unwrap(), purchase);
    let order = |currency: &str| two::Order { id: 1, currency: currency.into(), item: "tea".into() };
    // The first version drops the field, and its default replaces it.
    let kept = order(if first { "EUR" } else { "SEK" });
    assert_eq!(evolving.added_field(order("SEK")).address(address).await.unwrap(), kept);
    let added = evolving.added_parameter(7, Some("abc".into())).address(address).await.unwrap();
    assert_eq!(added, if first { 7 } else { 10 });
    assert_eq!(evolving.added_parameter(7, None).address(address).await.unwrap(), 7);
    for kind in [two::Kind::Plain, two::Kind::Sized(9)] {
        assert_eq!(evolving.added_variant(kind.clone()).address(address).await.unwrap(), kind);
    }
    let point = two::Point { x: 1, y: 2 };
    assert_eq!(evolving.reordered(point.clone()).address(address).await.unwrap(), point);
    assert_eq!(evolving.removed_parameter(7).address(address).await.unwrap(), 7);
    assert_eq!(evolving.newtype(two::Number(7)).address(address).await.unwrap(), two::Number(7));
    assert_eq!(evolving.error_variant(false).address(address).await.unwrap(), 1);
    let error = evolving.error_variant(true).address(address).await.unwrap_err();
    assert!(matches!(error, CallError::Service(two::Fault::Late { by: 3 })), "{error:?}");
    let items = evolving.items(Streaming::from_iterator([order("SEK"), order("SEK")])).address(address).await.unwrap();
    assert_eq!(collected(items).await, [kept.clone(), kept]);
}

#[tokio::test]
async fn compatible_changes_keep_all_values() {
    let (old, new) = (Serving::start(first()).await, Serving::start(second()).await);
    for codec in CODECS {
        let client = client(codec);
        in_time(async {
            for address in [old.address(), new.address()] {
                first_caller_succeeds(&client, address).await;
                second_caller_succeeds(&client, address, address == old.address()).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn incompatible_changes_fail_before_they_execute() {
    let (old, new) = (Serving::start(first()).await, Serving::start(second()).await);
    for codec in CODECS {
        let (client, at) = (client(codec), new.address());
        let one = one::EvolvingClient::new(client.clone());
        let order = || one::Order { id: 1, item: "tea".into() };
        let error = one.required_field(order()).address(at).await.unwrap_err();
        check_incompatible(&error, "required_field", &["the provider requires `order.currency` of type String"]);
        let error = one.required_parameter(1).address(at).await.unwrap_err();
        check_incompatible(&error, "required_parameter", &["the provider requires `note` of type String"]);
        let error = one.changed_field(order()).address(at).await.unwrap_err();
        check_incompatible(
            &error,
            "changed_field",
            &["`order.id` is u64 in the caller's contract and String in the provider's"],
        );
        let error = one.changed_parameter(7).address(at).await.unwrap_err();
        check_incompatible(&error, "changed_parameter", &["`n` is u32", "String in the provider's"]);
        let error = one.changed_result().address(at).await.unwrap_err();
        check_incompatible(&error, "changed_result", &["`result` is u32", "String in the provider's"]);
        let error = one.changed_variant(one::Kind::Plain).address(at).await.unwrap_err();
        check_incompatible(&error, "changed_variant", &["`kind.Sized` is u8", "String in the provider's"]);
        let error = one.narrowed_parameter(7).address(at).await.unwrap_err();
        check_incompatible(&error, "narrowed_parameter", &["`n` is u64", "u8 in the provider's"]);

        let (two, at) = (two::EvolvingClient::new(client), old.address());
        let error = two.widened_parameter(7).address(at).await.unwrap_err();
        check_incompatible(&error, "widened_parameter", &["`n` is u64", "u32 in the provider's"]);
        let error = two.optional_parameter(Some(7)).address(at).await.unwrap_err();
        check_incompatible(&error, "optional_parameter", &["`n` is Option<u32>", "u32 in the provider's"]);
        let error = two.changed_result().address(at).await.unwrap_err();
        check_incompatible(&error, "changed_result", &["`result` is String", "u32 in the provider's"]);
        let error = two.added_method().address(at).await.unwrap_err();
        assert_eq!((error.code(), error.delivery()), (Code::Unimplemented, Delivery::NotExecuted));
        let order = two::Strict { id: 1, item: "tea".into(), currency: "SEK".into() };
        assert_eq!(two.required_field(order).address(at).await.unwrap(), 1, "the provider skips the field");
        assert_eq!(two.required_parameter(1, "x".into()).address(at).await.unwrap(), 1);
        assert!(two.narrowed_parameter(7).address(at).await.unwrap());
    }
}

/// A variant that the other end does not know fails the calls that use it.
#[tokio::test]
async fn unknown_variant_fails_its_call_only() {
    let old = Serving::start(first()).await;
    for codec in CODECS {
        let evolving = two::EvolvingClient::new(client(codec));
        let heavy = two::Kind::Heavy { weight: 3 };
        let error = evolving.added_variant(heavy).address(old.address()).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
        assert!(error.message().contains("Heavy"), "{error:?}");
        let plain = evolving.added_variant(two::Kind::Plain).address(old.address()).await.unwrap();
        assert_eq!(plain, two::Kind::Plain);
    }
}

/// An error that the caller cannot read fails the call that the provider has failed.
#[tokio::test]
async fn changed_error_fails_only_calls_that_fail() {
    let new = Serving::start(second()).await;
    for codec in CODECS {
        let evolving = one::EvolvingClient::new(client(codec));
        assert_eq!(evolving.changed_error(false).address(new.address()).await.unwrap(), 1);
        let error = evolving.changed_error(true).address(new.address()).await.unwrap_err();
        let CallError::Rpc(error) = error else { panic!("{error:?}") };
        assert_eq!((error.code(), error.delivery()), (Code::Internal, Delivery::Answered), "{error:?}");
    }
}

/// A server that requires a token ignores the ping before the proof, so the client asks again behind it.
#[tokio::test]
async fn digests_arrive_after_the_proof_of_a_token() {
    let tokens = Tokens::new().with("caller", SECRET).unwrap();
    let new = Serving::start(second().require_token(tokens)).await;
    let token = Token::new("caller", SECRET).unwrap();
    let client = Client::builder().config(tests::patient()).token(token).build().unwrap();
    in_time(first_caller_succeeds(&client, new.address())).await;
    let error = one::EvolvingClient::new(client).changed_result().address(new.address()).await.unwrap_err();
    check_incompatible(&error, "changed_result", &["`result` is u32"]);
}

const SECRET: &str = "the secret of each caller";

/// An earlier version of msnb skips the question, and other implementations may answer it with anything.
#[tokio::test]
async fn provider_without_digests_receives_the_codec_of_the_call() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for digests in [vec![], vec![0; 15], vec![0; 16 * 4097]] {
        let evolving = one::EvolvingClient::new(client(Codec::Bincode));
        let call = Task::begin(evolving.changed_parameter(7).address(address));
        let mut peer = RawPeer::accept(&listener).await;
        let ping = peer.receive().await;
        assert_eq!((ping.kind, &ping.body[..]), (RawFrame::PING, &b"contracts 1"[..]));
        peer.send(RawFrame::empty(RawFrame::DIGESTS, 0).with_body(digests).to_bytes()).await;
        peer.send(RawFrame::empty(RawFrame::PONG, ping.id).to_bytes()).await;
        let request = peer.receive().await;
        assert_eq!((request.kind, request.codec), (RawFrame::REQUEST, Codec::Bincode as u8));
        let answer = RawFrame::response(request.id, &RawHead::new(), [1]).with_codec(Codec::Bincode as u8);
        peer.send(answer.to_bytes()).await;
        assert!(call.end().await.unwrap());
    }
}

/// Without a description of the provider's contract, the codec with names finds the difference.
#[tokio::test]
async fn provider_without_reflection_receives_names() {
    let new = Serving::start(second().reflection(false)).await;
    let client = client(Codec::Bincode);
    let one = one::EvolvingClient::new(client.clone());
    in_time(first_caller_succeeds(&client, new.address())).await;
    let order = one::Order { id: 1, item: "tea".into() };
    let error = one.required_field(order).address(new.address()).await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::InvalidArgument, Delivery::NotExecuted), "{error:?}");
    assert!(error.message().contains("missing field `currency`"), "{error:?}");
    let error = one.changed_result().address(new.address()).await.unwrap_err();
    assert!(error.message().contains("changed_result"), "{error:?}");
}
