//! Policies of calls: balancers of the program, rules, retries, subsets, limits of methods, and their metrics.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rpc_client::{AttemptRecord, Balancer, Client, ProviderSnapshot, Rules};
use rpc_core::{
    Code, Registry as _, ServiceClient as _, Status,
    layer::{IncomingCall, Served, ServerLayer, ServerNext},
};
use rpc_layers::Metrics;
use rpc_server::Server;
use tests::{in_time, load::until_ready, serving::Serving};

use crate::region::{Provider, RegionClient, RegionServer, Scene, shares, without_zone};

/// A policy that always selects the provider with the highest port.
#[derive(Debug, Default)]
struct HighestPort {
    records: Arc<Mutex<Vec<AttemptRecord>>>,
}

impl Balancer for HighestPort {
    fn select(&self, providers: &[ProviderSnapshot<'_>], _: u64) -> Option<usize> {
        (0..providers.len()).max_by_key(|index| providers[*index].address.port())
    }

    fn record(&self, attempt: &AttemptRecord) {
        self.records.lock().unwrap().push(*attempt);
    }
}

#[tokio::test]
async fn balancer_of_the_program_selects_and_records() {
    let mut scene = Scene::new("balancer");
    for name in ["one", "two", "three"] {
        scene.add(name, |server| server).await;
    }
    let balancer = HighestPort::default();
    let records = Arc::clone(&balancer.records);
    let client = scene.connected(without_zone().with_balancer(balancer)).await;
    let shares = shares(&client, 20).await;
    let (highest, _) = scene.serving.iter().max_by_key(|(_, serving)| serving.address().port()).unwrap();
    assert_eq!(shares.keys().collect::<Vec<_>>(), [highest]);
    let records = records.lock().unwrap();
    let answered: Vec<_> = records.iter().filter(|record| !record.is_failure).collect();
    assert!(answered.len() >= 20 && answered.iter().all(|record| record.address == scene.serving[highest].address()));
}

#[tokio::test]
async fn rules_apply_to_calls_and_are_reloaded() {
    let mut scene = Scene::new("rules");
    scene.add("base", |server| server).await;
    scene.add("gray", |server| server.tags(["gray"])).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rules.toml");
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    write(
        "[[rules]]\nname = \"beta users\"\nservice = \"test.Region\"\ntags = [{ tag = \"gray\", metadata = \"group\", value = \"beta\" }]\n",
    );
    let config = without_zone().with_cache_directory(None);
    let builder = Client::builder().registry(Arc::clone(&scene.registry) as _).config(config).rules_file(&path);
    let client = builder.build().unwrap();
    let region = RegionClient::new(client.clone());
    drop(region.name().timeout(Duration::from_millis(1)).await);
    until_ready(&client, &scene.addresses()).await;
    assert_eq!(in_time(region.name()).await.unwrap(), "base");
    let (name, explanation) = in_time(region.name().metadata("group", "beta").explain()).await;
    assert_eq!(name.unwrap(), "gray");
    assert!(explanation.to_string().contains("by rule beta users"), "{explanation}");
    assert_eq!(client.explain(RegionClient::<Client>::service_id()).rule, "beta users");

    write("[[rules]]\nname = \"broken\"\ntags = [{ tag = \"a b\" }]\n");
    write("[[rules]]\nname = \"all\"\ntags = [{ tag = \"gray\" }]\n");
    // A call checks the file at most once per second.
    in_time(async {
        while region.name().await.unwrap() == "base" {
            tokio::task::yield_now().await;
        }
    })
    .await;
    client.set_rules(None);
    assert_eq!(in_time(region.name()).await.unwrap(), "base");
    let limited =
        Rules::parse(r#"{"rules": [{"name": "one at a time", "method": "watch", "max_concurrent": 1}]}"#).unwrap();
    client.set_rules(Some(limited));
    let (one, other) = in_time(async { tokio::join!(region.watch(), region.watch()) }).await;
    let error = one.err().or(other.err()).expect("one of the calls exceeds the limit");
    assert!(error.to_string().contains("limit is 1 (max_concurrent of one at a time)"), "{error}");
}

#[tokio::test]
async fn retries_are_limited_per_call() {
    let scene = Scene::new("retries");
    // Servers that reject all calls before they execute.
    let mut serving = Vec::new();
    for _ in 0..4 {
        let provider = Provider { name: "full".to_owned(), delay: Duration::ZERO, inner: None };
        let server = Server::builder().service(RegionServer::new(provider)).layer(Rejecting);
        serving.push(Serving::start(server.registry(Arc::clone(&scene.registry) as _)).await);
    }
    let client = scene.client(without_zone());
    drop(RegionClient::new(client.clone()).name().timeout(Duration::from_millis(1)).await);
    until_ready(&client, &serving.iter().map(Serving::address).collect::<Vec<_>>()).await;
    let region = RegionClient::new(client.clone());
    for (retries, attempts) in [(Some(0), 1), (Some(3), 4), (None, 3)] {
        let call = region.name();
        let call = if let Some(retries) = retries { call.retries(retries) } else { call };
        let (outcome, explanation) = in_time(call.explain()).await;
        assert_eq!((outcome.unwrap_err().code(), explanation.attempts.len()), (Code::Unavailable, attempts));
    }
    let route = client.route_counts().into_iter().find(|counts| counts.route.ends_with("/name")).unwrap();
    assert_eq!((route.retries, route.hedges), (5, 0));
}

struct Rejecting;

impl ServerLayer for Rejecting {
    async fn serve(&self, _: &IncomingCall, next: ServerNext<'_>) -> Served {
        next.reject(Status::new(Code::Unavailable, "full"))
    }
}

#[tokio::test]
async fn client_of_many_providers_connects_to_a_subset() {
    let mut scene = Scene::new("subset");
    for number in 0..105 {
        scene.add(&number.to_string(), |server| server).await;
    }
    let client = scene.client(without_zone().with_subset(Some(5)));
    let region = RegionClient::new(client.clone());
    in_time(client.warm_up::<RegionClient<_>>()).await.unwrap();
    assert_eq!(client.endpoints().len(), 5);
    let before = shares(&client, 100).await;
    assert_eq!(before.len(), 5, "{before:?}");
    let explanation = client.explain(RegionClient::<Client>::service_id());
    let outside = explanation.candidates.iter().filter(|one| one.state.contains("outside the subset")).count();
    assert_eq!((explanation.candidates.len(), outside), (105, 100));

    // Another provider replaces one that ends.
    let (ended, _) = before.first_key_value().unwrap();
    let serving = scene.serving.remove(ended).unwrap();
    scene.registry.deregister(RegionClient::<Client>::service_id(), serving.address()).await.unwrap();
    serving.kill().await;
    in_time(async {
        loop {
            let after = shares(&client, 50).await;
            if !after.contains_key(ended) && after.len() == 5 {
                break;
            }
        }
    })
    .await;
    let service = client.services().into_iter().next().unwrap();
    assert!(service.providers >= 5 && !service.is_stale && service.age.is_some(), "{service:?}");

    // The owner of a key may be any provider.
    in_time(region.name().affinity(7)).await.unwrap();
    until_ready(&client, &scene.addresses()).await;
    let owner = in_time(region.name().affinity(7)).await.unwrap();
    let all = scene.connected(without_zone().with_subset(None)).await;
    assert_eq!(in_time(RegionClient::new(all).name().affinity(7)).await.unwrap(), owner);
}

#[tokio::test]
async fn metrics_report_calls_by_provider() {
    let mut scene = Scene::new("provider metrics");
    scene.add("one", |server| server.zone("a")).await;
    let client = scene.connected(without_zone()).await;
    shares(&client, 10).await;
    let metrics = Metrics::new();
    metrics.watch_client(client.clone());
    let (text, address) = (metrics.text(), scene.serving["one"].address());
    let calls = format!("msnb_client_provider_calls_total{{provider=\"{address}\",zone=\"a\",outcome=\"answered\"}} 1");
    assert!(text.contains(&calls), "{text}");
    assert!(text.contains(&format!("msnb_client_provider_ejections_total{{provider=\"{address}\"}} 0")), "{text}");
    assert!(text.contains("msnb_client_list_age_seconds{service=\"test.Region:1.0\"}"), "{text}");
}

#[tokio::test]
async fn method_limits_its_running_handlers() {
    let mut scene = Scene::new("method limit");
    let slow = Duration::from_millis(300);
    scene.add_provider("one", slow, None, |server| server).await;
    let client = scene.connected(without_zone()).await;
    let region = RegionClient::new(client.clone());
    let concurrently = async || in_time(async { tokio::join!(region.exclusive(), region.exclusive()) }).await;
    let (one, other) = concurrently().await;
    let error = one.err().or(other.err()).expect("the second call exceeds the limit");
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(error.message().ends_with("limit is 1 (max_running)"), "{error}");
    in_time(region.exclusive()).await.unwrap();

    scene.add_provider("other", slow, None, |server| server).await;
    until_ready(&client, &scene.addresses()).await;
    let (one, other) = concurrently().await;
    assert_ne!(one.unwrap(), other.unwrap(), "the other provider serves the second call");
}
