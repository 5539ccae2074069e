//! [`Entering`]: the connections that are not logged in.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

use super::slots::Full;

/// The connections that are not logged in, limited in total and by address.
///
/// When all slots are in use, a new connection displaces the oldest one of the address with the most. So clients at many
/// addresses that never log in cannot shut out others.
#[derive(Debug)]
pub(super) struct Entering {
    max_total: usize,
    max_per_address: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    total: usize,
    next_id: u64,
    /// Address → the connections in the order of their arrival; `None` for those of proxies.
    by_address: HashMap<Option<IpAddr>, BTreeMap<u64, CancellationToken>>,
}

/// The slot of a connection that is not logged in, which is free again on drop.
#[derive(Debug)]
pub(super) struct EnteringSlot {
    entering: Arc<Entering>,
    address: Option<IpAddr>,
    id: u64,
}

impl Entering {
    pub(super) fn new(max_total: usize, max_per_address: usize) -> Arc<Self> {
        Arc::new(Self { max_total, max_per_address, state: Mutex::default() })
    }

    /// Takes a slot for a client at an address; `None` for a proxy, to which the limit by address does not apply.
    ///
    /// `displaced` is cancelled if another connection displaces this one.
    ///
    /// # Errors
    ///
    /// The limit that is reached.
    pub(super) fn take(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        displaced: CancellationToken,
    ) -> Result<EnteringSlot, Full> {
        let mut state = self.state();
        let of_address = state.by_address.get(&address).map_or(0, BTreeMap::len);
        if address.is_some() && of_address >= self.max_per_address {
            return Err(Full::Address);
        }
        if state.total >= self.max_total {
            state.displace().ok_or(Full::Total)?;
        }
        let id = state.next_id;
        (state.next_id, state.total) = (id + 1, state.total + 1);
        state.by_address.entry(address).or_default().insert(id, displaced);
        Ok(EnteringSlot { entering: Arc::clone(self), address, id })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Displaces the oldest connection of the address with the most.
    fn displace(&mut self) -> Option<()> {
        let (address, connections) = self.by_address.iter().max_by_key(|(_, connections)| connections.len())?;
        let (address, id) = (*address, *connections.keys().next()?);
        self.remove(address, id)?.cancel();
        Some(())
    }

    fn remove(&mut self, address: Option<IpAddr>, id: u64) -> Option<CancellationToken> {
        let connections = self.by_address.get_mut(&address)?;
        let removed = connections.remove(&id)?;
        if connections.is_empty() {
            self.by_address.remove(&address);
        }
        self.total -= 1;
        Some(removed)
    }
}

impl Drop for EnteringSlot {
    fn drop(&mut self) {
        // A displaced connection has no slot any more.
        let _ = self.entering.state().remove(self.address, self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(entering: &Arc<Entering>, host: u8) -> Result<(EnteringSlot, CancellationToken), Full> {
        let displaced = CancellationToken::new();
        entering.take(Some([10, 0, 0, host].into()), displaced.clone()).map(|slot| (slot, displaced))
    }

    #[test]
    fn newcomer_displaces_oldest_connection_of_largest_address() {
        let entering = Entering::new(5, 3);
        let of_one: Vec<_> = (0..3).map(|_| take(&entering, 1).unwrap()).collect();
        let of_other: Vec<_> = (0..2).map(|_| take(&entering, 2).unwrap()).collect();
        assert_eq!(take(&entering, 1).unwrap_err(), Full::Address);
        let newcomer = take(&entering, 3).unwrap();
        let is_displaced = |of: &[(EnteringSlot, CancellationToken)]| -> Vec<_> {
            of.iter().map(|(_, displaced)| displaced.is_cancelled()).collect()
        };
        assert_eq!((is_displaced(&of_one), is_displaced(&of_other)), (vec![true, false, false], vec![false; 2]));
        drop(of_one);
        assert_eq!(entering.state().total, 3, "the slot of a displaced connection is not freed twice");
        drop((of_other, newcomer));
        assert!(entering.state().by_address.is_empty());
        assert_eq!(Entering::new(0, 1).take(None, CancellationToken::new()).unwrap_err(), Full::Total);
    }
}
