//! The examples as processes with a Nacos server.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rpc_client::Client;
use rpc_core::{CallError, Code, ServiceId, rpc_service};
use serde::{Deserialize, Serialize};
use tests::{
    Task, in_time,
    nacos::NacosServer,
    process::{Consumer, Provider, run},
    program::Program,
    until_error, until_ok,
};
use tokio::sync::watch;

static GREETER: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");
static GOODS: ServiceId = ServiceId::from_static("shop.Goods", "1.0");

/// The contract of the providers, written independently of the examples.
#[rpc_service(name = "demo.Greeter", version = "1.0")]
trait Greeter {
    #[rpc(idempotent)]
    async fn hello(&self, name: String) -> Result<String, GreetError>;
}

#[derive(Debug, Serialize, Deserialize)]
enum GreetError {
    EmptyName,
}

/// Starts a Nacos server and two providers that it lists.
async fn two_providers() -> (NacosServer, Provider, Provider) {
    let nacos = NacosServer::start().await;
    let (one, other) = (Provider::start(&nacos.url()).await, Provider::start(&nacos.url()).await);
    expect_listed(&nacos, &GREETER, &[one.address(), other.address()]).await;
    (nacos, one, other)
}

async fn expect_listed(nacos: &NacosServer, service: &ServiceId, addresses: &[SocketAddr]) {
    let mut wanted = addresses.to_vec();
    wanted.sort();
    in_time(nacos.wait_for(service, |listed| listed.iter().map(|listed| listed.address()).eq(wanted.iter().copied())))
        .await;
}

/// Callers that call continuously until [`end`](Self::end), and count the answers of each provider.
struct Load {
    stop: Arc<AtomicBool>,
    answers: watch::Sender<BTreeMap<SocketAddr, usize>>,
    callers: Vec<Task<Result<(), CallError<GreetError>>>>,
}

impl Load {
    async fn begin(registry: &str) -> Self {
        let registry = rpc_registry::connect(registry).await.unwrap();
        let greeter = GreeterClient::new(Client::builder().registry(registry).build().unwrap());
        until_ok(async || greeter.hello("Bo".to_owned()).await).await;
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), watch::Sender::new(BTreeMap::new()));
        let callers = (0..8).map(|_| Task::begin(call(greeter.clone(), Arc::clone(&stop), answers.clone()))).collect();
        Self { stop, answers, callers }
    }

    /// Waits until the provider at `address` has answered `more` further calls.
    async fn until_answered(&self, address: SocketAddr, more: usize) {
        let mut answers = self.answers.subscribe();
        let count = |answers: &BTreeMap<SocketAddr, usize>| answers.get(&address).copied().unwrap_or(0);
        let wanted = count(&answers.borrow_and_update()) + more;
        drop(in_time(answers.wait_for(|answers| count(answers) >= wanted)).await.unwrap());
    }

    /// Stops the callers, and panics if a call failed.
    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let answers = self.answers.borrow().clone();
        for caller in self.callers {
            caller.end().await.unwrap_or_else(|error| panic!("{error:?} after {answers:?}"));
        }
    }
}

async fn call(
    greeter: GreeterClient<Client>,
    stop: Arc<AtomicBool>,
    answers: watch::Sender<BTreeMap<SocketAddr, usize>>,
) -> Result<(), CallError<GreetError>> {
    while !stop.load(Ordering::Relaxed) {
        let greeting = greeter.hello("Bo".to_owned()).await?;
        let provider: SocketAddr = greeting.rsplit(' ').next().unwrap().parse().unwrap();
        answers.send_modify(|answers| *answers.entry(provider).or_default() += 1);
    }
    Ok(())
}

