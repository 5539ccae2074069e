//! Routing of calls: zones, tags, slow start, latency, streams as load, and the end of an outage.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rpc_client::{AttemptRecord, Balance, Balancer, Client, ClientConfig, ProviderSnapshot, Rules};
use rpc_core::{
    Code, Instance, Registry as _, ServiceClient as _, Status, Streaming,
    layer::{IncomingCall, Served, ServerLayer, ServerNext},
    rpc_service,
};
use rpc_layers::Metrics;
use rpc_registry::Memory;
use rpc_server::{Server, ServerBuilder, ServerConfig};
use tests::{
    in_time,
    load::{until_endpoints, until_ready},
    relay::free_address,
    serving::Serving,
};

#[rpc_service(name = "test.Region", version = "1.0")]
trait Region {
    /// Returns the name of the provider.
    #[rpc(idempotent)]
    async fn name(&self) -> String;

    /// Returns the name of the provider that serves a call of this handler.
    async fn relay(&self) -> String;

    /// As `name`, for one call at a time.
    #[rpc(max_running = 1)]
    async fn exclusive(&self) -> String;

    /// Sends items until the caller drops the stream.
    async fn watch(&self) -> Streaming<u64>;
}

#[derive(Clone)]
struct Provider {
    name: String,
    delay: Duration,
    inner: Option<Client>,
}

impl Region for Provider {
    async fn name(&self) -> String {
        tokio::time::sleep(self.delay).await;
        self.name.clone()
    }

    async fn relay(&self) -> String {
        let inner = self.inner.clone().expect("this provider has a client");
        RegionClient::new(inner).name().await.unwrap()
    }

    async fn exclusive(&self) -> String {
        self.name().await
    }

    async fn watch(&self) -> Streaming<u64> {
        Streaming::from_iterator(0..)
    }
}

/// The providers of one test, and their registry.
struct Scene {
    registry: Arc<Memory>,
    serving: BTreeMap<String, Serving>,
}

impl Scene {
    fn new(name: &str) -> Self {
        Self { registry: Arc::new(Memory::named(name)), serving: BTreeMap::new() }
    }

    async fn add(&mut self, name: &str, extend: impl FnOnce(ServerBuilder) -> ServerBuilder) {
        self.add_provider(name, Duration::ZERO, None, extend).await;
    }

    async fn add_provider(
        &mut self,
        name: &str,
        delay: Duration,
        inner: Option<Client>,
        extend: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) {
        let provider = Provider { name: name.to_owned(), delay, inner };
        let builder = Server::builder().service(RegionServer::new(provider)).registry(Arc::clone(&self.registry) as _);
        self.serving.insert(name.to_owned(), Serving::start(extend(builder)).await);
    }

    fn client(&self, config: ClientConfig) -> Client {
        let config = config.with_cache_directory(None);
        Client::builder().registry(Arc::clone(&self.registry) as _).config(config).build().unwrap()
    }

    /// Returns a client that is connected to all providers.
    async fn connected(&self, config: ClientConfig) -> Client {
        let client = self.client(config);
        drop(RegionClient::new(client.clone()).name().timeout(Duration::from_millis(1)).await);
        until_ready(&client, &self.addresses()).await;
        client
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.serving.values().map(Serving::address).collect()
    }
}

/// Makes calls one after another, and returns how many of them each provider answered.
async fn shares(client: &Client, calls: usize) -> BTreeMap<String, usize> {
    let (region, mut shares) = (RegionClient::new(client.clone()), BTreeMap::new());
    for _ in 0..calls {
        *shares.entry(in_time(region.name()).await.unwrap()).or_default() += 1;
    }
    shares
}

fn without_zone() -> ClientConfig {
    ClientConfig::default().with_zone(None)
}

