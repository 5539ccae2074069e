//! [`Driver`]: the one task of a connection; and [`Role`], what it does with the frames.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{self, Poll, Waker, ready},
    time::Duration,
};

use bytes::Buf;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::io::poll_read_buf;

use super::{FrameReader, Inbound, Outbox, Traffic, traffic::Uncounted};
use crate::{
    Code, Error, WriteBuffer,
    frame::{Frame, Header, Violation},
    head,
};

/// One end's part in a connection: a state machine that takes frames and time as arguments and says what it has to say
/// through the connection's [`Outbox`]. Does no I/O.
pub trait Role: Send + Unpin + 'static {
    /// Whether others of this process are likely to speak right now, because of the frames that were `read` or otherwise: then
    /// the driver lets them before it writes.
    fn expects_more(&self, read: bool) -> bool;

    /// How many bytes may wait to be written before nothing more is read.
    ///
    /// Of two ends that both stop reading when they have much to say, each would wait for the other. So one of them reads on.
    fn backlog(config: &TransportConfig) -> usize;

    /// Takes a whole frame.
    ///
    /// # Errors
    ///
    /// The [`Violation`] for which the connection is closed.
    fn handle_frame(&mut self, frame: Frame, now: Instant) -> Result<(), Violation>;

    /// Takes the header of a frame over the limit, whose body is skipped.
    ///
    /// # Errors
    ///
    /// As [`handle_frame`](Self::handle_frame).
    fn handle_overlong(&mut self, header: Header, limit: u32) -> Result<(), Violation>;

    /// Has taken all the frames that came at once; called also when there were none.
    fn handle_read(&mut self) {}

    /// Looks at the time and at what was asked of the connection; called once a turn, before output is written.
    ///
    /// # Errors
    ///
    /// Why the connection is to be closed at once.
    fn handle_turn(&mut self, activity: &Activity, now: Instant) -> Result<Turn, CloseReason>;

    /// Learns that the connection is over. Called exactly once, also when the driver is dropped.
    fn handle_close(&mut self, reason: &Arc<CloseReason>);
}

/// What happened on a connection, and when.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Activity {
    /// When any byte was last read.
    pub last_read: Instant,
    /// When any byte was last written.
    pub last_write: Instant,
    /// Whether a frame was begun, which has a deadline of its own.
    pub mid_frame: bool,
    /// Whether reading pauses because the peer does not read what it is sent.
    pub paused: bool,
    /// Whether the peer has closed its sending side.
    pub peer_closed: bool,
}

impl Activity {
    /// The activity of a connection that begins at `now`.
    pub fn new(now: Instant) -> Self {
        Self { last_read: now, last_write: now, mid_frame: false, paused: false, peer_closed: false }
    }
}

/// What a [`Role`] wants next.
#[derive(Debug, Clone, Copy, Default)]
pub struct Turn {
    /// When to be called again at the latest.
    pub wake_at: Option<Instant>,
    /// Whether nothing more will come: what was said is written, then the connection closes.
    pub finish: bool,
}

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// Both ends had nothing more to say.
    #[error("the connection was closed in order")]
    Finished,
    /// The peer closed it.
    #[error("the peer closed the connection")]
    PeerClosed,
    /// The socket failed.
    #[error("the connection broke")]
    Io(#[source] io::Error),
    /// The peer broke the protocol.
    #[error("the peer broke the protocol")]
    Violation(#[from] Violation),
    /// Nothing was read for too long.
    #[error("nothing was read for {0:?}")]
    Idle(Duration),
    /// The peer did not answer a ping.
    #[error("no answer to a ping for {0:?}")]
    PongOverdue(Duration),
    /// The peer did not read for too long.
    #[error("nothing could be written for {0:?}")]
    WriteStalled(Duration),
    /// The task was ended.
    #[error("the connection was dropped")]
    Dropped,
}

/// The bounds of one connection's transport.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TransportConfig {
    /// The longest frame, header included, taken and sent; default 8 MiB. Raised, one peer can make this process hold more.
    pub max_frame: u32,
    /// The most bytes that wait to be written; default 1 MiB. Raised, a peer that reads slowly holds more memory.
    pub outbox: usize,
    /// How long a frame may take to arrive once begun, to which a second is added for each 64 KiB; default 5 s. Raised, a peer
    /// that drips holds its connection longer.
    pub frame_time: Duration,
    /// How long a write may make no progress; default 10 s. Raised, a peer that does not read is found later.
    pub write_stall: Duration,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            max_frame: FrameReader::MAX_FRAME,
            outbox: 1 << 20,
            frame_time: Duration::from_secs(5),
            write_stall: Duration::from_secs(10),
        }
    }
}

