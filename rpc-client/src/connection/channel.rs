//! [`Channel`]: the callers' view of one connection to a provider.

use std::{
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::Waker,
    time::Duration,
};

use rpc_core::{
    Code, Digests, Error, Phase, Status, WriteBuffer,
    frame::{Frame, FrameType, Header, Violation, put_number},
    sync::{AtomicBool, OnceLock},
    transport::{
        CallStreams, CloseReason, Outbox, OutboxTurn, Position, PushError, QueueEnd, SendQueue, TransportConfig,
    },
};
use tokio::{sync::Notify, time::Instant};

use super::{
    calls::{Calls, Expiry},
    health::Health,
    in_flight::{CallCounts, CallId, CallStatus, NewCall, Outcome},
    latency::{Latency, LogSum},
    load::Load,
    sending::{Limit, SendError, SentCall},
    state::{ChannelState, StateCell},
    streams::{ChannelStreams, StreamKind},
};
use crate::counters::Counters;

/// The callers' view of one connection to a provider, which multiplexes many calls.
///
/// Callers append requests to the outbox and wait in the in-flight table; the connection's driver does the I/O.
///
/// Callers on several threads read the state and the health all the time, so the fields that all of them write (the
/// table, and the reference count before this struct) are on other cache lines.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Channel {
    address: SocketAddr,
    outbox: Arc<Outbox>,
    calls: Calls,
    streams: ChannelStreams,
    state: StateCell,
    health: Health,
    /// The digests of the peer's methods, which arrive before the first pong; none from a peer that knows none.
    digests: OnceLock<Digests>,
    latency: Latency,
    /// The status of the peer's GOAWAY.
    goaway: OnceLock<Status>,
    /// Notifies the callers that wait for capacity of the outbox when the channel accepts no more calls.
    stopped: Notify,
    /// Whether the peer has answered a call; set at the end of the connection.
    answered: AtomicBool,
    /// The number of long one-way calls that were sent.
    long_one_way: AtomicU32,
    counters: Arc<Counters>,
}

