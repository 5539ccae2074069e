//! [`Relay`]: a TCP relay before a server, which counts connections and can break them or let nothing through.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

/// Hands on the bytes of connections to another address. Dropped, it breaks them.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    control: watch::Sender<Control>,
    count: watch::Sender<Count>,
    _task: JoinSet<()>,
}

/// What a relay lets through.
#[derive(Debug, Clone, Copy, Default)]
struct Control {
    frozen: bool,
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

impl Relay {
    /// A relay to `target` on a free port of this machine.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let (control, count) = (watch::Sender::new(Control::default()), watch::Sender::new(Count::default()));
        let mut task = JoinSet::new();
        task.spawn(accept(listener, target, control.clone(), count.clone()));
        Self { address, control, count, _task: task }
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

    /// Lets nothing through from now on; connections are accepted and stay open.
    pub fn freeze(&self) {
        self.control.send_modify(|control| control.frozen = true);
    }

    /// Lets everything through again, first what came meanwhile.
    pub fn thaw(&self) {
        self.control.send_modify(|control| control.frozen = false);
    }

    /// Breaks the connections there are: both ends find them reset.
    pub fn cut(&self) {
        self.control.send_modify(|control| control.cuts += 1);
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    control: watch::Sender<Control>,
    count: watch::Sender<Count>,
) {
    let mut connections = JoinSet::new();
    loop {
        // Both are cancel-safe.
        tokio::select! {
            accepted = listener.accept() => {
                let (from, _) = accepted.expect("the listener accepts");
                let cuts = control.borrow().cuts;
                count.send_modify(|count| (count.accepted, count.open) = (count.accepted + 1, count.open + 1));
                connections.spawn(connection(from, target, control.subscribe(), cuts, count.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(
    mut from: TcpStream,
    target: SocketAddr,
    mut control: watch::Receiver<Control>,
    cuts: usize,
    count: watch::Sender<Count>,
) {
    let _open = Open(count.clone());
    let mut gate = control.clone();
    let carried = async {
        if gate.wait_for(|control| !control.frozen).await.is_err() {
            return;
        }
        let Ok(mut to) = TcpStream::connect(target).await else { return };
        for stream in [&from, &to] {
            // A stream that is gone already shows when it is read. One that is cut is reset: an end in order would let the other
            // side speak on.
            let _ = stream.set_nodelay(true).and_then(|()| stream.set_zero_linger());
        }
        let ((from, back), (answers, to)) = (from.split(), to.split());
        let sent = |length: usize| count.send_modify(|count| count.sent += length);
        let received = |length: usize| count.send_modify(|count| count.received += length);
        tokio::join!(copy(from, to, gate.clone(), sent), copy(answers, back, gate.clone(), received));
    };
    // Dropping either is what is wanted.
    tokio::select! {
        () = carried => {}
        _ = control.wait_for(|control| control.cuts > cuts) => {}
    }
}

async fn copy(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut gate: watch::Receiver<Control>, note: impl Fn(usize)) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if gate.wait_for(|control| !control.frozen).await.is_err() || to.write_all(&buffer[..length]).await.is_err() {
            break;
        }
        note(length);
    }
    // The other side learns that this one says no more, unless nothing is let through.
    if gate.wait_for(|control| !control.frozen).await.is_ok() {
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
