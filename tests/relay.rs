//! [`Relay`]: a TCP relay in front of a server that counts connections and injects network faults.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{Notify, watch},
    task::JoinSet,
    time::sleep,
};

/// Forwards connections to another address. Dropping it breaks them.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    control: watch::Sender<Control>,
    /// The newest version of the mode that applies to new connections.
    applied: watch::Receiver<u64>,
    count: watch::Sender<Count>,
    _task: JoinSet<()>,
}

/// The treatment of a relay's current and new connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Forwards everything.
    #[default]
    Pass,
    /// Forwards nothing: the relay accepts connections and keeps them open, and forwards delayed bytes afterwards.
    BlackHole,
    /// Forwards requests and holds answers, which it forwards afterwards.
    HoldAnswers,
    /// Forwards at most this many bytes per second in each direction of each connection.
    Slow(usize),
    /// Breaks each connection after this many bytes of answers since the mode was set, in the middle of a frame.
    ///
    /// With 0 the relay breaks it at the first answer, which is lost.
    CutAnswersAfter(usize),
    /// Resets every connection, and accepts and resets new ones.
    Reset,
    /// Breaks every connection and stops listening.
    Refuse,
}

/// The settings of a relay.
#[derive(Debug, Clone, Copy, Default)]
struct Control {
    mode: Mode,
    /// The number of times that the mode was set.
    version: u64,
    /// The number of cuts; connections accepted under a lower number break.
    cuts: usize,
}

/// The counters of a relay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Connections accepted so far.
    pub accepted: usize,
    /// Open connections.
    pub open: usize,
    /// Bytes forwarded from callers.
    pub sent: usize,
    /// Bytes forwarded to callers.
    pub received: usize,
}

/// A direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Requests,
    Answers,
}

impl Relay {
    /// Starts a relay to `target` on a free loopback port.
    ///
    /// # Panics
    ///
    /// Panics if no port is free.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(free_address()).await.expect("no port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let (control, count) = (watch::Sender::new(Control::default()), watch::Sender::new(Count::default()));
        let (apply, applied) = watch::channel(0);
        let mut task = JoinSet::new();
        task.spawn(accept(listener, target, control.clone(), apply, count.clone()));
        Self { address, control, applied, count, _task: task }
    }

    /// Returns the address on which the relay listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the counters.
    pub fn count(&self) -> Count {
        *self.count.borrow()
    }

    /// Waits until `wanted` accepts the counters.
    ///
    /// # Panics
    ///
    /// Panics if it does not within the limit of [`in_time`](crate::in_time).
    pub async fn until(&self, wanted: impl Fn(Count) -> bool) {
        let mut count = self.count.subscribe();
        drop(crate::in_time(count.wait_for(|count| wanted(*count))).await.expect("the relay task runs"));
    }

    /// Sets the mode. It applies to new connections when this returns; existing connections follow soon after.
    ///
    /// # Panics
    ///
    /// Panics if another process took the relay's port during [`Mode::Refuse`].
    pub async fn set(&self, mode: Mode) {
        self.control.send_modify(|control| (control.mode, control.version) = (mode, control.version + 1));
        let version = self.control.borrow().version;
        let mut applied = self.applied.clone();
        drop(crate::in_time(applied.wait_for(|applied| *applied >= version)).await.expect("the relay task runs"));
    }

    /// Sets [`Mode::BlackHole`] without waiting until it applies.
    pub fn freeze(&self) {
        self.control.send_modify(|control| (control.mode, control.version) = (Mode::BlackHole, control.version + 1));
    }

    /// Sets [`Mode::Pass`] without waiting until it applies.
    pub fn thaw(&self) {
        self.control.send_modify(|control| (control.mode, control.version) = (Mode::Pass, control.version + 1));
    }

    /// Breaks the existing connections.
    pub fn cut(&self) {
        self.control.send_modify(|control| control.cuts += 1);
    }
}

impl Control {
    /// Returns whether the mode forwards bytes in this direction.
    fn allows(&self, direction: Direction) -> bool {
        match self.mode {
            Mode::BlackHole => false,
            Mode::HoldAnswers => direction == Direction::Requests,
            _ => true,
        }
    }

    /// Returns whether a connection that was accepted after this many cuts must break.
    fn breaks(&self, cuts: usize) -> bool {
        self.cuts > cuts || matches!(self.mode, Mode::Reset | Mode::Refuse)
    }
}

