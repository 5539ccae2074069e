//! The description of traced types, from the graph of the tracer.

use std::collections::{BTreeMap, HashMap};

use super::{
    super::types::{self, Definition, Field, Type, Variant},
    graph::{Content, FieldState, Form, Graph, Kind, NamedId, Slot, SlotId},
    names::short_name,
};

/// Describes the types of a graph.
pub(super) struct Output<'a> {
    graph: &'a Graph,
    names: HashMap<NamedId, String>,
    types: BTreeMap<String, Option<Definition>>,
}

impl<'a> Output<'a> {
    pub(super) fn new(graph: &'a Graph) -> Self {
        Self { graph, names: HashMap::new(), types: BTreeMap::new() }
    }

    /// Returns the definitions of all types that were described.
    pub(super) fn into_types(self) -> BTreeMap<String, Definition> {
        self.types.into_iter().filter_map(|(name, definition)| Some((name, definition?))).collect()
    }

    /// Describes the type of a slot.
    pub(super) fn describe(&mut self, slot: SlotId) -> Type {
        self.known(slot).unwrap_or_else(|| Type::Opaque(short_name(self.graph.slots[slot].rust_name)))
    }

    /// Describes the type of a slot; `None` if the tracer has not reached it.
    ///
    /// A type of which a part was not reached is opaque.
    fn known(&mut self, slot: SlotId) -> Option<Type> {
        let graph = self.graph;
        let Slot { form, opaque, rust_name, .. } = &graph.slots[slot];
        let known = match form {
            Form::Unknown => return opaque.clone().filter(|name| !name.is_empty()).map(Type::Opaque),
            Form::Leaf(leaf) => Some(leaf.clone()),
            Form::Option(inner) => self.known(*inner).map(|inner| Type::Option(Box::new(inner))),
            Form::Sequence(element) => self.known(*element).map(|element| Type::Sequence(Box::new(element))),
            Form::Map(key, value) => match (self.known(*key), self.known(*value)) {
                (Some(key), Some(value)) => Some(Type::Map(Box::new(key), Box::new(value))),
                _ => None,
            },
            Form::Tuple(elements) => self.elements(elements).map(tuple),
            Form::Named(id) => Some(Type::Named(self.name(*id))),
        };
        Some(known.unwrap_or_else(|| Type::Opaque(short_name(rust_name))))
    }

    fn elements(&mut self, elements: &[SlotId]) -> Option<Vec<Type>> {
        elements.iter().map(|element| self.known(*element)).collect()
    }

    /// Returns the unique name of a type, and describes the type if this is its first use.
    fn name(&mut self, id: NamedId) -> String {
        if let Some(name) = self.names.get(&id) {
            return name.clone();
        }
        let graph = self.graph;
        let key = &graph.named[id].key;
        let short = short_name(key.rust_name);
        // Types that implement serde by hand may have visitors of another type.
        let is_own = short.split('<').next() == Some(key.name);
        let base = if is_own { short } else { key.name.to_owned() };
        let numbered = (2..).map(|number| format!("{base}#{number}"));
        let name = std::iter::once(base.clone()).chain(numbered).find(|name| !self.types.contains_key(name));
        let name = name.expect("the numbers do not end");
        self.names.insert(id, name.clone());
        // Reserves the name, because the definition may refer to itself.
        self.types.insert(name.clone(), None);
        let definition = match &graph.named[id].kind {
            Kind::Struct(content) => Definition::Struct(self.content(content)),
            Kind::Enum(variants) => {
                let describe = |variant: &super::graph::VariantState| {
                    let content = self.content(&variant.content);
                    Variant::new(variant.name, content)
                };
                Definition::Enum(variants.iter().map(describe).collect())
            }
        };
        self.types.insert(name.clone(), Some(definition));
        name
    }

    fn content(&mut self, content: &Content) -> types::Content {
        match content {
            Content::Unit => types::Content::Unit,
            Content::Unseen | Content::Failed => types::Content::Newtype(Type::Opaque(String::new())),
            Content::Newtype(inner) => types::Content::Newtype(self.describe(*inner)),
            Content::Tuple(elements) => {
                types::Content::Tuple(elements.iter().map(|element| self.describe(*element)).collect())
            }
            Content::Fields(state) => types::Content::Fields(self.fields(&state.fields)),
        }
    }

    /// Describes the fields of a struct.
    pub(super) fn fields(&mut self, fields: &[FieldState]) -> Vec<Field> {
        let described = |field: &FieldState| {
            let ty = self.describe(field.slot);
            // Behind a field of which no value can be made, only an option is known to be optional.
            let is_optional = field.is_required.map_or(matches!(ty, Type::Option(_)), |is_required| !is_required);
            Field::new(field.name, ty, is_optional)
        };
        fields.iter().filter(|field| !field.is_alias).map(described).collect()
    }
}

/// Returns a tuple, or an array if it has at least three elements of one type.
fn tuple(elements: Vec<Type>) -> Type {
    match elements.split_first() {
        Some((first, rest)) if rest.len() > 1 && rest.iter().all(|element| element == first) => {
            Type::Array(Box::new(first.clone()), elements.len())
        }
        _ => Type::Tuple(elements),
    }
}
