//! The upgrade of an HTTP request to a WebSocket, and operations on WebSockets.

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::{HeaderMap, Request, StatusCode, body::Incoming, header::SEC_WEBSOCKET_PROTOCOL};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        handshake::server::create_response_with_body,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{
    answer::{HttpResponse, error_response},
    shared::AdmittedConnection,
    stream::ClientStream,
    watch::WatchGuard,
};
use crate::envelope::Encoding;

/// A WebSocket on the connection of its HTTP request.
pub(super) type Socket = WebSocketStream<ClientStream>;

/// Accepts a WebSocket request, and spawns a task that runs `serve` on the upgraded connection.
pub(super) fn upgrade<F>(
    connection: &Arc<AdmittedConnection>,
    request: Request<Incoming>,
    serve: impl FnOnce(Arc<AdmittedConnection>, Socket) -> F + Send + 'static,
) -> HttpResponse
where
    F: Future<Output = ()> + Send,
{
    let response = match create_response_with_body(&request, Full::default) {
        Ok(response) => response,
        Err(error) => return error_response(StatusCode::UPGRADE_REQUIRED, &error.to_string()),
    };
    let connection = Arc::clone(connection);
    let tasks = connection.shared.tasks.clone();
    tasks.spawn(async move {
        let work = async {
            // Box both futures when they are needed: the task stays small and frees the handshake's memory.
            if let Some(socket) = Box::pin(socket(request, connection.shared.config.max_frame)).await {
                Box::pin(serve(Arc::clone(&connection), socket)).await;
            }
        };
        tokio::select! {
            () = work => {}
            () = connection.shared.abort.cancelled() => {}
            () = connection.displaced.cancelled() => {
                connection.shared.metrics.connections_displaced.fetch_add(1, Relaxed);
            }
        }
    });
    response
}

/// Checks that a request asks for a WebSocket.
///
/// # Errors
///
/// The missing or invalid header.
pub(super) fn check(request: &Request<Incoming>) -> Result<(), tungstenite::Error> {
    create_response_with_body(request, || ()).map(drop)
}

/// Sends a close frame and reads until the client closes, for at most [`LINGER`].
///
/// Closing the TCP connection with unread data would reset it, and the client could miss the close frame.
pub(super) async fn close(mut socket: Socket, watch: &WatchGuard, code: CloseCode, reason: &'static str) {
    let frame = CloseFrame { code, reason: reason.into() };
    let written = watch.writing(socket.close(Some(frame))).await;
    if let Ok(Ok(())) = written {
        let closed = async { while let Some(Ok(_)) = socket.next().await {} };
        let _ = tokio::time::timeout(LINGER, closed).await;
    }
}

/// Writes one message under the write limit; returns false if the connection has failed or timed out.
pub(super) async fn write(socket: &mut Socket, watch: &WatchGuard, message: Message) -> bool {
    matches!(watch.writing(socket.send(message)).await, Ok(Ok(())))
}

/// Returns the WebSocket of a request once hyper has written the response.
async fn socket(request: Request<Incoming>, max_frame: usize) -> Option<Socket> {
    let upgraded = hyper::upgrade::on(request).await.ok()?;
    let parts = upgraded.downcast::<TokioIo<ClientStream>>().ok()?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_frame_size(Some(max_frame))
        .max_message_size(Some(max_frame));
    let (stream, read) = (parts.io.into_inner(), parts.read_buf.to_vec());
    // `from_partially_read` does not grow its buffer to READ_BUFFER; use it only if bytes arrived early, which is rare.
    Some(match read.is_empty() {
        true => Socket::from_raw_socket(stream, Role::Server, Some(config)).await,
        false => Socket::from_partially_read(stream, read, Role::Server, Some(config)).await,
    })
}

/// Returns the first supported subprotocol of a request; JSON if the client offers none.
pub(super) fn encoding(headers: &HeaderMap) -> Option<Encoding> {
    let mut offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter().peekable();
    if offered.peek().is_none() {
        return Some(Encoding::Json);
    }
    let names = offered.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    names.map(str::trim).find_map(Encoding::of_subprotocol)
}

/// The size of a WebSocket's read buffer, in bytes. With the default, each session would use 128 KiB.
const READ_BUFFER: usize = 2 << 10;
/// The time within which a client must answer a close frame.
const LINGER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn encoding_is_first_supported_subprotocol() {
        let cases: [(&[&str], Option<Encoding>); 5] = [
            (&[], Some(Encoding::Json)),
            (&["im.v1.pb"], Some(Encoding::Protobuf)),
            (&["chat, im.v1.json ,im.v1.pb"], Some(Encoding::Json)),
            (&["chat", "im.v1.pb"], Some(Encoding::Protobuf)),
            (&["im.v2.json"], None),
        ];
        for (offered, expected) in cases {
            let mut headers = HeaderMap::new();
            for name in offered {
                headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(name).unwrap());
            }
            assert_eq!(encoding(&headers), expected, "{offered:?}");
        }
    }
}
