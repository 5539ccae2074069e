//! [`compare`]: the changes from one version of a contract to another, and what each of them breaks.

use std::{collections::HashSet, fmt};

use serde::{Deserialize, Serialize};

use super::{
    model::{Contract, MethodContract},
    reading::{Form, MAX_COMPARED_DEPTH, reads},
    types::{Content, Field, Type, Variant},
};

/// A change of a contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Change {
    /// The kind of the change.
    pub rule: Rule,
    /// The changed part, such as `place/order.lines[].price`: the method, then a parameter, `result`, `error` or `items`.
    pub path: String,
    /// The part in the old contract; `None` if it was added.
    #[serde(default)]
    pub old: Option<String>,
    /// The part in the new contract; `None` if it was removed.
    #[serde(default)]
    pub new: Option<String>,
    /// The consequences of the change.
    pub breaks: Breaks,
}

/// The consequences of a change while callers and providers of both versions exist, in either direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Breaks {
    /// Calls in bincode between peers without digests, which find values by their position.
    pub position: bool,
    /// Calls in JSON and MessagePack, and in bincode between peers with digests.
    pub name: bool,
    /// The source code of callers or providers that update to the new contract.
    pub source: bool,
}

/// The kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Rule {
    /// The service has another name or version: clients do not find it.
    ServiceName,
    /// A method was added.
    MethodAdded,
    /// A method was removed.
    MethodRemoved,
    /// A method has other streams, or became or ceased to be one-way.
    MethodForm,
    /// A method became or ceased to be a once method, or its scope changed.
    MethodOnce,
    /// A field or a parameter was added.
    FieldAdded,
    /// A field or a parameter was removed.
    FieldRemoved,
    /// Fields or parameters are in another order.
    FieldOrder,
    /// A variant was added.
    VariantAdded,
    /// A variant was removed.
    VariantRemoved,
    /// Variants are in another order, or one was added before others.
    VariantOrder,
    /// A value has another type.
    Type,
    /// A Rust type has another name and the same form.
    TypeName,
}

impl Rule {
    /// Returns the name, such as `field-added`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServiceName => "service-name",
            Self::MethodAdded => "method-added",
            Self::MethodRemoved => "method-removed",
            Self::MethodForm => "method-form",
            Self::MethodOnce => "method-once",
            Self::FieldAdded => "field-added",
            Self::FieldRemoved => "field-removed",
            Self::FieldOrder => "field-order",
            Self::VariantAdded => "variant-added",
            Self::VariantRemoved => "variant-removed",
            Self::VariantOrder => "variant-order",
            Self::Type => "type",
            Self::TypeName => "type-name",
        }
    }
}

impl Breaks {
    const NOTHING: Self = Self { position: false, name: false, source: false };
    const SOURCE: Self = Self { source: true, ..Self::NOTHING };
    const POSITION: Self = Self { position: true, ..Self::NOTHING };
    const ALL: Self = Self { position: true, name: true, source: true };

    fn in_source(name: bool) -> Self {
        Self { position: true, name, source: true }
    }

    /// Returns whether the change breaks nothing.
    pub fn is_empty(self) -> bool {
        self == Self::NOTHING
    }
}

impl fmt::Display for Breaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [(self.position, "wire by position"), (self.name, "wire by name"), (self.source, "source")];
        let broken: Vec<_> = parts.iter().filter(|(is_broken, _)| *is_broken).map(|(_, part)| *part).collect();
        if broken.is_empty() { f.write_str("nothing") } else { f.write_str(&broken.join(", ")) }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: `{}`", self.rule.name(), self.path)?;
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => write!(f, " from {old} to {new}")?,
            (None, Some(part)) | (Some(part), None) => write!(f, " ({part})")?,
            (None, None) => {}
        }
        write!(f, ", breaks {}", self.breaks)
    }
}

/// Returns the changes from `old` to `new`, in the order of the methods, and what each of them breaks.
///
/// Docs, timeouts, default codecs and idempotency are no changes.
pub fn compare(old: &Contract, new: &Contract) -> Vec<Change> {
    let mut comparison = Comparison { old, new, path: Vec::new(), depth: 0, seen: HashSet::new(), changes: Vec::new() };
    comparison.contracts();
    comparison.changes
}

struct Comparison<'a> {
    old: &'a Contract,
    new: &'a Contract,
    path: Vec<String>,
    depth: usize,
    /// The pairs of named types that were compared.
    seen: HashSet<(&'a str, &'a str)>,
    changes: Vec<Change>,
}

