//! The edge: the port of a node to which clients connect by HTTP and WebSocket.
//!
//! | topic | module |
//! |---|---|
//! | accept loop, shutdown | this file |
//! | HTTP requests, login, node selection | `http.rs`, `login.rs`, `gate.rs`, `answer.rs` |
//! | the address of a client, the origin of its page | `address.rs`, `origin.rs` |
//! | TLS | `tls.rs`, `stream.rs` |
//! | WebSocket upgrade and close | `websocket.rs` |
//! | chat page | `page/` |
//! | session of a client | `client.rs` |
//! | one side of a pairing room | `room.rs` |
//! | limits of the requests of a user | `account_limits.rs` |
//! | timeouts | `watch.rs` |
//! | limits of connections, shared state | `slots.rs`, `entering.rs`, `shared.rs` |
//! | metrics | `metrics.rs` |

mod account_limits;
mod address;
mod answer;
mod client;
mod config;
mod entering;
mod gate;
mod http;
mod login;
mod metrics;
mod origin;
mod page;
mod room;
mod shared;
mod slots;
mod stream;
mod tls;
mod watch;
mod websocket;

pub use config::EdgeConfig;
pub use tls::EdgeTls;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rpc_core::{TokenBucket, contained};
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use crate::{
    Node,
    auth::{Accounts, LoginGuard, Secret},
    rates::RateTable,
};
use account_limits::AccountLimits;
use entering::Entering;
use metrics::Metrics;
use shared::{AdmittedConnection, Shared};
use slots::Slots;
use stream::ClientStream;
use tls::Acceptor;
use watch::Watchdog;

/// The listener for the clients of a node.
pub struct Edge {
    listener: TcpListener,
    config: EdgeConfig,
    tls: Option<Arc<Acceptor>>,
}

impl Edge {
    /// Binds the listener. Connections wait until [`run_until`](Self::run_until) accepts them.
    ///
    /// # Errors
    ///
    /// Returns an error if the address cannot be bound, or if the files of [`EdgeConfig::tls`] are unusable.
    pub async fn bind(listen: SocketAddr, config: EdgeConfig) -> io::Result<Self> {
        let tls = config.tls.clone().map(Acceptor::new).transpose()?;
        Ok(Self { listener: TcpListener::bind(listen).await?, config, tls })
    }

    /// Returns the address of the listener.
    ///
    /// # Errors
    ///
    /// Returns an error if the system does not report the address.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves the clients of `node` until `stop` is ready, then drains the node (see [`Node::drain`]).
    ///
    /// The edge accepts connections until the drain has finished, so that health checks and late clients get a
    /// response. Connections that are still open 3 s later are closed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, all connections are closed immediately.
    pub async fn run_until(self, node: Arc<Node>, secret: Secret, accounts: Accounts, stop: impl Future<Output = ()>) {
        let Self { listener, config, tls } = self;
        let (tasks, abort, watchdog) = (TaskTracker::new(), CancellationToken::new(), Watchdog::new());
        let _abort = abort.clone().drop_guard();
        let shared = Arc::new(Shared {
            node: Arc::clone(&node),
            secret,
            accounts,
            guard: LoginGuard::new(),
            limits: AccountLimits::new(&config),
            connections: Slots::new(config.max_connections, config.max_connections_per_ip),
            entering: Entering::new(config.max_entering, config.max_entering_per_ip),
            rooms: Slots::new(config.max_rooms, config.max_rooms_per_ip),
            room_rate: RateTable::new(MAX_ROOM_REQUESTS, ROOM_REQUESTS_PER_SECOND),
            config,
            tls,
            metrics: Metrics::default(),
            watchdog: Arc::clone(&watchdog),
            tasks: tasks.clone(),
            abort,
        });
        let serving = async {
            tokio::select! {
                () = accept(&listener, &shared) => {}
                () = stop => {}
            }
            // Accept connections during the drain: health checks need a response, and the node itself rejects new
            // logins.
            tokio::select! {
                () = accept(&listener, &shared) => {}
                () = node.drain() => {}
            }
            tasks.close();
            let _ = tokio::time::timeout(CLOSE_TIME, tasks.wait()).await;
        };
        // The sweep never ends by itself.
        tokio::select! {
            () = serving => {}
            () = watchdog.sweep(&shared.config) => {}
        }
    }
}