#[tokio::test]
async fn consumer_prefers_the_providers_of_its_zone() {
    let mut scene = Scene::new("zones");
    for (name, zone) in [("a1", "a"), ("b1", "b"), ("b2", "b")] {
        scene.add(name, |server| server.zone(zone)).await;
    }
    let client = scene.connected(without_zone().with_zone(Some("b".to_owned()))).await;
    let near = shares(&client, 60).await;
    assert_eq!(near.keys().collect::<Vec<_>>(), ["b1", "b2"], "{near:?}");
    let explanation = client.explain(RegionClient::<Client>::service_id()).to_string();
    assert!(explanation.contains("zone a; the zone of this client is preferred"), "{explanation}");
    let anywhere = shares(&scene.connected(without_zone()).await, 60).await;
    assert_eq!(anywhere.len(), 3, "{anywhere:?}");

    // One of three providers has less than a half of the capacity: two thirds of the calls stay.
    let overflowing = shares(&scene.connected(without_zone().with_zone(Some("a".to_owned()))).await, 300).await;
    assert!((150..=250).contains(&overflowing["a1"]), "{overflowing:?}");

    for name in ["b1", "b2"] {
        let serving = scene.serving.remove(name).unwrap();
        let address = serving.address();
        serving.kill().await;
        until_endpoints(&client, |all| all.get(&address).is_none_or(|state| !state.to_string().contains("ready")))
            .await;
    }
    assert_eq!(shares(&client, 10).await, BTreeMap::from([("a1".to_owned(), 10)]), "the other zone serves the calls");
}

#[tokio::test]
async fn tags_separate_providers_and_calls() {
    let mut scene = Scene::new("tags");
    let inner = scene.client(without_zone());
    scene.add_provider("base", Duration::ZERO, Some(inner), |server| server).await;
    scene.add("gray", |server| server.tags(["gray", "canary"])).await;
    let client = scene.connected(without_zone()).await;
    let region = RegionClient::new(client.clone());
    assert_eq!(shares(&client, 20).await.keys().collect::<Vec<_>>(), ["base"]);
    for _ in 0..20 {
        assert_eq!(in_time(region.name().tag("gray")).await.unwrap(), "gray");
    }
    assert_eq!(in_time(region.name().tag("canary").affinity(7)).await.unwrap(), "gray");
    assert_eq!(in_time(region.name().tag("unknown")).await.unwrap(), "base", "no provider has the tag");
    let (outcome, explanation) = in_time(region.name().force_tag("unknown").explain()).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("no provider has the tag unknown"), "{error}");
    assert!(explanation.to_string().contains("tags canary,gray"), "{explanation}");
    // An untagged provider serves the tagged call; the call of its handler has the tag too.
    assert_eq!(in_time(region.relay().tag("unknown")).await.unwrap(), "base");
    let base = scene.serving["base"].address();
    assert_eq!(in_time(region.relay().tag("gray").address(base)).await.unwrap(), "gray");
    assert_eq!(in_time(region.relay().address(base)).await.unwrap(), "base");
}

