//! [`HttpCaller`]: calls a JSON service, and [`HttpCall`]: one call.

use std::{
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::{Response, body::Incoming};
use rpc_core::{
    BoxFuture, CallOptions, Caller, Code, Codec, Delivery, Discovery, Encode, Error, Explain, Explanation, MethodInfo,
    Phase, Reply, Request, ServiceId, Status, WriteBuffer,
};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    config::HttpCallerConfig,
    providers::{Picked, Providers, REST},
    reply,
    request::Prepared,
};

/// Calls a JSON service that a registry lists by its name, such as a Spring Boot application. Cheap to clone.
///
/// Each method of the contract is the verb and the path of `#[rpc(http = "GET /stock/{id}")]`; without the attribute it is
/// `POST /service:version/method`, as an endpoint of msnb serves it. Parameters that are not in the path are in the query
/// of GET and DELETE, and otherwise in the body: the value itself if there is one, or an object.
///
/// A call that certainly did not execute is sent to another provider, and so is an idempotent one after an unknown outcome.
/// A once call has an `Idempotency-Key` and is not repeated after an unknown outcome, because the provider may not know the
/// header. Streams and TLS are not supported.
///
/// # Examples
///
/// ```no_run
/// use std::sync::Arc;
///
/// use rpc_core::{Discovery, rpc_service};
/// use rpc_http::HttpCaller;
///
/// #[rpc_service(name = "shop.Stock")]
/// trait Stock {
///     #[rpc(idempotent, http = "GET /stock/{id}")]
///     async fn pieces(&self, id: u64) -> serde_json::Value;
/// }
///
/// # async fn example(registry: Arc<dyn Discovery>) -> Result<(), rpc_core::Error> {
/// let stock = StockClient::new(HttpCaller::new(registry, "stock")?);
/// println!("{}", stock.pieces(3).await?);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct HttpCaller(Arc<Shared>);

struct Shared {
    providers: Providers,
    config: HttpCallerConfig,
}

/// A call of an [`HttpCaller`]. Dropping it cancels the call.
#[must_use = "futures do nothing unless polled"]
pub struct HttpCall(BoxFuture<'static, Result<Reply, Error>>);

impl HttpCaller {
    /// Creates a caller of the service with this name in a registry.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the name has other characters than letters, digits, `.`, `_` and `-`.
    pub fn new(registry: Arc<dyn Discovery>, name: &str) -> Result<Self, Error> {
        Self::with_config(registry, name, HttpCallerConfig::default())
    }

    /// As [`new`](Self::new), with these limits and times.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_config(registry: Arc<dyn Discovery>, name: &str, config: HttpCallerConfig) -> Result<Self, Error> {
        let providers = Providers::new(ServiceId::unversioned(name)?, registry, config.clone());
        Ok(Self(Arc::new(Shared { providers, config })))
    }
}

impl Caller for HttpCaller {
    type Calling<A: Encode + Send + 'static> = HttpCall;

    fn call<A: Encode + Send + 'static>(&self, request: Request<A>) -> HttpCall {
        let Request { method, arguments, options } = request;
        // Encoded before the future is created, so that it contains neither the arguments nor their type.
        let mut out = WriteBuffer::new();
        let encoded = arguments.encode(Codec::Json, &mut out);
        let prepared = match (&options.invalid, encoded) {
            (Some(status), _) => Err(status.clone()),
            (None, Err(error)) => Err(Status::invalid_argument(format!("the arguments do not encode: {error}"))),
            (None, Ok(())) => Prepared::new(method, out.into_bytes(), &options.metadata),
        };
        let shared = Arc::clone(&self.0);
        HttpCall(Box::pin(async move {
            let prepared = prepared.map_err(|status| {
                Error::not_executed(status.code(), status.message().to_owned()).with_phase(Phase::Send)
            })?;
            shared.call(method, &options, &prepared).await
        }))
    }

    fn default_timeout(&self) -> Duration {
        self.0.config.timeout
    }
}