/// Accepts connections forever.
async fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut warnings = TokenBucket::new(1.0, WARNINGS_PER_SECOND, Instant::now());
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => match AdmittedConnection::new(shared, peer.ip()) {
                Ok(connection) => serve(stream, connection),
                Err(_) => {
                    shared.metrics.connections_refused.fetch_add(1, Relaxed);
                }
            },
            Err(error) => {
                // The process is most likely out of file descriptors: wait until other connections close.
                if warnings.take(Instant::now()).is_ok() {
                    contained(|| warn!(%error, "cannot accept a client connection; retrying every {ACCEPT_PAUSE:?}"));
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves HTTP on one connection, until it ends or becomes a WebSocket.
fn serve(stream: TcpStream, connection: AdmittedConnection) {
    // Each write is a complete small frame: Nagle's algorithm would only delay it.
    let _ = stream.set_nodelay(true);
    let shared = Arc::clone(&connection.shared);
    let connection = Arc::new(connection);
    let (abort, displaced) = (shared.abort.clone(), connection.displaced.clone());
    let http_time = shared.config.http_time;
    let service = service_fn(move |request| http::respond(Arc::clone(&connection), request));
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        let stream = tokio::select! {
            stream = secured(stream, &shared) => stream,
            () = abort.cancelled() => return,
            () = displaced.cancelled() => return count_displaced(&shared),
        };
        let Some(stream) = stream else { return };
        let http_connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(http_time)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut http_connection = std::pin::pin!(http_connection);
        // Ignore errors: the client causes them, and hyper has sent it the error response.
        tokio::select! {
            _ = http_connection.as_mut() => return,
            () = abort.cancelled() => return,
            () = displaced.cancelled() => return count_displaced(&shared),
            () = tokio::time::sleep(HTTP_LIFE) => http_connection.as_mut().graceful_shutdown(),
        }
        tokio::select! {
            _ = http_connection => {}
            () = abort.cancelled() => {}
            () = displaced.cancelled() => count_displaced(&shared),
            () = tokio::time::sleep(http_time) => {}
        }
    });
}

fn count_displaced(shared: &Shared) {
    shared.metrics.connections_displaced.fetch_add(1, Relaxed);
}

/// Performs the TLS handshake, if the edge uses TLS; returns `None` if it fails or takes too long.
async fn secured(stream: TcpStream, shared: &Shared) -> Option<ClientStream> {
    let Some(tls) = &shared.tls else { return Some(ClientStream::Plain(stream)) };
    let handshake = tokio::time::timeout(shared.config.http_time, Box::pin(tls.accept(stream)));
    match handshake.await {
        Ok(Ok(stream)) => Some(ClientStream::Tls(stream)),
        Ok(Err(_)) | Err(_) => {
            shared.metrics.handshakes_failed.fetch_add(1, Relaxed);
            None
        }
    }
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edge").field("listener", &self.listener).finish_non_exhaustive()
    }
}

/// The time for which an HTTP connection accepts further requests.
const HTTP_LIFE: Duration = Duration::from_secs(60);
/// The maximum number of headers of a request.
const MAX_HEADERS: usize = 64;
/// The maximum length of a request head, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// The maximum number of requests for pairing rooms of one address that are saved up, and their rate.
const MAX_ROOM_REQUESTS: f64 = 100.0;
const ROOM_REQUESTS_PER_SECOND: f64 = 10.0;
/// The time within which connections must end after the drain.
const CLOSE_TIME: Duration = Duration::from_secs(3);
/// The pause after an accept failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The rate of warnings while connections cannot be accepted.
const WARNINGS_PER_SECOND: f64 = 0.1;