/// The part of a channel that its callers use.
impl Channel {
    pub(crate) fn new(
        address: SocketAddr,
        outbox: Arc<Outbox>,
        max_in_flight: usize,
        counters: Arc<Counters>,
        transport: &TransportConfig,
    ) -> Self {
        Self {
            address,
            outbox,
            calls: Calls::new(max_in_flight),
            streams: ChannelStreams::new(transport),
            state: StateCell::new(),
            health: Health::new(),
            digests: OnceLock::new(),
            latency: Latency::new(Instant::now()),
            goaway: OnceLock::new(),
            stopped: Notify::new(),
            answered: AtomicBool::new(false),
            long_one_way: AtomicU32::new(0),
            counters,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns whether the peer has sent the digests of its methods.
    #[inline]
    pub(crate) fn has_digests(&self) -> bool {
        self.digests.get().is_some()
    }

    /// Returns the digest of the method whose route has this hash; `None` if the peer has not sent it.
    #[inline]
    pub(crate) fn digest(&self, route: u64) -> Option<u64> {
        self.digests.get()?.find(route)
    }

    /// Records the digests of the peer's methods.
    pub(crate) fn handle_digests(&self, body: &[u8]) {
        if let Some(digests) = Digests::read(body) {
            self.digests.get_or_init(|| digests);
        }
    }

    /// Returns the number of callers that wait for an answer, or `None` if the channel is not eligible.
    pub(crate) fn callers(&self) -> Option<usize> {
        self.is_eligible().then(|| self.calls.callers())
    }

    /// Returns the load of the peer by this client, or `None` if the channel is not eligible.
    ///
    /// It includes calls that their callers have abandoned and the peer has not answered, and open streams.
    pub(crate) fn load(&self) -> Option<Load> {
        self.is_eligible().then(|| self.current_load())
    }

    /// Returns the load of the peer by this client, whether or not the channel is eligible.
    pub(crate) fn current_load(&self) -> Load {
        let in_flight = self.calls.load();
        Load { in_flight, latency: self.latency.peak(), typical: self.latency.typical(in_flight) }
    }

    /// Returns when the last answer arrived.
    pub(crate) fn last_answer(&self) -> Option<Instant> {
        self.latency.last_answer()
    }

    /// Returns the sum of the logarithms of the latencies.
    pub(crate) fn latencies(&self) -> LogSum {
        self.latency.log_sum()
    }

    /// Returns whether callers may pick this channel for new calls.
    pub(crate) fn is_eligible(&self) -> bool {
        self.is_open() && self.health.is_eligible()
    }

    /// Returns whether the channel accepts calls, whatever its health is.
    pub(crate) fn is_open(&self) -> bool {
        self.state.is_open()
    }

    /// Returns whether the peer has ever sent a pong or a response.
    pub(crate) fn is_proven(&self) -> bool {
        self.state.is_proven()
    }

    /// Returns whether an event is pending: the first pong, the result of a probe, or the reconnect after a close.
    pub(crate) fn is_pending(&self) -> bool {
        match self.state.get() {
            ChannelState::Unproven | ChannelState::Closed => true,
            // A peer that rejects the client sends GOAWAY before it closes; the close has the reason.
            ChannelState::Draining => !self.is_proven(),
            ChannelState::Open => self.health.is_unresponsive(),
        }
    }

    /// Returns whether the peer has answered a call.
    pub(crate) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Returns when the peer's cooldown ends, if it is in one.
    pub(crate) fn cooldown_until(&self) -> Option<Instant> {
        self.health.cooldown_until()
    }

    /// Starts the cooldown that the peer requested. Returns whether the peer was in none until now.
    pub(crate) fn start_cooldown(&self, time: Duration) -> bool {
        self.health.start_cooldown(time)
    }

    /// Returns whether the driver probed the peer and the probe has no result yet.
    pub(crate) fn is_unresponsive(&self) -> bool {
        self.is_open() && self.health.is_unresponsive()
    }

    /// Counts a failed call. Returns the number of failed calls since the last answer.
    pub(crate) fn count_failure(&self) -> usize {
        self.health.count_failure()
    }

    /// Records that the peer answered a call.
    ///
    /// Returns whether it is the first answer since [`expect_probe`](Self::expect_probe).
    pub(crate) fn record_answer(&self) -> bool {
        self.health.record_answer()
    }

    /// Requests a report of the next answer, because the provider has returned from an ejection.
    pub(crate) fn expect_probe(&self) {
        self.health.expect_probe();
    }

    /// Returns the number of failed calls since the last answer.
    pub(crate) fn failures(&self) -> usize {
        self.health.failures()
    }

    /// Requests a probe of the peer unless the driver has read something after `since`.
    ///
    /// Callers do not pick the channel until the peer responds.
    pub(crate) fn request_probe(&self, since: Instant) {
        self.health.request_probe(since);
        self.outbox.wake();
    }

    /// Starts to drain: accepts no new calls, and ends the connection after the calls in flight.
    pub(crate) fn retire(&self) {
        self.drain();
        self.outbox.wake();
    }

    /// Inserts a call into the in-flight table, then lets `write` append its encoded request.
    ///
    /// In this order an answer always finds its call. The caller must [`poll`](Self::poll) the call when it is woken,
    /// and may [`abandon`](Self::abandon) it before its end. `write` runs under the outbox's lock; `length` is that of the
    /// encoded arguments.
    ///
    /// # Errors
    ///
    /// [`SendError`]; the table is then unchanged.
    pub(crate) fn start(
        &self,
        call: NewCall<'_>,
        turn: Option<OutboxTurn>,
        length: usize,
        write: impl FnOnce(CallId, &mut WriteBuffer) -> Result<(), Status>,
    ) -> Result<SentCall, SendError> {
        self.check_open()?;
        // The guard removes the call unless it is sent.
        let slot = self.calls.insert(call).ok_or(SendError::Full(Limit::InFlight))?;
        let position =
            self.write(turn, SendQueue::of_length(length, slot.id().as_u32()), |out| write(slot.id(), out))?;
        Ok(SentCall { id: slot.keep(), position })
    }

    /// As [`start`](Self::start), for a call with streams, which it returns.
    ///
    /// # Errors
    ///
    /// [`SendError`]; the tables are then unchanged.
    pub(crate) fn start_streams(
        &self,
        call: NewCall<'_>,
        kind: StreamKind,
        turn: Option<OutboxTurn>,
        length: usize,
        write: impl FnOnce(CallId, &mut WriteBuffer) -> Result<(), Status>,
    ) -> Result<(SentCall, Arc<CallStreams>), SendError> {
        self.check_open()?;
        let slot = self.calls.insert(call).ok_or(SendError::Full(Limit::InFlight))?;
        let id = slot.id().as_u32();
        let streams = self.streams.insert(id, kind).map_err(SendError::TooLong)?;
        match self.write(turn, SendQueue::of_length(length, id), |out| write(slot.id(), out)) {
            Ok(position) => Ok((SentCall { id: slot.keep(), position }, streams)),
            Err(error) => {
                self.streams.roll_back(id);
                Err(error)
            }
        }
    }

    /// Lets `write` append an encoded request that has no answer.
    ///
    /// # Errors
    ///
    /// [`SendError`]
    pub(crate) fn send(
        &self,
        turn: Option<OutboxTurn>,
        length: usize,
        write: impl FnOnce(CallId, &mut WriteBuffer) -> Result<(), Status>,
    ) -> Result<(), SendError> {
        self.check_open()?;
        let id = match SendQueue::of_length(length, 0) {
            SendQueue::Interactive => CallId::ONE_WAY,
            SendQueue::Bulk(_) => CallId::long_one_way(self.long_one_way.fetch_add(1, Ordering::Relaxed)),
        };
        self.write(turn, SendQueue::of_length(length, id.as_u32()), |out| write(id, out)).map(drop)
    }

    fn check_open(&self) -> Result<(), SendError> {
        self.is_open().then_some(()).ok_or(SendError::Closed)
    }

    fn write(
        &self,
        turn: Option<OutboxTurn>,
        queue: SendQueue,
        write: impl FnOnce(&mut WriteBuffer) -> Result<(), Status>,
    ) -> Result<Position, SendError> {
        let write = |position, out: &mut WriteBuffer| write(out).map(|()| position);
        let pushed = match turn {
            Some(turn) => turn.push_to(queue, write),
            None => self.outbox.push_to(queue, write),
        };
        match pushed {
            Ok(Ok(position)) => Ok(position),
            Ok(Err(status)) => Err(SendError::TooLong(status)),
            Err(PushError::Full) => Err(SendError::Full(Limit::Outbox(queue.priority()))),
            Err(PushError::Closed) => {
                // The driver is about to close the channel. Close it now so that no other caller picks it meanwhile.
                self.state.close();
                Err(SendError::Closed)
            }
        }
    }

    /// Takes the outcome of a call, or stores the waker.
    pub(crate) fn poll(&self, id: CallId, waker: &Waker) -> CallStatus {
        self.calls.poll(id, waker)
    }

    /// Abandons a call, and sends CANCEL if the peer may still be executing it.
    pub(crate) fn abandon(&self, id: CallId) {
        let may_execute = self.calls.abandon(id);
        // The peer may have accepted a call with streams.
        if may_execute || self.streams.any() && self.streams.contains(id.as_u32()) {
            self.cancel(id);
        }
    }

    /// Cancels an accepted call with streams, unless it has ended. A reader of its items receives `status`.
    pub(crate) fn fail_streams(&self, id: CallId, status: Status) {
        self.streams.fail(id.as_u32(), status, &self.outbox);
    }

    /// Records that this end has sent all items of a call, and sends END.
    pub(crate) fn finish_items(&self, id: CallId) {
        self.streams.finish(id.as_u32(), &self.outbox);
    }

    /// Grants the peer credit for the items of a call.
    pub(crate) fn grant(&self, id: CallId, credit: u32) {
        let _ = self.outbox.push_control(|out| put_number(out, FrameType::CallerCredit, id.as_u32(), credit));
    }

    /// Returns the output of the connection.
    pub(crate) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Returns whether the driver has handed any byte of the request to the socket.
    pub(crate) fn has_begun(&self, sent: SentCall) -> bool {
        self.outbox.has_begun(sent.position)
    }

    /// Waits until the channel is below `limit`, which it had reached, or accepts no more calls.
    ///
    /// Callers proceed in the order in which they started to wait. A caller that then starts no call must
    /// [`pass_on`](Self::pass_on) its slot; its turn at the outbox passes on when it is dropped.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time: an unused notification reaches the next waiter.
    pub(crate) async fn capacity(&self, limit: Limit) -> Option<OutboxTurn> {
        match limit {
            Limit::InFlight => {
                self.calls.wait_for_slot(|| self.is_open()).await;
                None
            }
            // Both futures are safe to drop: an unused turn passes on.
            Limit::Outbox(priority) => tokio::select! {
                biased;
                turn = Arc::clone(&self.outbox).capacity(priority) => Some(turn),
                () = self.until_stopped() => None,
            },
        }
    }

    /// Waits until the channel accepts no more calls.
    async fn until_stopped(&self) {
        let mut stopped = pin!(self.stopped.notified());
        // Registered before the check, so that a change in between is not missed.
        stopped.as_mut().enable();
        if self.is_open() {
            stopped.await;
        }
    }

    /// Waits until the channel drains or is closed.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub(crate) async fn until_draining(&self) {
        loop {
            let mut stopped = pin!(self.stopped.notified());
            // As in `until_stopped`.
            stopped.as_mut().enable();
            if matches!(self.state.get(), ChannelState::Draining | ChannelState::Closed) {
                return;
            }
            stopped.await;
        }
    }

    /// Notifies the next waiter of a slot that this caller does not use.
    pub(crate) fn pass_on(&self) {
        self.calls.pass_on_slot();
    }

    /// Returns the number of occupied slots in the in-flight table.
    pub(crate) fn in_flight(&self) -> usize {
        self.calls.len()
    }

    /// Returns the numbers of calls since the connection was made.
    pub(crate) fn counts(&self) -> CallCounts {
        self.calls.counts()
    }

    /// Returns whether the outbox has bytes that the driver has not taken.
    pub(crate) fn has_output(&self) -> bool {
        !self.outbox.is_empty()
    }

    fn cancel(&self, id: CallId) {
        if self.streams.any() && self.streams.contains(id.as_u32()) {
            return self.fail_streams(id, Status::new(Code::Cancelled, "the call was cancelled"));
        }
        // A closed outbox needs no CANCEL: the connection's end cancels its calls.
        if self.outbox.cancel(id.as_u32()) {
            self.calls.withdraw(id);
            if !self.is_open() {
                // It may have been the last call of a connection that drains.
                self.outbox.wake();
            }
        }
    }

    fn drain(&self) {
        self.state.drain();
        self.release_waiters();
        if self.streams.any() {
            self.streams.wake_readers();
        }
    }

    /// Wakes all callers that wait for capacity, because the channel accepts no more calls.
    fn release_waiters(&self) {
        self.calls.release_waiters();
        self.stopped.notify_waiters();
    }
}

/// The part of a channel that its driver uses.
impl Channel {
    /// Returns whether more than one caller waits for an answer.
    pub(super) fn has_several_callers(&self) -> bool {
        self.calls.callers() > 1
    }

