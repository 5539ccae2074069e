//! The directory in Redis, where it differs from other engines: lost data, credentials, an unreachable server.

use std::time::Duration;

use rpc_core::Code;
use rpc_im::{
    NodeId, SessionId,
    directory::{ClaimError, Directory as _, Policy, RedisDirectory, RedisUrl, Renewal, SessionEntry},
};
use tests::im_contract;
use tests::{
    in_time,
    redis::RedisServer,
    relay::{Mode, Relay, free_address},
    until_ok,
};

#[tokio::test(flavor = "multi_thread")]
async fn redis_passes_the_directory_contract() {
    let Some(server) = RedisServer::start().await else { return };
    let mut nodes = Vec::<std::sync::Arc<dyn rpc_im::directory::Directory>>::new();
    for _ in 0..3 {
        nodes.push(std::sync::Arc::new(directory(&server).await));
    }
    im_contract::directory::check(&nodes).await;
}

fn entry(user: &str, device: &str, node: u64, session: u64) -> SessionEntry {
    let (user, device, platform) = (user.to_owned(), device.to_owned(), "web".to_owned());
    SessionEntry { user, device, platform, node: NodeId(node), session: SessionId(session) }
}

async fn directory(server: &RedisServer) -> RedisDirectory {
    RedisDirectory::connect(&RedisUrl::new(server.url())).await.unwrap()
}

/// Renews the lease of a node after the connection was lost, which the first attempt may detect.
async fn renew(directory: &RedisDirectory, node: u64) -> Renewal {
    until_ok(async || directory.renew(NodeId(node), LEASE).await).await
}

