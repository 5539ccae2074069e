//! [`Slots`]: a limited number of connections, in total and by address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A limited number of slots for connections, in total and by address.
#[derive(Debug)]
pub(super) struct Slots {
    max_total: usize,
    max_per_address: usize,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A slot, which is free again on drop.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    address: Option<IpAddr>,
}

/// The limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// All slots are in use.
    Total,
    /// The address has its share.
    Address,
}

impl Slots {
    pub(super) fn new(max_total: usize, max_per_address: usize) -> Arc<Self> {
        Arc::new(Self { max_total, max_per_address, used: Mutex::default() })
    }

    /// Takes a slot for a client at an address. Without an address, only the total is limited.
    ///
    /// # Errors
    ///
    /// The limit that is reached.
    pub(super) fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Slot, Full> {
        let mut used = self.used();
        if used.total >= self.max_total {
            return Err(Full::Total);
        }
        if let Some(address) = address {
            let of_address = used.by_address.get(&address).copied().unwrap_or(0);
            if of_address >= self.max_per_address {
                return Err(Full::Address);
            }
            used.by_address.insert(address, of_address + 1);
        }
        used.total += 1;
        Ok(Slot { slots: Arc::clone(self), address })
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut used = self.slots.used();
        used.total -= 1;
        let Some(address) = self.address else { return };
        if let Some(of_address) = used.by_address.get_mut(&address) {
            *of_address -= 1;
            if *of_address == 0 {
                used.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_limited_by_address_and_in_total() {
        let [one, other, third] = [1, 2, 3].map(|host| Some(IpAddr::from([127, 0, 0, host])));
        let slots = Slots::new(4, 2);
        let mut of_one = vec![slots.take(one).unwrap(), slots.take(one).unwrap()];
        assert_eq!(slots.take(one).unwrap_err(), Full::Address);
        let proxy = slots.take(None).unwrap();
        let _of_other = slots.take(other).unwrap();
        assert_eq!(slots.take(third).unwrap_err(), Full::Total);
        drop(proxy);
        let of_third = slots.take(third).unwrap();
        drop((of_one.pop(), of_third));
        assert!(slots.take(one).is_ok());
        drop(of_one);
        assert_eq!(slots.used().by_address.len(), 1, "addresses without a connection use no memory");
    }
}
