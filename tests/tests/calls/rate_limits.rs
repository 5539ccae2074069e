//! Rate limits of rpc-layers by identity and method, over connections.

use rpc_client::Client;
use rpc_core::{Code, Error, Token, Tokens};
use rpc_layers::RateLimit;
use rpc_server::Server;
use tests::{
    patient,
    probe::{Probe, ProbingClient},
    serving::Serving,
};

const SECRET: &str = "the secret of each caller";

async fn limited(limit: RateLimit) -> Serving {
    let tokens = ["ann", "bob"].iter().fold(Tokens::new(), |tokens, name| tokens.with(name, SECRET).unwrap());
    Serving::start(Server::builder().service(Probe::default().server()).require_token(tokens).layer(limit)).await
}

/// Each call has a client of its own: a rejection lets a client rest.
async fn echo(serving: &Serving, name: &str) -> Result<String, Error> {
    let client = Client::builder().config(patient()).token(Token::new(name, SECRET).unwrap()).build().unwrap();
    ProbingClient::new(client).echo("x".to_owned()).address(serving.address()).await
}

async fn again(serving: &Serving, name: &str) -> Result<String, Error> {
    let client = Client::builder().config(patient()).token(Token::new(name, SECRET).unwrap()).build().unwrap();
    ProbingClient::new(client).again("x".to_owned()).address(serving.address()).await
}

// The limits refill by less than one call during a test.

#[tokio::test]
async fn rate_limit_separates_identities_of_one_address() {
    let serving = limited(RateLimit::per_identity(0.001, 2.0)).await;
    echo(&serving, "ann").await.unwrap();
    again(&serving, "ann").await.unwrap();
    let error = echo(&serving, "ann").await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(error.message().contains("call rate of this identity"), "{error}");
    echo(&serving, "bob").await.unwrap();
}

#[tokio::test]
async fn rate_limit_covers_its_method_only() {
    let serving = limited(RateLimit::total(0.001, 1.0).only("test.Probe:1.0/echo")).await;
    echo(&serving, "ann").await.unwrap();
    assert_eq!(echo(&serving, "bob").await.unwrap_err().code(), Code::ResourceExhausted, "all callers together");
    for _ in 0..3 {
        again(&serving, "bob").await.unwrap();
    }
}

#[tokio::test]
async fn rate_limit_counts_each_method_separately() {
    let serving = limited(RateLimit::per_identity(0.001, 1.0).each_method()).await;
    echo(&serving, "ann").await.unwrap();
    again(&serving, "ann").await.unwrap();
    assert_eq!(echo(&serving, "ann").await.unwrap_err().code(), Code::ResourceExhausted);
    echo(&serving, "bob").await.unwrap();
}
