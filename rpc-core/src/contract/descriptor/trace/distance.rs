//! The distances that lead each pass of the tracer to the nearest unknown part.

use super::graph::{Content, FAR, Form, Graph, Kind, SlotId};

impl Graph {
    /// Computes the distance of each slot from the nearest unknown part.
    pub(super) fn measure(&mut self) {
        let mut slots = vec![FAR; self.slots.len()];
        let mut named = vec![FAR; self.named.len()];
        let is_stuck = |slots: &[usize], slot: SlotId| self.slots[slot].opaque.is_some() && slots[slot] == FAR;
        // Elements behind one of which no value can be made are out of reach.
        let in_order = |slots: &[usize], elements: &[SlotId]| {
            let reachable = elements.iter().position(|slot| is_stuck(slots, *slot)).unwrap_or(elements.len());
            nearest(slots, &elements[..reachable])
        };
        loop {
            let mut has_changed = false;
            for (id, known) in named.iter_mut().enumerate() {
                let of_content = |content: &Content| match content {
                    Content::Unseen => 0,
                    Content::Fields(fields) if !fields.is_settled => 0,
                    Content::Tuple(elements) => in_order(&slots, elements),
                    content => nearest(&slots, &content.slots()),
                };
                let distance = match &self.named[id].kind {
                    Kind::Struct(content) => of_content(content),
                    Kind::Enum(variants) => {
                        variants.iter().map(|variant| of_content(&variant.content)).min().unwrap_or(FAR)
                    }
                };
                has_changed |= lower(known, distance);
            }
            for slot in 0..slots.len() {
                let distance = match &self.slots[slot].form {
                    Form::Unknown if self.slots[slot].opaque.is_none() => 0,
                    Form::Unknown | Form::Leaf(_) => FAR,
                    Form::Option(inner) | Form::Sequence(inner) => slots[*inner].saturating_add(1),
                    Form::Tuple(elements) => in_order(&slots, elements).saturating_add(1),
                    Form::Map(key, value) => in_order(&slots, &[*key, *value]).saturating_add(1),
                    Form::Named(id) => named[*id].saturating_add(1),
                };
                has_changed |= lower(&mut slots[slot], distance);
            }
            if !has_changed {
                break;
            }
        }
        self.distances = slots;
    }
}

fn nearest(distances: &[usize], slots: &[SlotId]) -> usize {
    slots.iter().map(|slot| distances[*slot]).min().unwrap_or(FAR)
}

fn lower(distance: &mut usize, candidate: usize) -> bool {
    let is_lower = candidate < *distance;
    if is_lower {
        *distance = candidate;
    }
    is_lower
}
