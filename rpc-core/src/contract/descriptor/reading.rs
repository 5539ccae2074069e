//! Whether a receiver reads what a sender writes by name, in JSON or MessagePack.

use std::{collections::HashSet, fmt};

use super::{
    model::{Contract, MethodContract},
    types::{Content, Definition, Field, Type},
};

/// Why a receiver cannot read a part of what a sender writes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mismatch {
    /// The part, such as `order.lines[].price`; it begins with a parameter, `result` or `items`.
    pub path: String,
    /// The type at the caller; `None` if the caller's contract does not have the part.
    pub caller: Option<Type>,
    /// The type at the provider; `None` if its contract does not have the part.
    pub provider: Option<Type>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, caller, provider } = self;
        match (caller, provider) {
            (Some(caller), Some(provider)) => {
                write!(f, "`{path}` is {caller} in the caller's contract and {provider} in the provider's")
            }
            (Some(caller), None) => {
                write!(f, "the caller requires `{path}` of type {caller}, which the provider's contract does not have")
            }
            (None, Some(provider)) => {
                write!(
                    f,
                    "the provider requires `{path}` of type {provider}, which the caller's contract does not have"
                )
            }
            (None, None) => write!(f, "`{path}` differs"),
        }
    }
}

/// Checks that caller and provider understand each other in a codec that writes names.
///
/// Added optional fields and parameters, removed fields that the receiver does not require, variants that one end does
/// not have, and wider numbers are no mismatch. A variant that the receiver does not have fails the call that uses it.
/// Errors are not compared: one that the caller cannot read fails its own call, which has failed anyway.
///
/// # Errors
///
/// The first part that a receiver cannot read.
pub fn check_by_name(
    caller: (&Contract, &MethodContract),
    provider: (&Contract, &MethodContract),
) -> Result<(), Mismatch> {
    let ((caller_contract, caller), (provider_contract, provider)) = (caller, provider);
    if caller.form != provider.form {
        // The provider rejects the call, and states its streams.
        return Ok(());
    }
    let mut sent = Reading::new(caller_contract, provider_contract, true);
    sent.fields(&caller.parameters, &provider.parameters)?;
    sent.part("items of the caller", caller.caller_items.as_ref(), provider.caller_items.as_ref())?;
    let mut received = Reading::new(provider_contract, caller_contract, false);
    received.part("result", Some(&provider.result), Some(&caller.result))?;
    received.part("items", provider.items.as_ref(), caller.items.as_ref())
}

/// Returns whether a receiver can read a value of a sender in a codec that writes names.
pub(super) fn reads<'a>((sender, sent): (&'a Contract, &'a Type), (receiver, read): (&'a Contract, &'a Type)) -> bool {
    Reading::new(sender, receiver, true).ty(sent, read).is_ok()
}

/// The types of a sender, which a receiver reads.
struct Reading<'a> {
    sender: &'a Contract,
    receiver: &'a Contract,
    is_caller_sending: bool,
    path: Vec<String>,
    depth: usize,
    /// The number of comparisons that are left.
    steps: usize,
    /// The pairs of named types that are being compared or were.
    seen: HashSet<(&'a str, &'a str)>,
}

impl<'a> Reading<'a> {
    fn new(sender: &'a Contract, receiver: &'a Contract, is_caller_sending: bool) -> Self {
        Self {
            sender,
            receiver,
            is_caller_sending,
            path: Vec::new(),
            depth: 0,
            steps: MAX_COMPARISONS,
            seen: HashSet::new(),
        }
    }

    fn mismatch(&self, sent: Option<&Type>, read: Option<&Type>) -> Mismatch {
        let mut path = String::new();
        for part in &self.path {
            if !path.is_empty() && !part.starts_with('[') {
                path.push('.');
            }
            path += part;
        }
        let (sent, read) = (sent.cloned(), read.cloned());
        let (caller, provider) = if self.is_caller_sending { (sent, read) } else { (read, sent) };
        Mismatch { path, caller, provider }
    }

    /// Compares a part of a method that only one of the contracts may have.
    fn part(&mut self, name: &str, sent: Option<&'a Type>, read: Option<&'a Type>) -> Result<(), Mismatch> {
        match (sent, read) {
            (Some(sent), Some(read)) => self.within(name, |reading| reading.ty(sent, read)),
            _ => Ok(()),
        }
    }

    fn within(&mut self, part: &str, compare: impl FnOnce(&mut Self) -> Result<(), Mismatch>) -> Result<(), Mismatch> {
        self.path.push(part.to_owned());
        let compared = compare(self);
        self.path.pop();
        compared
    }

