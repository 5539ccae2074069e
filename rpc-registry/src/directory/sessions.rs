//! [`Sessions`]: the session with the server, which is opened again when it ends.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use super::engine::{Engine, Failure, Session};
use crate::{
    supervision::{completes, log},
    throttle::Throttle,
};

/// The current session with the server.
pub(super) struct Sessions<E: Engine> {
    engine: E,
    url: String,
    current: watch::Sender<Option<Arc<E::Session>>>,
    warnings: Throttle,
}

impl<E: Engine> Sessions<E> {
    pub(super) fn new(engine: E, url: String) -> Self {
        Self { engine, url, current: watch::Sender::new(None), warnings: Throttle::default() }
    }

    /// Waits for a session.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub(super) async fn current(&self) -> Arc<E::Session> {
        let mut sessions = self.current.subscribe();
        loop {
            if let Some(session) = &*sessions.borrow_and_update() {
                return Arc::clone(session);
            }
            // The sender is a field of `self`.
            let _ = sessions.changed().await;
        }
    }

    /// Ends a session in which an operation failed; another one follows.
    pub(super) fn end(&self, session: &Arc<E::Session>, failure: &Failure) {
        let ended = self.current.send_if_modified(|current| {
            let is_current = current.as_ref().is_some_and(|current| Arc::ptr_eq(current, session));
            current.take_if(|_| is_current).is_some()
        });
        if ended {
            self.warn(failure, "a session with the registry ended; another one follows");
        }
    }

    fn warn(&self, failure: &Failure, message: &'static str) {
        if self.warnings.allow(Instant::now()) {
            log(|| tracing::warn!(registry = %self.url, %failure, message));
        }
    }
}

/// Opens a session after the other until `stop` is cancelled; then closes the last one.
pub(super) async fn run<E: Engine>(sessions: Arc<Sessions<E>>, stop: CancellationToken) {
    // Cancel-safe: the last session is closed below.
    tokio::select! {
        () = stop.cancelled() => {}
        () = async { while !completes("registry sessions", open_all(&sessions)).await {} } => {}
    }
    let last = sessions.current.send_replace(None);
    if let Some(session) = last {
        session.close().await;
    }
}

async fn open_all<E: Engine>(sessions: &Sessions<E>) {
    let mut pause = MIN_PAUSE;
    loop {
        match sessions.engine.connect().await {
            Ok(session) => {
                let (session, opened) = (Arc::new(session), Instant::now());
                sessions.current.send_replace(Some(Arc::clone(&session)));
                let mut current = sessions.current.subscribe();
                // Both futures are cancel-safe.
                let failure = tokio::select! {
                    failure = session.ended() => Some(failure),
                    _ = current.wait_for(Option::is_none) => None,
                };
                if let Some(failure) = failure {
                    sessions.end(&session, &failure);
                }
                if opened.elapsed() > MAX_PAUSE {
                    pause = MIN_PAUSE;
                }
            }
            Err(failure) => sessions.warn(&failure, "cannot connect to the registry; trying again"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// The shortest pause between two sessions.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two sessions.
const MAX_PAUSE: Duration = Duration::from_secs(5);
