//! The arguments about order, tried in many orders by shuttle: a wake-up that is lost shows as a deadlock.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

use bytes::{BufMut, Bytes};
use rpc_core::{
    frame::{Frame, FrameType, Header},
    transport::{CloseReason, Outbox},
};
use shuttle::{check_random, future::block_on, rand::Rng, thread};
use tokio::time::Instant;

use crate::{
    connection::channel::{Channel, Refused, Sent},
    connection::in_flight::{Look, Outcome},
};

const SCHEDULES: usize = 5_000;

fn channel(max_in_flight: usize) -> (Arc<Channel>, Arc<Outbox>) {
    let outbox = Arc::new(Outbox::new(1000));
    let channel =
        Arc::new(Channel::new(([127, 0, 0, 1], 1).into(), Arc::clone(&outbox), max_in_flight, Arc::default()));
    channel.prove();
    (channel, outbox)
}

fn start(channel: &Channel) -> Result<Sent, Refused> {
    channel.start(Instant::now() + Duration::from_secs(60), None, true, Waker::noop(), |_, out| {
        out.copied().put_u8(1);
        Ok(())
    })
}

fn outcome(channel: &Channel, sent: Sent) -> Outcome {
    block_on(poll_fn(|cx| match channel.look(sent.id, cx.waker()) {
        Look::Ended(outcome) => Poll::Ready(outcome),
        Look::Pending | Look::Silent => Poll::Pending,
    }))
}

fn response() -> Outcome {
    Outcome::Response(Frame { header: Header::empty(FrameType::Response, 0), body: Bytes::new() })
}

#[test]
fn every_call_that_is_taken_learns_of_the_close() {
    check_random(
        || {
            let (channel, outbox) = channel(10);
            let callers = [0, 1].map(|_| {
                let channel = Arc::clone(&channel);
                thread::spawn(move || match start(&channel) {
                    Ok(sent) => assert!(matches!(outcome(&channel, sent), Outcome::Closed(_))),
                    Err(refused) => assert!(matches!(refused, Refused::Closed)),
                })
            });
            // As the driver does it.
            outbox.close();
            channel.close(&Arc::new(CloseReason::PeerClosed));
            callers.into_iter().for_each(|caller| caller.join().unwrap());
            channel.retire();
            assert!(channel.is_done(), "something is left in flight");
        },
        SCHEDULES,
    );
}

#[test]
fn an_answer_reaches_a_caller_that_waits_and_finds_no_place_of_one_that_left() {
    check_random(
        || {
            let (channel, _outbox) = channel(10);
            let (stays, leaves) = (start(&channel).unwrap(), start(&channel).unwrap());
            let waits = {
                let channel = Arc::clone(&channel);
                thread::spawn(move || assert!(matches!(outcome(&channel, stays), Outcome::Response(_))))
            };
            let leaver = {
                let channel = Arc::clone(&channel);
                thread::spawn(move || channel.abandon(leaves.id))
            };
            channel.deliver(vec![(leaves.id.as_u32(), response())]);
            channel.deliver(vec![(stays.id.as_u32(), response())]);
            waits.join().unwrap();
            leaver.join().unwrap();
            channel.retire();
            assert!(channel.is_done(), "something is left in flight");
        },
        SCHEDULES,
    );
}

#[test]
fn whoever_waits_for_a_place_gets_it_or_learns_of_the_end() {
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
                            Err(Refused::Closed) => return,
                            Err(_) => block_on(channel.room()),
                        }
                    }
                })
            };
            if shuttle::rand::thread_rng().gen_bool(0.5) {
                outbox.close();
                channel.close(&Arc::new(CloseReason::PeerClosed));
            } else {
                channel.deliver(vec![(first.id.as_u32(), response())]);
            }
            assert!(matches!(outcome(&channel, first), Outcome::Response(_) | Outcome::Closed(_)));
            next.join().unwrap();
        },
        SCHEDULES,
    );
}
