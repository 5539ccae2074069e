//! Subsetting: the providers to which one of many clients connects.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use rpc_core::stable_hash;

use super::zones::{ZoneMember, zone_weights};

/// A provider, for the choice of a subset.
#[derive(Debug, Clone)]
pub(super) struct Candidate<'a> {
    pub(super) address: SocketAddr,
    pub(super) zone: Option<&'a str>,
    pub(super) tags: &'a [Arc<str>],
    pub(super) weight: f64,
    /// Whether the client has found that the provider takes no calls.
    pub(super) is_failing: bool,
}

/// Returns which of the providers the client connects to: `size` for each combination of tags, and all that fail among them.
///
/// Each client ranks the providers by a hash of its `key` and their addresses, and uses the first ones (rendezvous hashing,
/// as gRPC's random subsetting, A68). The choice is deterministic, and even over many clients. A provider that joins or
/// leaves changes the subsets of those clients only that rank it among their first. A failing provider does not count, so
/// that the next one replaces it. In a zone, the subset has the shares of the zones.
pub(super) fn subset(candidates: &[Candidate<'_>], key: u64, size: usize, own_zone: Option<&str>) -> Vec<bool> {
    let rank = |index: &usize| {
        let address = stable_hash(candidates[*index].address.to_string().as_bytes());
        stable_hash(&[key.to_le_bytes(), address.to_le_bytes()].concat())
    };
    let mut by_tags: BTreeMap<&[Arc<str>], Vec<usize>> = BTreeMap::new();
    for (index, candidate) in candidates.iter().enumerate() {
        by_tags.entry(candidate.tags).or_default().push(index);
    }
    let mut chosen = vec![false; candidates.len()];
    for mut indices in by_tags.into_values() {
        indices.sort_by_cached_key(rank);
        let members: Vec<_> = indices.iter().map(|index| &candidates[*index]).map(zone_member).collect();
        let weights = own_zone.and_then(|own| zone_weights(&members, own));
        // The providers of each zone, in the order of their ranks, with the share of the zone.
        let mut zones: BTreeMap<Option<&str>, (f64, Vec<usize>)> = BTreeMap::new();
        for (position, index) in indices.iter().enumerate() {
            // Without shares, all providers are in one zone.
            let (zone, share) = match &weights {
                Some(weights) => (candidates[*index].zone, weights[position]),
                None => (None, 1.0 / indices.len() as f64),
            };
            let (sum, of_zone) = zones.entry(zone).or_default();
            *sum += share;
            of_zone.push(*index);
        }
        for (share, of_zone) in zones.into_values() {
            let mut missing = (share * size as f64 - 1e-9).ceil() as usize;
            for index in of_zone {
                if missing == 0 {
                    break;
                }
                chosen[index] = true;
                missing -= usize::from(!candidates[index].is_failing);
            }
        }
    }
    chosen
}

fn zone_member<'a>(candidate: &Candidate<'a>) -> ZoneMember<'a> {
    ZoneMember { zone: candidate.zone, capacity: candidate.weight, is_usable: true }
}

/// The number of providers above which a client uses a subset of them.
pub(super) const MAX_WITHOUT_SUBSET: usize = 100;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidates(count: u16) -> Vec<Candidate<'static>> {
        let candidate = |number| Candidate {
            address: ([10, 0, (number >> 8) as u8, number as u8], 7000).into(),
            zone: None,
            tags: &[],
            weight: 1.0,
            is_failing: false,
        };
        (0..count).map(candidate).collect()
    }

    fn indices(chosen: &[bool]) -> Vec<usize> {
        (0..chosen.len()).filter(|index| chosen[*index]).collect()
    }

    #[test]
    fn clients_spread_evenly_over_the_providers() {
        let all = candidates(1000);
        let mut clients = vec![0_u32; all.len()];
        for client in 0..1000_u64 {
            let chosen = indices(&subset(&all, client, 20, None));
            assert_eq!(chosen.len(), 20);
            chosen.into_iter().for_each(|index| clients[index] += 1);
        }
        // A binomial distribution with mean 20 and standard deviation 4.4.
        assert!(clients.iter().all(|count| (3..=42).contains(count)), "{clients:?}");
    }

    #[test]
    fn failing_provider_is_replaced_by_the_next_one() {
        let mut all = candidates(300);
        let before = indices(&subset(&all, 7, 20, None));
        all[before[3]].is_failing = true;
        let after = indices(&subset(&all, 7, 20, None));
        assert!(after.len() == 21 && before.iter().all(|index| after.contains(index)), "{before:?} {after:?}");
        all[before[3]].is_failing = false;
        assert_eq!(indices(&subset(&all, 7, 20, None)), before);
    }

    #[test]
    fn subset_has_the_shares_of_the_zones() {
        let mut all = candidates(300);
        for (index, candidate) in all.iter_mut().enumerate() {
            candidate.zone = Some(if index < 50 { "a" } else { "b" });
        }
        let in_a = |own| {
            let chosen = indices(&subset(&all, 7, 20, Some(own)));
            (chosen.iter().filter(|index| **index < 50).count(), chosen.len())
        };
        assert_eq!(in_a("a"), (7, 21), "a third of the calls stay");
        assert_eq!(in_a("b"), (0, 20));
    }

    proptest! {
        /// The subset of each combination of tags has the wanted size, or all of its providers.
        #[test]
        fn each_combination_of_tags_has_its_subset(
            tagged in prop::collection::vec((0_usize..3, any::<bool>()), 1..120),
            key in any::<u64>(),
            size in 1_usize..30,
        ) {
            let tags: [Vec<Arc<str>>; 3] = [vec![], vec!["gray".into()], vec!["blue".into(), "gray".into()]];
            let mut all = candidates(tagged.len() as u16);
            for (candidate, (number, is_failing)) in all.iter_mut().zip(&tagged) {
                (candidate.tags, candidate.is_failing) = (&tags[*number], *is_failing);
            }
            let chosen = subset(&all, key, size, None);
            for tags in &tags {
                let of_tags = |index: &usize| all[*index].tags == &tags[..];
                let healthy = |index: &usize| of_tags(index) && !all[*index].is_failing;
                let wanted = (0..all.len()).filter(healthy).count().min(size);
                prop_assert_eq!((0..all.len()).filter(|index| healthy(index) && chosen[*index]).count(), wanted);
            }
            let mut reversed = all.clone();
            reversed.reverse();
            let mut of_reversed = subset(&reversed, key, size, None);
            of_reversed.reverse();
            prop_assert_eq!(chosen, of_reversed, "the order of the list makes no difference");
        }
    }
}
