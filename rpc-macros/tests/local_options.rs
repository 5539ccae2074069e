//! Calls within one process follow the options of a call: its codec and its deadline.

use std::{future, time::Duration};

use rpc_core::{CallError, Code, Codec, Delivery, Local, Phase, rpc_service};
use serde::{Deserialize, Serialize};

/// A type that only self-describing codecs decode.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u8),
    Text(String),
}

#[rpc_service]
trait Formats {
    async fn untagged(&self, value: Untagged) -> Untagged;
    async fn fail(&self) -> Result<u8, Untagged>;
}

struct Echo;

impl Formats for Echo {
    async fn untagged(&self, value: Untagged) -> Untagged {
        value
    }

    async fn fail(&self) -> Result<u8, Untagged> {
        Err(Untagged::Number(7))
    }
}

#[tokio::test]
async fn local_call_encodes_both_ways_in_its_codec() {
    let formats = FormatsClient::local(Echo);
    let text = || Untagged::Text("x".into());
    for codec in [Codec::Json, Codec::MessagePack] {
        assert_eq!(formats.untagged(text()).codec(codec).await.unwrap(), text());
        let failed = formats.fail().codec(codec).await.unwrap_err();
        assert!(matches!(failed, CallError::Service(Untagged::Number(7))), "{codec:?}: {failed:?}");
    }
    let failed = formats.untagged(text()).await.unwrap_err();
    assert_eq!(failed.code(), Code::InvalidArgument, "bincode does not decode an untagged enum: {failed}");
    let failed = formats.untagged(Untagged::Number(7)).codec(Codec::Raw).await.unwrap_err();
    assert_eq!((failed.code(), failed.phase()), (Code::InvalidArgument, Some(Phase::Send)), "{failed}");
}

#[rpc_service]
trait Backend {
    async fn hang(&self);
}

#[rpc_service]
trait Frontend {
    async fn relay(&self) -> Result<(), String>;
}

struct Hanging;

impl Backend for Hanging {
    async fn hang(&self) {
        future::pending().await
    }
}

struct Relay<C>(C);

impl<C: rpc_core::Caller> Frontend for Relay<C> {
    async fn relay(&self) -> Result<(), String> {
        BackendClient::new(self.0.clone()).hang().await.map_err(|error| error.to_string())
    }
}

#[tokio::test(start_paused = true)]
async fn outer_deadline_outranks_the_error_of_an_inner_call() {
    let frontend = FrontendClient::local(Relay(Local::new(BackendServer::new(Hanging))));
    let failed = frontend.relay().timeout(Duration::from_millis(100)).await.unwrap_err();
    assert!(failed.rpc().is_some_and(rpc_core::Error::is_timeout), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn call_after_its_deadline_does_not_execute() {
    let backend = BackendClient::local(Hanging);
    let failed = backend.hang().timeout(Duration::ZERO).await.unwrap_err();
    assert_eq!((failed.code(), failed.delivery()), (Code::DeadlineExceeded, Delivery::NotExecuted));
}
