//! The service that describes the services of a server.

use rpc_client::Client;
use rpc_core::{Code, Token, Tokens, descriptor::Contract, reflection::ReflectionClient};
use rpc_server::{Server, ServerConfig};
use tests::{
    probe::{Probe, ProbingServer},
    serving::Serving,
};

use crate::caller;

#[tokio::test]
async fn server_describes_its_services() {
    let serving = Serving::probe(&Probe::default(), ServerConfig::default()).await;
    let reflection = ReflectionClient::new(caller());
    let list = reflection.list().address(serving.address()).await.unwrap();
    let expected: &Contract = ProbingServer::<Probe>::contract();
    assert_eq!(
        list.iter().map(|summary| &*summary.service).collect::<Vec<_>>(),
        ["msnb.Reflection:1.0", "test.Probe:1.0"]
    );
    assert_eq!(list[1].digest, Some(format!("{:016x}", expected.digest())));
    let methods: Vec<_> = expected.methods.iter().map(|method| method.name.clone()).collect();
    assert_eq!(list[1].methods, methods);
    let described = reflection.describe("test.Probe:1.0".into()).address(serving.address()).await.unwrap();
    assert_eq!(&described, expected);
    let own = reflection.describe("msnb.Reflection:1.0".into()).address(serving.address()).await.unwrap();
    assert_eq!(&own, ReflectionClient::<rpc_core::DynCaller>::contract());
    let error = reflection.describe("test.Probe:2.0".into()).address(serving.address()).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.message().contains("the server has test.Probe:1.0"), "{error}");
}

#[tokio::test]
async fn reflection_can_be_disabled_and_restricted() {
    let probe = Probe::default();
    let disabled = Serving::start(Server::builder().service(probe.server()).reflection(false)).await;
    let reflection = ReflectionClient::new(caller());
    let error = reflection.list().address(disabled.address()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    let tokens = ["operator", "caller"].iter().fold(Tokens::new(), |all, name| all.with(name, SECRET).unwrap());
    let restricted = Server::builder().service(probe.server()).require_token(tokens);
    let restricted = Serving::start(restricted.allow("msnb.Reflection:1.0", ["operator"])).await;
    let list = async |name: &str| {
        let client = Client::builder().config(tests::patient()).token(Token::new(name, SECRET).unwrap());
        ReflectionClient::new(client.build().unwrap()).list().address(restricted.address()).await
    };
    assert_eq!(list("caller").await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(list("operator").await.unwrap().len(), 2);
}

const SECRET: &str = "the secret of each caller";
