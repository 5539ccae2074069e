use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU32,
};

use serde::{Deserialize, Deserializer};

use super::*;
use crate::descriptor::{Content as Fields, Variant};

fn traced<T: DeserializeOwned>() -> (Type, BTreeMap<String, Definition>) {
    let mut tracer = Tracer::default();
    let traced = tracer.trace::<T>();
    tracer.describe(|description| description.of(traced))
}

/// Returns the form of a type in the syntax of Rust, with its definitions.
fn text<T: DeserializeOwned>() -> String {
    let (ty, types) = traced::<T>();
    let mut text = ty.to_string();
    for (name, definition) in types {
        let definition = match definition {
            Definition::Struct(content) => content_text(&content),
            Definition::Enum(variants) => {
                let variant = |variant: &Variant| format!("{}{}", variant.name, content_text(&variant.content));
                variants.iter().map(variant).collect::<Vec<_>>().join(" | ")
            }
        };
        text += &format!("; {name} = {definition}");
    }
    text
}

fn content_text(content: &Fields) -> String {
    match content {
        Fields::Unit => String::new(),
        Fields::Newtype(inner) => format!("({inner})"),
        Fields::Tuple(elements) => format!("{}", Type::Tuple(elements.clone())),
        Fields::Fields(fields) => {
            let field =
                |field: &Field| format!("{}{}: {}", field.name, if field.optional { "?" } else { "" }, field.ty);
            format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
    }
}

#[derive(Deserialize)]
#[expect(dead_code)]
struct Order {
    id: u64,
    #[serde(rename = "customerName")]
    customer: String,
    note: Option<String>,
    #[serde(default)]
    lines: Vec<Line>,
}

#[derive(Deserialize)]
#[expect(dead_code)]
struct Line {
    #[serde(alias = "sku")]
    item: String,
    #[serde(default = "one")]
    count: NonZeroU32,
    kind: Kind,
}

#[derive(Deserialize)]
#[expect(dead_code)]
enum Kind {
    Plain,
    Sized(u8),
    Pair(i8, Option<i16>),
    Cut {
        length: f32,
        #[serde(default)]
        marks: BTreeMap<String, Kind>,
    },
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

#[test]
fn trace_finds_fields_defaults_and_variants() {
    assert_eq!(
        text::<Order>(),
        "Order; \
         Kind = Plain | Sized(u8) | Pair(i8, Option<i16>) | Cut{length: f32, marks?: Map<String, Kind>}; \
         Line = {item: String, count?: u32, kind: Kind}; \
         Order = {id: u64, customerName: String, note?: Option<String>, lines?: Vec<Line>}"
    );
}

#[test]
fn trace_keeps_generic_types_apart() {
    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Page<T> {
        items: Vec<T>,
        next: Option<T>,
    }
    assert_eq!(
        text::<(Page<u8>, Page<Page<()>>)>(),
        "(Page<u8>, Page<Page<()>>); \
         Page<()> = {items: Vec<()>, next?: Option<()>}; \
         Page<Page<()>> = {items: Vec<Page<()>>, next?: Option<Page<()>>}; \
         Page<u8> = {items: Vec<u8>, next?: Option<u8>}"
    );
}

#[test]
fn trace_ends_for_recursive_types() {
    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Tree {
        left: Option<Box<Tree>>,
        children: Vec<Tree>,
        parent: Box<Option<Tree>>,
    }
    #[derive(Deserialize)]
    #[expect(dead_code)]
    enum Expression {
        Negative(Box<Expression>),
        Sum(Box<Expression>, Box<Expression>),
        Call { name: String, arguments: Vec<Expression> },
        Number(i64),
    }
    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Endless {
        next: Box<Endless>,
    }
    assert_eq!(
        text::<Tree>(),
        "Tree; Tree = {left?: Option<Tree>, children: Vec<Tree>, parent: Option<Tree>}".replace("parent:", "parent?:")
    );
    assert_eq!(
        text::<Expression>(),
        "Expression; Expression = Negative(Expression) | Sum(Expression, Expression) | \
         Call{name: String, arguments: Vec<Expression>} | Number(i64)"
    );
    assert!(text::<Endless>().starts_with("Endless"), "{}", text::<Endless>());
}

#[test]
fn types_without_a_form_are_opaque() {
    #[derive(Deserialize)]
    #[serde(untagged)]
    #[expect(dead_code)]
    enum Either {
        One(u8),
        Other(String),
    }
    #[derive(Deserialize)]
    #[serde(tag = "kind")]
    #[expect(dead_code)]
    enum Tagged {
        One { a: u8 },
    }
    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Flat {
        id: u8,
        #[serde(flatten)]
        rest: HashMap<String, u8>,
    }
    /// Accepts only one text, which the tracer does not offer.
    #[derive(Deserialize)]
    #[serde(try_from = "String")]
    struct Password;
    impl TryFrom<String> for Password {
        type Error = String;
        fn try_from(text: String) -> Result<Self, String> {
            if text == "swordfish" { Ok(Self) } else { Err(text) }
        }
    }
    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct All {
        either: Either,
        tagged: Option<Tagged>,
        flat: Vec<Flat>,
        password: Password,
        json: serde_json::Value,
        pair: (Password, Order),
        order: Order,
        #[serde(default)]
        last: u8,
    }
    let text = text::<All>();
    let all = text.split("; ").find(|part| part.starts_with("All = ")).unwrap();
    assert_eq!(
        all,
        "All = {either: Either, tagged?: Option<Tagged>, flat: Vec<Flat>, password: String, json: Value, \
         pair: (Password, Order), order: Order, last: u8}"
    );
    assert!(text.contains("; Order = {id: u64"), "{text}");
    let (_, types) = traced::<All>();
    let Definition::Struct(Fields::Fields(fields)) = &types["All"] else { panic!("a struct") };
    let is_opaque: Vec<_> = fields.iter().map(|field| matches!(&field.ty, Type::Opaque(_))).collect();
    assert_eq!(is_opaque, [true, false, false, false, true, true, false, false]);
}

#[test]
fn panics_make_a_type_opaque() {
    struct Panics;
    impl<'de> Deserialize<'de> for Panics {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            String::deserialize(deserializer)?;
            panic!("this type panics on purpose")
        }
    }
    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Holds {
        first: Panics,
        second: u8,
    }
    assert!(text::<Holds>().ends_with("second: u8}"), "{}", text::<Holds>());
}

#[test]
fn numbers_texts_and_bytes_have_their_own_forms() {
    assert_eq!(text::<(i128, u128, char, bool, f64)>(), "(i128, u128, char, bool, f64)");
    assert_eq!(text::<(NonZeroU32, std::net::IpAddr)>().split(';').next(), Some("(u32, IpAddr)"));
    assert_eq!(text::<bytes::Bytes>(), "Bytes");
    assert_eq!(text::<[u8; 32]>(), "[u8; 32]");
    assert_eq!(text::<BTreeMap<(u8, String), [char; 2]>>(), "Map<(u8, String), (char, char)>");
}