impl Shared {
    async fn call(&self, method: &MethodInfo, options: &CallOptions, prepared: &Prepared) -> Result<Reply, Error> {
        let deadline = options.deadline_from(Instant::now(), method, self.config.timeout);
        let retries = options.retries.unwrap_or(self.config.retries).min(CallOptions::MAX_RETRIES);
        let waits = options.wait_for_ready.unwrap_or(false);
        let mut tried: Vec<SocketAddr> = Vec::new();
        let mut last = None;
        for _ in 0..=retries {
            let pick = async {
                match options.address {
                    Some(address) => Ok(self.providers.at(address)),
                    None => self.providers.pick(&tried, waits).await,
                }
            };
            let picked = match timeout_at(deadline, pick).await {
                Ok(Ok(picked)) => picked,
                // The error of an attempt states more.
                Ok(Err(error)) => return Err(last.unwrap_or(error)),
                Err(_) => return Err(last.unwrap_or_else(|| late(Delivery::NotExecuted, Phase::Resolve))),
            };
            if tried.contains(&picked.0.address) && timeout_at(deadline, sleep(REPEAT_DELAY)).await.is_err() {
                return Err(last.unwrap_or_else(|| late(Delivery::NotExecuted, Phase::Resolve)));
            }
            let error = match self.attempt(&picked, prepared, deadline).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let is_over = Instant::now() >= deadline || !may_repeat(method, &error);
            tried.push(picked.0.address);
            if is_over {
                return Err(error);
            }
            last = Some(error);
        }
        Err(last.unwrap_or_else(|| late(Delivery::NotExecuted, Phase::Resolve)))
    }

    async fn attempt(&self, picked: &Picked, prepared: &Prepared, deadline: Instant) -> Result<Reply, Error> {
        let provider = &picked.0;
        let connected = timeout_at(deadline, provider.pool.connection()).await;
        let connected = connected.map_err(|_| late(Delivery::NotExecuted, Phase::Connect))?;
        let mut connection = connected.inspect_err(|_| provider.rest(REST))?;
        let timeout = deadline.saturating_duration_since(Instant::now());
        let request = prepared.attempt(&provider.address.to_string(), timeout).map_err(|error| {
            Error::not_executed(Code::InvalidArgument, format!("the request is invalid: {error}"))
                .with_phase(Phase::Send)
        })?;
        let answered = timeout_at(deadline, async {
            let response = connection.sender.send_request(request).await.map_err(|error| {
                // hyper has not written any of a request that it has cancelled.
                let delivery = if error.is_canceled() { Delivery::NotExecuted } else { Delivery::Unknown };
                lost(&error, delivery, provider.address)
            })?;
            let (status, headers) = (response.status(), response.headers().clone());
            let body = self.body(response, provider.address).await?;
            Ok::<_, Error>((status, headers, body))
        });
        let (status, headers, body) = answered.await.map_err(|_| late(Delivery::Unknown, Phase::Wait))??;
        // The connection carries another request once hyper has handled the end of this one.
        if timeout_at(deadline, connection.sender.ready()).await.is_ok_and(|ready| ready.is_ok()) {
            provider.pool.keep(connection);
        }
        let reply = reply::read(status, &headers, body, provider.address);
        if let Err(error) = &reply
            && let Some(wait) = error.retry_after()
        {
            provider.rest(wait);
        }
        reply
    }

    async fn body(&self, response: Response<Incoming>, peer: SocketAddr) -> Result<Bytes, Error> {
        let max_body = self.config.max_body;
        let (mut incoming, mut body) = (response.into_body(), BytesMut::new());
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|error| lost(&error, Delivery::Unknown, peer))?;
            let Ok(data) = frame.into_data() else { continue };
            if body.len() + data.len() > max_body {
                let message = format!("the response is longer than {max_body} bytes (HttpCallerConfig::max_body)");
                return Err(Error::answered(Code::ResourceExhausted, message)
                    .with_phase(Phase::Decode)
                    .with_peer(peer));
            }
            body.extend_from_slice(&data);
        }
        Ok(body.freeze())
    }
}

/// Returns whether a call may be sent again after this error.
fn may_repeat(method: &MethodInfo, error: &Error) -> bool {
    match error.delivery() {
        Delivery::NotExecuted => matches!(error.code(), Code::Unavailable | Code::ResourceExhausted),
        Delivery::Unknown => method.is_idempotent(),
        _ => false,
    }
}

/// The pause before another attempt at the same provider, which may restart, or whose replacement is not listed yet.
const REPEAT_DELAY: Duration = Duration::from_millis(50);

fn late(delivery: Delivery, phase: Phase) -> Error {
    Error::unknown(Code::DeadlineExceeded, "the deadline passed").with_delivery(delivery).with_phase(phase)
}

fn lost(error: &hyper::Error, delivery: Delivery, peer: SocketAddr) -> Error {
    let message = format!("connection to {peer} lost: {error}");
    Error::unknown(Code::Unavailable, message).with_delivery(delivery).with_phase(Phase::Wait).with_peer(peer)
}

impl Future for HttpCall {
    type Output = Result<Reply, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

/// The candidates and the attempts are not recorded.
impl Explain for HttpCall {
    fn explanation(&self) -> Explanation {
        Explanation::default()
    }
}

impl fmt::Debug for HttpCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCaller").field("config", &self.0.config).finish_non_exhaustive()
    }
}
