//! [`OnceCalls`]: the answers of calls that are to run once, for who asks again.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use rpc_core::{BoxFuture, Code, Context, Error, Status, StoredAnswer, WireSink};
use tokio::time::{Instant, sleep};

use crate::running::{Ended, Running};

/// Where the servers of a cluster keep the answers of calls that are to run once in all of it (`#[rpc(once = "cluster")]`):
/// usually a table in a database with the key as primary key. Each server remembers its own answers besides, so a store is
/// asked once for each key and server.
pub trait OnceStore: Send + Sync + 'static {
    /// Claims a key for this server, atomically: of all who claim it, one is told [`Claim::First`].
    ///
    /// # Errors
    ///
    /// The call is then refused with `Unavailable`, and has not run.
    fn claim<'a>(&'a self, key: [u8; 16], route: &'a str) -> BoxFuture<'a, Result<Claim, Error>>;

    /// Keeps the answer of a key that was claimed first; for at least as long as callers may repeat, 10 minutes by default.
    ///
    /// # Errors
    ///
    /// The caller gets its answer all the same; repeats that reach other servers find the key claimed.
    fn keep<'a>(&'a self, key: [u8; 16], answer: Bytes) -> BoxFuture<'a, Result<(), Error>>;
}

/// What a [`OnceStore`] knows of a key.
#[derive(Debug, Clone)]
pub enum Claim {
    /// Nothing: the call is to run here.
    First,
    /// Somebody claimed it and has not kept an answer yet.
    Running,
    /// The answer that was kept.
    Answered(Bytes),
}

/// The answers of one server.
pub(crate) struct OnceCalls {
    table: Mutex<Table>,
    keep_for: Duration,
    pub(crate) store: Option<Arc<dyn OnceStore>>,
}

#[derive(Default)]
struct Table {
    calls: HashMap<[u8; 16], Entry, foldhash::fast::RandomState>,
    /// The answered ones, the oldest first.
    answered: VecDeque<([u8; 16], Instant)>,
    bytes: usize,
}

struct Entry {
    route: String,
    state: State,
}

/// A request that waits for the answer of a call which runs once. It is a call of its connection like others: cancelled, or past
/// its own deadline, it has its answer, and the handler runs on for the others.
pub(crate) struct Asker {
    context: Context,
    sink: WireSink,
    _ended: Ended,
}

impl Asker {
    pub(crate) fn new(running: &Arc<Running>, context: Context, sink: WireSink) -> Self {
        let ended = running.enter_asker(sink.clone(), context.clone());
        Self { context, sink, _ended: ended }
    }

    fn give(&self, answer: &StoredAnswer) {
        self.sink.give(&self.context, answer);
    }

    /// Says that the call is not run.
    pub(crate) fn refuse(&self, status: &Status, retry_after: Option<Duration>) {
        self.sink.refuse_once(&self.context, status, retry_after);
    }
}

enum State {
    /// Who waits for the answer.
    Running(Vec<Asker>),
    Answered(StoredAnswer),
}

/// What is to be done with a request that carries a key.
pub(crate) enum Admission {
    /// It is the first with its key: run it, then [`answer`](OnceCalls::answer).
    Run,
    /// It is or will be answered without another run.
    Served,
}

/// A request that is not run, and why.
pub(crate) struct Refused {
    pub(crate) asker: Asker,
    pub(crate) status: Status,
    pub(crate) retry_after: Option<Duration>,
}

impl OnceCalls {
    pub(crate) fn new(keep_for: Duration, store: Option<Arc<dyn OnceStore>>) -> Self {
        Self { table: Mutex::default(), keep_for, store }
    }

    /// Takes in a request; an error is its refusal, which is for the caller to pass on.
    pub(crate) fn admit(
        &self,
        key: [u8; 16],
        route: &str,
        repeat: bool,
        asker: Asker,
        now: Instant,
    ) -> Result<Admission, Refused> {
        let refuse = |asker, status, retry_after| Err(Refused { asker, status, retry_after });
        let mut table = self.lock();
        table.forget(now, self.keep_for);
        if let Some(entry) = table.calls.get_mut(&key) {
            if entry.route != route {
                return refuse(asker, Status::new(Code::InvalidArgument, "the key was used for another method"), None);
            }
            match &mut entry.state {
                State::Running(waiting) if waiting.len() == MAX_WAITING => {
                    return refuse(asker, Status::new(Code::ResourceExhausted, "too many wait for this call"), None);
                }
                State::Running(waiting) => waiting.push(asker),
                State::Answered(answer) => {
                    let answer = answer.clone();
                    drop(table);
                    asker.give(&answer);
                }
            }
            return Ok(Admission::Served);
        }
        if repeat && self.store.is_none() {
            // This server has no memory of it: it was started, or forgot, since the first request may have arrived.
            let message = "whether an earlier attempt of this call ran is not known here";
            return refuse(asker, Status::new(Code::Aborted, message), None);
        }
        if table.calls.len() >= MAX_CALLS && !table.forget_oldest() {
            let status = Status::new(Code::ResourceExhausted, format!("{MAX_CALLS} calls that run once are under way"));
            return refuse(asker, status, Some(RETRY_AFTER));
        }
        let state = State::Running(vec![asker]);
        table.calls.insert(key, Entry { route: route.to_owned(), state });
        Ok(Admission::Run)
    }

