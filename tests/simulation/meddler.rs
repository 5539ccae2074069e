//! [`Meddlers`]: stand between a server and some of its clients, and give answers late, out of order, and twice.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::BytesMut;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use rpc_core::{
    frame::FrameType,
    transport::{FrameReader, Inbound},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, copy, duplex, split},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use turmoil::net::TcpStream;

/// Those who stand between one server and its clients. Dropped, they go.
pub(crate) struct Meddlers(Mutex<(SmallRng, JoinSet<()>)>);

/// What they do.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tampering {
    /// The share of connections that they stand in.
    pub(crate) connections: f64,
    /// The share of answers that are given late.
    pub(crate) late: f64,
    /// How late at most.
    pub(crate) delay: Duration,
    /// The share of answers that are given twice.
    pub(crate) twice: f64,
}

impl Meddlers {
    /// Meddlers that act by `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new((SmallRng::seed_from_u64(seed), JoinSet::new())))
    }

    /// Stands in a connection, by chance; gives the server's end, or the stream back.
    pub(crate) fn stand_between(&self, stream: TcpStream, tampering: Tampering) -> Result<DuplexStream, TcpStream> {
        let (chance, tasks) = &mut *self.lock();
        if !chance.random_bool(tampering.connections) {
            return Err(stream);
        }
        while tasks.try_join_next().is_some() {}
        let (server, meddler) = duplex(64 << 10);
        let chance = SmallRng::from_rng(chance);
        tasks.spawn(async move {
            // How it ends, both ends see for themselves.
            let _ = meddle(stream, meddler, tampering, chance).await;
        });
        Ok(server)
    }

    fn lock(&self) -> MutexGuard<'_, (SmallRng, JoinSet<()>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn meddle(client: TcpStream, server: DuplexStream, tampering: Tampering, chance: SmallRng) -> io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = split(server);
    let requests = async {
        copy(&mut from_client, &mut to_server).await?;
        to_server.shutdown().await?;
        // The client may still read.
        std::future::pending::<io::Result<Infallible>>().await
    };
    let answers = async {
        let mut queue = Queue { tampering, chance, waiting: BTreeMap::new(), count: 0 };
        let mut reader = FrameReader::new(FrameReader::MAX_FRAME);
        loop {
            while let Some(frame) = queue.due(Instant::now()) {
                to_client.write_all(&frame).await?;
            }
            let next = queue.waiting.keys().next().map(|(at, _)| *at);
            // Both are safe to drop.
            tokio::select! {
                biased;
                read = from_server.read_buf(reader.read_buffer()) => match read? {
                    0 => break,
                    count => reader.filled(count),
                },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => continue,
            }
            while let Some(inbound) = reader.next_frame().map_err(io::Error::other)? {
                queue.take(inbound);
            }
        }
        for frame in std::mem::take(&mut queue.waiting).into_values() {
            to_client.write_all(&frame).await?;
        }
        to_client.shutdown().await
    };
    tokio::select! {
        biased;
        Err(broken) = requests => Err(broken),
        outcome = answers => outcome,
    }
}

/// Frames on their way to a client.
struct Queue {
    tampering: Tampering,
    chance: SmallRng,
    waiting: BTreeMap<(Instant, u64), BytesMut>,
    count: u64,
}

impl Queue {
    fn take(&mut self, inbound: Inbound) {
        let Inbound::Frame(frame) = inbound else { return };
        let mut bytes = BytesMut::new();
        frame.write(&mut bytes);
        let tampers = frame.header.frame_type == FrameType::Response;
        let late = tampers && self.chance.random_bool(self.tampering.late);
        self.wait(bytes.clone(), late);
        if tampers && self.chance.random_bool(self.tampering.twice) {
            self.wait(bytes, true);
        }
    }

    fn wait(&mut self, bytes: BytesMut, late: bool) {
        let delay = if late { self.tampering.delay.mul_f64(self.chance.random()) } else { Duration::ZERO };
        self.count += 1;
        self.waiting.insert((Instant::now() + delay, self.count), bytes);
    }

    fn due(&mut self, now: Instant) -> Option<BytesMut> {
        let first = self.waiting.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}
