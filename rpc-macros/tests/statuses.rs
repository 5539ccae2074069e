//! Statuses of the handler's choice, response metadata and baggage, within one process.

use std::time::Duration;

use rpc_core::{
    CallError, Caller, Code, Context, Delivery, Error, HandlerError, Local, Metadata, Status, rpc_service, testing,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum StockError {
    SoldOut,
}

/// Returns the status that a test wants a handler to choose.
fn chosen(code: u8) -> Status {
    Status::new(Code::from_u8(code), "chosen").with_retry_after(Duration::from_secs(5))
}

#[rpc_service(name = "test.Stock")]
trait Stock {
    async fn status(&self, code: u8) -> Result<u32, Status>;
    async fn either(&self, code: Option<u8>) -> Result<u32, HandlerError<StockError>>;
    async fn relay(&self, code: u8) -> Result<u32, Status>;
    async fn describe(&self, fails: bool) -> Result<u32, StockError>;
    async fn tenant(&self, hops: u8) -> Result<Option<String>, Status>;
}

struct Shelf;

/// The number of calls that the handlers of `tenant` make.
const HOPS: u8 = 2;

impl Stock for Shelf {
    async fn status(&self, code: u8) -> Result<u32, Status> {
        Context::current().expect("a handler has a context").insert_response_metadata("shelf", "7")?;
        Err(chosen(code))
    }

    async fn either(&self, code: Option<u8>) -> Result<u32, HandlerError<StockError>> {
        if let Some(code) = code {
            Err(chosen(code))?;
        }
        Err(StockError::SoldOut)?;
        Ok(3)
    }

    async fn relay(&self, code: u8) -> Result<u32, Status> {
        let count = shelf().status(code).await?;
        Ok(count)
    }

    async fn describe(&self, fails: bool) -> Result<u32, StockError> {
        let context = Context::current().expect("a handler has a context");
        context.insert_response_metadata("shelf", "7").expect("the entry is valid");
        assert!(context.insert_response_metadata("Invalid Key", "").is_err());
        if fails { Err(StockError::SoldOut) } else { Ok(3) }
    }

    async fn tenant(&self, hops: u8) -> Result<Option<String>, Status> {
        let context = Context::current().expect("a handler has a context");
        if hops > 0 {
            assert_eq!(context.metadata().get("private").is_some(), hops == HOPS, "only baggage is inherited");
            return Ok(shelf().tenant(hops - 1).await?);
        }
        Ok(context.baggage("tenant").map(str::to_owned))
    }
}

fn shelf() -> StockClient<Local<StockServer<Shelf>>> {
    StockClient::local(Shelf)
}

/// Returns the codes that a handler may choose.
fn codes() -> impl Iterator<Item = Code> {
    (1..=16).map(Code::from_u8)
}

#[tokio::test]
async fn caller_receives_the_status_of_the_handler() {
    for code in codes() {
        let error: Error = shelf().status(code as u8).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (code, "chosen"));
        assert_eq!((error.delivery(), error.is_retryable()), (Delivery::Answered, false), "{code}");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(5)), "{code}");
        assert_eq!(error.metadata().get("shelf"), Some("7"));
    }
}

#[tokio::test]
async fn status_without_a_meaning_becomes_internal() {
    for code in [Code::Ok, Code::Application] {
        let error = shelf().status(code as u8).await.unwrap_err();
        assert_eq!((error.code(), error.delivery()), (Code::Internal, Delivery::Answered), "{error}");
        assert!(error.message().contains(&code.to_string()), "{error}");
    }
}

#[tokio::test]
async fn handler_error_carries_a_service_error_or_a_status() {
    let failed = shelf().either(None).await.unwrap_err();
    assert!(matches!(failed, CallError::Service(StockError::SoldOut)), "{failed:?}");
    let failed = shelf().either(Some(Code::NotFound as u8)).await.unwrap_err();
    assert_eq!(failed.rpc().unwrap().code(), Code::NotFound, "{failed:?}");
}

#[tokio::test]
async fn question_mark_relays_the_status_of_another_call() {
    let error = shelf().relay(Code::Unavailable as u8).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Unavailable, "chosen"));
    assert_eq!((error.retry_after(), error.delivery()), (Some(Duration::from_secs(5)), Delivery::Answered));
}

#[tokio::test]
async fn response_metadata_accompanies_results_and_errors() {
    let (result, metadata) = shelf().describe(false).with_response_metadata().await;
    assert_eq!((result.unwrap(), metadata.get("shelf")), (3, Some("7")));
    let (failed, metadata) = shelf().describe(true).with_response_metadata().await;
    assert!(matches!(failed, Err(CallError::Service(StockError::SoldOut))), "{failed:?}");
    assert_eq!(metadata.get("shelf"), Some("7"));
    let (failed, metadata) = shelf().status(Code::NotFound as u8).with_response_metadata().await;
    assert_eq!((failed.unwrap_err().code(), metadata.get("shelf")), (Code::NotFound, Some("7")));
    let (none, metadata) = shelf().tenant(0).with_response_metadata().await;
    assert_eq!((none.unwrap(), metadata), (None, Metadata::default()));
}

#[tokio::test]
async fn baggage_reaches_every_downstream_handler() {
    let call = shelf().tenant(HOPS).baggage("tenant", "a").metadata("private", "x");
    assert_eq!(call.await.unwrap().as_deref(), Some("a"));
    assert_eq!(shelf().tenant(HOPS).metadata("private", "x").await.unwrap(), None);
}

#[tokio::test]
async fn baggage_replaces_an_inherited_value() {
    let scripted = testing::scripted().otherwise(testing::Answer::result(None::<String>));
    let call = StockClient::new(scripted.clone()).tenant(0).baggage("tenant", "a").baggage("tenant", "b");
    call.await.unwrap();
    let calls = scripted.calls();
    assert_eq!(calls[0].options.metadata.iter().collect::<Vec<_>>(), [("baggage-tenant", &b"b"[..])]);
}

/// A program that is generic over its caller sees the same types.
async fn code_of<C: Caller>(stock: StockClient<C>) -> Code {
    stock.status(5).await.map_or_else(|error: Error| error.code(), |_| Code::Ok)
}

#[tokio::test]
async fn generic_callers_receive_plain_errors() {
    assert_eq!(code_of(shelf()).await, Code::NotFound);
}
