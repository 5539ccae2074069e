//! The types of common crates and attributes: each is described in full or in part, and none fails.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    num::NonZeroU64,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use rpc_core::{
    DynCaller,
    descriptor::{Content, Contract, Definition, Field, Type, Variant},
    rpc_service,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Tree {
    value: u8,
    children: Vec<Tree>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Expression {
    Number(i64),
    Sum(Box<Expression>, Box<Expression>),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "T: Serialize + DeserializeOwned")]
pub(crate) struct Page<T> {
    items: Vec<T>,
    next: Option<T>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Flattened {
    id: u8,
    #[serde(flatten)]
    rest: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub(crate) enum Tagged {
    One { a: u8 },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value")]
pub(crate) enum Adjacent {
    One(u8),
    Other(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Untagged {
    One(u8),
    Other(String),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Key {
    x: i8,
    y: i8,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Renamed {
    first_name: String,
    #[serde(rename = "x")]
    last_name: String,
    #[serde(skip)]
    _cache: u8,
    #[serde(default, alias = "old")]
    new: u8,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Transparent {
    inner: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Validated(String);

impl TryFrom<String> for Validated {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text == "valid" { Ok(Self(text)) } else { Err("not valid") }
    }
}

impl From<Validated> for String {
    fn from(validated: Validated) -> Self {
        validated.0
    }
}

impl Clone for Validated {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub(crate) struct Defaults {
    a: u8,
    b: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Unit;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Pair(u8, String);

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct With {
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
    #[serde(default, with = "rpc_core::nullable")]
    three: Option<Option<u8>>,
}

/// A type that may borrow from what it is deserialized from.
pub(crate) type Borrowed = std::borrow::Cow<'static, str>;

macro_rules! types {
    ($($method:ident: $ty:ty;)*) => {
        /// A service with a method for each type.
        #[rpc_service(name = "test.Types")]
        trait Types {
            $(async fn $method(&self) -> $ty;)*
        }

        /// The types as they are written here.
        const WRITTEN: &[(&str, &str)] = &[$((stringify!($method), stringify!($ty))),*];
    };
}

types! {
    t01: bool;
    t02: i128;
    t03: u128;
    t04: char;
    t05: f32;
    t06: String;
    t07: bytes::Bytes;
    t08: Vec<u8>;
    t09: serde_bytes::ByteBuf;
    t10: Option<Option<u8>>;
    t11: [u8; 32];
    t12: (u8, String, bool);
    t13: BTreeMap<String, u8>;
    t14: BTreeMap<Key, u8>;
    t15: HashMap<(i8, i8), Vec<String>>;
    t16: BTreeSet<u16>;
    t17: NonZeroU64;
    t18: Box<str>;
    t19: Borrowed;
    t20: PathBuf;
    t21: IpAddr;
    t22: SocketAddr;
    t23: Duration;
    t24: SystemTime;
    t25: std::ops::Range<u32>;
    t26: Result<u8, String>;
    t27: uuid::Uuid;
    t28: chrono::DateTime<chrono::Utc>;
    t29: chrono::NaiveDate;
    t30: rust_decimal::Decimal;
    t31: time::OffsetDateTime;
    t32: semver::Version;
    t33: url::Url;
    t34: indexmap::IndexMap<String, u8>;
    t35: num_bigint::BigInt;
    t36: ordered_float::OrderedFloat<f64>;
    t37: serde_json::Value;
    t38: Tree;
    t39: Expression;
    t40: Page<Page<u8>>;
    t41: Flattened;
    t42: Tagged;
    t43: Adjacent;
    t44: Untagged;
    t45: Renamed;
    t46: Transparent;
    t47: Validated;
    t48: (Validated, u8);
    t49: Defaults;
    t50: Unit;
    t51: Pair;
    t52: With;
    t53: Vec<(uuid::Uuid, Option<Box<Tree>>)>;
}

fn fields(fields: &[Field]) -> String {
    let field = |field: &Field| format!("{}{}: {}", field.name, if field.optional { "?" } else { "" }, field.ty);
    fields.iter().map(field).collect::<Vec<_>>().join(", ")
}

fn content(of: &Content) -> String {
    match of {
        Content::Unit => String::new(),
        Content::Newtype(inner) => format!("({inner})"),
        Content::Tuple(elements) => Type::Tuple(elements.clone()).to_string(),
        Content::Fields(of) => format!(" {{ {} }}", fields(of)),
        other => format!("{other:?}"),
    }
}

/// Returns the description of a type as a cell of the table.
fn cell(contract: &Contract, ty: &Type) -> String {
    let kind = if is_opaque(ty) { "opaque `" } else { "`" };
    match contract.definition(ty) {
        Some(Definition::Struct(of)) => format!("{kind}{ty}{}`", content(of)),
        Some(Definition::Enum(variants)) => {
            let variant = |variant: &Variant| format!("{}{}", variant.name, content(&variant.content));
            format!("{kind}{ty}: {}`", variants.iter().map(variant).collect::<Vec<_>>().join(", "))
        }
        _ => format!("{kind}{ty}`"),
    }
}

fn is_opaque(ty: &Type) -> bool {
    matches!(ty, Type::Opaque(_)) || ty.parts().into_iter().any(is_opaque)
}

#[test]
fn types_are_described_as_in_the_document() {
    let contract = TypesClient::<DynCaller>::contract();
    let row = |(method, written): &(&str, &str)| {
        format!("| `{written}` | {} |", cell(contract, &contract.method(method).unwrap().result))
    };
    let rows: Vec<String> = WRITTEN.iter().map(row).collect();
    let document = include_str!("../../../../docs/CONTRACTS.md");
    let (_, table) = document.split_once("<!-- types -->\n").unwrap();
    let documented: Vec<&str> = table.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows, documented, "the table should be:\n{}", rows.join("\n"));
}
