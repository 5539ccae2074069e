//! The smallest call API on tokio: what remains of an RPC framework without deadlines, cancellation, metadata, retries,
//! balancing, limits and generated code.
//!
//! Callers await their calls. A call takes a slot, encodes its request by hand into the buffer of its connection under
//! a short lock, and waits for its answer. One task per connection yields once before it writes if it has woken several
//! callers, so that one write carries many requests. The server executes its handler where it reads the request.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::{
    io::AsyncWrite,
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tokio_util::{io::poll_read_buf, task::TaskTracker};

use super::net::{accept, dial};
use crate::{
    echo::EchoRequest as Message,
    failure::Failure,
    link::{Link, Sample},
};

/// A connection, shared by its callers and its driver.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    output: BytesMut,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// The waker of the driver while it sleeps.
    driver: Option<Waker>,
    is_closed: bool,
}

#[derive(Debug, Default)]
struct Slot {
    caller: Option<Waker>,
    answer: Option<Bytes>,
}

/// A client of one connection. The connection ends with its last client.
#[derive(Debug, Clone)]
pub(super) struct BareClient {
    shared: Arc<Shared>,
    _closes: Arc<oneshot::Sender<()>>,
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn start(&mut self, message: &Message) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        write(slot, message, &mut self.output);
        slot
    }
}

impl BareClient {
    /// Makes one call.
    async fn call(&self, message: &Message) -> Result<Message, Failure> {
        let (slot, driver) = {
            let mut state = self.shared.lock();
            if state.is_closed {
                return Err("the connection is closed".into());
            }
            (state.start(message), state.driver.take())
        };
        if let Some(driver) = driver {
            driver.wake();
        }
        let answer = std::future::poll_fn(|cx| {
            let mut state = self.shared.lock();
            let is_closed = state.is_closed;
            let entry = &mut state.slots[slot as usize];
            match entry.answer.take() {
                Some(answer) => {
                    state.free.push(slot);
                    Poll::Ready(Some(answer))
                }
                None if is_closed => Poll::Ready(None),
                None => {
                    if !entry.caller.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                        entry.caller = Some(cx.waker().clone());
                    }
                    Poll::Pending
                }
            }
        });
        read(answer.await.ok_or("the connection is closed")?)
    }
}

impl Link for BareClient {
    async fn echo(&self, id: u64, sample: &Sample) -> Result<(), Failure> {
        let request = Message { id, name: sample.name.clone(), payload: sample.payload.clone() };
        let reply = self.call(&request).await?;
        sample.check(id, reply.id, &reply.name, &reply.payload)
    }
}

/// Reads frames and writes output.
#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    input: BytesMut,
    output: BytesMut,
}

impl Socket {
    fn new(stream: TcpStream) -> Self {
        Self { stream, input: BytesMut::new(), output: BytesMut::new() }
    }

    /// Reads available bytes. Returns `false` at the end of the stream.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.input.reserve(READ_LEN);
        Poll::Ready(Ok(ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input))? > 0))
    }

    /// Writes the output. Returns `Pending` while the socket accepts no more.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.output))?;
            self.output.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Returns the next complete frame: a slot and a body.
    fn next_frame(&mut self) -> Option<(u32, Bytes)> {
        let length = u32::from_be_bytes(*self.input.first_chunk::<LENGTH>()?) as usize;
        if self.input.len() < LENGTH + length {
            return None;
        }
        self.input.advance(LENGTH);
        let mut frame = self.input.split_to(length);
        Some((frame.get_u32(), frame.freeze()))
    }
}

/// The client's side of a connection.
struct Driver {
    socket: Socket,
    shared: Arc<Shared>,
    wakers: Vec<Waker>,
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let is_readable = match self.socket.poll_input(cx) {
                Poll::Ready(Ok(true)) => true,
                Poll::Ready(Ok(false)) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => false,
            };
            if is_readable {
                if self.deliver() > 1 {
                    // The callers that were woken make their next calls first.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                continue;
            }
            if self.socket.output.is_empty() {
                let mut state = self.shared.lock();
                std::mem::swap(&mut state.output, &mut self.socket.output);
                if self.socket.output.is_empty() {
                    state.driver = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
            ready!(self.socket.poll_output(cx))?;
        }
    }

    /// Delivers answers. Returns the number of callers that were woken.
    fn deliver(&mut self) -> usize {
        let mut state = self.shared.lock();
        while let Some((slot, body)) = self.socket.next_frame() {
            let Some(entry) = state.slots.get_mut(slot as usize) else { continue };
            entry.answer = Some(body);
            self.wakers.extend(entry.caller.take());
        }
        drop(state);
        let woken = self.wakers.len();
        self.wakers.drain(..).for_each(Waker::wake);
        woken
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_closed = true;
        let callers: Vec<Waker> = state.slots.iter_mut().filter_map(|slot| slot.caller.take()).collect();
        drop(state);
        callers.into_iter().for_each(Waker::wake);
    }
}

/// Opens `count` connections.
pub(super) async fn connect(address: SocketAddr, count: usize) -> Result<Vec<BareClient>, Failure> {
    let tasks = TaskTracker::new();
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        let shared = Arc::<Shared>::default();
        let socket = Socket::new(dial(address).await?);
        let mut driver = Driver { socket, shared: Arc::clone(&shared), wakers: Vec::new() };
        let (closes, closed) = oneshot::channel();
        tasks.spawn(async move {
            // Cancel-safe: the connection ends whichever of the two completes.
            tokio::select! {
                biased;
                _ = std::future::poll_fn(|cx| driver.poll(cx)) => {}
                _ = closed => {}
            }
        });
        clients.push(BareClient { shared, _closes: Arc::new(closes) });
    }
    Ok(clients)
}

/// Serves until the process is killed.
pub(super) async fn serve(listener: TcpListener) -> Result<(), Failure> {
    let tasks = TaskTracker::new();
    loop {
        let mut socket = Socket::new(accept(&listener).await?);
        // A connection error ends the task, like the end of the stream.
        tasks.spawn(async move { std::future::poll_fn(|cx| poll_serve(&mut socket, cx)).await });
    }
}

fn poll_serve(socket: &mut Socket, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
    loop {
        ready!(socket.poll_output(cx))?;
        if !ready!(socket.poll_input(cx))? {
            return Poll::Ready(Ok(()));
        }
        while let Some((slot, body)) = socket.next_frame() {
            write(slot, &echo(read(body)?), &mut socket.output);
        }
    }
}

/// The handler.
fn echo(request: Message) -> Message {
    let Message { id, name, payload } = request;
    Message { id, name, payload }
}

/// Appends a frame: its length, a slot, and the message.
fn write(slot: u32, message: &Message, out: &mut BytesMut) {
    let length = 4 + 8 + 4 + message.name.len() + message.payload.len();
    out.reserve(LENGTH + length);
    out.put_u32(length as u32);
    out.put_u32(slot);
    out.put_u64(message.id);
    out.put_u32(message.name.len() as u32);
    out.put_slice(message.name.as_bytes());
    out.put_slice(&message.payload);
}

/// Reads a message.
fn read(mut body: Bytes) -> Result<Message, Failure> {
    let id = body.try_get_u64()?;
    let length = body.try_get_u32()? as usize;
    let (name, payload) = body.split_at_checked(length).ok_or("the name exceeds the frame")?;
    Ok(Message { id, name: std::str::from_utf8(name)?.to_owned(), payload: payload.to_vec() })
}

const LENGTH: usize = 4;
/// The buffer capacity for a read, in bytes.
const READ_LEN: usize = 64 << 10;
