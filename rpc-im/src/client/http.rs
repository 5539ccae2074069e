//! The HTTP requests of a client: login, node list, health.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{net::TcpStream, time::timeout};

/// The response to a login, with which a [`Client`](super::Client) starts.
#[derive(Clone, Serialize, Deserialize)]
pub struct LoggedIn {
    /// The signed token of the user's device.
    pub token: String,
    /// The WebSocket URLs of nodes, best first.
    pub nodes: Vec<String>,
}

/// An error of an HTTP request to a node.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The URL does not have the form `http://host:port`.
    #[error("invalid node URL, expected http://host:port")]
    Url,
    /// The connection to the node failed.
    #[error("cannot connect to the node")]
    Io(#[from] std::io::Error),
    /// The node did not respond within 10 s.
    #[error("node did not respond within {} s", REQUEST_TIMEOUT.as_secs())]
    Timeout,
    /// The HTTP exchange with the node failed.
    #[error("HTTP exchange with the node failed")]
    Http(#[from] hyper::Error),
    /// The node rejected the request, or its response is not usable.
    #[error("{0}: {1}")]
    Rejected(StatusCode, String),
}

/// Logs in at the node with the base URL `http://host:port`.
///
/// # Errors
///
/// Returns an error if the node does not respond, or if the password is wrong.
pub async fn login(
    base: &str,
    user: &str,
    password: &str,
    device: &str,
    platform: &str,
) -> Result<LoggedIn, HttpError> {
    let body = serde_json::json!({ "user": user, "password": password, "device": device, "platform": platform });
    let (status, response) = request(base, Method::POST, "/login", body.to_string()).await?;
    parse(status, &response)
}

/// Returns the WebSocket URLs of nodes, best first, from the node with the base URL `http://host:port`.
///
/// # Errors
///
/// Returns an error if the node does not respond.
pub async fn gate(base: &str) -> Result<Vec<String>, HttpError> {
    #[derive(Deserialize)]
    struct Gate {
        nodes: Vec<String>,
    }
    let (status, response) = request(base, Method::GET, "/gate", String::new()).await?;
    Ok(parse::<Gate>(status, &response)?.nodes)
}

/// Returns whether the node with the base URL `http://host:port` accepts logins.
///
/// # Errors
///
/// Returns an error if the node does not respond.
pub async fn health(base: &str) -> Result<bool, HttpError> {
    let (status, _) = request(base, Method::GET, "/health", String::new()).await?;
    Ok(status == StatusCode::OK)
}

/// Returns the base URL `http://host:port` of `ws://host:port/ws`.
pub(super) fn base_of(websocket: &str) -> String {
    let authority_and_path = websocket.strip_prefix("ws://").unwrap_or(websocket);
    format!("http://{}", authority_and_path.split('/').next().unwrap_or(authority_and_path))
}

async fn request(base: &str, method: Method, path: &str, body: String) -> Result<(StatusCode, Bytes), HttpError> {
    let host = base.strip_prefix("http://").ok_or(HttpError::Url)?.trim_end_matches('/');
    let host = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, &host)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::<Bytes>::from(body))
        .map_err(|_| HttpError::Url)?;
    let exchange = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(TcpStream::connect(&host).await?)).await?;
        let response = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_RESPONSE).collect().await;
            let body = body.map_err(|error| HttpError::Rejected(status, format!("cannot read the body: {error}")))?;
            Ok((status, body.to_bytes()))
        };
        tokio::pin!(response);
        // The connection future does the I/O. It may end before `response` has consumed the whole body.
        tokio::select! {
            response = &mut response => response,
            ended = connection => {
                ended?;
                response.await
            }
        }
    };
    timeout(REQUEST_TIMEOUT, exchange).await.map_err(|_| HttpError::Timeout)?
}

fn parse<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<T, HttpError> {
    #[derive(Deserialize)]
    struct ErrorBody {
        error: String,
    }
    if status == StatusCode::OK
        && let Ok(value) = serde_json::from_slice(body)
    {
        return Ok(value);
    }
    let reason = serde_json::from_slice::<ErrorBody>(body).map(|body| body.error);
    Err(HttpError::Rejected(status, reason.unwrap_or_else(|_| "unexpected response body".to_owned())))
}

impl std::fmt::Debug for LoggedIn {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LoggedIn").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

/// The limit of one request, from the connect to the end of the response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum length of a response body, in bytes.
const MAX_RESPONSE: usize = 64 << 10;
