//! The encoding of calls: names, arguments and results.

use std::{
    future::{Ready, ready},
    sync::{Arc, Mutex},
    time::Duration,
};

use rpc_core::{
    Caller, Code, Codec, Context, Encode, Error, Local, Metadata, Method, MethodInfo, Payload, Phase, Reply, Request,
    Responder, Service, ServiceId, WriteBuffer, rpc_service,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Person {
    name: String,
}

#[rpc_service(name = "demo.Names", version = "2.1-rc")]
trait Names {
    async fn plain(&self, person: Person, r#type: u8, times: Option<u32>);
    #[rpc(name = "sayHello", idempotent, one_way, timeout = "1500us")]
    async fn say_hello(&self);
    async fn r#loop(&self) -> Result<u8, String>;
}

#[rpc_service]
trait Defaults {
    async fn method(&self);
}

#[derive(Default)]
struct Recorder(Mutex<Vec<(Person, u8, Option<u32>)>>);

impl Names for Recorder {
    async fn plain(&self, person: Person, r#type: u8, times: Option<u32>) {
        self.0.lock().expect("no test panics with the lock").push((person, r#type, times));
    }

    async fn say_hello(&self) {}

    async fn r#loop(&self) -> Result<u8, String> {
        Err("looped".into())
    }
}

impl Defaults for Recorder {
    async fn method(&self) {}
}

/// Records the requests, and fails each call with `Unavailable`.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<Vec<serde_json::Value>>>);

impl Caller for Wire {
    type Calling<A: Encode + Send + 'static> = Ready<Result<Reply, Error>>;

    fn call<A: Encode + Send + 'static>(&self, request: Request<A>) -> Self::Calling<A> {
        let mut out = WriteBuffer::new();
        request.arguments.encode(Codec::Json, &mut out).expect("all types here encode as JSON");
        let arguments: serde_json::Value = Codec::Json.decode(out.copied()).expect("they are JSON");
        self.0.lock().expect("no test panics with the lock").push(json!([request.method.route(), arguments]));
        ready(Err(Error::not_executed(Code::Unavailable, "the recorder does not send calls")))
    }
}

#[tokio::test]
async fn arguments_are_encoded_by_parameter_name() {
    let wire = Wire::default();
    let names = NamesClient::new(wire.clone());
    let error = names.plain(Person { name: "Bo".into() }, 7, None).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(names.say_hello().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(names.r#loop().await.unwrap_err().rpc().unwrap().code(), Code::Unavailable);
    let sent = wire.0.lock().unwrap().clone();
    let expected = [
        json!(["demo.Names:2.1-rc/plain", {"person": {"name": "Bo"}, "type": 7, "times": null}]),
        json!(["demo.Names:2.1-rc/sayHello", {}]),
        json!(["demo.Names:2.1-rc/loop", {}]),
    ];
    assert_eq!(sent, expected);
}

fn json_payload(value: &serde_json::Value) -> Payload {
    Payload {
        codec: Codec::Json as u8,
        compression: 0,
        bytes: value.to_string().into(),
        max_decompressed: Payload::MAX_DECOMPRESSED,
    }
}

fn context() -> Context {
    Context::new(Arc::default(), None, Metadata::default(), None)
}

async fn serve(server: &impl Service, method: usize, arguments: &serde_json::Value) -> Context {
    let context = context();
    server.call(method, json_payload(arguments), Responder::discard(context.clone())).await;
    context
}

#[tokio::test]
async fn requests_of_older_and_newer_peers_decode() {
    let recorder = Arc::new(Recorder::default());
    let server = NamesServer::from_arc(Arc::clone(&recorder));
    let newer = json!({"unknown": [1], "type": 7, "person": {"name": "Bo"}, "times": 2});
    assert!(serve(&server, 0, &newer).await.is_answered());
    let older = json!({"person": {"name": "Bo"}, "type": 7});
    assert!(serve(&server, 0, &older).await.is_answered());
    let bo = || Person { name: "Bo".into() };
    assert_eq!(*recorder.0.lock().unwrap(), [(bo(), 7, Some(2)), (bo(), 7, None)]);
}

#[tokio::test]
async fn malformed_requests_are_answered_but_not_executed() {
    let recorder = Arc::new(Recorder::default());
    let server = NamesServer::from_arc(Arc::clone(&recorder));
    assert!(serve(&server, 0, &json!({"person": 1})).await.is_answered());
    assert!(serve(&server, 3, &json!({})).await.is_answered());
    assert!(serve(&server, usize::MAX, &json!({})).await.is_answered());
    assert!(recorder.0.lock().unwrap().is_empty());
}

#[test]
fn service_lists_methods_in_order_with_their_options() {
    let id = || ServiceId::from_static("demo.Names", "2.1-rc");
    let server = NamesServer::new(Recorder::default());
    assert_eq!(*server.id(), id());
    let expected = [
        MethodInfo::from_static(id(), "demo.Names:2.1-rc/plain"),
        MethodInfo::from_static(id(), "demo.Names:2.1-rc/sayHello")
            .idempotent()
            .one_way()
            .timeout(Duration::from_micros(1500)),
        MethodInfo::from_static(id(), "demo.Names:2.1-rc/loop"),
    ];
    assert_eq!(server.methods(), expected);
    assert_eq!(*names_methods::SayHello::info(), expected[1]);
}

#[test]
fn service_defaults_to_trait_name_and_version_1_0() {
    let server = DefaultsServer::new(Recorder::default());
    assert_eq!(*server.id(), ServiceId::from_static("Defaults", "1.0"));
    assert_eq!(server.methods()[0].route(), "Defaults:1.0/method");
}

#[test]
fn server_and_client_implement_debug() {
    let server = DefaultsServer::new(Recorder::default());
    let shown = format!("{:?}", server.clone());
    assert!(shown.starts_with("DefaultsServer") && shown.contains("\"1.0\""), "{shown}");
    let client = DefaultsClient::new(Local::new(server));
    assert!(format!("{client:?}").starts_with("DefaultsClient"), "{client:?}");
    assert!(format!("{:?}", client.method()).contains("Defaults:1.0/method"));
}

/// The older version of a contract, which the server still has.
mod older {
    #[rpc_core::rpc_service(name = "demo.Drift")]
    pub(crate) trait Drift {
        async fn arguments(&self, number: u8) -> u8;
        async fn result(&self) -> u8;
        async fn error(&self) -> Result<u8, String>;
    }

    pub(crate) struct OldProvider;

    impl Drift for OldProvider {
        async fn arguments(&self, number: u8) -> u8 {
            number
        }

        async fn result(&self) -> u8 {
            7
        }

        async fn error(&self) -> Result<u8, String> {
            Err("an error".into())
        }
    }
}

#[rpc_service(name = "demo.Drift")]
trait Drift {
    async fn arguments(&self, number: String) -> u8;
    async fn result(&self) -> String;
    async fn error(&self) -> u8;
    async fn added(&self);
}

#[tokio::test]
async fn incompatible_contracts_fail_with_clear_codes() {
    let drift = DriftClient::new(Local::new(older::DriftServer::new(older::OldProvider)));
    let error = drift.arguments("seven".into()).await.unwrap_err();
    assert_eq!((error.code(), error.phase()), (Code::InvalidArgument, Some(Phase::Wait)), "{error:?}");
    let error = drift.result().await.unwrap_err();
    assert_eq!((error.code(), error.phase()), (Code::Internal, Some(Phase::Decode)), "{error:?}");
    let error = drift.error().await.unwrap_err();
    assert_eq!((error.code(), error.phase()), (Code::Internal, Some(Phase::Decode)), "{error:?}");
    assert_eq!(drift.added().await.unwrap_err().code(), Code::Unimplemented);
}
