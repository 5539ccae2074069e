//! [`Tracer`]: finds the forms of types by deserializing them from a deserializer that records what they ask for.
//!
//! Each pass deserializes one value of a type. The value is small, except on the way to the nearest part that is not
//! known yet: a field whose form or necessity is unknown, or a variant that was not seen. The last pass knows all parts,
//! or no pass leads to the others.
//!
//! | topic | module |
//! |---|---|
//! | the forms that are known | `graph` |
//! | the way to the nearest unknown part | `distance` |
//! | the deserializer | `at`, `deserializer`, `access`, `error` |
//! | the fields, variants and values that it offers | `decisions`, `samples` |
//! | the description | `output`, `names` |

mod access;
mod at;
mod decisions;
mod deserializer;
mod distance;
mod error;
mod graph;
mod names;
mod output;
mod samples;

use std::{
    any::type_name,
    cell::RefCell,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use serde::de::DeserializeOwned;

use self::{
    at::within,
    graph::{Content, FAR, Form, Graph, Kind, SlotId},
    output::Output,
};
use super::types::{Definition, Field, Type};

/// Traces types.
#[derive(Default)]
pub(super) struct Tracer {
    graph: RefCell<Graph>,
}

/// A traced type.
#[derive(Clone, Copy)]
pub(super) struct Traced(SlotId);

impl Tracer {
    /// Traces a type. Panics of its `Deserialize` make it opaque.
    pub(super) fn trace<T: DeserializeOwned>(&mut self) -> Traced {
        let root = self.graph.get_mut().new_slot();
        for _ in 0..MAX_TRACE_PASSES {
            let before = {
                let graph = self.graph.get_mut();
                graph.measure();
                if graph.distance(root) == FAR {
                    break;
                }
                graph.path.clear();
                graph.active.clear();
                (graph.steps, graph.is_handled) = (0, false);
                graph.version
            };
            let pass = || within(&self.graph, root, type_name::<T>(), |at| T::deserialize(at).map(drop));
            let outcome = catch_unwind(AssertUnwindSafe(pass));
            let graph = self.graph.get_mut();
            if outcome.is_err() {
                let innermost = graph.path.last().copied().unwrap_or(root);
                let name = graph.slots[innermost].rust_name;
                graph.slots[innermost].form = Form::Unknown;
                graph.slots[innermost].opaque = None;
                graph.blame(innermost, if name.is_empty() { type_name::<T>() } else { name });
            }
            if graph.version == before {
                graph.give_up_nearest(root);
            }
        }
        let entry = &mut self.graph.get_mut().slots[root];
        if entry.rust_name.is_empty() {
            entry.rust_name = type_name::<T>();
        }
        Traced(root)
    }

    /// Describes traced types with `describe`, and returns the definitions of those with a name.
    pub(super) fn describe<R>(
        &self,
        describe: impl FnOnce(&mut Description<'_>) -> R,
    ) -> (R, BTreeMap<String, Definition>) {
        let graph = self.graph.borrow();
        let mut description = Description { graph: &graph, output: Output::new(&graph) };
        let described = describe(&mut description);
        (described, description.output.into_types())
    }
}

/// The descriptions of traced types.
pub(super) struct Description<'a> {
    graph: &'a Graph,
    output: Output<'a>,
}

impl Description<'_> {
    /// Describes a type.
    pub(super) fn of(&mut self, traced: Traced) -> Type {
        self.output.describe(traced.0)
    }

    /// Describes the fields of a struct, without the struct itself.
    pub(super) fn fields(&mut self, traced: Traced) -> Vec<Field> {
        let graph = self.graph;
        match &graph.slots[traced.0].form {
            Form::Named(id) => match &graph.named[*id].kind {
                Kind::Struct(Content::Fields(state)) => self.output.fields(&state.fields),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }
}

/// Returns the description of a type that was not traced.
pub(super) fn untraced(rust_name: &str) -> Type {
    Type::Opaque(names::short_name(rust_name))
}

/// The largest number of passes for one type.
const MAX_TRACE_PASSES: usize = 5_000;

#[cfg(test)]
mod tests;
