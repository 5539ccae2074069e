//! The driver of one watch: reads the service's directory again and again.

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

/// How often the directory is read.
///
/// Reading is what finds the dead: a lock that ends makes no file system event, so a notification service would not spare it. With ten
/// providers it costs some 30 system calls.
const PERIOD: Duration = Duration::from_millis(100);

/// Publishes the living providers of `service` until nobody receives them, or `stop`.
///
/// Only one reading is under way at a time; a slow file system makes readings rarer, not more.
pub(super) async fn run(
    service: ServiceId,
    directory: Result<PathBuf, Error>,
    publisher: Arc<Publisher>,
    watches: Arc<Watches>,
    stop: CancellationToken,
) {
    let directory = match directory {
        Ok(directory) => directory,
        // Nobody can register under this name either.
        Err(error) => return tracing::warn!(%service, %error, "this service can have no providers"),
    };
    let warnings = Throttle::default();
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Both are cancel-safe: a tick that is not taken stays due.
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if publisher.is_closed() && watches.end_if_unwatched(&service) {
            return;
        }
        let scanned = {
            let (directory, service) = (directory.clone(), service.clone());
            blocking(move || announcement::scan(&directory, &service)).await
        };
        // An error is no list: the last one stays.
        let problem = match scanned {
            Ok((living, mut unreadable)) => {
                publish(&publisher, living);
                unreadable.pop()
            }
            Err(error) => Some(error),
        };
        if let Some(error) = problem
            && warnings.pass(Instant::now())
        {
            tracing::warn!(%service, directory = %directory.display(), %error, "a provider's file cannot be read");
        }
    }
}
