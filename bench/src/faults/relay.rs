//! [`Relay`]: a TCP relay that can stop forwarding while its connections stay open.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
};

/// A TCP relay to one address. Dropping it closes its connections.
pub(super) struct Relay {
    address: SocketAddr,
    drops: Arc<AtomicBool>,
    _task: JoinSet<()>,
}

impl Relay {
    pub(super) async fn start(to: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, drops) = (listener.local_addr()?, Arc::new(AtomicBool::new(false)));
        let mut task = JoinSet::new();
        let shared = Arc::clone(&drops);
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                connections.spawn(connect(near, to, Arc::clone(&shared)));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, drops, _task: task })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets whether the relay drops all bytes, of connections that begin later too.
    pub(super) fn drop_bytes(&self, drops: bool) {
        self.drops.store(drops, Ordering::Relaxed);
    }
}

async fn connect(near: TcpStream, to: SocketAddr, drops: Arc<AtomicBool>) -> io::Result<()> {
    let far = TcpStream::connect(to).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    tokio::try_join!(forward(near_read, far_write, &drops), forward(far_read, near_write, &drops))?;
    Ok(())
}

/// Forwards until either end closes. A connection that has lost bytes stays silent, like one whose peer is unreachable.
async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, drops: &AtomicBool) -> io::Result<()> {
    let mut bytes = vec![0; 16 << 10];
    let mut lost = false;
    loop {
        let count = from.read(&mut bytes).await?;
        lost |= drops.load(Ordering::Relaxed);
        match count {
            0 if lost => std::future::pending().await,
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ if lost => {}
            _ => to.write_all(&bytes[..count]).await?,
        }
    }
}
