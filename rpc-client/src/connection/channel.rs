//! [`Channel`]: one connection to a provider, as its callers see it.

use std::{
    net::SocketAddr,
    sync::{Arc, PoisonError, atomic::Ordering},
    task::Waker,
    time::Duration,
};

use rpc_core::{
    Status, WriteBuffer,
    frame::{FrameType, Header},
    sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard},
    transport::{CloseReason, Outbox, Position, PushError},
};
use tokio::{sync::Notify, time::Instant};

use crate::{
    cache_padded::Apart,
    connection::in_flight::{CallId, Delivered, InFlight, Look, Outcome},
    counters::Counters,
    planted::{Bug, planted},
};

/// One connection to a provider, over which many calls go at once. Its callers write into its outbox and wait in its table;
/// its driver does the rest.
///
/// Callers on several threads read its flags all the time: what all of them write, the table and who holds the channel, is kept on
/// other cache lines.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Channel {
    address: SocketAddr,
    outbox: Arc<Outbox>,
    calls: Apart<Calls>,
    /// Told when there is a place in the table again.
    place: Notify,
    /// Whether new calls are taken: from the first sign of life to the goodbye or the end.
    open: AtomicBool,
    /// Whether a call was given no answer in its time, and nothing else was read either: not chosen until something is.
    silent: AtomicBool,
    /// Since when a caller has had no answer, for the driver to look into.
    suspected: Mutex<Option<Instant>>,
    /// Until when the peer asked to be left alone.
    resting: Mutex<Option<Instant>>,
    rests: AtomicBool,
    /// Whether the connection is to end once nothing is in flight.
    retiring: AtomicBool,
    /// Why no new calls are taken, where the peer said it.
    goodbye: Mutex<Option<Status>>,
    /// Whether the peer has answered anything at all.
    proved: AtomicBool,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Calls {
    table: Mutex<InFlight>,
    /// Callers that wait for an answer, as the table has them; beside it so that choosing a provider needs no lock.
    load: AtomicUsize,
}

/// A call that was handed to a channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) id: CallId,
    /// Where its request stands in what is written.
    pub(crate) position: Position,
}

/// Why a call was not handed to a channel.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The channel takes no new calls.
    Closed,
    /// As many calls are in flight, or as many bytes wait, as may: see [`Channel::room`].
    Full,
    /// The call itself cannot be sent.
    Unsendable(Status),
}

