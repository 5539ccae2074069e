//! Tokens, access rules, once calls, and TLS.

use bytes::Bytes;
use rpc_core::Tokens;
use rpc_grpc::Grpc;
use rpc_server::{Server, ServerBuilder};
use tests::{
    Task,
    certificates::Authority,
    in_time,
    probe::{Event, Probe},
    serving::Serving,
};
use tokio::net::TcpStream;
use tonic::{Code, Request};

use super::{Caller, ECHO, Number, Text, number, start, text};

fn with_tokens(probe: &Probe, endpoint: Grpc) -> ServerBuilder {
    let tokens = Tokens::new().with("ann", "a-long-secret-of-ann's").unwrap();
    let tokens = tokens.with("bob", "a-long-secret-of-bob's").unwrap();
    let builder = Server::builder().service(probe.server()).require_token(tokens).endpoint(endpoint);
    builder.allow("test.Probe:1.0/echo", ["ann"])
}

fn bearing<T>(message: T, secret: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {secret}").parse().unwrap());
    request
}

#[tokio::test]
async fn tokens_and_rules_apply_to_each_call() {
    let probe = Probe::default();
    let serving = Serving::start(with_tokens(&probe, Grpc::new().tokens_without_tls(true))).await;
    let grpc = Caller::connect(serving.address()).await;
    let none = grpc.call::<_, Text>(ECHO, text("a")).await.unwrap_err();
    assert_eq!(none.code(), Code::Unauthenticated);
    for (secret, expected) in [
        ("a-long-secret-of-eve's", Some(Code::Unauthenticated)),
        ("a-long-secret-of-bob's", Some(Code::PermissionDenied)),
        ("a-long-secret-of-ann's", None),
    ] {
        let answer = grpc.unary::<_, Text>(ECHO, bearing(text("a"), secret)).await;
        assert_eq!(answer.err().map(|status| status.code()), expected, "{secret}");
    }
    // A caller without a token does not learn which methods exist.
    let unknown = grpc.call::<_, Text>("/test.None/None", text("a")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn token_without_tls_is_rejected_by_default() {
    let probe = Probe::default();
    let serving = Serving::start(with_tokens(&probe, Grpc::new())).await;
    let grpc = Caller::connect(serving.address()).await;
    let rejected = grpc.unary::<_, Text>(ECHO, bearing(text("a"), "a-long-secret-of-ann's")).await.unwrap_err();
    assert_eq!(rejected.code(), Code::Unauthenticated);
    assert!(rejected.message().contains("tokens_without_tls"), "{rejected:?}");
}

#[tokio::test]
async fn once_call_of_grpc_executes_once() {
    let probe = Probe::default();
    let (_serving, grpc) = start(&probe).await;
    let path = "/test.probe.v1_0.Probe/HoldOnce";
    let keyed = || {
        let mut request = Request::new(number(1));
        request.metadata_mut().insert("idempotency-key", "k".parse().unwrap());
        request
    };
    let calling = grpc.clone();
    let call = Task::begin(async move { calling.unary::<_, Number>(path, keyed()).await });
    probe.until(Event::Began(1)).await;
    drop(call);
    probe.release_all();
    assert_eq!(grpc.unary::<_, Number>(path, keyed()).await.unwrap().into_inner(), number(1));
    assert_eq!(probe.count(|event| *event == Event::Began(1)), 1);
}

#[tokio::test]
async fn grpc_over_tls_is_found_by_alpn() {
    let (probe, authority) = (Probe::default(), Authority::new());
    let tls = authority.issue("server", &["127.0.0.1"]).server();
    let serving = Serving::start(with_tokens(&probe, Grpc::new()).tls(tls)).await;
    for alpn in [&["h2"][..], &[]] {
        let stream = authority.connect(TcpStream::connect(serving.address()).await.unwrap(), alpn).await.unwrap();
        let (sender, connection) = in_time(h2::client::handshake(stream)).await.unwrap();
        let driving = Task::begin(async move { connection.await.map_err(|error| error.to_string()) });
        let request = http::Request::post(format!("https://{}{ECHO}", serving.address()))
            .header("content-type", "application/grpc")
            .header("authorization", "Bearer a-long-secret-of-ann's")
            .body(())
            .unwrap();
        let mut sender = in_time(sender.ready()).await.unwrap();
        let (response, mut body) = sender.send_request(request, false).unwrap();
        body.send_data(Bytes::from_static(b"\0\0\0\0\x03\x0a\x01a"), true).unwrap();
        let mut body = in_time(response).await.unwrap().into_body();
        assert_eq!(in_time(body.data()).await.unwrap().unwrap()[..], b"\0\0\0\0\x03\x0a\x01a"[..], "{alpn:?}");
        assert_eq!(in_time(body.trailers()).await.unwrap().unwrap()["grpc-status"], "0");
        drop(driving);
    }
}
