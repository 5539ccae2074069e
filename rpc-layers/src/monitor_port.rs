//! [`MonitorPort`]: an HTTP port that shows the metrics, and whether calls should be sent here.

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

/// An HTTP port that answers `GET /metrics`, with [`Metrics::text`], and `GET /health`. It asks nobody who he is: open it to
/// those only who may know the names of your methods.
///
/// `/health` says whether calls should be sent here: 200 while there are servers of [`Metrics::watch_server`] and all of them
/// serve; 503 before there is one and before they run, so that the port may be bound first, and from the moment when one is
/// asked to end. That is what a load balancer and a readiness probe ask. A liveness probe asks `/metrics`, which is answered for as
/// long as the process lives: a server that drains is not to be killed for it, and a process without servers is never ready.
///
/// # Drop
///
/// Dropped, it closes. Keep it for as long as it should answer, beyond the end of the server.
#[derive(Debug)]
#[must_use = "the port closes when this is dropped"]
pub struct MonitorPort {
    address: SocketAddr,
    _accepting: JoinSet<()>,
}

impl MonitorPort {
    /// Connections that are answered at once; more wait for these to end.
    pub const MAX_CONNECTIONS: usize = 32;

    /// The longest that a connection may take for its one request and its answer.
    pub const MAX_TIME: Duration = Duration::from_secs(5);

    /// Answers at `address`; port 0 lets the system choose.
    ///
    /// # Errors
    ///
    /// What the system says when the port cannot be bound.
    pub async fn bind(address: impl ToSocketAddrs, metrics: Metrics) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, metrics));
        Ok(Self { address, _accepting: accepting })
    }

    /// Where it listens.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(listener: TcpListener, metrics: Metrics) {
    let mut connections = JoinSet::new();
    loop {
        // Both are cancel-safe: what is not taken now is taken next.
        tokio::select! {
            biased;
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MonitorPort::MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    let metrics = metrics.clone();
                    connections.spawn(async move {
                        if timeout(MonitorPort::MAX_TIME, serve(stream, metrics)).await.is_err() {
                            debug!("a connection took too long");
                        }
                    });
                }
                Err(error) => {
                    warn!(%error, "the port for metrics cannot accept connections; trying again in {ACCEPT_REST:?}");
                    sleep(ACCEPT_REST).await;
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
        debug!(%error, "a connection to the port for metrics failed");
    }
}

fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n");
        refusal.headers_mut().insert(ALLOW, const { hyper::header::HeaderValue::from_static("GET") });
        return refusal;
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
        _ => text(StatusCode::NOT_FOUND, "there are /metrics and /health\n"),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The longest head of a request, in bytes; hyper takes no less.
const MAX_HEAD: usize = 8 << 10;
const ACCEPT_REST: Duration = Duration::from_millis(100);