    /// Delivers answers that arrived at `now` to their callers.
    pub(crate) fn deliver(&self, answers: Vec<(u32, Outcome)>, now: Instant) {
        let (strays, sample) = self.calls.deliver(answers, now);
        self.latency.add(sample, now);
        for _ in 0..strays {
            self.count_stray();
        }
    }

    /// Handles the RESPONSE of a call that may have streams.
    pub(super) fn handle_response(&self, frame: &Frame) -> Result<(), Violation> {
        if self.streams.any() && self.streams.handle_response(frame, &self.outbox)? {
            self.calls.end_streams(CallId::from_wire(frame.header.id));
        }
        Ok(())
    }

    /// Handles a RESPONSE that is longer than the limit; its body was skipped.
    pub(super) fn handle_overlong_response(&self, id: u32) -> Result<(), Violation> {
        if self.streams.any() && self.streams.handle_overlong_response(id, &self.outbox)? {
            self.calls.end_streams(CallId::from_wire(id));
        }
        Ok(())
    }

    /// Handles an item of the peer.
    pub(super) fn handle_item(&self, frame: Frame) -> Result<(), Violation> {
        if !self.streams.handle_item(frame, &self.outbox)? {
            self.count_stray();
        }
        Ok(())
    }

    /// Cancels the call of an item that is longer than `limit`; its body was skipped.
    pub(super) fn reject_overlong_item(&self, header: Header, limit: u32) {
        let message =
            format!("item frame is {} bytes, limit is {limit} (TransportConfig::max_frame)", header.full_length);
        self.streams.fail(header.id, Status::new(Code::ResourceExhausted, message), &self.outbox);
    }

