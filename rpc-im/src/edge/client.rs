//! The session of a client on its WebSocket.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::SystemTime,
};

use futures_util::StreamExt;
use hyper::{
    Request, StatusCode,
    body::Incoming as HttpBody,
    header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL},
};
use rpc_core::TokenBucket;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message, protocol::frame::coding::CloseCode};

use super::{
    account_limits::Rejected,
    answer::{HttpResponse, error_response},
    metrics::GaugeGuard,
    shared::{AdmittedConnection, Shared},
    watch::{Timeout, WatchGuard},
    websocket::{self, Socket},
};
use crate::{
    Login, LoginError, Outbound, Session,
    auth::Claims,
    envelope::{AuthOk, BadFrame, ClientFrame, Encoding, FrameError, ServerFrame, code},
};

/// Accepts a request for `/ws`, and serves the client on the upgraded connection.
pub(super) fn upgrade(connection: &Arc<AdmittedConnection>, request: Request<HttpBody>) -> HttpResponse {
    let Some(encoding) = websocket::encoding(request.headers()) else {
        return error_response(StatusCode::BAD_REQUEST, "unknown subprotocol, expected im.v1.json or im.v1.pb");
    };
    if !connection.shared.node.is_ready() {
        // The gateway or the client tries another node.
        return error_response(StatusCode::SERVICE_UNAVAILABLE, "this node is not accepting logins");
    }
    // A client that offers no subprotocol accepts none in the response.
    let offers = request.headers().contains_key(SEC_WEBSOCKET_PROTOCOL);
    let watch = connection.shared.watchdog.register();
    let mut response = websocket::upgrade(connection, request, move |connection, socket| async move {
        run(&connection, socket, encoding, watch).await;
    });
    if offers && response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let name = HeaderValue::from_static(encoding.subprotocol());
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, name);
    }
    response
}

/// Serves a client from its login to the end of its session.
async fn run(connection: &AdmittedConnection, socket: Socket, encoding: Encoding, watch: WatchGuard) {
    let shared = &connection.shared;
    let mut client = ClientSocket { shared, socket, encoding, watch: &watch };
    // Login and close are boxed: they are short, and their memory must not be part of the long-lived session future.
    let end = match Box::pin(client.log_in()).await {
        Ok((session, outbound)) => {
            client.watch.logged_in();
            connection.has_entered();
            let _gauge = GaugeGuard::new(&shared.metrics.sessions);
            client.run_session(&session, outbound).await
        }
        Err(end) => end,
    };
    Box::pin(client.close(end)).await;
}

/// The WebSocket of a client and the encoding of its frames.
struct ClientSocket<'a> {
    shared: &'a Arc<Shared>,
    socket: Socket,
    encoding: Encoding,
    watch: &'a WatchGuard,
}

/// The reason why a connection ends.
enum End {
    /// The client closed the connection, or the connection failed.
    Disconnected,
    /// The node closed the session and has sent every queued frame.
    SessionClosed,
    /// The watchdog timed out the connection.
    TimedOut(Timeout),
    /// The node rejects the client: it sends this error frame, then closes with this code.
    Rejected(Box<ServerFrame>, CloseCode),
}

/// A message from a client.
enum Incoming {
    Frame(ClientFrame),
    /// A message that is not a valid frame.
    Invalid(BadFrame),
    /// A WebSocket control message, which the WebSocket library has answered.
    Control,
}

