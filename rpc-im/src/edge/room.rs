//! One side of a pairing room: binary messages pass from one side to the other, and nobody here looks into them.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use futures_util::StreamExt;
use hyper::{Request, StatusCode, body::Incoming};
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

use super::{
    answer::{Answer, refusal},
    metrics::OneMore,
    shared::{Booked, Shared},
    watch::{Overdue, UnderWatch},
    websocket::{self, Socket},
};
use crate::{
    PairOutbound, PairSession, Refused, Side,
    envelope::{ServerFrame, code},
};

/// Answers a request for `/channel`, and goes on with a side of a room.
pub(super) async fn upgrade(booked: &Arc<Booked>, request: Request<Incoming>) -> Answer {
    let (side, channel) = match parse(request.uri().query().unwrap_or_default()) {
        Ok(parts) => parts,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, error),
    };
    // Before the upgrade, so that a second one of the same side is told by HTTP.
    let (pair, outbound) = match booked.shared.node.pair(channel, side).await {
        Ok(entered) => entered,
        Err(Refused::Taken) => return refusal(StatusCode::CONFLICT, "this side of the room is taken"),
        Err(error @ Refused::Unavailable(_)) => {
            return refusal(StatusCode::SERVICE_UNAVAILABLE, &error.to_string());
        }
    };
    let under_watch = booked.shared.watch.enter();
    under_watch.logged_in();
    websocket::upgrade(booked, request, move |booked, socket| async move {
        booked.has_entered();
        run(&booked.shared, socket, pair, outbound, under_watch).await;
    })
}

async fn run(
    shared: &Shared,
    mut socket: Socket,
    pair: PairSession,
    mut outbound: PairOutbound,
    under_watch: UnderWatch,
) {
    let _one = OneMore::of(&shared.metrics.rooms);
    let (code, reason) = loop {
        // Each branch may be dropped: a message stays in the socket's buffer or in the queue.
        tokio::select! {
            biased;
            bytes = outbound.next() => {
                let Some(bytes) = bytes else { break (CloseCode::Away, "the room is closed") };
                shared.metrics.frames_out.fetch_add(1, Relaxed);
                if !websocket::write(&mut socket, &under_watch, Message::Binary(bytes)).await {
                    return count(shared, &under_watch);
                }
            }
            message = socket.next() => {
                under_watch.has_read();
                match message {
                    Some(Ok(Message::Binary(bytes))) => {
                        shared.metrics.frames_in.fetch_add(1, Relaxed);
                        let absent = tokio::select! {
                            sent = pair.send(bytes) => sent.is_err(),
                            _ = under_watch.overdue() => false,
                        };
                        if absent && !say_absent(&mut socket, &under_watch).await {
                            return count(shared, &under_watch);
                        }
                    }
                    Some(Ok(Message::Text(_))) => break (CloseCode::Unsupported, "a room carries binary messages"),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(_)) => {}
                }
            }
            _ = under_watch.overdue() => {
                count(shared, &under_watch);
                break (CloseCode::Away, "nothing came for too long");
            }
        }
    };
    websocket::close(socket, &under_watch, code, reason).await;
}

/// Says that nobody took a message: in text, so that no side takes it for the other's.
async fn say_absent(socket: &mut Socket, under_watch: &UnderWatch) -> bool {
    let frame = ServerFrame::error(None, code::NOT_FOUND, "the other side is not there: this message went nowhere");
    websocket::write(socket, under_watch, Message::text(frame.to_json())).await
}

fn count(shared: &Shared, under_watch: &UnderWatch) {
    match under_watch.ended_as() {
        Some(Overdue::Stuck) => shared.metrics.closed_stuck.fetch_add(1, Relaxed),
        Some(Overdue::Idle) => shared.metrics.closed_idle.fetch_add(1, Relaxed),
        _ => 0,
    };
}

/// The side and the channel that a query names.
fn parse(query: &str) -> Result<(Side, &str), &'static str> {
    let (mut side, mut channel) = (None, None);
    for (name, value) in query.split('&').filter_map(|part| part.split_once('=')) {
        match name {
            "type" => side = Side::of_name(value),
            "channelId" => channel = Some(value),
            _ => {}
        }
    }
    let side = side.ok_or("type is app or web")?;
    let channel = channel.filter(|channel| PairSession::is_channel(channel));
    Ok((side, channel.ok_or("channelId is 32 letters, digits or underscores")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_named_by_32_word_characters() {
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