impl TransportConfig {
    /// Refuses numbers with which no frame could ever pass.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`, naming the field.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |what: &str| Err(Error::not_executed(Code::InvalidArgument, format!("the transport's {what}")));
        match () {
            () if self.max_frame < MIN_MAX_FRAME => refuse("max_frame must be at least 64 KiB"),
            () if self.max_frame > MAX_MAX_FRAME => refuse("max_frame must be at most 128 MiB"),
            () if self.outbox == 0 => refuse("outbox must not be 0"),
            () if self.frame_time.is_zero() => refuse("frame_time must not be 0"),
            () if self.write_stall.is_zero() => refuse("write_stall must not be 0"),
            () => Ok(()),
        }
    }
}

/// The one task of a connection: it reads, hands frames to its role, and writes what the outbox holds, many frames at once.
///
/// Resolves when the connection is over. Dropped, it closes the connection and tells its role.
#[must_use = "a connection does nothing unless its driver is polled"]
#[derive(Debug)]
pub struct Driver<S, R: Role> {
    io: S,
    role: R,
    outbox: Arc<Outbox>,
    config: TransportConfig,
    /// [`Role::backlog`].
    backlog: usize,
    reader: FrameReader,
    writing: WriteBuffer,
    activity: Activity,
    traffic: Option<Arc<Traffic>>,
    uncounted: Uncounted,
    /// When the frame that is incomplete was begun.
    frame_begun: Option<Instant>,
    /// Since when the socket takes nothing.
    stalled: Option<Instant>,
    /// Whether this turn already went behind those who are ready to speak.
    yielded: bool,
    timer: Option<Timer>,
    closing: Option<Closing>,
    closed: bool,
}

#[derive(Debug)]
struct Timer {
    sleep: Pin<Box<Sleep>>,
    waker: Waker,
}

/// The last steps of a connection that ends in order.
#[derive(Debug)]
struct Closing {
    /// How long the peer may take to close its side.
    until: Instant,
    shut_down: bool,
}

#[derive(PartialEq, Eq)]
enum Input {
    /// There is nothing to be read now.
    Drained,
    /// There may be more, and others had to wait long enough.
    More,
}

impl<S: AsyncRead + AsyncWrite + Unpin, R: Role> Driver<S, R> {
    /// Drives `io` in the part of `role`, which speaks through `outbox`.
    pub fn new(io: S, role: R, outbox: Arc<Outbox>, config: TransportConfig) -> Self {
        let now = Instant::now();
        let reader = FrameReader::new(config.max_frame);
        let activity = Activity::new(now);
        Self {
            io,
            role,
            outbox,
            backlog: R::backlog(&config),
            config,
            reader,
            writing: WriteBuffer::new(),
            activity,
            traffic: None,
            uncounted: Uncounted::new(now),
            frame_begun: None,
            stalled: None,
            yielded: false,
            timer: None,
            closing: None,
            closed: false,
        }
    }

    /// Goes on with what `reader` has read, on a connection that was spoken on before.
    pub fn with_reader(mut self, reader: FrameReader) -> Self {
        self.reader = reader.with_max_frame(self.config.max_frame);
        self
    }

    /// Adds the bytes that it reads and writes to `traffic`.
    pub fn counted_in(mut self, traffic: Arc<Traffic>) -> Self {
        self.traffic = Some(traffic);
        self
    }

    fn drive(&mut self, cx: &mut task::Context<'_>) -> Poll<CloseReason> {
        // What its own role says must not wake it once more.
        self.outbox.rouse();
        loop {
            let now = Instant::now();
            if self.closing.is_some() {
                return self.poll_closing(cx, now);
            }
            match self.turn(cx, now) {
                Err(reason) => return Poll::Ready(reason),
                Ok(Some(poll)) => return poll,
                Ok(None) => {}
            }
        }
    }

    /// Reads, lets the role look, writes; `None` to be called again at once.
    fn turn(&mut self, cx: &mut task::Context<'_>, now: Instant) -> Result<Option<Poll<CloseReason>>, CloseReason> {
        let had_read = self.activity.last_read;
        let input = self.input(cx, now)?;
        self.role.handle_read();
        let read = self.activity.last_read != had_read;
        // Those whom the input woke, and those who are about to speak, come first: then one write carries all of it.
        if !self.yielded && self.role.expects_more(read) {
            self.yielded = true;
            cx.waker().wake_by_ref();
            return Ok(Some(Poll::Pending));
        }
        self.yielded = false;
        let turn = self.role.handle_turn(&self.activity, now)?;
        self.output(cx, now)?;
        if let Some(traffic) = &self.traffic {
            self.uncounted.add_in_time(traffic, now);
        }
        if turn.finish && self.writing.is_empty() && self.outbox.is_empty() {
            self.outbox.close();
            self.closing = Some(Closing { until: now + LINGER, shut_down: false });
            return Ok(None);
        }
        if self.activity.paused && self.outbox.waiting() < self.backlog {
            return Ok(None);
        }
        let release_at = self.release_idle(now);
        let wake_at = [
            release_at,
            turn.wake_at,
            self.frame_deadline(),
            self.stalled.map(|since| since + self.config.write_stall),
        ];
        if let Some(wake_at) = wake_at.into_iter().flatten().min() {
            self.arm(cx, wake_at);
        }
        if input == Input::More {
            cx.waker().wake_by_ref();
            return Ok(Some(Poll::Pending));
        }
        let blocked = !self.writing.is_empty();
        Ok(self.outbox.sleep(cx.waker(), blocked).then_some(Poll::Pending))
    }

