//! The payload tables of docs/PROTOCOL.md: rpc-core decodes and encodes the bytes of the document.

use std::{collections::BTreeMap, fmt::Debug};

use bytes::{Bytes, BytesMut};
use contracts::Good;
use rpc_core::Codec;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::protocol_vectors::{DOCUMENT, Hello, hex_byte};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    Newtype(u8),
    Tuple(u8, u8),
    Struct { a: u8 },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Ping {}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct MoveTo {
    x: u8,
    y: Option<u8>,
}

/// A value of the payload tables.
struct Example {
    label: &'static str,
    /// Asserts that the value encodes to the bytes and that the bytes decode to the value.
    check: Check,
}

type Check = Box<dyn Fn(Codec, &[u8])>;

fn example<T>(label: &'static str, value: T) -> Example
where
    T: Serialize + DeserializeOwned + PartialEq + Debug + 'static,
{
    let check = move |codec: Codec, bytes: &[u8]| {
        let mut out = BytesMut::new();
        codec.encode(&value, &mut out).unwrap();
        assert_eq!(&out[..], bytes, "{label} in {}", codec.name());
        assert_eq!(codec.decode::<T>(bytes).unwrap(), value, "{label} in {}", codec.name());
    };
    Example { label, check: Box::new(check) }
}

fn examples() -> Vec<Example> {
    let e_acute = || "é".to_owned();
    vec![
        example("`258_u16`", 258_u16),
        example("`-2_i32`", -2_i32),
        example("`1.5_f64`", 1.5_f64),
        example("`true`", true),
        example("`'é'`", 'é'),
        example("`\"Bo\"`", "Bo".to_owned()),
        example("`Some(7_u8)`", Some(7_u8)),
        example("`None::<u8>`", None::<u8>),
        example("`vec![1_u16, 2]`", vec![1_u16, 2]),
        example("`[1_u16, 2]`", [1_u16, 2]),
        example("`BTreeMap::from([(1_u8, true)])`", BTreeMap::from([(1_u8, true)])),
        example("`(1_u8, \"é\")`", (1_u8, e_acute())),
        example("`()`", ()),
        example("`Shape::Unit`", Shape::Unit),
        example("`Shape::Newtype(7)`", Shape::Newtype(7)),
        example("`Shape::Tuple(7, 8)`", Shape::Tuple(7, 8)),
        example("`Shape::Struct { a: 7 }`", Shape::Struct { a: 7 }),
        example("`Good { id: 1, name: \"tea\", price: 2 }`", Good { id: 1, name: "tea".to_owned(), price: 2 }),
        example("`Bytes::from([1, 255])`", Bytes::from_static(&[1, 255])),
        example("arguments of `fn ping()`", Ping {}),
        example("arguments of `fn hello(name = \"Bo\")`", Hello { name: "Bo".to_owned() }),
        example("arguments of `fn move_to(x = 1_u8, y = Some(2_u8))`", MoveTo { x: 1, y: Some(2) }),
    ]
}

/// Returns the labels and values of the payload table of `codec`.
fn payload_table(codec: Codec) -> Vec<(&'static str, &'static str)> {
    let (_, table) = DOCUMENT.split_once(&format!("<!-- payloads: {} -->\n", codec.name())).unwrap();
    let rows = table.lines().take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| {
        let (label, value) = row.trim_matches('|').split_once(" | ").unwrap();
        (label.trim(), value.trim().trim_matches('`'))
    })
    .collect()
}

#[test]
fn payloads_match_tables() {
    let examples = examples();
    for (codec, rows) in [(Codec::Bincode, 22), (Codec::Json, 20), (Codec::MessagePack, 20)] {
        let table = payload_table(codec);
        assert_eq!(table.len(), rows, "rows for {}", codec.name());
        for (label, value) in table {
            let example = examples.iter().find(|example| example.label == label);
            let example = example.unwrap_or_else(|| panic!("no example for {label}"));
            let bytes = match codec {
                Codec::Json => value.as_bytes().to_vec(),
                _ => value.split_whitespace().map(|word| hex_byte(word).unwrap()).collect(),
            };
            (example.check)(codec, &bytes);
        }
    }
}
