//! [`Driver`]: the task of a connection.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
    time::Duration,
};

use bytes::Buf;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};
use tokio_util::io::poll_read_buf;

use super::{
    Activity, CloseReason, FrameReader, Inbound, Outbox, Role, SocketWrites, Traffic, TransportConfig, flight::Flight,
    frame_times::FrameTimes, tcp_io::PAUSE, timer::Timer, traffic::Uncounted, write_stall::WriteStall,
};
use crate::{
    WriteBuffer,
    frame::{FrameType, Violation, put_number},
    head,
};

/// The task of a connection.
///
/// It reads, hands frames to its role, and writes the outbox, many frames in one write. The future resolves when the
/// connection has ended.
///
/// # Drop
///
/// Dropping the driver closes the connection and notifies the role.
#[must_use = "a connection does nothing unless its driver is polled"]
#[derive(Debug)]
pub struct Driver<S, R: Role> {
    io: S,
    role: R,
    outbox: Arc<Outbox>,
    config: TransportConfig,
    /// The result of [`Role::backlog`].
    backlog: usize,
    reader: FrameReader,
    writing: WriteBuffer,
    activity: Activity,
    traffic: Option<Arc<Traffic>>,
    uncounted: Uncounted,
    frame_times: FrameTimes,
    stall: WriteStall,
    flight: Flight,
    /// Whether this turn has already yielded to tasks that are about to append output.
    yielded: bool,
    /// Whether this turn repeats one that was paused.
    repeats: bool,
    timer: Timer,
    closing: Option<Closing>,
    closed: bool,
}

/// The orderly close of a connection.
#[derive(Debug)]
struct Closing {
    /// When the driver stops waiting for the peer to close its side.
    until: Instant,
    shut_down: bool,
}

#[derive(PartialEq, Eq)]
enum Input {
    /// The socket has no more bytes at present.
    Drained,
    /// The turn's budget is used up; the socket may have more bytes.
    More,
}

