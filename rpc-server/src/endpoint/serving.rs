//! [`serve`]: the task of a connection that an endpoint has claimed.

use std::{pin::pin, sync::Arc};

use rpc_core::Peer;
use tokio::time::{Instant, sleep_until};

use super::{
    calls::{Calls, Over},
    connection::EndpointConnection,
    handler::EndpointHandler,
    prefixed::Prefixed,
};
use crate::{connection::Shared, credentials::Proved};

/// Serves a connection that `handler` has claimed.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    handler: Arc<dyn EndpointHandler>,
    io: Prefixed,
    peer: Peer,
    proved: Proved,
    protocol: Option<Vec<u8>>,
) {
    let calls = Calls::new(Arc::clone(&shared), peer, proved);
    let connection = EndpointConnection::new(Arc::clone(&calls), io, protocol);
    let mut serving = handler.serve(connection);
    loop {
        let mut woken = pin!(shared.endpoints_woken.notified());
        // Registered before the check, so that a change in between is not missed.
        woken.as_mut().enable();
        let Over { next_check, ends_at } = calls.check(Instant::now());
        let until = |at: Option<Instant>| async move {
            match at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        // The endpoint's future is kept over the turns; the others are safe to drop.
        tokio::select! {
            biased;
            () = &mut serving => return,
            () = woken => {}
            () = until(next_check) => {}
            () = until(ends_at) => return,
        }
    }
}