#[tokio::test]
async fn consumer_spreads_calls_over_nacos_providers() {
    let (nacos, one, other) = two_providers().await;
    expect_listed(&nacos, &GOODS, &[one.address(), other.address()]).await;
    let listed = nacos.instances(&GREETER).await;
    assert!(listed.iter().all(|listed| listed.metadata["protocol"] == "msnb" && listed.weight == 1.0), "{listed:?}");
    assert_eq!((one.listed_address(), other.listed_address()), (one.address(), other.address()));

    let (status, summary) = Consumer::start(&nacos.url(), &["--calls", "2000"]).await.wait().await;
    assert!(status.success());
    assert_eq!((summary.calls, summary.ok, summary.failed), (2000, 2000, 0), "{summary:?}");
    assert_eq!(summary.providers.values().sum::<u64>(), 2000);
    for address in [one.address(), other.address()] {
        assert!(summary.providers[&address] >= 200, "{summary:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn provider_sigterm_fails_no_call() {
    let (nacos, mut one, other) = two_providers().await;
    let load = Load::begin(&nacos.url()).await;
    load.until_answered(one.address(), 100).await;
    load.until_answered(other.address(), 100).await;
    one.terminate();
    let (status, printed) = one.wait().await;
    assert!(status.success());
    assert_eq!(printed, ["drained"]);
    expect_listed(&nacos, &GREETER, &[other.address()]).await;
    expect_listed(&nacos, &GOODS, &[other.address()]).await;
    load.until_answered(other.address(), 100).await;
    load.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn provider_crash_fails_no_idempotent_call() {
    let (nacos, mut one, other) = two_providers().await;
    let load = Load::begin(&nacos.url()).await;
    load.until_answered(one.address(), 100).await;
    load.until_answered(other.address(), 100).await;
    one.kill();
    let (status, _) = one.wait().await;
    assert!(!status.success());
    load.until_answered(other.address(), 100).await;
    expect_listed(&nacos, &GREETER, &[other.address()]).await;
    // The client uses a provider that restarts on its address.
    let back = Provider::start_on(&nacos.url(), one.address()).await;
    load.until_answered(back.address(), 100).await;
    load.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registry_crash_fails_no_call() {
    let (mut nacos, one, other) = two_providers().await;
    let load = Load::begin(&nacos.url()).await;
    load.until_answered(one.address(), 100).await;
    nacos.kill();
    for _ in 0..3 {
        load.until_answered(one.address(), 500).await;
        load.until_answered(other.address(), 500).await;
    }
    load.end().await;
}

#[tokio::test]
async fn local_registry_connects_consumer_and_provider() {
    let scratch = tempfile::tempdir().unwrap();
    let registry = format!("local:{}", scratch.path().display());
    let mut provider = Provider::start(&registry).await;
    let (status, summary) = Consumer::start(&registry, &["--calls", "100"]).await.wait().await;
    assert!(status.success());
    assert_eq!((summary.calls, summary.ok, summary.failed), (100, 100, 0));
    assert_eq!(summary.providers.into_iter().collect::<Vec<_>>(), [(provider.address(), 100)]);
    provider.terminate();
    let (status, printed) = provider.wait().await;
    assert!(status.success());
    assert_eq!(printed, ["drained"]);
}

#[tokio::test]
async fn consumer_without_provider_reports_failure() {
    let scratch = tempfile::tempdir().unwrap();
    let registry = format!("local:{}", scratch.path().display());
    let (status, summary) = Consumer::start(&registry, &["--calls", "100"]).await.wait().await;
    assert!(!status.success());
    // The consumer stops after the first failure.
    assert_eq!((summary.calls, summary.ok, summary.failed), (1, 0, 1));
    assert_eq!(summary.errors, BTreeMap::from([("Unavailable".to_owned(), 1)]));
}

#[tokio::test]
async fn quickstart_exits_successfully() {
    let output = run("quickstart", &["--calls", "50"]).await;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(stdout.contains("no call failed"), "{stdout}");
}

#[tokio::test]
async fn feed_continues_when_its_providers_die_and_drain() {
    let output = run("feed", &["--demo"]).await;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(stdout.ends_with("items 2000, missing 0, repeated 0\n"), "{stdout}");
}

#[tokio::test]
async fn upload_needs_less_memory_than_the_file() {
    const LENGTH: u64 = 96 << 20;
    // The memory for data of a process, in KiB. It includes the stacks of the threads.
    let limit = "ulimit -d 57344";
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (registry, file, files) = (format!("local:{}", path("registry").display()), path("film"), path("files"));
    std::fs::File::create(&file).unwrap().set_len(LENGTH).unwrap();
    let arguments = ["provide", "--registry", &registry, "--files", files.to_str().unwrap()];
    let mut provider = Program::start_limited(limit, "feed", &arguments, &path("log")).await;
    provider.line_with("serving").await;
    let arguments = ["upload", "--registry", &registry, file.to_str().unwrap()];
    let upload = Program::start_limited(limit, "feed", &arguments, &path("upload.log")).await;
    let (status, lines) = upload.wait().await;
    let logs = ["log", "upload.log"].map(|name| std::fs::read_to_string(path(name)).unwrap());
    assert!(status.success() && lines.concat().contains(&format!("uploaded {LENGTH} bytes")), "{lines:?} {logs:?}");
    assert_eq!(std::fs::metadata(files.join("film")).unwrap().len(), LENGTH);
    assert!(provider.terminate().await.success());
}

#[tokio::test]
async fn binaries_print_their_options() {
    for (binary, options) in [
        ("quickstart", &["--calls"][..]),
        ("feed", &["--demo", "provide", "watch", "upload", "talk"]),
        ("provider", &["--listen", "--advertise", "--registry", "--weight", "MSNB_REGISTRY"]),
        ("consumer", &["--calls", "--seconds", "--concurrency", "--json", "--registry", "MSNB_REGISTRY"]),
    ] {
        let output = run(binary, &["--help"]).await;
        let help = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{binary}");
        assert!(options.iter().all(|option| help.contains(option)), "{binary}: {help}");
    }
}

#[tokio::test]
async fn binaries_reject_invalid_arguments() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let cases: [(&str, &[&str], &[&str]); 9] = [
        ("quickstart", &["--calls", "many"], &["--calls", "many"]),
        ("quickstart", &["--nonsense"], &["--nonsense"]),
        ("provider", &["--listen", "nowhere"], &["--listen", "nowhere"]),
        ("provider", &["--registry", "redis://127.0.0.1"], &["Error: InvalidArgument: ", "nacos://", "local:"]),
        ("provider", &["--listen", &taken, "--registry", "memory:"], &["Error: Unavailable: cannot listen: ", &taken]),
        ("provider", &["--weight", "heavy"], &["--weight", "heavy"]),
        ("consumer", &["--concurrency", "0"], &["--concurrency", "1..=65536"]),
        ("consumer", &["--calls", "1", "--seconds", "1"], &["--calls", "--seconds"]),
        ("consumer", &["--registry", "nacos://"], &["Error: InvalidArgument: invalid address ``"]),
    ];
    for (binary, arguments, expected) in cases {
        let output = run(binary, arguments).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{binary} {arguments:?}");
        assert!(expected.iter().all(|word| stderr.contains(word)), "{binary} {arguments:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{binary} {arguments:?}: {stderr}");
    }
}

#[tokio::test]
async fn caller_distinguishes_service_and_rpc_errors() {
    let provider = Provider::start("memory:").await;
    let greeter = GreeterClient::new(Client::builder().build().unwrap());
    let outcome = greeter.hello(String::new()).address(provider.address()).await;
    assert!(matches!(outcome, Err(CallError::Service(GreetError::EmptyName))), "{outcome:?}");
    provider.kill();
    let is_rpc = |error: &CallError<GreetError>| error.rpc().is_some();
    let error = until_error(async || greeter.hello("Bo".to_owned()).address(provider.address()).await, is_rpc).await;
    let error = error.rpc().unwrap();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.to_string().contains(&provider.address().to_string()), "{error}");
}
