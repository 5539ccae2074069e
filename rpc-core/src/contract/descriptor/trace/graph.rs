//! [`Graph`]: the forms of the types that were traced so far.

use std::collections::HashMap;

use super::{super::types::Type, names::short_name, samples};

/// The number of a [`Slot`].
pub(super) type SlotId = usize;
/// The number of a [`Named`] type.
pub(super) type NamedId = usize;

/// The forms of the types that were traced so far, and the state of the pass that executes.
#[derive(Default)]
pub(super) struct Graph {
    pub(super) slots: Vec<Slot>,
    pub(super) named: Vec<Named>,
    by_key: HashMap<NamedKey, NamedId>,
    /// The slots whose values the pass is deserializing, from the outside to the inside.
    pub(super) path: Vec<SlotId>,
    /// The types whose values the pass is deserializing, with the variant of an enum.
    pub(super) active: Vec<(NamedId, Option<usize>)>,
    /// The number of values that the pass has deserialized.
    pub(super) steps: usize,
    /// The number of changes; a pass without one makes no progress.
    pub(super) version: u64,
    /// Whether the failure of the pass is attributed to a slot or a field.
    pub(super) is_handled: bool,
    /// The number of steps from each slot to the nearest unknown part, at the start of the pass.
    pub(super) distances: Vec<usize>,
}

/// A place for a value: a root, a field, an element.
pub(super) struct Slot {
    pub(super) form: Form,
    /// The name of the Rust type that was deserialized first.
    pub(super) rust_name: &'static str,
    /// The number of the value that is offered next.
    pub(super) attempts: usize,
    /// The name of the type if no value of it can be made.
    pub(super) opaque: Option<String>,
}

/// The form of the value in a slot.
#[derive(Clone, PartialEq)]
pub(super) enum Form {
    Unknown,
    /// A value without parts.
    Leaf(Type),
    Option(SlotId),
    Sequence(SlotId),
    Tuple(Vec<SlotId>),
    Map(SlotId, SlotId),
    Named(NamedId),
}

/// The identity of a struct or an enum: its Rust type, its name for serde, and its kind and names of fields or variants.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct NamedKey {
    pub(super) rust_name: &'static str,
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) members: &'static [&'static str],
}

/// A struct or an enum.
pub(super) struct Named {
    pub(super) key: NamedKey,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Struct(Content),
    Enum(Vec<VariantState>),
}

/// The content of a struct or a variant.
#[derive(Clone)]
pub(super) enum Content {
    /// A variant that was not deserialized yet.
    Unseen,
    /// A variant that cannot be deserialized.
    Failed,
    Unit,
    Newtype(SlotId),
    Tuple(Vec<SlotId>),
    Fields(Fields),
}

#[derive(Clone)]
pub(super) struct Fields {
    pub(super) fields: Vec<FieldState>,
    /// Whether it is known which fields a value needs.
    pub(super) is_settled: bool,
}

#[derive(Clone)]
pub(super) struct FieldState {
    pub(super) name: &'static str,
    pub(super) slot: SlotId,
    pub(super) is_required: Option<bool>,
    /// Whether this is a second name of another field.
    pub(super) is_alias: bool,
}

pub(super) struct VariantState {
    pub(super) name: &'static str,
    pub(super) content: Content,
    /// The number of steps in which a value of the variant was made; `None` if none was.
    pub(super) cost: Option<usize>,
}

/// The distance to an unknown part if there is none.
pub(super) const FAR: usize = usize::MAX;

impl Graph {
    pub(super) fn new_slot(&mut self) -> SlotId {
        self.slots.push(Slot { form: Form::Unknown, rust_name: "", attempts: 0, opaque: None });
        self.slots.len() - 1
    }

    pub(super) fn new_slots(&mut self, count: usize) -> Vec<SlotId> {
        (0..count).map(|_| self.new_slot()).collect()
    }

