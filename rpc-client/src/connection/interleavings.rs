//! Shuttle tests of the channel under many random schedules; a lost wake-up shows as a deadlock.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use bytes::{BufMut, Bytes};
use rpc_core::{
    Code, Status,
    frame::{Frame, FrameType, Header},
    transport::{CloseReason, Outbox, QueueEnd},
};
use shuttle::{check_random, future::block_on, rand::Rng, thread};
use tokio::time::Instant;

use super::{
    channel::Channel,
    in_flight::{CallStatus, NewCall, Outcome},
    sending::{Limit, SendError, SentCall},
    streams::StreamKind,
};

const SCHEDULES: usize = 5_000;

fn channel(max_in_flight: usize) -> (Arc<Channel>, Arc<Outbox>) {
    let outbox = Arc::new(Outbox::new(1000));
    let channel = Arc::new(Channel::new(
        ([127, 0, 0, 1], 1).into(),
        Arc::clone(&outbox),
        max_in_flight,
        Arc::default(),
        &Default::default(),
    ));
    channel.prove();
    (channel, outbox)
}

fn start(channel: &Channel) -> Result<SentCall, SendError> {
    let deadline = Instant::now() + Duration::from_secs(60);
    channel.start(NewCall { has_waited: true, ..NewCall::until(deadline) }, None, 1, |_, out| {
        out.copied().put_u8(1);
        Ok(())
    })
}

fn outcome(channel: &Channel, sent: SentCall) -> Outcome {
    block_on(poll_fn(|cx| match channel.poll(sent.id, cx.waker()) {
        CallStatus::Ended(outcome) => Poll::Ready(outcome),
        CallStatus::Pending | CallStatus::HedgeDue => Poll::Pending,
    }))
}

fn response() -> Outcome {
    Outcome::Response(Frame { header: Header::empty(FrameType::Response, 0), body: Bytes::new() })
}

#[test]
fn close_ends_every_accepted_call() {
    check_random(
        || {
            let (channel, outbox) = channel(10);
            let callers = [0, 1].map(|_| {
                let channel = Arc::clone(&channel);
                thread::spawn(move || match start(&channel) {
                    Ok(sent) => assert!(matches!(outcome(&channel, sent), Outcome::Closed(_))),
                    Err(error) => assert!(matches!(error, SendError::Closed)),
                })
            });
            // The driver closes both in this order.
            outbox.close();
            channel.close(&Arc::new(CloseReason::PeerClosed), false);
            callers.into_iter().for_each(|caller| caller.join().unwrap());
            channel.retire();
            assert!(channel.is_drained(), "a call is still in flight");
        },
        SCHEDULES,
    );
}

#[test]
fn answer_reaches_only_a_caller_that_is_present() {
    check_random(
        || {
            let (channel, _outbox) = channel(10);
            let (stays, leaves) = (start(&channel).unwrap(), start(&channel).unwrap());
            let waiting = {
                let channel = Arc::clone(&channel);
                thread::spawn(move || assert!(matches!(outcome(&channel, stays), Outcome::Response(_))))
            };
            let leaving = {
                let channel = Arc::clone(&channel);
                thread::spawn(move || channel.abandon(leaves.id))
            };
            channel.deliver(vec![(leaves.id.as_u32(), response())], Instant::now());
            channel.deliver(vec![(stays.id.as_u32(), response())], Instant::now());
            waiting.join().unwrap();
            leaving.join().unwrap();
            channel.retire();
            assert!(channel.is_drained(), "a call is still in flight");
        },
        SCHEDULES,
    );
}

#[test]
fn slot_waiter_gets_the_slot_or_the_close() {
    check_random(
        || {
            let (channel, outbox) = channel(1);
            let first = start(&channel).unwrap();
            let next = {
                let channel = Arc::clone(&channel);
                thread::spawn(move || {
                    loop {
                        match start(&channel) {
                            Ok(sent) => return channel.abandon(sent.id),
                            Err(SendError::Closed) => return,
                            Err(_) => drop(block_on(channel.capacity(Limit::InFlight))),
                        }
                    }
                })
            };
            if shuttle::rand::thread_rng().gen_bool(0.5) {
                outbox.close();
                channel.close(&Arc::new(CloseReason::PeerClosed), false);
            } else {
                channel.deliver(vec![(first.id.as_u32(), response())], Instant::now());
            }
            assert!(matches!(outcome(&channel, first), Outcome::Response(_) | Outcome::Closed(_)));
            next.join().unwrap();
        },
        SCHEDULES,
    );
}

#[test]
fn ends_of_both_streams_free_the_slot_of_a_call() {
    check_random(
        || {
            let (channel, outbox) = channel(1);
            let deadline = Instant::now() + Duration::from_secs(60);
            let call = NewCall { has_waited: true, has_streams: true, ..NewCall::until(deadline) };
            let kind = StreamKind { sends: true, expects: true };
            let (sent, _streams) = channel.start_streams(call, kind, None, 0, |_, _| Ok(())).unwrap();
            let id = sent.id.as_u32();
            let accepted = Frame { header: Header::empty(FrameType::Response, id), body: Bytes::from_static(&[0, 0]) };
            channel.handle_response(&accepted).unwrap();
            channel.deliver(vec![(id, Outcome::Response(accepted))], Instant::now());
            assert!(matches!(outcome(&channel, sent), Outcome::Response(_)));
            let sender = {
                let channel = Arc::clone(&channel);
                thread::spawn(move || channel.finish_items(sent.id))
            };
            let reader = {
                let channel = Arc::clone(&channel);
                thread::spawn(move || channel.fail_streams(sent.id, Status::new(Code::Cancelled, "")))
            };
            let end = Frame { header: Header::empty(FrameType::CalleeEnd, id), body: Bytes::from_static(&[0, 0]) };
            channel.handle_end(id, QueueEnd::Answered(end)).unwrap();
            sender.join().unwrap();
            reader.join().unwrap();
            assert!(!outbox.is_empty(), "this end has sent neither END nor CANCEL");
            channel.retire();
            assert!(channel.is_drained(), "a call is still in flight");
        },
        SCHEDULES,
    );
}
