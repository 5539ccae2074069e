//! Guarantees of the session directory, with both implementations: embedded in the nodes, and in Redis.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rpc_im::{
    Conflict, DirectoryChoice, LoginError, Policy, Scope, Side,
    directory::{RedisDirectory, RedisUrl},
    envelope::ServerFrame,
};
use tests::{
    im::{Client, Cluster, LEASE, until},
    in_time,
    redis::RedisServer,
};
use tokio::time::{Instant, sleep};

/// A directory for clusters.
struct Directory {
    name: &'static str,
    choice: DirectoryChoice,
    redis: Option<RedisServer>,
}

impl Directory {
    async fn all() -> Vec<Self> {
        let mut all = vec![Self { name: "storing node", choice: DirectoryChoice::StoringNode, redis: None }];
        if let Some(redis) = RedisServer::start().await {
            all.push(Self { name: "redis", choice: redis_choice(&redis).await, redis: Some(redis) });
        }
        all
    }

    async fn cluster(&self, nodes: usize, policy: Policy) -> Cluster {
        println!("directory: {}", self.name);
        if let Some(redis) = &self.redis {
            // Removes the entries of an earlier cluster of this test.
            redis.request("FLUSHALL").await.unwrap();
        }
        let choice = self.choice.clone();
        Cluster::start_with(nodes, move |config| config.with_policy(policy).with_directory(choice.clone())).await
    }
}

async fn redis_choice(redis: &RedisServer) -> DirectoryChoice {
    let directory = RedisDirectory::connect(&RedisUrl::new(redis.url())).await.expect("redis answers");
    DirectoryChoice::Custom(Arc::new(directory))
}

fn kicked(frame: &ServerFrame) -> Option<String> {
    match frame {
        ServerFrame::Kick(kick) => Some(kick.reason.clone()),
        _ => None,
    }
}

fn presence(frame: &ServerFrame) -> Option<bool> {
    match frame {
        ServerFrame::Presence(presence) => Some(presence.online),
        _ => None,
    }
}

