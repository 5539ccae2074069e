//! Calls of methods that are known by their names only.

use rpc_core::{CallError, Code, Delivery, Streaming};
use rpc_server::Server;
use serde_json::json;
use tests::{evolution::one, serving::Serving};

use crate::caller;

#[tokio::test]
async fn json_call_needs_no_contract() {
    let serving = Serving::start(Server::builder().service(one::EvolvingServer::new(one::Service))).await;
    let (client, address) = (caller(), serving.address());
    let call = async |method: &str, arguments| {
        client.call_json(&format!("test.Evolving:1.0/{method}"), arguments).address(address).await
    };
    let order = json!({ "id": 1, "item": "tea" });
    assert_eq!(call("unchanged", json!({ "order": order })).await.unwrap(), order);
    assert_eq!(call("added_variant", json!({ "kind": { "Sized": 7 } })).await.unwrap(), json!({ "Sized": 7 }));
    assert_eq!(call("changed_result", json!({})).await.unwrap(), json!(7));
    let error = call("error_variant", json!({ "fails": true })).await.unwrap_err();
    let CallError::Service(error) = error else { panic!("{error:?}") };
    assert_eq!(error, json!({ "Late": { "by": 3 } }));
    for (method, arguments, code, part) in [
        ("unchanged", json!({}), Code::InvalidArgument, "missing field `order`"),
        ("unchanged", json!([]), Code::InvalidArgument, "not a JSON object"),
        ("no_such_method", json!({}), Code::Unimplemented, "no such method here: test.Evolving:1.0/no_such_method"),
        ("items", json!({}), Code::Unimplemented, "stream"),
    ] {
        let CallError::Rpc(error) = call(method, arguments).await.unwrap_err() else { panic!("{method}") };
        assert_eq!((error.code(), error.delivery()), (code, Delivery::NotExecuted), "{method}: {error:?}");
        assert!(error.message().contains(part), "{method}: {error}");
    }
    let CallError::Rpc(error) = client.call_json("nowhere", json!({})).await.unwrap_err() else { panic!("no error") };
    assert_eq!(error.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn json_call_sends_and_returns_streams() {
    let serving = Serving::start(Server::builder().service(one::EvolvingServer::new(one::Service))).await;
    let (client, address) = (caller(), serving.address());
    let orders = [json!({ "id": 1, "item": "tea" }), json!({ "id": 2, "item": "cups" })];
    let call = |method: &str| client.call_json(&format!("test.Evolving:1.0/{method}"), json!({})).address(address);
    let (items, explanation) = call("items").items(Streaming::from_iterator(orders.clone())).stream().await;
    assert_eq!(explanation.attempts[0].address, address);
    let mut items = items.unwrap();
    let mut received = Vec::new();
    while let Some(item) = items.next().await {
        received.push(item.unwrap());
    }
    assert_eq!(received, orders);
    // An item of another type ends both streams.
    let (items, _) = call("items").items(Streaming::from_iterator([json!(1)])).stream().await;
    let error = items.unwrap().next().await.unwrap().unwrap_err();
    assert_eq!(error.rpc().unwrap().code(), Code::InvalidArgument);
    // The streams are those of the method.
    let (items, _) = call("unchanged").stream().await;
    let CallError::Rpc(error) = items.unwrap_err() else { panic!("no error of the framework") };
    assert_eq!((error.code(), error.delivery()), (Code::Unimplemented, Delivery::NotExecuted));
    let (result, explanation) = call("changed_result").explain().await;
    assert_eq!((result.unwrap(), explanation.attempts.len()), (json!(7), 1));
}
