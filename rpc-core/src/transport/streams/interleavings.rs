//! Concurrency tests of streams that shuttle runs under many schedules. A lost wake-up shows as a deadlock.

use std::{future::poll_fn, sync::Arc, task::Waker};

use bytes::{BufMut, Bytes};
use shuttle::{check_random, future::block_on, thread};

use super::{CallStreams, Credit, ItemQueue, QueueEnd, StreamMemory, WireStreams, queue::TakenItems};
use crate::{
    Code, Context, Error, Metadata, Responder, Status, StatusAnswer, Streaming, WriteBuffer,
    frame::{Frame, FrameType, Header},
    transport::{FrameReader, Inbound, Outbox, WireSink},
};

const SCHEDULES: usize = 5_000;

fn error() -> Error {
    Error::unknown(Code::Cancelled, "the call has ended")
}

#[test]
fn credit_waiter_gets_all_credit() {
    check_random(
        || {
            let credit = Arc::new(Credit::new());
            credit.spend(Credit::INITIAL.into());
            let adders = [0, 1].map(|_| {
                let credit = Arc::clone(&credit);
                thread::spawn(move || credit.add(10, 1).unwrap())
            });
            let mut spent = 0;
            while spent < 20 {
                let balance = block_on(poll_fn(|cx| credit.poll_positive(cx))).unwrap();
                credit.spend(balance as u64);
                spent += balance;
            }
            assert_eq!(spent, 20);
            adders.into_iter().for_each(|adder| adder.join().unwrap());
        },
        SCHEDULES,
    );
}

#[test]
fn close_ends_the_waits_of_a_sender() {
    check_random(
        || {
            let credit = Arc::new(Credit::new());
            credit.spend(Credit::INITIAL.into());
            let sender = {
                let credit = Arc::clone(&credit);
                thread::spawn(move || {
                    // A sender waits for credit, then for an item, with the same waker.
                    while let Some(balance) = block_on(poll_fn(|cx| credit.poll_positive(cx))) {
                        credit.spend(balance as u64);
                    }
                    block_on(poll_fn(|cx| credit.poll_closed(cx)));
                })
            };
            let adder = {
                let credit = Arc::clone(&credit);
                thread::spawn(move || credit.add(10, 1).unwrap())
            };
            credit.close().into_iter().for_each(Waker::wake);
            adder.join().unwrap();
            sender.join().unwrap();
        },
        SCHEDULES,
    );
}

#[test]
fn reader_gets_items_and_one_end() {
    check_random(
        || {
            let memory = StreamMemory::new(1 << 20);
            let queue = ItemQueue::new(1, Credit::INITIAL, &memory).unwrap();
            let peer = {
                let queue = Arc::clone(&queue);
                thread::spawn(move || {
                    for number in 0..2 {
                        let header = Header::empty(FrameType::CalleeItem, 1);
                        queue.push(Frame { header, body: Bytes::from(vec![number]) }).unwrap();
                    }
                    queue.end(QueueEnd::Finished)
                })
            };
            let closer = {
                let queue = Arc::clone(&queue);
                thread::spawn(move || queue.end(QueueEnd::Lost(error())))
            };
            let (mut taken, mut read) = (TakenItems::default(), Vec::new());
            while block_on(poll_fn(|cx| queue.poll_take(&mut taken, cx))).is_some() {
                read.extend(std::iter::from_fn(|| taken.next()).map(|item| item.bytes[0]));
            }
            let end = queue.take_end().unwrap();
            assert!([0, 1].starts_with(&read));
            assert!(matches!(end, QueueEnd::Lost(_)) || read.len() == 2, "{end:?} after {read:?}");
            assert!(peer.join().unwrap() != closer.join().unwrap(), "one end counts");
            queue.abandon();
            assert_eq!(memory.used(), 0);
        },
        SCHEDULES,
    );
}

#[test]
fn abandoned_queue_holds_no_memory() {
    check_random(
        || {
            let memory = StreamMemory::new(1 << 20);
            let queue = ItemQueue::new(1, Credit::INITIAL, &memory).unwrap();
            let peer = {
                let queue = Arc::clone(&queue);
                thread::spawn(move || {
                    let header = Header::empty(FrameType::CalleeItem, 1);
                    queue.push(Frame { header, body: Bytes::from(vec![0; 100_000]) }).unwrap();
                })
            };
            queue.abandon();
            peer.join().unwrap();
            assert_eq!(memory.used(), 0);
        },
        SCHEDULES,
    );
}

#[test]
fn accepted_call_ends_once_by_handler_or_cancellation() {
    check_random(
        || {
            let outbox = Arc::new(Outbox::new(1 << 20).for_results());
            let context = Context::new(Arc::default(), None, Metadata::default(), None);
            let header = Header { codec: 2, ..Header::empty(FrameType::Request, 1) };
            let streams = CallStreams::new(1, true, false, Credit::INITIAL, &StreamMemory::new(1 << 20)).unwrap();
            let streams = Arc::new(streams);
            let wire =
                WireStreams::new(Arc::clone(&outbox), Arc::clone(&streams), context.clone(), &header, 1 << 20, 1 << 20);
            let sink = WireSink::new(Arc::clone(&outbox), &header, 1 << 20).with_streams(Arc::clone(&streams));
            let responder = Responder::streams(context.clone(), sink.clone(), wire);
            let handler = thread::spawn(move || {
                let items: Streaming<u8> = [1, 2].into_iter().collect();
                block_on(responder.send_items(Box::new(items)));
            });
            // As the server handles CANCEL.
            if context.claim_answer(Code::Cancelled) {
                sink.answer_claimed(&context, &StatusAnswer::handled(Status::new(Code::Cancelled, "")));
                context.cancel();
                streams.close(error);
            }
            handler.join().unwrap();
            let mut reader = FrameReader::new(1 << 20);
            reader.read_buffer().put_slice(&outbox.take(WriteBuffer::new()).into_bytes());
            let mut types = Vec::new();
            while let Ok(Some(Inbound::Frame(frame))) = reader.next_frame() {
                types.push(frame.header.frame_type);
            }
            let is_rejected = types == [FrameType::Response] && context.outcome() == Some(Code::Cancelled);
            let (acceptance, items) = types.split_first().unwrap();
            let is_accepted = *acceptance == FrameType::Response
                && items.split_last().is_some_and(|(end, items)| {
                    *end == FrameType::CalleeEnd && items.iter().all(|item| *item == FrameType::CalleeItem)
                });
            assert!(is_rejected || is_accepted, "{types:?}");
        },
        SCHEDULES,
    );
}