impl Channel {
    pub(crate) fn new(address: SocketAddr, outbox: Arc<Outbox>, max_in_flight: usize, counters: Arc<Counters>) -> Self {
        Self {
            address,
            outbox,
            calls: Apart(Calls { table: Mutex::new(InFlight::new(max_in_flight)), load: AtomicUsize::new(0) }),
            place: Notify::new(),
            open: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            suspected: Mutex::new(None),
            resting: Mutex::new(None),
            rests: AtomicBool::new(false),
            retiring: AtomicBool::new(false),
            goodbye: Mutex::new(None),
            proved: AtomicBool::new(false),
            counters,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Callers that wait for an answer; `None` when no new calls are to be made here.
    pub(crate) fn load(&self) -> Option<usize> {
        self.is_usable().then(|| self.calls.0.load.load(Ordering::Relaxed))
    }

    /// Whether new calls are to be made here.
    pub(crate) fn is_usable(&self) -> bool {
        self.is_open() && !self.silent.load(Ordering::Relaxed) && !self.rests()
    }

    /// Whether more than one call waits for an answer.
    pub(crate) fn has_several(&self) -> bool {
        self.calls.0.load.load(Ordering::Relaxed) > 1
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire) && !self.retiring.load(Ordering::Acquire)
    }

    /// Whether the peer was pinged because a call had no answer, and has neither answered nor been given up yet.
    pub(crate) fn is_silent(&self) -> bool {
        self.is_open() && self.silent.load(Ordering::Relaxed)
    }

    /// Leaves the peer alone for a while, as it asked; says whether it took calls until now.
    pub(crate) fn rest(&self, time: Duration) -> bool {
        let until = Instant::now() + time.min(LONGEST_REST);
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        *resting = Some(until);
        // Stored under the lock, like its opposite.
        !self.rests.swap(true, Ordering::AcqRel)
    }

    /// When the peer may be called again, if it asked to be left alone until then.
    pub(crate) fn rests_until(&self) -> Option<Instant> {
        if !self.rests.load(Ordering::Acquire) {
            return None;
        }
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        *resting = resting.filter(|until| Instant::now() < *until);
        if resting.is_none() {
            self.rests.store(false, Ordering::Release);
        }
        *resting
    }

    fn rests(&self) -> bool {
        self.rests_until().is_some()
    }

    /// A call that was sent some time ago has no answer yet: if nothing was read after `since` either, the peer is pinged at
    /// once, and not chosen until it answers.
    pub(crate) fn suspect(&self, since: Instant) {
        let mut suspected = self.suspected.lock().unwrap_or_else(PoisonError::into_inner);
        // Of many at once, the one that asks for the latest sign of life knows best.
        *suspected = (*suspected).max(Some(since));
        drop(suspected);
        self.outbox.wake();
    }

    /// Whether the peer has answered anything at all.
    pub(crate) fn is_proved(&self) -> bool {
        self.proved.load(Ordering::Relaxed)
    }

    /// Takes no new calls; those in flight finish, and then the connection ends.
    pub(crate) fn retire(&self) {
        self.open.store(false, Ordering::Release);
        self.retiring.store(true, Ordering::Release);
        self.place.notify_waiters();
        self.outbox.wake();
    }

    /// Enters a call and lets `write` append its request: first the place, then the bytes, so that an answer always finds its
    /// call, and the one who waits for it. The caller is woken when it is to [`look`](Self::look), and may
    /// [`abandon`](Self::abandon) it before.
    pub(crate) fn start(
        &self,
        deadline: Instant,
        nudge_at: Option<Instant>,
        has_waited: bool,
        waker: &Waker,
        write: impl FnOnce(CallId, &mut WriteBuffer) -> Result<(), Status>,
    ) -> Result<Sent, Refused> {
        if !self.is_open() {
            return Err(Refused::Closed);
        }
        let mut table = self.lock();
        let id = table.enter(deadline, nudge_at, has_waited, waker).ok_or(Refused::Full)?;
        self.tell_of_load(&table);
        drop(table);
        // Taken back unless it is sent, also when the user's `Serialize` panics.
        let place = Place { channel: self, id };
        let position = self.write(|out| write(id, out))?;
        std::mem::forget(place);
        Ok(Sent { id, position })
    }

    /// Lets `write` append a request that gets no answer.
    pub(crate) fn send(
        &self,
        write: impl FnOnce(CallId, &mut WriteBuffer) -> Result<(), Status>,
    ) -> Result<(), Refused> {
        if !self.is_open() {
            return Err(Refused::Closed);
        }
        self.write(|out| write(CallId::ONE_WAY, out)).map(drop)
    }

    fn write(&self, write: impl FnOnce(&mut WriteBuffer) -> Result<(), Status>) -> Result<Position, Refused> {
        match self.outbox.push_at(|position, out| write(out).map(|()| position)) {
            Ok(Ok(position)) => Ok(position),
            Ok(Err(status)) => Err(Refused::Unsendable(status)),
            Err(PushError::Full) => Err(Refused::Full),
            Err(PushError::Closed) => {
                // The driver is about to say so itself; nobody should choose this channel meanwhile.
                self.open.store(false, Ordering::Release);
                Err(Refused::Closed)
            }
        }
    }

    /// The outcome of a call, once there is one.
    pub(crate) fn look(&self, id: CallId, waker: &Waker) -> Look {
        let mut table = self.lock();
        let look = table.look(id, waker);
        if matches!(look, Look::Ended(_)) {
            self.tell_of_load(&table);
            self.tell_of_place(table);
        }
        look
    }

    /// Gives a call up, and tells the peer if it may still be at it.
    pub(crate) fn abandon(&self, id: CallId) {
        let mut table = self.lock();
        let running = table.abandon(id);
        self.tell_of_load(&table);
        self.tell_of_place(table);
        if running {
            self.cancel(id);
        }
    }

    /// Whether any byte of the request was handed to the socket.
    pub(crate) fn has_begun(&self, sent: Sent) -> bool {
        self.outbox.has_begun(sent.position)
    }

    /// Waits until a refused call may be taken, or the channel takes no more. Whoever waits longest comes first; who then makes no
    /// use of the place must [`pass_on`](Self::pass_on).
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time: a notification that is not taken goes to the next who waits.
    pub(crate) async fn room(&self) {
        self.outbox.room().await;
        let mut queued = None;
        loop {
            let place = self.place.notified();
            tokio::pin!(place);
            // Registered before the look, so that a place that is freed in between is not missed.
            place.as_mut().enable();
            {
                let mut table = self.lock();
                let is_next = queued.is_some() || !table.is_awaited();
                if !self.is_open() || is_next && table.places() > 0 {
                    return;
                }
                if queued.is_none() {
                    table.join_queue();
                    queued = Some(Queued { channel: self });
                }
            }
            place.await;
        }
    }

    /// Tells the next who waits of a place that is not used.
    pub(crate) fn pass_on(&self) {
        let table = self.lock();
        if table.is_awaited() && table.places() > 0 {
            drop(table);
            self.place.notify_one();
        }
    }

    // What follows is for the channel's own driver.

    /// Hands answers to their callers.
    pub(crate) fn deliver(&self, answers: Vec<(u32, Outcome)>) {
        let mut wakers = Vec::with_capacity(answers.len());
        let mut table = self.lock();
        for (id, outcome) in answers {
            match table.deliver(id, outcome) {
                Delivered::Woken(waker) => wakers.extend(waker),
                Delivered::Unwanted => {}
                Delivered::Stray => self.stray(),
            }
        }
        self.tell_of_place(table);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Takes a pong or a response: the peer is alive. Says whether the channel takes calls because of it.
    pub(crate) fn prove(&self) -> bool {
        // Looked at first, because most frames prove nothing new.
        if self.is_proved() || self.proved.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.open.store(true, Ordering::Release);
        self.is_open()
    }

    /// Looks into what callers suspect; `true` when the peer is to be pinged.
    pub(crate) fn look_into(&self, last_read: Instant) -> bool {
        let suspected = self.suspected.lock().unwrap_or_else(PoisonError::into_inner).take();
        let silent = suspected.is_some_and(|since| last_read < since);
        if silent {
            self.silent.store(true, Ordering::Release);
        }
        silent
    }

    /// Something was read: a peer that was silent is not; says whether it was.
    pub(crate) fn heard(&self) -> bool {
        self.silent.load(Ordering::Relaxed) && self.silent.swap(false, Ordering::AcqRel)
    }

    /// Counts a frame that came for no call.
    pub(crate) fn stray(&self) {
        Counters::count(&self.counters.strays);
    }

    /// Takes no new calls: the peer said goodbye, and why.
    pub(crate) fn drain(&self, why: Status) {
        self.goodbye.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.open.store(false, Ordering::Release);
        self.retiring.store(true, Ordering::Release);
        self.place.notify_waiters();
    }

    /// Why the peer said goodbye, if it did.
    pub(crate) fn goodbye(&self) -> Option<Status> {
        self.goodbye.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the calls that are overdue; says when the next is, and whether any are in flight.
    pub(crate) fn expire(&self, now: Instant) -> (Option<Instant>, bool) {
        let mut overdue = Vec::new();
        let mut table = self.lock();
        table.expire(now, |id, waker| overdue.push((id, waker)));
        let state = (table.next_due(), table.len() > 0);
        drop(table);
        for (id, waker) in overdue {
            id.into_iter().for_each(|id| self.cancel(id));
            waker.into_iter().for_each(Waker::wake);
        }
        state
    }

    /// Whether the connection is to end now: it was asked to, and nothing is in flight.
    pub(crate) fn is_done(&self) -> bool {
        self.retiring.load(Ordering::Acquire) && self.lock().len() == 0
    }

    /// Ends every call; nothing more comes.
    pub(crate) fn close(&self, reason: &Arc<CloseReason>) {
        self.open.store(false, Ordering::Release);
        let mut wakers = Vec::new();
        if !planted(Bug::PendingNotFailedOnClose) {
            self.lock().close(reason, |waker| wakers.push(waker));
        }
        wakers.into_iter().for_each(Waker::wake);
        self.place.notify_waiters();
    }

    fn cancel(&self, id: CallId) {
        let header = Header::empty(FrameType::Cancel, id.as_u32());
        // On a connection that is over there is nobody to be told.
        let _ = self.outbox.push_control(|out| out.extend_from_slice(&header.to_bytes()));
    }

    fn tell_of_load(&self, table: &InFlight) {
        // Only ever stored under the table's lock, so a plain store does what two counting ones would.
        self.calls.0.load.store(table.callers(), Ordering::Relaxed);
    }

    fn tell_of_place(&self, mut table: MutexGuard<'_, InFlight>) {
        let untold = table.take_untold();
        drop(table);
        (0..untold).for_each(|_| self.place.notify_one());
    }

    fn lock(&self) -> MutexGuard<'_, InFlight> {
        self.calls.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that was entered and is not sent yet.
struct Place<'a> {
    channel: &'a Channel,
    id: CallId,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut table = self.channel.lock();
        table.withdraw(self.id);
        self.channel.tell_of_load(&table);
        self.channel.tell_of_place(table);
    }
}

/// Somebody who waits for a place.
struct Queued<'a> {
    channel: &'a Channel,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let mut table = self.channel.lock();
        table.leave_queue();
        // One place is for who leaves; those who came meanwhile may have waited for nothing but its turn.
        let more = table.is_awaited() && table.places() > 1;
        drop(table);
        if more {
            self.channel.place.notify_one();
        }
    }
}