    /// Handles credit of the peer.
    pub(super) fn handle_credit(&self, id: u32, body: &[u8]) -> Result<(), Violation> {
        // Credit may cross the end of its call.
        self.streams.handle_credit(id, body)?;
        Ok(())
    }

    /// Handles the end of the peer's items.
    pub(super) fn handle_end(&self, id: u32, end: QueueEnd) -> Result<(), Violation> {
        match self.streams.handle_end(id, end, &self.outbox)? {
            Some(true) => self.calls.end_streams(CallId::from_wire(id)),
            Some(false) => {}
            None => self.count_stray(),
        }
        Ok(())
    }

    /// Counts a frame that matches no call.
    pub(super) fn count_stray(&self) {
        Counters::count(&self.counters.strays);
    }

    /// Records a pong or a response: the peer is alive. Returns whether the channel became open.
    pub(crate) fn prove(&self) -> bool {
        self.state.prove()
    }

    /// Records that the driver read something. Returns whether the peer was unresponsive until now.
    pub(super) fn mark_responsive(&self) -> bool {
        self.health.mark_responsive()
    }

    /// Returns whether the driver must probe the peer now.
    pub(super) fn take_probe(&self, last_read: Instant) -> bool {
        self.health.take_probe(last_read)
    }

    /// Starts to drain because the peer sent GOAWAY.
    pub(super) fn handle_goaway(&self, status: Status) {
        self.goaway.get_or_init(|| status);
        self.drain();
    }