impl<'a> Comparison<'a> {
    fn add(&mut self, rule: Rule, old: Option<String>, new: Option<String>, breaks: Breaks) {
        let mut path = String::new();
        for (depth, part) in self.path.iter().enumerate() {
            path += match depth {
                0 => "",
                1 => "/",
                _ if part.starts_with('[') => "",
                _ => ".",
            };
            path += part;
        }
        self.changes.push(Change { rule, path, old, new, breaks });
    }

    fn within(&mut self, part: &str, compare: impl FnOnce(&mut Self)) {
        self.path.push(part.to_owned());
        compare(self);
        self.path.pop();
    }

    fn contracts(&mut self) {
        let (old, new) = (self.old, self.new);
        let id = |contract: &Contract| format!("{}:{}", contract.name, contract.version);
        if id(old) != id(new) {
            let breaks = Breaks { source: false, ..Breaks::ALL };
            self.add(Rule::ServiceName, Some(id(old)), Some(id(new)), breaks);
        }
        for method in &old.methods {
            self.within(&method.name, |comparison| match new.method(&method.name) {
                Some(counterpart) => comparison.methods(method, counterpart),
                None => comparison.add(Rule::MethodRemoved, None, None, Breaks::ALL),
            });
        }
        for method in new.methods.iter().filter(|method| old.method(&method.name).is_none()) {
            self.within(&method.name, |comparison| comparison.add(Rule::MethodAdded, None, None, Breaks::SOURCE));
        }
    }

    fn methods(&mut self, old: &'a MethodContract, new: &'a MethodContract) {
        if old.form != new.form {
            let form = |method: &MethodContract| Some(format!("{:?}", method.form));
            self.add(Rule::MethodForm, form(old), form(new), Breaks::ALL);
            return;
        }
        if old.once != new.once {
            let once = |method: &MethodContract| Some(format!("{:?}", method.once));
            let breaks = Breaks { source: false, ..Breaks::ALL };
            self.add(Rule::MethodOnce, once(old), once(new), breaks);
        }
        self.fields(&old.parameters, &new.parameters);
        self.part("items of the caller", &old.caller_items, &new.caller_items);
        self.within("result", |comparison| comparison.types(&old.result, &new.result));
        self.part("error", &old.error, &new.error);
        self.part("items", &old.items, &new.items);
        self.part("error of the items", &old.items_error, &new.items_error);
    }

    fn part(&mut self, name: &str, old: &'a Option<Type>, new: &'a Option<Type>) {
        self.within(name, |comparison| match (old, new) {
            (Some(old), Some(new)) => comparison.types(old, new),
            (None, None) => {}
            // The error of a method: calls that succeed are not affected.
            (old, new) => {
                let text = |ty: &Option<Type>| ty.as_ref().map(Type::to_string);
                comparison.add(Rule::Type, text(old), text(new), Breaks::in_source(true));
            }
        });
    }

    fn fields(&mut self, old: &'a [Field], new: &'a [Field]) {
        let shown = |field: &Field| format!("{}{}", field.ty, if field.optional { ", optional" } else { "" });
        for field in old {
            let counterpart = new.iter().find(|new| new.name == field.name);
            self.within(&field.name, |comparison| match counterpart {
                Some(new) => comparison.types(&field.ty, &new.ty),
                // A receiver of the old version may require it.
                None => {
                    let breaks = Breaks::in_source(!field.optional);
                    comparison.add(Rule::FieldRemoved, Some(shown(field)), None, breaks);
                }
            });
        }
        for field in new.iter().filter(|new| old.iter().all(|old| old.name != new.name)) {
            let breaks = Breaks::in_source(!field.optional);
            self.within(&field.name, |comparison| {
                comparison.add(Rule::FieldAdded, None, Some(shown(field)), breaks);
            });
        }
        let names = |fields: &'a [Field]| fields.iter().map(|field| &*field.name).collect::<Vec<_>>();
        self.order(Rule::FieldOrder, &names(old), &names(new));
    }

    /// Adds a change if the parts of both contracts are in another order.
    fn order(&mut self, rule: Rule, old: &[&str], new: &[&str]) {
        let common = |names: &[&str], others: &[&str]| {
            names.iter().filter(|name| others.contains(name)).map(|name| (*name).to_owned()).collect::<Vec<_>>()
        };
        let (old, new) = (common(old, new), common(new, old));
        if old != new {
            self.add(rule, Some(old.join(", ")), Some(new.join(", ")), Breaks::POSITION);
        }
    }

