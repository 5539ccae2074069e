//! Callers of any type, and the callers of the module `testing`.

use std::time::Duration;

use rpc_core::{
    CallError, Code, Codec, Delivery, DynCaller, Error, Local, Metadata, Phase, Status,
    layer::Layered,
    rpc_service,
    testing::{self, Answer, Scripted},
};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct SoldOut;

#[rpc_service(name = "shop.Stock")]
trait Stock {
    async fn count(&self, item: String, at: u8) -> u32;
    async fn reserve(&self, item: String) -> Result<u32, SoldOut>;
    #[rpc(one_way)]
    async fn note(&self, text: String);
}

struct Shelf;

impl Stock for Shelf {
    async fn count(&self, item: String, at: u8) -> u32 {
        item.len() as u32 + u32::from(at)
    }

    async fn reserve(&self, _: String) -> Result<u32, SoldOut> {
        Err(SoldOut)
    }

    async fn note(&self, _: String) {}
}

/// Not generic: the default of the client's type parameter is `DynCaller`.
struct Shop {
    stock: StockClient,
}

#[tokio::test]
async fn erased_caller_makes_calls_with_all_options() {
    let local = Local::new(StockServer::new(Shelf));
    for caller in [DynCaller::new(local.clone()), DynCaller::new(DynCaller::new(Layered::new(local)))] {
        let shop = Shop { stock: StockClient::new(caller) };
        for codec in [Codec::Bincode, Codec::Json, Codec::MessagePack] {
            assert_eq!(shop.stock.count("cup".into(), 4).codec(codec).await.unwrap(), 7, "{codec:?}");
        }
        let failed = shop.stock.reserve("cup".into()).await.unwrap_err();
        assert!(matches!(failed, CallError::Service(SoldOut)), "{failed:?}");
        shop.stock.note("a".into()).await.unwrap();
        let failed = shop.stock.count("cup".into(), 4).codec(Codec::Raw).await.unwrap_err();
        assert_eq!((failed.code(), failed.phase()), (Code::InvalidArgument, Some(Phase::Send)), "{failed}");
    }
}

#[tokio::test]
async fn callers_of_several_types_share_one_collection() {
    let callers = [
        DynCaller::new(testing::failing(Code::Unavailable)),
        DynCaller::new(Local::new(StockServer::new(Shelf))),
        DynCaller::new(testing::scripted().on("shop.Stock:1.0/count", Answer::result(1_u32))),
    ];
    let mut counts = Vec::new();
    for caller in callers {
        counts.push(StockClient::new(caller).count("cup".into(), 0).await.map_err(|error| error.code()));
    }
    assert_eq!(counts, [Err(Code::Unavailable), Ok(3), Ok(1)]);
}

#[tokio::test]
async fn failing_caller_reports_an_unreachable_provider() {
    let stock = StockClient::new(testing::failing(Code::Unavailable));
    let error = stock.count("cup".into(), 0).await.unwrap_err();
    assert_eq!(
        (error.code(), error.delivery(), error.is_retryable()),
        (Code::Unavailable, Delivery::NotExecuted, true)
    );
    assert_eq!(stock.note("a".into()).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn script_answers_in_order_and_repeats_the_last() {
    let mut metadata = Metadata::default();
    metadata.insert("shelf", "7").unwrap();
    let script = testing::scripted()
        .on("shop.Stock:1.0/count", Answer::result(3_u32).with_metadata(metadata))
        .on("shop.Stock:1.0/count", Answer::status(Status::not_found("no cup")))
        .on("shop.Stock:1.0/count", Answer::never())
        .on("shop.Stock:1.0/count", Answer::error(|| Error::unknown(Code::Unavailable, "connection lost")))
        .on("shop.Stock:1.0/reserve", Answer::service_error(SoldOut));
    let stock = StockClient::new(script);
    let count = || stock.count("cup".into(), 0).timeout(Duration::from_secs(1));
    let (counted, metadata) = count().with_response_metadata().await;
    assert_eq!((counted.unwrap(), metadata.get("shelf")), (3, Some("7")));
    let error = count().await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::NotFound, Delivery::Answered));
    assert!(count().await.unwrap_err().is_timeout());
    for _ in 0..2 {
        assert_eq!(count().await.unwrap_err().delivery(), Delivery::Unknown);
    }
    for codec in [Codec::Bincode, Codec::Json] {
        let failed = stock.reserve("cup".into()).codec(codec).await.unwrap_err();
        assert!(matches!(failed, CallError::Service(SoldOut)), "{failed:?}");
    }
}

#[tokio::test]
async fn unscripted_call_names_the_scripted_routes() {
    let stock = StockClient::new(testing::scripted().on("shop.Stock:1.0/count", Answer::result(3_u32)));
    let error = stock.reserve("cup".into()).await.unwrap_err();
    let error = error.rpc().unwrap();
    assert_eq!(error.code(), Code::Unimplemented);
    assert!(error.message().contains("shop.Stock:1.0/reserve"), "{error}");
    assert!(error.message().contains("shop.Stock:1.0/count"), "{error}");
    stock.note("a".into()).await.unwrap();
}

#[tokio::test]
async fn script_records_calls_up_to_its_limit() {
    let script = testing::scripted().otherwise(Answer::result(3_u32));
    let stock = StockClient::new(script.clone());
    stock.count("cup".into(), 4).metadata("tenant", "a").await.unwrap();
    let [call] = &script.calls()[..] else { panic!("one call was made") };
    assert_eq!((call.method.route(), call.options.metadata.get("tenant")), ("shop.Stock:1.0/count", Some("a")));
    assert_eq!(call.arguments.clone().decode::<(String, u8)>().unwrap(), ("cup".to_owned(), 4));
    assert_eq!(
        stock.count("cup".into(), 0).metadata("Invalid Key", "").await.unwrap_err().code(),
        Code::InvalidArgument
    );
    for _ in 1..=Scripted::MAX_RECORDED {
        stock.note(String::new()).await.unwrap();
    }
    assert_eq!(script.calls().len(), Scripted::MAX_RECORDED);
}
