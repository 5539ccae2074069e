//! A client of the cluster, which emits every message once and in order.
//!
//! It logs in, and reconnects to another node on failure.
//!
//! | topic | item |
//! |---|---|
//! | client with reconnects, and its events | [`Client`], [`Event`] |
//! | one WebSocket connection, without reconnects | [`Line`] |
//! | HTTP requests | [`login`], [`gate`], [`health`] |
//!
//! `ledger.rs` holds the state of a client (cursors, unanswered requests) without I/O.

mod event;
mod http;
mod ledger;
mod line;
mod sync_queue;

pub use event::Event;
pub use http::{HttpError, LoggedIn, gate, health, login};
pub use line::{Line, LineError};

use std::{collections::BTreeSet, time::Duration};

use rand::RngExt;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::envelope::{Auth, ClientFrame, Create, Encoding, Ping, Pong, Read, Recipient, Send, ServerFrame, code};
use event::Command;
use ledger::ClientState;

/// A connection of one device of a user to the cluster, over successive connections to nodes.
///
/// # Drop
///
/// Dropping the client closes its connection.
#[derive(Debug)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    events: mpsc::Receiver<Event>,
    _task: JoinSet<()>,
}

impl Client {
    /// Starts a task that connects to one of the nodes and reconnects on failure.
    ///
    /// The nodes are `ws://…` URLs; the client presents the token to them.
    ///
    /// [`next`](Self::next) returns the events of the client.
    pub fn start(logged_in: LoggedIn) -> Self {
        let (commands, commands_receiver) = mpsc::channel(QUEUE);
        let (events_sender, events) = mpsc::channel(QUEUE);
        let mut task = JoinSet::new();
        let driver = Driver {
            token: logged_in.token,
            nodes: logged_in.nodes,
            next_node: 0,
            state: ClientState::default(),
            events: events_sender,
        };
        task.spawn(driver.run(commands_receiver));
        Self { commands, events, _task: task }
    }

    /// Queues a message.
    ///
    /// The client sends it, with the same id each time, until [`Event::Stored`] or [`Event::Failed`] reports the
    /// outcome.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, the message is not sent. The same holds for the other requests.
    pub async fn send(&self, id: String, to: Recipient, body: String) {
        self.request(id.clone(), ClientFrame::Send(Send { id, to: Some(to), body })).await;
    }

    /// Queues a request for a new group.
    ///
    /// An [`Event::Conversation`] with the same id reports the result.
    pub async fn create(&self, id: String, name: String, members: Vec<String>) {
        self.request(id.clone(), ClientFrame::Create(Create { id, name, members, open: false })).await;
    }

    /// Queues any request that has an id; `id` is the one in the frame.
    ///
    /// [`Event::Stored`], [`Event::Conversation`], [`Event::History`], [`Event::Members`] or [`Event::Failed`] with the
    /// same id reports the result.
    pub async fn request(&self, id: String, frame: ClientFrame) {
        // If the client has ended, its last event has reported it.
        let _ = self.commands.send(Command::Request { id, frame }).await;
    }

    /// Reports that the user has read a conversation up to a sequence number. The report is lost while the client is not
    /// connected.
    pub async fn read(&self, conversation: String, seq: u64) {
        let _ = self.commands.send(Command::Notice(ClientFrame::Read(Read { conversation, seq }))).await;
    }

    /// Returns the next event, or `None` after [`Event::Ended`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no event.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

/// The task of a client.
struct Driver {
    token: String,
    nodes: Vec<String>,
    /// The index into `nodes`, modulo their number, of the node to connect to.
    next_node: usize,
    state: ClientState,
    events: mpsc::Sender<Event>,
}

/// The reason why a connection, or an attempt to connect, has ended.
enum Disconnect {
    /// The connection failed: the driver connects to the next node.
    Lost,
    /// The cluster ended the session: the driver stops.
    Ended(String),
    /// The program dropped the client: the driver stops.
    Dropped,
}

impl Driver {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut failures = 0_u32;
        loop {
            let disconnect = match timeout(CONNECT_TIMEOUT, self.connect()).await {
                Ok(Ok((line, node))) => {
                    failures = 0;
                    self.emit(Event::Connected { node }).await;
                    let disconnect = self.run_connection(line, &mut commands).await;
                    self.emit(Event::Disconnected).await;
                    disconnect
                }
                Ok(Err(disconnect)) => disconnect,
                Err(_) => Disconnect::Lost,
            };
            match disconnect {
                Disconnect::Lost => {}
                Disconnect::Ended(reason) => return self.emit(Event::Ended { reason }).await,
                Disconnect::Dropped => return,
            }
            if self.events.is_closed() {
                return;
            }
            self.next_node += 1;
            if failures > 0 {
                let backoff = MAX_BACKOFF.min(BASE_BACKOFF * 2_u32.pow(failures.min(6)));
                let jitter = rand::rng().random_range(0.5..1.0);
                sleep(backoff.mul_f64(jitter)).await;
            }
            failures += 1;
            if failures.is_multiple_of(3) {
                self.refresh_nodes().await;
            }
        }
    }