    fn variants(&mut self, old: &'a [Variant], new: &'a [Variant]) {
        for variant in old {
            let counterpart = new.iter().find(|new| new.name == variant.name);
            self.within(&variant.name, |comparison| match counterpart {
                Some(new) => comparison.contents(&variant.content, &new.content),
                None => comparison.add(Rule::VariantRemoved, None, None, Breaks::ALL),
            });
        }
        let is_added = |variant: &&Variant| old.iter().all(|old| old.name != variant.name);
        for variant in new.iter().filter(is_added) {
            self.within(&variant.name, |comparison| {
                comparison.add(Rule::VariantAdded, None, None, Breaks::SOURCE);
            });
        }
        let names = |variants: &'a [Variant]| variants.iter().map(|variant| &*variant.name).collect::<Vec<_>>();
        let (old, new) = (names(old), names(new));
        let kept: Vec<&str> = old.iter().copied().filter(|name| new.contains(name)).collect();
        // Variants that were added before others have moved them.
        if !new.starts_with(&kept) {
            self.add(Rule::VariantOrder, Some(old.join(", ")), Some(new.join(", ")), Breaks::POSITION);
        }
    }

    fn contents(&mut self, old: &'a Content, new: &'a Content) {
        match (old, new) {
            (Content::Unit, Content::Unit) => {}
            (Content::Newtype(old), Content::Newtype(new)) => self.types(old, new),
            (Content::Fields(old), Content::Fields(new)) => self.fields(old, new),
            (Content::Tuple(old), Content::Tuple(new)) if old.len() == new.len() => {
                self.elements(&old.iter().collect::<Vec<_>>(), &new.iter().collect::<Vec<_>>());
            }
            _ => {
                let shown = |content: &Content| {
                    let types: Vec<String> = content.types().iter().map(|ty| ty.to_string()).collect();
                    Some(format!("({})", types.join(", ")))
                };
                self.add(Rule::Type, shown(old), shown(new), Breaks::ALL);
            }
        }
    }

    fn elements(&mut self, old: &[&'a Type], new: &[&'a Type]) {
        for (index, (old, new)) in old.iter().zip(new).enumerate() {
            self.within(&format!("[{index}]"), |comparison| comparison.types(old, new));
        }
    }

    fn types(&mut self, old: &'a Type, new: &'a Type) {
        if let (Type::Named(old), Type::Named(new)) = (old, new)
            && !self.seen.insert((old, new))
        {
            return;
        }
        // A contract that another program has sent may be of any depth.
        if self.depth >= MAX_COMPARED_DEPTH {
            return;
        }
        self.depth += 1;
        self.forms(old, new);
        self.depth -= 1;
    }

    fn forms(&mut self, old: &'a Type, new: &'a Type) {
        let before = self.changes.len();
        match (Form::of(old, self.old), Form::of(new, self.new)) {
            (Form::Option(old), Form::Option(new)) => self.types(old, new),
            (Form::Sequence(old), Form::Sequence(new)) => self.within("[]", |comparison| comparison.types(old, new)),
            (Form::Tuple(old), Form::Tuple(new)) if old.len() == new.len() => self.elements(&old, &new),
            (Form::Map(old_key, old), Form::Map(new_key, new)) => {
                self.within("[key]", |comparison| comparison.types(old_key, new_key));
                self.within("[]", |comparison| comparison.types(old, new));
            }
            (Form::Fields(old), Form::Fields(new)) => self.fields(old, new),
            (Form::Variants(old), Form::Variants(new)) => self.variants(old, new),
            (Form::Leaf(old), Form::Leaf(new)) if old == new => {}
            _ => {
                let (old_end, new_end) = ((self.old, old), (self.new, new));
                let is_read_by_both = reads(old_end, new_end) && reads(new_end, old_end);
                let breaks = Breaks::in_source(!is_read_by_both);
                self.add(Rule::Type, Some(old.to_string()), Some(new.to_string()), breaks);
            }
        }
        let is_renamed = matches!((old, new), (Type::Named(old), Type::Named(new)) if old != new)
            || matches!(old, Type::Named(_)) != matches!(new, Type::Named(_));
        if is_renamed && self.changes.len() == before {
            self.add(Rule::TypeName, Some(old.to_string()), Some(new.to_string()), Breaks::SOURCE);
        }
    }
}
