//! The WebSocket of one side of a pairing room.
//!
//! It forwards opaque binary messages to the other side.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use futures_util::StreamExt;
use hyper::{Request, StatusCode, body::Incoming};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

use super::{
    answer::{HttpResponse, error_response},
    metrics::GaugeGuard,
    shared::{AdmittedConnection, Shared},
    slots::Full,
    watch::{Timeout, WatchGuard},
    websocket::{self, Socket},
};
use crate::{
    LoginError, PairOutbound, PairSession, Side,
    envelope::{ServerFrame, code},
};

/// Accepts a request for `/channel`, and serves one side of a room on the upgraded connection.
pub(super) async fn upgrade(connection: &Arc<AdmittedConnection>, request: Request<Incoming>) -> HttpResponse {
    let (side, channel) = match parse(request.uri().query().unwrap_or_default()) {
        Ok(parts) => parts,
        Err(error) => return error_response(StatusCode::BAD_REQUEST, error),
    };
    if let Err(error) = websocket::check(&request) {
        return error_response(StatusCode::UPGRADE_REQUIRED, &error.to_string());
    }
    let (shared, client) = (&connection.shared, connection.client(request.headers()));
    if shared.room_rate.take(client, 1.0, Instant::now()).is_err() {
        return error_response(StatusCode::TOO_MANY_REQUESTS, "too many rooms of this address, retry later");
    }
    let slot = match shared.rooms.take(Some(client)) {
        Ok(slot) => slot,
        Err(Full::Address) => {
            let error = "this address has too many rooms (EdgeConfig::max_rooms_per_ip)";
            return error_response(StatusCode::TOO_MANY_REQUESTS, error);
        }
        Err(Full::Total) => {
            let error = "this node has too many rooms (EdgeConfig::max_rooms)";
            return error_response(StatusCode::SERVICE_UNAVAILABLE, error);
        }
    };
    // Claim the side before the upgrade, so that a second client of the same side receives an HTTP error.
    let (pair, outbound) = match connection.shared.node.pair(channel, side).await {
        Ok(claimed) => claimed,
        Err(LoginError::Taken) => return error_response(StatusCode::CONFLICT, "this side of the room is taken"),
        Err(error @ LoginError::Unavailable(_)) => {
            return error_response(StatusCode::SERVICE_UNAVAILABLE, &error.to_string());
        }
    };
    let watch = connection.shared.watchdog.register();
    watch.logged_in();
    websocket::upgrade(connection, request, move |connection, socket| async move {
        connection.has_entered();
        let _slot = slot;
        run(&connection.shared, socket, pair, outbound, watch).await;
    })
}

async fn run(shared: &Shared, mut socket: Socket, pair: PairSession, mut outbound: PairOutbound, watch: WatchGuard) {
    let _gauge = GaugeGuard::new(&shared.metrics.rooms);
    let (code, reason) = loop {
        // All branches are cancel-safe: a message stays in the socket's buffer or in the queue.
        tokio::select! {
            biased;
            bytes = outbound.next() => {
                let Some(bytes) = bytes else { break (CloseCode::Away, "room closed") };
                shared.metrics.frames_out.fetch_add(1, Relaxed);
                if !websocket::write(&mut socket, &watch, Message::Binary(bytes)).await {
                    return count_timeout(shared, &watch);
                }
            }
            message = socket.next() => {
                watch.has_read();
                match message {
                    Some(Ok(Message::Binary(bytes))) => {
                        shared.metrics.frames_in.fetch_add(1, Relaxed);
                        let is_absent = tokio::select! {
                            sent = pair.send(bytes) => sent.is_err(),
                            _ = watch.timed_out() => false,
                        };
                        if is_absent && !report_absent(&mut socket, &watch).await {
                            return count_timeout(shared, &watch);
                        }
                    }
                    Some(Ok(Message::Text(_))) => break (CloseCode::Unsupported, "rooms accept binary messages only"),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(_)) => {}
                }
            }
            _ = watch.timed_out() => {
                count_timeout(shared, &watch);
                break (CloseCode::Away, "idle timeout (EdgeConfig::idle)");
            }
        }
    };
    websocket::close(socket, &watch, code, reason).await;
}

/// Reports that a message was not delivered.
///
/// The report is a text message, because the other side sends only binary ones.
async fn report_absent(socket: &mut Socket, watch: &WatchGuard) -> bool {
    let error = "message not delivered: the other side of the room is not connected";
    let frame = ServerFrame::error(None, code::NOT_FOUND, error);
    websocket::write(socket, watch, Message::text(frame.to_json())).await
}

fn count_timeout(shared: &Shared, watch: &WatchGuard) {
    match watch.timeout() {
        Some(Timeout::WriteStall) => shared.metrics.closed_stuck.fetch_add(1, Relaxed),
        Some(Timeout::Idle) => shared.metrics.closed_idle.fetch_add(1, Relaxed),
        _ => 0,
    };
}

/// Parses the side and the channel from a query.
fn parse(query: &str) -> Result<(Side, &str), &'static str> {
    let (mut side, mut channel) = (None, None);
    for (name, value) in query.split('&').filter_map(|part| part.split_once('=')) {
        match name {
            "type" => side = Side::of_name(value),
            "channelId" => channel = Some(value),
            _ => {}
        }
    }
    let side = side.ok_or("type must be app or web")?;
    let channel = channel.filter(|channel| PairSession::is_channel(channel));
    Ok((side, channel.ok_or("channelId must be 32 letters, digits or underscores")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_is_32_word_characters() {
        let channel = "Ab0_".repeat(8);
        let query = format!("type=app&channelId={channel}");
        let (side, parsed) = parse(&query).unwrap();
        assert!(matches!(side, Side::App));
        assert_eq!(parsed, channel);
        assert!(matches!(parse(&format!("x&channelId={channel}&type=web&y=1")).unwrap().0, Side::Web));
        for bad in
            ["", &channel[1..], &format!("{channel}x"), &channel.replace('_', "-"), &channel.replace('_', "ü"), "%41"]
        {
            assert!(parse(&format!("type=web&channelId={bad}")).is_err(), "{bad}");
        }
        for bad in ["", "App", "both"] {
            assert!(parse(&format!("type={bad}&channelId={channel}")).is_err(), "{bad}");
        }
    }
}
