//! The provider list on disk: what it keeps, which registries need it, and a disk that hangs.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, atomic::Ordering, mpsc},
    time::Duration,
};

use rpc_client::{Client, ClientConfig};
use rpc_core::{Addresses, Discovery, Instance, ServiceId, tls::ClientTls};
use rpc_server::Server;
use tests::{
    certificates::Authority,
    failing_sink::FailingSink,
    in_time,
    load::until_ready,
    probe::{Probe, ProbingClient},
    serving::Serving,
};
use tokio::sync::watch;

/// A registry whose list a test sets; `None` while it is unreachable.
#[derive(Debug)]
struct TestRegistry(watch::Sender<Option<Arc<[Instance]>>>);

impl TestRegistry {
    fn new(list: Option<Vec<Instance>>) -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(list.map(Arc::from))))
    }
}

impl Discovery for TestRegistry {
    fn watch(&self, _: &ServiceId) -> Addresses {
        self.0.subscribe()
    }

    fn url(&self) -> &str {
        "test://stored-list"
    }
}

fn config(directory: &Path) -> ClientConfig {
    let patience = Duration::from_millis(10);
    ClientConfig::default().with_cache_directory(Some(directory.to_owned())).with_registry_patience(patience)
}

/// Waits until `directory` has a complete list, and returns the names of its files.
async fn until_stored(directory: &Path) -> Vec<String> {
    in_time(async {
        loop {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            let names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
            if names.iter().any(|name| name.ends_with(".json")) {
                return names;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// The name in the provider's certificate is in the metadata of its instance, and so in the list on disk.
#[tokio::test]
async fn list_on_disk_keeps_certificate_names() {
    let (directory, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let tls = authority.issue("named", &["greeter.test"]).server().name("greeter.test");
    let serving = Serving::start(Server::builder().service(Probe::default().server()).tls(tls)).await;
    let client = |registry| {
        let client = Client::builder().registry(registry).tls(ClientTls::new(authority.ca()));
        ProbingClient::new(client.config(config(directory.path())).build().unwrap())
    };
    let listed = Instance::new(serving.address()).with_metadata(Instance::TLS_NAME, "greeter.test");
    client(TestRegistry::new(Some(vec![listed]))).echo("x".to_owned()).wait_for_ready(true).await.unwrap();
    until_stored(directory.path()).await;
    let unreachable = client(TestRegistry::new(None));
    let (answer, explanation) = unreachable.echo("y".to_owned()).explain().await;
    assert_eq!(answer.unwrap(), "y");
    assert!(explanation.stale);
}

/// The follower logs that it uses an old list.
#[tokio::test]
async fn list_on_disk_is_used_although_the_log_sink_fails() {
    let directory = tempfile::tempdir().unwrap();
    let serving = Serving::start(Server::builder().service(Probe::default().server())).await;
    let client = |registry| {
        let client = Client::builder().registry(registry).config(config(directory.path())).build().unwrap();
        ProbingClient::new(client)
    };
    let listed = TestRegistry::new(Some(vec![Instance::new(serving.address())]));
    client(listed).echo("x".to_owned()).wait_for_ready(true).await.unwrap();
    until_stored(directory.path()).await;
    let (events, _guard) = FailingSink::install("rpc_client");
    let (answer, explanation) = client(TestRegistry::new(None)).echo("y".to_owned()).explain().await;
    assert_eq!(answer.unwrap(), "y");
    assert!(explanation.stale && events.load(Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn lists_without_a_server_are_not_stored() {
    let directory = tempfile::tempdir().unwrap();
    let serving = Serving::start(Server::builder().service(Probe::default().server())).await;
    let fixed = rpc_registry::connect(&format!("fixed:{}", serving.address())).await.unwrap();
    let memory = rpc_registry::connect("memory:not stored").await.unwrap();
    memory.register(&tests::serving::PROBE, Instance::new(serving.address())).await.unwrap();
    let stored = TestRegistry::new(Some(vec![Instance::new(serving.address())]));
    let registries: [Arc<dyn Discovery>; 3] = [fixed, memory, stored];
    for registry in registries {
        let client = Client::builder().registry(registry).config(config(directory.path())).build().unwrap();
        ProbingClient::new(client.clone()).echo("x".to_owned()).wait_for_ready(true).await.unwrap();
        client.close().await;
    }
    let names = until_stored(directory.path()).await;
    assert_eq!(names.iter().filter(|name| name.ends_with(".json")).count(), 1, "{names:?}");
}

/// The blocking pool of this runtime has one thread, which hangs as in a file operation on a lost network disk.
#[test]
fn hung_disk_does_not_delay_discovery() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (resume, hung) = mpsc::sync_channel::<()>(1);
    runtime.block_on(async {
        tokio::task::spawn_blocking(move || hung.recv());
        let server = || Serving::start(Server::builder().service(Probe::default().server()));
        let (first, second) = (server().await, server().await);
        let instance = |serving: &Serving| Instance::new(serving.address());
        let registry = TestRegistry::new(Some(vec![instance(&first)]));
        let client =
            Client::builder().registry(Arc::clone(&registry) as _).config(config(directory.path())).build().unwrap();
        let probing = ProbingClient::new(client.clone());
        probing.echo("x".to_owned()).wait_for_ready(true).await.unwrap();
        registry.0.send_replace(Some([instance(&first), instance(&second)].into()));
        let addresses: [SocketAddr; 2] = [first.address(), second.address()];
        in_time(until_ready(&client, &addresses)).await;
        resume.send(()).unwrap();
    });
}

/// A list that is being read from a hung disk does not delay the registry's answer.
#[test]
fn hung_disk_does_not_delay_the_first_answer() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (resume, hung) = mpsc::sync_channel::<()>(1);
    runtime.block_on(async {
        tokio::task::spawn_blocking(move || hung.recv());
        let serving = Serving::start(Server::builder().service(Probe::default().server())).await;
        let registry = TestRegistry::new(None);
        let config = config(directory.path()).with_registry_patience(Duration::ZERO);
        let client = Client::builder().registry(Arc::clone(&registry) as _).config(config).build().unwrap();
        let call = ProbingClient::new(client).echo("x".to_owned()).timeout(Duration::from_secs(50));
        let call = tests::Task::begin(call);
        in_time(registry.0.closed_or_watched()).await;
        registry.0.send_replace(Some([Instance::new(serving.address())].into()));
        assert_eq!(call.end().await.unwrap(), "x");
        resume.send(()).unwrap();
    });
}

/// Waits for the client's watch.
trait Watched {
    async fn closed_or_watched(&self);
}

impl Watched for watch::Sender<Option<Arc<[Instance]>>> {
    async fn closed_or_watched(&self) {
        while self.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
        // The follower starts to read the file when it is polled for the first time.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
}
