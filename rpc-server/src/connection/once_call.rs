//! The execution of a once call.
//!
//! Only the deadline ends its handler, because other requests may wait for the answer.

use std::{pin::pin, sync::Arc};

use futures_util::future::join_all;
use rpc_core::{
    Code, Context, Metadata, Payload, Peer, Responder, Service, Status, StoredAnswer, contained, head::RequestHead,
    transport::WireSink,
};
use tokio::{
    sync::oneshot,
    time::{Duration, Instant, timeout, timeout_at},
};
use tracing::warn;

use super::{handler::HandlerFuture, shared::Shared};
use crate::call::{
    concurrency::{PeerShare, Permit, Reservation},
    once::{self, OnceAdmission, Waiter},
    rejection::Rejection,
    running::{OVERDUE, RunningCalls},
};

/// A request for a once call.
pub(super) struct OnceRequest {
    pub(super) key: [u8; 16],
    pub(super) service: Arc<dyn Service>,
    pub(super) method: usize,
    pub(super) head: RequestHead,
    pub(super) sink: WireSink,
    pub(super) arguments: Payload,
    pub(super) deadline: Instant,
    pub(super) share: Arc<PeerShare>,
}

/// Serves a request: with the stored answer, with the answer of a running handler, or by a new handler.
pub(super) fn serve(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    running: &Arc<RunningCalls>,
    mut request: OnceRequest,
    now: Instant,
) {
    let (key, head) = (request.key, &mut request.head);
    let context = |metadata| Context::new(Arc::clone(peer), Some(request.deadline), metadata, Some(key));
    let waiter = Waiter::new(running, context(Metadata::default()), request.sink.clone());
    match shared.once.admit(key, head.route.as_str(), head.repeat, waiter, now) {
        Ok(OnceAdmission::Joined) => return,
        Ok(OnceAdmission::Answered(waiter, answer)) => {
            if !waiter.try_answer(&answer) {
                let server = Arc::clone(shared);
                shared.handlers.spawn(async move { deliver(&server, vec![waiter], &answer).await });
            }
            return;
        }
        Err(rejected) => {
            let (waiter, rejection) = *rejected;
            return waiter.reject(&rejection);
        }
        Ok(OnceAdmission::Execute) => {}
    }
    let Some(reservation) = request.share.reserve() else {
        return shared.once.release(key, &shared.queue_full(), now);
    };
    let context = context(std::mem::take(&mut head.metadata));
    shared.handlers.spawn(execute(Arc::clone(shared), context, request, reservation));
}

/// Executes a call, and answers all requests that wait for it.
async fn execute(shared: Arc<Shared>, context: Context, request: OnceRequest, reservation: Reservation) {
    let (key, sink, deadline) = (request.key, request.sink.clone(), request.deadline);
    let permit = match shared.acquire(reservation, deadline).await {
        Ok(permit) => permit,
        Err(rejection) => return shared.once.release(key, &rejection, Instant::now()),
    };
    let (answer, _permit) = {
        let mut running = pin!(run(&shared, context.clone(), request, permit));
        let outcome = shared.abort.run_until_cancelled(timeout_at(deadline, running.as_mut())).await;
        // Claimed before the handler is dropped, so that layers see the code.
        context.claim_answer(Code::DeadlineExceeded);
        match outcome {
            Some(Ok(Ok(answered))) => answered,
            Some(Ok(Err(NotExecuted { rejection, claim }))) => {
                // The callers receive their answers first: the store may take long.
                shared.once.release(key, &rejection, Instant::now());
                if let Some(claim) = claim {
                    release_claim(&shared, key).await;
                    drop(claim);
                }
                return;
            }
            Some(Err(_)) | None => (StoredAnswer::status(&sink, Status::new(Code::DeadlineExceeded, OVERDUE)), None),
        }
    };
    let waiters = shared.once.store_answer(key, answer.clone(), Instant::now());
    deliver(&shared, waiters, &answer).await;
}

/// Answers requests. Waits for connections without capacity, until the server ends.
async fn deliver(shared: &Shared, mut waiters: Vec<Waiter>, answer: &StoredAnswer) {
    waiters.retain(|waiter| !waiter.try_answer(answer));
    let answered = join_all(waiters.into_iter().map(|waiter| waiter.answer(answer)));
    shared.abort.run_until_cancelled(answered).await;
}

/// Removes the claim of a call that was not executed from the store, within [`RELEASE_TIME`].
async fn release_claim(shared: &Shared, key: [u8; 16]) {
    let Some(store) = &shared.once.store else { return };
    let release = timeout(RELEASE_TIME, store.release(key));
    let problem = match shared.abort.run_until_cancelled(release).await {
        Some(Ok(Ok(()))) | None => return,
        Some(Ok(Err(error))) => error.to_string(),
        Some(Err(_)) => format!("no result within {RELEASE_TIME:?}"),
    };
    contained(|| {
        warn!(%problem, "OnceStore::release failed; retries of a rejected call find its key claimed");
    });
}

/// A call that this server did not execute: the store failed, or a layer rejected it.
struct NotExecuted {
    rejection: Rejection,
    /// The permit of a call whose key this server claimed in the store. It limits the number of claims that are
    /// released at the same time.
    claim: Option<Option<Permit>>,
}

/// Returns the answer that the store has for the key, or runs the handler and stores its answer.
///
/// Also returns the permit, which then counts an unsent result: it limits the number of answers that wait.
///
/// # Errors
///
/// The store failed, or a layer rejected the call: this server did not execute the handler.
async fn run(
    shared: &Shared,
    context: Context,
    request: OnceRequest,
    mut permit: Permit,
) -> Result<(StoredAnswer, Option<Permit>), NotExecuted> {
    let OnceRequest { key, service, method, head, sink, arguments, .. } = request;
    let store = shared.once.store.as_deref();
    if let Some(store) = store {
        match once::claim(store, key, head.route.as_str()).await {
            Ok(None) => {}
            Ok(Some(answer)) => {
                permit.result_waits();
                return Ok((answer, Some(permit)));
            }
            Err(rejection) => return Err(NotExecuted { rejection, claim: None }),
        }
    }
    let (sender, answer) = oneshot::channel();
    let call = service.call(method, arguments, Responder::store(context.clone(), sink.clone(), sender));
    let mut handler = HandlerFuture { context, call, route: head.route, permit: Some(permit) };
    (&mut handler).await;
    let mut permit = handler.permit.take();
    // A handler that panicked still has its responder, whose drop answers.
    drop(handler);
    permit.iter_mut().for_each(Permit::result_waits);
    let missing = || StoredAnswer::status(&sink, Status::new(Code::Internal, "the handler ended without an answer"));
    let answer = match answer.await.unwrap_or_else(|_| Ok(missing())) {
        Ok(answer) => answer,
        Err(rejection) => {
            return Err(NotExecuted { rejection: rejection.into(), claim: store.is_some().then_some(permit) });
        }
    };
    if let Some(store) = store
        && let Err(error) = store.keep(key, answer.as_bytes().clone()).await
    {
        contained(|| warn!(%error, "OnceStore::keep failed; retries that reach other servers find no answer"));
    }
    Ok((answer, permit))
}

/// The time in which a store must release the claim of a rejected call.
const RELEASE_TIME: Duration = Duration::from_secs(5);
