//! A tag through three services, and the part of the calls that a rule tags.

use std::{sync::Arc, time::Duration};

use rpc_client::{Client, Rules};
use rpc_core::rpc_service;
use rpc_registry::Memory;
use rpc_server::Server;
use tests::{in_time, serving::Serving};
use tokio::task::JoinSet;

use crate::region::{RegionClient, Scene, without_zone};

#[rpc_service(name = "test.Front", version = "1.0")]
trait Front {
    /// Returns the names of the providers on the way to the last service.
    async fn path(&self) -> Vec<String>;
}

#[rpc_service(name = "test.Middle", version = "1.0")]
trait Middle {
    async fn path(&self) -> Vec<String>;
}

#[rpc_service(name = "test.Back", version = "1.0")]
trait Back {
    async fn path(&self) -> Vec<String>;
}

#[derive(Clone)]
struct Station {
    name: &'static str,
    client: Client,
}

impl Station {
    fn with(&self, next: Vec<String>) -> Vec<String> {
        [vec![self.name.to_owned()], next].concat()
    }
}

impl Front for Station {
    async fn path(&self) -> Vec<String> {
        self.with(MiddleClient::new(self.client.clone()).path().wait_for_ready(true).await.unwrap())
    }
}

impl Middle for Station {
    async fn path(&self) -> Vec<String> {
        self.with(BackClient::new(self.client.clone()).path().wait_for_ready(true).await.unwrap())
    }
}

impl Back for Station {
    async fn path(&self) -> Vec<String> {
        self.with(Vec::new())
    }
}

/// The middle service has no gray provider, and passes the tag on.
#[tokio::test]
async fn gray_tag_propagates_through_three_services() {
    let registry = Arc::new(Memory::named("three services"));
    let client = || {
        let config = without_zone().with_cache_directory(None);
        Client::builder().registry(Arc::clone(&registry) as _).config(config).build().unwrap()
    };
    let station = |name| Station { name, client: client() };
    let builder = || Server::builder().registry(Arc::clone(&registry) as _);
    let base = station("base");
    let base = builder().service(FrontServer::new(base.clone())).service(MiddleServer::new(base.clone()));
    let base = base.service(BackServer::new(station("base")));
    let gray = builder().service(FrontServer::new(station("gray"))).service(BackServer::new(station("gray")));
    let _serving = [Serving::start(base).await, Serving::start(gray.tags(["gray"])).await];
    let client = client();
    let front = FrontClient::new(client.clone());
    in_time(client.warm_up::<FrontClient<_>>()).await.unwrap();
    // The clients of the handlers connect at their first calls.
    in_time(async {
        while front.path().tag("gray").await.unwrap() != ["gray", "base", "gray"] {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for _ in 0..20 {
        assert_eq!(in_time(front.path().tag("gray")).await.unwrap(), ["gray", "base", "gray"]);
        assert_eq!(in_time(front.path()).await.unwrap(), ["base"; 3]);
    }
}

/// Makes 20 000 calls, each for another user. Returns the number of calls that each provider answered, and those of the gray
/// one among the first 1 000 users.
async fn users_of_gray(client: &Client) -> (usize, Vec<usize>) {
    let mut callers = JoinSet::new();
    for caller in 0..16 {
        let region = RegionClient::new(client.clone());
        callers.spawn(async move {
            let mut gray = Vec::new();
            for user in (caller..20_000).step_by(16) {
                let call = region.name().metadata("user", user.to_string()).timeout(Duration::from_secs(50));
                if call.await.unwrap() == "gray" {
                    gray.push(user);
                }
            }
            gray
        });
    }
    let mut gray = in_time(callers.join_all()).await.concat();
    gray.sort_unstable();
    (gray.len(), gray.into_iter().filter(|user| *user < 1000).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn canary_receives_its_part_of_20_000_calls() {
    let mut scene = Scene::new("canary");
    scene.add("base", |server| server).await;
    scene.add("gray", |server| server.tags(["gray"])).await;
    let client = scene.connected(without_zone()).await;
    let rule = |options: &str| {
        let text = format!("[[rules]]\ntags = [{{ tag = \"gray\", percent = 5{options} }}]");
        client.set_rules(Some(Rules::parse(&text).unwrap()));
    };
    rule("");
    let (calls, first) = users_of_gray(&client).await;
    assert!((800..=1200).contains(&calls), "{calls} of 20000");
    rule(", sticky = \"user\"");
    let (sticky_calls, sticky_first) = users_of_gray(&client).await;
    assert!((800..=1200).contains(&sticky_calls), "{sticky_calls} of 20000");
    eprintln!("{calls} and, by user, {sticky_calls} of 20000 calls reached the canary");
    let region = RegionClient::new(client.clone());
    for user in 0..1000 {
        let name = in_time(region.name().metadata("user", user.to_string())).await.unwrap();
        assert_eq!(name == "gray", sticky_first.contains(&user), "user {user}");
    }
    assert_ne!(first, sticky_first, "without `sticky`, the calls are chosen at random");
}
