//! [`Provider`]: the server that a client believes to call.

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

/// Says to one connection after the other what it was given, and takes no more connections then.
pub(crate) struct Provider {
    how: How,
    connections: Mutex<Connections>,
}

struct Connections {
    to_say: VecDeque<Vec<u8>>,
    /// Those that were made. Dropped with the client.
    made: JoinSet<()>,
}

/// How a server behaves.
#[derive(Clone, Copy)]
struct How {
    /// Whether it says first that it lives.
    proves: bool,
    /// Whether it reads what it is sent.
    reads: bool,
    /// Whether it closes when it has said all.
    closes: bool,
    /// How much finds room on the way.
    room: usize,
    /// How much it says at once.
    piece: usize,
}

impl Provider {
    pub(crate) fn new(how: u8, pieces: u8, session: &[u8]) -> Self {
        let how = How {
            proves: how & 1 == 0,
            reads: how & 2 == 0,
            closes: how & 4 == 0,
            room: 64 << (how >> 3 & 7),
            piece: usize::from(pieces).max(1) * 16,
        };
        let mut to_say = VecDeque::new();
        let mut rest = session;
        while to_say.len() < MOST {
            let Some(end) = rest.windows(SEPARATOR.len()).position(|window| window == SEPARATOR) else { break };
            to_say.push_back(rest[..end].to_vec());
            rest = &rest[end + SEPARATOR.len()..];
        }
        to_say.push_back(rest.to_vec());
        Self { how, connections: Mutex::new(Connections { to_say, made: JoinSet::new() }) }
    }
}

impl Connect for Provider {
    fn connect(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        Box::pin(async {
            let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
            let session = connections.to_say.pop_front().ok_or(io::ErrorKind::ConnectionRefused)?;
            let (ours, theirs) = tokio::io::duplex(self.how.room);
            connections.made.spawn(self.how.play(ours, session));
            Ok(Box::new(theirs) as Box<dyn Io>)
        })
    }
}

impl How {
    async fn play(self, stream: DuplexStream, session: Vec<u8>) {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let hears = async {
            if self.reads {
                let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
            }
        };
        let says = async {
            if self.proves && writer.write_all(PONG).await.is_err() {
                return;
            }
            // Time passes only when nobody has anything to do: by then the calls are in flight.
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
        tokio::join!(hears, says);
        // What the client sends to one who does not read stays on the way.
        let mut rest = [0; 64];
        while !self.reads && reader.read(&mut rest).await.is_ok_and(|count| count > 0) {}
    }
}

const PONG: &[u8] = b"msnb\x01\0\0\0\x10\x04\0\0\0\0\0\0";
const SEPARATOR: &[u8] = b"----";
/// Connections besides the last.
const MOST: usize = 3;
const LONG: Duration = Duration::from_secs(60);
