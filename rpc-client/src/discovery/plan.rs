//! [`Plan`]: the shares of the providers of one service, computed from a snapshot of them.

use std::sync::Arc;

use super::{
    traits::Traits,
    weights::Weights,
    zones::{ZoneMember, zone_weights},
};

/// A provider at the time of a snapshot.
#[derive(Debug, Clone)]
pub(super) struct Member<'a> {
    pub(super) traits: &'a Traits,
    /// The weight in the registry; all are 0 or all are above 0.
    pub(super) weight: f64,
    /// The part of the weight that slow start permits, above 0 and at most 1.
    pub(super) warmth: f64,
    /// Whether the provider accepts calls and is not ejected.
    pub(super) is_usable: bool,
}

/// The shares of the providers in the calls of a service: which ones a call may use, and with which probabilities.
///
/// A pure function of the [`Member`]s and of the zone of the consumer computes it, in time proportional to the providers. A
/// call reads it in constant time.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// The providers without tags, which serve calls without a tag; `None` if all have tags.
    untagged: Option<Group>,
    tagged: Vec<(Arc<str>, Group)>,
    /// The weights of all providers, reduced by slow start, relative to their mean.
    capacities: Vec<f64>,
    /// A number for each provider, which is equal for those of the same zone.
    zones: Vec<u32>,
    warmth: Vec<f64>,
}

/// The providers with one tag, or those without tags.
#[derive(Debug, PartialEq)]
pub(crate) struct Group {
    /// The weights in the registry, for affinity keys: all clients must agree on the owner of a key.
    owners: Weights,
    /// The same, reduced by slow start; `None` if no provider of the list is in its slow start.
    warm: Option<Weights>,
    /// The same, with the shares of the zones; `None` if zones make no difference.
    near: Option<Weights>,
}

impl Plan {
    /// Computes the shares for a consumer in zone `own_zone`.
    pub(super) fn new(members: &[Member<'_>], own_zone: Option<&str>) -> Self {
        let is_weighted = members.iter().any(|member| member.weight > 0.0);
        let weight = |member: &Member<'_>| if is_weighted { member.weight } else { 1.0 };
        let mut tags: Vec<&Arc<str>> = members.iter().flat_map(|member| &member.traits.tags).collect();
        tags.sort_unstable();
        tags.dedup();
        let is_warming = members.iter().any(|member| member.warmth < 1.0);
        let group = |contains: &dyn Fn(&Member<'_>) -> bool| {
            let contains = |member: &Member<'_>| contains(member) && weight(member) > 0.0;
            if !members.iter().any(contains) {
                return None;
            }
            let owned = |member: &Member<'_>| if contains(member) { weight(member) } else { 0.0 };
            let capacity = |member: &Member<'_>| owned(member) * member.warmth;
            let near = own_zone.and_then(|own| {
                let zoned = members.iter().map(|member| ZoneMember {
                    zone: member.traits.zone.as_deref(),
                    capacity: capacity(member),
                    is_usable: member.is_usable,
                });
                zone_weights(&zoned.collect::<Vec<_>>(), own)
            });
            Some(Group {
                owners: Weights::exact(members.iter().map(owned).collect()),
                warm: is_warming.then(|| Weights::exact(members.iter().map(capacity).collect())),
                near: near.map(Weights::exact),
            })
        };
        let capacities: Vec<f64> = members.iter().map(|member| weight(member) * member.warmth).collect();
        let mean = capacities.iter().sum::<f64>() / capacities.len() as f64;
        Self {
            untagged: group(&|member| member.traits.tags.is_empty()),
            tagged: tags
                .into_iter()
                .filter_map(|tag| Some((Arc::clone(tag), group(&|member| member.traits.has_tag(tag))?)))
                .collect(),
            capacities: capacities.into_iter().map(|capacity| capacity / mean).collect(),
            zones: numbers_of_zones(members),
            warmth: members.iter().map(|member| member.warmth).collect(),
        }
    }

    /// Returns the providers for calls with this tag, or without one.
    pub(crate) fn group(&self, tag: Option<&str>) -> Option<&Group> {
        match tag {
            None => self.untagged.as_ref(),
            Some(tag) => self.tagged.iter().find(|(own, _)| **own == *tag).map(|(_, group)| group),
        }
    }

    /// Returns the capacities by which the loads of providers are compared.
    pub(crate) fn capacities(&self) -> &[f64] {
        &self.capacities
    }

    /// Returns a number for each provider, which is equal for those of the same zone.
    pub(crate) fn zones(&self) -> &[u32] {
        &self.zones
    }

    /// Returns whether a provider is in its slow start, so that the shares change with time.
    pub(super) fn is_warming(&self) -> bool {
        self.warmth.iter().any(|warmth| *warmth < 1.0)
    }

    /// Returns the part of its weight that slow start permits a provider.
    pub(crate) fn warmth(&self, index: usize) -> f64 {
        self.warmth.get(index).copied().unwrap_or(1.0)
    }
}

impl Group {
    /// Returns the weights that determine the owner of an affinity key.
    pub(crate) fn owners(&self) -> &Weights {
        &self.owners
    }

    /// Returns the weights for draws from the preferred zones, if zones make a difference.
    pub(crate) fn near(&self) -> Option<&Weights> {
        self.near.as_ref()
    }

    /// Returns the weights for draws from all zones.
    pub(crate) fn all(&self) -> &Weights {
        self.warm.as_ref().unwrap_or(&self.owners)
    }

