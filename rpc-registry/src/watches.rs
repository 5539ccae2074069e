//! [`Watches`]: shares one watch per service among all receivers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rpc_core::{Instance, ServiceId};
use tokio::sync::watch;

/// The sender of the latest list of one service; `None` until the first list.
pub(crate) type Publisher = watch::Sender<Option<Arc<[Instance]>>>;

/// The watched services. Each has a driver: a task that publishes its values, by default its lists.
pub(crate) struct Watches<T = Arc<[Instance]>>(Mutex<Senders<T>>);

/// The sender of the latest value of each service; `None` until the first value.
type Senders<T> = HashMap<ServiceId, Arc<watch::Sender<Option<T>>>>;

impl<T> Default for Watches<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Watches<T> {
    /// Returns a receiver of the values of `service`.
    ///
    /// Also returns the watch if the caller must start its driver.
    pub(crate) fn watch(self: &Arc<Self>, service: &ServiceId) -> (watch::Receiver<Option<T>>, Option<Watch<T>>) {
        let mut services = self.lock();
        if let Some(publisher) = services.get(service) {
            return (publisher.subscribe(), None);
        }
        let (publisher, receiver) = watch::channel(None);
        let publisher = Arc::new(publisher);
        services.insert(service.clone(), Arc::clone(&publisher));
        (receiver, Some(Watch { service: service.clone(), publisher, watches: Arc::clone(self) }))
    }

    fn lock(&self) -> MutexGuard<'_, Senders<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The watch of one service. Its driver owns it.
///
/// Dropping it ends the watch: receivers find the sender dropped, and the next receiver starts a new driver. A driver is
/// also dropped when its runtime ends.
pub(crate) struct Watch<T = Arc<[Instance]>> {
    service: ServiceId,
    publisher: Arc<watch::Sender<Option<T>>>,
    watches: Arc<Watches<T>>,
}

impl Watch {
    /// Publishes `list` if it differs from the last list, and returns whether it does.
    pub(crate) fn publish(&self, list: Vec<Instance>) -> bool {
        publish(&self.publisher, list)
    }
}

#[cfg(feature = "nacos")]
impl Watch<Arc<str>> {
    /// Publishes `text` if it differs from the last one.
    pub(crate) fn publish_text(&self, text: &str) {
        self.publisher.send_if_modified(|last| {
            let changed = last.as_deref() != Some(text);
            if changed {
                *last = Some(text.into());
            }
            changed
        });
    }
}

impl<T> Watch<T> {
    pub(crate) fn service(&self) -> &ServiceId {
        &self.service
    }

    /// Returns whether a value was published.
    #[cfg(feature = "nacos")]
    pub(crate) fn has_list(&self) -> bool {
        self.publisher.borrow().is_some()
    }

    /// Returns whether there are no receivers.
    pub(crate) fn is_closed(&self) -> bool {
        self.publisher.is_closed()
    }

    /// Waits until there are no receivers.
    pub(crate) async fn closed(&self) {
        self.publisher.closed().await;
    }

    /// Ends the watch if it has no receivers. Returns whether it ended; the driver must end then.
    ///
    /// Receivers are added under the same lock, so none can be added between the check and the removal.
    pub(crate) fn end_if_unwatched(&self) -> bool {
        let mut services = self.watches.lock();
        let unwatched = self.publisher.receiver_count() == 0;
        if unwatched {
            self.remove(&mut services);
        }
        unwatched
    }

    fn remove(&self, services: &mut Senders<T>) {
        // After the end of this watch, the service may have another one.
        if services.get(&self.service).is_some_and(|publisher| Arc::ptr_eq(publisher, &self.publisher)) {
            services.remove(&self.service);
        }
    }
}

impl<T> Drop for Watch<T> {
    fn drop(&mut self) {
        let watches = Arc::clone(&self.watches);
        self.remove(&mut watches.lock());
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
        let watches = Arc::new(Watches::<Arc<[Instance]>>::default());
        let (first, watch) = watches.watch(&SERVICE);
        let watch = watch.unwrap();
        let (second, driver) = watches.watch(&SERVICE);
        assert!(driver.is_none());

        assert!(watch.publish(vec![]));
        assert!(!watch.publish(vec![]));
        assert_eq!(second.borrow().as_ref().map(|list| list.len()), Some(0));

        drop(first);
        assert!(!watch.end_if_unwatched());
        drop(second);
        assert!(watch.end_if_unwatched());
        let (_third, next) = watches.watch(&SERVICE);
        drop(watch);
        assert!(next.is_some() && watches.watch(&SERVICE).1.is_none());
    }

    #[test]
    fn dropped_driver_ends_its_watch() {
        let watches = Arc::new(Watches::<Arc<[Instance]>>::default());
        let (mut receiver, watch) = watches.watch(&SERVICE);
        drop(watch);
        assert!(receiver.has_changed().is_err() && receiver.borrow_and_update().is_none());
        assert!(watches.watch(&SERVICE).1.is_some());
    }
}
