//! [`Device`]: a client that keeps itself connected, and records everything that it observes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use rpc_im::{
    client::Line,
    envelope::{ClientFrame, Ping, Pong, Position, Push, Recipient, Send, SendAck, ServerFrame, Sync, code},
};
use tokio::{
    sync::{mpsc, watch},
    time::{interval, sleep, timeout},
};

use super::{Event, History, Place};
use crate::im_line::try_log_in;

/// A message that a client sends until it is acknowledged.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) to: Recipient,
    pub(super) members: BTreeSet<String>,
    pub(super) body: String,
}

/// A client of a device, which reconnects by itself.
pub(super) struct Device {
    pub(super) client: u32,
    pub(super) user: String,
    pub(super) device: String,
    pub(super) token: String,
    /// The WebSocket URLs of the nodes. The client connects to the first one first, and later to any.
    pub(super) nodes: Vec<String>,
    /// The time without a frame, even after a ping, after which the client reconnects.
    pub(super) patience: Duration,
    /// Whether other clients log in as the same device; the client then logs in only while `racing` is set.
    pub(super) races: bool,
    pub(super) racing: watch::Receiver<bool>,
    pub(super) history: Arc<History>,
    /// The number of messages without an answer, which the sender of the messages increases.
    pub(super) waiting: Arc<watch::Sender<usize>>,
    pub(super) state: State,
}

/// The state of a client that outlasts its sessions.
#[derive(Default)]
pub(super) struct State {
    /// The messages without an answer, by their bodies, with the number of attempts.
    unanswered: BTreeMap<String, (Message, u32)>,
    received: BTreeMap<String, Received>,
    is_connected: bool,
}

/// The received messages of a conversation.
#[derive(Default)]
struct Received {
    incarnation: u64,
    /// The sequence number up to which all messages are received.
    cursor: u64,
    /// The received sequence numbers after a gap.
    beyond: BTreeSet<u64>,
}

