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
    let mut text = Text { contract, seen: HashMap::new(), out: "msnb contract 1\n".to_owned() };
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
