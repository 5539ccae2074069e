//! Calls through [`GreeterClient::local`].

use rpc_core::{CallError, rpc_service};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
enum GreetError {
    #[error("the name is empty")]
    EmptyName,
}

#[rpc_service(name = "demo.Greeter", version = "1.0")]
trait Greeter {
    #[rpc(idempotent, timeout = "500ms")]
    async fn hello(&self, name: String) -> Result<String, GreetError>;
    async fn add(&self, left: u32, right: u32) -> u32;
}

struct Polite;

impl Greeter for Polite {
    async fn hello(&self, name: String) -> Result<String, GreetError> {
        if name.is_empty() { Err(GreetError::EmptyName) } else { Ok(format!("hello, {name}")) }
    }

    async fn add(&self, left: u32, right: u32) -> u32 {
        left + right
    }
}

#[tokio::test]
async fn a_result_comes_back() {
    let greeter = GreeterClient::local(Polite);
    assert_eq!(greeter.hello("Bo".into()).await.unwrap(), "hello, Bo");
    assert_eq!(greeter.add(1, 2).await.unwrap(), 3);
}

#[tokio::test]
async fn the_services_own_error_comes_back() {
    let greeter = GreeterClient::local(Polite);
    let error = greeter.hello(String::new()).await.unwrap_err();
    assert!(matches!(error, CallError::Service(GreetError::EmptyName)), "{error:?}");
}