async fn sessions(directory: &RedisDirectory, user: &str) -> Vec<SessionEntry> {
    directory.lookup(vec![user.to_owned()]).await.unwrap().remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_without_data_changes_incarnation() {
    let Some(mut server) = RedisServer::start().await else { return };
    let directory = directory(&server).await;
    let first = directory.renew(NodeId(1), LEASE).await.unwrap();
    let ann = entry("ann", "phone", 1, 1);
    directory.claim(ann.clone(), Policy::default()).await.unwrap();
    server.restart().await;
    let second = renew(&directory, 1).await;
    assert_ne!(first.incarnation, second.incarnation);
    assert_eq!(sessions(&directory, "ann").await, []);
    assert_eq!(directory.restore(NodeId(1), vec![ann.clone()], Policy::default()).await, Ok(vec![]));
    assert_eq!(sessions(&directory, "ann").await, [ann]);
    let third = directory.renew(NodeId(1), LEASE).await.unwrap();
    assert_eq!(second.incarnation, third.incarnation);
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_from_older_file_changes_incarnation() {
    let Some(mut server) = RedisServer::start().await else { return };
    let directory = directory(&server).await;
    let first = directory.renew(NodeId(1), LEASE).await.unwrap();
    directory.renew(NodeId(2), LEASE).await.unwrap();
    let (earlier, later) = (entry("ann", "phone", 1, 1), entry("ann", "phone", 2, 2));
    directory.claim(earlier.clone(), Policy::default()).await.unwrap();
    server.save().await;
    let replaced = directory.claim(later.clone(), Policy::default()).await.unwrap();
    assert_eq!(replaced, std::slice::from_ref(&earlier));
    server.restart_from_file().await;

    let second = renew(&directory, 2).await;
    assert_ne!(first.incarnation, second.incarnation);
    assert!(!second.acquired, "the file has the lease");
    assert_eq!(sessions(&directory, "ann").await, std::slice::from_ref(&earlier));
    assert_eq!(directory.restore(NodeId(2), vec![later.clone()], Policy::default()).await, Ok(vec![]));
    let renewal = directory.renew(NodeId(1), LEASE).await.unwrap();
    assert_eq!(renewal.incarnation, second.incarnation);
    assert_eq!(renewal.replaced, [earlier.session]);
    let losers = directory.restore(NodeId(1), vec![earlier.clone()], Policy::default()).await;
    assert_eq!(losers, Ok(vec![earlier.session]));
    assert_eq!(sessions(&directory, "ann").await, [later]);
}

#[tokio::test(flavor = "multi_thread")]
async fn flushall_changes_incarnation() {
    let Some(server) = RedisServer::start().await else { return };
    let directory = directory(&server).await;
    let first = directory.renew(NodeId(1), LEASE).await.unwrap();
    server.request("FLUSHALL").await.unwrap();
    let claim = directory.claim(entry("ann", "phone", 1, 1), Policy::default()).await;
    assert_eq!(claim, Err(ClaimError::NoLease));
    let second = directory.renew(NodeId(1), LEASE).await.unwrap();
    assert_ne!(first.incarnation, second.incarnation);
    assert!(second.acquired);
}

#[tokio::test(flavor = "multi_thread")]
async fn promoted_replica_changes_incarnation() {
    let Some(server) = RedisServer::start().await else { return };
    let directory = directory(&server).await;
    let first = directory.renew(NodeId(1), LEASE).await.unwrap();
    let other = free_address();
    server.request(&format!("REPLICAOF {} {}", other.ip(), other.port())).await.unwrap();
    let rejected = directory.renew(NodeId(1), LEASE).await.unwrap_err();
    assert!(rejected.to_string().contains("read only replica"), "{rejected}");
    server.request("REPLICAOF NO ONE").await.unwrap();
    let second = directory.renew(NodeId(1), LEASE).await.unwrap();
    assert_ne!(first.incarnation, second.incarnation);
    assert!(!second.acquired);
}

#[tokio::test(flavor = "multi_thread")]
async fn renewals_remove_entries_of_expired_nodes() {
    let Some(server) = RedisServer::start().await else { return };
    let directory = directory(&server).await;
    directory.renew(NodeId(1), LEASE).await.unwrap();
    for number in 0..300 {
        let user = format!("user{number}");
        directory.claim(entry(&user, "phone", 1, number), Policy::default()).await.unwrap();
    }
    directory.leave(NodeId(1)).await.unwrap();
    assert_eq!(sessions(&directory, "user7").await, []);
    for _ in 0..2 {
        directory.renew(NodeId(2), LEASE).await.unwrap();
    }
    // The lease of node 2, the nodes and the incarnation.
    assert_eq!(server.request("DBSIZE").await.unwrap(), ":3\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_logins_of_a_device_have_one_winner() {
    let Some(server) = RedisServer::start().await else { return };
    let (one, other) = (directory(&server).await, directory(&server).await);
    for node in 0..8 {
        one.renew(NodeId(node), LEASE).await.unwrap();
    }
    let claims = (0..8).map(|node| {
        let directory = if node % 2 == 0 { &one } else { &other };
        directory.claim(entry("ann", "phone", node, node), Policy::default())
    });
    let outcomes = futures_util::future::join_all(claims).await;
    let mut replaced: Vec<_> = outcomes.into_iter().flat_map(Result::unwrap).collect();
    let winner = sessions(&one, "ann").await;
    assert_eq!(winner.len(), 1);
    for node in 0..8 {
        let reported = one.renew(NodeId(node), LEASE).await.unwrap().replaced;
        let expected = if node == winner[0].session.0 { vec![] } else { vec![SessionId(node)] };
        assert_eq!(reported, expected, "{node}");
    }
    replaced.extend(winner);
    replaced.sort_by_key(|entry| entry.session);
    assert_eq!(replaced, (0..8).map(|node| entry("ann", "phone", node, node)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_password_is_not_in_the_error() {
    let Some(server) = RedisServer::start().await else { return };
    server.request("CONFIG SET requirepass right").await.unwrap();
    let address = server.url().strip_prefix("redis://").unwrap().to_owned();
    let right = RedisUrl::new(format!("redis://:right@{address}"));
    assert!(RedisDirectory::connect(&right).await.is_ok());
    let wrong = RedisUrl::new(format!("redis://:hunter2@{address}"));
    let error = RedisDirectory::connect(&wrong).await.err().unwrap();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.to_string().contains(&address), "{error}");
    let malformed = RedisDirectory::connect(&RedisUrl::new("redis://:hunter2@[")).await.err().unwrap();
    assert_eq!(malformed.code(), Code::InvalidArgument);
    for text in [format!("{error:?}{error}"), format!("{malformed:?}{malformed}"), format!("{wrong:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn evicting_server_is_rejected() {
    let Some(server) = RedisServer::start().await else { return };
    server.request("CONFIG SET maxmemory-policy allkeys-lru").await.unwrap();
    let error = RedisDirectory::connect(&RedisUrl::new(server.url())).await.err().unwrap();
    assert_eq!(error.code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_server_fails_every_operation() {
    let nobody = RedisUrl::new(format!("redis://{}", free_address()));
    let error = in_time(RedisDirectory::connect(&nobody)).await.err().unwrap();
    assert_eq!(error.code(), Code::Unavailable);

    let Some(mut server) = RedisServer::start().await else { return };
    let directory = directory(&server).await;
    directory.renew(NodeId(1), LEASE).await.unwrap();
    server.kill();
    let ann = entry("ann", "phone", 1, 1);
    in_time(async {
        for _ in 0..2 {
            let claim = directory.claim(ann.clone(), Policy::default()).await;
            assert!(matches!(claim, Err(ClaimError::Unavailable(_))), "{claim:?}");
            assert!(directory.lookup(vec!["ann".to_owned()]).await.is_err());
            assert!(directory.release(vec![ann.clone()]).await.is_err());
            assert!(directory.restore(NodeId(1), vec![ann.clone()], Policy::default()).await.is_err());
            assert!(directory.renew(NodeId(1), LEASE).await.is_err());
            assert!(directory.leave(NodeId(1)).await.is_err());
        }
    })
    .await;
    server.restart().await;
    assert!(renew(&directory, 1).await.acquired);
    assert!(directory.claim(ann, Policy::default()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_server_fails_every_operation() {
    let Some(server) = RedisServer::start().await else { return };
    let relay = Relay::to(server.url().strip_prefix("redis://").unwrap().parse().unwrap()).await;
    let directory = RedisDirectory::connect(&RedisUrl::new(format!("redis://{}", relay.address()))).await.unwrap();
    directory.renew(NodeId(1), LEASE).await.unwrap();
    relay.set(Mode::BlackHole).await;
    in_time(async {
        let stalled = directory.lookup(vec!["ann".to_owned()]).await.unwrap_err();
        assert!(stalled.to_string().ends_with("no answer within 1 s"), "{stalled}");
        let next = directory.claim(entry("ann", "phone", 1, 1), Policy::default()).await.unwrap_err();
        assert!(next.to_string().ends_with("not connected"), "{next}");
        let renewal = directory.renew(NodeId(1), LEASE).await.unwrap_err();
        assert!(renewal.to_string().ends_with("no answer within 1 s"), "{renewal}");
    })
    .await;
    relay.set(Mode::Pass).await;
    assert!(!renew(&directory, 1).await.acquired);
    assert_eq!(sessions(&directory, "ann").await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_requires_a_server_with_tls() {
    let Some(server) = RedisServer::start().await else { return };
    let url = RedisUrl::new(server.url().replace("redis:", "rediss:"));
    let error = in_time(RedisDirectory::connect(&url)).await.err().unwrap();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
}

const LEASE: Duration = Duration::from_secs(60);