/// A peer cannot ask to be left alone for longer.
const LONGEST_REST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::{pin::pin, task};

    use bytes::{BufMut, Bytes};
    use rpc_core::frame::Frame;

    use super::*;

    fn channel() -> Channel {
        let outbox = Arc::new(Outbox::new(1000));
        let channel = Channel::new(([127, 0, 0, 1], 1).into(), outbox, 1, Arc::default());
        channel.prove();
        channel
    }

    fn start(channel: &Channel, has_waited: bool) -> Result<Sent, Refused> {
        let deadline = Instant::now() + Duration::from_secs(60);
        channel.start(deadline, None, has_waited, Waker::noop(), |_, out| {
            out.copied().put_u8(1);
            Ok(())
        })
    }

    fn finish(channel: &Channel, sent: Sent) {
        let header = Header::empty(FrameType::Response, 0);
        channel.deliver(vec![(sent.id.as_u32(), Outcome::Response(Frame { header, body: Bytes::new() }))]);
        assert!(matches!(channel.look(sent.id, Waker::noop()), Look::Ended(_)));
    }

    #[test]
    fn a_place_goes_to_who_waits_longest() {
        let (channel, cx) = (channel(), &mut task::Context::from_waker(Waker::noop()));
        let first = start(&channel, false).unwrap();
        let (mut second, mut third) = (pin!(channel.room()), pin!(channel.room()));
        assert!(second.as_mut().poll(cx).is_pending() && third.as_mut().poll(cx).is_pending());
        finish(&channel, first);
        assert!(matches!(start(&channel, false), Err(Refused::Full)), "it has not waited");
        assert!(third.as_mut().poll(cx).is_pending());
        assert!(second.as_mut().poll(cx).is_ready());
        let second = start(&channel, true).unwrap();
        assert!(third.as_mut().poll(cx).is_pending());
        finish(&channel, second);
        assert!(third.as_mut().poll(cx).is_ready());
        let third = start(&channel, true).unwrap();
        finish(&channel, third);
        assert!(start(&channel, false).is_ok(), "nobody waits");
    }

    #[test]
    fn a_place_that_is_not_used_goes_to_the_next() {
        let (channel, cx) = (channel(), &mut task::Context::from_waker(Waker::noop()));
        let first = start(&channel, false).unwrap();
        let (mut dropped, mut late) = (Box::pin(channel.room()), Box::pin(channel.room()));
        let mut last = pin!(channel.room());
        assert!(dropped.as_mut().poll(cx).is_pending() && late.as_mut().poll(cx).is_pending());
        assert!(last.as_mut().poll(cx).is_pending());
        finish(&channel, first);
        drop(dropped);
        assert!(late.as_mut().poll(cx).is_ready());
        channel.pass_on();
        assert!(last.as_mut().poll(cx).is_ready());
    }
}
