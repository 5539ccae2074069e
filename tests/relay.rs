//! [`Relay`]: a TCP relay before a server, which counts connections and does to them what networks do, as it is told.

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

/// Hands on the bytes of connections to another address. Dropped, it breaks them.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    control: watch::Sender<Control>,
    /// The newest order that new connections meet.
    obeyed: watch::Receiver<u64>,
    count: watch::Sender<Count>,
    _task: JoinSet<()>,
}

/// What a relay does to the connections through it, those there are and new ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Lets everything through.
    #[default]
    Pass,
    /// Lets nothing through: connections are accepted and stay open. What came meanwhile is let through afterwards.
    BlackHole,
    /// Lets requests through and no answers; they are let through afterwards.
    HoldAnswers,
    /// At most this many bytes a second in each direction of each connection.
    Slow(usize),
    /// Breaks each connection when this many bytes of answers have gone through it since this was said: amid a frame, or with
    /// 0 once there is an answer, which is lost.
    CutAnswersAfter(usize),
    /// Resets every connection, new ones once they are accepted.
    Reset,
    /// Breaks every connection, and nobody listens for new ones.
    Refuse,
}

/// What a relay was told.
#[derive(Debug, Clone, Copy, Default)]
struct Control {
    mode: Mode,
    /// How often the mode was set.
    order: u64,
    /// Connections accepted under a lower number are to break.
    cuts: usize,
}

/// What went through a relay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Connections that were ever accepted.
    pub accepted: usize,
    /// Connections that are open now.
    pub open: usize,
    /// Bytes that callers have sent.
    pub sent: usize,
    /// Bytes that callers have received.
    pub received: usize,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Requests,
    Answers,
}

impl Relay {
    /// A relay to `target` on a free port of this machine.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(free_address()).await.expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let (control, count) = (watch::Sender::new(Control::default()), watch::Sender::new(Count::default()));
        let (obey, obeyed) = watch::channel(0);
        let mut task = JoinSet::new();
        task.spawn(accept(listener, target, control.clone(), obey, count.clone()));
        Self { address, control, obeyed, count, _task: task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What went through so far.
    pub fn count(&self) -> Count {
        *self.count.borrow()
    }

    /// Waits until `wanted` is true of what went through.
    ///
    /// # Panics
    ///
    /// When it does not become true for a long time.
    pub async fn until(&self, wanted: impl Fn(Count) -> bool) {
        let mut count = self.count.subscribe();
        drop(crate::in_time(count.wait_for(|count| wanted(*count))).await.expect("the relay lives"));
    }

    /// Does this from now on. New connections meet it when this returns; those there are break soon, where they are to.
    ///
    /// # Panics
    ///
    /// When its port was taken by somebody else while it refused.
    pub async fn set(&self, mode: Mode) {
        self.control.send_modify(|control| (control.mode, control.order) = (mode, control.order + 1));
        let order = self.control.borrow().order;
        let mut obeyed = self.obeyed.clone();
        drop(crate::in_time(obeyed.wait_for(|obeyed| *obeyed >= order)).await.expect("the relay lives"));
    }

    /// Lets nothing through from now on; connections are accepted and stay open.
    pub fn freeze(&self) {
        self.control.send_modify(|control| (control.mode, control.order) = (Mode::BlackHole, control.order + 1));
    }

    /// Lets everything through again, first what came meanwhile.
    pub fn thaw(&self) {
        self.control.send_modify(|control| (control.mode, control.order) = (Mode::Pass, control.order + 1));
    }

    /// Breaks the connections there are: both ends find them reset.
    pub fn cut(&self) {
        self.control.send_modify(|control| control.cuts += 1);
    }
}

impl Control {
    /// Whether bytes may go this way.
    fn lets(&self, way: Way) -> bool {
        match self.mode {
            Mode::BlackHole => false,
            Mode::HoldAnswers => way == Way::Requests,
            _ => true,
        }
    }

