//! The digest of a method: 64 bits of everything that reaches the wire.
//!
//! docs/CONTRACTS.md specifies the canonical text that is hashed.

use std::{collections::HashMap, fmt::Write as _};

use sha2::{Digest as _, Sha256};

use super::{
    model::{Contract, Form, MethodContract},
    types::{Content, Definition, Field, Type},
};

/// The identity and the digest of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MethodDigest {
    /// The hash of the route.
    pub route: u64,
    /// The digest of the contract of the method.
    pub digest: u64,
}

impl Contract {
    /// Returns the digest of a method of this contract.
    ///
    /// Methods with the same digest have the same form on the wire in every codec. The digest is the same in every build
    /// and on every platform.
    pub fn method_digest(&self, method: &MethodContract) -> u64 {
        hash(canonical(self, method).as_bytes())
    }

    /// Returns the digest of the service: of the names and the digests of all methods.
    pub fn digest(&self) -> u64 {
        let mut lines: Vec<String> = self
            .methods
            .iter()
            .map(|method| format!("{} {:016x}\n", method.name, self.method_digest(method)))
            .collect();
        lines.sort_unstable();
        hash(lines.concat().as_bytes())
    }
}

/// Returns the first 64 bits of SHA-256.
fn hash(bytes: &[u8]) -> u64 {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Returns the canonical text of a method.
pub(super) fn canonical(contract: &Contract, method: &MethodContract) -> String {
    let mut text =
        Text { contract, seen: HashMap::new(), newtypes: Vec::new(), depth: 0, out: "msnb contract 1\n".to_owned() };
    text.put(match method.form {
        Form::Unary => "unary",
        Form::OneWay => "one-way",
        Form::CallerStream => "caller-stream",
        Form::CalleeStream => "callee-stream",
        Form::Streams => "streams",
    });
    text.put("\n");
    text.fields(&method.parameters);
    for part in [
        method.caller_items.as_ref(),
        Some(&method.result),
        method.error.as_ref(),
        method.items.as_ref(),
        method.items_error.as_ref(),
    ] {
        text.put("\n");
        match part {
            Some(ty) => text.ty(ty),
            None => text.put("-"),
        }
    }
    text.out
}

struct Text<'a> {
    contract: &'a Contract,
    /// The numbers of the types whose definitions were written.
    seen: HashMap<&'a str, usize>,
    /// The newtypes whose content is being written.
    newtypes: Vec<&'a str>,
    depth: usize,
    out: String,
}

