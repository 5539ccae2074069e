//! The edge: where clients connect, by HTTP and WebSocket on one port.
//!
//! | question | file |
//! |---|---|
//! | who is answered what over HTTP? | `http.rs`, `gate.rs` |
//! | how does a request become a WebSocket? | `websocket.rs` |
//! | what does a client's session do? | `client.rs` |
//! | and a side of a pairing room? | `room.rs` |
//! | who is closed for doing nothing, or too much? | `watch.rs`, `allowance.rs` |
//! | what is counted? | `metrics.rs` |

mod allowance;
mod answer;
mod client;
mod config;
mod gate;
mod http;
mod metrics;
mod room;
mod shared;
mod watch;
mod websocket;

pub use config::EdgeConfig;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Node,
    auth::{Accounts, Secret},
};
use metrics::Metrics;
use shared::{Booked, Shared};
use watch::Watch;

/// The port of a node that clients connect to.
#[derive(Debug)]
pub struct Edge {
    listener: TcpListener,
    config: EdgeConfig,
}

impl Edge {
    /// Listens; connections wait until [`run_until`](Self::run_until) takes them.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound.
    pub async fn bind(listen: SocketAddr, config: EdgeConfig) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(listen).await?, config })
    }

    /// The address that it listens at.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves clients of `node` until `stop` is ready. Then it accepts no more, drains the node (see [`Node::drain`]), and ends.
    ///
    /// # Cancel safety
    ///
    /// Dropped, all connections end at once.
    pub async fn run_until(self, node: Arc<Node>, secret: Secret, accounts: Accounts, stop: impl Future<Output = ()>) {
        let Self { listener, config } = self;
        let (tasks, abort, watch) = (TaskTracker::new(), CancellationToken::new(), Watch::new());
        let _abort = abort.clone().drop_guard();
        let shared = Arc::new(Shared {
            node: Arc::clone(&node),
            secret,
            accounts,
            connections: Arc::new(Semaphore::new(config.max_connections)),
            logins: Arc::new(Semaphore::new(config.max_entering)),
            config,
            metrics: Metrics::default(),
            watch: Arc::clone(&watch),
            tasks: tasks.clone(),
            abort,
        });
        let serving = async {
            tokio::select! {
                () = accept(&listener, &shared) => {}
                () = stop => {}
            }
            // Health is asked for, and the last clients are let in, until the node itself takes no more.
            tokio::select! {
                () = accept(&listener, &shared) => {}
                () = node.drain() => {}
            }
            tasks.close();
            let _ = tokio::time::timeout(FAREWELL, tasks.wait()).await;
        };
        // Whichever ends first: the sweep does not.
        tokio::select! {
            () = serving => {}
            () = watch.sweep(&shared.config) => {}
        }
    }
}

/// Accepts for ever.
async fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match Booked::new(shared) {
                Ok(booked) => serve(stream, booked),
                Err(_) => {
                    shared.metrics.connections_refused.fetch_add(1, Relaxed);
                }
            },
            Err(error) => {
                // Out of files, most likely: others must end first.
                tracing::warn!(%error, "no connection can be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers HTTP on one connection, until it ends or becomes a WebSocket.
fn serve(stream: TcpStream, booked: Booked) {
    // Frames are small and written as wholes.
    let _ = stream.set_nodelay(true);
    let shared = Arc::clone(&booked.shared);
    let booked = Arc::new(booked);
    let abort = shared.abort.clone();
    let http_time = shared.config.http_time;
    let service = service_fn(move |request| http::answer(Arc::clone(&booked), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(http_time)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    shared.tasks.spawn(async move {
        let mut connection = std::pin::pin!(connection);
        // What fails here is the client's; hyper has told it.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = abort.cancelled() => return,
            () = tokio::time::sleep(HTTP_LIFE) => connection.as_mut().graceful_shutdown(),
        }
        tokio::select! {
            _ = connection => {}
            () = abort.cancelled() => {}
            () = tokio::time::sleep(http_time) => {}
        }
    });
}

/// How long an HTTP connection is kept open for further requests.
const HTTP_LIFE: Duration = Duration::from_secs(60);
/// The most headers of a request.
const MAX_HEADERS: usize = 64;
/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// How long connections have to end once their node has said all.
const FAREWELL: Duration = Duration::from_secs(3);
/// The pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
