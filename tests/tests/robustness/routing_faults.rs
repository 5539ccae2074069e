//! A faulty provider among five, as processes: few calls reach it.

use std::{net::SocketAddr, time::Duration};

use contracts::GreeterClient;
use rpc_client::{Client, ClientConfig};
use tests::{in_time, load::until_ready, process::Provider};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

/// Five providers, of which the first one has a fault, and a client that is connected to all.
struct Scene {
    _directory: tempfile::TempDir,
    _providers: Vec<Provider>,
    faulty: SocketAddr,
    client: Client,
}

impl Scene {
    async fn new(fault: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("local:{}", directory.path().display());
        let mut providers = vec![Provider::start_with(&url, fault).await];
        for _ in 0..4 {
            providers.push(Provider::start_with(&url, &[]).await);
        }
        let registry = rpc_registry::connect(&url).await.unwrap();
        let config = ClientConfig::default().with_cache_directory(None).with_zone(None);
        let client = Client::builder().registry(registry).config(config).build().unwrap();
        drop(GreeterClient::new(client.clone()).hello("Bo".to_owned()).timeout(Duration::from_millis(1)).await);
        until_ready(&client, &providers.iter().map(Provider::address).collect::<Vec<_>>()).await;
        Self { faulty: providers[0].address(), _directory: directory, _providers: providers, client }
    }

    /// Makes 100 calls per second for `warm_up` and then for `time`. Returns the outcomes of the latter: the number of calls,
    /// of failed ones, and of attempts at the faulty provider.
    async fn load(&self, warm_up: Duration, time: Duration) -> (usize, usize, usize) {
        let greeter = GreeterClient::new(self.client.clone());
        let (start, mut calls) = (Instant::now(), JoinSet::new());
        let mut ticks = interval(Duration::from_millis(10));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while start.elapsed() < warm_up + time {
            ticks.tick().await;
            let (call, counts) = (greeter.hello("Bo".to_owned()).explain(), start.elapsed() >= warm_up);
            calls.spawn(async move {
                let (outcome, explanation) = call.await;
                (counts, outcome.is_err(), explanation)
            });
        }
        let (mut count, mut failed, mut faulty) = (0, 0, 0);
        for (counts, has_failed, explanation) in in_time(calls.join_all()).await {
            if counts {
                count += 1;
                failed += usize::from(has_failed);
                faulty += explanation.attempts.iter().filter(|attempt| attempt.address == self.faulty).count();
            }
        }
        (count, failed, faulty)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_calls_reach_a_provider_that_fails_at_once() {
    let scene = Scene::new(&["--fail-rate", "1"]).await;
    let (count, failed, faulty) = scene.load(Duration::from_secs(1), Duration::from_secs(5)).await;
    eprintln!("{count} calls after 1 s, {failed} failed, {faulty} reached the faulty provider");
    assert!(faulty * 100 < count, "{faulty} of {count} calls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_calls_reach_a_provider_that_hangs() {
    let scene = Scene::new(&["--delay", "3600000"]).await;
    let (count, failed, faulty) = scene.load(Duration::from_secs(2), Duration::from_secs(8)).await;
    eprintln!("{count} calls after 2 s, {failed} failed, {faulty} reached the provider that hangs");
    assert_eq!(failed, 0, "the calls are idempotent");
    assert!(faulty * 100 < count, "{faulty} of {count} calls");
}
