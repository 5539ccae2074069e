//! Changes of an operator to an instance, as in the walk-through of docs/NACOS.md.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use contracts::GreeterClient;
use rpc_client::{Balance, Client, ClientConfig};
use rpc_core::ServiceId;
use tests::{
    in_time,
    nacos::{ListedInstance, NacosServer, ServerKind},
    process::Provider,
};

use super::{LONG, on_servers};

static GREETER: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");

/// A server, two providers with log files, and a consumer.
struct Scene {
    server: NacosServer,
    providers: [Provider; 2],
    logs: tempfile::TempDir,
    greeter: GreeterClient<Client>,
    client: Client,
}

impl Scene {
    async fn new(kind: ServerKind) -> Self {
        let server = NacosServer::start_kind(kind).await;
        let logs = tempfile::tempdir().unwrap();
        let [one, other] = ["0", "1"].map(|name| logs.path().join(name));
        let url = server.url();
        let providers = [Provider::start_logging(&url, &one).await, Provider::start_logging(&url, &other).await];
        let registry = rpc_registry::connect(&url).await.unwrap();
        // The default policy also weighs latencies, which differ while other tests occupy the machine.
        let config = ClientConfig::default().with_cache_directory(None).with_balance(Balance::PowerOfTwoChoices);
        let client = Client::builder().registry(registry).config(config).build().unwrap();
        let scene = Self { server, providers, logs, greeter: GreeterClient::new(client.clone()), client };
        scene.until_called([true, true]).await;
        scene
    }

    fn address(&self, provider: usize) -> SocketAddr {
        self.providers[provider].address()
    }

    /// Makes `calls` calls, and returns how many of them each provider answers.
    async fn shares(&self, calls: usize) -> [usize; 2] {
        let mut shares = [0; 2];
        for _ in 0..calls {
            let greeting = self.greeter.hello("Bo".to_owned()).wait_for_ready(true).await.unwrap();
            let answered = (0..2).find(|provider| greeting.ends_with(&self.address(*provider).to_string()));
            shares[answered.unwrap()] += 1;
        }
        shares
    }

    /// Waits until calls reach exactly these providers; returns the time that it took.
    async fn until_called(&self, wanted: [bool; 2]) -> Duration {
        let begun = Instant::now();
        let reached = async {
            while self.shares(100).await.map(|share| share > 0) != wanted {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LONG, reached).await.unwrap_or_else(|_| panic!("{}", self.client.explain(&GREETER)));
        begun.elapsed()
    }

    /// Changes the first provider's instance like an operator; returns the changed instance.
    async fn change(&self, change: impl FnOnce(&mut ListedInstance)) -> ListedInstance {
        let listed = self.listed().await;
        let mut instance = listed.unwrap_or_else(|| ListedInstance {
            ip: self.address(0).ip().to_string(),
            port: self.address(0).port(),
            weight: 1.0,
            healthy: true,
            enabled: true,
            metadata: BTreeMap::new(),
        });
        change(&mut instance);
        self.server.administer(&GREETER, &instance).await;
        instance
    }

    /// Returns the first provider's instance, if the server lists it.
    async fn listed(&self) -> Option<ListedInstance> {
        self.server.instances(&GREETER).await.into_iter().find(|listed| listed.address() == self.address(0))
    }

    async fn until_listed(&self, wanted: impl Fn(Option<&ListedInstance>) -> bool) {
        in_time(async {
            while !wanted(self.listed().await.as_ref()) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }

    /// Returns the number of lines in the first provider's log with this message about the service.
    fn logged(&self, message: &str) -> usize {
        let log = std::fs::read_to_string(self.log()).unwrap();
        log.lines().filter(|line| line.contains(message) && line.contains("demo.Greeter:1.0")).count()
    }

    fn log(&self) -> std::path::PathBuf {
        Path::new(self.logs.path()).join("0")
    }

    async fn until_logged(&self, message: &str, times: usize) {
        let logged = async {
            while self.logged(message) < times {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let waited = tokio::time::timeout(LONG, logged).await;
        waited
            .unwrap_or_else(|_| panic!("the log has no {message:?}: {}", std::fs::read_to_string(self.log()).unwrap()));
    }
}

async fn operator_changes_take_effect(kind: ServerKind) {
    let scene = Scene::new(kind).await;
    let started = scene.listed().await.unwrap().metadata["started"].clone();

    // Disabled: no calls, although the connection answers. The provider logs it once.
    let disabled = scene.change(|instance| instance.enabled = false).await;
    let ended = scene.until_called([false, true]).await;
    scene.until_logged("an operator may have disabled this instance", 1).await;
    scene.until_listed(|listed| listed.is_none()).await;
    assert_eq!(scene.shares(500).await, [0, 500]);
    assert!(scene.client.explain(&GREETER).to_string().contains("disabled in the registry"));
    assert!(scene.logged("registered but not listed") >= 1);

    // Enabled: called again.
    let enabled = ListedInstance { enabled: true, ..disabled };
    scene.server.administer(&GREETER, &enabled).await;
    let resumed = scene.until_called([true, true]).await;
    scene.until_logged("listed again", 1).await;
    assert_eq!(scene.logged("an operator may have disabled this instance"), 1);

    // Weight 0: no calls, and still listed.
    scene.change(|instance| instance.weight = 0.0).await;
    let drained = scene.until_called([false, true]).await;
    scene.until_listed(|listed| listed.is_some_and(|listed| listed.weight == 0.0)).await;

    // Weight 5: five of six calls. The provider logs that it keeps the weight.
    scene.change(|instance| instance.weight = 5.0).await;
    scene.until_called([true, true]).await;
    scene.until_logged("listed with another weight, which is kept", 1).await;
    let [heavy, light] = scene.shares(1200).await;
    assert!((850..=1100).contains(&heavy), "{heavy} and {light}");

    // Metadata: the server merges it with the provider's metadata, and calls continue.
    scene.change(|instance| _ = instance.metadata.insert("zone".to_owned(), "b".to_owned())).await;
    let merged = |listed: &ListedInstance| listed.metadata.get("zone").is_some_and(|zone| zone == "b");
    scene.until_listed(|listed| listed.is_some_and(merged)).await;
    assert_eq!(scene.listed().await.unwrap().metadata["started"], started);
    scene.until_called([true, true]).await;

    eprintln!(
        "{kind:?}: calls ended {ended:?} after disabling, resumed {resumed:?} after enabling, ended {drained:?} \
         after weight 0"
    );
    disabled_providers_receive_no_calls(&scene).await;
}

/// Disables all providers: calls fail, although the providers would answer.
async fn disabled_providers_receive_no_calls(scene: &Scene) {
    for provider in &scene.providers {
        let mut listed = scene.server.instances(&GREETER).await;
        listed.retain(|listed| listed.address() == provider.address());
        listed[0].enabled = false;
        scene.server.administer(&GREETER, &listed[0]).await;
    }
    let error = tests::until_error(
        async || {
            // The pause keeps the loop from occupying a processor.
            tokio::time::sleep(Duration::from_millis(20)).await;
            scene.greeter.hello("Bo".to_owned()).await.map_err(|error| error.to_string())
        },
        |error: &String| error.contains("are disabled in"),
    );
    let error = error.await;
    assert!(error.contains(&scene.server.url()) && error.contains("Unavailable"), "{error}");
}

on_servers! { operator_changes_take_effect:
    operator_changes_take_effect_on_r_nacos RNacos,
    operator_changes_take_effect_on_official_2 Official2,
    operator_changes_take_effect_on_official_3 Official3
}
