//! Concurrency tests that shuttle runs under many schedules. A lost wake-up shows as a deadlock.

use std::{
    future::poll_fn,
    sync::{Arc, atomic::Ordering},
    task::{self, Poll, Waker},
};

use bytes::BufMut;
use shuttle::{check_random, future::block_on, rand::Rng, thread};

use crate::{
    Code, Context, Metadata, Responder, Status, StatusAnswer, WriteBuffer,
    frame::{FrameType, Header},
    sync::AtomicBool,
    transport::{FrameReader, Inbound, Outbox, Priority, SendQueue, WireSink},
};

const SCHEDULES: usize = 5_000;

fn context() -> Context {
    Context::new(Arc::default(), None, Metadata::default(), None)
}

#[test]
fn outbox_accepts_nothing_after_close() {
    check_random(
        || {
            let outbox = Arc::new(Outbox::new(100));
            let push = |outbox: Arc<Outbox>| move || outbox.push(|out| out.copied().put_u8(1)).is_ok() as usize;
            let pushers = [0, 1].map(|_| thread::spawn(push(Arc::clone(&outbox))));
            let mut taken = outbox.take(WriteBuffer::new()).len();
            outbox.close();
            taken += outbox.take(WriteBuffer::new()).len();
            let pushed: usize = pushers.into_iter().map(|pusher| pusher.join().unwrap()).sum();
            assert_eq!(pushed, taken);
            assert!(outbox.take(WriteBuffer::new()).is_empty());
        },
        SCHEDULES,
    );
}

#[test]
fn push_wakes_sleeping_driver() {
    check_random(
        || {
            let outbox = Arc::new(Outbox::new(100));
            let push = |outbox: Arc<Outbox>| move || outbox.push(|out| out.copied().put_u8(1)).unwrap();
            let pushers = [0, 1].map(|_| thread::spawn(push(Arc::clone(&outbox))));
            let mut taken = 0;
            block_on(poll_fn(|cx| {
                loop {
                    taken += outbox.take(WriteBuffer::new()).len();
                    if taken == 2 {
                        return Poll::Ready(());
                    }
                    if outbox.sleep(cx.waker(), false) {
                        return Poll::Pending;
                    }
                }
            }));
            pushers.into_iter().for_each(|pusher| pusher.join().unwrap());
        },
        SCHEDULES,
    );
}

#[test]
fn waiters_see_capacity_and_close() {
    check_random(
        || {
            let outbox = Arc::new(Outbox::new(1));
            outbox.push(|out| out.copied().put_u8(1)).unwrap();
            let waits = |outbox: Arc<Outbox>| move || drop(block_on(outbox.capacity(Priority::Interactive)));
            let waiters = [0, 1].map(|_| thread::spawn(waits(Arc::clone(&outbox))));
            if shuttle::rand::thread_rng().gen_bool(0.5) {
                outbox.close();
            } else {
                outbox.take(WriteBuffer::new());
                outbox.written(1);
            }
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        },
        SCHEDULES,
    );
}

#[test]
fn newcomer_does_not_overtake_waiters() {
    check_random(
        || {
            let outbox = Arc::new(Outbox::new(1));
            outbox.push(|out| out.copied().put_u8(0)).unwrap();
            let waiters = [1, 2].map(|byte| {
                let mut capacity = Box::pin(Arc::clone(&outbox).capacity(Priority::Interactive));
                assert!(capacity.as_mut().poll(&mut task::Context::from_waker(Waker::noop())).is_pending());
                thread::spawn(move || {
                    block_on(capacity).push_to(SendQueue::Interactive, |_, out| out.copied().put_u8(byte)).unwrap()
                })
            });
            let newcomer = {
                let outbox = Arc::clone(&outbox);
                thread::spawn(move || {
                    while outbox.push(|out| out.copied().put_u8(3)).is_err() {
                        thread::yield_now();
                    }
                })
            };
            let mut written = Vec::new();
            while written.len() < 4 {
                let taken = outbox.take(WriteBuffer::new());
                outbox.written(taken.len());
                written.extend_from_slice(&taken.into_bytes());
                thread::yield_now();
            }
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
            newcomer.join().unwrap();
            assert_eq!(written, [0, 1, 2, 3]);
        },
        SCHEDULES,
    );
}

