//! [`Snowflake`]: a generator of ids that are unique in the cluster and ordered by time.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::identity::NodeId;

/// Generates ids of 64 bits in the format of Twitter's Snowflake (2010).
///
/// An id has a zero bit, 41 bits of milliseconds since 2024, 10 bits of the node's id, and 12 bits of a counter within
/// the millisecond.
///
/// When the clock is set back, or more than 4096 ids are generated in one millisecond, the time in the ids continues
/// from the last id. So ids neither repeat nor decrease, and callers never wait; the ids follow the clock again once it
/// has caught up. A restarted process passes its greatest earlier id to [`advance_past`](Self::advance_past), because
/// the clock may have been set back in between.
#[derive(Debug)]
pub(crate) struct Snowflake {
    node: u64,
    /// The milliseconds since 2024 and the counter, as one number.
    last: Mutex<u64>,
}

impl Snowflake {
    pub(crate) fn new(node: NodeId) -> Self {
        Self { node: u64::from(node.number()), last: Mutex::new(0) }
    }

    /// Makes all further ids greater than `id`, which this node generated before.
    pub(crate) fn advance_past(&self, id: u64) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = (*last).max(millisecond(id) << COUNT_BITS | id & COUNT_MASK);
    }

    pub(crate) fn next(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.next_at(now)
    }

    fn next_at(&self, since_1970: Duration) -> u64 {
        let milliseconds = since_1970.as_millis().saturating_sub(BEGIN) as u64;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // The addition may carry from the counter into the milliseconds, which is intended.
        *last = (*last + 1).max(milliseconds << COUNT_BITS);
        (*last >> COUNT_BITS) << (COUNT_BITS + NODE_BITS) | self.node << COUNT_BITS | *last & COUNT_MASK
    }
}

fn millisecond(id: u64) -> u64 {
    id >> (COUNT_BITS + NODE_BITS)
}

/// 2024-01-01T00:00:00Z in milliseconds since 1970.
const BEGIN: u128 = 1_704_067_200_000;
const NODE_BITS: u32 = 10;
const COUNT_BITS: u32 = 12;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(BEGIN as u64 + milliseconds)
    }

    fn snowflake(node: u16) -> Snowflake {
        Snowflake::new(NodeId::new(node).unwrap())
    }

    #[test]
    fn id_has_time_node_and_counter() {
        let ids = snowflake(5);
        assert_eq!(ids.next_at(at(7)), 7 << 22 | 5 << 12);
        assert_eq!(ids.next_at(at(7)), 7 << 22 | 5 << 12 | 1);
        assert_eq!(ids.next_at(at(8)), 8 << 22 | 5 << 12);
    }

    #[test]
    fn ids_grow_when_the_clock_is_set_back() {
        let ids = snowflake(1);
        let mut last = ids.next_at(at(1_000_000));
        for millisecond in [999_999, 0, 500_000, 1_000_000, 1_000_001] {
            let id = ids.next_at(at(millisecond));
            assert!(id > last, "{id} after {last}");
            last = id;
        }
        assert_eq!(millisecond(last), 1_000_001);
    }

    #[test]
    fn ids_grow_across_a_restart_with_an_earlier_clock() {
        let last = snowflake(1).next_at(at(1_000_000));
        let restarted = snowflake(1);
        restarted.advance_past(last);
        assert!(restarted.next_at(at(10)) > last);
    }

    #[test]
    fn id_4097_of_a_millisecond_uses_the_next_one() {
        let snowflake = snowflake(1);
        let ids: Vec<_> = (0..5000).map(|_| snowflake.next_at(at(3))).collect();
        assert!(ids.is_sorted_by(|one, next| one < next));
        assert_eq!(millisecond(ids[4095]), 3);
        assert_eq!(millisecond(ids[4096]), 4);
    }

    #[test]
    fn two_nodes_generate_different_ids() {
        assert_ne!(snowflake(1).next_at(at(3)), snowflake(2).next_at(at(3)));
    }
}
