//! Creates the components of a node and starts its tasks.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rpc_client::Client;
use rpc_core::{Error, Registry, contained};
use rpc_server::Server;
use tokio::{net::TcpListener, sync::Notify, task::JoinSet, time::interval};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use super::{context::NodeContext, engines::Engines};
use crate::{
    admin::{AdminServer, AdminService},
    cluster::{
        broadcast::Broadcast, delivery::Delivery, forward::ForwardService, local_node::LocalNode,
        member_cache::MemberCache, peer_link::LinkShared, router::NodeRouter, rpc::NodeForwardServer,
    },
    config::{MembershipChoice, NodeConfig},
    conversation::{appender::Appender, receipts::Receipts},
    directory::{
        lease::DirectoryLease,
        rpc::{DirectoryRpcServer, DirectoryService},
    },
    identity::{NodeId, SessionIds},
    membership::registry::{METADATA_NODE, METADATA_WEBSOCKET},
    presence::Presence,
    session::{local_sessions::LocalSessions, resync::ResyncNotifier, terminator::SessionTerminator},
    store::{
        MessageStore,
        rpc::{StoreRpcServer, StoreService},
    },
};

/// The results of [`assemble`].
pub(super) struct Assembly {
    pub(super) context: Arc<NodeContext>,
    /// Stops the server and the appends.
    pub(super) stop: CancellationToken,
    pub(super) tasks: JoinSet<()>,
}

/// Creates the components of a node and starts its tasks.
pub(super) async fn assemble(
    config: &NodeConfig,
    listener: TcpListener,
    (id, address): (NodeId, SocketAddr),
    client: Client,
    engines: &Engines,
) -> Result<Assembly, Error> {
    let name = config.name.clone().unwrap_or_else(|| address.to_string());
    let sessions = Arc::new(LocalSessions::default());
    let local = Arc::new(LocalNode::new(id, name, address, config.websocket.clone(), Arc::clone(&sessions)));
    let resync = Arc::new(ResyncNotifier::new(Arc::clone(&sessions), config.drain_rate.max(1)));
    let links = LinkShared {
        sessions: Arc::clone(&sessions),
        resync: Arc::clone(&resync),
        missed: std::sync::Mutex::default(),
        hello_done: Notify::new(),
        beat: config.beat,
        lease: config.lease,
    };
    let router = Arc::new(NodeRouter::new(Arc::clone(&local), client, Arc::new(links)));
    let terminator = Arc::new(SessionTerminator::new(Arc::clone(&local), Arc::clone(&sessions), Arc::clone(&router)));
    let lease = Arc::new(DirectoryLease::new(
        id,
        Arc::clone(&engines.directory),
        Arc::clone(&sessions),
        Arc::clone(&resync),
        config.policy,
        (config.beat, config.lease),
    ));
    let delivery = Arc::new(Delivery::new(
        Arc::clone(&local),
        Arc::clone(&sessions),
        Arc::clone(&router),
        Arc::clone(&engines.directory),
        MemberCache::new(Arc::clone(&engines.store) as _),
        Broadcast::new(Arc::clone(&router), config.backplane.clone()),
        Arc::clone(&resync),
    ));
    let stop = CancellationToken::new();
    let store: Arc<dyn MessageStore> = Arc::clone(&engines.store) as _;
    let context = NodeContext {
        presence: Arc::new(Presence::new(Arc::clone(&local), Arc::clone(&router), config.presence_delay, config.lease)),
        appender: Arc::new(Appender::new(Arc::clone(&store), Arc::clone(&delivery), stop.clone())),
        receipts: Arc::new(Receipts::new(Arc::clone(&store), Arc::clone(&delivery))),
        store,
        session_ids: SessionIds::default(),
        drain: Arc::default(),
        tasks: TaskTracker::new(),
        local,
        sessions,
        router,
        lease,
        delivery,
        terminator,
    };
    let server = listen(config, listener, &context, engines).await?;
    let context = Arc::new(context);
    let tasks = start_tasks(config, &context, server, stop.clone(), resync, engines);
    Ok(Assembly { context, stop, tasks })
}