impl Device {
    /// Keeps the client connected until dropped.
    pub(super) async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut next = Some(0);
        loop {
            let node = next.take().unwrap_or_else(|| rand::random_range(0..self.nodes.len()));
            if let Ok(line) = try_log_in(&self.nodes[node], &self.token).await {
                self.state.is_connected = true;
                let (user, device) = (self.user.clone(), self.device.clone());
                self.history.record(Event::Opened { client: self.client, user, device });
                self.serve(line, &mut messages).await;
                self.state.is_connected = false;
                self.history.record(Event::Closed { client: self.client });
                self.forget_answers();
            }
            let pause = if self.races { 300..1500 } else { 20..200 };
            sleep(Duration::from_millis(rand::random_range(pause))).await;
            if self.races && !*self.racing.borrow() {
                return;
            }
        }
    }

    /// Exchanges frames with the node until the connection ends.
    async fn serve(&mut self, mut line: Line, messages: &mut mpsc::Receiver<Message>) {
        let mut ticks = interval(TICK);
        let mut last_read = Instant::now();
        let mut retry_at = None;
        let mut pending = self.requests();
        loop {
            for frame in pending.drain(..) {
                if !matches!(timeout(self.patience, line.say(&frame)).await, Ok(Ok(()))) {
                    return;
                }
            }
            // All branches are cancel-safe: the line and the queue keep what a dropped branch did not return.
            tokio::select! {
                frame = line.next() => {
                    last_read = Instant::now();
                    match frame {
                        Err(_) | Ok(ServerFrame::Kick(_)) => return,
                        Ok(ServerFrame::Reconnect(_)) if !self.races => return,
                        Ok(frame) => if self.handle(frame, &mut pending) {
                            retry_at.get_or_insert(last_read + RETRY_PAUSE);
                        },
                    }
                }
                Some(message) = messages.recv() => {
                    let body = message.body.clone();
                    self.state.unanswered.insert(body.clone(), (message, 0));
                    pending.push(self.invoke(&body));
                }
                _ = ticks.tick() => {
                    if last_read.elapsed() > self.patience {
                        return;
                    }
                    if last_read.elapsed() > TICK {
                        pending.push(ClientFrame::Ping(Ping {}));
                    }
                    if retry_at.take_if(|at| *at <= Instant::now()).is_some() {
                        pending.extend(self.requests());
                    }
                }
            }
        }
    }

    /// Handles a frame; returns whether a request has to be repeated later.
    fn handle(&mut self, frame: ServerFrame, pending: &mut Vec<ClientFrame>) -> bool {
        let client = self.client;
        match frame {
            ServerFrame::Ping(_) => pending.push(ClientFrame::Pong(Pong {})),
            ServerFrame::Lagging(_) => {
                self.history.record(Event::Lagging { client });
                pending.push(self.sync(String::new()));
            }
            ServerFrame::Synced(synced) if synced.more => pending.push(self.sync(synced.after)),
            ServerFrame::Push(Push { conversation, incarnation, seq, body, .. }) => {
                let place = Place { conversation, incarnation, seq };
                self.receive(&place);
                self.history.record(Event::Pushed { client, body, place });
            }
            ServerFrame::SendAck(SendAck { id: body, conversation, incarnation, seq, .. }) => {
                let place = Place { conversation, incarnation, seq };
                self.receive(&place);
                self.history.record(Event::Acknowledged { client, body: body.clone(), place });
                self.complete(&body);
            }
            ServerFrame::Error(error) => {
                let is_temporary = [code::UNAVAILABLE, code::TOO_MANY].contains(&&*error.code);
                let Some(body) = error.id else { return is_temporary };
                let is_first = self.state.unanswered.get(&body).is_some_and(|(_, attempts)| *attempts == 1);
                if is_temporary {
                    self.history.record(Event::Unknown { body });
                    return true;
                }
                self.complete(&body);
                // An earlier attempt of the same message may have succeeded.
                self.history.record(if is_first { Event::Failed { body } } else { Event::Unknown { body } });
            }
            _ => {}
        }
        false
    }

    fn receive(&mut self, place: &Place) {
        let received = self.state.received.entry(place.conversation.clone()).or_default();
        if received.incarnation != place.incarnation {
            *received = Received { incarnation: place.incarnation, ..Received::default() };
        }
        if place.seq > received.cursor {
            received.beyond.insert(place.seq);
        }
        while received.beyond.remove(&(received.cursor + 1)) {
            received.cursor += 1;
        }
    }

    /// Returns a sync and all unanswered messages.
    fn requests(&mut self) -> Vec<ClientFrame> {
        let bodies: Vec<_> = self.state.unanswered.keys().cloned().collect();
        let sends = bodies.iter().map(|body| self.invoke(body));
        let sends: Vec<_> = sends.collect();
        [self.sync(String::new())].into_iter().chain(sends).collect()
    }

    fn sync(&self, after: String) -> ClientFrame {
        let position = |(conversation, received): (&String, &Received)| {
            let Received { incarnation, cursor: seq, .. } = *received;
            (conversation.clone(), Position { incarnation, seq })
        };
        let cursors = self.state.received.iter().map(position).collect();
        ClientFrame::Sync(Sync { cursors, after, ..Sync::default() })
    }

    fn invoke(&mut self, body: &str) -> ClientFrame {
        let (message, attempts) = self.state.unanswered.get_mut(body).expect("the message is unanswered");
        *attempts += 1;
        let Message { to, members, body } = message.clone();
        self.history.record(Event::Invoked { body: body.clone(), members });
        ClientFrame::Send(Send { id: body.clone(), to: Some(to), body })
    }

    /// Records that no answer to the messages on the ended connection will arrive.
    fn forget_answers(&self) {
        for body in self.state.unanswered.keys().cloned() {
            self.history.record(Event::Unknown { body });
        }
    }

    /// Counts the first answer to a message.
    fn complete(&mut self, body: &str) {
        if self.state.unanswered.remove(body).is_some() {
            self.waiting.send_modify(|count| *count -= 1);
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.state.is_connected {
            self.history.record(Event::Closed { client: self.client });
        }
    }
}

/// The interval at which a connection checks its timers.
const TICK: Duration = Duration::from_millis(500);
/// The pause before requests are repeated that a node rejected temporarily.
const RETRY_PAUSE: Duration = Duration::from_millis(400);