    /// Whether a connection that was accepted after this many cuts is to break.
    fn breaks(&self, cuts: usize) -> bool {
        self.cuts > cuts || matches!(self.mode, Mode::Reset | Mode::Refuse)
    }
}

/// An address of this machine where nobody listens, below the range from which systems choose by themselves: so it is still
/// free when who listened there has ended and wants it again.
///
/// # Panics
///
/// When there is none.
pub fn free_address() -> SocketAddr {
    let candidates =
        std::iter::repeat_with(|| SocketAddr::from((Ipv4Addr::LOCALHOST, rand::random_range(10_000..32_000))));
    let free = |address: &SocketAddr| std::net::TcpListener::bind(address).is_ok();
    candidates.take(1000).find(free).expect("a port is free")
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    control: watch::Sender<Control>,
    obey: watch::Sender<u64>,
    count: watch::Sender<Count>,
) {
    let address = listener.local_addr().expect("a listener has an address");
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    let mut orders = control.subscribe();
    loop {
        let Control { mode, order, cuts } = *orders.borrow_and_update();
        if mode == Mode::Refuse {
            listener = None;
        } else if listener.is_none() {
            listener = Some(TcpListener::bind(address).await.expect("nobody took the port"));
        }
        obey.send_replace(order);
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        // All are cancel-safe.
        tokio::select! {
            accepted = accepted => {
                let (from, _) = accepted.expect("the listener accepts");
                count.send_modify(|count| (count.accepted, count.open) = (count.accepted + 1, count.open + 1));
                connections.spawn(connection(from, target, control.subscribe(), cuts, count.clone()));
            }
            Some(_) = connections.join_next() => {}
            _ = orders.changed() => {}
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
    let (mut gate, mut orders) = (control.clone(), control.clone());
    let broken =
        async { orders.wait_for(|control| control.breaks(cuts)).await.map_or(Mode::Pass, |control| control.mode) };
    tokio::pin!(broken);
    let connected = async {
        let _ = gate.wait_for(|control| control.lets(Way::Requests)).await;
        TcpStream::connect(target).await
    };
    // Dropping either is what is wanted. First whether it breaks: what comes while it does must reach nobody.
    let mut to = tokio::select! {
        biased;
        mode = &mut broken => return end([&from], mode),
        connected = connected => match connected {
            Ok(to) => to,
            Err(_) => return,
        },
    };
    for stream in [&from, &to] {
        // A stream that is gone already shows when it is read.
        let _ = stream.set_nodelay(true);
    }
    let cut = Notify::new();
    let carried = async {
        let ((requests, back), (answers, onward)) = (from.split(), to.split());
        let sent = |length: usize| count.send_modify(|count| count.sent += length);
        let received = |length: usize| count.send_modify(|count| count.received += length);
        tokio::join!(
            copy(requests, onward, Way::Requests, control.clone(), &cut, sent),
            copy(answers, back, Way::Answers, control.clone(), &cut, received)
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

/// Says how streams end that are about to be dropped.
fn end<const N: usize>(streams: [&TcpStream; N], mode: Mode) {
    if mode == Mode::Reset {
        for stream in streams {
            // What is gone already needs no reset.
            let _ = stream.set_zero_linger();
        }
    }
}

async fn copy(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    way: Way,
    mut control: watch::Receiver<Control>,
    cut: &Notify,
    note: impl Fn(usize),
) {
    let mut buffer = vec![0; 16 << 10];
    let (mut order, mut passed) = (0, 0);
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let mut waiting = &buffer[..length];
        while !waiting.is_empty() {
            let Ok(now) = control.wait_for(|control| control.lets(way)).await.map(|now| *now) else { return };
            if now.order != order {
                (order, passed) = (now.order, 0);
            }
            let most = match now.mode {
                Mode::Slow(rate) => (rate / SLICES_A_SECOND).max(1),
                Mode::CutAnswersAfter(bytes) if way == Way::Answers => bytes - passed,
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
                Mode::CutAnswersAfter(bytes) if way == Way::Answers && passed == bytes => {
                    cut.notify_one();
                    return std::future::pending().await;
                }
                _ => {}
            }
        }
    }
    // The other side learns that this one says no more, unless nothing is let through.
    if control.wait_for(|control| control.lets(way)).await.is_ok() {
        let _ = to.shutdown().await;
    }
}

/// Counts a connection that is over.
struct Open(watch::Sender<Count>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|count| count.open -= 1);
    }
}

/// What is let through slowly comes in this many pieces a second.
const SLICES_A_SECOND: usize = 20;
