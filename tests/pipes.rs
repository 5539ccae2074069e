//! [`pipes`]: connections within the process, for tests in paused time.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rpc_core::{
    BoxFuture, Peer,
    transport::{Accept, Connect, Io},
};
use tokio::{
    io::DuplexStream,
    sync::{Mutex, mpsc, watch},
};

/// A client's end: connects to the [`PipeListener`], except while a fault is set.
#[derive(Debug, Clone)]
pub struct Pipes {
    connections: mpsc::Sender<DuplexStream>,
    fault: watch::Sender<Option<Fault>>,
    attempts: Arc<AtomicUsize>,
}

/// The behaviour of a connector that does not connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connect fails with this error of the operating system.
    Error(rustix::io::Errno),
    /// The connector panics.
    Panic,
    /// The connect does not complete.
    Hang,
}

/// A server's end.
#[derive(Debug)]
pub struct PipeListener(Mutex<mpsc::Receiver<DuplexStream>>);

/// Returns the two ends of a network within this process. The listener has the address [`PIPE`].
pub fn pipes() -> (Pipes, PipeListener) {
    let (connections, accepted) = mpsc::channel(BACKLOG);
    let pipes = Pipes { connections, fault: watch::Sender::new(None), attempts: Arc::default() };
    (pipes, PipeListener(Mutex::new(accepted)))
}

impl Pipes {
    /// Sets or ends the fault of later connects.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.fault.send_replace(fault);
    }

    /// Returns the number of connects so far, with those that failed.
    pub fn attempts(&self) -> usize {
        self.attempts.load(Ordering::SeqCst)
    }
}

impl Connect for Pipes {
    fn connect(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        Box::pin(async move {
            self.attempts.fetch_add(1, Ordering::SeqCst);
            let fault = *self.fault.borrow();
            match fault {
                Some(Fault::Error(error)) => return Err(error.into()),
                Some(Fault::Panic) => panic!("intended panic of a connector"),
                Some(Fault::Hang) => std::future::pending().await,
                None => {}
            }
            let (ours, theirs) = tokio::io::duplex(CAPACITY);
            self.connections.send(theirs).await.map_err(|_| io::ErrorKind::ConnectionRefused)?;
            Ok(Box::new(ours) as Box<dyn Io>)
        })
    }
}

impl Accept for PipeListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Io>, Peer)>> {
        Box::pin(async move {
            match self.0.lock().await.recv().await {
                Some(stream) => Ok((Box::new(stream) as Box<dyn Io>, Peer::new(CLIENT, PIPE))),
                None => std::future::pending().await,
            }
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(PIPE)
    }
}

/// The address of a [`PipeListener`].
pub const PIPE: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 7788));
const CLIENT: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 50_000));
/// Connections that wait to be accepted.
const BACKLOG: usize = 64;
/// Bytes in each direction of a connection.
const CAPACITY: usize = 64 << 10;