#[test]
fn ended_turns_let_waiters_and_driver_proceed() {
    /// More tasks than have turns at the same time.
    const WAITERS: usize = 6;
    /// Two frames fill the outbox.
    const LIMIT: usize = 2;
    check_random(
        || {
            let outbox = Arc::new(Outbox::new(LIMIT).for_results());
            outbox.push(|out| out.copied().put_bytes(0, LIMIT)).unwrap();
            let waiters = [(); WAITERS].map(|()| {
                let capacity = Arc::clone(&outbox).capacity(Priority::Interactive);
                let use_of_turn = shuttle::rand::thread_rng().gen_range(0..3);
                thread::spawn(move || {
                    let turn = block_on(capacity);
                    thread::yield_now();
                    match use_of_turn {
                        0 => drop(turn),
                        1 => turn.push_to(SendQueue::Interactive, |_, _| ()).unwrap(),
                        _ => turn.push_to(SendQueue::Interactive, |_, out| out.copied().put_u8(1)).unwrap(),
                    }
                })
            });
            let [done, paused] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
            let driver = {
                let (outbox, done, paused) = (Arc::clone(&outbox), Arc::clone(&done), Arc::clone(&paused));
                let mut drive = move |cx: &mut task::Context<'_>| {
                    loop {
                        let taken = outbox.take(WriteBuffer::new());
                        outbox.written(taken.len());
                        let is_full = outbox.waiting() >= LIMIT;
                        paused.store(is_full, Ordering::SeqCst);
                        if done.load(Ordering::SeqCst) && !is_full {
                            return Poll::Ready(());
                        }
                        if outbox.sleep(cx.waker(), false) {
                            return Poll::Pending;
                        }
                    }
                };
                thread::spawn(move || block_on(poll_fn(&mut drive)))
            };
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
            done.store(true, Ordering::SeqCst);
            // A driver that sleeps because the outbox is full was woken when it no longer was.
            if !paused.load(Ordering::SeqCst) {
                outbox.wake();
            }
            driver.join().unwrap();
            let taken = outbox.take(WriteBuffer::new());
            outbox.written(taken.len());
            assert_eq!((outbox.waiting(), outbox.has_capacity(Priority::Interactive)), (0, true));
        },
        SCHEDULES,
    );
}

#[test]
fn cancellation_reaches_all_waiters() {
    check_random(
        || {
            let context = context();
            let waiters = [0, 1].map(|_| {
                let context = context.clone();
                thread::spawn(move || block_on(context.cancelled()))
            });
            context.cancel();
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        },
        SCHEDULES,
    );
}

#[test]
fn call_is_answered_once_by_handler_or_deadline() {
    check_random(
        || {
            let (context, outbox) = (context(), Arc::new(Outbox::new(1).for_results()));
            let sink = WireSink::new(
                Arc::clone(&outbox),
                &Header { codec: 2, ..Header::empty(FrameType::Request, 1) },
                1 << 20,
            );
            // The outbox is full at first, so the handler waits for capacity.
            outbox.push(|out| out.copied().put_u8(1)).unwrap();
            let responder = Responder::wire(context.clone(), sink.clone());
            let handler = thread::spawn(move || block_on(responder.result(7_u32)));
            let deadline = thread::spawn(move || {
                if context.claim_answer(Code::DeadlineExceeded) {
                    sink.answer_unclaimed(&StatusAnswer::handled(Status::new(Code::DeadlineExceeded, "late")));
                    context.cancel();
                }
            });
            let mut written = Vec::new();
            let mut drive = || {
                let taken = outbox.take(WriteBuffer::new());
                outbox.written(taken.len());
                written.extend_from_slice(&taken.into_bytes());
            };
            drive();
            deadline.join().unwrap();
            drive();
            handler.join().unwrap();
            drive();
            let mut reader = FrameReader::new(1 << 20);
            reader.read_buffer().put_slice(&written[1..]);
            assert!(matches!(reader.next_frame(), Ok(Some(Inbound::Frame(_)))));
            assert_eq!(reader.next_frame(), Ok(None));
        },
        SCHEDULES,
    );
}
