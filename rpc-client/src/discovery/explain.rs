//! Why a call can or cannot use each provider of a list.

use std::fmt::Write as _;

use super::providers::ProviderList;
use crate::endpoint::ejection::Phase;

impl ProviderList {
    /// Returns the state of a provider, and why calls with `tag` use or do not use it.
    pub(crate) fn describe(&self, index: usize, tag: Option<&str>) -> String {
        let (endpoint, traits) = (&self.endpoints[index], &self.traits[index]);
        let mut text = self.state(endpoint).to_string();
        let mut add = |part: &dyn std::fmt::Display| _ = write!(text, "; {part}");
        if endpoint.ejection().phase() == Phase::Probation {
            add(&"one call at a time after its ejection");
        }
        let warmth = self.plan.warmth(index);
        if warmth < 1.0 {
            add(&format_args!("slow start at {:.0} %", warmth * 100.0));
        }
        if let Some(zone) = &traits.zone {
            add(&format_args!("zone {zone}"));
        }
        if !traits.tags.is_empty() {
            add(&format_args!("tags {}", traits.tags.join(",")));
        }
        let group = self.plan.group(tag);
        match (tag, &group) {
            (None, _) if !traits.tags.is_empty() => add(&"only for calls with one of its tags"),
            (Some(tag), Some(group)) if !group.contains(index) => {
                add(&format_args!("other providers have the tag {tag}"))
            }
            (Some(tag), None) => add(&format_args!("no provider has the tag {tag}")),
            (_, Some(group)) if group.contains(index) && group.is_far(index) => {
                add(&"the zone of this client is preferred")
            }
            _ => {}
        }
        text
    }
}
