//! [`Driver`]: the task of a user, which connects to one node after another.

use std::time::{Duration, Instant};

use rpc_im::{
    client::{Line, gate},
    envelope::{ClientFrame, Create, Ping, Pong, Reconnect, ServerFrame, code},
};
use tokio::{
    sync::{mpsc, watch},
    time::{interval, sleep, timeout},
};

use super::{log::Log, options::UserOptions};
use crate::{
    im_line::{LoginFailure, token, try_log_in},
    in_time,
};

/// A command to the task of a user. The log holds the messages to send.
pub(super) enum Command {
    Send(u64),
    Create(Create),
    Sync,
}

/// Keeps one device of a user connected.
pub(super) struct Driver {
    pub(super) name: String,
    pub(super) bases: Vec<String>,
    pub(super) options: UserOptions,
    pub(super) log: watch::Sender<Log>,
}

/// The connection to one node.
struct Connection<'a> {
    driver: &'a Driver,
    line: Line,
    /// The frames to send.
    pending: Vec<ClientFrame>,
    /// The time of the last frame from the node.
    last_read: Instant,
    /// The time to repeat requests that the node rejected temporarily.
    retry_at: Option<Instant>,
    /// The time to reconnect, and the node to connect to.
    reconnect_at: Option<(Instant, String)>,
}

/// The reason why a connection has ended.
enum Disconnect {
    /// The connection failed: the driver connects to this node, or to one from the gate.
    Lost(Option<String>),
    /// The cluster ended the session: the driver stops.
    Ended(String),
}

impl Driver {
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let token = in_time(token(&self.bases, &self.name, &self.options.device, &self.options.platform)).await;
        let mut next = self.options.first.take();
        let mut lost_at = Instant::now();
        loop {
            let url = match next.take() {
                Some(url) => url,
                None => self.gate().await,
            };
            let disconnect = match try_log_in(&url, &token).await {
                Ok(line) => {
                    self.log.send_modify(|log| {
                        if log.logins > 0 {
                            log.disconnections.push(lost_at.elapsed());
                        }
                        (log.logins, log.node) = (log.logins + 1, Some(url));
                    });
                    let disconnect = Connection::new(&self, line).run(&mut commands).await;
                    lost_at = Instant::now();
                    self.log.send_modify(|log| log.node = None);
                    disconnect
                }
                Err(LoginFailure::Unavailable) => Disconnect::Lost(None),
                Err(LoginFailure::Rejected(reason)) => Disconnect::Ended(reason),
            };
            match disconnect {
                Disconnect::Ended(reason) => return self.log.send_modify(|log| log.ended = Some(reason)),
                Disconnect::Lost(other) => next = other,
            }
            sleep(Duration::from_millis(rand::random_range(20..120))).await;
        }
    }

    /// Returns the first node that the gate lists; asks random nodes for their gate until one responds.
    async fn gate(&self) -> String {
        loop {
            let base = &self.bases[rand::random_range(0..self.bases.len())];
            if let Ok(Ok(nodes)) = timeout(HTTP_TIMEOUT, gate(base)).await
                && let Some(node) = nodes.into_iter().next()
            {
                return node;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl<'a> Connection<'a> {
    fn new(driver: &'a Driver, line: Line) -> Self {
        let last_read = Instant::now();
        let mut connection = Self { driver, line, pending: Vec::new(), last_read, retry_at: None, reconnect_at: None };
        connection.request_all();
        connection
    }

    /// Exchanges frames with the node until the connection ends.
    async fn run(mut self, commands: &mut mpsc::Receiver<Command>) -> Disconnect {
        let mut ticks = interval(TICK);
        loop {
            for frame in self.pending.drain(..) {
                // Once the buffers to a paused node are full, a write does not complete.
                if !matches!(timeout(self.driver.options.read_timeout, self.line.say(&frame)).await, Ok(Ok(()))) {
                    return Disconnect::Lost(None);
                }
            }
            // All branches are cancel-safe: the line and the queue keep what a dropped branch did not return.
            let disconnect = tokio::select! {
                frame = self.line.next() => match frame {
                    Ok(frame) => self.handle_frame(frame),
                    Err(_) => Some(Disconnect::Lost(None)),
                },
                command = commands.recv() => match command {
                    Some(command) => self.handle_command(command),
                    // The user is being dropped, which aborts this task.
                    None => return std::future::pending().await,
                },
                _ = ticks.tick() => self.handle_tick(),
            };
            if let Some(disconnect) = disconnect {
                return disconnect;
            }
        }
    }

    fn handle_command(&mut self, command: Command) -> Option<Disconnect> {
        match command {
            Command::Sync => self.pending.push(self.driver.log.borrow().sync("")),
            Command::Create(create) => self.pending.push(ClientFrame::Create(create)),
            Command::Send(id) => self.pending.extend(self.driver.log.borrow().send(id)),
        }
        None
    }

    fn handle_tick(&mut self) -> Option<Disconnect> {
        let (now, read_timeout) = (Instant::now(), self.driver.options.read_timeout);
        if now - self.last_read > read_timeout {
            return Some(Disconnect::Lost(None));
        }
        if now - self.last_read > read_timeout / 3 {
            self.pending.push(ClientFrame::Ping(Ping {}));
        }
        if self.retry_at.take_if(|at| *at <= now).is_some() {
            self.request_all();
        }
        self.reconnect_at.take_if(|(at, _)| *at <= now).map(|(_, node)| Disconnect::Lost(Some(node)))
    }

    fn handle_frame(&mut self, frame: ServerFrame) -> Option<Disconnect> {
        self.last_read = Instant::now();
        let log = &self.driver.log;
        match frame {
            ServerFrame::Kick(kick) => return Some(Disconnect::Ended(kick.reason)),
            ServerFrame::Reconnect(Reconnect { nodes, within_ms }) => {
                let at = self.last_read + Duration::from_millis(within_ms.into()).mul_f64(rand::random());
                self.reconnect_at = nodes.into_iter().next().map(|node| (at, node));
            }
            ServerFrame::Ping(_) => self.pending.push(ClientFrame::Pong(Pong {})),
            ServerFrame::Error(error) if [code::UNAVAILABLE, code::TOO_MANY].contains(&&*error.code) => {
                self.retry_at.get_or_insert(self.last_read + RETRY_PAUSE);
                log.send_modify(|log| log.rejections += 1);
            }
            ServerFrame::Error(error) => log.send_modify(|log| log.violations.push(format!("{error:?}"))),
            ServerFrame::Lagging(_) => self.pending.push(log.borrow().sync("")),
            ServerFrame::Synced(synced) if synced.more => self.pending.push(log.borrow().sync(&synced.after)),
            frame => log.send_modify(|log| self.pending.extend(log.record(&self.driver.name, frame))),
        }
        None
    }

    /// Queues a sync and every unanswered message.
    fn request_all(&mut self) {
        let log = self.driver.log.borrow();
        self.pending.push(log.sync(""));
        self.pending.extend(log.unanswered_frames());
    }
}

/// The limit of an HTTP request to a gate.
const HTTP_TIMEOUT: Duration = Duration::from_secs(1);
/// The interval at which a connection checks its timers.
const TICK: Duration = Duration::from_millis(250);
/// The pause before requests are repeated that a node rejected temporarily.
const RETRY_PAUSE: Duration = Duration::from_millis(400);
