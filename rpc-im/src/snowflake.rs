//! [`Snowflake`]: ids that are unique in the cluster and grow with time.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::identity::NodeId;

/// Makes ids of 64 bits: 0, then 41 bits of milliseconds since 2024, 10 of the node's number, 12 that count within the millisecond
/// (the form that Twitter gave them in 2010).
///
/// When the clock goes back, or more than 4096 ids are made in a millisecond, the time in the ids goes on from the last one, so
/// ids neither repeat nor shrink and nobody waits; a clock that catches up is followed again. A process that is started again
/// after its clock went back is told by [`above`](Self::above) where it was.
#[derive(Debug)]
pub(crate) struct Snowflake {
    node: u64,
    /// Milliseconds since 2024 and the count within, as one number.
    last: Mutex<u64>,
}

impl Snowflake {
    pub(crate) fn new(node: NodeId) -> Self {
        Self { node: u64::from(node.number()), last: Mutex::new(0) }
    }

    /// Makes all further ids greater than `id`, which this node has made before.
    pub(crate) fn above(&self, id: u64) {
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
        // The count overflows into the milliseconds, which is what is meant.
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
    fn an_id_has_time_node_and_count() {
        let ids = snowflake(5);
        assert_eq!(ids.next_at(at(7)), 7 << 22 | 5 << 12);
        assert_eq!(ids.next_at(at(7)), 7 << 22 | 5 << 12 | 1);
        assert_eq!(ids.next_at(at(8)), 8 << 22 | 5 << 12);
    }

    #[test]
    fn ids_grow_though_the_clock_goes_back() {
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
    fn ids_grow_over_a_restart_after_which_the_clock_is_behind() {
        let last = snowflake(1).next_at(at(1_000_000));
        let again = snowflake(1);
        again.above(last);
        assert!(again.next_at(at(10)) > last);
    }

    #[test]
    fn more_than_4096_in_a_millisecond_take_of_the_next_one() {
        let ids = snowflake(1);
        let made: Vec<_> = (0..5000).map(|_| ids.next_at(at(3))).collect();
        assert!(made.is_sorted_by(|one, next| one < next));
        assert_eq!(millisecond(made[4095]), 3);
        assert_eq!(millisecond(made[4096]), 4);
    }

    #[test]
    fn two_nodes_never_make_the_same() {
        assert_ne!(snowflake(1).next_at(at(3)), snowflake(2).next_at(at(3)));
    }
}
