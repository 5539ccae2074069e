//! Providers that are killed, paused and restarted under load, with real processes and a real Nacos server.
//!
//! The tests are short by default. `MSNB_FAULT_SECONDS=60 MSNB_PAUSE_SECONDS=15` extends them to the full promise of
//! docs/TESTING.md.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use rpc_client::{Client, ClientConfig, EndpointState};
use rpc_core::Delivery;
use rpc_server::Server;
use tests::{
    ledger::{LedgerClient, executions},
    load::{Kind, Load, Tally, seconds, until_endpoints, until_ready},
    nacos::NacosServer,
    probe::Probe,
    process::Provider,
    relay::free_address,
    serving::Serving,
};

/// Number of concurrent callers.
const CALLERS: usize = 64;

/// A registry, its providers, and a client.
struct Scene {
    directory: tempfile::TempDir,
    nacos: NacosServer,
    providers: Vec<Provider>,
    client: Client,
}

impl Scene {
    /// Starts the processes and waits until the client has a connection to each provider.
    async fn new(providers: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let nacos = NacosServer::start().await;
        let registry = rpc_registry::connect(&nacos.url()).await.unwrap();
        let config = ClientConfig::default().with_cache_directory(None);
        let client = Client::builder().registry(registry).config(config).build().unwrap();
        let mut scene = Self { directory, nacos, providers: Vec::new(), client };
        for _ in 0..providers {
            scene.providers.push(provider(&scene.nacos, scene.directory.path(), free_address()).await);
        }
        drop(LedgerClient::new(scene.client.clone()).look_up(0).timeout(Duration::from_millis(1)).await);
        until_ready(&scene.client, &scene.addresses()).await;
        scene
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.providers.iter().map(Provider::address).collect()
    }

    /// Starts a load and waits until all providers have answered.
    async fn load(&self, kinds: &[Kind], timeout: Duration) -> Load {
        let load = Load::begin(&self.client, CALLERS, kinds, timeout);
        load.until_answers(&self.addresses(), 1).await;
        load
    }

    /// Replaces an ended provider on the same address and waits until the new process answers calls.
    async fn restart(&mut self, index: usize, load: &Load) {
        let address = self.providers[index].address();
        self.providers[index] = provider(&self.nacos, self.directory.path(), address).await;
        load.until_answers(&[address], 1).await;
    }

    fn in_flight(&self, address: SocketAddr) -> usize {
        let state = self.client.endpoints().into_iter().find(|(known, _)| *known == address);
        match state {
            Some((_, EndpointState::Ready { in_flight })) => in_flight,
            _ => 0,
        }
    }

    /// Asserts that no call executed twice, and that answers and errors report executions correctly.
    fn audit(&self, tally: &Tally) {
        let executions = executions(self.directory.path());
        let twice: Vec<_> = executions.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "these calls executed more than once: {twice:?}");
        let answered = tally.answered(Kind::Plain) + tally.answered(Kind::Once);
        assert!(
            executions.len() as u64 >= answered,
            "{answered} calls were answered and {} executed",
            executions.len()
        );
        for failure in tally.failures.iter().filter(|failure| failure.delivery == Delivery::NotExecuted) {
            assert!(!executions.contains_key(&failure.nonce), "the call executed: {failure:#?}");
        }
        assert!(tally.late < Duration::from_secs(3), "a call outlived its deadline by {:?}", tally.late);
    }
}

