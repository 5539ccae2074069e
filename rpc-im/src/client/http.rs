//! What a client asks over HTTP.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{net::TcpStream, time::timeout};

/// The answer to a login: what a [`Client`](super::Client) starts with.
#[derive(Clone, Serialize, Deserialize)]
pub struct LoggedIn {
    /// The token.
    pub token: String,
    /// The WebSocket addresses of nodes, best first.
    pub nodes: Vec<String>,
}

/// Why a node did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Not `http://host:port`.
    #[error("the node's URL is http://host:port")]
    Url,
    /// It does not answer.
    #[error("the node does not answer")]
    Io(#[from] std::io::Error),
    /// It does not answer in time.
    #[error("the node does not answer in time")]
    Timeout,
    /// It answers nonsense.
    #[error("the node does not speak HTTP")]
    Http(#[from] hyper::Error),
    /// It refuses.
    #[error("{0}: {1}")]
    Refused(StatusCode, String),
}

/// Logs in at `http://host:port`.
///
/// # Errors
///
/// When the node does not answer, or the password is wrong.
pub async fn login(
    base: &str,
    user: &str,
    password: &str,
    device: &str,
    platform: &str,
) -> Result<LoggedIn, HttpError> {
    let body = serde_json::json!({ "user": user, "password": password, "device": device, "platform": platform });
    let (status, answer) = ask(base, Method::POST, "/login", body.to_string()).await?;
    parsed(status, &answer)
}

/// The WebSocket addresses of nodes, best first, by the node at `http://host:port`.
///
/// # Errors
///
/// When the node does not answer.
pub async fn gate(base: &str) -> Result<Vec<String>, HttpError> {
    #[derive(Deserialize)]
    struct Gate {
        nodes: Vec<String>,
    }
    let (status, answer) = ask(base, Method::GET, "/gate", String::new()).await?;
    Ok(parsed::<Gate>(status, &answer)?.nodes)
}

/// Whether the node at `http://host:port` takes logins.
///
/// # Errors
///
/// When the node does not answer.
pub async fn health(base: &str) -> Result<bool, HttpError> {
    let (status, _) = ask(base, Method::GET, "/health", String::new()).await?;
    Ok(status == StatusCode::OK)
}

/// `http://host:port` of `ws://host:port/ws`.
pub(super) fn base_of(websocket: &str) -> String {
    let rest = websocket.strip_prefix("ws://").unwrap_or(websocket);
    format!("http://{}", rest.split('/').next().unwrap_or(rest))
}

async fn ask(base: &str, method: Method, path: &str, body: String) -> Result<(StatusCode, Bytes), HttpError> {
    let host = base.strip_prefix("http://").ok_or(HttpError::Url)?.trim_end_matches('/');
    let host = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, &host)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::<Bytes>::from(body))
        .map_err(|_| HttpError::Url)?;
    let answer = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(TcpStream::connect(&host).await?)).await?;
        let answer = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|_| HttpError::Refused(status, "the answer is too long or broken".to_owned()))?;
            Ok((status, body.to_bytes()))
        };
        tokio::pin!(answer);
        // The connection is what moves the bytes; it may end before the answer is read to its end.
        tokio::select! {
            answer = &mut answer => answer,
            ended = connection => {
                ended?;
                answer.await
            }
        }
    };
    timeout(PATIENCE, answer).await.map_err(|_| HttpError::Timeout)?
}

fn parsed<T: DeserializeOwned>(status: StatusCode, answer: &[u8]) -> Result<T, HttpError> {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    if status == StatusCode::OK
        && let Ok(value) = serde_json::from_slice(answer)
    {
        return Ok(value);
    }
    let refusal = serde_json::from_slice::<Refusal>(answer).map(|refusal| refusal.error);
    Err(HttpError::Refused(status, refusal.unwrap_or_else(|_| "not what was asked for".to_owned())))
}

impl std::fmt::Debug for LoggedIn {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LoggedIn").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

/// How long a node has to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer, in bytes.
const MAX_ANSWER: usize = 64 << 10;
