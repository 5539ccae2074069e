//! A client of the cluster in Rust: it logs in, stays connected to some node, and loses nothing.
//!
//! | question | file |
//! |---|---|
//! | what does a program do with it? | here |
//! | what does it know and owe, without any I/O? | `ledger.rs` |
//! | how does it speak with one node? | `line.rs` |
//! | and over HTTP? | `http.rs` |

mod http;
mod ledger;
mod line;

pub use http::{HttpError, LoggedIn, gate, health, login};
pub use line::{Line, LineError};

use std::{collections::BTreeSet, time::Duration};

use rand::RngExt;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::envelope::{Auth, ClientFrame, Create, Encoding, Ping, Pong, Push, Recipient, Send, ServerFrame, code};
use ledger::Ledger;

/// A user on one device, on whichever node there is.
///
/// # Drop
///
/// Dropped, its connection ends.
#[derive(Debug)]
pub struct Client {
    wishes: mpsc::Sender<Wish>,
    events: mpsc::Receiver<Event>,
    _task: JoinSet<()>,
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// It is on this node.
    Connected {
        /// The node's name.
        node: String,
    },
    /// It is on no node, and looks for one.
    Disconnected,
    /// A message, in its place in the conversation: the next of it, and never twice.
    Message(Push),
    /// A message that this client has sent is stored.
    Stored {
        /// The client's id of it.
        id: String,
        /// The conversation that it is in.
        conversation: String,
        /// Its place there.
        seq: u64,
    },
    /// What this client has asked for will not happen.
    Failed {
        /// The client's id of it.
        id: String,
        /// Why.
        reason: String,
    },
    /// A conversation that the user is in.
    Conversation(crate::envelope::Conversation),
    /// Somebody came or went.
    Presence(crate::envelope::Presence),
    /// The cluster does not want this client any more: the last event.
    Ended {
        /// Why.
        reason: String,
    },
}

/// What a client is asked to do.
enum Wish {
    Send(Send),
    Create(Create),
}

impl Client {
    /// Connects with a token to one of the nodes, `ws://…` each; goes on by itself, and tells of it by [`next`](Self::next).
    pub fn start(logged_in: LoggedIn) -> Self {
        let (wishes, asked) = mpsc::channel(QUEUE);
        let (told, events) = mpsc::channel(QUEUE);
        let mut task = JoinSet::new();
        let driver =
            Driver { token: logged_in.token, nodes: logged_in.nodes, turn: 0, ledger: Ledger::default(), told };
        task.spawn(driver.run(asked));
        Self { wishes, events, _task: task }
    }

    /// Sends a message. It is sent again until it is stored or refused, under the same id; an event says which.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, nothing is sent.
    pub async fn send(&self, id: String, to: Recipient, body: String) {
        // An ended client has said so by its last event.
        let _ = self.wishes.send(Wish::Send(Send { id, to: Some(to), body })).await;
    }

    /// Begins a conversation; an event with that id tells of it.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, nothing is begun.
    pub async fn create(&self, id: String, name: String, members: Vec<String>) {
        let _ = self.wishes.send(Wish::Create(Create { id, name, members })).await;
    }

    /// What happens next; `None` after [`Event::Ended`].
    ///
    /// # Cancel safety
    ///
    /// Dropped, no event is lost.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

/// The task of a client.
struct Driver {
    token: String,
    nodes: Vec<String>,
    turn: usize,
    ledger: Ledger,
    told: mpsc::Sender<Event>,
}

/// Why a client leaves its node.
enum Leaving {
    /// Something broke: another node is tried.
    Lost,
    /// For good.
    Ended(String),
    /// The program has dropped the client.
    Dropped,
}

impl Driver {
    async fn run(mut self, mut asked: mpsc::Receiver<Wish>) {
        let mut failures = 0_u32;
        loop {
            let connected = match timeout(PATIENCE, self.connect()).await {
                Ok(Ok((line, node))) => {
                    failures = 0;
                    self.tell(Event::Connected { node }).await;
                    let leaving = self.talk(line, &mut asked).await;
                    self.tell(Event::Disconnected).await;
                    leaving
                }
                Ok(Err(leaving)) => leaving,
                Err(_) => Leaving::Lost,
            };
            match connected {
                Leaving::Lost => {}
                Leaving::Ended(reason) => return self.tell(Event::Ended { reason }).await,
                Leaving::Dropped => return,
            }
            if self.told.is_closed() {
                return;
            }
            self.turn += 1;
            if failures > 0 {
                let longest = LONGEST_PAUSE.min(FIRST_PAUSE * 2_u32.pow(failures.min(6)));
                let pause = longest.mul_f64(rand::rng().random_range(0.5..1.0));
                sleep(pause).await;
            }
            failures += 1;
            if failures.is_multiple_of(3) {
                self.refresh().await;
            }
        }
    }