    /// Gives the buffers back when nothing has been going on for a while; says when to look again.
    fn release_idle(&mut self, now: Instant) -> Option<Instant> {
        let idle_at = self.activity.last_read.max(self.activity.last_write) + BUFFERS_KEPT;
        if !self.reader.holds_nothing() && !self.writing.holds_memory() {
            return None;
        }
        if now < idle_at {
            return Some(idle_at);
        }
        self.reader.release();
        if self.writing.is_empty() {
            self.writing = WriteBuffer::new();
            self.outbox.release();
        }
        None
    }

    /// Takes frames until there are no more, or enough for one turn, or too much waits to be written.
    fn input(&mut self, cx: &mut task::Context<'_>, now: Instant) -> Result<Input, CloseReason> {
        let (mut frames, mut bytes) = (0, 0);
        let input = loop {
            // Looked at for each frame: answers must not pile up for a peer that has sent many and reads none.
            if self.outbox.waiting() >= self.backlog {
                // Its own clocks stand still meanwhile.
                self.activity.paused = true;
                self.frame_begun = None;
                return Ok(Input::Drained);
            }
            if std::mem::take(&mut self.activity.paused) {
                self.activity.last_read = now;
            }
            if let Some(inbound) = self.reader.next_frame()? {
                self.frame_begun = None;
                match inbound {
                    Inbound::Frame(frame) => {
                        head::check(&frame)?;
                        self.role.handle_frame(frame, now)?;
                    }
                    Inbound::Overlong(header) => self.role.handle_overlong(header, self.config.max_frame)?,
                }
                frames += 1;
                if frames == FRAMES_A_TURN {
                    return Ok(Input::More);
                }
                continue;
            }
            if self.activity.peer_closed {
                break Input::Drained;
            }
            if bytes >= BYTES_A_TURN {
                break Input::More;
            }
            match poll_read_buf(Pin::new(&mut self.io), cx, self.reader.read_buffer()) {
                Poll::Pending => break Input::Drained,
                Poll::Ready(Err(error)) => return Err(CloseReason::Io(error)),
                Poll::Ready(Ok(0)) if self.reader.is_mid_frame() => return Err(CloseReason::PeerClosed),
                Poll::Ready(Ok(0)) => self.activity.peer_closed = true,
                Poll::Ready(Ok(count)) => {
                    self.reader.filled(count);
                    self.uncounted.read += count as u64;
                    self.activity.last_read = now;
                    bytes += count;
                }
            }
        };
        self.activity.mid_frame = self.reader.is_mid_frame();
        if self.activity.mid_frame {
            self.frame_begun.get_or_insert(now);
            if self.frame_deadline().is_some_and(|deadline| now >= deadline) {
                return Err(Violation::SlowFrame(self.reader.frame_length()).into());
            }
        }
        Ok(input)
    }

