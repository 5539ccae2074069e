//! [`At`]: the place of the value that is deserialized.

use std::{any::type_name, cell::RefCell};

use serde::de::DeserializeSeed;

use super::{
    super::types::Type,
    error::TraceError,
    graph::{Content, Form, Graph, Kind, NamedKey, SlotId},
    names::short_name,
};

/// The deserializer for the value of one slot.
pub(super) struct At<'g> {
    pub(super) graph: &'g RefCell<Graph>,
    pub(super) slot: SlotId,
}

/// Deserializes the value of a slot, and attributes a failure to it if no part of the value has caused it.
pub(super) fn visit<S: DeserializeSeed<'static>>(
    graph: &RefCell<Graph>,
    slot: SlotId,
    seed: S,
) -> Result<S::Value, TraceError> {
    within(graph, slot, type_name::<S::Value>(), |at| seed.deserialize(at))
}

/// As [`visit`], for a value that `deserialize` makes.
pub(super) fn within<'g, T>(
    graph: &'g RefCell<Graph>,
    slot: SlotId,
    rust_name: &'static str,
    deserialize: impl FnOnce(At<'g>) -> Result<T, TraceError>,
) -> Result<T, TraceError> {
    {
        let mut graph = graph.borrow_mut();
        if graph.is_hopeless(slot) {
            graph.is_handled = true;
            return Err(TraceError::Other);
        }
        graph.path.push(slot);
    }
    let result = deserialize(At { graph, slot });
    let mut graph = graph.borrow_mut();
    graph.path.pop();
    match &result {
        Ok(_) => graph.is_handled = false,
        Err(_) if !graph.is_handled => graph.blame(slot, rust_name),
        Err(_) => {}
    }
    result
}

impl<'g> At<'g> {
    /// Records the form for which the type asks. Returns the form with its slots, and the number of failed attempts.
    ///
    /// # Errors
    ///
    /// An error if the type has asked for another form before, or a limit is reached.
    pub(super) fn ask<V>(
        &self,
        is_same: impl FnOnce(&Form) -> bool,
        form: impl FnOnce(&mut Graph) -> Form,
    ) -> Result<(Form, usize), TraceError> {
        let mut graph = self.graph.borrow_mut();
        graph.steps += 1;
        if graph.path.len() > MAX_TRACE_DEPTH || graph.steps > MAX_TRACE_STEPS || graph.slots.len() > MAX_TRACE_SLOTS {
            return Err(TraceError::Other);
        }
        let slot = self.slot;
        if graph.slots[slot].form == Form::Unknown {
            if graph.slots[slot].opaque.is_some() {
                graph.is_handled = true;
                return Err(TraceError::Other);
            }
            let form = form(&mut graph);
            graph.change();
            let entry = &mut graph.slots[slot];
            (entry.form, entry.rust_name) = (form, type_name::<V>());
        } else if !is_same(&graph.slots[slot].form) {
            let name = short_name(graph.slots[slot].rust_name);
            let entry = &mut graph.slots[slot];
            (entry.form, entry.opaque) = (Form::Unknown, Some(name));
            graph.is_handled = true;
            graph.change();
            return Err(TraceError::Other);
        }
        let entry = &graph.slots[slot];
        Ok((entry.form.clone(), entry.attempts))
    }

    pub(super) fn ask_leaf<V>(&self, leaf: Type) -> Result<usize, TraceError> {
        let (_, attempts) =
            self.ask::<V>(|form| matches!(form, Form::Leaf(known) if *known == leaf), |_| Form::Leaf(leaf.clone()))?;
        Ok(attempts)
    }

    pub(super) fn ask_named<V>(
        &self,
        key: NamedKey,
        kind: impl FnOnce(&mut Graph) -> Kind,
    ) -> Result<usize, TraceError> {
        let id = self.graph.borrow_mut().named(key, kind);
        self.ask::<V>(|form| *form == Form::Named(id), |_| Form::Named(id))?;
        Ok(id)
    }

    /// Asks for a struct whose content `new` creates, deserializes it, and notes that its value is being made.
    pub(super) fn with_struct<V>(
        &self,
        (kind, name, members): (&'static str, &'static str, &'static [&'static str]),
        new: impl FnOnce(&mut Graph) -> Content,
        deserialize: impl FnOnce(usize, Content) -> Result<V, TraceError>,
    ) -> Result<V, TraceError> {
        let key = NamedKey { rust_name: type_name::<V>(), name, kind, members };
        let id = self.ask_named::<V>(key, |graph| Kind::Struct(new(graph)))?;
        let content = self.graph.borrow().content(id, None).clone();
        self.graph.borrow_mut().active.push((id, None));
        let result = deserialize(id, content);
        self.graph.borrow_mut().active.pop();
        result
    }
}

/// The deepest nesting of values that the tracer follows.
const MAX_TRACE_DEPTH: usize = 64;
/// The largest number of values that one pass deserializes.
const MAX_TRACE_STEPS: usize = 100_000;
/// The largest number of places for values in the types of one service.
const MAX_TRACE_SLOTS: usize = 50_000;
