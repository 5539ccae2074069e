//! Access rules with patterns, and from a file.

use std::fs;

use rpc_client::Client;
use rpc_core::{Code, Token, Tokens};
use rpc_server::Server;
use tests::{
    patient,
    probe::{Probe, ProbingClient},
    serving::Serving,
    until_error, until_ok,
};

const SECRET: &str = "the secret of each caller";
const NAMES: [&str; 3] = ["team-a", "team-b", "other"];

fn tokens() -> Tokens {
    NAMES.iter().fold(Tokens::new(), |tokens, name| tokens.with(name, SECRET).unwrap())
}

fn clients() -> [ProbingClient<Client>; 3] {
    NAMES.map(|name| {
        let builder = Client::builder().config(patient()).token(Token::new(name, SECRET).unwrap());
        ProbingClient::new(builder.build().unwrap())
    })
}

#[tokio::test]
async fn pattern_permits_matching_callers() {
    let server = Server::builder().service(Probe::default().server()).require_token(tokens());
    let serving = Serving::start(server.allow("test.Probe:1.0", ["team-*"]).allow("test.Probe:1.0/again", ["*"])).await;
    let address = serving.address();
    for (client, name) in clients().into_iter().zip(NAMES) {
        client.again("x".to_owned()).address(address).await.unwrap();
        match client.echo("x".to_owned()).address(address).await {
            Ok(_) => assert!(name.starts_with("team-")),
            Err(error) => assert_eq!((name, error.code()), ("other", Code::PermissionDenied)),
        }
    }
}

#[tokio::test]
async fn changed_file_applies_to_open_connections() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rules");
    fs::write(&path, "test.Probe:1.0 team-a # the rest is denied\n").unwrap();
    let server = Server::builder().service(Probe::default().server()).require_token(tokens()).allow_file(&path);
    // The rules of the program and of the file add up.
    let serving = Serving::start(server.allow("test.Probe:1.0", ["other"])).await;
    let [a, b, other] = clients();
    let echo = async |client: &ProbingClient<Client>| client.echo("x".to_owned()).address(serving.address()).await;
    echo(&a).await.unwrap();
    echo(&other).await.unwrap();
    assert_eq!(echo(&b).await.unwrap_err().code(), Code::PermissionDenied);
    fs::write(directory.path().join("new"), "test.Probe:1.0\tteam-b\n").unwrap();
    fs::rename(directory.path().join("new"), &path).unwrap();
    until_ok(async || echo(&b).await).await;
    until_error(async || echo(&a).await, |error| error.code() == Code::PermissionDenied).await;
    echo(&other).await.unwrap();
    assert_eq!(serving.handle().counts().accepted, 3, "no client has connected again");
}

#[tokio::test]
async fn server_rejects_unusable_rules_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rules");
    let bind = || {
        let server = Server::builder().service(Probe::default().server()).require_token(tokens());
        server.allow_file(&path).bind("127.0.0.1:0")
    };
    assert!(bind().await.unwrap_err().message().contains("cannot read"));
    for (content, expected) in [
        ("test.Probe:1.0 a\ntest.Probe:1.0/none a", ":2:1: test.Probe:1.0/none: this server has no such"),
        ("test.Probe:1.0 team-a, team-b", ":1:22: names are separated by spaces"),
        ("# only a comment", "contains no access rule"),
    ] {
        fs::write(&path, content).unwrap();
        let error = bind().await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().contains(expected), "{error}");
    }
    let open = Server::builder().service(Probe::default().server()).allow_file(&path).bind("127.0.0.1:0").await;
    assert!(open.unwrap_err().message().contains("neither a token nor a certificate"));
}
