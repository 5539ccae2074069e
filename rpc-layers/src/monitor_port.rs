//! [`MonitorPort`]: an HTTP port for metrics and health.

use std::{convert::Infallible, io, net::SocketAddr, time::Duration};

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
use rpc_server::ServerState;
use tokio::{
    net::{TcpListener, TcpStream, ToSocketAddrs},
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

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
    _accepting: JoinSet<()>,
}

impl MonitorPort {
    /// The maximum number of connections that are served at a time; further ones wait.
    pub const MAX_CONNECTIONS: usize = 32;

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
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, metrics));
        Ok(Self { address, _accepting: accepting })
    }

    /// Returns the address that the port listens on.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(listener: TcpListener, metrics: Metrics) {
    let mut connections = JoinSet::new();
    loop {
        // Both futures are cancel safe: the next iteration takes the ended task or the connection.
        tokio::select! {
            biased;
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MonitorPort::MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    let metrics = metrics.clone();
                    connections.spawn(async move {
                        if timeout(MonitorPort::MAX_TIME, serve(stream, metrics)).await.is_err() {
                            debug!("monitor connection exceeded {:?} (MonitorPort::MAX_TIME)", MonitorPort::MAX_TIME);
                        }
                    });
                }
                Err(error) => {
                    warn!(%error, "monitor port failed to accept a connection; retrying in {ACCEPT_RETRY_DELAY:?}");
                    sleep(ACCEPT_RETRY_DELAY).await;
                }
            },
        }
    }
}

async fn serve(stream: TcpStream, metrics: Metrics) {
    let service = service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(&request, &metrics))));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(MonitorPort::MAX_TIME)
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!(%error, "monitor connection failed");
    }
}

fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        let mut rejection = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is supported\n");
        rejection.headers_mut().insert(ALLOW, const { hyper::header::HeaderValue::from_static("GET") });
        return rejection;
    }
    match request.uri().path() {
        "/metrics" => {
            let mut page = text(StatusCode::OK, metrics.text());
            page.headers_mut().insert(CONTENT_TYPE, const { hyper::header::HeaderValue::from_static(OPEN_METRICS) });
            page
        }
        "/health" => match metrics.out_of_service() {
            None => text(StatusCode::OK, "serving\n"),
            Some(ServerState::Starting) => text(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
            Some(ServerState::Draining) => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            Some(_) => text(StatusCode::SERVICE_UNAVAILABLE, "ended\n"),
        },
        _ => text(StatusCode::NOT_FOUND, "available paths: /metrics, /health\n"),
    }
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
