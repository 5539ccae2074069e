//! Subsetting: the providers to which one of many clients connects.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use rpc_core::stable_hash;

use super::{
    standing::Standing,
    zones::{ZoneMember, zone_weights},
};

/// A provider, for the choice of a subset.
#[derive(Debug, Clone)]
pub(super) struct Candidate<'a> {
    pub(super) address: SocketAddr,
    pub(super) zone: Option<&'a str>,
    pub(super) tags: &'a [Arc<str>],
    pub(super) weight: f64,
    pub(super) standing: Standing,
    /// Whether the client uses it at present.
    pub(super) is_member: bool,
}

/// How a client orders the providers, of which it uses the first ones.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    /// By a hash of this key of the client and the address (rendezvous hashing, as gRPC's random subsetting, A68).
    Random(u64),
    /// By rounds in which clients with consecutive numbers use consecutive providers (deterministic subsetting, as in
    /// Google's Site Reliability Engineering, chapter 20).
    Numbered(u32),
}

/// Returns which of the providers the client connects to: `size` for each combination of tags, and some in addition while
/// members fail or are new.
///
/// The choice is a pure function, and even over many clients. A provider that joins or leaves changes the subsets of those
/// clients only that have it among their first. The next provider in the order replaces one that fails, which remains a
/// member. After that, the replacement stays until the member has worked for a while, so that a provider that fails again
/// and again causes no connects. Providers with incompatible contracts are last in the order. In a zone, the subset has the
/// shares of the zones.
pub(super) fn subset(candidates: &[Candidate<'_>], order: Order, size: usize, own_zone: Option<&str>) -> Vec<bool> {
    let mut by_tags: BTreeMap<&[Arc<str>], Vec<usize>> = BTreeMap::new();
    for (index, candidate) in candidates.iter().enumerate() {
        by_tags.entry(candidate.tags).or_default().push(index);
    }
    let mut chosen = vec![false; candidates.len()];
    for indices in by_tags.into_values() {
        let members: Vec<_> = indices.iter().map(|index| &candidates[*index]).map(zone_member).collect();
        let weights = own_zone.and_then(|own| zone_weights(&members, own));
        // The providers of each zone, with the share of the zone.
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
        for (share, mut of_zone) in zones.into_values() {
            let wanted = (share * size as f64 - 1e-9).ceil() as usize;
            order.sort(&mut of_zone, candidates, wanted);
            for index in choose(&of_zone, candidates, wanted) {
                chosen[index] = true;
            }
        }
    }
    chosen
}

/// Chooses from providers in their order.
fn choose(ordered: &[usize], candidates: &[Candidate<'_>], wanted: usize) -> Vec<usize> {
    let limit = wanted.saturating_mul(MAX_MEMBERS_PER_WANTED);
    let (mut chosen, mut working, mut new) = (Vec::new(), 0, 0);
    for index in ordered {
        if working == wanted || chosen.len() == limit {
            break;
        }
        chosen.push(*index);
        match candidates[*index].standing {
            Standing::Failing => continue,
            Standing::New => new += 1,
            Standing::Working | Standing::Incompatible => {}
        }
        working += 1;
    }
    // The members that these replace stay until they have worked for a while.
    let stays = |index: &&usize| {
        let Candidate { is_member, standing, .. } = candidates[**index];
        is_member && matches!(standing, Standing::Working | Standing::New)
    };
    let (others, limit) = (&ordered[chosen.len()..], limit - chosen.len());
    chosen.extend(others.iter().filter(stays).take(new.min(limit)));
    chosen
}

impl Order {
    /// Sorts providers, of which the client uses the first `wanted` ones.
    fn sort(self, indices: &mut [usize], candidates: &[Candidate<'_>], wanted: usize) {
        let (key, rotation) = match self {
            Self::Random(key) => (key, 0),
            Self::Numbered(number) => {
                let clients_per_round = (indices.len() / wanted.max(1)).max(1);
                let number = number as usize;
                ((number / clients_per_round) as u64, number % clients_per_round * wanted)
            }
        };
        let rank = |index: &usize| {
            let address = stable_hash(candidates[*index].address.to_string().as_bytes());
            stable_hash(&[key.to_le_bytes(), address.to_le_bytes()].concat())
        };
        indices.sort_by_cached_key(rank);
        indices.rotate_left(rotation.min(indices.len()));
        indices.sort_by_key(|index| candidates[*index].standing == Standing::Incompatible);
    }
}

fn zone_member<'a>(candidate: &Candidate<'a>) -> ZoneMember<'a> {
    ZoneMember { zone: candidate.zone, capacity: candidate.weight, is_usable: true }
}

/// The number of providers above which a client uses a subset of them.
pub(super) const MAX_WITHOUT_SUBSET: usize = 100;
/// The largest number of members, including those that fail, for each one that the client wants.
const MAX_MEMBERS_PER_WANTED: usize = 5;

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
            standing: Standing::Working,
            is_member: false,
        };
        (0..count).map(candidate).collect()
    }

    fn indices(chosen: &[bool]) -> Vec<usize> {
        (0..chosen.len()).filter(|index| chosen[*index]).collect()
    }

    /// Chooses a subset as the tracker does, and returns its members.
    fn update(all: &mut [Candidate<'_>], order: Order) -> Vec<usize> {
        let chosen = subset(all, order, 20, None);
        for (candidate, is_member) in all.iter_mut().zip(&chosen) {
            candidate.is_member = *is_member;
        }
        indices(&chosen)
    }

    const KEY: Order = Order::Random(7);

    #[test]
    fn clients_spread_evenly_over_the_providers() {
        let all = candidates(1000);
        let mut clients = vec![0_u32; all.len()];
        for client in 0..1000_u64 {
            let chosen = indices(&subset(&all, Order::Random(client), 20, None));
            assert_eq!(chosen.len(), 20);
            chosen.into_iter().for_each(|index| clients[index] += 1);
        }
        // A binomial distribution with mean 20 and standard deviation 4.4.
        assert!(clients.iter().all(|count| (3..=42).contains(count)), "{clients:?}");
    }

    #[test]
    fn numbered_clients_use_all_providers_equally() {
        let all = candidates(1000);
        let users = |clients: std::ops::Range<u32>| {
            let mut users = vec![0_u32; all.len()];
            for number in clients {
                let chosen = indices(&subset(&all, Order::Numbered(number), 20, None));
                assert_eq!(chosen.len(), 20);
                chosen.into_iter().for_each(|index| users[index] += 1);
            }
            users
        };
        assert_eq!(users(0..50), [1; 1000]);
        assert_eq!(users(0..150), [3; 1000]);
        assert!(users(0..75).iter().all(|count| (1..=2).contains(count)));
    }

    #[test]
    fn new_provider_changes_few_subsets_of_numbered_clients() {
        let (before, after) = (candidates(1000), candidates(1001));
        let changed = |number| {
            let chosen = |all: &[_]| indices(&subset(all, Order::Numbered(number), 20, None));
            let (before, after) = (chosen(&before), chosen(&after));
            after.iter().filter(|index| !before.contains(index)).count()
        };
        assert!((0..50).all(|number| changed(number) <= 1));
    }

    #[test]
    fn failing_provider_is_replaced_by_the_next_one() {
        let mut all = candidates(300);
        let before = indices(&subset(&all, KEY, 20, None));
        all[before[3]].standing = Standing::Failing;
        let after = indices(&subset(&all, KEY, 20, None));
        assert!(after.len() == 21 && before.iter().all(|index| after.contains(index)), "{before:?} {after:?}");
        all[before[3]].standing = Standing::Working;
        assert_eq!(indices(&subset(&all, KEY, 20, None)), before);
    }

    #[test]
    fn replacement_stays_until_the_member_has_proven() {
        let mut all = candidates(300);
        let before = update(&mut all, KEY);
        all[before[3]].standing = Standing::Failing;
        let with_replacement = update(&mut all, KEY);
        for _ in 0..5 {
            for standing in [Standing::New, Standing::Failing] {
                all[before[3]].standing = standing;
                assert_eq!(update(&mut all, KEY), with_replacement, "{standing:?}");
            }
        }
        all[before[3]].standing = Standing::Working;
        assert_eq!(update(&mut all, KEY), before);
    }

    /// Many new providers replace most members. These stay until the new ones have proven.
    #[test]
    fn new_providers_join_before_members_leave() {
        let mut all = candidates(150);
        let before = update(&mut all, KEY);
        let mut grown = candidates(1000);
        grown[..150].clone_from_slice(&all);
        grown[150..].iter_mut().for_each(|candidate| candidate.standing = Standing::New);
        let joined = update(&mut grown, KEY);
        assert!(before.iter().all(|index| joined.contains(index)) && joined.len() <= 40, "{joined:?}");
        assert_eq!(update(&mut grown, KEY), joined);
        grown.iter_mut().for_each(|candidate| candidate.standing = Standing::Working);
        assert_eq!(update(&mut grown, KEY).len(), 20);
    }

    #[test]
    fn incompatible_providers_are_replaced() {
        let mut all = candidates(300);
        let before = update(&mut all, KEY);
        before.iter().for_each(|index| all[*index].standing = Standing::Incompatible);
        let after = update(&mut all, KEY);
        assert!(after.len() == 20 && after.iter().all(|index| !before.contains(index)), "{after:?}");
        all.iter_mut().for_each(|candidate| candidate.standing = Standing::Incompatible);
        assert_eq!(update(&mut all, KEY), before, "all are incompatible");
    }

    /// An outage of all providers does not connect the client to all of them.
    #[test]
    fn failing_members_have_a_limit() {
        let mut all = candidates(1000);
        for _ in 0..60 {
            for index in update(&mut all, KEY) {
                all[index].standing = Standing::Failing;
            }
        }
        assert_eq!(update(&mut all, KEY).len(), 100);
    }

    #[test]
    fn subset_has_the_shares_of_the_zones() {
        let mut all = candidates(300);
        for (index, candidate) in all.iter_mut().enumerate() {
            candidate.zone = Some(if index < 50 { "a" } else { "b" });
        }
        let in_a = |own| {
            let chosen = indices(&subset(&all, KEY, 20, Some(own)));
            (chosen.iter().filter(|index| **index < 50).count(), chosen.len())
        };
        assert_eq!(in_a("a"), (7, 21), "a third of the calls stay");
        assert_eq!(in_a("b"), (0, 20));
    }

    proptest! {
        /// The subset of each combination of tags has the wanted size, or all of its providers, up to the limit.
        #[test]
        fn each_combination_of_tags_has_its_subset(
            tagged in prop::collection::vec((0_usize..3, 0_usize..4, any::<bool>()), 1..120),
            key in any::<u64>(),
            is_numbered in any::<bool>(),
            size in 1_usize..30,
        ) {
            let tags: [Vec<Arc<str>>; 3] = [vec![], vec!["gray".into()], vec!["blue".into(), "gray".into()]];
            let standings = [Standing::Working, Standing::New, Standing::Failing, Standing::Incompatible];
            let mut all = candidates(tagged.len() as u16);
            for (candidate, (number, standing, is_member)) in all.iter_mut().zip(&tagged) {
                (candidate.tags, candidate.standing) = (&tags[*number], standings[*standing]);
                candidate.is_member = *is_member;
            }
            let order = if is_numbered { Order::Numbered(key as u32) } else { Order::Random(key) };
            let chosen = subset(&all, order, size, None);
            for tags in &tags {
                let of_tags = |index: &usize| all[*index].tags == &tags[..];
                let count = |filter: &dyn Fn(&usize) -> bool| {
                    (0..all.len()).filter(|index| of_tags(index) && filter(index)).count()
                };
                let healthy = |index: &usize| all[*index].standing != Standing::Failing;
                let (wanted, members) = (count(&healthy).min(size), count(&|index| chosen[*index]));
                let working = count(&|index| healthy(index) && chosen[*index]);
                prop_assert!(members <= size * MAX_MEMBERS_PER_WANTED);
                prop_assert!(working >= wanted || members == size * MAX_MEMBERS_PER_WANTED);
                // Each additional member waits for one that is new.
                let new = count(&|index| chosen[*index] && all[*index].standing == Standing::New);
                prop_assert!(working <= size + new);
            }
            let mut reversed = all.clone();
            reversed.reverse();
            let mut of_reversed = subset(&reversed, order, size, None);
            of_reversed.reverse();
            prop_assert_eq!(chosen, of_reversed, "the order of the list makes no difference");
        }
    }
}
