//! Clients whose runtime ends, pauses, or whose connector panics.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use rpc_client::{Client, ClientConfig, EndpointState};
use rpc_core::{Addresses, Discovery, Instance, Registry as _, ServiceId};
use rpc_registry::Memory;
use rpc_server::{Server, ServerConfig};
use rustix::io::Errno;
use tests::{
    in_time,
    pipes::{Fault, PIPE, pipes},
    probe::{Probe, ProbingClient},
    serving::{PROBE, Serving},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::watch,
};

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
        let mut call = std::pin::pin!(probing.echo("second".to_owned()).address(PIPE).timeout(LONG).into_future());
        assert!(is_pending(call.as_mut()).await, "the first runtime connects");
        ending.shutdown_background();
        assert_eq!(call.await.unwrap(), "second");
    });
}

/// The connect belongs to a runtime that ends. The follower of the service and the call are on another one.
#[test]
fn call_that_waits_until_ready_survives_the_end_of_a_runtime() {
    let (pipes, listener) = pipes();
    let (servers, registry) = (multi_threaded(), Arc::new(Memory::named("ready after the end of a runtime")));
    let _serving = servers.block_on(async {
        registry.register(&PROBE, Instance::new(PIPE)).await.unwrap();
        Serving::listen(Server::builder().service(Probe::default().server()), listener).await
    });
    let config = ClientConfig::default().with_connect_timeout(Duration::MAX).with_cache_directory(None);
    let client = Client::builder().registry(registry).connector(pipes.clone()).config(config).build().unwrap();
    let probing = ProbingClient::new(client.clone());

    pipes.set_fault(Some(Fault::Hang));
    let ending = multi_threaded();
    let first = probing.echo("first".to_owned()).address(PIPE).timeout(Duration::from_millis(1));
    ending.block_on(first).unwrap_err();
    pipes.set_fault(None);
    multi_threaded().block_on(async {
        let call = probing.echo("second".to_owned()).wait_for_ready(true).timeout(LONG).into_future();
        let mut call = std::pin::pin!(call);
        assert!(is_pending(call.as_mut()).await, "the registry has not answered");
        in_time(async {
            while client.explain(&PROBE).candidates.is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(pipes.attempts(), 1, "the service uses the connect of the first call");
        ending.shutdown_background();
        assert_eq!(call.await.unwrap(), "second");
    });
}

/// A registry that lists nothing. Its second watch does the work of a test before it returns.
#[derive(Default)]
struct Interrupting {
    lists: watch::Sender<Option<Arc<[Instance]>>>,
    watches: AtomicUsize,
    work: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Discovery for Interrupting {
    fn watch(&self, _: &ServiceId) -> Addresses {
        if self.watches.fetch_add(1, Ordering::SeqCst) == 1 {
            self.work.lock().unwrap().take().unwrap()();
        }
        self.lists.subscribe()
    }

    fn url(&self) -> &str {
        "test://interrupting"
    }
}

/// A waiting call starts the tasks of one ended runtime again. Meanwhile the runtime of its connection ends.
#[test]
fn runtime_that_ends_while_a_call_resumes_is_noticed() {
    let (pipes, listener) = pipes();
    let (servers, registry) = (multi_threaded(), Arc::new(Interrupting::default()));
    let _serving = servers.block_on(Serving::listen(Server::builder().service(Probe::default().server()), listener));
    let config = ClientConfig::default().with_cache_directory(None);
    let builder = Client::builder().registry(Arc::clone(&registry) as _).connector(pipes.clone()).config(config);
    let client = builder.build().unwrap();
    let probing = ProbingClient::new(client.clone());

    // One runtime has the watchdog of the address, whose connects fail, and another one the follower of the service.
    pipes.set_fault(Some(Fault::Error(Errno::CONNREFUSED)));
    let [watchdog, follower, waits] = [(); 3].map(|()| multi_threaded());
    watchdog.block_on(probing.echo("named".to_owned()).address(PIPE).into_future()).unwrap_err();
    let found = probing.echo("found".to_owned()).timeout(Duration::from_millis(1));
    follower.block_on(found.into_future()).unwrap_err();
    let mut call =
        Box::pin(probing.echo("x".to_owned()).address(PIPE).wait_for_ready(true).timeout(LONG).into_future());
    assert!(waits.block_on(is_pending(call.as_mut())));

    *registry.work.lock().unwrap() = Some(Box::new(move || {
        watchdog.shutdown_background();
        let is_interrupted = |(_, state): &(_, EndpointState)| state.to_string().contains("dropped with its runtime");
        while !client.endpoints().iter().any(is_interrupted) {
            std::thread::yield_now();
        }
        pipes.set_fault(None);
    }));
    drop(follower);
    assert_eq!(waits.block_on(call).unwrap(), "x");
}

/// Polls a future once. Returns whether it is pending.
async fn is_pending<F: Future>(mut future: Pin<&mut F>) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
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
