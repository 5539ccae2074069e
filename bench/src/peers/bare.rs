//! An echo of frames without RPC: one write for all ready frames, large reads, no codec, one task per connection.
//!
//! It is an upper limit for RPC over TCP on tokio.

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

use super::net::{OpenConnections, accept, dial};
use crate::{
    failure::Failure,
    job::{Job, Window},
    link::Sample,
    process::Usage,
    stats::CallStats,
    summary::Summary,
};

/// A connection. A frame consists of its length, an id and a payload.
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

    /// Returns the length of the complete frames at the start of the input.
    fn complete_len(&self) -> usize {
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

    /// Reads available bytes. Returns `false` at the end of the stream.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.input.reserve(READ_LEN);
        Poll::Ready(Ok(ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input))? > 0))
    }

    /// Writes as much output as the socket accepts.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.output.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.output)? {
                Poll::Ready(count) => self.output.advance(count),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Echoes all frames.
    fn poll_echo(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.poll_output(cx)?;
            if !ready!(self.poll_input(cx))? {
                return Poll::Ready(Ok(()));
            }
            let complete = self.complete_len();
            let frames = self.input.split_to(complete);
            if self.output.is_empty() && complete >= MIN_MOVED {
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
        // A connection error ends the task, like the end of the stream.
        tasks.spawn(async move { std::future::poll_fn(|cx| connection.poll_echo(cx)).await });
    }
}

/// Runs `job`.
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
            Ok::<_, io::Error>(pump.stats)
        });
    }
    let cpu = usage.during(window).await?;
    let mut stats = CallStats::default();
    while let Some(pump) = pumps.join_next().await {
        stats.merge(pump??);
    }
    Ok(Summary::new(&stats, window.length(), cpu))
}

/// Opens `count` connections and echoes one frame over each.
pub(super) async fn open(address: SocketAddr, count: usize) -> Result<OpenConnections, Failure> {
    let mut open = OpenConnections::new();
    for _ in 0..count {
        let mut connection = Connection::new(dial(address).await?);
        connection.push(0, &[0; 32]);
        std::future::poll_fn(|cx| {
            connection.poll_output(cx)?;
            connection.poll_input(cx)
        })
        .await?;
        open.push(Box::new(connection.stream));
    }
    Ok(open)
}

/// Keeps frames in flight on one connection. The id of a frame is its index in `sent_at`.
struct Pump {
    connection: Connection,
    sample: Arc<Sample>,
    sent_at: Vec<Instant>,
    window: Window,
    stats: CallStats,
}

impl Pump {
    fn new(mut connection: Connection, sample: Arc<Sample>, share: usize, window: Window) -> Self {
        for id in 0..share {
            connection.push(id as u64, &sample.payload);
        }
        Self { connection, sample, sent_at: vec![Instant::now(); share], window, stats: CallStats::default() }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.connection.poll_output(cx)?;
            let now = Instant::now();
            if now >= self.window.end || self.sent_at.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if !ready!(self.connection.poll_input(cx))? {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.handle_frames();
        }
    }

    fn handle_frames(&mut self) {
        let now = Instant::now();
        let complete = self.connection.complete_len();
        let frames = self.connection.input.split_to(complete);
        let mut frames = &frames[..];
        while !frames.is_empty() {
            let length = frames.get_u32() as usize;
            let (mut frame, rest) = frames.split_at(length);
            frames = rest;
            let id = frame.get_u64();
            let Some(sent_at) = self.sent_at.get_mut(id as usize) else { continue };
            if self.window.contains(now) {
                self.stats.count(frame == self.sample.payload, now.duration_since(*sent_at));
            }
            *sent_at = now;
            self.connection.push(id, &self.sample.payload);
        }
    }
}

const LENGTH: usize = 4;
const ID: usize = 8;
/// The buffer capacity for a read, in bytes.
const READ_LEN: usize = 256 << 10;
/// The length from which frames are moved to the output instead of copied, in bytes.
const MIN_MOVED: usize = 16 << 10;