    /// Keeps an answer and gives it to all who wait for it.
    pub(crate) fn answer(&self, key: [u8; 16], answer: StoredAnswer, now: Instant) {
        let mut table = self.lock();
        let Some(entry) = table.calls.get_mut(&key) else { return };
        let State::Running(waiting) = std::mem::replace(&mut entry.state, State::Answered(answer.clone())) else {
            return;
        };
        table.bytes += answer.as_bytes().len();
        table.answered.push_back((key, now));
        while table.bytes > MAX_BYTES && table.forget_oldest() {}
        drop(table);
        for asker in waiting {
            asker.give(&answer);
        }
    }

    /// A call that was admitted did not run: whoever repeats it may run it.
    pub(crate) fn release(&self, key: [u8; 16], status: &Status, retry_after: Option<Duration>) {
        let removed = self.lock().calls.remove(&key);
        if let Some(Entry { state: State::Running(waiting), .. }) = removed {
            waiting.iter().for_each(|asker| asker.refuse(status, retry_after));
        }
    }

    /// Claims a key in the store; waits while another server runs the call. `None` is for running it here.
    pub(crate) async fn claim(
        store: &dyn OnceStore,
        key: [u8; 16],
        route: &str,
    ) -> Result<Option<StoredAnswer>, Status> {
        let unavailable =
            |error: Error| Status::new(Code::Unavailable, format!("the store of answers failed: {error}"));
        loop {
            match store.claim(key, route).await.map_err(unavailable)? {
                Claim::First => return Ok(None),
                Claim::Answered(bytes) => return StoredAnswer::from_bytes(bytes).map(Some),
                Claim::Running => sleep(ASK_AGAIN).await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn forget(&mut self, now: Instant, keep_for: Duration) {
        while self.answered.front().is_some_and(|(_, at)| now.duration_since(*at) >= keep_for) {
            self.forget_oldest();
        }
    }

    /// Forgets the oldest answer; `false` when there is none.
    fn forget_oldest(&mut self) -> bool {
        let Some((key, _)) = self.answered.pop_front() else { return false };
        if let Some(Entry { state: State::Answered(answer), .. }) = self.calls.remove(&key) {
            self.bytes -= answer.as_bytes().len();
        }
        true
    }
}

/// Calls remembered at once, and the bytes of their answers.
const MAX_CALLS: usize = 100_000;
const MAX_BYTES: usize = 64 << 20;
/// Requests that wait for one call's answer.
const MAX_WAITING: usize = 16;
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// How often the store is asked for the answer of a call that another server runs.
const ASK_AGAIN: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use rpc_core::{
        Metadata,
        frame::{FrameType, HEADER_LEN, Header},
        transport::Outbox,
    };

    use super::*;

    const KEY: [u8; 16] = [7; 16];

    fn sink(id: u32) -> (WireSink, Arc<Outbox>) {
        let outbox = Arc::new(Outbox::new(1 << 20));
        let sink = WireSink { outbox: Arc::clone(&outbox), id, codec: 2, compression: 0, max_frame: 1 << 20 };
        (sink, outbox)
    }

    fn asker(sink: &WireSink) -> Asker {
        let context = Context::new(Arc::default(), None, Metadata::default(), None);
        Asker::new(&Arc::default(), context, sink.clone())
    }

    fn answer() -> StoredAnswer {
        StoredAnswer::status(&sink(0).0, &Status::new(Code::NotFound, "x"))
    }

    fn calls() -> OnceCalls {
        OnceCalls::new(Duration::from_secs(600), None)
    }

    /// The code of a refusal that names no time to wait.
    fn code(admitted: Result<Admission, Refused>) -> Code {
        match admitted {
            Err(Refused { status, retry_after: None, .. }) => status.code(),
            _ => panic!("it should be refused for good"),
        }
    }

    #[test]
    fn a_call_runs_once_and_all_who_ask_get_its_answer() {
        let (calls, now) = (calls(), Instant::now());
        let sinks = [sink(1), sink(2), sink(3)];
        let admit = |index: usize, repeat| calls.admit(KEY, "r", repeat, asker(&sinks[index].0), now);
        assert!(matches!(admit(0, false), Ok(Admission::Run)));
        assert!(matches!(admit(1, true), Ok(Admission::Served)), "it runs");
        calls.answer(KEY, answer(), now);
        assert!(matches!(admit(2, true), Ok(Admission::Served)), "it was answered");
        for (sink, outbox) in &sinks {
            let mut expected = BytesMut::from(&answer().as_bytes()[..]);
            expected[12..16].copy_from_slice(&sink.id.to_be_bytes());
            let mut written = BytesMut::new();
            outbox.push(|out| written = out.copied().clone()).unwrap();
            assert_eq!(written, expected);
        }
    }

    #[test]
    fn a_repeat_of_what_is_not_known_is_refused() {
        let refused = calls().admit(KEY, "r", true, asker(&sink(1).0), Instant::now());
        assert_eq!(code(refused), Code::Aborted);
    }

    #[test]
    fn answers_are_forgotten_after_their_time() {
        let (calls, now) = (calls(), Instant::now());
        let admit = |repeat, after| calls.admit(KEY, "r", repeat, asker(&sink(1).0), now + Duration::from_secs(after));
        assert!(matches!(admit(false, 0), Ok(Admission::Run)));
        calls.answer(KEY, answer(), now);
        assert!(matches!(admit(true, 599), Ok(Admission::Served)));
        assert_eq!(code(admit(true, 600)), Code::Aborted);
    }

    #[test]
    fn a_key_belongs_to_one_method() {
        let (calls, now) = (calls(), Instant::now());
        assert!(calls.admit(KEY, "one", false, asker(&sink(1).0), now).is_ok());
        let refused = calls.admit(KEY, "other", false, asker(&sink(2).0), now);
        assert_eq!(code(refused), Code::InvalidArgument);
    }

    #[test]
    fn sixteen_wait_for_one_call_and_not_one_more() {
        let (calls, now) = (calls(), Instant::now());
        let admit = || calls.admit(KEY, "r", false, asker(&sink(1).0), now);
        assert!(matches!(admit(), Ok(Admission::Run)));
        for _ in 1..MAX_WAITING {
            assert!(matches!(admit(), Ok(Admission::Served)));
        }
        assert_eq!(code(admit()), Code::ResourceExhausted);
    }

    #[test]
    fn a_hundred_thousand_calls_are_remembered_and_not_one_more() {
        let (calls, now, sink) = (calls(), Instant::now(), sink(1).0);
        let key = |number: usize| (number as u128).to_be_bytes();
        let admit = |number| calls.admit(key(number), "r", false, asker(&sink), now);
        for number in 0..MAX_CALLS {
            assert!(matches!(admit(number), Ok(Admission::Run)));
        }
        // As long as all of them run, nothing may be forgotten.
        let Err(refused) = admit(MAX_CALLS) else { panic!("there is no room") };
        assert_eq!((refused.status.code(), refused.retry_after), (Code::ResourceExhausted, Some(RETRY_AFTER)));
        calls.answer(key(7), answer(), now);
        assert!(matches!(admit(MAX_CALLS), Ok(Admission::Run)));
        assert_eq!(calls.lock().calls.len(), MAX_CALLS);
        assert!(!calls.lock().calls.contains_key(&key(7)), "the oldest answer made room");
    }

    #[test]
    fn answers_of_64_mib_are_remembered_and_not_a_byte_more() {
        let (calls, now, sink) = (calls(), Instant::now(), sink(1).0);
        let key = |number: usize| (number as u128).to_be_bytes();
        let mut large = BytesMut::zeroed(MAX_BYTES / 4);
        let header = Header { full_length: large.len() as u32, ..Header::empty(FrameType::Response, 0) };
        large[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        let large = StoredAnswer::from_bytes(large.freeze()).unwrap();
        let keep = |number, answer: &StoredAnswer| {
            assert!(matches!(calls.admit(key(number), "r", false, asker(&sink), now), Ok(Admission::Run)));
            calls.answer(key(number), answer.clone(), now);
            calls.lock().calls.len()
        };
        assert_eq!((0..4).map(|number| keep(number, &large)).last(), Some(4));
        assert_eq!(keep(4, &answer()), 4, "the first is forgotten");
        assert!(!calls.lock().calls.contains_key(&key(0)));
    }
}