    fn fields(&mut self, sent: &'a [Field], read: &'a [Field]) -> Result<(), Mismatch> {
        for field in read {
            let counterpart = sent.iter().find(|sent| sent.name == field.name);
            self.within(&field.name, |reading| match counterpart {
                Some(sent) => reading.ty(&sent.ty, &field.ty),
                None if field.optional => Ok(()),
                None => Err(reading.mismatch(None, Some(&field.ty))),
            })?;
        }
        Ok(())
    }

    fn elements(&mut self, sent: &[&'a Type], read: &[&'a Type]) -> Result<(), Mismatch> {
        sent.iter()
            .zip(read)
            .enumerate()
            .try_for_each(|(index, (sent, read))| self.within(&format!("[{index}]"), |reading| reading.ty(sent, read)))
    }

    fn ty(&mut self, sent: &'a Type, read: &'a Type) -> Result<(), Mismatch> {
        let differ = |reading: &Self| Err(reading.mismatch(Some(sent), Some(read)));
        if let (Type::Named(sent), Type::Named(read)) = (sent, read)
            && !self.seen.insert((sent, read))
        {
            return Ok(());
        }
        // A contract that another program has sent may be of any depth, and its arrays and tuples of any size.
        if self.depth >= MAX_COMPARED_DEPTH || self.steps == 0 {
            return differ(self);
        }
        self.steps -= 1;
        self.depth += 1;
        let compared = self.forms(sent, read);
        self.depth -= 1;
        compared
    }

    fn forms(&mut self, sent: &'a Type, read: &'a Type) -> Result<(), Mismatch> {
        let differ = |reading: &Self| Err(reading.mismatch(Some(sent), Some(read)));
        match (Form::of(sent, self.sender), Form::of(read, self.receiver)) {
            (Form::Option(sent), Form::Option(read)) => self.ty(sent, read),
            // A reader of an option accepts the bare value.
            (_, Form::Option(read)) => self.ty(sent, read),
            (Form::Sequence(sent), Form::Sequence(read)) => self.within("[]", |reading| reading.ty(sent, read)),
            (Form::Tuple(sent), Form::Sequence(read)) => {
                sent.iter().try_for_each(|sent| self.within("[]", |reading| reading.ty(sent, read)))
            }
            (Form::Tuple(sent), Form::Tuple(read)) if sent.len() == read.len() => self.elements(&sent, &read),
            (Form::Map(sent_key, sent), Form::Map(read_key, read)) => {
                self.within("[key]", |reading| reading.ty(sent_key, read_key))?;
                self.within("[]", |reading| reading.ty(sent, read))
            }
            (Form::Fields(sent), Form::Fields(read)) => self.fields(sent, read),
            (Form::Variants(sent), Form::Variants(read)) => {
                for variant in read {
                    // A variant that one end does not have matters to the calls that use it only.
                    let Some(sent) = sent.iter().find(|sent| sent.name == variant.name) else { continue };
                    let compare = |reading: &mut Self| reading.content(&sent.content, &variant.content);
                    self.within(&variant.name, compare)?;
                }
                Ok(())
            }
            (Form::Leaf(sent), Form::Leaf(read)) if sent == read || is_wider(sent, read) => Ok(()),
            _ => differ(self),
        }
    }

    /// Compares the contents of two variants.
    fn content(&mut self, sent: &'a Content, read: &'a Content) -> Result<(), Mismatch> {
        match (sent, read) {
            (Content::Unit, Content::Unit) => Ok(()),
            (Content::Newtype(sent), Content::Newtype(read)) => self.ty(sent, read),
            (Content::Tuple(sent_types), Content::Tuple(read_types)) if sent_types.len() == read_types.len() => {
                self.elements(&sent.types(), &read.types())
            }
            (Content::Fields(sent), Content::Fields(read)) => self.fields(sent, read),
            _ => Err(self.mismatch(Some(&shown(sent)), Some(&shown(read)))),
        }
    }
}

/// Returns a type that shows the content of a variant in a message.
fn shown(content: &Content) -> Type {
    match content {
        Content::Unit => Type::Unit,
        Content::Newtype(inner) => inner.clone(),
        Content::Tuple(elements) => Type::Tuple(elements.clone()),
        Content::Fields(fields) => {
            let fields: Vec<String> = fields.iter().map(|field| format!("{}: {}", field.name, field.ty)).collect();
            Type::Opaque(format!("{{ {} }}", fields.join(", ")))
        }
    }
}

