//! [`KnownServices`]: the services that calls find without a lock.

use std::{
    array, ptr,
    sync::{Arc, OnceLock},
};

use rpc_core::ServiceId;

use super::providers::ServiceProviders;

/// The first services of a client, by the address of their id.
///
/// A read writes nothing, so calls on several threads do not wait for each other. Entries remain; services that find no
/// place are read from the map of all services.
#[derive(Debug)]
pub(super) struct KnownServices([OnceLock<Known>; MAX_KNOWN]);

type Known = (&'static ServiceId, Arc<ServiceProviders>);

impl KnownServices {
    /// Returns the providers of a service.
    #[inline]
    pub(super) fn get(&self, service: &'static ServiceId) -> Option<&Arc<ServiceProviders>> {
        for place in places(service) {
            let (id, providers) = self.0[place].get()?;
            if ptr::eq(*id, service) {
                return Some(providers);
            }
        }
        None
    }

    /// Adds a service, if it finds a place.
    #[cold]
    pub(super) fn insert(&self, service: &'static ServiceId, providers: &Arc<ServiceProviders>) {
        for place in places(service) {
            let (id, _) = self.0[place].get_or_init(|| (service, Arc::clone(providers)));
            if ptr::eq(*id, service) {
                return;
            }
        }
    }
}

impl Default for KnownServices {
    fn default() -> Self {
        Self(array::from_fn(|_| OnceLock::new()))
    }
}

/// Returns the places that a service may have, in the order in which they are searched.
fn places(service: &'static ServiceId) -> impl Iterator<Item = usize> {
    let first = ptr::from_ref(service).addr() / align_of::<ServiceId>();
    (first..first + SEARCHED_PLACES).map(|place| place % MAX_KNOWN)
}

/// The number of services that are found without a lock, at most.
const MAX_KNOWN: usize = 16;
/// The number of places in which a service is searched.
const SEARCHED_PLACES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    static IDS: [ServiceId; 2 * MAX_KNOWN] = [const { ServiceId::from_static("demo.Greeter", "1.0") }; 2 * MAX_KNOWN];

    #[test]
    fn services_are_found_by_the_address_of_their_id() {
        let known = KnownServices::default();
        let providers: Vec<_> = IDS.iter().map(|id| Arc::new(ServiceProviders::new(id.clone()))).collect();
        for (id, providers) in IDS.iter().zip(&providers) {
            assert!(known.get(id).is_none());
            known.insert(id, providers);
        }
        let found = |index: usize| known.get(&IDS[index]).map(|found| Arc::ptr_eq(found, &providers[index]));
        assert_eq!(found(0), Some(true));
        assert!((0..IDS.len()).filter(|index| found(*index).is_some()).count() <= MAX_KNOWN);
        assert!((0..IDS.len()).all(|index| found(index) != Some(false)));
    }
}
