//! [`Provider`]: the scripted server that a fuzzed client connects to.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rpc_core::{
    BoxFuture,
    transport::{Connect, Io},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    task::JoinSet,
    time::sleep,
};

/// Sends one recorded output to each connection in order, and rejects further connections.
pub(crate) struct Provider {
    behaviour: Behaviour,
    connections: Mutex<Connections>,
}

struct Connections {
    outputs: VecDeque<Vec<u8>>,
    /// The tasks of the accepted connections; dropped with the client.
    tasks: JoinSet<()>,
}

/// The behaviour of the server.
#[derive(Clone, Copy)]
struct Behaviour {
    /// Whether it sends a pong first.
    proves: bool,
    /// Whether it reads.
    reads: bool,
    /// Whether it closes the connection after its output.
    closes: bool,
    /// The capacity of the connection's buffers, in bytes.
    capacity: usize,
    /// The size of its writes, in bytes.
    piece: usize,
}

impl Provider {
    pub(crate) fn new(flags: u8, pieces: u8, session: &[u8]) -> Self {
        let behaviour = Behaviour {
            proves: flags & 1 == 0,
            reads: flags & 2 == 0,
            closes: flags & 4 == 0,
            capacity: 64 << (flags >> 3 & 7),
            piece: usize::from(pieces).max(1) * 16,
        };
        let mut outputs = VecDeque::new();
        let mut remaining = session;
        while outputs.len() < MAX_EXTRA_CONNECTIONS {
            let Some(end) = remaining.windows(SEPARATOR.len()).position(|window| window == SEPARATOR) else { break };
            outputs.push_back(remaining[..end].to_vec());
            remaining = &remaining[end + SEPARATOR.len()..];
        }
        outputs.push_back(remaining.to_vec());
        Self { behaviour, connections: Mutex::new(Connections { outputs, tasks: JoinSet::new() }) }
    }
}

impl Connect for Provider {
    fn connect(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        Box::pin(async {
            let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
            let session = connections.outputs.pop_front().ok_or(io::ErrorKind::ConnectionRefused)?;
            let (ours, theirs) = tokio::io::duplex(self.behaviour.capacity);
            connections.tasks.spawn(self.behaviour.play(ours, session));
            Ok(Box::new(theirs) as Box<dyn Io>)
        })
    }
}

impl Behaviour {
    async fn play(self, stream: DuplexStream, session: Vec<u8>) {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let reading = async {
            if self.reads {
                let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
            }
        };
        let writing = async {
            if self.proves && writer.write_all(PONG).await.is_err() {
                return;
            }
            // Paused time advances only when all tasks wait: by then the calls are in flight.
            sleep(Duration::from_millis(1)).await;
            for piece in session.chunks(self.piece) {
                if writer.write_all(piece).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
            if self.closes {
                let _ = writer.shutdown().await;
            } else {
                sleep(LONG).await;
            }
        };
        tokio::join!(reading, writing);
        // A server that does not read leaves the client's output in the buffer until the client closes.
        let mut buffer = [0; 64];
        while !self.reads && reader.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    }
}

const PONG: &[u8] = b"msnb\x01\0\0\0\x10\x04\0\0\0\0\0\0";
const SEPARATOR: &[u8] = b"----";
/// The largest number of connections besides the last.
const MAX_EXTRA_CONNECTIONS: usize = 3;
const LONG: Duration = Duration::from_secs(60);
