//! How a node is put together of its parts.

use std::{net::SocketAddr, sync::Arc};

use rpc_client::{Client, ClientConfig};
use rpc_core::{Discovery, Error, Registry};
use rpc_server::Server;
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info};

use super::{Node, Parts};
use crate::{
    cluster::delivery::{Delivery, MAX_RETURNED},
    cluster::forward::{Forward, NodeForwardServer},
    cluster::local_node::Me,
    cluster::router::NodeRouter,
    config::NodeConfig,
    conversation::{HomeOf, HomeServer, Homes, Shared, Working},
    directory::{
        Directory,
        embedded::{AuthorityOf, AuthorityServer, Embedded, Told},
        redis::{Lease, RedisDirectory},
    },
    identity::{NodeKey, SessionId},
    presence::Presence,
    session::local_sessions::Sessions,
    session::resync::Doubt,
    session::terminator::Kicks,
    snowflake::Snowflake,
    store::Store,
};

/// A node of its parts, and its tasks begun. With a lease its directory is in Redis.
pub(super) async fn assemble(
    config: NodeConfig,
    listener: TcpListener,
    (key, address): (NodeKey, SocketAddr),
    lease: Option<Lease>,
    store: Arc<dyn Store>,
    ids: Arc<Snowflake>,
) -> Result<Node, Error> {
    let client = Client::builder().config(ClientConfig::default().with_cache_directory(None)).build()?;
    let sessions = Arc::new(Sessions::default());
    let me = Arc::new(Me::new(key, address, config.websocket.clone(), Arc::clone(&sessions)));
    let (returns, returned) = mpsc::channel(MAX_RETURNED);
    let drain_rate = config.drain_rate.max(1);
    let doubt = Arc::new(Doubt::new(Arc::clone(&sessions), drain_rate));
    let times = (config.beat, config.lease);
    let router = Arc::new(NodeRouter::new(Arc::clone(&me), client, returns.clone(), Arc::clone(&doubt), times));
    let nodes = store.nodes().await.map_err(super::store_error)?;
    router.expect(usize::try_from(nodes).unwrap_or(usize::MAX));
    let kicks = Arc::new(Kicks::new(Arc::clone(&me), Arc::clone(&sessions), Arc::clone(&router)));
    let told = Arc::new(Told::default());
    let (directory, embedded): (Arc<dyn Directory>, _) = match lease {
        None => {
            let embedded = Arc::new(Embedded::new(
                Arc::clone(&me),
                Arc::clone(&router),
                Arc::clone(&sessions),
                Arc::clone(&kicks),
                Arc::clone(&told),
                config.policy,
                {
                    let ids = Arc::clone(&ids);
                    move || SessionId(ids.next())
                },
            ));
            (Arc::clone(&embedded) as _, Some(embedded))
        }
        Some(lease) => {
            let redis = RedisDirectory::new(
                lease,
                Arc::clone(&router),
                Arc::clone(&sessions),
                Arc::clone(&kicks),
                Arc::clone(&doubt),
                config.policy,
            );
            (Arc::new(redis), None)
        }
    };
    let delivery = Arc::new(Delivery::new(
        Arc::clone(&me),
        Arc::clone(&sessions),
        Arc::clone(&router),
        Arc::clone(&directory),
        returns,
    ));
    let presence = Arc::new(Presence::new(Arc::clone(&me), Arc::clone(&router), config.presence_delay));
    let homes = Arc::new(Homes(Arc::new(Shared {
        me: Arc::clone(&me),
        router: Arc::clone(&router),
        store,
        delivery: Arc::clone(&delivery),
        ids: Arc::clone(&ids),
        copies: config.copies,
        working: Working::default(),
    })));
    let forward = Forward {
        me: Arc::clone(&me),
        sessions: Arc::clone(&sessions),
        told,
        router: Arc::clone(&router),
        presence: Arc::clone(&presence),
    };
    let registry: Arc<dyn Registry> = Arc::clone(&config.registry) as _;
    let mut server = Server::builder()
        .registry(registry)
        .advertise(address)
        .metadata("im-node", key.id.to_string())
        .metadata("im-epoch", key.epoch.0.to_string())
        .metadata("im-websocket", &config.websocket)
        .service(NodeForwardServer::new(forward))
        .service(HomeServer::new(HomeOf(Arc::clone(&homes))));
    if let Some(embedded) = embedded {
        server = server.service(AuthorityServer::new(AuthorityOf(embedded)));
    }
    let server = server.listen(listener).await?;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let parts = Arc::new(Parts { me, sessions, router, directory, delivery, kicks, homes, presence, ids, tasks });
    let mut tasks = JoinSet::new();
    let stopped = stop.clone().cancelled_owned();
    tasks.spawn(async move {
        if let Err(error) = server.run_until(stopped).await {
            error!(%error, "the registry refuses this node");
        }
    });
    let discovery: Arc<dyn Discovery> = Arc::clone(&config.registry) as _;
    let of = Arc::clone(&parts);
    tasks.spawn(async move { of.router.run(discovery).await });
    let of = Arc::clone(&parts);
    tasks.spawn(async move { of.directory.run().await });
    let of = Arc::clone(&parts);
    tasks.spawn(async move { of.delivery.run(returned).await });
    let of = Arc::clone(&parts);
    tasks.spawn(async move { of.kicks.run().await });
    let of = Arc::clone(&parts);
    tasks.spawn(async move { of.homes.run().await });
    let of = Arc::clone(&parts);
    tasks.spawn(async move { of.presence.run(&of.delivery, &of.homes).await });
    tasks.spawn(async move { doubt.run().await });
    info!(node = %key, %address, "a node has started");
    Ok(Node { parts, rpc_address: address, stop, drain_rate, tasks: tasks.into() })
}
