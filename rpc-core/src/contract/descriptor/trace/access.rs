//! The parts of values that the tracer offers: elements, entries, fields and variants.

use std::{any::type_name, cell::RefCell};

use serde::de::{
    DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor, value::BorrowedStrDeserializer,
};

use super::{
    at::{visit, within},
    decisions::Plan,
    error::TraceError,
    graph::{Content, Graph, NamedId, SlotId},
};

/// The elements of a sequence or a tuple.
pub(super) struct Elements<'g> {
    graph: &'g RefCell<Graph>,
    slots: std::vec::IntoIter<SlotId>,
}

impl<'g> Elements<'g> {
    pub(super) fn new(graph: &'g RefCell<Graph>, slots: Vec<SlotId>) -> Self {
        Self { graph, slots: slots.into_iter() }
    }
}

impl SeqAccess<'static> for Elements<'_> {
    type Error = TraceError;

    fn next_element_seed<S: DeserializeSeed<'static>>(&mut self, seed: S) -> Result<Option<S::Value>, TraceError> {
        self.slots.next().map(|slot| visit(self.graph, slot, seed)).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.slots.len())
    }
}

/// The only entry of a map, or none.
pub(super) struct Entries<'g> {
    graph: &'g RefCell<Graph>,
    key: Option<SlotId>,
    value: SlotId,
}

impl<'g> Entries<'g> {
    pub(super) fn new(graph: &'g RefCell<Graph>, key: SlotId, value: SlotId, is_empty: bool) -> Self {
        Self { graph, key: (!is_empty).then_some(key), value }
    }
}

impl MapAccess<'static> for Entries<'_> {
    type Error = TraceError;

    fn next_key_seed<S: DeserializeSeed<'static>>(&mut self, seed: S) -> Result<Option<S::Value>, TraceError> {
        self.key.take().map(|key| visit(self.graph, key, seed)).transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'static>>(&mut self, seed: S) -> Result<S::Value, TraceError> {
        visit(self.graph, self.value, seed)
    }
}

/// The fields of a struct or of a variant.
pub(super) struct FieldsAccess<'a> {
    graph: &'a RefCell<Graph>,
    owner: (NamedId, Option<usize>),
    rest: std::slice::Iter<'a, usize>,
    current: Option<usize>,
}

impl<'a> FieldsAccess<'a> {
    pub(super) fn new(graph: &'a RefCell<Graph>, owner: (NamedId, Option<usize>), plan: &'a Plan) -> Self {
        Self { graph, owner, rest: plan.fields.iter(), current: None }
    }

    /// Returns the number of the last field that was read.
    pub(super) fn last_field(&self) -> Option<usize> {
        self.current
    }

    fn name_and_slot(&self, number: usize) -> Option<(&'static str, SlotId)> {
        match self.graph.borrow().content(self.owner.0, self.owner.1) {
            Content::Fields(state) => state.fields.get(number).map(|field| (field.name, field.slot)),
            _ => None,
        }
    }
}

impl MapAccess<'static> for &mut FieldsAccess<'_> {
    type Error = TraceError;

    fn next_key_seed<S: DeserializeSeed<'static>>(&mut self, seed: S) -> Result<Option<S::Value>, TraceError> {
        let Some(number) = self.rest.next() else { return Ok(None) };
        self.current = Some(*number);
        let (name, _) = self.name_and_slot(*number).ok_or(TraceError::Other)?;
        seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'static>>(&mut self, seed: S) -> Result<S::Value, TraceError> {
        let field = self.current.and_then(|number| self.name_and_slot(number));
        let (_, slot) = field.ok_or(TraceError::Other)?;
        visit(self.graph, slot, seed)
    }
}

/// A variant of an enum.
pub(super) struct OneVariant<'g> {
    pub(super) graph: &'g RefCell<Graph>,
    pub(super) id: NamedId,
    pub(super) variant: usize,
    pub(super) name: &'static str,
}

impl<'g> OneVariant<'g> {
    /// Returns the content of the variant, which is that of `new` if it was not seen before.
    fn content(&self, new: impl FnOnce(&mut Graph) -> Content) -> Content {
        let mut graph = self.graph.borrow_mut();
        if matches!(graph.content(self.id, Some(self.variant)), Content::Unseen) {
            let content = new(&mut graph);
            *graph.content_mut(self.id, Some(self.variant)) = content;
            graph.change();
        }
        graph.content(self.id, Some(self.variant)).clone()
    }
}

impl<'g> EnumAccess<'static> for OneVariant<'g> {
    type Error = TraceError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'static>>(self, seed: S) -> Result<(S::Value, Self), TraceError> {
        let value = seed.deserialize(BorrowedStrDeserializer::new(self.name))?;
        Ok((value, self))
    }
}

impl<'g> VariantAccess<'static> for OneVariant<'g> {
    type Error = TraceError;

    fn unit_variant(self) -> Result<(), TraceError> {
        match self.content(|_| Content::Unit) {
            Content::Unit => Ok(()),
            _ => Err(TraceError::Other),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'static>>(self, seed: S) -> Result<S::Value, TraceError> {
        match self.content(|graph| Content::Newtype(graph.new_slot())) {
            Content::Newtype(slot) => within(self.graph, slot, type_name::<S::Value>(), |at| seed.deserialize(at)),
            _ => Err(TraceError::Other),
        }
    }

    fn tuple_variant<V: Visitor<'static>>(self, length: usize, visitor: V) -> Result<V::Value, TraceError> {
        match self.content(|graph| Content::Tuple(graph.new_slots(length))) {
            Content::Tuple(slots) if slots.len() == length => visitor.visit_seq(Elements::new(self.graph, slots)),
            _ => Err(TraceError::Other),
        }
    }

    fn struct_variant<V: Visitor<'static>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        match self.content(|graph| Content::Fields(graph.new_fields(fields))) {
            Content::Fields(_) => visit_fields(self.graph, (self.id, Some(self.variant)), visitor),
            _ => Err(TraceError::Other),
        }
    }
}

/// Deserializes the content of a struct or a variant that has named fields.
pub(super) fn visit_fields<V: Visitor<'static>>(
    graph: &RefCell<Graph>,
    owner: (usize, Option<usize>),
    visitor: V,
) -> Result<V::Value, TraceError> {
    let plan = graph.borrow().plan(owner);
    let mut access = FieldsAccess::new(graph, owner, &plan);
    let result = visitor.visit_map(&mut access);
    let last = access.last_field();
    graph.borrow_mut().finish_fields(owner, &plan, last, result.as_ref().map(drop).map_err(|error| *error));
    result
}
