//! [`Type`]: the form of a value on the wire.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The form of a value, in the terms of serde's data model.
///
/// `Display` writes it in the syntax of Rust.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names of the variants without content are those of Rust's types")]
pub enum Type {
    Bool,
    I8,
    I16,
    I32,
    I64,
    I128,
    U8,
    U16,
    U32,
    U64,
    U128,
    F32,
    F64,
    Char,
    String,
    /// Bytes, such as a `bytes::Bytes`. A `Vec<u8>` is a [`Sequence`](Self::Sequence).
    Bytes,
    Unit,
    /// A value that may be absent.
    Option(Box<Type>),
    /// Any number of elements.
    Sequence(Box<Type>),
    /// A fixed number of elements, which are all of one type.
    Array(Box<Type>, usize),
    /// A fixed number of elements.
    Tuple(Vec<Type>),
    /// Entries of a key and a value.
    Map(Box<Type>, Box<Type>),
    /// A struct or an enum in [`Contract::types`](super::Contract::types).
    Named(String),
    /// A type whose form is not known in full: the name of the Rust type without its path.
    Opaque(String),
}

/// The definition of a type with a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Definition {
    /// A struct.
    Struct(Content),
    /// An enum.
    Enum(Vec<Variant>),
}

/// The content of a struct, or of a variant of an enum.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Content {
    /// Nothing.
    Unit,
    /// One value without a name.
    Newtype(Type),
    /// Several values without names.
    Tuple(Vec<Type>),
    /// Fields with names.
    Fields(Vec<Field>),
}

/// A field of a struct or of a variant, or a parameter of a method.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Field {
    /// The name on the wire.
    pub name: String,
    /// The type.
    #[serde(rename = "type")]
    pub ty: Type,
    /// Whether a receiver accepts a value without this field: the field is an `Option`, or has a default.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// A variant of an enum.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Variant {
    /// The name on the wire.
    pub name: String,
    /// The content.
    pub content: Content,
}

impl Type {
    /// Returns the types from which this type is composed; for a named type none.
    pub fn parts(&self) -> Vec<&Type> {
        match self {
            Self::Option(inner) | Self::Sequence(inner) | Self::Array(inner, _) => vec![inner],
            Self::Map(key, value) => vec![key, value],
            Self::Tuple(elements) => elements.iter().collect(),
            _ => Vec::new(),
        }
    }
}

impl Content {
    /// Returns the types of the fields, in their order.
    pub fn types(&self) -> Vec<&Type> {
        match self {
            Self::Unit => Vec::new(),
            Self::Newtype(inner) => vec![inner],
            Self::Tuple(elements) => elements.iter().collect(),
            Self::Fields(fields) => fields.iter().map(|field| &field.ty).collect(),
        }
    }
}

impl Definition {
    /// Returns the types of all fields, in their order.
    pub fn types(&self) -> Vec<&Type> {
        match self {
            Self::Struct(content) => content.types(),
            Self::Enum(variants) => variants.iter().flat_map(|variant| variant.content.types()).collect(),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("bool"),
            Self::I8 => f.write_str("i8"),
            Self::I16 => f.write_str("i16"),
            Self::I32 => f.write_str("i32"),
            Self::I64 => f.write_str("i64"),
            Self::I128 => f.write_str("i128"),
            Self::U8 => f.write_str("u8"),
            Self::U16 => f.write_str("u16"),
            Self::U32 => f.write_str("u32"),
            Self::U64 => f.write_str("u64"),
            Self::U128 => f.write_str("u128"),
            Self::F32 => f.write_str("f32"),
            Self::F64 => f.write_str("f64"),
            Self::Char => f.write_str("char"),
            Self::String => f.write_str("String"),
            Self::Bytes => f.write_str("Bytes"),
            Self::Unit => f.write_str("()"),
            Self::Option(inner) => write!(f, "Option<{inner}>"),
            Self::Sequence(element) => write!(f, "Vec<{element}>"),
            Self::Array(element, length) => write!(f, "[{element}; {length}]"),
            Self::Map(key, value) => write!(f, "Map<{key}, {value}>"),
            Self::Tuple(elements) => {
                f.write_str("(")?;
                for (index, element) in elements.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    write!(f, "{separator}{element}")?;
                }
                f.write_str(if elements.len() == 1 { ",)" } else { ")" })
            }
            Self::Named(name) | Self::Opaque(name) => f.write_str(name),
        }
    }
}

impl Field {
    pub(super) fn new(name: &str, ty: Type, optional: bool) -> Self {
        Self { name: name.to_owned(), ty, optional }
    }
}

impl Variant {
    pub(super) fn new(name: &str, content: Content) -> Self {
        Self { name: name.to_owned(), content }
    }
}
