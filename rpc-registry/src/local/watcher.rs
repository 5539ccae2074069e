//! The driver of one watch: reads the service's directory periodically.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rpc_core::Error;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{announcement, blocking};
use crate::{
    supervision::{completes, log},
    throttle::Throttle,
    watches::Watch,
};

/// The time between two scans of the directory.
///
/// Only a scan detects dead providers: releasing a lock causes no file system event, so change notifications could not
/// replace the scans. A scan of ten providers takes about 30 system calls.
const SCAN_INTERVAL: Duration = Duration::from_millis(100);

/// Publishes the alive providers of a service until the watch has no receivers or `stop` is cancelled.
pub(super) async fn run(watch: Watch, directory: Result<PathBuf, Error>, stop: CancellationToken) {
    let warnings = Throttle::default();
    while !completes("local watch", follow(&watch, directory.as_deref(), &warnings, &stop)).await {}
}

/// Scans the directory periodically.
///
/// Scans do not overlap: a slow file system makes scans less frequent.
async fn follow(watch: &Watch, directory: Result<&Path, &Error>, warnings: &Throttle, stop: &CancellationToken) {
    let service = watch.service();
    if let Err(error) = directory
        && warnings.allow(Instant::now())
    {
        // Registering under this invalid name fails too.
        log(|| tracing::warn!(%service, %error, "cannot watch the service: its name is invalid"));
    }
    let mut ticks = interval(SCAN_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Both branches are cancel-safe: a tick that is not consumed stays due.
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if watch.is_closed() && watch.end_if_unwatched() {
            return;
        }
        let Ok(directory) = directory else { continue };
        let scanned = {
            let (directory, service) = (directory.to_owned(), service.clone());
            blocking::run(move || announcement::scan(&directory, &service)).await
        };
        // After an error, receivers keep the last list.
        let problem = match scanned {
            Ok((alive, mut unreadable)) => {
                watch.publish(alive);
                unreadable.pop()
            }
            Err(error) => Some(error),
        };
        if let Some(error) = problem
            && warnings.allow(Instant::now())
        {
            log(
                || tracing::warn!(%service, directory = %directory.display(), %error, "cannot read a provider's announcement"),
            );
        }
    }
}
