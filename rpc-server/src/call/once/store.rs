//! [`OnceStore`]: the answers of once calls that the servers of a cluster share.

use std::time::Duration;

use bytes::Bytes;
use rpc_core::{BoxFuture, Code, Error, Status, StoredAnswer};
use tokio::time::sleep;

use crate::call::rejection::Rejection;

/// Stores the answers of `#[rpc(once = "cluster")]` calls for all servers of a cluster.
///
/// It is usually a database table whose primary key is the key of the call. Each server keeps its own answers as well,
/// so it claims a key only for the first request that it receives with this key, and again while another server
/// executes the call.
pub trait OnceStore: Send + Sync + 'static {
    /// Claims a key for this server, atomically.
    ///
    /// Exactly one of all claims of a key returns [`Claim::First`].
    ///
    /// # Errors
    ///
    /// The server then rejects the call with `Unavailable`, and does not execute it.
    fn claim<'a>(&'a self, key: [u8; 16], route: &'a str) -> BoxFuture<'a, Result<Claim, Error>>;

    /// Stores the answer of a claimed key for at least as long as callers may retry, 10 minutes by default.
    ///
    /// # Errors
    ///
    /// The caller still receives its answer; a retry that reaches another server finds the key claimed.
    fn keep<'a>(&'a self, key: [u8; 16], answer: Bytes) -> BoxFuture<'a, Result<(), Error>>;

    /// Removes the claim of this server for a key whose call was not executed, because a layer rejected it.
    ///
    /// The next claim of the key then returns [`Claim::First`]. A retry of the call may claim the key while this method
    /// runs, and waits until it has an effect.
    ///
    /// The server calls this once for each claim, and drops the future after 5 s or when it ends. A store that itself
    /// repeats the removal after an unknown outcome must remove only the claim for which it was called, for example by
    /// a token that it stored with the claim: otherwise it may remove the claim of the retry, and the handler executes
    /// twice.
    ///
    /// # Errors
    ///
    /// The caller still receives the rejection; a retry finds the key claimed.
    fn release(&self, key: [u8; 16]) -> BoxFuture<'_, Result<(), Error>>;
}

/// The result of claiming a key in a [`OnceStore`].
#[derive(Debug, Clone)]
pub enum Claim {
    /// The key was not claimed before: this server executes the call.
    First,
    /// Another server claimed the key, and has not stored an answer yet.
    Running,
    /// The stored answer.
    Answered(Bytes),
}

/// Claims a key in the store, and waits while another server executes the call.
///
/// Returns `None` if this server must execute it.
///
/// # Errors
///
/// The store failed, or has a damaged answer: the call was executed then.
pub(crate) async fn claim(
    store: &dyn OnceStore,
    key: [u8; 16],
    route: &str,
) -> Result<Option<StoredAnswer>, Rejection> {
    let unavailable = |error: Error| Status::new(Code::Unavailable, format!("OnceStore::claim failed: {error}"));
    loop {
        match store.claim(key, route).await.map_err(unavailable)? {
            Claim::First => return Ok(None),
            Claim::Answered(bytes) => return StoredAnswer::from_bytes(bytes).map(Some).map_err(Rejection::of_repeat),
            Claim::Running => sleep(CLAIM_INTERVAL).await,
        }
    }
}

/// The time between two claims of a key whose call another server executes.
const CLAIM_INTERVAL: Duration = Duration::from_millis(50);
