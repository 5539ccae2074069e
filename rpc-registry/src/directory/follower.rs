//! Follows the list of one service.

use std::{convert::Infallible, sync::Arc};

use tokio_util::sync::CancellationToken;

use super::{
    engine::{Changes as _, Engine, Failure, Session},
    entry::instances,
    sessions::Sessions,
};
use crate::{supervision::completes, watches::Watch};

/// Publishes the list of a service until the watch has no receivers or `stop` is cancelled.
///
/// While there is no session, the last list stays.
pub(super) async fn run<E: Engine>(watch: Watch, sessions: Arc<Sessions<E>>, stop: CancellationToken) {
    // Cancel-safe: the next list is complete.
    tokio::select! {
        () = stop.cancelled() => {}
        () = async { while !completes("registry follower", follow(&watch, &sessions)).await {} } => {}
    }
}

async fn follow<E: Engine>(watch: &Watch, sessions: &Sessions<E>) {
    loop {
        // Cancel-safe: as above.
        tokio::select! {
            () = watch.closed() => {
                if watch.end_if_unwatched() {
                    return;
                }
            }
            () = publish_all(watch, sessions) => {}
        }
    }
}

async fn publish_all<E: Engine>(watch: &Watch, sessions: &Sessions<E>) {
    let service = watch.service().to_string();
    loop {
        let session = sessions.current().await;
        let Err(failure) = publish(watch, &service, &*session).await;
        sessions.end(&session, &failure);
    }
}

/// Publishes the lists of one session until it fails.
async fn publish(watch: &Watch, service: &str, session: &impl Session) -> Result<Infallible, Failure> {
    loop {
        let (entries, changes) = session.list(service).await?;
        watch.publish(instances(&entries));
        changes.changed().await?;
    }
}