/// Binds the services that other nodes call to the listener.
async fn listen(
    config: &NodeConfig,
    listener: TcpListener,
    context: &NodeContext,
    engines: &Engines,
) -> Result<Server, Error> {
    let forward = ForwardService {
        local: Arc::clone(&context.local),
        sessions: Arc::clone(&context.sessions),
        delivery: Arc::clone(&context.delivery),
        router: Arc::clone(&context.router),
        presence: Arc::clone(&context.presence),
    };
    let admin = AdminService {
        local: Arc::clone(&context.local),
        router: Arc::clone(&context.router),
        lease: Arc::clone(&context.lease),
        delivery: Arc::clone(&context.delivery),
        terminator: Arc::clone(&context.terminator),
        drain: Arc::clone(&context.drain),
    };
    let mut server = Server::builder().service(NodeForwardServer::new(forward)).service(AdminServer::new(admin));
    if let MembershipChoice::Registry = config.membership {
        let registry: Arc<dyn Registry> = Arc::clone(&config.registry) as _;
        server = server
            .registry(registry)
            .advertise(context.local.address())
            .metadata(METADATA_NODE, context.local.id().to_string())
            .metadata(METADATA_WEBSOCKET, &config.websocket);
    }
    if let Some(secret) = &config.secret {
        server = server.require_token(secret.accepted_tokens());
    }
    if let Some(tls) = &config.tls {
        server = server.tls(tls.server.clone());
    }
    if engines.serves_store {
        server = server.service(StoreRpcServer::new(StoreService(Arc::clone(&engines.store) as _)));
    }
    if engines.serves_directory {
        server = server.service(DirectoryRpcServer::new(DirectoryService(Arc::clone(&engines.directory))));
    }
    server.listen(listener).await
}

/// Starts the node's tasks. The server's task is the first one that ends after `stop`.
fn start_tasks(
    config: &NodeConfig,
    context: &Arc<NodeContext>,
    server: Server,
    stop: CancellationToken,
    resync: Arc<ResyncNotifier>,
    engines: &Engines,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        if let Err(error) = server.run_until(stop.cancelled_owned()).await {
            contained(|| error!(%error, "the registry rejected the registration of this node"));
        }
    });
    let (node, members) = (Arc::clone(context), engines.membership.watch());
    tasks.spawn(async move { node.router.run(members).await });
    let node = Arc::clone(context);
    tasks.spawn(async move { node.lease.run().await });
    let node = Arc::clone(context);
    tasks.spawn(async move { node.delivery.run().await });
    let node = Arc::clone(context);
    tasks.spawn(async move { node.terminator.run().await });
    let node = Arc::clone(context);
    tasks.spawn(async move { node.receipts.run().await });
    let node = Arc::clone(context);
    tasks.spawn(async move { node.presence.run(&node.delivery, &*node.store).await });
    tasks.spawn(async move { resync.run().await });
    let (store, beat) = (Arc::clone(&engines.store), config.beat);
    tasks.spawn(async move { store.run(beat).await });
    if let Some(age) = config.retain {
        let store = Arc::clone(&engines.store);
        tasks.spawn(async move { remove_old_messages(&*store, age).await });
    }
    tasks
}

/// Removes messages that are older than `age`, until dropped.
async fn remove_old_messages(store: &dyn MessageStore, age: Duration) {
    let mut checks = interval(RETENTION_INTERVAL);
    loop {
        checks.tick().await;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let before = now.saturating_sub(age).as_millis() as u64;
        let mut removed = 0;
        loop {
            match store.remove_before(before, REMOVED_AT_ONCE).await {
                Ok(0) => break,
                Ok(count) => removed += count,
                Err(error) => {
                    contained(|| warn!(%error, "removing old messages failed; retrying in {RETENTION_INTERVAL:?}"));
                    break;
                }
            }
        }
        if removed > 0 {
            contained(|| info!(removed, ?age, "removed old messages"));
        }
    }
}

/// The interval at which old messages are removed.
const RETENTION_INTERVAL: Duration = Duration::from_secs(600);
/// The maximum number of messages that one call removes.
const REMOVED_AT_ONCE: usize = 1000;