    /// Returns the status of the peer's GOAWAY, if it sent one.
    pub(crate) fn goaway(&self) -> Option<&Status> {
        self.goaway.get()
    }

    /// Ends the calls whose deadline has passed. Reduces the average latencies if the last answer was long ago.
    pub(super) fn expire(&self, now: Instant) -> Expiry {
        self.latency.age(now);
        self.calls.expire(now, |id| self.cancel(id))
    }

    /// Returns whether the channel drains and no call is in flight, so that the connection can end.
    pub(super) fn is_drained(&self) -> bool {
        match self.state.get() {
            ChannelState::Unproven | ChannelState::Open => false,
            ChannelState::Draining | ChannelState::Closed => self.calls.len() == 0,
        }
    }

    /// Ends every call; the connection is closed. `answered` states whether the peer has answered a call.
    pub(super) fn close(&self, reason: &Arc<CloseReason>, answered: bool) {
        self.answered.store(answered, Ordering::Relaxed);
        self.state.close();
        self.calls.close(reason);
        self.streams.close(|| {
            Error::unknown(Code::Unavailable, format!("connection lost: {reason}"))
                .with_phase(Phase::Wait)
                .with_peer(self.address)
                .with_source(Arc::clone(reason))
        });
        self.release_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::task;

    use bytes::{BufMut, Bytes};
    use rpc_core::{
        Code,
        frame::{Frame, Header},
        transport::Priority,
    };

    use super::*;

    fn channel() -> Channel {
        let outbox = Arc::new(Outbox::new(1000));
        let channel = Channel::new(([127, 0, 0, 1], 1).into(), outbox, 1, Arc::default(), &Default::default());
        channel.prove();
        channel
    }

    fn start(channel: &Channel, has_waited: bool) -> Result<SentCall, SendError> {
        let deadline = Instant::now() + Duration::from_secs(60);
        channel.start(NewCall { has_waited, ..NewCall::until(deadline) }, None, 1, |_, out| {
            out.copied().put_u8(1);
            Ok(())
        })
    }

    fn finish(channel: &Channel, sent: SentCall) {
        let header = Header::empty(FrameType::Response, 0);
        channel
            .deliver(vec![(sent.id.as_u32(), Outcome::Response(Frame { header, body: Bytes::new() }))], Instant::now());
        assert!(matches!(channel.poll(sent.id, Waker::noop()), CallStatus::Ended(_)));
    }

    #[test]
    fn drain_releases_callers_that_wait_for_the_outbox() {
        for stop in [
            (|channel| channel.retire()) as fn(&Channel),
            |channel| channel.handle_goaway(Status::new(Code::Unavailable, "")),
            |channel| channel.close(&Arc::new(CloseReason::PeerClosed), false),
        ] {
            let (channel, cx) = (channel(), &mut task::Context::from_waker(Waker::noop()));
            channel.outbox.push(|out| out.copied().put_bytes(7, 1000)).unwrap();
            let mut waiting = pin!(channel.capacity(Limit::Outbox(Priority::Interactive)));
            assert!(waiting.as_mut().poll(cx).is_pending(), "the peer reads nothing");
            stop(&channel);
            assert!(matches!(waiting.as_mut().poll(cx), task::Poll::Ready(None)));
            assert!(matches!(start(&channel, false), Err(SendError::Closed)));
            assert!(
                pin!(channel.capacity(Limit::Outbox(Priority::Interactive))).poll(cx).is_ready(),
                "it waits no more"
            );
        }
    }

    #[test]
    fn slot_goes_to_the_longest_waiter() {
        let (channel, cx) = (channel(), &mut task::Context::from_waker(Waker::noop()));
        let first = start(&channel, false).unwrap();
        let slot = || channel.capacity(Limit::InFlight);
        let (mut second, mut third) = (pin!(slot()), pin!(slot()));
        assert!(second.as_mut().poll(cx).is_pending() && third.as_mut().poll(cx).is_pending());
        finish(&channel, first);
        assert!(matches!(start(&channel, false), Err(SendError::Full(Limit::InFlight))), "it has not waited");
        assert!(third.as_mut().poll(cx).is_pending());
        assert!(second.as_mut().poll(cx).is_ready());
        let second = start(&channel, true).unwrap();
        assert!(third.as_mut().poll(cx).is_pending());
        finish(&channel, second);
        assert!(third.as_mut().poll(cx).is_ready());
        let third = start(&channel, true).unwrap();
        finish(&channel, third);
        assert!(start(&channel, false).is_ok(), "no caller waits");
    }

    #[test]
    fn unused_slot_goes_to_the_next_waiter() {
        let (channel, cx) = (channel(), &mut task::Context::from_waker(Waker::noop()));
        let first = start(&channel, false).unwrap();
        let slot = || channel.capacity(Limit::InFlight);
        let (mut dropped, mut late) = (Box::pin(slot()), Box::pin(slot()));
        let mut last = pin!(slot());
        assert!(dropped.as_mut().poll(cx).is_pending() && late.as_mut().poll(cx).is_pending());
        assert!(last.as_mut().poll(cx).is_pending());
        finish(&channel, first);
        drop(dropped);
        assert!(late.as_mut().poll(cx).is_ready());
        channel.pass_on();
        assert!(last.as_mut().poll(cx).is_ready());
    }

    #[test]
    fn send_error_names_the_limit() {
        let outbox = Arc::new(Outbox::new(1));
        let channel = Channel::new(([127, 0, 0, 1], 1).into(), outbox, 2, Arc::default(), &Default::default());
        assert!(matches!(start(&channel, false), Err(SendError::Closed)), "the peer is not proven");
        channel.prove();
        let first = start(&channel, false).unwrap();
        assert!(matches!(start(&channel, false), Err(SendError::Full(Limit::Outbox(_)))));
        assert_eq!(channel.in_flight(), 1, "the rejected call left the table");
        channel.abandon(first.id);
    }
}