impl<S: AsyncRead + AsyncWrite + Unpin, R: Role> Driver<S, R> {
    /// Creates the driver of `io`. `role` handles its frames and appends output to `outbox`.
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
            frame_times: FrameTimes::default(),
            stall: WriteStall::default(),
            flight: Flight::new(),
            yielded: false,
            repeats: false,
            timer: Timer::default(),
            closing: None,
            closed: false,
        }
    }

    /// Continues with the bytes that `reader` holds, on a connection that has already exchanged frames.
    pub fn with_reader(mut self, reader: FrameReader) -> Self {
        self.reader = reader.with_max_frame(self.config.max_frame);
        self
    }

    /// Adds the bytes read and written to `traffic`.
    pub fn with_traffic(mut self, traffic: Arc<Traffic>) -> Self {
        self.traffic = Some(traffic);
        self
    }

    /// Measures the progress of writes by the bytes that `socket` has accepted, because the stream holds bytes back.
    pub fn with_socket_writes(mut self, socket: Option<SocketWrites>) -> Self {
        self.stall.measure(socket);
        self
    }

    fn drive(&mut self, cx: &mut task::Context<'_>) -> Poll<CloseReason> {
        // Output that the role appends during this poll must not wake this task again.
        self.outbox.mark_awake();
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

    /// Performs one turn: reads, calls the role, writes. Returns `None` when the next turn is due at once.
    fn turn(&mut self, cx: &mut task::Context<'_>, now: Instant) -> Result<Option<Poll<CloseReason>>, CloseReason> {
        let had_read = self.activity.last_read;
        let input = self.input(cx, now)?;
        self.acknowledge_fragments();
        self.role.handle_read();
        let read = self.activity.last_read != had_read;
        // Let tasks append that the input woke or that are about to send: one write then carries all of their output.
        if !self.yielded && self.role.expects_more(read) {
            self.yielded = true;
            cx.waker().wake_by_ref();
            return Ok(Some(Poll::Pending));
        }
        self.yielded = false;
        let turn = self.role.handle_turn(&self.activity, now)?;
        // The process may have been stopped since the read, and the peer may have closed the connection meanwhile. Requests
        // that are still in the outbox then did not execute for certain, so read again before they are written.
        if !read && !self.repeats && !self.outbox.is_empty() && now.elapsed() >= PAUSE {
            self.repeats = true;
            return Ok(None);
        }
        self.repeats = false;
        self.output(cx, now)?;
        if let Some(traffic) = &self.traffic {
            self.uncounted.add_if_due(traffic, now);
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
            self.outbox.pass_unused_turns(now),
            self.frame_times.deadline(&self.reader, &self.config),
            self.stall.deadline(&self.config),
            self.ack_deadline(),
        ];
        if let Some(wake_at) = wake_at.into_iter().flatten().min() {
            self.timer.arm(cx, wake_at);
        }
        if input == Input::More {
            cx.waker().wake_by_ref();
            return Ok(Some(Poll::Pending));
        }
        let blocked = !self.writing.is_empty();
        Ok(self.outbox.sleep(cx.waker(), blocked).then_some(Poll::Pending))
    }

    /// Releases the buffers of a connection that has been idle for [`BUFFERS_KEPT`].
    ///
    /// Returns when to check again.
    fn release_idle(&mut self, now: Instant) -> Option<Instant> {
        let idle_at = self.activity.last_read.max(self.activity.last_write) + BUFFERS_KEPT;
        if !self.reader.holds_nothing() && !self.writing.holds_memory() {
            return None;
        }
        if now < idle_at {
            return Some(idle_at);
        }
        self.reader.release();
        self.role.release_memory();
        if self.writing.is_empty() {
            self.writing = WriteBuffer::new();
            self.outbox.release_memory();
        }
        None
    }

    /// Hands frames to the role.
    ///
    /// Stops when there are no more frames, the turn's budget is used up, or too much output waits.
    fn input(&mut self, cx: &mut task::Context<'_>, mut now: Instant) -> Result<Input, CloseReason> {
        let (mut frames, mut bytes) = (0, 0);
        let input = loop {
            // Checked for each frame: answers must not accumulate for a peer that sends many requests and reads
            // nothing.
            if self.outbox.waiting() >= self.backlog {
                // A frame's deadline does not count while the driver does not read.
                self.activity.paused = true;
                self.frame_times.pause();
                return Ok(Input::Drained);
            }
            if std::mem::take(&mut self.activity.paused) {
                self.activity.last_read = now;
                self.flight.restart(now);
            }
            if let Some(inbound) = self.reader.next_frame()? {
                self.hand_over(inbound, now)?;
                frames += 1;
                if frames == FRAMES_PER_TURN {
                    return Ok(Input::More);
                }
                continue;
            }
            if self.activity.peer_closed {
                break Input::Drained;
            }
            if bytes >= BYTES_PER_TURN {
                break Input::More;
            }
            match poll_read_buf(Pin::new(&mut self.io), cx, self.reader.read_buffer()) {
                Poll::Pending => break Input::Drained,
                Poll::Ready(Err(error)) => return Err(CloseReason::Io(error)),
                Poll::Ready(Ok(0)) if self.reader.is_mid_frame() || self.reader.oldest_fragmented().is_some() => {
                    return Err(CloseReason::PeerClosed);
                }
                Poll::Ready(Ok(0)) => self.activity.peer_closed = true,
                Poll::Ready(Ok(count)) => {
                    // The role may have handled the frames of an earlier read for long.
                    now = Instant::now();
                    self.reader.filled(count);
                    self.frame_times.received(count);
                    self.flight.record_received(count);
                    self.uncounted.read += count as u64;
                    self.activity.last_read = now;
                    bytes += count;
                }
            }
        };
        self.activity.mid_frame = self.reader.is_mid_frame();
        if self.reader.has_read_fragments() {
            self.frame_times.frame_completed();
        }
        self.frame_times.check(&self.reader, &self.config, now)?;
        // The ACK may be among the bytes that were not read yet.
        if input == Input::Drained && self.ack_deadline().is_some_and(|deadline| now >= deadline) {
            return Err(Violation::NoAck.into());
        }
        Ok(input)
    }

    /// Acknowledges the fragments that were read, so that the peer sends the next ones.
    fn acknowledge_fragments(&mut self) {
        let bytes = self.reader.take_fragment_bytes();
        if bytes > 0 {
            // The peer of a closed connection sends nothing more.
            let _ = self.outbox.push_control(|out| put_number(out, FrameType::Ack, 0, bytes));
        }
    }

    /// Returns whether this end can receive ACKs.
    fn receives_acks(&self) -> bool {
        !self.activity.paused && !self.activity.peer_closed
    }

    /// Returns the number of bytes of fragments that may be written.
    ///
    /// A driver that receives no ACKs must not wait for them: it does not read because output waits, or the peer sends
    /// nothing more.
    fn room(&self) -> usize {
        if self.receives_acks() { self.flight.room() } else { usize::MAX }
    }

    /// Returns when the peer must have sent the next ACK.
    fn ack_deadline(&self) -> Option<Instant> {
        if self.receives_acks() { self.flight.deadline(self.config.write_stall) } else { None }
    }

    /// Hands one frame to the role.
    fn hand_over(&mut self, inbound: Inbound, now: Instant) -> Result<(), Violation> {
        self.frame_times.frame_completed();
        match inbound {
            Inbound::Frame(frame) if frame.header.frame_type == FrameType::Ack => {
                self.flight.handle_ack(&frame.body, now)
            }
            Inbound::Frame(frame) => {
                head::check(&frame)?;
                self.role.handle_frame(frame, now)
            }
            Inbound::Overlong(header) => self.role.handle_overlong(header, self.config.max_frame),
        }
    }

    /// Writes the outbox until it is empty, the turn's budget is used up, or the socket accepts no more bytes.
    fn output(&mut self, cx: &mut task::Context<'_>, now: Instant) -> Result<(), CloseReason> {
        let mut bytes = 0;
        while bytes < BYTES_PER_TURN || !self.writing.is_empty() {
            if self.writing.is_empty() {
                let mut spare = std::mem::take(&mut self.writing);
                spare.clear();
                let taken = self.outbox.take_up_to(spare, self.room(), self.flight.divides(now));
                self.writing = taken.bytes;
                if taken.has_short_frames {
                    self.flight.record_short_frame(now);
                }
                self.flight.record_sent(taken.to_acknowledge, now);
                if self.writing.is_empty() {
                    // A TLS stream may hold bytes back; for a socket this does nothing.
                    return match Pin::new(&mut self.io).poll_flush(cx) {
                        Poll::Ready(Err(error)) => Err(CloseReason::Io(error)),
                        Poll::Ready(Ok(())) => {
                            self.stall.drained();
                            Ok(())
                        }
                        Poll::Pending => self.stall.blocked(now, &self.config),
                    };
                }
            }
            match self.poll_write(cx) {
                Poll::Ready(Ok(0)) => return Err(CloseReason::Io(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    bytes += count;
                    self.writing.advance(count);
                    self.outbox.written(count);
                    self.uncounted.written += count as u64;
                    self.activity.last_write = now;
                    self.stall.written(count, &self.config);
                }
                Poll::Ready(Err(error)) => return Err(CloseReason::Io(error)),
                Poll::Pending => return self.stall.blocked(now, &self.config),
            }
        }
        Ok(())
    }

    /// Writes as many bytes as the socket accepts in one call.
    fn poll_write(&mut self, cx: &mut task::Context<'_>) -> Poll<io::Result<usize>> {
        let io = Pin::new(&mut self.io);
        if let Some(bytes) = self.writing.only_chunk() {
            return io.poll_write(cx, bytes);
        }
        let mut slices = [IoSlice::new(&[]); CHUNKS_PER_WRITE];
        let count = self.writing.chunks_vectored(&mut slices);
        io.poll_write_vectored(cx, &slices[..count])
    }

    /// Writes the remaining output, shuts down the sending side, and waits for the peer to close.
    ///
    /// The wait of up to [`LINGER`] lets the peer read all of the output.
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
        self.timer.arm(cx, until);
        if self.activity.peer_closed {
            return if self.closing.as_ref().is_some_and(|c| c.shut_down) {
                Poll::Ready(CloseReason::Finished)
            } else {
                Poll::Pending
            };
        }
        let mut discarded = [0; 1024];
        for _ in 0..FRAMES_PER_TURN {
            let mut buffer = ReadBuf::new(&mut discarded);
            let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(CloseReason::Finished);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
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
            // Close the outbox before notifying the role: a call that is registered in between then fails to push, and
            // no call is left waiting.
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

/// The number of frames that a driver handles before it yields to other tasks.
const FRAMES_PER_TURN: usize = 256;
/// The number of bytes that a driver reads before it writes output and yields to other tasks, and the number of bytes that
/// it writes before it reads again. One batch of output may exceed it.
///
/// They are few enough to stay in the processor's cache until then.
const BYTES_PER_TURN: usize = 64 << 10;
/// The largest number of chunks in one vectored write.
const CHUNKS_PER_WRITE: usize = 16;
/// How long an idle connection keeps its buffers.
///
/// Longer than the pauses of a connection in use. Short enough that, of many connections opened one after another, the
/// first releases its buffers before the last allocates its own.
const BUFFERS_KEPT: Duration = Duration::from_millis(100);
/// How long the peer may take to close its side in an orderly close.
const LINGER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use bytes::{BufMut, BytesMut};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        task::JoinSet,
        time::sleep,
    };

    use super::*;
    use crate::{
        frame::{Frame, FrameType, Header},
        transport::{PingWindow, Turn},
    };

    #[derive(Debug, PartialEq)]
    enum Event {
        Frame(u32),
        Overlong(u32),
        Closed(String),
    }

    type Events = Arc<Mutex<Vec<Event>>>;

    /// Records the calls of the driver.
    ///
    /// A request with id 0 violates the protocol; a GOAWAY finishes the connection.
    struct Recorder {
        events: Events,
        outbox: Arc<Outbox>,
        pings: PingWindow,
        wake_at: Option<Instant>,
        finish: bool,
        /// The peer, which closes the connection during a pause of the next turn.
        closes_in_a_pause: Option<DuplexStream>,
    }

    impl Recorder {
        fn record(&self, event: Event) {
            self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        }
    }

    impl Role for Recorder {
        fn expects_more(&self, _: bool) -> bool {
            false
        }

        fn backlog(config: &TransportConfig) -> usize {
            config.outbox
        }

        fn handle_frame(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
            let Header { frame_type, id, .. } = frame.header;
            match frame_type {
                FrameType::Request if id == 0 => return Err(Violation::ZeroId),
                FrameType::Ping => {
                    self.pings.count(now)?;
                    let pong = Header::empty(FrameType::Pong, id).to_bytes();
                    let _ = self.outbox.push_control(|out| out.put_slice(&pong));
                }
                FrameType::Goaway => self.finish = true,
                _ => {}
            }
            self.record(Event::Frame(id));
            Ok(())
        }

        fn handle_overlong(&mut self, header: Header, _: u32) -> Result<(), Violation> {
            self.record(Event::Overlong(header.id));
            Ok(())
        }

        fn handle_turn(&mut self, activity: &Activity, now: Instant) -> Result<Turn, CloseReason> {
            if let Some(peer) = self.closes_in_a_pause.take() {
                drop(peer);
                std::thread::sleep(PAUSE);
            } else if activity.peer_closed {
                return Err(CloseReason::PeerClosed);
            }
            match self.wake_at {
                Some(wake_at) if now >= wake_at => Err(CloseReason::Idle(Duration::from_secs(3))),
                wake_at => Ok(Turn { wake_at, finish: self.finish }),
            }
        }

        fn handle_close(&mut self, reason: &Arc<CloseReason>) {
            self.record(Event::Closed(reason.to_string()));
        }
    }

    /// A driver on its own task, and the other end of its stream.
    struct Scene {
        peer: DuplexStream,
        outbox: Arc<Outbox>,
        events: Events,
        task: JoinSet<Arc<CloseReason>>,
    }

    impl Scene {
        fn new(config: TransportConfig) -> Self {
            Self::with(config, |driver| driver)
        }

        fn with(
            config: TransportConfig,
            adjust: impl FnOnce(Driver<DuplexStream, Recorder>) -> Driver<DuplexStream, Recorder>,
        ) -> Self {
            let (driver, peer, outbox, events) = connect(config);
            let mut task = JoinSet::new();
            task.spawn(adjust(driver));
            Self { peer, outbox, events, task }
        }

        async fn send(&mut self, frame_type: FrameType, id: u32, body: &'static [u8]) {
            self.peer.write_all(&encoded(frame_type, id, body)).await.unwrap();
        }

        async fn end(&mut self) -> Arc<CloseReason> {
            self.task.join_next().await.unwrap().unwrap()
        }

        fn events(&self) -> Vec<Event> {
            std::mem::take(&mut self.events.lock().unwrap())
        }
    }

    fn connect(config: TransportConfig) -> (Driver<DuplexStream, Recorder>, DuplexStream, Arc<Outbox>, Events) {
        let (io, peer) = duplex(PIPE);
        let (outbox, events) = (Arc::new(Outbox::new(config.outbox)), Events::default());
        let role = Recorder {
            events: Arc::clone(&events),
            outbox: Arc::clone(&outbox),
            pings: PingWindow::new(PingWindow::LIMIT, Instant::now()),
            wake_at: None,
            finish: false,
            closes_in_a_pause: None,
        };
        (Driver::new(io, role, Arc::clone(&outbox), config), peer, outbox, events)
    }

    fn encoded(frame_type: FrameType, id: u32, body: &'static [u8]) -> BytesMut {
        let mut bytes = BytesMut::new();
        Frame { header: Header::empty(frame_type, id), body: body.into() }.write(&mut bytes);
        bytes
    }

    fn closed(reason: &CloseReason) -> Vec<Event> {
        vec![Event::Closed(reason.to_string())]
    }

    /// The capacity of the stream in each direction, in bytes.
    const PIPE: usize = 64;

    #[tokio::test(start_paused = true)]
    async fn frames_reach_the_role_in_order() {
        let mut scene = Scene::new(TransportConfig { max_frame: 100, ..TransportConfig::default() });
        scene.send(FrameType::Request, 1, b"").await;
        scene.send(FrameType::Request, 2, &[7; 85]).await;
        scene.send(FrameType::Request, 3, &[7; 84]).await;
        scene.send(FrameType::Cancel, 1, b"").await;
        sleep(Duration::from_secs(1)).await;
        let expected = [Event::Frame(1), Event::Overlong(2), Event::Frame(3), Event::Frame(1)];
        assert_eq!(scene.events(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn violation_closes_the_connection_once() {
        let mut scene = Scene::new(TransportConfig::default());
        scene.send(FrameType::Request, 0, b"").await;
        let reason = scene.end().await;
        assert!(matches!(*reason, CloseReason::Violation(Violation::ZeroId)), "{reason:?}");
        assert!(scene.outbox.is_closed());
        assert_eq!(scene.events(), closed(&reason), "the task has dropped the driver too");
    }

    #[tokio::test(start_paused = true)]
    async fn malformed_response_head_is_a_violation() {
        let mut scene = Scene::new(TransportConfig::default());
        scene.send(FrameType::Response, 1, b"\0\x01").await;
        let reason = scene.end().await;
        assert!(matches!(*reason, CloseReason::Violation(Violation::HeadOverrun)), "{reason:?}");
        assert_eq!(scene.events(), closed(&reason));
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_driver_notifies_the_role_once() {
        let (driver, _peer, outbox, events) = connect(TransportConfig::default());
        drop(driver);
        assert!(outbox.is_closed());
        assert_eq!(*events.lock().unwrap(), closed(&CloseReason::Dropped));
    }

    #[tokio::test(start_paused = true)]
    async fn stalled_write_closes_the_connection() {
        let start = Instant::now();
        let mut scene = Scene::new(TransportConfig { min_write: PIPE, ..TransportConfig::default() });
        scene.outbox.push(|out| out.copied().put_bytes(7, 10 * PIPE)).unwrap();
        // Sufficient progress restarts the period.
        sleep(Duration::from_secs(9)).await;
        scene.peer.read_exact(&mut [0; PIPE]).await.unwrap();
        let reason = scene.end().await;
        assert!(matches!(*reason, CloseReason::WriteStalled { written: 0, min_write: PIPE, .. }), "{reason:?}");
        assert_eq!(start.elapsed().as_secs(), 19);
        assert_eq!(scene.events(), closed(&reason));
    }

    #[tokio::test(start_paused = true)]
    async fn dripping_reader_does_not_prolong_a_stall() {
        let start = Instant::now();
        let mut scene = Scene::new(TransportConfig { min_write: PIPE, ..TransportConfig::default() });
        scene.outbox.push(|out| out.copied().put_bytes(7, 10 * PIPE)).unwrap();
        for _ in 1..PIPE {
            sleep(Duration::from_millis(100)).await;
            scene.peer.read_exact(&mut [0]).await.unwrap();
        }
        let reason = scene.end().await;
        let CloseReason::WriteStalled { written, .. } = *reason else { panic!("{reason:?}") };
        assert_eq!((written, start.elapsed().as_secs()), (PIPE - 1, 10), "one byte less than the limit");
    }

    #[tokio::test(start_paused = true)]
    async fn unlimited_times_never_end_the_connection() {
        let (frame_time, write_stall) = (Duration::MAX, Duration::MAX);
        let mut scene = Scene::new(TransportConfig { frame_time, write_stall, ..TransportConfig::default() });
        scene.outbox.push(|out| out.copied().put_bytes(7, 10 * PIPE)).unwrap();
        scene.peer.write_all(&encoded(FrameType::Request, 1, &[7; 50])[..50]).await.unwrap();
        sleep(Duration::from_secs(86_400)).await;
        scene.peer.write_all(&[7; 16]).await.unwrap();
        scene.peer.read_exact(&mut [0; 10 * PIPE]).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(scene.events(), [Event::Frame(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_frame_is_a_violation() {
        let start = Instant::now();
        let mut scene = Scene::new(TransportConfig::default());
        scene.peer.write_all(&encoded(FrameType::Request, 1, &[7; 100])[..50]).await.unwrap();
        let reason = scene.end().await;
        assert!(matches!(*reason, CloseReason::Violation(Violation::SlowFrame(116))), "{reason:?}");
        assert_eq!(start.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn pings_above_the_limit_close_the_connection() {
        let mut scene = Scene::new(TransportConfig::default());
        for id in 1..=PingWindow::LIMIT {
            scene.send(FrameType::Ping, id, b"").await;
            scene.peer.read_exact(&mut [0; 16]).await.unwrap();
        }
        scene.send(FrameType::Ping, PingWindow::LIMIT + 1, b"").await;
        let reason = scene.end().await;
        assert!(matches!(*reason, CloseReason::Violation(Violation::PingFlood(PingWindow::LIMIT))), "{reason:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn full_backlog_pauses_reading() {
        let mut scene = Scene::new(TransportConfig { outbox: 2 * PIPE, ..TransportConfig::default() });
        scene.outbox.push(|out| out.copied().put_bytes(7, 4 * PIPE)).unwrap();
        sleep(Duration::from_secs(1)).await;
        scene.send(FrameType::Request, 1, b"").await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(scene.events(), []);
        scene.peer.read_exact(&mut [0; 4 * PIPE]).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(scene.events(), [Event::Frame(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn role_is_called_at_its_wake_time() {
        let start = Instant::now();
        let mut scene = Scene::with(TransportConfig::default(), |mut driver| {
            driver.role.wake_at = Some(start + Duration::from_secs(3));
            driver
        });
        assert!(matches!(*scene.end().await, CloseReason::Idle(_)));
        assert_eq!(start.elapsed().as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn push_is_written_by_a_sleeping_driver() {
        let mut scene = Scene::new(TransportConfig::default());
        sleep(Duration::from_secs(1)).await;
        scene.outbox.push(|out| out.copied().put_slice(b"frame")).unwrap();
        let mut written = [0; 5];
        scene.peer.read_exact(&mut written).await.unwrap();
        assert_eq!(&written, b"frame");
    }

    /// A write would fail with `BrokenPipe`.
    #[tokio::test]
    async fn nothing_is_written_after_a_pause_before_a_read() {
        let (mut driver, peer, outbox, _) = connect(TransportConfig::default());
        driver.role.closes_in_a_pause = Some(peer);
        outbox.push(|out| out.copied().put_bytes(7, PIPE)).unwrap();
        let reason = driver.await;
        assert!(matches!(*reason, CloseReason::PeerClosed), "{reason:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn finish_writes_all_output_before_closing() {
        let mut scene = Scene::new(TransportConfig::default());
        scene.outbox.push(|out| out.copied().put_bytes(7, 4 * PIPE)).unwrap();
        scene.send(FrameType::Goaway, 0, b"\0\0").await;
        let mut written = Vec::new();
        scene.peer.read_to_end(&mut written).await.unwrap();
        assert_eq!(written.len(), 4 * PIPE);
        let start = Instant::now();
        let reason = scene.end().await;
        assert!(matches!(*reason, CloseReason::Finished), "{reason:?}");
        assert_eq!(start.elapsed(), LINGER, "the peer keeps its side open");
        assert_eq!(scene.events(), [Event::Frame(0), Event::Closed(reason.to_string())]);
    }

    #[tokio::test(start_paused = true)]
    async fn peer_that_closes_within_a_frame_ends_the_connection() {
        let mut scene = Scene::new(TransportConfig::default());
        scene.peer.write_all(b"msnb").await.unwrap();
        scene.peer.shutdown().await.unwrap();
        let reason = scene.end().await;
        assert!(matches!(*reason, CloseReason::PeerClosed), "{reason:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn buffered_bytes_of_the_reader_are_handled() {
        let mut reader = FrameReader::new(1000);
        reader.read_buffer().put_slice(&encoded(FrameType::Request, 1, b""));
        let scene = Scene::with(TransportConfig::default(), |driver| driver.with_reader(reader));
        sleep(Duration::from_secs(1)).await;
        assert_eq!(scene.events(), [Event::Frame(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn traffic_counts_all_bytes() {
        let traffic = Arc::new(Traffic::default());
        let mut scene = Scene::with(TransportConfig::default(), |driver| driver.with_traffic(Arc::clone(&traffic)));
        scene.send(FrameType::Ping, 1, b"").await;
        scene.peer.read_exact(&mut [0; 16]).await.unwrap();
        scene.send(FrameType::Request, 0, b"").await;
        scene.end().await;
        assert_eq!(traffic.bytes(), (32, 16));
    }
}
