//! [`RawHttp`]: a caller of HTTP/1.1 that sends any bytes.

use std::{collections::BTreeMap, net::SocketAddr};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use crate::in_time;

/// A connection of HTTP/1.1.
#[derive(Debug)]
pub struct RawHttp<S = TcpStream> {
    io: BufReader<S>,
}

/// A response.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpResponse {
    /// The status.
    pub status: u16,
    /// The headers by their names in lower case; several values of a name are separated by commas.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl RawHttp {
    /// Connects to a server.
    ///
    /// # Panics
    ///
    /// Panics if the server accepts no connection.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.expect("the server accepts the connection"))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> RawHttp<S> {
    /// Uses a connected stream.
    pub fn over(io: S) -> Self {
        Self { io: BufReader::new(io) }
    }

    /// Sends bytes.
    ///
    /// # Panics
    ///
    /// Panics if the connection is closed.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("the connection is open");
    }

    /// Sends bytes, unless the connection is closed.
    ///
    /// # Errors
    ///
    /// The error of the write.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        in_time(self.io.write_all(bytes.as_ref())).await
    }

    /// Receives a response; `None` at the end of the connection.
    pub async fn receive(&mut self) -> Option<HttpResponse> {
        in_time(self.read()).await
    }

    /// Sends a request with a JSON body and receives the response.
    ///
    /// # Panics
    ///
    /// Panics if the connection ends.
    pub async fn post(&mut self, path: &str, body: &str) -> HttpResponse {
        self.request("POST", path, "Content-Type: application/json\r\n", body).await
    }

    /// Sends a request without a body and receives the response.
    ///
    /// # Panics
    ///
    /// Panics if the connection ends.
    pub async fn get(&mut self, path: &str) -> HttpResponse {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        self.receive().await.expect("the server answers")
    }

    /// Sends a request with headers and a body and receives the response.
    ///
    /// # Panics
    ///
    /// Panics if the connection ends.
    pub async fn request(&mut self, verb: &str, path: &str, headers: &str, body: &str) -> HttpResponse {
        let length = body.len();
        self.send(format!("{verb} {path} HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: {length}\r\n\r\n{body}"))
            .await;
        self.receive().await.expect("the server answers")
    }

    /// Returns whether the server closes the connection without a further byte.
    pub async fn is_closed(&mut self) -> bool {
        in_time(self.io.read(&mut [0])).await.map_or(true, |count| count == 0)
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let count = self.io.read_line(&mut line).await.unwrap_or(0);
        (count > 0).then(|| line.trim_end().to_owned())
    }

    /// Receives the head of a response; `None` at the end of the connection.
    pub async fn head(&mut self) -> Option<HttpResponse> {
        let first = self.line().await?;
        let status = first.split(' ').nth(1)?.parse().ok()?;
        let mut headers = BTreeMap::<String, String>::new();
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(':') else { break };
            let known = headers.entry(name.to_ascii_lowercase()).or_default();
            *known = if known.is_empty() { value.trim().to_owned() } else { format!("{known}, {}", value.trim()) };
        }
        Some(HttpResponse { status, headers, body: Vec::new() })
    }

    /// Receives a chunk of a body; `None` behind the last one and at the end of the connection.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let length = usize::from_str_radix(&in_time(self.line()).await?, 16).ok()?;
        let mut chunk = vec![0; length];
        self.io.read_exact(&mut chunk).await.ok()?;
        self.line().await?;
        (length > 0).then_some(chunk)
    }

    async fn read(&mut self) -> Option<HttpResponse> {
        let mut response = self.head().await?;
        if response.headers.get("transfer-encoding").is_some_and(|encoding| encoding == "chunked") {
            while let Some(chunk) = self.chunk().await {
                response.body.extend(chunk);
            }
        } else if let Some(length) = response.headers.get("content-length") {
            response.body = vec![0; length.parse().ok()?];
            self.io.read_exact(&mut response.body).await.ok()?;
        }
        Some(response)
    }
}

impl HttpResponse {
    /// Returns a header; an empty text if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the body as JSON.
    ///
    /// # Panics
    ///
    /// Panics if the body is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}