impl<'a> Text<'a> {
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
    }

    fn name(&mut self, name: &str) {
        let _ = write!(self.out, "{}:{name}", name.len());
    }

    fn list<T>(&mut self, parts: impl IntoIterator<Item = T>, mut put: impl FnMut(&mut Self, T)) {
        for part in parts {
            put(self, part);
            self.put(",");
        }
    }

    fn fields(&mut self, fields: &'a [Field]) {
        self.put("<");
        self.list(fields, |text, field| {
            text.name(&field.name);
            text.put("=");
            text.ty(&field.ty);
        });
        self.put(">");
    }

    fn content(&mut self, content: &'a Content) {
        match content {
            Content::Unit => self.put("unit"),
            Content::Newtype(inner) => self.ty(inner),
            Content::Tuple(elements) => {
                self.put("(");
                self.list(elements, Self::ty);
                self.put(")");
            }
            Content::Fields(fields) => self.fields(fields),
        }
    }

    fn named(&mut self, name: &'a str) {
        if let Some(Definition::Struct(Content::Newtype(inner))) = self.contract.types.get(name) {
            match self.newtypes.iter().rev().position(|newtype| *newtype == name) {
                Some(distance) => {
                    let _ = write!(self.out, "^{distance}");
                }
                None => {
                    self.newtypes.push(name);
                    self.ty(inner);
                    self.newtypes.pop();
                }
            }
            return;
        }
        if let Some(number) = self.seen.get(name) {
            let _ = write!(self.out, "@{number}");
            return;
        }
        self.seen.insert(name, self.seen.len());
        match self.contract.types.get(name) {
            Some(Definition::Struct(content)) => self.content(content),
            Some(Definition::Enum(variants)) => {
                self.put("|");
                self.list(variants, |text, variant| {
                    text.name(&variant.name);
                    text.put("=");
                    text.content(&variant.content);
                });
                self.put("|");
            }
            None => self.opaque(name),
        }
    }

    fn opaque(&mut self, name: &str) {
        self.put("!");
        self.name(name);
    }

    fn ty(&mut self, ty: &'a Type) {
        // A contract that another program has sent may be of any depth and size.
        if self.depth >= MAX_DIGEST_DEPTH || self.out.len() > MAX_DIGEST_TEXT {
            return self.put("…");
        }
        self.depth += 1;
        self.shallow(ty);
        self.depth -= 1;
    }

    fn shallow(&mut self, ty: &'a Type) {
        match ty {
            Type::String => self.put("string"),
            Type::Bytes => self.put("bytes"),
            Type::Unit => self.put("unit"),
            Type::Option(inner) => {
                self.put("?");
                self.ty(inner);
            }
            Type::Sequence(element) => {
                self.put("[");
                self.ty(element);
                self.put("]");
            }
            Type::Array(_, MAX_DIGEST_ARRAY..) => self.opaque(&ty.to_string()),
            Type::Array(element, length) => {
                self.put("(");
                self.list(0..*length, |text, _| text.ty(element));
                self.put(")");
            }
            Type::Tuple(elements) => {
                self.put("(");
                self.list(elements, Self::ty);
                self.put(")");
            }
            Type::Map(key, value) => {
                self.put("{");
                self.ty(key);
                self.put("=");
                self.ty(value);
                self.put("}");
            }
            Type::Named(name) => self.named(name),
            Type::Opaque(name) => self.opaque(name),
            // The names of Rust.
            primitive => {
                let _ = write!(self.out, "{primitive}");
            }
        }
    }
}

/// The deepest nesting of types that the text contains.
const MAX_DIGEST_DEPTH: usize = 256;
/// The length of the text from which further types are left out, in bytes: 1 MiB.
const MAX_DIGEST_TEXT: usize = 1 << 20;
/// The length from which an array is written like an opaque type. Traced arrays are shorter.
const MAX_DIGEST_ARRAY: usize = 1025;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::Variant;

    fn named(number: usize) -> Type {
        Type::Named(format!("T{number}"))
    }

    fn text(contract: &Contract) -> String {
        canonical(contract, &contract.methods[0]).lines().nth(4).unwrap_or_default().to_owned()
    }

    #[test]
    fn text_contains_the_form_of_types() {
        let point = Content::Fields(vec![Field::new("x", Type::U8, true), Field::new("é", named(1), false)]);
        let shape = Definition::Enum(vec![
            Variant::new("A", Content::Unit),
            Variant::new("B", Content::Newtype(named(0))),
            Variant::new("C", Content::Tuple(vec![named(2), named(2), Type::Array(Box::new(Type::Char), 3)])),
        ]);
        let list = Definition::Struct(Content::Newtype(Type::Sequence(Box::new(named(2)))));
        let types = [("T0".into(), Definition::Struct(point)), ("T1".into(), shape), ("T2".into(), list)];
        let list = "[^0]";
        assert_eq!(
            text(&Contract::with_types(types)),
            format!("<1:x=u8,2:é=|1:A=unit,1:B=@0,1:C=({list},{list},(char,char,char,),),|,>")
        );
    }

    #[test]
    fn hostile_contracts_take_bounded_time_and_stack() {
        let doubling = |number| Definition::Struct(Content::Newtype(Type::Tuple(vec![named(number), named(number)])));
        let wide = Contract::with_types((0..100).map(|number| (format!("T{number}"), doubling(number + 1))));
        assert!(text(&wide).len() < 2 * MAX_DIGEST_TEXT);
        let chain = |number| Definition::Struct(Content::Tuple(vec![named(number)]));
        let deep = Contract::with_types((0..100_000).map(|number| (format!("T{number}"), chain(number + 1))));
        assert!(text(&deep).contains('…'));
        let endless = Type::Array(Box::new(Type::U8), usize::MAX);
        let long = Contract::with_types([("T0".into(), Definition::Struct(Content::Newtype(endless)))]);
        assert!(text(&long).starts_with("!"));
    }
}
