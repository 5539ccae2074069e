//! [`TamperingProxies`]: between a server and some of its clients, they delay, reorder and duplicate answers.

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

use super::sockets::Socket;

/// The proxies between one server and its clients. Dropping them closes their connections.
pub(crate) struct TamperingProxies(Mutex<(SmallRng, JoinSet<()>)>);

/// Parameters of the proxies.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tampering {
    /// Share of connections that have a proxy.
    pub(crate) connections: f64,
    /// Share of answers that are delayed.
    pub(crate) late: f64,
    /// Maximum delay.
    pub(crate) delay: Duration,
    /// Share of answers that are duplicated.
    pub(crate) duplicate: f64,
}

impl TamperingProxies {
    /// Returns proxies whose decisions depend on `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new((SmallRng::seed_from_u64(seed), JoinSet::new())))
    }

    /// Randomly puts a proxy into a connection.
    ///
    /// # Errors
    ///
    /// Returns the unchanged stream if the connection has no proxy.
    pub(crate) fn intercept(&self, stream: Socket, tampering: Tampering) -> Result<DuplexStream, Socket> {
        let (rng, tasks) = &mut *self.lock();
        if !rng.random_bool(tampering.connections) {
            return Err(stream);
        }
        while tasks.try_join_next().is_some() {}
        let (server, proxy) = duplex(64 << 10);
        let rng = SmallRng::from_rng(rng);
        tasks.spawn(async move {
            // Both ends observe the end of the connection.
            let _ = relay(stream, proxy, tampering, rng).await;
        });
        Ok(server)
    }

    fn lock(&self) -> MutexGuard<'_, (SmallRng, JoinSet<()>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn relay(client: Socket, server: DuplexStream, tampering: Tampering, rng: SmallRng) -> io::Result<()> {
    let (mut from_client, mut to_client) = split(client);
    let (mut from_server, mut to_server) = split(server);
    let requests = async {
        copy(&mut from_client, &mut to_server).await?;
        to_server.shutdown().await?;
        // The client may still receive answers.
        std::future::pending::<io::Result<Infallible>>().await
    };
    let answers = async {
        let mut queue = Queue { tampering, rng, waiting: BTreeMap::new(), count: 0, late: BTreeMap::new() };
        let mut reader = FrameReader::new(FrameReader::MAX_FRAME);
        loop {
            while let Some(frame) = queue.due(Instant::now()) {
                to_client.write_all(&frame).await?;
            }
            let next = queue.waiting.keys().next().map(|(at, _)| *at);
            // Both branches are cancel-safe.
            tokio::select! {
                biased;
                read = from_server.read_buf(reader.read_buffer()) => match read? {
                    0 => break,
                    count => reader.filled(count),
                },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => continue,
            }
            while let Some(inbound) = reader.next_frame().map_err(io::Error::other)? {
                queue.push(inbound);
            }
        }
        for frame in std::mem::take(&mut queue.waiting).into_values() {
            to_client.write_all(&frame).await?;
        }
        to_client.shutdown().await
    };
    tokio::select! {
        biased;
        Err(error) = requests => Err(error),
        outcome = answers => outcome,
    }
}

/// Frames that wait for delivery to a client.
struct Queue {
    tampering: Tampering,
    rng: SmallRng,
    waiting: BTreeMap<(Instant, u64), BytesMut>,
    count: u64,
    /// The ids of late answers, and when they are sent. The items of an accepted call follow its answer.
    late: BTreeMap<u32, Instant>,
}

impl Queue {
    fn push(&mut self, inbound: Inbound) {
        let Inbound::Frame(frame) = inbound else { return };
        let mut bytes = BytesMut::new();
        frame.write(&mut bytes);
        let now = Instant::now();
        self.late.retain(|_, at| *at > now);
        match frame.header.frame_type {
            FrameType::Response => {
                let at = if self.rng.random_bool(self.tampering.late) { now + self.delay() } else { now };
                self.schedule(bytes.clone(), at);
                self.late.insert(frame.header.id, at);
                if self.rng.random_bool(self.tampering.duplicate) {
                    let at = now + self.delay();
                    self.schedule(bytes, at);
                }
            }
            FrameType::CalleeItem | FrameType::CalleeEnd => {
                let at = self.late.get(&frame.header.id).map_or(now, |at| *at);
                self.schedule(bytes, at);
            }
            _ => self.schedule(bytes, now),
        }
    }

    fn delay(&mut self) -> Duration {
        self.tampering.delay.mul_f64(self.rng.random())
    }

    fn schedule(&mut self, bytes: BytesMut, at: Instant) {
        self.count += 1;
        self.waiting.insert((at, self.count), bytes);
    }

    fn due(&mut self, now: Instant) -> Option<BytesMut> {
        let first = self.waiting.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}
