//! Calls without streams: results, errors, metadata, compression and long messages.

use std::time::Duration;

use rpc_core::{Context, Status, rpc_service};
use rpc_grpc::{Grpc, GrpcConfig};
use rpc_server::Server;
use serde::{Deserialize, Serialize};
use tests::{
    in_time,
    probe::{Event, Probe, ProbingClient},
    serving::Serving,
};
use tonic::{Code, Request, codec::CompressionEncoding, metadata::MetadataValue};

use super::{Caller, ECHO, Empty, Number, Text, number, serving, start, text};
use crate::caller;

#[tokio::test]
async fn tonic_and_msnb_call_methods_on_one_port() {
    let probe = Probe::default();
    let (serving, grpc) = start(&probe).await;
    let msnb = ProbingClient::new(caller());
    for _ in 0..2 {
        assert_eq!(msnb.echo("a".into()).address(serving.address()).await.unwrap(), "a");
        assert_eq!(grpc.call::<_, Text>(ECHO, text("b")).await.unwrap(), text("b"));
    }
    // The names of msnb lead to the newest version.
    for path in ["/test.Probe/Echo", "/test.Probe/echo"] {
        assert_eq!(grpc.call::<_, Text>(path, text("c")).await.unwrap(), text("c"));
    }
    assert_eq!(grpc.call::<_, Empty>("/test.probe.v1_0.Probe/Tell", text("d")).await.unwrap(), Empty {});
    probe.until(Event::Received("d".to_owned())).await;
    // A message with other fields only is one with defaults.
    assert_eq!(grpc.call::<_, Text>(ECHO, Empty {}).await.unwrap(), text(""));
}

