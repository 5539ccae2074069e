//! Clients whose runtime ends, pauses, or whose connector panics.

use std::{sync::Arc, time::Duration};

use rpc_client::{Client, ClientConfig};
use rpc_core::{Instance, Registry as _};
use rpc_registry::Memory;
use rpc_server::{Server, ServerConfig};
use tests::{
    in_time,
    pipes::{Fault, PIPE, pipes},
    probe::{Probe, ProbingClient},
    serving::{PROBE, Serving},
};
use tokio::runtime::{Builder, Runtime};

/// Timeout far longer than a call needs.
const LONG: Duration = Duration::from_secs(50);

fn single_threaded() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_threaded() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn client(registry: Arc<Memory>) -> ProbingClient<Client> {
    let config = ClientConfig::default().with_cache_directory(None);
    ProbingClient::new(Client::builder().registry(registry).config(config).build().unwrap())
}

/// Starts two servers that `registry` lists, on a runtime of their own.
fn two_servers(registry: &Memory, config: &ServerConfig) -> (Runtime, [Serving; 2]) {
    let runtime = multi_threaded();
    let servings = runtime.block_on(async {
        let start = async || {
            let serving = Serving::probe(&Probe::default(), config.clone()).await;
            registry.register(&PROBE, Instance::new(serving.address())).await.unwrap();
            serving
        };
        [start().await, start().await]
    });
    (runtime, servings)
}

#[test]
fn static_client_outlives_the_runtime_of_its_first_call() {
    let registry = Arc::new(Memory::named("runtime of the first call"));
    let (_servers, [serving, _other]) = two_servers(&registry, &ServerConfig::default());
    let client = client(registry);
    for round in 0..3 {
        let runtime = if round == 1 { multi_threaded() } else { single_threaded() };
        runtime.block_on(async {
            for _ in 0..4 {
                client.echo("found".to_owned()).timeout(LONG).await.unwrap();
                client.echo("named".to_owned()).address(serving.address()).timeout(LONG).await.unwrap();
            }
        });
    }
}

/// The task that follows the provider list starts again on the runtime of the next call.
#[test]
fn provider_list_is_followed_after_its_runtime_ended() {
    let registry = Arc::new(Memory::named("follower"));
    let (servers, [first, second]) = two_servers(&registry, &ServerConfig::default());
    let client = client(Arc::clone(&registry));
    single_threaded().block_on(async { client.echo("x".to_owned()).timeout(LONG).await.unwrap() });
    servers.block_on(async {
        registry.deregister(&PROBE, first.address()).await.unwrap();
        registry.deregister(&PROBE, second.address()).await.unwrap();
    });
    let third = servers.block_on(async {
        let serving = Serving::probe(&Probe::default(), ServerConfig::default()).await;
        registry.register(&PROBE, Instance::new(serving.address())).await.unwrap();
        serving
    });
    single_threaded().block_on(async {
        let seen = client.context().timeout(LONG).await.unwrap();
        assert_eq!(seen.local_address, Some(third.address()));
    });
}

/// The connect belongs to a runtime that ends. The call, which waits on another runtime, connects again.
#[test]
fn waiting_call_survives_the_end_of_another_runtime() {
    let (pipes, listener) = pipes();
    let servers = multi_threaded();
    let probe = Probe::default();
    let _serving = servers.block_on(Serving::listen(Server::builder().service(probe.server()), listener));
    let config = ClientConfig::default().with_connect_timeout(Duration::MAX);
    let client = Client::builder().connector(pipes.clone()).config(config).build().unwrap();
    let probing = ProbingClient::new(client.clone());

    pipes.set_fault(Some(Fault::Hang));
    let ending = multi_threaded();
    let first = probing.echo("first".to_owned()).address(PIPE).timeout(Duration::from_millis(1));
    ending.block_on(first).unwrap_err();
    assert_eq!(pipes.attempts(), 1);
    pipes.set_fault(None);
    let waits = multi_threaded();
    waits.block_on(async {
        let mut call = std::pin::pin!(probing.echo("second".to_owned()).address(PIPE).timeout(LONG));
        let is_pending = std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx).is_pending())).await;
        assert!(is_pending, "the first runtime connects");
        ending.shutdown_background();
        assert_eq!(call.await.unwrap(), "second");
    });
}

#[tokio::test]
async fn panicking_connector_fails_one_attempt() {
    let (pipes, listener) = pipes();
    let _serving = Serving::listen(Server::builder().service(Probe::default().server()), listener).await;
    let client = Client::builder().connector(pipes.clone()).build().unwrap();
    let probing = ProbingClient::new(client.clone());
    pipes.set_fault(Some(Fault::Panic));
    let error = in_time(probing.echo("x".to_owned()).address(PIPE).timeout(LONG)).await.unwrap_err();
    assert!(error.message().contains("panicked: intended panic of a connector"), "{error}");
    assert!(error.is_retryable(), "{error}");
    pipes.set_fault(None);
    in_time(probing.echo("x".to_owned()).address(PIPE).wait_for_ready(true).timeout(LONG)).await.unwrap();
    in_time(client.close()).await;
}

/// The server closes the idle connection while the client's runtime does not run, so the client reads the close only
/// with its next call.
#[test]
fn call_on_paused_runtime_does_not_use_a_closed_connection() {
    let registry = Arc::new(Memory::named("paused runtime"));
    let config = ServerConfig::default().with_read_idle(Duration::from_millis(50));
    let (servers, servings) = two_servers(&registry, &config);
    let client = client(registry);
    let runtime = single_threaded();
    for _ in 0..10 {
        runtime.block_on(async {
            client.echo("found".to_owned()).timeout(LONG).await.unwrap();
            client.echo("named".to_owned()).address(servings[0].address()).timeout(LONG).await.unwrap();
        });
        for serving in &servings {
            servers.block_on(serving.until_counted(|counts| counts.connections == 0));
        }
    }
}
