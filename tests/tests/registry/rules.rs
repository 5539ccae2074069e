//! Rules of services from configurations of Nacos.

use std::{future::Future, sync::Arc, time::Duration};

use rpc_client::{Client, ClientConfig};
use rpc_core::{RuleSource as _, ServiceId};
use rpc_registry::{Memory, Nacos};
use tests::nacos::{NacosServer, ServerKind};
use tokio::time::timeout;

const GREETER: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");
const DATA_ID: &str = "msnb.rules.demo.Greeter";

/// Waits for `work` for at most 150 s: after an outage, nacos-sdk alone needs up to a minute to reconnect.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(150), work).await.expect("the work exceeded 150 s")
}

fn document(name: &str) -> String {
    format!(r#"{{"rules": [{{"name": "{name}", "timeout": "2s"}}]}}"#)
}

/// A client whose calls to `demo.Greeter` find no provider.
struct Scene {
    client: Client,
    nacos: Arc<Nacos>,
}

impl Scene {
    async fn new(url: &str, name: &str) -> Self {
        let nacos = Arc::new(in_time(Nacos::connect(url)).await.unwrap());
        let registry = Arc::new(Memory::named(name));
        let config = ClientConfig::default().with_cache_directory(None);
        let builder = Client::builder().registry(registry).config(config).rules_source(Arc::clone(&nacos) as _);
        let client = builder.build().unwrap();
        let greeter = contracts::GreeterClient::new(client.clone());
        assert!(in_time(greeter.hello("Bo".to_owned())).await.is_err(), "no provider");
        Self { client, nacos }
    }

    /// Waits until the rules of the service have these names.
    async fn until_rules(&self, names: &str) {
        in_time(async {
            while self.client.explain(&GREETER).rule != names {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }
}

async fn rules_follow_the_configuration(kind: ServerKind) {
    let mut server = NacosServer::start_kind(kind).await;
    server.publish(DATA_ID, &document("first")).await;
    let scene = Scene::new(&server.url(), &format!("rules of {kind:?}")).await;
    scene.until_rules("first").await;
    let other = ServiceId::from_static("demo.Other", "1.0");
    assert_eq!(scene.client.explain(&other).rule, "", "the document is for one service");

    // The source passes the invalid document on, and the client keeps the last valid one.
    let mut text = scene.nacos.watch_rules(&GREETER);
    let invalid = document("second").replace("2s", "soon");
    server.publish(DATA_ID, &invalid).await;
    in_time(text.wait_for(|text| text.as_deref() == Some(&*invalid))).await.unwrap();
    assert_eq!(scene.client.explain(&GREETER).rule, "first");
    server.publish(DATA_ID, &document("third")).await;
    scene.until_rules("third").await;

    // The rules remain during an outage, and changes arrive after it.
    server.kill();
    assert_eq!(scene.client.explain(&GREETER).rule, "third");
    server.restart().await;
    server.publish(DATA_ID, &document("fourth")).await;
    assert!(matches!(&*scene.client.explain(&GREETER).rule, "third" | "fourth"));
    scene.until_rules("fourth").await;

    // No notification reports that a configuration was removed.
    server.unpublish(DATA_ID).await;
    scene.until_rules("").await;
}

#[tokio::test]
async fn r_nacos_provides_rules() {
    rules_follow_the_configuration(ServerKind::RNacos).await;
}

#[tokio::test]
async fn official_nacos_2_provides_rules() {
    if ServerKind::Official2.is_available() {
        rules_follow_the_configuration(ServerKind::Official2).await;
    }
}

#[tokio::test]
async fn official_nacos_3_provides_rules() {
    if ServerKind::Official3.is_available() {
        rules_follow_the_configuration(ServerKind::Official3).await;
    }
}
