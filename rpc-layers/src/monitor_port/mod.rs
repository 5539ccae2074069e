//! [`MonitorPort`]: an HTTP port for metrics and health.

mod connections;
mod health;

use std::{convert::Infallible, fmt::Display, io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rpc_core::{Peer, TokenBucket, contained};
use rpc_server::ServerState;
use tokio::{
    net::{TcpListener, TcpStream, ToSocketAddrs},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, warn};

use self::{
    connections::{Connections, Head},
    health::Checks,
};
use crate::Metrics;

/// An HTTP port that answers `GET /metrics` and `GET /health`.
///
/// The port authenticates no client: expose it only to networks that may read the names of your methods.
///
/// `/metrics` returns [`Metrics::text`]. `/health` reports whether the servers of [`Metrics::watch_server`] accept
/// calls: it returns 200 while there is at least one and all of them serve. It returns 503 before the first server is
/// added and before the servers run, so that the port can be bound first, and 503 as soon as the shutdown of one is
/// requested.
///
/// The state of a server does not cover what its handlers need: a store that accepts writes, for instance. Add a check
/// for it with [`add_check`](Self::add_check). If a check fails, `/health` returns 503 and its reason, which every client
/// of the port can read.
///
/// Use `/health` for load balancers and readiness probes, and `/metrics` for liveness probes: a draining server must
/// not be killed, and a process without servers is never ready.
///
/// # Drop
///
/// Dropping the port closes it. Keep it beyond the end of the server, so that it reports the drain.
#[derive(Debug)]
#[must_use = "the port closes when this is dropped"]
pub struct MonitorPort {
    address: SocketAddr,
    checks: Checks,
    _accepting: JoinSet<()>,
}

impl MonitorPort {
    /// The maximum number of connections.
    ///
    /// A further one closes the oldest whose request has no complete head, or else the oldest, so that slow clients
    /// cannot delay a health check.
    pub const MAX_CONNECTIONS: usize = Connections::MAX;

    /// The maximum number of connections from one IPv4 address, or from the first 64 bits of an IPv6 address.
    ///
    /// A further one closes another of the same address, as for [`MAX_CONNECTIONS`](Self::MAX_CONNECTIONS).
    pub const MAX_CONNECTIONS_PER_ADDRESS: usize = Connections::MAX_PER_ADDRESS;

    /// The time limit of a check of [`add_check`](Self::add_check).
    pub const CHECK_TIME: Duration = Checks::TIME;

    /// How long `/health` answers with the results of its checks before it executes them again.
    pub const CHECK_VALIDITY: Duration = Checks::VALIDITY;

    /// The longest time of a connection, for its one request and its response.
    pub const MAX_TIME: Duration = Duration::from_secs(5);

    /// Listens on `address`. For port 0 the system chooses a port.
    ///
    /// # Errors
    ///
    /// The error of the system when the address cannot be bound.
    pub async fn bind(address: impl ToSocketAddrs, metrics: Metrics) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (mut accepting, checks) = (JoinSet::new(), Checks::default());
        accepting.spawn(accept(listener, Pages { metrics, checks: checks.clone() }));
        Ok(Self { address, checks, _accepting: accepting })
    }

    /// Adds a check that requests of `/health` execute.
    ///
    /// All checks execute at the same time, each for at most [`CHECK_TIME`](Self::CHECK_TIME). A check fails with an
    /// error, at the time limit, or with a panic. Requests that arrive during an execution, or within
    /// [`CHECK_VALIDITY`](Self::CHECK_VALIDITY) after it, receive its results.
    ///
    /// # Examples
    ///
    /// ```
    /// # use rpc_layers::{Metrics, MonitorPort};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let port = MonitorPort::bind("127.0.0.1:0", Metrics::new()).await?;
    /// port.add_check("database", || async {
    ///     // Execute a cheap query here.
    ///     Ok::<_, std::io::Error>(())
    /// });
    /// # Ok(()) }
    /// ```
    pub fn add_check<F, E>(&self, name: impl Into<String>, check: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display,
    {
        self.checks.add(name.into(), check);
    }

    /// Returns the address that the port listens on.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }
}

/// The content of the pages.
#[derive(Debug, Clone)]
struct Pages {
    metrics: Metrics,
    checks: Checks,
}

async fn accept(listener: TcpListener, pages: Pages) {
    let mut connections = Connections::default();
    let mut warnings = TokenBucket::new(1.0, WARNINGS_PER_SECOND, Instant::now());
    loop {
        // Both futures are cancel safe: the next iteration takes the ended task or the connection.
        tokio::select! {
            biased;
            () = connections.ended() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    let (pages, network) = (pages.clone(), Peer::new(address, address).network());
                    connections.add(network, |head| limited(stream, pages, head));
                }
                Err(error) => {
                    if warnings.take(Instant::now()).is_ok() {
                        contained(|| {
                            warn!(%error, "monitor port cannot accept a connection; retrying every {ACCEPT_RETRY_DELAY:?}");
                        });
                    }
                    sleep(ACCEPT_RETRY_DELAY).await;
                }
            },
        }
    }
}

async fn limited(stream: TcpStream, pages: Pages, head: Head) {
    if timeout(MonitorPort::MAX_TIME, serve(stream, pages, head)).await.is_err() {
        contained(|| debug!("monitor connection exceeded {:?} (MonitorPort::MAX_TIME)", MonitorPort::MAX_TIME));
    }
}

async fn serve(stream: TcpStream, pages: Pages, head: Head) {
    let service = service_fn(|request| {
        head.complete();
        let pages = pages.clone();
        async move { Ok::<_, Infallible>(pages.answer(&request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(MonitorPort::MAX_TIME)
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        contained(|| debug!(%error, "monitor connection failed"));
    }
}

impl Pages {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET {
            let mut rejection = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is supported\n");
            rejection.headers_mut().insert(ALLOW, const { hyper::header::HeaderValue::from_static("GET") });
            return rejection;
        }
        match request.uri().path() {
            "/metrics" => {
                let mut page = text(StatusCode::OK, self.metrics.text());
                let kind = const { hyper::header::HeaderValue::from_static(OPEN_METRICS) };
                page.headers_mut().insert(CONTENT_TYPE, kind);
                page
            }
            "/health" => self.health().await,
            _ => text(StatusCode::NOT_FOUND, "available paths: /metrics, /health\n"),
        }
    }

    async fn health(&self) -> Response<Full<Bytes>> {
        if let Some(state) = self.metrics.out_of_service() {
            return out_of_service(state);
        }
        let failures = self.checks.failures().await;
        // A shutdown may have been requested while the checks executed.
        if let Some(state) = self.metrics.out_of_service() {
            return out_of_service(state);
        }
        if failures.is_empty() {
            return text(StatusCode::OK, "serving\n");
        }
        text(StatusCode::SERVICE_UNAVAILABLE, failures.join("\n") + "\n")
    }
}

fn out_of_service(state: ServerState) -> Response<Full<Bytes>> {
    let state = match state {
        ServerState::Starting => "starting\n",
        ServerState::Draining => "draining\n",
        _ => "ended\n",
    };
    text(StatusCode::SERVICE_UNAVAILABLE, state)
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The longest head of a request, in bytes; the smallest limit that hyper accepts.
const MAX_HEAD: usize = 8 << 10;
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// The rate of warnings while connections cannot be accepted.
const WARNINGS_PER_SECOND: f64 = 0.1;
