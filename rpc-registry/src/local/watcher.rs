//! The driver of one watch: reads the service's directory periodically.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rpc_core::{Error, ServiceId};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{announcement, blocking};
use crate::{
    throttle::Throttle,
    watches::{Publisher, Watches, publish},
};

/// The time between two scans of the directory.
///
/// Only a scan detects dead providers: releasing a lock causes no file system event, so change notifications could not
/// replace the scans. A scan of ten providers takes about 30 system calls.
const SCAN_INTERVAL: Duration = Duration::from_millis(100);

/// Publishes the alive providers of `service` until the watch has no receivers or `stop` is cancelled.
///
/// Scans do not overlap: a slow file system makes scans less frequent.
pub(super) async fn run(
    service: ServiceId,
    directory: Result<PathBuf, Error>,
    publisher: Arc<Publisher>,
    watches: Arc<Watches>,
    stop: CancellationToken,
) {
    let directory = match directory {
        Ok(directory) => directory,
        // Registering under this invalid name fails too.
        Err(error) => return tracing::warn!(%service, %error, "cannot watch the service: its name is invalid"),
    };
    let warnings = Throttle::default();
    let mut ticks = interval(SCAN_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Both branches are cancel-safe: a tick that is not consumed stays due.
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if publisher.is_closed() && watches.end_if_unwatched(&service) {
            return;
        }
        let scanned = {
            let (directory, service) = (directory.clone(), service.clone());
            blocking::run(move || announcement::scan(&directory, &service)).await
        };
        // After an error, receivers keep the last list.
        let problem = match scanned {
            Ok((alive, mut unreadable)) => {
                publish(&publisher, alive);
                unreadable.pop()
            }
            Err(error) => Some(error),
        };
        if let Some(error) = problem
            && warnings.allow(Instant::now())
        {
            tracing::warn!(%service, directory = %directory.display(), %error, "cannot read a provider's announcement");
        }
    }
}
