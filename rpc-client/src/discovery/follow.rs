//! [`follow`]: the task that keeps the provider list of one service up to date.

use std::{sync::Arc, time::Duration};

use rpc_core::{Instance, contained, deadline_after};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::{
    comparison::WINDOW,
    providers::{ProviderList, ServiceProviders},
    snapshot::Snapshot,
    tracker::Tracker,
    watch::Watch,
};
use crate::{counters::Counters, endpoint::pool::EndpointPool};

/// Publishes a service's provider list whenever the registry's list or an endpoint's state changes it.
///
/// Runs until it is dropped.
pub(crate) async fn follow(
    providers: &ServiceProviders,
    mut watch: Watch<Arc<[Instance]>>,
    pool: Arc<EndpointPool>,
    mut snapshot: Snapshot,
) {
    let mut tracker = Tracker::new(Arc::clone(&pool), Arc::clone(providers.endpoints()));
    let _emptied = Emptied(providers);
    let patience_ends = deadline_after(Instant::now(), pool.config().registry_patience);
    let mut from_disk: Option<Arc<[Instance]>> = None;
    let mut reported: Option<Arc<[Instance]>> = None;
    let mut ejected = 0;
    let mut interval_ends = deadline_after(Instant::now(), WINDOW);
    loop {
        let now = Instant::now();
        if now >= interval_ends {
            interval_ends = deadline_after(now, WINDOW);
            if pool.config().outlier_ejection {
                (0..providers.eject_deviating(now)).for_each(|_| Counters::count(&pool.counters().ejections));
            }
        }
        let answer = watch.latest(now);
        if let Some(list) = &answer
            && reported.as_ref().is_none_or(|last| !Arc::ptr_eq(last, list))
        {
            providers.set_listed(now);
            reported = Some(Arc::clone(list));
        }
        if answer.is_none() && from_disk.is_none() && now >= patience_ends {
            snapshot.load();
        }
        let stale = answer.is_none() && from_disk.as_ref().is_some_and(|list| !list.is_empty());
        let listed = answer.as_ref().or(from_disk.as_ref().filter(|_| stale));
        if providers.uses_keys() {
            tracker.use_all();
        }
        let incompatible = providers.incompatible();
        incompatible.iter().for_each(|address| tracker.set_incompatible(*address, now));
        let next = tracker.update(listed.map(|list| &**list), now);
        let list = tracker.list(answer.is_some(), stale, now);
        if list.differs_from(&providers.list()) {
            let count = list.endpoints.len();
            providers.publish(list);
            pool.subscribers().notify();
            contained(|| debug!(service = %providers.service(), providers = count, stale, "provider list changed"));
        } else if list.draws_differ_from(&providers.list()) {
            providers.publish(list);
        }
        tracker.release_removed();
        // After the list with the replacements is published, for which calls wait.
        providers.clear_incompatible(incompatible.len());
        providers.wake_calls();
        if pool.lifecycle().is_interrupted() {
            // The runtime of a connection ended. A call that waits here starts the connection's task again.
            providers.wake_all_calls();
        }
        // No notification reports the end of an ejection, so this task does.
        let ejection_ends = providers.list().advance_ejections(now).map(|remaining| now + remaining);
        let ejections = providers.list().ejected();
        if ejections < std::mem::replace(&mut ejected, ejections) {
            pool.subscribers().notify();
        }
        let next_share = providers.list().plan.is_warming().then(|| now + SHARE_INTERVAL);
        let interval_ends = (providers.list().endpoints.len() > 1).then_some(interval_ends);
        if answer.is_some() {
            store(&tracker, &mut snapshot);
        }
        let patience_ends = (answer.is_none() && now < patience_ends).then_some(patience_ends);
        // No notification reports the end of a cooldown.
        let cooldown_ends = providers.list().cooldown_until();
        let times = [
            next,
            patience_ends,
            snapshot.due(),
            cooldown_ends,
            ejection_ends,
            next_share,
            interval_ends,
            watch.again_at(),
        ];
        let next = times.into_iter().flatten().min();
        // Cancel-safe: the next iteration reads every state that a dropped branch would have reported.
        tokio::select! {
            biased;
            () = watch.changed() => {}
            // A change after the states were read has left its permit here.
            () = providers.endpoints().notified() => {}
            list = snapshot.finished() => from_disk = list.or(from_disk),
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
    }
}

/// The interval in which the shares of providers grow that are in their slow start.
const SHARE_INTERVAL: Duration = Duration::from_secs(1);

/// Publishes an empty list when the follower is dropped, before its tracker retires the endpoints.
///
/// Calls then wait for the list of the next follower instead of failing.
struct Emptied<'a>(&'a ServiceProviders);

impl Drop for Emptied<'_> {
    fn drop(&mut self) {
        self.0.publish(ProviderList::default());
    }
}

/// Stores the providers on disk.
///
/// When an operator has disabled all of them, removes the file: it lists them as enabled.
fn store(tracker: &Tracker, snapshot: &mut Snapshot) {
    let instances = tracker.enabled_instances();
    if instances.is_empty() && tracker.has_disabled() {
        snapshot.remove();
    } else {
        snapshot.save(instances);
    }
}
