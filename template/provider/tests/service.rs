//! The service in one process, and in a cluster with faults.

use std::time::Duration;

use contract::{
    {{service}}Client, {{service}}Error, {{service}}Server,
};
use msnb::{
    CallError, Server,
    simulation::{Cluster, check_seeds},
};
use provider::My{{service}};

#[tokio::test]
async fn empty_name_is_an_error() {
    let client = {{service}}Client::local(My{{service}});
    assert_eq!(client.hello("Bo".to_owned()).await.unwrap(), "Hello Bo");
    let error = client.hello(String::new()).await.unwrap_err();
    assert!(matches!(error, CallError::Service({{service}}Error::EmptyName)), "{error}");
}

/// Faults hit one provider at a time, or the network of both; a call without a deadline of its own has 3 s.
#[test]
fn calls_end_under_faults() {
    check_seeds(0..20, |seed| {
        let mut cluster = Cluster::new(seed);
        for name in ["one", "two"] {
            cluster.provider(name, |_| Server::builder().service({{service}}Server::new(My{{service}})));
        }
        cluster.consumer("consumer", |node| async move {
            let client = {{service}}Client::new(node.client()?);
            for _ in 0..50 {
                if let Ok(greeting) = client.hello("Bo".to_owned()).wait_for_ready(true).await {
                    assert_eq!(greeting, "Hello Bo");
                }
            }
            Ok(())
        });
        cluster.random_faults(Duration::from_secs(5)).run()
    })
    .unwrap();
}