    async fn connect(&mut self) -> Result<(Line, String), Leaving> {
        let Some(url) = self.nodes.get(self.turn % self.nodes.len().max(1)) else {
            return Err(Leaving::Ended("no node is known".to_owned()));
        };
        let mut line = Line::connect(url, Encoding::Protobuf).await.map_err(|_| Leaving::Lost)?;
        let auth = ClientFrame::Auth(Auth { token: self.token.clone() });
        line.say(&auth).await.map_err(|_| Leaving::Lost)?;
        match line.next().await.map_err(|_| Leaving::Lost)? {
            ServerFrame::AuthOk(ok) => Ok((line, ok.node)),
            ServerFrame::Error(error) if [code::UNAUTHENTICATED, code::REFUSED].contains(&&*error.code) => {
                Err(Leaving::Ended(error.message))
            }
            ServerFrame::Kick(kick) => Err(Leaving::Ended(kick.reason)),
            _ => Err(Leaving::Lost),
        }
    }

    /// Speaks with one node for as long as it is there.
    async fn talk(&mut self, mut line: Line, asked: &mut mpsc::Receiver<Wish>) -> Leaving {
        for frame in self.ledger.owed() {
            if line.say(&frame).await.is_err() {
                return Leaving::Lost;
            }
        }
        let (mut heard, mut again) = (Instant::now(), None::<Instant>);
        let mut leave_at = None::<Instant>;
        loop {
            let ask = heard + if heard.elapsed() < PING { PING } else { PING + SILENCE };
            // Each may be dropped: reading and both queues lose nothing.
            let frame = tokio::select! {
                frame = line.next() => frame,
                wish = asked.recv(), if self.ledger.has_room() => {
                    let Some(wish) = wish else { return Leaving::Dropped };
                    let frame = self.ledger.handle_wish(wish);
                    if line.say(&frame).await.is_err() {
                        return Leaving::Lost;
                    }
                    continue;
                }
                () = sleep_until(ask) => {
                    if heard.elapsed() >= PING + SILENCE || line.say(&ClientFrame::Ping(Ping {})).await.is_err() {
                        return Leaving::Lost;
                    }
                    continue;
                }
                () = sleep_until(again.unwrap_or(heard)), if again.is_some() => {
                    again = None;
                    for frame in self.ledger.owed() {
                        if line.say(&frame).await.is_err() {
                            return Leaving::Lost;
                        }
                    }
                    continue;
                }
                () = sleep_until(leave_at.unwrap_or(heard)), if leave_at.is_some() => return Leaving::Lost,
            };
            heard = Instant::now();
            let Ok(frame) = frame else { return Leaving::Lost };
            match frame {
                ServerFrame::Kick(kick) => return Leaving::Ended(kick.reason),
                ServerFrame::Reconnect(reconnect) => {
                    if !reconnect.nodes.is_empty() {
                        self.nodes = reconnect.nodes;
                        self.turn = self.nodes.len() - 1;
                    }
                    let part = rand::rng().random_range(0.0..1.0);
                    leave_at = Some(heard + Duration::from_millis(reconnect.within_ms.into()).mul_f64(part));
                }
                ServerFrame::Ping(_) => {
                    if line.say(&ClientFrame::Pong(Pong {})).await.is_err() {
                        return Leaving::Lost;
                    }
                }
                ServerFrame::Error(error) if [code::TOO_MANY, code::UNAVAILABLE].contains(&&*error.code) => {
                    again.get_or_insert(heard + AGAIN);
                }
                frame => {
                    let (events, asks) = self.ledger.handle_frame(frame);
                    for event in events {
                        self.tell(event).await;
                    }
                    for ask in asks {
                        if line.say(&ask).await.is_err() {
                            return Leaving::Lost;
                        }
                    }
                }
            }
        }
    }

    /// Asks any node which nodes there are.
    async fn refresh(&mut self) {
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

    /// Waits while the program does not listen: it does not lose what it was told late.
    async fn tell(&self, event: Event) {
        let _ = self.told.send(event).await;
    }
}

/// Wishes that wait for the task, and events that wait for the program.
const QUEUE: usize = 64;
/// How long a node has to let a client in.
const PATIENCE: Duration = Duration::from_secs(8);
/// After so long without a sign of the node it is asked for one.
const PING: Duration = Duration::from_secs(25);
/// And after so much longer it is given up.
const SILENCE: Duration = Duration::from_secs(8);
/// The pause after what a node could not do now.
const AGAIN: Duration = Duration::from_millis(1100);
const FIRST_PAUSE: Duration = Duration::from_millis(125);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