#[tokio::test]
async fn errors_are_statuses_of_grpc() {
    let probe = Probe::default();
    let config = rpc_server::ServerConfig::default().with_max_running(1).with_max_queued(0);
    let serving = Serving::start(serving(&probe).config(config)).await;
    let grpc = Caller::connect(serving.address()).await;
    let none = grpc.call::<_, Empty>("/test.probe.v1_0.Probe/None", Empty {}).await.unwrap_err();
    assert_eq!((none.code(), delivery(&none)), (Code::Unimplemented, "not-executed"));
    let service = grpc.call::<_, Text>("/test.probe.v1_0.Probe/Fail", text("§ x")).await.unwrap_err();
    assert_eq!((service.code(), service.message()), (Code::FailedPrecondition, r#"{"reason":"§ x"}"#));
    let details: RpcStatus = prost::Message::decode(service.details()).unwrap();
    assert_eq!((details.code, &details.message), (9, &r#"{"reason":"§ x"}"#.to_owned()));
    assert_eq!(details.details[0].type_url, "type.googleapis.com/test.probe.v1_0.ProbeError");
    assert_eq!(<Text as prost::Message>::decode(&details.details[0].value[..]).unwrap(), text("§ x"));
    let panic = grpc.call::<_, Empty>("/test.probe.v1_0.Probe/Panic", number(1)).await.unwrap_err();
    assert_eq!((panic.code(), delivery(&panic)), (Code::Internal, "answered"));
    let kind = grpc.call::<_, Text>(ECHO, number(1)).await.unwrap_err();
    assert_eq!((kind.code(), kind.message()), (Code::InvalidArgument, "`text`: the value is of another kind"));
    let holding = grpc.clone();
    let held = tests::Task::begin(async move { holding.call::<_, Number>(super::HOLD, number(1)).await });
    probe.until(Event::Began(1)).await;
    let full = grpc.call::<_, Number>(super::HOLD, number(2)).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);
    assert!(
        full.message().contains("max_running") && full.metadata().contains_key("grpc-retry-pushback-ms"),
        "{full:?}"
    );
    probe.release_all();
    assert_eq!(held.end().await.unwrap(), number(1));
}

fn delivery(status: &tonic::Status) -> &str {
    status.metadata().get("msnb-delivery").unwrap().to_str().unwrap()
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Refusal {
    Closed,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Payment {
    Cash,
    Card { number: String },
}

#[rpc_service(name = "test.Shop", version = "2.1")]
trait Shop {
    async fn metadata(&self) -> Result<Vec<String>, Status>;
    async fn refuse(&self) -> Result<u8, Refusal>;
    async fn later(&self) -> Result<(), Status>;
    async fn pay(&self, total: u128, payment: Payment, tip: Option<i32>) -> (u128, Payment, Option<i32>);
}

struct MyShop;

impl Shop for MyShop {
    async fn metadata(&self) -> Result<Vec<String>, Status> {
        let context = Context::current().unwrap();
        context.insert_response_metadata("seen", "yes").unwrap();
        context.insert_response_metadata("raw-bin", [0, 255]).unwrap();
        let text = |(key, value): (&str, &[u8])| format!("{key}={}", value.escape_ascii());
        Ok(context.metadata().iter().map(text).collect())
    }

    async fn refuse(&self) -> Result<u8, Refusal> {
        Err(Refusal::Closed)
    }

    async fn later(&self) -> Result<(), Status> {
        Err(Status::unavailable("closed: ä").with_retry_after(Duration::from_millis(1500)))
    }

    async fn pay(&self, total: u128, payment: Payment, tip: Option<i32>) -> (u128, Payment, Option<i32>) {
        (total, payment, tip)
    }
}

async fn shop() -> (Serving, Caller) {
    let serving = Serving::start(Server::builder().service(ShopServer::new(MyShop)).endpoint(Grpc::new())).await;
    let caller = Caller::connect(serving.address()).await;
    (serving, caller)
}

#[derive(Clone, PartialEq, prost::Message)]
struct Texts {
    #[prost(string, repeated, tag = "1")]
    value: Vec<String>,
}

#[tokio::test]
async fn metadata_travels_in_both_directions() {
    let (_serving, grpc) = shop().await;
    let mut request = Request::new(Empty {});
    request.metadata_mut().insert("tenant", "a b".parse().unwrap());
    request.metadata_mut().insert_bin("key-bin", MetadataValue::from_bytes(&[1, 0xff]));
    let response = grpc.unary::<_, Texts>("/test.shop.v2_1.Shop/Metadata", request).await.unwrap();
    assert_eq!(response.get_ref().value, ["tenant=a b", "key-bin=\\x01\\xff"]);
    assert_eq!(response.metadata().get("seen").unwrap(), "yes");
    assert_eq!(response.metadata().get_bin("raw-bin").unwrap().to_bytes().unwrap()[..], [0, 255]);
    let refused = grpc.call::<_, Empty>("/test.shop.v2_1.Shop/Refuse", Empty {}).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::FailedPrecondition, r#""Closed""#));
    let details: RpcStatus = prost::Message::decode(refused.details()).unwrap();
    assert_eq!(details.details[0].type_url, "type.googleapis.com/google.protobuf.Value");
    let later = grpc.call::<_, Empty>("/test.shop.v2_1.Shop/Later", Empty {}).await.unwrap_err();
    assert_eq!((later.code(), later.message()), (Code::Unavailable, "closed: ä"));
    assert_eq!(later.metadata().get("grpc-retry-pushback-ms").unwrap(), "1500");
}

/// The arguments of [`Shop::pay`], and the tuple that it returns.
#[derive(Clone, PartialEq, prost::Message)]
struct Pay {
    #[prost(string, tag = "1")]
    total: String,
    #[prost(message, optional, tag = "2")]
    payment: Option<OnePayment>,
    #[prost(int32, optional, tag = "3")]
    tip: Option<i32>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OnePayment {
    #[prost(message, optional, tag = "1")]
    cash: Option<Empty>,
    #[prost(message, optional, tag = "2")]
    card: Option<Text>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Paid {
    #[prost(message, optional, tag = "1")]
    value: Option<Pay>,
}

#[tokio::test]
async fn values_have_the_documented_messages() {
    let (_serving, grpc) = shop().await;
    let cash = OnePayment { cash: Some(Empty {}), card: None };
    let card = OnePayment { cash: None, card: Some(text("4711")) };
    for pay in [
        Pay { total: u128::MAX.to_string(), payment: Some(cash.clone()), tip: Some(0) },
        Pay { total: "0".to_owned(), payment: Some(card), tip: None },
        Pay { total: "7".to_owned(), payment: Some(cash), tip: Some(-1) },
    ] {
        let paid = grpc.call::<_, Paid>("/test.shop.v2_1.Shop/Pay", pay.clone()).await.unwrap();
        assert_eq!(paid.value, Some(pay));
    }
    let none = grpc.call::<_, Paid>("/test.shop.v2_1.Shop/Pay", Empty {}).await.unwrap_err();
    assert_eq!(none.code(), Code::InvalidArgument);
    assert!(none.message().contains("payment"), "{none:?}");
    let unset = Pay { total: "x".to_owned(), payment: Some(OnePayment::default()), tip: None };
    let unset = grpc.call::<_, Paid>("/test.shop.v2_1.Shop/Pay", unset).await.unwrap_err();
    assert_eq!(
        (unset.code(), unset.message()),
        (Code::InvalidArgument, "`total`: the text is not a number of 128 bits")
    );
}

#[tokio::test]
async fn long_messages_pass_up_to_the_limit() {
    let probe = Probe::default();
    let endpoint = Grpc::new().config(GrpcConfig::default().with_max_message(1 << 20).with_request_memory(3 << 20));
    let serving = Serving::start(Server::builder().service(probe.server()).endpoint(endpoint)).await;
    let grpc = Caller::connect(serving.address()).await;
    // The tag and the length of the text have four bytes.
    let longest = text("a".repeat((1 << 20) - 4));
    assert!(grpc.call::<_, Text>(ECHO, longest.clone()).await.unwrap() == longest);
    let longer = grpc.call::<_, Text>(ECHO, text("a".repeat((1 << 20) - 3))).await.unwrap_err();
    assert_eq!(longer.code(), Code::ResourceExhausted);
    assert!(longer.message().contains("1048576") && longer.message().contains("max_message"), "{longer:?}");
    let large = grpc.call::<_, Text>("/test.probe.v1_0.Probe/Large", number(7 << 20)).await.unwrap();
    assert_eq!(large.value.len(), 7 << 20);
    let frame = grpc.call::<_, Text>("/test.probe.v1_0.Probe/Large", number(9 << 20)).await.unwrap_err();
    assert_eq!(frame.code(), Code::ResourceExhausted);
    assert_eq!(grpc.call::<_, Text>(ECHO, text("b")).await.unwrap(), text("b"));
}

#[tokio::test]
async fn compressed_calls_have_compressed_answers() {
    let probe = Probe::default();
    let (_serving, grpc) = start(&probe).await;
    let path = http::uri::PathAndQuery::from_static(ECHO);
    for length in [10, 10_000, 1 << 20] {
        let client = grpc.client().await;
        let mut client = client.send_compressed(CompressionEncoding::Gzip).accept_compressed(CompressionEncoding::Gzip);
        let sent = text("a".repeat(length));
        let codec = tonic_prost::ProstCodec::<Text, Text>::default();
        let response = in_time(client.unary(Request::new(sent.clone()), path.clone(), codec)).await.unwrap();
        assert_eq!(response.metadata().get("grpc-encoding").unwrap(), "gzip");
        assert!(response.into_inner() == sent);
    }
}
