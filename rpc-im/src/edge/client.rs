//! A client's session on its WebSocket.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Instant, SystemTime},
};

use futures_util::StreamExt;
use hyper::{
    Request, StatusCode,
    body::Incoming as HttpBody,
    header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL},
};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message, protocol::frame::coding::CloseCode};

use super::{
    allowance::Allowance,
    answer::{Answer, refusal},
    metrics::OneMore,
    shared::{Booked, Shared},
    watch::{Overdue, UnderWatch},
    websocket::{self, Socket},
};
use crate::{
    Login, Outbound, Refused, Session,
    auth::Claims,
    envelope::{AuthOk, ClientFrame, Encoding, FrameError, ServerFrame, code},
};

/// Answers a request for `/ws` and runs the client's session on the upgraded connection.
pub(super) fn upgrade(booked: &Arc<Booked>, request: Request<HttpBody>) -> Answer {
    let Some(encoding) = websocket::encoding(request.headers()) else {
        return refusal(StatusCode::BAD_REQUEST, "the subprotocol is im.v1.json or im.v1.pb");
    };
    if !booked.shared.node.is_ready() {
        // The gateway or the client tries another node.
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "this node takes no logins");
    }
    let under_watch = booked.shared.watch.enter();
    let mut answer = websocket::upgrade(booked, request, move |booked, socket| async move {
        run(&booked, socket, encoding, under_watch).await;
    });
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let name = HeaderValue::from_static(encoding.subprotocol());
        answer.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, name);
    }
    answer
}

/// Speaks with a client until one of the two has enough.
async fn run(booked: &Booked, socket: Socket, encoding: Encoding, under_watch: UnderWatch) {
    let shared = &booked.shared;
    let mut wire = Wire { shared, socket, encoding, under_watch: &under_watch };
    // What a login and an end take is on the heap for as long as they last: a session is as small as its talk.
    let ending = match Box::pin(wire.log_in()).await {
        Ok((session, outbound)) => {
            wire.under_watch.logged_in();
            booked.has_entered();
            let _one = OneMore::of(&shared.metrics.sessions);
            wire.talk(&session, outbound).await
        }
        Err(ending) => ending,
    };
    Box::pin(wire.end(ending)).await;
}

/// A client's WebSocket and how it is written.
struct Wire<'a> {
    shared: &'a Arc<Shared>,
    socket: Socket,
    encoding: Encoding,
    under_watch: &'a UnderWatch,
}

/// How a session ends.
enum Ending {
    /// The connection is of no more use.
    Gone,
    /// The node has said all.
    Over,
    /// The sweep ended it.
    Overdue(Overdue),
    /// The client is told why, and the connection closes.
    Refused(Box<ServerFrame>, CloseCode),
}

/// What came from a client.
enum Incoming {
    Frame(ClientFrame),
    /// Something that is no frame.
    Bad(FrameError),
    /// A control message, which is answered already.
    Nothing,
}