#[tokio::test]
async fn tags_change_while_the_provider_runs() {
    let mut scene = Scene::new("changing tags");
    scene.add("one", |server| server).await;
    scene.add("other", |server| server).await;
    let client = scene.connected(without_zone()).await;
    let region = RegionClient::new(client.clone());
    scene.serving["one"].handle().set_tags(["gray"]).unwrap();
    while in_time(region.name().tag("gray")).await.unwrap() != "one" {
        tokio::task::yield_now().await;
    }
    assert_eq!(shares(&client, 20).await.keys().collect::<Vec<_>>(), ["other"]);
    let error = scene.serving["one"].handle().set_tags(["a,b"]).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    scene.serving["one"].handle().set_tags([""; 0]).unwrap();
    while in_time(region.name()).await.unwrap() != "one" {
        tokio::task::yield_now().await;
    }
    assert_eq!(in_time(region.name().tag("gray").force_tag("gray")).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn new_provider_starts_with_a_small_share() {
    let scene = Scene::new("slow start");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut serving = Vec::new();
    for (name, started) in [("new", now), ("old", now - 3600)] {
        let provider = Provider { name: name.to_owned(), delay: Duration::ZERO, inner: None };
        let server = Serving::start(Server::builder().service(RegionServer::new(provider))).await;
        let instance = Instance::new(server.address()).with_metadata(Instance::STARTED, started.to_string());
        scene.registry.register(RegionClient::<Client>::service_id(), instance).await.unwrap();
        serving.push(server);
    }
    let config = without_zone().with_slow_start(Duration::from_secs(3600));
    let client = scene.client(config);
    drop(RegionClient::new(client.clone()).name().timeout(Duration::from_millis(1)).await);
    until_ready(&client, &serving.iter().map(Serving::address).collect::<Vec<_>>()).await;
    let shares = shares(&client, 400).await;
    let new = shares.get("new").copied().unwrap_or_default();
    assert!((5..=80).contains(&new), "{shares:?}: a tenth of the weight is 36 of 400 calls");
    let explanation = client.explain(RegionClient::<Client>::service_id()).to_string();
    assert!(explanation.contains("slow start at 10 %"), "{explanation}");
}

#[tokio::test]
async fn slow_provider_receives_fewer_calls_by_latency() {
    let mut scene = Scene::new("latency");
    scene.add_provider("slow", Duration::from_millis(20), None, |server| server).await;
    scene.add("fast", |server| server).await;
    let client = scene.connected(without_zone().with_balance(Balance::PeakEwma)).await;
    let shares = shares(&client, 100).await;
    assert!(shares.get("slow").copied().unwrap_or_default() <= 10, "{shares:?}");
}

/// The calls are made one after another, so that only the stream makes a difference.
#[tokio::test]
async fn open_stream_counts_as_load() {
    let mut scene = Scene::new("streams");
    scene.add("one", |server| server).await;
    scene.add("other", |server| server).await;
    let client = scene.connected(without_zone()).await;
    let region = RegionClient::new(client.clone());
    let mut items = in_time(region.watch()).await.unwrap();
    assert_eq!(in_time(items.next()).await.unwrap().unwrap(), 0);
    let with_stream = shares(&client, 40).await;
    assert_eq!(with_stream.len(), 1, "{with_stream:?}");
    drop(items);
    in_time(async {
        while shares(&client, 20).await.len() == 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Without a request of the call, the client would connect again after its backoff only, up to 8 s.
#[tokio::test]
async fn first_call_after_an_outage_succeeds() {
    let scene = Scene::new("outage");
    let provider = Provider { name: "back".to_owned(), delay: Duration::ZERO, inner: None };
    let addresses = [free_address(), free_address()];
    let service = RegionClient::<Client>::service_id();
    for address in addresses {
        scene.registry.register(service, Instance::new(address)).await.unwrap();
    }
    let client = scene.client(without_zone());
    let region = RegionClient::new(client.clone());
    assert_eq!(in_time(region.name()).await.unwrap_err().code(), Code::Unavailable);
    // The next connects follow after 0.5 to 1 s.
    in_time(async {
        let mut changes = client.changes();
        while client.counts().connect_failures < 16 {
            changes.changed().await.unwrap();
        }
    })
    .await;
    let server = Server::builder().service(RegionServer::new(provider));
    let _serving = Serving::start_on(server, addresses[1]).await;
    assert_eq!(in_time(region.name()).await.unwrap(), "back");
}

/// The server drains one connection because of its age, and remains in use although a stream keeps the connection open.
#[tokio::test]
async fn drained_connection_with_a_stream_is_replaced() {
    let mut scene = Scene::new("age");
    let age = ServerConfig::default().with_max_connection_age(Duration::from_millis(200));
    scene.add("aged", |server| server.config(age)).await;
    let client = scene.connected(without_zone()).await;
    let region = RegionClient::new(client.clone());
    let mut items = in_time(region.watch()).await.unwrap();
    assert_eq!(in_time(items.next()).await.unwrap().unwrap(), 0);
    // Calls succeed on the next connections, while the first one is open.
    in_time(async {
        while client.counts().connects < 3 {
            assert_eq!(region.name().wait_for_ready(true).await.unwrap(), "aged");
        }
    })
    .await;
    assert_eq!(in_time(items.next()).await.unwrap().unwrap(), 1);
}

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
