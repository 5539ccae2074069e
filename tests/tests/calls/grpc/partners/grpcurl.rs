//! grpcurl, which needs no file: it describes and calls by server reflection.

use std::{net::SocketAddr, path::PathBuf, process::Stdio};

use serde_json::{Value, json};
use tests::{foreign::grpcurl, in_time};
use tokio::process::Command;

use super::{Examples, shop::shop};

/// grpcurl, and the address that it calls.
struct Grpcurl(PathBuf, SocketAddr);

impl Grpcurl {
    /// Runs grpcurl, and returns its output and its errors.
    async fn run(&self, options: &[&str], arguments: &[&str]) -> (String, String) {
        let mut command = Command::new(&self.0);
        command.args(["-plaintext", "-max-time", "60"]).args(options).arg(self.1.to_string()).args(arguments);
        let output = in_time(command.stdin(Stdio::null()).kill_on_drop(true).output()).await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    }

    /// Calls a method with these messages, and returns the messages of the response.
    async fn call(&self, method: &str, messages: &str) -> Vec<Value> {
        let (output, errors) = self.run(&["-d", messages], &[method]).await;
        assert_eq!(errors, "", "{method}");
        serde_json::Deserializer::from_str(&output).into_iter().map(Result::unwrap).collect()
    }
}

#[tokio::test]
async fn grpcurl_lists_describes_and_calls() {
    let Some(program) = grpcurl().await else { return };
    let examples = Examples::start().await;
    let address = examples.provider.address();
    let grpcurl = Grpcurl(program, address);
    let (services, _) = grpcurl.run(&[], &["list"]).await;
    let expected = [
        "demo.greeter.v1_0.Greeter",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "shop.goods.v1_0.Goods",
    ];
    assert_eq!(services.lines().collect::<Vec<_>>(), expected);
    let (described, _) = grpcurl.run(&[], &["describe", "shop.goods.v1_0.Good"]).await;
    assert!(described.contains("string name = 2;") && described.contains("uint64 price = 3;"), "{described}");
    let hello = grpcurl.call("demo.greeter.v1_0.Greeter/Hello", r#"{"name":"Bo"}"#).await;
    assert_eq!(hello, [json!({ "value": format!("Hello Bo, from {address}") })]);
    let good = grpcurl.call("shop.goods.v1_0.Goods/FindGoods", r#"{"id":3}"#).await;
    assert_eq!(good, [json!({ "value": { "id": "3", "name": "compass", "price": "1275" } })]);
    assert_eq!(grpcurl.call("grpc.health.v1.Health/Check", "{}").await, [json!({ "status": "SERVING" })]);
    let (_, errors) = grpcurl.run(&["-d", r#"{"id":9}"#], &["shop.goods.v1_0.Goods/FindGoods"]).await;
    assert!(errors.contains("FailedPrecondition") && errors.contains("shop.goods.v1_0.GoodsError"), "{errors}");
}

#[tokio::test]
async fn grpcurl_sends_and_receives_streams() {
    let Some(program) = grpcurl().await else { return };
    let serving = shop().await;
    let grpcurl = Grpcurl(program, serving.address());
    let prices = grpcurl.call("shop.feed.v1_0.Feed/Prices", r#"{"good":"tea","after":"1"}"#).await;
    let price = |number: &str| json!({ "value": { "number": number, "cents": 100 } });
    assert_eq!(prices, [price("2"), price("3")]);
    // `AAAA` is base64 of three bytes.
    let parts = r#"{"arguments":{"name":"a"}} {"item":"AAAA"} {"item":"AAAA"}"#;
    assert_eq!(grpcurl.call("shop.feed.v1_0.Feed/Upload", parts).await[0]["value"]["bytes"], "6");
    let remarks = r#"{"arguments":{"room":"r","author":"Bo"}} {"item":"one"} {"item":"two"}"#;
    let remark = |text: &str| json!({ "value": { "author": "Bo", "text": text } });
    assert_eq!(grpcurl.call("shop.feed.v1_0.Feed/Talk", remarks).await, [remark("one"), remark("two")]);
}
