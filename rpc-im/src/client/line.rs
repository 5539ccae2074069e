//! [`Line`]: one WebSocket connection to one node.

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

/// A WebSocket connection to one node.
#[derive(Debug)]
pub struct Line {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    encoding: Encoding,
}

/// An error that ends a [`Line`].
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The connection cannot be established, or it failed.
    #[error("connection to the node failed")]
    Socket(#[from] Box<tungstenite::Error>),
    /// The node closed the connection, with the reason of its close frame.
    #[error("the node closed the connection{}", .0.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default())]
    Closed(Option<String>),
    /// The node sent a frame that this client cannot decode.
    #[error("cannot decode a frame from the node")]
    Frame(#[from] FrameError),
}

impl Line {
    /// Connects to the WebSocket URL `ws://host:port/ws`.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection fails, or if the node does not support `encoding`.
    pub async fn connect(url: &str, encoding: Encoding) -> Result<Self, LineError> {
        let mut request = url.into_client_request().map_err(Box::new)?;
        let protocol = HeaderValue::from_static(encoding.subprotocol());
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER).write_buffer_size(0);
        let (socket, _) = connect_async_with_config(request, Some(config), true).await.map_err(Box::new)?;
        Ok(Self { socket, encoding })
    }

    /// Sends a frame.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection has ended.
    pub async fn say(&mut self, frame: &ClientFrame) -> Result<(), LineError> {
        let message = match self.encoding {
            Encoding::Json => Message::text(frame.to_json()),
            Encoding::Protobuf => Message::binary(frame.to_protobuf()),
        };
        Ok(self.socket.send(message).await.map_err(Box::new)?)
    }

    /// Returns the next frame.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection has ended, or if the frame is invalid.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no frame.
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

/// The size of the read buffer in bytes, as at the node.
///
/// Tests and benchmarks run many clients in one process.
const READ_BUFFER: usize = 2 << 10;
