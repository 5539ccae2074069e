//! [`Driver`]: the task of a user, which speaks with one node after the other.

use std::time::{Duration, Instant};

use rpc_im::{
    client::{Line, gate},
    envelope::{ClientFrame, Create, Ping, Pong, Reconnect, ServerFrame, code},
};
use tokio::{
    sync::{mpsc, watch},
    time::{interval, sleep, timeout},
};

use super::{Book, Manner};
use crate::{
    im_line::{Refusal, enter, token},
    in_time,
};

/// What the task of a user is asked to do. What is to be sent is in the book.
pub(super) enum Wish {
    Send(u64),
    Create(Create),
    Sync,
}

/// Speaks for a user with one node after the other.
pub(super) struct Driver {
    pub(super) name: String,
    pub(super) bases: Vec<String>,
    pub(super) manner: Manner,
    pub(super) book: watch::Sender<Book>,
}

/// The time on one node.
struct Visit<'a> {
    driver: &'a Driver,
    line: Line,
    says: Vec<ClientFrame>,
    /// When the node last said something.
    heard: Instant,
    /// When to ask again for what the node could not do.
    asks_again: Option<Instant>,
    /// When to go, and where.
    leaves: Option<(Instant, String)>,
}

/// Why a user is on a node no more.
enum Leaving {
    /// It looks for another one; this one, if there is one.
    Lost(Option<String>),
    /// It was told to stay away.
    Ended(String),
}

impl Driver {
    pub(super) async fn run(mut self, mut asked: mpsc::Receiver<Wish>) {
        let token = in_time(token(&self.bases, &self.name, &self.manner.device, &self.manner.platform)).await;
        let mut next = self.manner.first.take();
        let mut gone = Instant::now();
        loop {
            let url = match next.take() {
                Some(url) => url,
                None => self.gate().await,
            };
            let leaving = match enter(&url, &token).await {
                Ok(line) => {
                    self.book.send_modify(|book| {
                        if book.logins > 0 {
                            book.absences.push(gone.elapsed());
                        }
                        (book.logins, book.node) = (book.logins + 1, Some(url));
                    });
                    let leaving = Visit::begin(&self, line).last(&mut asked).await;
                    gone = Instant::now();
                    self.book.send_modify(|book| book.node = None);
                    leaving
                }
                Err(Refusal::NotNow) => Leaving::Lost(None),
                Err(Refusal::ForGood(why)) => Leaving::Ended(why),
            };
            match leaving {
                Leaving::Ended(why) => return self.book.send_modify(|book| book.ended = Some(why)),
                Leaving::Lost(other) => next = other,
            }
            sleep(Duration::from_millis(rand::random_range(20..120))).await;
        }
    }

    /// What the first node that answers says.
    async fn gate(&self) -> String {
        loop {
            let base = &self.bases[rand::random_range(0..self.bases.len())];
            if let Ok(Ok(nodes)) = timeout(HTTP, gate(base)).await
                && let Some(node) = nodes.into_iter().next()
            {
                return node;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl<'a> Visit<'a> {
    fn begin(driver: &'a Driver, line: Line) -> Self {
        let mut visit = Self { driver, line, says: Vec::new(), heard: Instant::now(), asks_again: None, leaves: None };
        visit.ask_for_all();
        visit
    }

    /// Speaks with the node until one of the two has enough.
    async fn last(mut self, asked: &mut mpsc::Receiver<Wish>) -> Leaving {
        let mut ticks = interval(TICK);
        loop {
            for frame in self.says.drain(..) {
                // A node that is paused takes no more at some time.
                if !matches!(timeout(self.driver.manner.silence, self.line.say(&frame)).await, Ok(Ok(()))) {
                    return Leaving::Lost(None);
                }
            }
            // Each may be dropped: the line and the queue lose nothing.
            let leaving = tokio::select! {
                frame = self.line.next() => match frame {
                    Ok(frame) => self.hear(frame),
                    Err(_) => Some(Leaving::Lost(None)),
                },
                wish = asked.recv() => match wish {
                    Some(wish) => self.wish(wish),
                    // The user is being dropped, and this task with it.
                    None => return std::future::pending().await,
                },
                _ = ticks.tick() => self.tick(),
            };
            if let Some(leaving) = leaving {
                return leaving;
            }
        }
    }

    fn wish(&mut self, wish: Wish) -> Option<Leaving> {
        match wish {
            Wish::Sync => self.says.push(self.driver.book.borrow().sync()),
            Wish::Create(create) => self.says.push(ClientFrame::Create(create)),
            Wish::Send(id) => self.says.extend(self.driver.book.borrow().send(id)),
        }
        None
    }

    fn tick(&mut self) -> Option<Leaving> {
        let (now, silence) = (Instant::now(), self.driver.manner.silence);
        if now - self.heard > silence {
            return Some(Leaving::Lost(None));
        }
        if now - self.heard > silence / 3 {
            self.says.push(ClientFrame::Ping(Ping {}));
        }
        if self.asks_again.take_if(|at| *at <= now).is_some() {
            self.ask_for_all();
        }
        self.leaves.take_if(|(at, _)| *at <= now).map(|(_, node)| Leaving::Lost(Some(node)))
    }

    fn hear(&mut self, frame: ServerFrame) -> Option<Leaving> {
        self.heard = Instant::now();
        let book = &self.driver.book;
        match frame {
            ServerFrame::Kick(kick) => return Some(Leaving::Ended(kick.reason)),
            ServerFrame::Reconnect(Reconnect { nodes, within_ms }) => {
                let at = self.heard + Duration::from_millis(within_ms.into()).mul_f64(rand::random());
                self.leaves = nodes.into_iter().next().map(|node| (at, node));
            }
            ServerFrame::Ping(_) => self.says.push(ClientFrame::Pong(Pong {})),
            ServerFrame::Error(error) if [code::UNAVAILABLE, code::TOO_MANY].contains(&&*error.code) => {
                self.asks_again.get_or_insert(self.heard + AGAIN);
                book.send_modify(|book| book.refusals += 1);
            }
            ServerFrame::Error(error) => book.send_modify(|book| book.faults.push(format!("{error:?}"))),
            ServerFrame::Lagging(_) => self.says.push(book.borrow().sync()),
            frame => book.send_modify(|book| self.says.extend(book.write_down(&self.driver.name, frame))),
        }
        None
    }

    fn ask_for_all(&mut self) {
        let book = self.driver.book.borrow();
        self.says.push(book.sync());
        self.says.extend(book.owed());
    }
}

/// How long a node has to answer over HTTP.
const HTTP: Duration = Duration::from_secs(1);
/// How often a user looks at the clock.
const TICK: Duration = Duration::from_millis(250);
/// When something is asked for again that a node could not do.
const AGAIN: Duration = Duration::from_millis(400);