/// Returns a free loopback address below the range of ephemeral ports, so that a restarted listener can bind it again.
///
/// # Panics
///
/// Panics if it finds no free port.
pub fn free_address() -> SocketAddr {
    let candidates =
        std::iter::repeat_with(|| SocketAddr::from((Ipv4Addr::LOCALHOST, rand::random_range(10_000..32_000))));
    let free = |address: &SocketAddr| std::net::TcpListener::bind(address).is_ok();
    candidates.take(1000).find(free).expect("no port is free")
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    control: watch::Sender<Control>,
    apply: watch::Sender<u64>,
    count: watch::Sender<Count>,
) {
    let address = listener.local_addr().expect("a listener has an address");
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    let mut changes = control.subscribe();
    loop {
        let Control { mode, version, cuts } = *changes.borrow_and_update();
        if mode == Mode::Refuse {
            listener = None;
        } else if listener.is_none() {
            listener = Some(TcpListener::bind(address).await.expect("another process took the port"));
        }
        apply.send_replace(version);
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        // All branches are cancel-safe.
        tokio::select! {
            accepted = accepted => {
                let (from, _) = accepted.expect("cannot accept a connection");
                count.send_modify(|count| (count.accepted, count.open) = (count.accepted + 1, count.open + 1));
                connections.spawn(connection(from, target, control.subscribe(), cuts, count.clone()));
            }
            Some(_) = connections.join_next() => {}
            _ = changes.changed() => {}
        }
    }
}

async fn connection(
    mut from: TcpStream,
    target: SocketAddr,
    control: watch::Receiver<Control>,
    cuts: usize,
    count: watch::Sender<Count>,
) {
    let _open = Open(count.clone());
    let (mut gate, mut changes) = (control.clone(), control.clone());
    let broken =
        async { changes.wait_for(|control| control.breaks(cuts)).await.map_or(Mode::Pass, |control| control.mode) };
    tokio::pin!(broken);
    let connected = async {
        let _ = gate.wait_for(|control| control.allows(Direction::Requests)).await;
        TcpStream::connect(target).await
    };
    // Dropping either branch is intended. `biased` checks for a break first, so that no byte passes during it.
    let mut to = tokio::select! {
        biased;
        mode = &mut broken => return end([&from], mode),
        connected = connected => match connected {
            Ok(to) => to,
            Err(_) => return,
        },
    };
    for stream in [&from, &to] {
        // A broken stream fails the next read.
        let _ = stream.set_nodelay(true);
    }
    let cut = Notify::new();
    let carried = async {
        let ((requests, back), (answers, onward)) = (from.split(), to.split());
        let sent = |length: usize| count.send_modify(|count| count.sent += length);
        let received = |length: usize| count.send_modify(|count| count.received += length);
        tokio::join!(
            copy(requests, onward, Direction::Requests, control.clone(), &cut, sent),
            copy(answers, back, Direction::Answers, control.clone(), &cut, received)
        );
    };
    let mode = tokio::select! {
        biased;
        mode = broken => mode,
        () = carried => Mode::Pass,
        () = cut.notified() => Mode::Pass,
    };
    end([&from, &to], mode);
}

/// Sets whether dropping the streams resets them.
fn end<const N: usize>(streams: [&TcpStream; N], mode: Mode) {
    if mode == Mode::Reset {
        for stream in streams {
            // Fails only for a broken stream, which needs no reset.
            let _ = stream.set_zero_linger();
        }
    }
}

async fn copy(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    direction: Direction,
    mut control: watch::Receiver<Control>,
    cut: &Notify,
    note: impl Fn(usize),
) {
    let mut buffer = vec![0; 16 << 10];
    let (mut version, mut passed) = (0, 0);
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let mut waiting = &buffer[..length];
        while !waiting.is_empty() {
            let Ok(now) = control.wait_for(|control| control.allows(direction)).await.map(|now| *now) else { return };
            if now.version != version {
                (version, passed) = (now.version, 0);
            }
            let most = match now.mode {
                Mode::Slow(rate) => (rate / SLICES_A_SECOND).max(1),
                Mode::CutAnswersAfter(bytes) if direction == Direction::Answers => bytes - passed,
                _ => waiting.len(),
            };
            let (piece, rest) = waiting.split_at(most.min(waiting.len()));
            if to.write_all(piece).await.is_err() {
                return;
            }
            waiting = rest;
            passed += piece.len();
            note(piece.len());
            match now.mode {
                Mode::Slow(rate) => sleep(Duration::from_secs_f64(piece.len() as f64 / rate as f64)).await,
                Mode::CutAnswersAfter(bytes) if direction == Direction::Answers && passed == bytes => {
                    cut.notify_one();
                    return std::future::pending().await;
                }
                _ => {}
            }
        }
    }
    // Forwards the end of the stream, unless the mode forwards nothing.
    if control.wait_for(|control| control.allows(direction)).await.is_ok() {
        let _ = to.shutdown().await;
    }
}

/// Decrements the number of open connections on drop.
struct Open(watch::Sender<Count>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|count| count.open -= 1);
    }
}

/// The number of pieces per second that [`Mode::Slow`] forwards.
const SLICES_A_SECOND: usize = 20;