    /// Writes what waits until there is no more or the socket takes no more.
    fn output(&mut self, cx: &mut task::Context<'_>, now: Instant) -> Result<(), CloseReason> {
        loop {
            if self.writing.is_empty() {
                let mut spare = std::mem::take(&mut self.writing);
                spare.clear();
                self.writing = self.outbox.take(spare);
                if self.writing.is_empty() {
                    // Sockets do nothing here; what encrypts may hold something back.
                    return match Pin::new(&mut self.io).poll_flush(cx) {
                        Poll::Ready(Err(error)) => Err(CloseReason::Io(error)),
                        Poll::Ready(Ok(())) => {
                            self.stalled = None;
                            Ok(())
                        }
                        Poll::Pending => self.stall(now),
                    };
                }
            }
            match self.poll_write(cx) {
                Poll::Ready(Ok(0)) => return Err(CloseReason::Io(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    self.writing.advance(count);
                    self.outbox.written(count);
                    self.uncounted.written += count as u64;
                    self.activity.last_write = now;
                    self.stalled = None;
                }
                Poll::Ready(Err(error)) => return Err(CloseReason::Io(error)),
                Poll::Pending => return self.stall(now),
            }
        }
    }

    /// Hands as much to the socket as it takes.
    fn poll_write(&mut self, cx: &mut task::Context<'_>) -> Poll<io::Result<usize>> {
        let io = Pin::new(&mut self.io);
        if let Some(bytes) = self.writing.only_chunk() {
            return io.poll_write(cx, bytes);
        }
        let mut slices = [IoSlice::new(&[]); PIECES_A_WRITE];
        let count = self.writing.chunks_vectored(&mut slices);
        io.poll_write_vectored(cx, &slices[..count])
    }

    /// The socket takes nothing: for how long already?
    fn stall(&mut self, now: Instant) -> Result<(), CloseReason> {
        let since = *self.stalled.get_or_insert(now);
        if now >= since + self.config.write_stall {
            return Err(CloseReason::WriteStalled(self.config.write_stall));
        }
        Ok(())
    }

    /// Writes the last of it, says that no more will come, and waits a while for the peer to close, so that it can read all.
    fn poll_closing(&mut self, cx: &mut task::Context<'_>, now: Instant) -> Poll<CloseReason> {
        if let Err(reason) = self.output(cx, now) {
            return Poll::Ready(reason);
        }
        let Some(closing) = &mut self.closing else { return Poll::Ready(CloseReason::Finished) };
        let until = closing.until;
        if self.writing.is_empty() && !closing.shut_down {
            closing.shut_down = Pin::new(&mut self.io).poll_shutdown(cx).is_ready();
        }
        if now >= until {
            return Poll::Ready(CloseReason::Finished);
        }
        self.arm(cx, until);
        if self.activity.peer_closed {
            return if self.closing.as_ref().is_some_and(|c| c.shut_down) {
                Poll::Ready(CloseReason::Finished)
            } else {
                Poll::Pending
            };
        }
        let mut discarded = [0; 1024];
        for _ in 0..FRAMES_A_TURN {
            let mut buffer = ReadBuf::new(&mut discarded);
            let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(CloseReason::Finished);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn frame_deadline(&self) -> Option<Instant> {
        let begun = self.frame_begun?;
        Some(begun + self.config.frame_time + Duration::from_secs((self.reader.frame_length() >> 16) as u64))
    }

    /// Makes sure that this task is polled at `at`, or earlier: a timer that is set early enough is left alone, because moving
    /// one costs more than being woken once too often.
    fn arm(&mut self, cx: &mut task::Context<'_>, at: Instant) {
        if let Some(timer) = &self.timer
            && !timer.sleep.is_elapsed()
            && timer.sleep.deadline() <= at
            && timer.waker.will_wake(cx.waker())
        {
            return;
        }
        let timer =
            self.timer.get_or_insert_with(|| Timer { sleep: Box::pin(sleep_until(at)), waker: cx.waker().clone() });
        timer.waker.clone_from(cx.waker());
        timer.sleep.as_mut().reset(at);
        if timer.sleep.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, R: Role> Future for Driver<S, R> {
    type Output = Arc<CloseReason>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Arc<CloseReason>> {
        let reason = Arc::new(ready!(self.drive(cx)));
        self.close(&reason);
        Poll::Ready(reason)
    }
}

impl<S, R: Role> Driver<S, R> {
    fn close(&mut self, reason: &Arc<CloseReason>) {
        if !std::mem::replace(&mut self.closed, true) {
            // First nothing more is taken, then those who wait are told: a call that is entered in between fails to push.
            self.outbox.close();
            self.role.handle_close(reason);
            if let Some(traffic) = &self.traffic {
                self.uncounted.add(traffic);
            }
        }
    }
}

impl<S, R: Role> Drop for Driver<S, R> {
    fn drop(&mut self) {
        self.close(&Arc::new(CloseReason::Dropped));
    }
}

/// Heads have to pass, and lengths up to 16 times the limit have to fit into the header's 32 bits.
const MIN_MAX_FRAME: u32 = 64 << 10;
const MAX_MAX_FRAME: u32 = 128 << 20;
/// How many frames a connection handles before others get their turn.
const FRAMES_A_TURN: usize = 256;
/// How many bytes a connection reads before what they led to is written, and others get their turn: few enough to be in the
/// processor's cache until then.
const BYTES_A_TURN: usize = 64 << 10;
/// How many pieces one write carries at most.
const PIECES_A_WRITE: usize = 16;
/// How long a connection on which nothing goes on keeps its buffers: over the pauses of one that is in use, and not so long that each
/// of many that open one after the other has taken its own before the first gives back.
const BUFFERS_KEPT: Duration = Duration::from_millis(100);
/// How long the peer may take to close its side of a connection that ends in order.
const LINGER: Duration = Duration::from_secs(1);
