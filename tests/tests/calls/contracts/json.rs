//! Calls of methods that are known by their names only.

use rpc_core::{CallError, Code, Delivery};
use rpc_server::Server;
use serde_json::json;
use tests::serving::Serving;

use super::evolution::one;
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
        ("items", json!({}), Code::Unimplemented, "streams"),
    ] {
        let CallError::Rpc(error) = call(method, arguments).await.unwrap_err() else { panic!("{method}") };
        assert_eq!((error.code(), error.delivery()), (code, Delivery::NotExecuted), "{method}: {error:?}");
        assert!(error.message().contains(part), "{method}: {error}");
    }
    let CallError::Rpc(error) = client.call_json("nowhere", json!({})).await.unwrap_err() else { panic!("no error") };
    assert_eq!(error.code(), Code::InvalidArgument);
}
