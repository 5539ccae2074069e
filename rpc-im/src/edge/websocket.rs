//! From a request to a WebSocket, and what every WebSocket here has in common.

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::{HeaderMap, Request, StatusCode, body::Incoming, header::SEC_WEBSOCKET_PROTOCOL};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::server::create_response_with_body,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{
    answer::{Answer, refusal},
    shared::Booked,
    watch::UnderWatch,
};
use crate::envelope::Encoding;

/// A WebSocket on the connection that its request came on.
pub(super) type Socket = WebSocketStream<TcpStream>;

/// Answers a request for a WebSocket, and runs `then` on it in a task of the edge.
pub(super) fn upgrade<F>(
    booked: &Arc<Booked>,
    request: Request<Incoming>,
    then: impl FnOnce(Arc<Booked>, Socket) -> F + Send + 'static,
) -> Answer
where
    F: Future<Output = ()> + Send,
{
    let answer = match create_response_with_body(&request, Full::default) {
        Ok(answer) => answer,
        Err(error) => return refusal(StatusCode::UPGRADE_REQUIRED, &error.to_string()),
    };
    let booked = Arc::clone(booked);
    let tasks = booked.shared.tasks.clone();
    tasks.spawn(async move {
        let work = async {
            // Both on the heap, and made late: so the task is small, and keeps nothing of the handshake.
            if let Some(socket) = Box::pin(socket(request, booked.shared.config.max_frame)).await {
                Box::pin(then(Arc::clone(&booked), socket)).await;
            }
        };
        tokio::select! {
            () = work => {}
            () = booked.shared.abort.cancelled() => {}
        }
    });
    answer
}

/// Says goodbye, and gives the client a moment to hear it: what it still sends must not reset the connection before.
pub(super) async fn close(mut socket: Socket, under_watch: &UnderWatch, code: CloseCode, reason: &'static str) {
    let frame = CloseFrame { code, reason: reason.into() };
    let said = under_watch.writing(socket.close(Some(frame))).await;
    if let Ok(Ok(())) = said {
        let gone = async { while let Some(Ok(_)) = socket.next().await {} };
        let _ = tokio::time::timeout(LINGER, gone).await;
    }
}

/// Writes one message within the time that the watch gives it; false when the connection is of no more use.
pub(super) async fn write(socket: &mut Socket, under_watch: &UnderWatch, message: Message) -> bool {
    matches!(under_watch.writing(socket.send(message)).await, Ok(Ok(())))
}

/// The connection of an answered request, once the answer is written.
async fn socket(request: Request<Incoming>, max_frame: usize) -> Option<Socket> {
    let upgraded = hyper::upgrade::on(request).await.ok()?;
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_frame_size(Some(max_frame))
        .max_message_size(Some(max_frame));
    let (stream, read) = (parts.io.into_inner(), parts.read_buf.to_vec());
    // A buffer that was begun is not made larger: the usual case is that nothing came early.
    Some(match read.is_empty() {
        true => Socket::from_raw_socket(stream, Role::Server, Some(config)).await,
        false => Socket::from_partially_read(stream, read, Role::Server, Some(config)).await,
    })
}

/// The first of the client's subprotocols that is ours; JSON for a client that names none.
pub(super) fn encoding(headers: &HeaderMap) -> Option<Encoding> {
    let mut offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter().peekable();
    if offered.peek().is_none() {
        return Some(Encoding::Json);
    }
    let names = offered.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    names.map(str::trim).find_map(Encoding::of_subprotocol)
}

/// What a WebSocket reads into. The default of 128 KiB would be each session's memory.
const READ_BUFFER: usize = 2 << 10;
/// How long a client has to answer a close.
const LINGER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn the_first_known_subprotocol_is_taken() {
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
