//! [`OnceCalls`]: the once calls of one server, and their answers for retries.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rpc_core::{Code, Status, StoredAnswer, contained};
use tokio::time::Instant;
use tracing::warn;

use super::{OnceStore, Waiter, rejected::RejectedCalls};
use crate::{call::rejection::Rejection, config::ServerConfig};

/// The once calls of one server, by key: those that run, and the stored answers of those that ended.
pub(crate) struct OnceCalls {
    state: Mutex<State>,
    keep_for: Duration,
    max_calls: usize,
    max_bytes: usize,
    /// The answers that the servers of a cluster share.
    pub(crate) store: Option<Arc<dyn OnceStore>>,
}

#[derive(Default)]
struct State {
    calls: HashMap<[u8; 16], OnceCall, foldhash::fast::RandomState>,
    /// The keys of the answered calls and the time of their answers, oldest first.
    answered: VecDeque<([u8; 16], Instant)>,
    answer_bytes: usize,
    /// The number of answers that were discarded before their retention had passed.
    discarded: u64,
    /// The age of such an answer for which no warning was considered yet.
    discarded_age: Option<Duration>,
    warned_at: Option<Instant>,
    /// The calls that are not in `calls` because they were rejected. Empty if there is a store, which has their keys.
    rejected: RejectedCalls,
}

struct OnceCall {
    route: String,
    progress: Progress,
}

enum Progress {
    /// The handler runs; the waiters receive its answer.
    Running(Vec<Waiter>),
    Answered(StoredAnswer),
}

/// The decision about a request with a key.
pub(crate) enum OnceAdmission {
    /// The request is the first one with its key, so the caller executes it.
    ///
    /// The caller then calls [`answer`](OnceCalls::answer) or [`release`](OnceCalls::release).
    Execute,
    /// The request waits for the answer of the running call.
    Joined,
    /// The call has a stored answer, with which the caller answers the request.
    Answered(Waiter, StoredAnswer),
}

impl OnceCalls {
    pub(crate) fn new(config: &ServerConfig, store: Option<Arc<dyn OnceStore>>) -> Self {
        let ServerConfig { once_kept, max_once_calls, max_once_bytes, .. } = *config;
        let state = Mutex::default();
        Self { state, keep_for: once_kept, max_calls: max_once_calls, max_bytes: max_once_bytes, store }
    }

    /// Returns the number of answers that were discarded before their retention had passed.
    pub(crate) fn discarded(&self) -> u64 {
        self.lock().discarded
    }

    /// Admits a request.
    ///
    /// `is_retry` marks a request whose call an earlier attempt may have executed. Without a store, the server rejects
    /// it unless it has a record of the key: as not executed if it rejected the earlier attempt, which another server
    /// behind the same address may have executed since.
    ///
    /// # Errors
    ///
    /// The request is rejected; the caller passes the rejection to the waiter.
    pub(crate) fn admit(
        &self,
        key: [u8; 16],
        route: &str,
        is_retry: bool,
        waiter: Waiter,
        now: Instant,
    ) -> Result<OnceAdmission, Box<(Waiter, Rejection)>> {
        let mut state = self.lock();
        state.forget_expired(now, self.keep_for);
        if let Some(call) = state.calls.get_mut(&key) {
            if call.route != route {
                let status = Status::new(Code::InvalidArgument, "the key was used for another method");
                return Err(Box::new((waiter, Rejection::of_repeat(status))));
            }
            match &mut call.progress {
                Progress::Running(waiters) if waiters.len() == MAX_WAITERS => {
                    let message =
                        format!("requests that wait for this once call reached the limit of {MAX_WAITERS} (fixed)");
                    let status = Status::new(Code::ResourceExhausted, message);
                    return Err(Box::new((waiter, Rejection::of_repeat(status))));
                }
                Progress::Running(waiters) => waiters.push(waiter),
                Progress::Answered(answer) => return Ok(OnceAdmission::Answered(waiter, answer.clone())),
            }
            return Ok(OnceAdmission::Joined);
        }
        if is_retry && self.store.is_none() {
            if let Some(rejection) = state.rejected.rejection(key) {
                return Err(Box::new((waiter, rejection)));
            }
            // The server was started, or discarded the key, after the first attempt may have arrived.
            let message = "this server has no record of whether an earlier attempt of the once call executed";
            return Err(Box::new((waiter, Rejection::of_repeat(Status::new(Code::Aborted, message)))));
        }
        if state.calls.len() >= self.max_calls && !state.discard_oldest(now) {
            let message = format!(
                "running once calls of this server reached the limit of {} (ServerConfig::max_once_calls)",
                self.max_calls
            );
            let status = Status::new(Code::ResourceExhausted, message);
            return Err(Box::new((waiter, Rejection::until(status, RETRY_AFTER))));
        }
        let progress = Progress::Running(vec![waiter]);
        state.calls.insert(key, OnceCall { route: route.to_owned(), progress });
        state.rejected.remove(key);
        self.unlock(state, now);
        Ok(OnceAdmission::Execute)
    }