impl Wire<'_> {
    /// Waits for the token, and enters its bearer.
    async fn log_in(&mut self) -> Result<(Session, Outbound), Ending> {
        let auth = loop {
            match self.next().await? {
                Incoming::Frame(ClientFrame::Auth(auth)) => break auth,
                Incoming::Frame(_) => return Err(refused(code::UNAUTHENTICATED, "the first frame is auth")),
                Incoming::Bad(error) => return Err(refused(code::BAD_FRAME, error)),
                Incoming::Nothing => {}
            }
        };
        let Claims { user, device, platform, .. } = Claims::verify(&auth.token, &self.shared.secret, SystemTime::now())
            .map_err(|error| refused(code::UNAUTHENTICATED, error))?;
        let login = self.shared.node.login(Login { user, device, platform });
        // A login that takes too long is dropped, and with it what it had entered.
        tokio::select! {
            entered = login => entered.map_err(|error| match error {
                Refused::Taken => refused(code::REFUSED, error),
                Refused::Unavailable(_) => refused(code::UNAVAILABLE, error),
            }),
            overdue = self.under_watch.overdue() => Err(Ending::Overdue(overdue)),
        }
    }

    /// Carries frames in both directions.
    async fn talk(&mut self, session: &Session, mut outbound: Outbound) -> Ending {
        let config = &self.shared.config;
        let mut allowance = Allowance::new(config.rate, config.burst, Instant::now());
        let mut refusals = 0;
        let (user, node) = (session.user().to_owned(), self.shared.name());
        let mut saying = Some(ServerFrame::AuthOk(AuthOk { user, session: session.id().0, node }));
        loop {
            if let Some(frame) = saying.take()
                && !self.say(&frame).await
            {
                return self.broken();
            }
            // Either branch may be dropped: neither reading nor the queue loses anything.
            let heard = tokio::select! {
                biased;
                frame = outbound.next() => {
                    let Some(frame) = frame else { return Ending::Over };
                    if !self.say(&frame).await {
                        return self.broken();
                    }
                    continue;
                }
                heard = self.next() => heard,
            };
            match heard {
                Err(ending) => return ending,
                Ok(Incoming::Nothing) => {}
                Ok(Incoming::Frame(frame)) if !is_work(&frame) || allowance.take(Instant::now()) => {
                    refusals = 0;
                    session.handle(frame);
                }
                Ok(Incoming::Frame(frame)) => {
                    self.shared.metrics.frames_too_many.fetch_add(1, Relaxed);
                    refusals += 1;
                    let why = "too much at once: send this again in a second";
                    saying = Some(ServerFrame::error(id_of(frame), code::TOO_MANY, why));
                }
                Ok(Incoming::Bad(error)) => {
                    self.shared.metrics.frames_bad.fetch_add(1, Relaxed);
                    refusals += 1;
                    saying = Some(ServerFrame::error(None, code::BAD_FRAME, error.to_string()));
                }
            }
            if refusals > MAX_REFUSALS {
                self.shared.metrics.closed_flood.fetch_add(1, Relaxed);
                return refused(code::TOO_MANY, "too much that could not be done");
            }
        }
    }

    /// The next thing that comes.
    ///
    /// Cancel safe: a message that has begun to come stays in the socket's buffer.
    async fn next(&mut self) -> Result<Incoming, Ending> {
        let message = tokio::select! {
            message = self.socket.next() => message,
            overdue = self.under_watch.overdue() => return Err(Ending::Overdue(overdue)),
        };
        self.under_watch.has_read();
        let frame = match message {
            None | Some(Ok(Message::Close(_))) => return Err(Ending::Gone),
            Some(Ok(Message::Text(text))) if self.encoding == Encoding::Json => ClientFrame::from_json(&text),
            Some(Ok(Message::Binary(bytes))) if self.encoding == Encoding::Protobuf => {
                ClientFrame::from_protobuf(&bytes)
            }
            Some(Ok(Message::Text(_) | Message::Binary(_))) => {
                let expected = if self.encoding == Encoding::Json { "text" } else { "binary" };
                Err(FrameError::Invalid(format!("{} has {expected} messages", self.encoding.subprotocol())))
            }
            Some(Ok(_)) => return Ok(Incoming::Nothing),
            Some(Err(SocketError::Capacity(_))) => {
                let error = format!("a frame has at most {} bytes", self.shared.config.max_frame);
                let frame = ServerFrame::error(None, code::TOO_LARGE, error);
                return Err(Ending::Refused(Box::new(frame), CloseCode::Size));
            }
            Some(Err(_)) => return Err(Ending::Gone),
        };
        self.shared.metrics.frames_in.fetch_add(1, Relaxed);
        Ok(frame.map_or_else(Incoming::Bad, Incoming::Frame))
    }

    /// Writes a frame; false when the connection is of no more use.
    async fn say(&mut self, frame: &ServerFrame) -> bool {
        self.shared.metrics.frames_out.fetch_add(1, Relaxed);
        let message = match self.encoding {
            Encoding::Json => Message::text(frame.to_json()),
            Encoding::Protobuf => Message::binary(frame.to_protobuf()),
        };
        websocket::write(&mut self.socket, self.under_watch, message).await
    }

    /// Why a write did not succeed.
    fn broken(&self) -> Ending {
        self.under_watch.ended_as().map_or(Ending::Gone, Ending::Overdue)
    }

    async fn end(mut self, ending: Ending) {
        let metrics = &self.shared.metrics;
        let (code, reason) = match ending {
            Ending::Gone => return,
            Ending::Over => (CloseCode::Away, "the session is over"),
            Ending::Overdue(overdue) => {
                let (counter, code, reason) = match overdue {
                    // Who did not take a write does not take a farewell.
                    Overdue::Stuck => {
                        metrics.closed_stuck.fetch_add(1, Relaxed);
                        return;
                    }
                    Overdue::Login => (&metrics.closed_login, CloseCode::Policy, "no token came in time"),
                    Overdue::Idle => (&metrics.closed_idle, CloseCode::Away, "nothing came for too long"),
                };
                counter.fetch_add(1, Relaxed);
                (code, reason)
            }
            Ending::Refused(frame, code) => {
                if !self.say(&frame).await {
                    return;
                }
                (code, "refused")
            }
        };
        websocket::close(self.socket, self.under_watch, code, reason).await;
    }
}

/// The end of a client that is told why.
fn refused(code: &str, why: impl ToString) -> Ending {
    Ending::Refused(Box::new(ServerFrame::error(None, code, why.to_string())), CloseCode::Policy)
}

/// Whether the node has to do something for it that others may have to wait for.
fn is_work(frame: &ClientFrame) -> bool {
    matches!(frame, ClientFrame::Send(_) | ClientFrame::Create(_) | ClientFrame::Sync(_))
}

/// The client's id of what it asks for.
fn id_of(frame: ClientFrame) -> Option<String> {
    match frame {
        ClientFrame::Send(send) => Some(send.id),
        ClientFrame::Create(create) => Some(create.id),
        _ => None,
    }
}

/// How many refusals in a row a client gets before it is closed.
const MAX_REFUSALS: u32 = 200;
