//! The description of the services.

use std::process::{Command, Stdio};

use rpc_core::Tokens;
use rpc_http::Http;
use serde_json::json;
use tests::{http::RawHttp, probe::Probe, serving::Serving};

use super::server;

#[tokio::test]
async fn document_is_valid_openapi() {
    let serving = Serving::start(server(&Probe::default(), Http::new())).await;
    let response = RawHttp::connect(serving.address()).await.get("/openapi.json").await;
    assert_eq!((response.status, response.header("content-type")), (200, "application/json"));
    let document = response.json();
    assert_eq!(document["openapi"], "3.1.0");
    let order = &document["paths"]["/orders/{id}"]["get"];
    assert_eq!(order["description"], "Returns an order.");
    let parameters: Vec<_> =
        order["parameters"].as_array().unwrap().iter().map(|one| (&one["name"], &one["in"])).collect();
    assert_eq!(parameters, [(&json!("id"), &json!("path")), (&json!("verbose"), &json!("query"))]);
    assert_eq!(
        order["responses"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["200", "404", "410", "422", "default"]
    );
    assert!(document["paths"]["/test.Shop:1.2/order"]["post"]["requestBody"].is_object());
    assert!(document["paths"]["/test.Shop:1.2/sum"].is_null(), "a method that HTTP cannot call");
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["test.Shop-1.2.Color"], json!({ "type": "string", "enum": ["Red", "Blue"] }));
    assert_eq!(schemas["test.Shop-1.2.Order"]["required"], json!(["item", "price"]));
    assert_eq!(document["security"], json!(null));
    expect_valid(&response.body);
}

/// Checks a document against the schema of the OpenAPI Initiative.
fn expect_valid(document: &[u8]) {
    let python = |arguments: &[&str]| Command::new("python3").args(arguments).stdin(Stdio::null()).output();
    if !python(&["-c", "import openapi_spec_validator"]).is_ok_and(|output| output.status.success()) {
        return println!("SKIPPED: needs python3 with the package openapi-spec-validator");
    }
    let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    std::fs::write(file.path(), document).unwrap();
    let path = file.path().to_str().unwrap();
    let output = python(&["-m", "openapi_spec_validator", "--schema", "3.1", path]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test]
async fn document_needs_the_rights_of_reflection() {
    let tokens =
        Tokens::new().with("ann", "a-long-secret-of-ann").unwrap().with("bob", "a-long-secret-of-bob").unwrap();
    let builder = server(&Probe::default(), Http::new().tokens_without_tls(true)).require_token(tokens);
    let serving = Serving::start(builder.allow("msnb.Reflection:1.0", ["ann"])).await;
    let mut http = RawHttp::connect(serving.address()).await;
    for (name, status) in [("ann", 200), ("bob", 403)] {
        let header = format!("Authorization: Bearer a-long-secret-of-{name}\r\n");
        let response = http.request("GET", "/openapi.json", &header, "").await;
        assert_eq!(response.status, status, "{name}");
        if status == 200 {
            assert_eq!(response.json()["security"], json!([{ "token": [] }]));
            expect_valid(&response.body);
        }
    }
    let hidden = Serving::start(server(&Probe::default(), Http::new()).reflection(false)).await;
    assert_eq!(RawHttp::connect(hidden.address()).await.get("/openapi.json").await.status, 404);
}