    /// Stores an answer. Returns the waiters, which the caller answers with it.
    pub(crate) fn store_answer(&self, key: [u8; 16], answer: StoredAnswer, now: Instant) -> Vec<Waiter> {
        let mut state = self.lock();
        let Some(call) = state.calls.get_mut(&key) else { return Vec::new() };
        let length = answer.as_bytes().len();
        let Progress::Running(waiters) = std::mem::replace(&mut call.progress, Progress::Answered(answer)) else {
            return Vec::new();
        };
        state.answer_bytes += length;
        state.answered.push_back((key, now));
        while state.answer_bytes > self.max_bytes && state.discard_oldest(now) {}
        self.unlock(state, now);
        waiters
    }

    /// Records that a first request was rejected before it was admitted.
    pub(crate) fn record_rejected(&self, key: [u8; 16], rejection: &Rejection, now: Instant) {
        if self.store.is_none() {
            let mut state = self.lock();
            if !state.calls.contains_key(&key) {
                state.rejected.insert(key, &rejection.status, now);
            }
        }
    }

    /// Removes an admitted call that was not executed, and rejects its waiters.
    ///
    /// The next request that is not a retry may then execute it.
    pub(crate) fn release(&self, key: [u8; 16], rejection: &Rejection, now: Instant) {
        let mut state = self.lock();
        let removed = state.calls.remove(&key);
        if self.store.is_none() {
            state.rejected.insert(key, &rejection.status, now);
        }
        drop(state);
        if let Some(OnceCall { progress: Progress::Running(waiters), .. }) = removed {
            waiters.iter().for_each(|waiter| waiter.reject(rejection));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unlocks the state, and warns if answers were discarded before their retention had passed.
    fn unlock(&self, mut state: MutexGuard<'_, State>, now: Instant) {
        let Some(age) = state.discarded_age.take() else { return };
        if state.warned_at.is_some_and(|at| now.duration_since(at) < WARNING_INTERVAL) {
            return;
        }
        state.warned_at = Some(now);
        let total = state.discarded;
        drop(state);
        let Self { keep_for, max_calls, max_bytes, .. } = self;
        contained(|| {
            warn!(
                ?age,
                total,
                "an answer of a once call is discarded before ServerConfig::once_kept ({keep_for:?}) has passed, and a retry of \
                 its call fails; limits are ServerConfig::max_once_calls ({max_calls}) and ServerConfig::max_once_bytes \
                 ({max_bytes})"
            );
        });
    }
}

impl State {
    fn forget_expired(&mut self, now: Instant, keep_for: Duration) {
        while self.answered.front().is_some_and(|(_, at)| now.duration_since(*at) >= keep_for) {
            self.forget_oldest();
        }
        self.rejected.forget_expired(now, keep_for);
    }

    /// Discards the oldest answer before its retention has passed. Returns `false` when no call is answered.
    fn discard_oldest(&mut self, now: Instant) -> bool {
        let Some(answered_at) = self.forget_oldest() else { return false };
        self.discarded += 1;
        self.discarded_age = Some(now.duration_since(answered_at));
        true
    }

    /// Discards the oldest answer. Returns when the call was answered; `None` when no call is.
    fn forget_oldest(&mut self) -> Option<Instant> {
        let (key, answered_at) = self.answered.pop_front()?;
        if let Some(OnceCall { progress: Progress::Answered(answer), .. }) = self.calls.remove(&key) {
            self.answer_bytes -= answer.as_bytes().len();
        }
        Some(answered_at)
    }
}

/// The minimum time between two warnings about discarded answers.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// The maximum number of requests that wait for the answer of one call.
const MAX_WAITERS: usize = 16;
/// The retry-after of a request that `ServerConfig::max_once_calls` rejects.
const RETRY_AFTER: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use rpc_core::{
        Context, Metadata,
        frame::{FrameType, HEADER_LEN, Header},
        transport::{Outbox, WireSink},
    };

    use super::*;

    const KEY: [u8; 16] = [7; 16];

    fn sink(id: u32) -> (WireSink, Arc<Outbox>) {
        let outbox = Arc::new(Outbox::new(1 << 20).for_results());
        let sink =
            WireSink::new(Arc::clone(&outbox), &Header { codec: 2, ..Header::empty(FrameType::Request, id) }, 1 << 20);
        (sink, outbox)
    }

    fn waiter(sink: &WireSink) -> Waiter {
        let context = Context::new(Arc::default(), None, Metadata::default(), None);
        Waiter::new(&Arc::default(), context, sink.clone())
    }

    fn answer() -> StoredAnswer {
        StoredAnswer::status(&sink(0).0, Status::new(Code::NotFound, "x"))
    }

    fn calls() -> OnceCalls {
        OnceCalls::new(&ServerConfig::default(), None)
    }

    /// The code of a rejection without a retry-after.
    fn code(admitted: Result<OnceAdmission, Box<(Waiter, Rejection)>>) -> Code {
        match admitted {
            Err(rejected) if rejected.1.status.retry_after().is_none() => rejected.1.status.code(),
            _ => panic!("expected a rejection without a retry-after"),
        }
    }

    #[test]
    fn once_call_executes_once_and_answers_every_request() {
        let (calls, now) = (calls(), Instant::now());
        let sinks = [sink(1), sink(2), sink(3)];
        let admit = |index: usize, repeat| calls.admit(KEY, "r", repeat, waiter(&sinks[index].0), now);
        assert!(matches!(admit(0, false), Ok(OnceAdmission::Execute)));
        assert!(matches!(admit(1, true), Ok(OnceAdmission::Joined)), "the call runs");
        let waiters = calls.store_answer(KEY, answer(), now);
        assert_eq!(waiters.len(), 2);
        assert!(waiters.iter().all(|waiter| waiter.try_answer(&answer())));
        let Ok(OnceAdmission::Answered(waiter, stored)) = admit(2, true) else { panic!("the call is answered") };
        assert!(waiter.try_answer(&stored));
        for (sink, outbox) in &sinks {
            let mut expected = BytesMut::from(&answer().as_bytes()[..]);
            expected[12..16].copy_from_slice(&sink.id().to_be_bytes());
            let mut written = BytesMut::new();
            outbox.push(|out| written = out.copied().clone()).unwrap();
            assert_eq!(written, expected);
        }
    }

    #[test]
    fn retry_of_an_unknown_key_is_rejected() {
        let rejected = calls().admit(KEY, "r", true, waiter(&sink(1).0), Instant::now());
        assert_eq!(code(rejected), Code::Aborted);
    }

    #[test]
    fn answers_expire_after_their_retention() {
        let (calls, now) = (calls(), Instant::now());
        let admit = |repeat, after| calls.admit(KEY, "r", repeat, waiter(&sink(1).0), now + Duration::from_secs(after));
        assert!(matches!(admit(false, 0), Ok(OnceAdmission::Execute)));
        calls.store_answer(KEY, answer(), now);
        assert!(matches!(admit(true, 599), Ok(OnceAdmission::Answered(..))));
        assert_eq!(code(admit(true, 600)), Code::Aborted);
        assert_eq!(calls.discarded(), 0, "the retention has passed");
    }

    #[test]
    fn key_is_bound_to_one_method() {
        let (calls, now) = (calls(), Instant::now());
        assert!(calls.admit(KEY, "one", false, waiter(&sink(1).0), now).is_ok());
        let rejected = calls.admit(KEY, "other", false, waiter(&sink(2).0), now);
        assert_eq!(code(rejected), Code::InvalidArgument);
    }

    #[test]
    fn one_call_takes_sixteen_waiters_at_most() {
        let (calls, now) = (calls(), Instant::now());
        let admit = || calls.admit(KEY, "r", false, waiter(&sink(1).0), now);
        assert!(matches!(admit(), Ok(OnceAdmission::Execute)));
        for _ in 1..MAX_WAITERS {
            assert!(matches!(admit(), Ok(OnceAdmission::Joined)));
        }
        assert_eq!(code(admit()), Code::ResourceExhausted);
    }

    #[test]
    fn server_remembers_100_000_calls_at_most() {
        let (calls, now, sink) = (calls(), Instant::now(), sink(1).0);
        let max_calls = ServerConfig::default().max_once_calls;
        let key = |number: usize| (number as u128).to_be_bytes();
        let admit = |number| calls.admit(key(number), "r", false, waiter(&sink), now);
        for number in 0..max_calls {
            assert!(matches!(admit(number), Ok(OnceAdmission::Execute)));
        }
        // All of them run, so none may be discarded.
        let Err(rejected) = admit(max_calls) else { panic!("expected a rejection") };
        let rejection = &rejected.1;
        assert_eq!(
            (rejection.status.code(), rejection.status.retry_after()),
            (Code::ResourceExhausted, Some(RETRY_AFTER))
        );
        calls.store_answer(key(7), answer(), now);
        assert!(matches!(admit(max_calls), Ok(OnceAdmission::Execute)));
        assert_eq!(calls.lock().calls.len(), max_calls);
        assert!(!calls.lock().calls.contains_key(&key(7)), "the oldest answer is discarded");
        assert_eq!(calls.discarded(), 1);
    }

    #[test]
    fn server_remembers_64_mib_of_answers_at_most() {
        let (calls, now, sink) = (calls(), Instant::now(), sink(1).0);
        let key = |number: usize| (number as u128).to_be_bytes();
        let mut large = BytesMut::zeroed(ServerConfig::default().max_once_bytes / 4);
        let header = Header { full_length: large.len() as u32, ..Header::empty(FrameType::Response, 0) };
        large[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        let large = StoredAnswer::from_bytes(large.freeze()).unwrap();
        let keep = |number, answer: &StoredAnswer| {
            assert!(matches!(calls.admit(key(number), "r", false, waiter(&sink), now), Ok(OnceAdmission::Execute)));
            calls.store_answer(key(number), answer.clone(), now);
            calls.lock().calls.len()
        };
        assert_eq!((0..4).map(|number| keep(number, &large)).last(), Some(4));
        assert_eq!(calls.discarded(), 0);
        assert_eq!(keep(4, &answer()), 4, "the oldest answer is discarded");
        assert_eq!(calls.discarded(), 1);
        assert!(!calls.lock().calls.contains_key(&key(0)));
    }
}