    async fn connect(&mut self) -> Result<(Line, String), Disconnect> {
        let Some(url) = self.nodes.get(self.next_node % self.nodes.len().max(1)) else {
            return Err(Disconnect::Ended("the login response lists no nodes".to_owned()));
        };
        let mut line = Line::connect(url, Encoding::Protobuf).await.map_err(|_| Disconnect::Lost)?;
        let auth = ClientFrame::Auth(Auth { token: self.token.clone() });
        line.say(&auth).await.map_err(|_| Disconnect::Lost)?;
        match line.next().await.map_err(|_| Disconnect::Lost)? {
            ServerFrame::AuthOk(ok) => Ok((line, ok.node)),
            ServerFrame::Error(error) if [code::UNAUTHENTICATED, code::REFUSED].contains(&&*error.code) => {
                Err(Disconnect::Ended(error.message))
            }
            ServerFrame::Kick(kick) => Err(Disconnect::Ended(kick.reason)),
            _ => Err(Disconnect::Lost),
        }
    }

    /// Exchanges frames with one node until the connection ends.
    async fn run_connection(&mut self, mut line: Line, commands: &mut mpsc::Receiver<Command>) -> Disconnect {
        for frame in self.state.frames_on_connect() {
            if line.say(&frame).await.is_err() {
                return Disconnect::Lost;
            }
        }
        let (mut last_read, mut retry_at, mut reconnect_at) = (Instant::now(), None::<Instant>, None::<Instant>);
        let mut sync_at = None::<Instant>;
        loop {
            let ping_at =
                last_read + if last_read.elapsed() < PING_AFTER { PING_AFTER } else { PING_AFTER + PING_TIMEOUT };
            // All branches are cancel-safe: the line and both queues keep what a dropped branch did not return.
            let frame = tokio::select! {
                frame = line.next() => frame,
                command = commands.recv(), if self.state.has_capacity() => {
                    let Some(command) = command else { return Disconnect::Dropped };
                    if line.say(&self.state.handle_command(command)).await.is_err() {
                        return Disconnect::Lost;
                    }
                    continue;
                }
                () = sleep_until(ping_at) => {
                    let is_unresponsive = last_read.elapsed() >= PING_AFTER + PING_TIMEOUT;
                    if is_unresponsive || line.say(&ClientFrame::Ping(Ping {})).await.is_err() {
                        return Disconnect::Lost;
                    }
                    continue;
                }
                () = sleep_until(retry_at.unwrap_or(last_read)), if retry_at.is_some() => {
                    retry_at = None;
                    for frame in self.state.frames_to_repeat() {
                        if line.say(&frame).await.is_err() {
                            return Disconnect::Lost;
                        }
                    }
                    continue;
                }
                () = sleep_until(reconnect_at.unwrap_or(last_read)), if reconnect_at.is_some() => return Disconnect::Lost,
                () = sleep_until(sync_at.unwrap_or(last_read)), if sync_at.is_some() => {
                    sync_at = None;
                    if let Some(sync) = self.state.sync_gaps()
                        && line.say(&sync).await.is_err()
                    {
                        return Disconnect::Lost;
                    }
                    continue;
                }
            };
            last_read = Instant::now();
            let Ok(frame) = frame else { return Disconnect::Lost };
            match frame {
                ServerFrame::Kick(kick) => return Disconnect::Ended(kick.reason),
                ServerFrame::Reconnect(reconnect) => {
                    if !reconnect.nodes.is_empty() {
                        self.nodes = reconnect.nodes;
                        // `run` increments it, so that the client connects to the first node of the new list.
                        self.next_node = self.nodes.len() - 1;
                    }
                    let delay = Duration::from_millis(reconnect.within_ms.into());
                    reconnect_at = Some(last_read + delay.mul_f64(rand::rng().random_range(0.0..1.0)));
                }
                ServerFrame::Ping(_) => {
                    if line.say(&ClientFrame::Pong(Pong {})).await.is_err() {
                        return Disconnect::Lost;
                    }
                }
                ServerFrame::Error(error) if [code::TOO_MANY, code::UNAVAILABLE].contains(&&*error.code) => {
                    retry_at.get_or_insert(last_read + RETRY_AFTER);
                }
                frame => {
                    let (events, replies) = self.state.handle_frame(frame);
                    for event in events {
                        self.emit(event).await;
                    }
                    for reply in replies {
                        if line.say(&reply).await.is_err() {
                            return Disconnect::Lost;
                        }
                    }
                    if self.state.has_gap() {
                        // The missing messages may be on their way from another node.
                        sync_at.get_or_insert(last_read + GAP_TIMEOUT);
                    }
                }
            }
        }
    }

    /// Fetches the node list from the first node that responds.
    async fn refresh_nodes(&mut self) {
        let known: BTreeSet<_> = self.nodes.iter().cloned().collect();
        for node in known {
            if let Ok(nodes) = gate(&http::base_of(&node)).await
                && !nodes.is_empty()
            {
                self.nodes = nodes;
                return;
            }
        }
    }

    /// Queues an event. It waits while the program does not read events, so that no event is lost.
    async fn emit(&self, event: Event) {
        let _ = self.events.send(event).await;
    }
}

/// The capacity of the command queue, and of the event queue.
const QUEUE: usize = 64;
/// The limit of a connect, from the TCP connection to the node's answer to the token.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// The time without a frame after which the client sends a ping.
const PING_AFTER: Duration = Duration::from_secs(25);
/// The time after a ping without a frame after which the client reconnects.
const PING_TIMEOUT: Duration = Duration::from_secs(8);
/// The pause before the client repeats requests that a node rejected as `too_many` or `unavailable`.
const RETRY_AFTER: Duration = Duration::from_millis(1100);
const BASE_BACKOFF: Duration = Duration::from_millis(125);
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// The time after which the client syncs if messages are still missing before others.
const GAP_TIMEOUT: Duration = Duration::from_millis(500);
