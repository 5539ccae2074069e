//! Creates the components of a node and starts its tasks.

use std::{net::SocketAddr, sync::Arc};

use rpc_client::{Client, ClientConfig};
use rpc_core::{Code, Discovery, Error, Registry, contained};
use rpc_server::Server;
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::error;

use super::context::NodeContext;
use crate::{
    cluster::{
        delivery::{Delivery, MAX_UNDELIVERED},
        forward::ForwardService,
        local_node::LocalNode,
        message::Undelivered,
        router::NodeRouter,
        rpc::NodeForwardServer,
    },
    config::NodeConfig,
    conversation::{
        ConversationRpcServer, ConversationService, Conversations,
        context::{ActiveConversations, ConversationContext},
    },
    directory::{
        Directory,
        authority::AuthorityServer,
        embedded::{AuthorityService, EmbeddedDirectory},
        redis::{NodeLease, RedisDirectory},
        reports::ReportedNodes,
    },
    identity::{NodeKey, SessionId},
    presence::Presence,
    session::{local_sessions::LocalSessions, resync::ResyncNotifier, terminator::SessionTerminator},
    snowflake::Snowflake,
    store::{Store, StoreError},
};

/// The results of [`assemble`].
pub(super) struct Assembly {
    pub(super) context: Arc<NodeContext>,
    /// Stops the server.
    pub(super) stop: CancellationToken,
    pub(super) tasks: JoinSet<()>,
}

/// Creates the components of a node and starts its tasks. With a lease, the directory is in Redis.
pub(super) async fn assemble(
    config: &NodeConfig,
    listener: TcpListener,
    (key, address): (NodeKey, SocketAddr),
    lease: Option<NodeLease>,
    store: Arc<dyn Store>,
    ids: Arc<Snowflake>,
) -> Result<Assembly, Error> {
    let client = Client::builder().config(ClientConfig::default().with_cache_directory(None)).build()?;
    let sessions = Arc::new(LocalSessions::default());
    let local = Arc::new(LocalNode::new(key, address, config.websocket.clone(), Arc::clone(&sessions)));
    let (undelivered, failed) = mpsc::channel(MAX_UNDELIVERED);
    let resync = Arc::new(ResyncNotifier::new(Arc::clone(&sessions), config.drain_rate.max(1)));
    let times = (config.beat, config.lease);
    let router = Arc::new(NodeRouter::new(Arc::clone(&local), client, undelivered.clone(), Arc::clone(&resync), times));
    let nodes = store.nodes().await.map_err(store_error)?;
    router.expect_nodes(usize::try_from(nodes).unwrap_or(usize::MAX));
    let terminator = Arc::new(SessionTerminator::new(Arc::clone(&local), Arc::clone(&sessions), Arc::clone(&router)));
    let reported = Arc::new(ReportedNodes::default());
    let (directory, embedded): (Arc<dyn Directory>, _) = match lease {
        None => {
            let next_session = {
                let ids = Arc::clone(&ids);
                move || SessionId(ids.next())
            };
            let embedded = Arc::new(EmbeddedDirectory::new(
                Arc::clone(&local),
                Arc::clone(&router),
                Arc::clone(&sessions),
                Arc::clone(&terminator),
                Arc::clone(&reported),
                config.policy,
                next_session,
            ));
            (Arc::clone(&embedded) as _, Some(embedded))
        }
        Some(lease) => {
            let redis = RedisDirectory::new(
                lease,
                Arc::clone(&router),
                Arc::clone(&sessions),
                Arc::clone(&terminator),
                Arc::clone(&resync),
                config.policy,
            );
            (Arc::new(redis), None)
        }
    };
    let delivery = Arc::new(Delivery::new(
        Arc::clone(&local),
        Arc::clone(&sessions),
        Arc::clone(&router),
        Arc::clone(&directory),
        undelivered,
    ));
    let presence = Arc::new(Presence::new(Arc::clone(&local), Arc::clone(&router), config.presence_delay));
    let conversations = Arc::new(Conversations::new(ConversationContext {
        local: Arc::clone(&local),
        router: Arc::clone(&router),
        store,
        delivery: Arc::clone(&delivery),
        ids: Arc::clone(&ids),
        copies: config.copies,
        active: ActiveConversations::default(),
    }));
    let tasks = TaskTracker::new();
    let context =
        NodeContext { local, sessions, router, directory, delivery, terminator, conversations, presence, ids, tasks };
    let server = listen(config, listener, (key, address), &context, reported, embedded).await?;
    let (context, stop) = (Arc::new(context), CancellationToken::new());
    let tasks = start_tasks(config, &context, server, stop.clone(), resync, failed);
    Ok(Assembly { context, stop, tasks })
}

pub(super) fn store_error(error: StoreError) -> Error {
    Error::not_executed(Code::Unavailable, error.to_string()).with_source(error)
}

/// Binds the services that other nodes call to the listener.
async fn listen(
    config: &NodeConfig,
    listener: TcpListener,
    (key, address): (NodeKey, SocketAddr),
    context: &NodeContext,
    reported: Arc<ReportedNodes>,
    embedded: Option<Arc<EmbeddedDirectory>>,
) -> Result<Server, Error> {
    let forward = ForwardService {
        local: Arc::clone(&context.local),
        sessions: Arc::clone(&context.sessions),
        reported,
        router: Arc::clone(&context.router),
        presence: Arc::clone(&context.presence),
    };
    let registry: Arc<dyn Registry> = Arc::clone(&config.registry) as _;
    let mut server = Server::builder()
        .registry(registry)
        .advertise(address)
        .metadata("im-node", key.id.to_string())
        .metadata("im-epoch", key.epoch.0.to_string())
        .metadata("im-websocket", &config.websocket)
        .service(NodeForwardServer::new(forward))
        .service(ConversationRpcServer::new(ConversationService(Arc::clone(&context.conversations))));
    if let Some(embedded) = embedded {
        server = server.service(AuthorityServer::new(AuthorityService(embedded)));
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
    failed: mpsc::Receiver<Undelivered>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        if let Err(error) = server.run_until(stop.cancelled_owned()).await {
            contained(|| error!(%error, "the registry rejected the registration of this node"));
        }
    });
    let discovery: Arc<dyn Discovery> = Arc::clone(&config.registry) as _;
    let node = Arc::clone(context);
    tasks.spawn(async move { node.router.run(discovery).await });
    let node = Arc::clone(context);
    tasks.spawn(async move { node.directory.run().await });
    let node = Arc::clone(context);
    tasks.spawn(async move { node.delivery.run(failed).await });
    let node = Arc::clone(context);
    tasks.spawn(async move { node.terminator.run().await });
    let node = Arc::clone(context);
    tasks.spawn(async move { node.conversations.run().await });
    let node = Arc::clone(context);
    tasks.spawn(async move { node.presence.run(&node.delivery, &node.conversations).await });
    tasks.spawn(async move { resync.run().await });
    tasks
}