/// The form of a type on the wire, in which newtypes are their content.
pub(super) enum Form<'a> {
    Leaf(&'a Type),
    Option(&'a Type),
    Sequence(&'a Type),
    Tuple(Vec<&'a Type>),
    Map(&'a Type, &'a Type),
    Fields(&'a [Field]),
    Variants(&'a [super::types::Variant]),
}

impl<'a> Form<'a> {
    pub(super) fn of(ty: &'a Type, contract: &'a Contract) -> Self {
        let mut ty = ty;
        // Each newtype is a type of its own, so a chain without an end is longer than the list of types.
        for _ in 0..=contract.types.len() {
            return match ty {
                Type::Option(inner) => Self::Option(inner),
                Type::Sequence(element) => Self::Sequence(element),
                // Traced arrays are shorter.
                Type::Array(_, MAX_COMPARED_ARRAY..) => Self::Leaf(ty),
                Type::Array(element, length) => Self::Tuple(vec![element; *length]),
                Type::Tuple(elements) => Self::Tuple(elements.iter().collect()),
                Type::Map(key, value) => Self::Map(key, value),
                Type::Named(name) => match contract.types.get(name) {
                    Some(Definition::Struct(Content::Newtype(inner))) => {
                        ty = inner;
                        continue;
                    }
                    Some(Definition::Struct(Content::Unit)) => Self::Leaf(&Type::Unit),
                    Some(Definition::Struct(Content::Tuple(elements))) => Self::Tuple(elements.iter().collect()),
                    Some(Definition::Struct(Content::Fields(fields))) => Self::Fields(fields),
                    Some(Definition::Enum(variants)) => Self::Variants(variants),
                    None => Self::Leaf(ty),
                },
                leaf => Self::Leaf(leaf),
            };
        }
        Self::Leaf(ty)
    }
}

/// Returns whether every number of type `sent` is one of type `read`.
fn is_wider(sent: &Type, read: &Type) -> bool {
    match (bits(sent), bits(read)) {
        (Some((false, sent)), Some((false, read))) | (Some((true, sent)), Some((true, read))) => sent <= read,
        (Some((false, sent)), Some((true, read))) => sent < read,
        (Some((true, _)), Some((false, _))) => false,
        _ => matches!((sent, read), (Type::F32, Type::F64)),
    }
}

/// Returns whether an integer has a sign, and its width.
fn bits(ty: &Type) -> Option<(bool, u32)> {
    Some(match ty {
        Type::U8 => (false, 8),
        Type::U16 => (false, 16),
        Type::U32 => (false, 32),
        Type::U64 => (false, 64),
        Type::U128 => (false, 128),
        Type::I8 => (true, 8),
        Type::I16 => (true, 16),
        Type::I32 => (true, 32),
        Type::I64 => (true, 64),
        Type::I128 => (true, 128),
        _ => return None,
    })
}

/// The largest number of comparisons of types for one direction of a method; beyond it, the contracts count as different.
const MAX_COMPARISONS: usize = 20_000;
/// The deepest nesting of types that are compared.
pub(super) const MAX_COMPARED_DEPTH: usize = 256;
/// The length from which arrays are equal or not, and have no elements to compare.
const MAX_COMPARED_ARRAY: usize = 1025;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(one: &Contract, other: &Contract) -> Result<(), Mismatch> {
        check_by_name((one, &one.methods[0]), (other, &other.methods[0]))
    }

    #[test]
    fn hostile_contracts_take_bounded_time_and_stack() {
        let named = |number: usize| Type::Named(format!("T{number}"));
        let chain = |number| Definition::Struct(Content::Tuple(vec![named(number), named(number)]));
        let deep = Contract::with_types((0..100_000).map(|number| (format!("T{number}"), chain(number + 1))));
        assert!(check(&deep, &deep).is_err());
        let newtype = |number| Definition::Struct(Content::Newtype(named(number)));
        let endless = Contract::with_types((0..10).map(|number| (format!("T{number}"), newtype((number + 1) % 10))));
        assert!(check(&endless, &endless).is_ok());
        let array = Type::Array(Box::new(Type::U8), usize::MAX);
        let long = Contract::with_types([("T0".into(), Definition::Struct(Content::Newtype(array)))]);
        assert!(check(&long, &long).is_ok() && check(&long, &endless).is_err());
    }

    #[test]
    fn wider_numbers_are_read() {
        let ok = [(Type::U8, Type::U16), (Type::U8, Type::I16), (Type::I8, Type::I128), (Type::F32, Type::F64)];
        let no = [(Type::U16, Type::U8), (Type::U8, Type::I8), (Type::I8, Type::U16), (Type::U8, Type::F64)];
        assert!(ok.iter().all(|(sent, read)| is_wider(sent, read)));
        assert!(no.iter().all(|(sent, read)| !is_wider(sent, read)));
    }
}