impl ClientSocket<'_> {
    /// Waits for the token, and registers the session of its user.
    async fn log_in(&mut self) -> Result<(Session, Outbound), End> {
        let auth = loop {
            match self.next().await? {
                Incoming::Frame(ClientFrame::Auth(auth)) => break auth,
                Incoming::Frame(_) => return Err(rejected(code::UNAUTHENTICATED, "first frame is not auth")),
                Incoming::Invalid(error) => return Err(rejected(code::BAD_FRAME, error)),
                Incoming::Control => {}
            }
        };
        let Shared { secret, config, .. } = &**self.shared;
        let claims = Claims::verify(&auth.token, secret, config.audience.as_deref(), SystemTime::now());
        let Claims { user, device, platform, .. } = claims.map_err(|error| rejected(code::UNAUTHENTICATED, error))?;
        let login = self.shared.node.login(Login { user, device, platform });
        // On a timeout the login future is dropped, which removes the entries that it has made.
        tokio::select! {
            session = login => session.map_err(|error| match error {
                LoginError::Taken => rejected(code::REFUSED, error),
                LoginError::Unavailable(_) => rejected(code::UNAVAILABLE, error),
            }),
            timeout = self.watch.timed_out() => Err(End::TimedOut(timeout)),
        }
    }

    /// Forwards frames in both directions until the connection ends.
    async fn run_session(&mut self, session: &Session, mut outbound: Outbound) -> End {
        let mut frames = TokenBucket::new(MAX_FRAMES.into(), MAX_FRAMES.into(), Instant::now());
        let mut reports = TokenBucket::new(MAX_REPORTS.into(), f64::from(MAX_REPORTS) / 2.0, Instant::now());
        // After too many frames, the next one is read at this time.
        let mut pause = None;
        let mut rejections = 0;
        let (user, node) = (session.user().to_owned(), self.shared.name());
        let mut reply = Some(ServerFrame::AuthOk(AuthOk { user, session: session.id().0, node }));
        loop {
            if let Some(frame) = reply.take()
                && !self.send(&frame).await
            {
                return self.write_failure();
            }
            // Both branches are cancel-safe: the socket and the queue keep what a dropped branch did not return.
            let incoming = tokio::select! {
                biased;
                frame = outbound.next() => {
                    let Some(frame) = frame else { return End::SessionClosed };
                    if !self.send(&frame).await {
                        return self.write_failure();
                    }
                    continue;
                }
                () = sleep_until(pause.unwrap_or_else(Instant::now)), if pause.is_some() => {
                    pause = pause_of(&mut frames);
                    continue;
                }
                incoming = self.next(), if pause.is_none() => incoming,
            };
            pause = pause_of(&mut frames);
            match incoming {
                Err(end) => return end,
                Ok(Incoming::Control) => {}
                // A later report covers one that is ignored.
                Ok(Incoming::Frame(ClientFrame::Ack(_) | ClientFrame::Read(_)))
                    if reports.take(Instant::now()).is_err() => {}
                Ok(Incoming::Frame(frame)) if !is_request(&frame) => {
                    rejections = 0;
                    session.handle(frame);
                }
                Ok(Incoming::Frame(frame)) => match self.shared.limits.admit(session.user(), &frame, Instant::now()) {
                    Ok(()) => {
                        rejections = 0;
                        session.handle(frame);
                    }
                    Err(Rejected { code, reason }) => {
                        self.shared.metrics.frames_too_many.fetch_add(1, Relaxed);
                        rejections += 1;
                        reply = Some(ServerFrame::error(frame.id().map(str::to_owned), code, reason));
                    }
                },
                Ok(Incoming::Invalid(error)) => {
                    self.shared.metrics.frames_bad.fetch_add(1, Relaxed);
                    rejections += 1;
                    let reason = error.to_string();
                    reply = Some(ServerFrame::error(error.id, code::BAD_FRAME, reason));
                }
            }
            if rejections > MAX_REJECTIONS {
                self.shared.metrics.closed_flood.fetch_add(1, Relaxed);
                let error = format!("closing: more than {MAX_REJECTIONS} rejected frames in a row");
                return rejected(code::TOO_MANY, error);
            }
        }
    }

    /// Returns the next message.
    ///
    /// Cancel-safe: a partly received message stays in the socket's buffer.
    async fn next(&mut self) -> Result<Incoming, End> {
        let message = tokio::select! {
            message = self.socket.next() => message,
            timeout = self.watch.timed_out() => return Err(End::TimedOut(timeout)),
        };
        self.watch.has_read();
        let frame = match message {
            None | Some(Ok(Message::Close(_))) => return Err(End::Disconnected),
            Some(Ok(Message::Text(text))) if self.encoding == Encoding::Json => ClientFrame::from_json(&text),
            Some(Ok(Message::Binary(bytes))) if self.encoding == Encoding::Protobuf => {
                ClientFrame::from_protobuf(&bytes)
            }
            Some(Ok(Message::Text(_) | Message::Binary(_))) => {
                let expected = if self.encoding == Encoding::Json { "text" } else { "binary" };
                let error = format!("{} requires {expected} messages", self.encoding.subprotocol());
                Err(BadFrame { id: None, error: FrameError::Invalid(error) })
            }
            Some(Ok(_)) => return Ok(Incoming::Control),
            Some(Err(SocketError::Capacity(_))) => {
                let max_frame = self.shared.config.max_frame;
                let error = format!("frame is too long, limit is {max_frame} bytes (EdgeConfig::max_frame)");
                let frame = ServerFrame::error(None, code::TOO_LARGE, error);
                return Err(End::Rejected(Box::new(frame), CloseCode::Size));
            }
            Some(Err(_)) => return Err(End::Disconnected),
        };
        self.shared.metrics.frames_in.fetch_add(1, Relaxed);
        Ok(frame.map_or_else(Incoming::Invalid, Incoming::Frame))
    }

    /// Writes a frame; returns false if the connection has failed or timed out.
    async fn send(&mut self, frame: &ServerFrame) -> bool {
        self.shared.metrics.frames_out.fetch_add(1, Relaxed);
        let message = match self.encoding {
            Encoding::Json => Message::text(frame.to_json()),
            Encoding::Protobuf => Message::binary(frame.to_protobuf()),
        };
        websocket::write(&mut self.socket, self.watch, message).await
    }

    /// Returns the reason why a write failed.
    fn write_failure(&self) -> End {
        self.watch.timeout().map_or(End::Disconnected, End::TimedOut)
    }

    /// Counts the end of the connection, and closes the socket if the client may still read.
    async fn close(mut self, end: End) {
        let metrics = &self.shared.metrics;
        let (code, reason) = match end {
            End::Disconnected => return,
            End::SessionClosed => (CloseCode::Away, "session closed"),
            End::TimedOut(timeout) => {
                let (counter, code, reason) = match timeout {
                    // A client that stalled a write would stall the close frame, too.
                    Timeout::WriteStall => {
                        metrics.closed_stuck.fetch_add(1, Relaxed);
                        return;
                    }
                    Timeout::Login => {
                        (&metrics.closed_login, CloseCode::Policy, "login timeout (EdgeConfig::login_time)")
                    }
                    Timeout::Idle => (&metrics.closed_idle, CloseCode::Away, "idle timeout (EdgeConfig::idle)"),
                };
                counter.fetch_add(1, Relaxed);
                (code, reason)
            }
            End::Rejected(frame, code) => {
                if !self.send(&frame).await {
                    return;
                }
                (code, "rejected")
            }
        };
        websocket::close(self.socket, self.watch, code, reason).await;
    }
}

/// Returns an end that sends the client an error frame and closes with a policy violation.
fn rejected(code: &str, error: impl ToString) -> End {
    End::Rejected(Box::new(ServerFrame::error(None, code, error.to_string())), CloseCode::Policy)
}

/// Takes the token of a frame; returns the time at which there is one, if there is none now.
fn pause_of(frames: &mut TokenBucket) -> Option<Instant> {
    let now = Instant::now();
    frames.take(now).err().map(|wait| now + wait)
}

/// Returns whether the frame is a request, which counts towards the limits of the user.
fn is_request(frame: &ClientFrame) -> bool {
    !matches!(
        frame,
        ClientFrame::Ack(_) | ClientFrame::Read(_) | ClientFrame::Ping(_) | ClientFrame::Pong(_) | ClientFrame::Auth(_)
    )
}

/// The maximum number of frames of any kind at once, and in a second; the node reads further ones later.
const MAX_FRAMES: u32 = 1000;
/// The maximum number of reports of received and read messages at once; half of it in a second.
const MAX_REPORTS: u32 = 200;
/// The maximum number of rejected frames in a row; one more closes the connection.
const MAX_REJECTIONS: u32 = 200;