/// Logs in, and retries while the node rejects the login.
async fn log_in_when_free(cluster: &Cluster, node: usize, device: &str, platform: &str) -> Client {
    in_time(async {
        loop {
            match cluster.client_on(node, "ann", device, platform).await {
                Ok(client) => return client,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    })
    .await
}

#[tokio::test]
async fn login_policies_apply_across_nodes() {
    // Later logins on another node, and whether each replaces the first device's session.
    let cases = [
        (Scope::AllDevices, [("phone", "ios", true), ("pad", "ios", false), ("browser", "web", false)]),
        (Scope::OnePerPlatform, [("phone", "ios", true), ("pad", "ios", true), ("browser", "web", false)]),
        (Scope::Single, [("phone", "ios", true), ("pad", "ios", true), ("browser", "web", true)]),
    ];
    for directory in Directory::all().await {
        for (scope, others) in cases {
            let cluster = directory.cluster(2, Policy { scope, conflict: Conflict::Replace }).await;
            for (device, platform, replaces) in others {
                let mut first = cluster.client_on(0, "ann", "phone", "ios").await.unwrap();
                let mut second = cluster.client_on(1, "ann", device, platform).await.unwrap();
                if replaces {
                    assert_eq!(first.until(kicked).await, "replaced", "{scope:?}: {device}");
                    assert!(first.next().await.is_none(), "the session has ended");
                } else {
                    let bo = cluster.client(1, "bo").await;
                    bo.send(device, "ann", device);
                    first.pushed_body(device).await;
                    second.pushed_body(device).await;
                }
                drop((first, second));
                until(|| cluster.node(0).connections() + cluster.node(1).connections() == 0).await;
            }
            drop(cluster);

            let cluster = directory.cluster(2, Policy { scope, conflict: Conflict::Refuse }).await;
            for (device, platform, conflicts) in others {
                let mut first = log_in_when_free(&cluster, 0, "phone", "ios").await;
                let second = cluster.client_on(1, "ann", device, platform).await;
                if device == "phone" {
                    assert!(second.is_ok(), "a device replaces its own session under every policy");
                    first.until(kicked).await;
                } else if conflicts {
                    assert_eq!(second.err(), Some(LoginError::Taken), "{scope:?}: {device}");
                    drop(first);
                    log_in_when_free(&cluster, 1, device, platform).await;
                } else {
                    assert!(second.is_ok(), "{scope:?}: {device}");
                }
            }
        }
    }
}

#[tokio::test]
async fn concurrent_logins_of_device_leave_one_session() {
    for directory in Directory::all().await {
        let cluster = directory.cluster(2, Policy::default()).await;
        for round in 0..20 {
            let (mut one, mut other) = tokio::join!(cluster.client(0, "ann"), cluster.client(1, "ann"));
            let one_ended = tokio::select! {
                reason = one.until(kicked) => reason == "replaced",
                reason = other.until(kicked) => reason != "replaced",
            };
            let open = if one_ended { &mut other } else { &mut one };
            let bo = cluster.client(0, "bo").await;
            bo.send(&round.to_string(), "ann", "hi");
            assert_eq!(open.pushed().await.body, "hi");
        }
    }
}

#[tokio::test]
async fn late_disconnect_removes_no_newer_login() {
    for directory in Directory::all().await {
        let cluster = directory.cluster(2, Policy::default()).await;
        for round in 0..5 {
            let mut old = cluster.client(0, "ann").await;
            let mut new = cluster.client(1, "ann").await;
            old.until(kicked).await;
            drop(old);
            until(|| cluster.node(0).connections() == 0).await;
            let bo = cluster.client(0, "bo").await;
            bo.send(&round.to_string(), "ann", "still there?");
            assert_eq!(new.pushed().await.body, "still there?");
            assert_eq!(cluster.node(0).kick("ann", "next").await.unwrap(), 1, "the directory has the newer login only");
            new.until(kicked).await;
            drop((new, bo));
            until(|| cluster.node(0).connections() + cluster.node(1).connections() == 0).await;
        }
    }
}

#[tokio::test]
async fn killed_node_entries_expire_with_its_lease() {
    for directory in Directory::all().await {
        let policy = Policy { scope: Scope::Single, conflict: Conflict::Refuse };
        let mut cluster = directory.cluster(3, policy).await;
        let _old = cluster.client_on(1, "ann", "phone", "ios").await.unwrap();
        let (_side, _outbound) = in_time(cluster.node(1).pair(CHANNEL, Side::App)).await.unwrap();
        assert_eq!(cluster.client_on(0, "ann", "browser", "web").await.err(), Some(LoginError::Taken));
        let killed = Instant::now();
        cluster.kill(1);
        log_in_when_free(&cluster, 0, "browser", "web").await;
        println!("the user could log in {:?} after the kill, with a lease of {LEASE:?}", killed.elapsed());
        in_time(async { while cluster.node(2).pair(CHANNEL, Side::App).await.is_err() {} }).await;
        println!("the side of the room was free {:?} after the kill", killed.elapsed());
        assert_eq!(cluster.node(0).kick("ann", "next").await.unwrap(), 0, "the entries of the killed node are ignored");
    }
}

#[tokio::test]
async fn room_accepts_one_connection_per_side_until_it_leaves() {
    for directory in Directory::all().await {
        let cluster = directory.cluster(2, Policy::default()).await;
        let (app, mut to_app) = in_time(cluster.node(0).pair(CHANNEL, Side::App)).await.unwrap();
        let (web, mut to_web) = in_time(cluster.node(1).pair(CHANNEL, Side::Web)).await.unwrap();
        for node in [0, 1] {
            for side in [Side::App, Side::Web] {
                assert_eq!(in_time(cluster.node(node).pair(CHANNEL, side)).await.err(), Some(LoginError::Taken));
            }
        }
        app.send(Bytes::from_static(b"hi")).await.unwrap();
        assert_eq!(in_time(to_web.next()).await.unwrap()[..], *b"hi");
        web.send(Bytes::from_static(b"hi back")).await.unwrap();
        assert_eq!(in_time(to_app.next()).await.unwrap()[..], *b"hi back");
        drop((app, to_app));
        in_time(async { while cluster.node(1).pair(CHANNEL, Side::App).await.is_err() {} }).await;
    }
}

#[tokio::test]
async fn presence_reports_omit_short_absences() {
    for directory in Directory::all().await {
        let cluster = directory.cluster(2, Policy::default()).await;
        let mut ann = cluster.client(0, "ann").await;
        ann.send("c-1", "bo", "hi");
        ann.acked("c-1").await;
        let bo = cluster.client(1, "bo").await;
        assert!(ann.until(presence).await);
        drop(bo);
        let bo = cluster.client(0, "bo").await;
        bo.send("c-1", "ann", "back");
        ann.until(|frame| match frame {
            ServerFrame::Push(_) => Some(()),
            ServerFrame::Presence(presence) => panic!("{presence:?}"),
            _ => None,
        })
        .await;
        drop(bo);
        assert!(!ann.until(presence).await, "the short absence is not reported");
        let _bo = cluster.client(1, "bo").await;
        assert!(ann.until(presence).await);
    }
}

#[tokio::test]
async fn redis_outage_within_the_lease_stops_no_chat() {
    let Some(mut redis) = RedisServer::start().await else { return };
    let choice = redis_choice(&redis).await;
    let lease = Duration::from_secs(60);
    let configure = move |config: rpc_im::NodeConfig| {
        config.with_lease(lease).with_beat(lease / 100).with_directory(choice.clone())
    };
    let cluster = Cluster::start_with(3, configure).await;
    let (mut ann, mut bo) = (cluster.client(0, "ann").await, cluster.client(1, "bo").await);
    ann.send("before", "bo", "before");
    bo.pushed_body("before").await;

    redis.kill();
    // The nodes send the messages to all nodes.
    for turn in 0..5 {
        ann.send(&format!("a-{turn}"), "bo", "to bo");
        ann.acked(&format!("a-{turn}")).await;
        bo.pushed_body("to bo").await;
        bo.send(&format!("b-{turn}"), "ann", "to ann");
        bo.acked(&format!("b-{turn}")).await;
        ann.pushed_body("to ann").await;
    }
    let rejected = cluster.client_on(2, "cy", "browser", "web").await.err();
    assert!(matches!(rejected, Some(LoginError::Unavailable(_))), "logins fail: {rejected:?}");

    redis.restart().await;
    // The clients receive `lagging`, and the directory has their sessions again.
    for client in [&mut ann, &mut bo] {
        client.until(|frame| matches!(frame, ServerFrame::Lagging(_)).then_some(())).await;
    }
    for user in ["ann", "bo"] {
        assert_eq!(redis.request(&format!("HLEN im:user:{user}")).await.unwrap().trim(), ":1", "{user}");
    }
    let cy = cluster.client(2, "cy").await;
    cy.send("c-1", "bo", "hi");
    bo.pushed_body("hi").await;
}

#[tokio::test]
async fn redis_outage_beyond_the_lease_ends_all_sessions() {
    let Some(mut redis) = RedisServer::start().await else { return };
    let choice = redis_choice(&redis).await;
    let cluster = Cluster::start_with(2, move |config| config.with_directory(choice.clone())).await;
    let mut ann = cluster.client(1, "ann").await;
    redis.kill();
    while ann.next().await.is_some() {}
    until(|| !cluster.node(0).is_ready() && !cluster.node(1).is_ready()).await;
    redis.restart().await;
    until(|| cluster.node(0).is_ready() && cluster.node(1).is_ready()).await;
    let _again = cluster.client(0, "ann").await;
    assert_eq!(cluster.node(1).kick("ann", "next").await.unwrap(), 1, "the device has one session");
}

const CHANNEL: &str = "0123456789abcdef0123456789abcdef";