    pub(super) fn new_fields(&mut self, names: &'static [&'static str]) -> Fields {
        let field = |name| FieldState { name, slot: self.new_slot(), is_required: None, is_alias: false };
        Fields { fields: names.iter().copied().map(field).collect(), is_settled: names.is_empty() }
    }

    /// Returns the type with this identity, or adds it.
    pub(super) fn named(&mut self, key: NamedKey, kind: impl FnOnce(&mut Self) -> Kind) -> NamedId {
        if let Some(id) = self.by_key.get(&key) {
            return *id;
        }
        let kind = kind(self);
        let id = self.named.len();
        self.named.push(Named { key: key.clone(), kind });
        self.by_key.insert(key, id);
        id
    }

    pub(super) fn change(&mut self) {
        self.version += 1;
    }

    /// Returns the form of the content of a struct, or of the variant with this number.
    pub(super) fn content(&self, id: NamedId, variant: Option<usize>) -> &Content {
        match (&self.named[id].kind, variant) {
            (Kind::Struct(content), _) => content,
            (Kind::Enum(variants), variant) => &variants[variant.unwrap_or_default()].content,
        }
    }

    pub(super) fn content_mut(&mut self, id: NamedId, variant: Option<usize>) -> &mut Content {
        match (&mut self.named[id].kind, variant) {
            (Kind::Struct(content), _) => content,
            (Kind::Enum(variants), variant) => &mut variants[variant.unwrap_or_default()].content,
        }
    }

    pub(super) fn distance(&self, slot: SlotId) -> usize {
        self.distances.get(slot).copied().unwrap_or(FAR)
    }

    /// Returns whether a pass that deserializes the value of this slot may learn something.
    pub(super) fn is_wanted(&self, slot: SlotId) -> bool {
        let is_new = matches!(self.slots[slot].form, Form::Unknown) && self.slots[slot].opaque.is_none();
        (is_new || self.distance(slot) != FAR) && !self.path.contains(&slot)
    }

    /// Returns whether no value can be made for this slot, and no pass may learn something in it.
    pub(super) fn is_hopeless(&self, slot: SlotId) -> bool {
        self.slots[slot].opaque.is_some() && self.distance(slot) == FAR
    }

    /// Attributes the failure of the pass to the value of a slot, whose Rust type is `rust_name`.
    pub(super) fn blame(&mut self, slot: SlotId, rust_name: &'static str) {
        self.is_handled = true;
        let Slot { form, attempts, opaque, rust_name: first_name } = &mut self.slots[slot];
        if opaque.is_some() {
            return;
        }
        *attempts += 1;
        let offered = match form {
            Form::Leaf(leaf) => samples::count(leaf),
            Form::Option(_) | Form::Sequence(_) | Form::Map(..) => 2,
            Form::Unknown | Form::Tuple(_) | Form::Named(_) => 1,
        };
        if *attempts >= offered {
            let name = short_name(rust_name);
            let is_generated = name.contains("__") && !first_name.is_empty();
            *opaque = Some(if is_generated { short_name(first_name) } else { name });
        }
        self.change();
    }

    /// Ends the search for the nearest unknown part, to which no pass leads.
    pub(super) fn give_up_nearest(&mut self, root: SlotId) {
        self.change();
        let mut slot = root;
        loop {
            let next = match &self.slots[slot].form {
                Form::Unknown | Form::Leaf(_) => break,
                Form::Option(inner) | Form::Sequence(inner) => *inner,
                Form::Tuple(elements) => self.nearest(elements),
                Form::Map(key, value) => self.nearest(&[*key, *value]),
                Form::Named(id) => match self.nearest_in(*id) {
                    Some(next) => next,
                    None => return self.give_up_named(*id),
                },
            };
            if self.distance(next) >= self.distance(slot) {
                break;
            }
            slot = next;
        }
        self.slots[slot].opaque.get_or_insert_default();
    }

    fn nearest(&self, slots: &[SlotId]) -> SlotId {
        slots.iter().copied().min_by_key(|slot| self.distance(*slot)).unwrap_or_default()
    }

    /// Returns the slot of a type that is nearest to an unknown part, unless the type itself is one.
    fn nearest_in(&self, id: NamedId) -> Option<SlotId> {
        if self.is_unfinished(id) {
            return None;
        }
        let slots = match &self.named[id].kind {
            Kind::Struct(content) => content.slots(),
            Kind::Enum(variants) => variants.iter().flat_map(|variant| variant.content.slots()).collect(),
        };
        (!slots.is_empty()).then(|| self.nearest(&slots))
    }

    fn give_up_named(&mut self, id: NamedId) {
        let settle = |content: &mut Content| match content {
            Content::Unseen => *content = Content::Failed,
            Content::Fields(fields) => fields.is_settled = true,
            _ => {}
        };
        match &mut self.named[id].kind {
            Kind::Struct(content) => settle(content),
            Kind::Enum(variants) => {
                let next = variants.iter_mut().find(|variant| variant.content.is_unfinished());
                next.map(|variant| settle(&mut variant.content)).unwrap_or_default();
            }
        }
    }

    /// Returns whether the type itself, and not only one of its parts, is not known in full.
    pub(super) fn is_unfinished(&self, id: NamedId) -> bool {
        match &self.named[id].kind {
            Kind::Struct(content) => content.is_unfinished(),
            Kind::Enum(variants) => variants.iter().any(|variant| variant.content.is_unfinished()),
        }
    }
}

impl Content {
    fn is_unfinished(&self) -> bool {
        match self {
            Self::Unseen => true,
            Self::Fields(fields) => !fields.is_settled,
            Self::Failed | Self::Unit | Self::Newtype(_) | Self::Tuple(_) => false,
        }
    }

    pub(super) fn slots(&self) -> Vec<SlotId> {
        match self {
            Self::Unseen | Self::Failed | Self::Unit => Vec::new(),
            Self::Newtype(slot) => vec![*slot],
            Self::Tuple(slots) => slots.clone(),
            Self::Fields(fields) => {
                fields.fields.iter().filter(|field| !field.is_alias).map(|field| field.slot).collect()
            }
        }
    }
}
