//! The clients in examples/grpc, with code that protoc generates from the exported files.

use std::{fs, path::Path};

use contracts::{FeedClient, GoodsClient, GreeterClient};
use rpc_core::{DynCaller, descriptor::Contract};
use tests::foreign::{JAVA_CLIENT, go_client};
use tokio::process::Command;

use super::Examples;

/// Returns the lines that a client prints, in which the names of the statuses are those of its language.
fn expected(examples: &Examples, statuses: [&str; 3]) -> Vec<String> {
    let [failed, late, cancelled] = statuses;
    [
        format!("hello: Hello Zoë, from {}", examples.provider.address()),
        format!("empty name: {failed} \"EmptyName\""),
        "good 1: teapot 2499".to_owned(),
        format!("good 404: {failed} not found 404"),
        "prices: 3 in order".to_owned(),
        "uploaded: 1000000".to_owned(),
        "remark: Bo one".to_owned(),
        "remark: Bo two".to_owned(),
        format!("deadline: {late}"),
        format!("cancelled: {cancelled}"),
    ]
    .into()
}

fn with_addresses(mut client: Command, examples: &Examples) -> Command {
    client.args([examples.provider.address().to_string(), examples.feed.address().to_string()]);
    client
}

#[tokio::test]
async fn go_client_calls_example_providers() {
    let Some(client) = go_client().await else { return };
    let examples = Examples::start().await;
    let client = with_addresses(Command::new(client), &examples);
    let statuses = ["FailedPrecondition", "DeadlineExceeded", "Canceled"];
    assert_eq!(examples.lines(client).await, expected(&examples, statuses));
}

#[tokio::test]
async fn java_client_calls_example_providers() {
    let examples = Examples::start().await;
    let Some(client) = JAVA_CLIENT.command(examples.directory.path()).await else { return };
    let client = with_addresses(client, &examples);
    let statuses = ["FAILED_PRECONDITION", "DEADLINE_EXCEEDED", "CANCELLED"];
    assert_eq!(examples.lines(client).await, expected(&examples, statuses));
}

/// `MSNB_UPDATE=1` writes them.
#[test]
fn exported_files_of_examples_are_current() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/grpc/proto");
    let contracts: [&Contract; 3] = [
        GreeterClient::<DynCaller>::contract(),
        GoodsClient::<DynCaller>::contract(),
        FeedClient::<DynCaller>::contract(),
    ];
    for contract in contracts {
        let file = directory.join(format!("{}-{}.proto", contract.name, contract.version));
        let text = rpc_schema::proto(contract).to_string();
        if std::env::var_os("MSNB_UPDATE").is_some() {
            fs::write(&file, &text).unwrap();
        }
        assert!(fs::read_to_string(&file).unwrap() == text, "{} differs from its contract", file.display());
    }
}
