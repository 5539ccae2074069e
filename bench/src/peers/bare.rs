//! Frames that are sent back: one write for all that are ready, one large read, no call, no codec, one task a connection. What
//! no RPC over TCP on tokio can beat.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, BytesMut};
use tokio::{
    io::AsyncWrite,
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::Instant,
};
use tokio_util::{io::poll_read_buf, task::TaskTracker};

use super::{Held, accept, dial};
use crate::{
    Failure,
    job::{Job, Window},
    link::Sample,
    process::Usage,
    summary::Summary,
    tally::Tally,
};

/// A connection: a frame is its length, then an id, then a payload.
struct Connection {
    stream: TcpStream,
    input: BytesMut,
    output: BytesMut,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self { stream, input: BytesMut::new(), output: BytesMut::new() }
    }

    fn push(&mut self, id: u64, payload: &[u8]) {
        self.output.put_u32((ID + payload.len()) as u32);
        self.output.put_u64(id);
        self.output.put_slice(payload);
    }

    /// The length of the whole frames at the start of the input.
    fn whole(&self) -> usize {
        let mut at = 0;
        while let Some(length) = self.input.get(at..).and_then(|rest| rest.first_chunk::<LENGTH>()) {
            let end = at + LENGTH + u32::from_be_bytes(*length) as usize;
            if end > self.input.len() {
                break;
            }
            at = end;
        }
        at
    }

    /// Reads what there is; `false` at the end of the stream, pending when nothing came.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.input.reserve(ROOM);
        Poll::Ready(Ok(ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input))? > 0))
    }

    /// Writes what can be written now.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.output.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.output)? {
                Poll::Ready(count) => self.output.advance(count),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Sends back all that comes.
    fn poll_echo(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.poll_output(cx)?;
            if !ready!(self.poll_input(cx))? {
                return Poll::Ready(Ok(()));
            }
            let whole = self.whole();
            let frames = self.input.split_to(whole);
            if self.output.is_empty() && whole >= LARGE {
                self.output = frames;
            } else {
                self.output.extend_from_slice(&frames);
            }
        }
    }
}

/// Serves until the process is killed.
pub(super) async fn serve(listener: TcpListener) -> Result<(), Failure> {
    let tasks = TaskTracker::new();
    loop {
        let mut connection = Connection::new(accept(&listener).await?);
        // A connection that breaks is over, as one that ends.
        tasks.spawn(async move { std::future::poll_fn(|cx| connection.poll_echo(cx)).await });
    }
}

/// Does `job`.
pub(super) async fn run(address: SocketAddr, job: &Job, usage: Usage) -> Result<Summary, Failure> {
    let sample = Arc::new(Sample::new(job.payload));
    let mut connections = Vec::new();
    for _ in 0..job.conns.get() {
        connections.push(Connection::new(dial(address).await?));
    }
    let window = job.window();
    let mut pumps = JoinSet::new();
    for (connection, share) in connections.into_iter().zip(job.shares()) {
        let mut pump = Pump::new(connection, Arc::clone(&sample), share, window);
        pumps.spawn(async move {
            std::future::poll_fn(|cx| pump.poll(cx)).await?;
            Ok::<_, io::Error>(pump.tally)
        });
    }
    let costs = usage.during(window).await?;
    let mut tally = Tally::default();
    while let Some(pump) = pumps.join_next().await {
        tally.merge(pump??);
    }
    Ok(Summary::new(&tally, window.length(), costs))
}

/// Opens connections, each of which has carried a frame.
pub(super) async fn open(address: SocketAddr, count: usize) -> Result<Held, Failure> {
    let mut held = Held::new();
    for _ in 0..count {
        let mut connection = Connection::new(dial(address).await?);
        connection.push(0, &[0; 32]);
        std::future::poll_fn(|cx| {
            connection.poll_output(cx)?;
            connection.poll_input(cx)
        })
        .await?;
        held.push(Box::new(connection.stream));
    }
    Ok(held)
}

/// Keeps frames in flight on one connection. A frame's id is its place in `begun`.
struct Pump {
    connection: Connection,
    sample: Arc<Sample>,
    begun: Vec<Instant>,
    window: Window,
    tally: Tally,
}

impl Pump {
    fn new(mut connection: Connection, sample: Arc<Sample>, share: usize, window: Window) -> Self {
        for id in 0..share {
            connection.push(id as u64, &sample.payload);
        }
        Self { connection, sample, begun: vec![Instant::now(); share], window, tally: Tally::default() }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.connection.poll_output(cx)?;
            let now = Instant::now();
            if now >= self.window.end || self.begun.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if !ready!(self.connection.poll_input(cx))? {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.take_frames();
        }
    }

    fn take_frames(&mut self) {
        let now = Instant::now();
        let whole = self.connection.whole();
        let frames = self.connection.input.split_to(whole);
        let mut frames = &frames[..];
        while !frames.is_empty() {
            let length = frames.get_u32() as usize;
            let (mut frame, rest) = frames.split_at(length);
            frames = rest;
            let id = frame.get_u64();
            let Some(begun) = self.begun.get_mut(id as usize) else { continue };
            if self.window.contains(now) {
                self.tally.count(frame == self.sample.payload, now.duration_since(*begun));
            }
            *begun = now;
            self.connection.push(id, &self.sample.payload);
        }
    }
}

const LENGTH: usize = 4;
const ID: usize = 8;
/// The room for a read.
const ROOM: usize = 256 << 10;
/// What is worth more than a copy.
const LARGE: usize = 16 << 10;
