//! [`Line`]: one WebSocket to one node.

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{
        self, Message,
        client::IntoClientRequest,
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
        protocol::WebSocketConfig,
    },
};

use crate::envelope::{ClientFrame, Encoding, FrameError, ServerFrame};

/// One WebSocket to one node.
#[derive(Debug)]
pub struct Line {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    encoding: Encoding,
}

/// Why a line is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The connection.
    #[error("the connection to the node")]
    Socket(#[from] Box<tungstenite::Error>),
    /// The node has closed it.
    #[error("the node has closed the connection{}", .0.as_deref().map(|why| format!(": {why}")).unwrap_or_default())]
    Closed(Option<String>),
    /// The node says what this client does not know.
    #[error("the node's frame")]
    Frame(#[from] FrameError),
}

impl Line {
    /// Connects to `ws://host:port/ws`.
    ///
    /// # Errors
    ///
    /// When there is no node, or it does not speak this encoding.
    pub async fn connect(url: &str, encoding: Encoding) -> Result<Self, LineError> {
        let mut request = url.into_client_request().map_err(Box::new)?;
        let protocol = HeaderValue::from_static(encoding.subprotocol());
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER).write_buffer_size(0);
        let (socket, _) = connect_async_with_config(request, Some(config), true).await.map_err(Box::new)?;
        Ok(Self { socket, encoding })
    }

    /// Says a frame.
    ///
    /// # Errors
    ///
    /// When the connection is over.
    pub async fn say(&mut self, frame: &ClientFrame) -> Result<(), LineError> {
        let message = match self.encoding {
            Encoding::Json => Message::text(frame.to_json()),
            Encoding::Protobuf => Message::binary(frame.to_protobuf()),
        };
        Ok(self.socket.send(message).await.map_err(Box::new)?)
    }

    /// The next frame.
    ///
    /// # Errors
    ///
    /// When the connection is over.
    ///
    /// # Cancel safety
    ///
    /// Dropped, no frame is lost.
    pub async fn next(&mut self) -> Result<ServerFrame, LineError> {
        loop {
            return match self.socket.next().await.transpose().map_err(Box::new)? {
                Some(Message::Text(text)) => Ok(ServerFrame::from_json(&text)?),
                Some(Message::Binary(bytes)) => Ok(ServerFrame::from_protobuf(&bytes)?),
                Some(Message::Close(frame)) => Err(LineError::Closed(frame.map(|frame| frame.reason.to_string()))),
                None => Err(LineError::Closed(None)),
                Some(_) => continue,
            };
        }
    }
}

/// The same as at the node: many clients run in one process of a test or a benchmark.
const READ_BUFFER: usize = 2 << 10;
