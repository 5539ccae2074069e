//! Zone affinity: the shares of the zones in the calls of a consumer.

use std::collections::BTreeMap;

/// A provider, for the shares of zones.
#[derive(Debug, Clone, Copy)]
pub(super) struct ZoneMember<'a> {
    pub(super) zone: Option<&'a str>,
    /// Its capacity relative to the others; 0 for one that receives no calls of this kind.
    pub(super) capacity: f64,
    pub(super) is_usable: bool,
}

/// Returns the weights of the draws of a consumer in zone `own`; `None` if zones make no difference.
///
/// As Envoy's zone-aware routing, with the assumption that each zone has the same number of consumers: each zone then
/// receives the calls of one zone, a part 1/Z of all. A zone with at least this part of the usable capacity serves its own
/// consumers alone. A zone with less serves them in proportion, and the rest goes to the zones with more than 1/Z, in
/// proportion to the excess. Unusable providers have weight 0.
pub(super) fn zone_weights(members: &[ZoneMember<'_>], own: &str) -> Option<Vec<f64>> {
    let mut zones: BTreeMap<Option<&str>, f64> = BTreeMap::new();
    for member in members.iter().filter(|member| member.capacity > 0.0) {
        *zones.entry(member.zone).or_default() += if member.is_usable { member.capacity } else { 0.0 };
    }
    let total: f64 = zones.values().sum();
    let local = zones.get(&Some(own)).copied().filter(|local| *local > 0.0)?;
    if zones.len() < 2 {
        return None;
    }
    let fair = 1.0 / zones.len() as f64;
    // The rounding of three thirds must not send a call to another zone.
    let local_share = if local / total > fair - 1e-9 { 1.0 } else { local / total / fair };
    let excess = |capacity: f64| (capacity / total - fair).max(0.0);
    let others = || zones.iter().filter(|(zone, _)| **zone != Some(own));
    let all_excess: f64 = others().map(|(_, capacity)| excess(*capacity)).sum();
    let weight = |member: &ZoneMember<'_>| {
        if !member.is_usable || member.capacity <= 0.0 {
            return 0.0;
        }
        let capacity = zones[&member.zone];
        let share = if member.zone == Some(own) {
            local_share
        } else if all_excess > 0.0 {
            (1.0 - local_share) * excess(capacity) / all_excess
        } else {
            0.0
        };
        share * member.capacity / capacity
    };
    Some(members.iter().map(weight).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ZONES: [Option<&str>; 4] = [Some("a"), Some("b"), Some("c"), None];

    fn members(zones: &[(usize, usize)]) -> Vec<ZoneMember<'static>> {
        let of = |(zone, count): &(usize, usize)| {
            vec![ZoneMember { zone: ZONES[*zone], capacity: 1.0, is_usable: true }; *count]
        };
        zones.iter().flat_map(of).collect()
    }

    fn shares(members: &[ZoneMember<'_>], own: &str) -> Option<[f64; 4]> {
        let weights = zone_weights(members, own)?;
        Some(ZONES.map(|zone| {
            members.iter().zip(&weights).filter(|(member, _)| member.zone == zone).map(|(_, weight)| weight).sum()
        }))
    }

    #[test]
    fn zone_with_enough_providers_keeps_its_calls() {
        let own = |providers: &[(usize, usize)], own| {
            let shares = shares(&members(providers), own).unwrap();
            let local = ZONES.iter().position(|zone| *zone == Some(own)).unwrap();
            assert!((shares[local] - 1.0).abs() < 1e-9 && shares.iter().filter(|share| **share == 0.0).count() == 3);
        };
        own(&[(0, 10), (1, 10), (2, 10)], "a");
        own(&[(0, 1), (1, 1)], "b");
        own(&[(0, 20), (1, 5)], "a");
    }

    #[test]
    fn small_zone_overflows_into_larger_ones() {
        let [a, b, c, _] = shares(&members(&[(0, 5), (1, 10), (2, 10)]), "a").unwrap();
        assert!((a - 0.6).abs() < 1e-9 && (b - 0.2).abs() < 1e-9 && (c - 0.2).abs() < 1e-9, "{a} {b} {c}");
        // The third zone has no excess.
        let [a, b, c, _] = shares(&members(&[(0, 2), (1, 10), (2, 3)]), "a").unwrap();
        assert!((a - 0.4).abs() < 1e-9 && (b - 0.6).abs() < 1e-9 && c == 0.0, "{a} {b} {c}");
    }

    #[test]
    fn outage_of_the_own_zone_moves_its_calls() {
        let mut providers = members(&[(0, 10), (1, 10)]);
        (0..5).for_each(|index| providers[index].is_usable = false);
        let [a, b, ..] = shares(&providers, "a").unwrap();
        assert!((a - 2.0 / 3.0).abs() < 1e-9 && (b - 1.0 / 3.0).abs() < 1e-9, "{a} {b}");
        (0..10).for_each(|index| providers[index].is_usable = false);
        assert_eq!(shares(&providers, "a"), None, "all other providers share the calls");
    }

    #[test]
    fn single_or_unknown_zone_makes_no_difference() {
        assert_eq!(shares(&members(&[(0, 3)]), "a"), None);
        assert_eq!(shares(&members(&[(0, 3), (1, 3)]), "c"), None);
        assert_eq!(shares(&members(&[(3, 3)]), "a"), None);
    }

    proptest! {
        /// Over all zones with one consumer each, no zone receives more than its part of the capacity if it has less
        /// than a fair part.
        #[test]
        fn weights_sum_to_one_and_overload_no_small_zone(
            each in prop::collection::vec((0_usize..3, 0_u32..4, any::<bool>()), 1..40),
        ) {
            let providers: Vec<_> = each.iter().map(|(zone, capacity, is_usable)| {
                ZoneMember { zone: ZONES[*zone], capacity: f64::from(*capacity), is_usable: *is_usable }
            }).collect();
            let total: f64 = providers.iter().filter(|one| one.is_usable).map(|one| one.capacity).sum();
            let consumers: Vec<_> = ["a", "b", "c"].iter().filter_map(|own| shares(&providers, own)).collect();
            for shares in &consumers {
                prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{shares:?}");
            }
            let zones = (0..3).filter(|zone| providers.iter().any(|one| one.zone == ZONES[*zone] && one.capacity > 0.0));
            let fair = 1.0 / zones.count().max(1) as f64;
            for zone in 0..3 {
                let usable = providers.iter().filter(|one| one.zone == ZONES[zone] && one.is_usable);
                let part = usable.map(|one| one.capacity).sum::<f64>() / total;
                let received: f64 = consumers.iter().map(|shares| shares[zone]).sum::<f64>() * fair;
                prop_assert!(received <= part.max(fair) + 1e-9, "zone {zone} has {part} and receives {received}");
            }
        }
    }
}
