//! The decisions of a pass: which fields and which variant it offers, and what their outcome means.

use super::{
    error::TraceError,
    graph::{Content, FAR, Graph, Kind, NamedId},
};

/// The fields that a pass offers to a struct.
pub(super) struct Plan {
    /// The numbers of the fields, in the order of the offer.
    pub(super) fields: Vec<usize>,
    /// Whether the offer contains only the fields that are known to be required, to find the others.
    is_probe: bool,
}

/// A struct, or the variant of an enum.
type Owner = (NamedId, Option<usize>);

impl Graph {
    /// Returns the fields to offer: the required ones first, and last those of which no value can be made.
    pub(super) fn plan(&self, owner: Owner) -> Plan {
        let Content::Fields(state) = self.content(owner.0, owner.1) else {
            return Plan { fields: Vec::new(), is_probe: false };
        };
        let is_recursive = self.active.iter().filter(|active| **active == owner).count() > 1;
        let is_probe = !state.is_settled && !is_recursive;
        let is_offered = |number: &usize| {
            let field = &state.fields[*number];
            let is_required = field.is_required == Some(true);
            !field.is_alias && (is_required || (!is_probe && !is_recursive && self.is_wanted(field.slot)))
        };
        let mut fields: Vec<usize> = (0..state.fields.len()).filter(is_offered).collect();
        fields.sort_by_key(|number| {
            let field = &state.fields[*number];
            let distance = if self.is_wanted(field.slot) { self.distance(field.slot) } else { FAR };
            (self.is_hopeless(field.slot), field.is_required != Some(true), distance)
        });
        Plan { fields, is_probe }
    }

    /// Learns from the outcome of an offer of fields; `last` is the number of the last one that the type has read.
    pub(super) fn finish_fields(
        &mut self,
        owner: Owner,
        plan: &Plan,
        last: Option<usize>,
        result: Result<(), TraceError>,
    ) {
        let is_handled = self.is_handled;
        let is_blocked = plan.is_probe && {
            let slots = self.content(owner.0, owner.1).clone();
            let Content::Fields(state) = &slots else { return };
            plan.fields.iter().any(|number| self.is_hopeless(state.fields[*number].slot))
        };
        let Content::Fields(state) = self.content_mut(owner.0, owner.1) else { return };
        let has_changed = match result {
            Ok(()) if plan.is_probe => {
                state.is_settled = true;
                let is_open = |field: &&mut super::graph::FieldState| field.is_required.is_none();
                state.fields.iter_mut().filter(is_open).for_each(|field| field.is_required = Some(false));
                true
            }
            Ok(()) => false,
            Err(TraceError::Missing(name)) if !is_handled => {
                let missing = state.fields.iter_mut().enumerate().find(|(_, field)| field.name == name);
                match missing {
                    Some((number, field)) if !plan.fields.contains(&number) => {
                        field.is_required = Some(true);
                        true
                    }
                    _ => return,
                }
            }
            Err(TraceError::Repeated(name)) if !is_handled => {
                // The names of a field follow each other, and the one with which serde names it is not the alias.
                let last_at = plan.fields.iter().position(|number| Some(*number) == last);
                let is_first_name = |at: &usize| state.fields[plan.fields[*at]].name == name;
                let Some(at) = last_at.and_then(|at| if is_first_name(&at) { at.checked_sub(1) } else { Some(at) })
                else {
                    return;
                };
                state.fields[plan.fields[at]].is_alias = true;
                true
            }
            Err(TraceError::Unknown) if !is_handled => {
                let Some(number) = last else { return };
                state.fields[number].is_alias = true;
                true
            }
            // The fields behind one of which no value can be made remain as they are.
            Err(_) if is_blocked && !state.is_settled => {
                state.is_settled = true;
                true
            }
            Err(_) => return,
        };
        if has_changed {
            self.change();
            self.is_handled = result.is_err();
        }
    }

    /// Returns the variant to offer: one that was not seen, one that leads to an unknown part, or the smallest one.
    pub(super) fn choose_variant(&self, id: NamedId) -> Option<usize> {
        let Kind::Enum(variants) = &self.named[id].kind else { return None };
        let is_active = |number: usize| self.active.contains(&(id, Some(number)));
        let free = || (0..variants.len()).filter(|number| !is_active(*number));
        let distance = |number: usize| match &variants[number].content {
            Content::Fields(state) if !state.is_settled => 0,
            content => content.slots().iter().map(|slot| self.distance(*slot)).min().unwrap_or(FAR),
        };
        let unseen = free().find(|number| matches!(variants[*number].content, Content::Unseen));
        let leading = || free().filter(|number| distance(*number) != FAR).min_by_key(|number| distance(*number));
        let smallest = || {
            let made = (0..variants.len()).filter_map(|number| Some((variants[number].cost?, number)));
            made.min().map(|(_, number)| number)
        };
        let any = || free().find(|number| !matches!(variants[*number].content, Content::Failed));
        unseen.or_else(leading).or_else(smallest).or_else(any)
    }

    /// Learns from the outcome of the offer of a variant.
    pub(super) fn finish_variant(&mut self, id: NamedId, number: usize, start: usize, is_made: bool) {
        let took = self.steps - start;
        let is_handled = self.is_handled;
        let Kind::Enum(variants) = &mut self.named[id].kind else { return };
        let variant = &mut variants[number];
        if is_made {
            variant.cost = Some(variant.cost.map_or(took, |cost| cost.min(took)));
        } else if !is_handled && matches!(variant.content, Content::Unseen) {
            variant.content = Content::Failed;
            self.is_handled = true;
            self.change();
        }
    }
}
