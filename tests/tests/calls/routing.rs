//! Routing of calls: zones, tags, slow start, latency, streams as load, and the end of an outage.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rpc_client::{Balance, Client, ClientConfig};
use rpc_core::{Code, Instance, Registry as _, ServiceClient as _};
use rpc_server::{Server, ServerConfig};
use tests::{
    in_time,
    load::{until_endpoints, until_ready},
    relay::free_address,
    serving::Serving,
};

use crate::region::{Provider, RegionClient, RegionServer, Scene, shares, without_zone};

/// Returns a config without a zone, and with a policy that ignores latencies, which differ on a busy machine.
fn without_latencies() -> ClientConfig {
    without_zone().with_balance(Balance::PowerOfTwoChoices)
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
    let anywhere = shares(&scene.connected(without_latencies()).await, 60).await;
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
    let config = without_latencies().with_slow_start(Duration::from_secs(3600));
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
    for balance in [Balance::default(), Balance::PeakEwma] {
        let client = scene.connected(without_zone().with_balance(balance)).await;
        // The latencies are unknown in the first second.
        in_time(async { while shares(&client, 100).await.get("slow").is_some_and(|calls| *calls > 10) {} }).await;
    }
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
