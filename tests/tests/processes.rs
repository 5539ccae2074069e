//! The examples as a user runs them: real processes, a real Nacos server.

use tests::process::{Consumer, Provider, run};

#[tokio::test]
async fn quickstart_ends_by_itself() {
    let output = run("quickstart", &["--calls", "50"]).await;
    let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{complaint}");
    assert!(said.contains("not one call failed"), "{said}");
}

#[tokio::test]
async fn a_provider_and_a_consumer_find_each_other_without_a_server() {
    let scratch = tempfile::tempdir().unwrap();
    let registry = format!("local:{}", scratch.path().display());
    let mut provider = Provider::start(&registry).await;
    let (status, summary) = Consumer::start(&registry, &["--calls", "100"]).await.wait().await;
    assert!(status.success());
    assert_eq!((summary.calls, summary.ok, summary.failed), (100, 100, 0));
    assert_eq!(summary.providers.into_iter().collect::<Vec<_>>(), [(provider.address(), 100)]);
    provider.terminate();
    let (status, said) = provider.wait().await;
    assert!(status.success());
    assert_eq!(said, ["drained"]);
}