async fn provider(nacos: &NacosServer, directory: &Path, address: SocketAddr) -> Provider {
    Provider::start_ledger(env!("CARGO_BIN_EXE_tests-provider"), &nacos.url(), address, directory).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_provider_fails_only_in_flight_calls() {
    let mut scene = Scene::new(3).await;
    let load = scene.load(&Kind::ALL, Duration::from_secs(5)).await;
    let until = Instant::now() + seconds("MSNB_FAULT_SECONDS", 8);
    let (mut in_flight, mut kills, mut slowest_return) = (0, 0, Duration::ZERO);
    for victim in (0..3).cycle() {
        let next = Instant::now() + Duration::from_secs(2);
        let address = scene.providers[victim].address();
        in_flight += scene.in_flight(address);
        scene.providers[victim].kill();
        scene.providers[victim].wait().await;
        kills += 1;
        let killed = Instant::now();
        scene.restart(victim, &load).await;
        slowest_return = slowest_return.max(killed.elapsed());
        tokio::time::sleep_until(next.into()).await;
        if Instant::now() >= until {
            break;
        }
    }
    let tally = load.end().await;
    let plain = tally.failures(Kind::Plain);
    eprintln!(
        "{kills} kills, {in_flight} calls in flight, each back in use within {slowest_return:?}: {}",
        tally.line()
    );
    tally.expect_none_failed(Kind::Idempotent);
    scene.audit(&tally);
    for failure in plain.iter().chain(&tally.failures(Kind::Once)) {
        assert_eq!(failure.delivery, Delivery::Unknown, "{failure:#?}");
        assert!(failure.peer.is_some_and(|peer| scene.addresses().contains(&peer)), "{failure:#?}");
    }
    // A third of the calls in flight were plain; the margin covers calls that started after the count.
    assert!(plain.len() <= in_flight, "{} plain calls failed and {in_flight} were in flight", plain.len());
}

/// Pauses one of two providers under a load of `kinds`; returns the times until it is out of use and back in use.
async fn pause(kinds: &[Kind], timeout: Duration) -> (Tally, Duration, Duration) {
    let scene = Scene::new(2).await;
    let load = scene.load(kinds, timeout).await;
    let address = scene.providers[0].address();
    let paused = Instant::now();
    scene.providers[0].pause();
    until_endpoints(&scene.client, |all| !matches!(all.get(&address), Some(EndpointState::Ready { .. }))).await;
    let out_of_use = paused.elapsed();
    tokio::time::sleep_until((paused + seconds("MSNB_PAUSE_SECONDS", 10)).into()).await;
    scene.providers[0].resume();
    let resumed = Instant::now();
    load.until_answers(&[address], 1).await;
    let back_in_use = resumed.elapsed();
    let tally = load.end().await;
    eprintln!("{kinds:?}: out of use {out_of_use:?}, back in use {back_in_use:?}: {}", tally.line());
    scene.audit(&tally);
    for failure in &tally.failures {
        assert_eq!(failure.delivery, Delivery::Unknown, "{failure:#?}");
    }
    (tally, out_of_use, back_in_use)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paused_provider_fails_no_idempotent_call() {
    let (tally, out_of_use, _) = pause(&[Kind::Idempotent, Kind::Plain], Duration::from_secs(4)).await;
    tally.expect_none_failed(Kind::Idempotent);
    // An attempt times out after 1.3 s; pings alone would take 8 s.
    assert!(out_of_use < Duration::from_secs(6), "{out_of_use:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_alone_detect_paused_provider() {
    let (tally, out_of_use, _) = pause(&[Kind::Plain], Duration::from_secs(60)).await;
    assert!(tally.failures.len() <= CALLERS, "{} calls failed", tally.failures.len());
    assert!(out_of_use < Duration::from_secs(15), "{out_of_use:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restart_fails_no_call() {
    let mut scene = Scene::new(3).await;
    let load = scene.load(&Kind::ALL, Duration::from_secs(5)).await;
    let until = Instant::now() + seconds("MSNB_FAULT_SECONDS", 0);
    let (mut rounds, mut slowest_drain) = (0, Duration::ZERO);
    while rounds == 0 || Instant::now() < until {
        rounds += 1;
        for index in 0..3 {
            let terminated = Instant::now();
            scene.providers[index].terminate();
            let (status, output) = scene.providers[index].wait().await;
            slowest_drain = slowest_drain.max(terminated.elapsed());
            assert!(status.success() && output == ["drained"], "{status} {output:?}");
            scene.restart(index, &load).await;
        }
    }
    let tally = load.end().await;
    eprintln!("{rounds} rounds, the slowest drain {slowest_drain:?}: {}", tally.line());
    for kind in Kind::ALL {
        tally.expect_none_failed(kind);
    }
    scene.audit(&tally);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_service_on_killed_providers_port_fails_no_call() {
    let mut scene = Scene::new(2).await;
    let load = scene.load(&[Kind::Idempotent], Duration::from_secs(5)).await;
    let (killed, intact) = (scene.providers[0].address(), scene.providers[1].address());
    scene.providers[0].kill();
    scene.providers[0].wait().await;
    // Before the registry detects that the provider has ended.
    let probe = Probe::default();
    let _other = Serving::start_on(Server::builder().service(probe.server()), killed).await;
    load.until_answers(&[intact], 2_000).await;
    let tally = load.end().await;
    eprintln!("{}", tally.line());
    tally.expect_none_failed(Kind::Idempotent);
}
