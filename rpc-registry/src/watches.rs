//! [`Watches`]: shares one watch per service among all receivers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rpc_core::{Addresses, Instance, ServiceId};
use tokio::sync::watch;

/// The sender of the latest list of one service; `None` until the first list.
pub(crate) type Publisher = watch::Sender<Option<Arc<[Instance]>>>;

/// The watched services. Each has a driver: a task that publishes its lists.
#[derive(Default)]
pub(crate) struct Watches(Mutex<HashMap<ServiceId, Arc<Publisher>>>);

impl Watches {
    /// Returns a receiver of the lists of `service`.
    ///
    /// Also returns the publisher if the caller must start the driver.
    pub(crate) fn watch(&self, service: &ServiceId) -> (Addresses, Option<Arc<Publisher>>) {
        let mut services = self.lock();
        if let Some(publisher) = services.get(service) {
            return (publisher.subscribe(), None);
        }
        let (publisher, receiver) = watch::channel(None);
        let publisher = Arc::new(publisher);
        services.insert(service.clone(), Arc::clone(&publisher));
        (receiver, Some(publisher))
    }

    /// Ends the watch of `service` if it has no receivers. Returns whether it ended.
    ///
    /// The driver must end then.
    ///
    /// Receivers are added under the same lock, so none can be added between the check and the removal.
    pub(crate) fn end_if_unwatched(&self, service: &ServiceId) -> bool {
        let mut services = self.lock();
        let unwatched = services.get(service).is_none_or(|publisher| publisher.receiver_count() == 0);
        if unwatched {
            services.remove(service);
        }
        unwatched
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServiceId, Arc<Publisher>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Publishes `list` if it differs from the last list, and returns whether it does.
pub(crate) fn publish(publisher: &Publisher, list: Vec<Instance>) -> bool {
    publisher.send_if_modified(|last| {
        let changed = last.as_deref() != Some(&list[..]);
        if changed {
            *last = Some(list.into());
        }
        changed
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");

    #[test]
    fn receivers_share_one_driver_until_the_last_drops() {
        let watches = Watches::default();
        let (first, publisher) = watches.watch(&SERVICE);
        let publisher = publisher.unwrap();
        let (second, driver) = watches.watch(&SERVICE);
        assert!(driver.is_none());

        assert!(publish(&publisher, vec![]));
        assert!(!publish(&publisher, vec![]));
        assert_eq!(second.borrow().as_ref().map(|list| list.len()), Some(0));

        drop(first);
        assert!(!watches.end_if_unwatched(&SERVICE));
        drop(second);
        assert!(watches.end_if_unwatched(&SERVICE));
        assert!(watches.watch(&SERVICE).1.is_some());
    }
}