    /// Returns whether a provider belongs to the group.
    pub(crate) fn contains(&self, index: usize) -> bool {
        self.owners.of(index) > 0.0
    }

    /// Returns whether the zones prefer other providers, so that this one receives no calls while they are usable.
    pub(crate) fn is_far(&self, index: usize) -> bool {
        self.near.as_ref().is_some_and(|near| near.of(index) <= 0.0)
    }
}

fn numbers_of_zones(members: &[Member<'_>]) -> Vec<u32> {
    let mut names: Vec<_> = members.iter().map(|member| member.traits.zone.as_deref()).collect();
    names.sort_unstable();
    names.dedup();
    let number = |member: &Member<'_>| names.partition_point(|name| *name < member.traits.zone.as_deref()) as u32;
    members.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rpc_core::Instance;

    use super::*;

    fn traits(zone: &str, tags: &str) -> Traits {
        let instance = Instance::new(([127, 0, 0, 1], 1).into());
        Traits::of(&instance.with_metadata(Instance::ZONE, zone).with_metadata(Instance::TAGS, tags))
    }

    fn member(traits: &Traits) -> Member<'_> {
        Member { traits, weight: 1.0, warmth: 1.0, is_usable: true }
    }

    fn weights(weights: &Weights) -> Vec<f64> {
        (0..weights.len()).map(|index| weights.of(index)).collect()
    }

    #[test]
    fn tags_separate_the_providers() {
        let all = [traits("", ""), traits("", "gray"), traits("", "blue,gray"), traits("", "")];
        let plan = Plan::new(&all.each_ref().map(member), None);
        let members = |tag| plan.group(tag).map(|group| weights(group.all()));
        assert_eq!(members(None), Some(vec![1.0, 0.0, 0.0, 1.0]));
        assert_eq!(members(Some("gray")), Some(vec![0.0, 1.0, 1.0, 0.0]));
        assert_eq!(members(Some("blue")), Some(vec![0.0, 0.0, 1.0, 0.0]));
        assert_eq!(members(Some("green")), None);
        assert_eq!(Plan::new(&all[1..3].iter().map(member).collect::<Vec<_>>(), None).group(None), None);
    }

    #[test]
    fn slow_start_reduces_draws_and_not_the_owners_of_keys() {
        let all = [traits("", ""), traits("", "")];
        let mut members = all.each_ref().map(member);
        (members[0].warmth, members[1].weight) = (0.4, 3.0);
        let plan = Plan::new(&members, None);
        let group = plan.group(None).unwrap();
        assert_eq!((weights(group.all()), weights(group.owners())), (vec![0.4, 3.0], vec![1.0, 3.0]));
        assert_eq!(plan.warmth(0), 0.4);
        assert!((plan.capacities()[1] / plan.capacities()[0] - 7.5).abs() < 1e-9);
    }

    #[test]
    fn zones_apply_within_a_tag() {
        let all = [traits("a", ""), traits("b", ""), traits("a", "gray"), traits("b", "gray"), traits("b", "gray")];
        let plan = Plan::new(&all.each_ref().map(member), Some("b"));
        let near = |tag| plan.group(tag).and_then(Group::near).map(weights);
        assert_eq!(near(None), Some(vec![0.0, 1.0, 0.0, 0.0, 0.0]));
        assert_eq!(near(Some("gray")), Some(vec![0.0, 0.0, 0.0, 0.5, 0.5]));
        assert!(plan.group(None).is_some_and(|group| group.is_far(0) && !group.is_far(1)));
        assert_eq!(Plan::new(&all.each_ref().map(member), None).group(None).and_then(Group::near), None);
    }

    proptest! {
        /// A call uses only providers of its tag, each of which has a share in proportion to weight and warmth.
        #[test]
        fn shares_follow_weights_within_the_tag(
            each in prop::collection::vec((0_usize..3, 0_usize..4, 1_u32..5, 1_u32..=10, any::<bool>()), 1..30),
            zone in prop::option::of(0_usize..3),
        ) {
            let (zones, tags) = (["a", "b", ""], ["", "gray", "blue", "blue,gray"]);
            let all: Vec<_> = each.iter().map(|(zone, tag, ..)| traits(zones[*zone], tags[*tag])).collect();
            let members: Vec<_> = all.iter().zip(&each).map(|(traits, (_, _, weight, warmth, is_usable))| Member {
                traits,
                weight: f64::from(*weight),
                warmth: f64::from(*warmth) / 10.0,
                is_usable: *is_usable,
            }).collect();
            let plan = Plan::new(&members, zone.map(|zone| zones[zone]));
            for tag in [None, Some("gray"), Some("blue"), Some("green")] {
                let belongs = |member: &Member<'_>| match tag {
                    None => member.traits.tags.is_empty(),
                    Some(tag) => member.traits.has_tag(tag),
                };
                let Some(group) = plan.group(tag) else {
                    prop_assert!(!members.iter().any(belongs));
                    continue;
                };
                for (index, member) in members.iter().enumerate() {
                    prop_assert_eq!(group.contains(index), belongs(member));
                    let expected = if belongs(member) { member.weight * member.warmth } else { 0.0 };
                    prop_assert!((group.all().of(index) - expected).abs() < 1e-9);
                    let near = group.near().map_or(0.0, |near| near.of(index));
                    prop_assert!(near == 0.0 || belongs(member) && member.is_usable);
                }
            }
        }
    }
}
