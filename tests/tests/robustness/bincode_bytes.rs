//! wincode as a replacement for bincode, which is unmaintained (RUSTSEC-2025-0141): it writes the same bytes and reads
//! those of msnb. deny.toml ignores the advisory on this condition.

use std::{collections::BTreeMap, fmt::Debug};

use bytes::BytesMut;
use proptest::prelude::*;
use rpc_core::Codec;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use wincode::{SchemaRead, SchemaWrite, config::DefaultConfig};

/// All kinds of values in the payload tables of docs/PROTOCOL.md.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, SchemaWrite, SchemaRead)]
struct AllKinds {
    unsigned: (u8, u16, u32, u64, u128),
    signed: (i8, i16, i32, i64, i128),
    float: (f32, f64),
    boolean: bool,
    character: char,
    text: String,
    unit: (),
    option: Option<u32>,
    list: Vec<Shape>,
    array: [u16; 3],
    map: BTreeMap<u8, String>,
    newtype: Newtype,
    nested: Option<Box<AllKinds>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, SchemaWrite, SchemaRead)]
struct Newtype(u64);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, SchemaWrite, SchemaRead)]
enum Shape {
    Unit,
    Newtype(u8),
    Tuple(u8, u8),
    Struct { a: u8 },
}

fn assert_same_bytes<T>(value: &T)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
    T: SchemaWrite<DefaultConfig, Src = T> + for<'de> SchemaRead<'de, DefaultConfig, Dst = T>,
{
    let mut ours = BytesMut::new();
    Codec::Bincode.encode(value, &mut ours).unwrap();
    let theirs = wincode::serialize(value).unwrap();
    assert_eq!(ours, theirs);
    assert_eq!(&wincode::deserialize::<T>(&ours).unwrap(), value);
    assert_eq!(&Codec::Bincode.decode::<T>(&theirs).unwrap(), value);
}

fn shapes() -> impl Strategy<Value = Shape> {
    prop_oneof![
        Just(Shape::Unit),
        any::<u8>().prop_map(Shape::Newtype),
        any::<(u8, u8)>().prop_map(|(a, b)| Shape::Tuple(a, b)),
        any::<u8>().prop_map(|a| Shape::Struct { a }),
    ]
}

fn all_kinds() -> impl Strategy<Value = AllKinds> {
    // Without NaN, which is not equal to itself.
    let floats = (prop::num::f32::NORMAL, prop::num::f64::NORMAL);
    let plain = (any::<(u8, u16, u32, u64, u128)>(), any::<(i8, i16, i32, i64, i128)>(), floats, any::<(bool, char)>());
    let list = prop::collection::vec(shapes(), 0..5);
    let map = prop::collection::btree_map(any::<u8>(), any::<String>(), 0..4);
    (plain, any::<String>(), any::<Option<u32>>(), list, any::<[u16; 3]>(), map, any::<u64>()).prop_map(
        |((unsigned, signed, float, (boolean, character)), text, option, list, array, map, number)| {
            let inner = AllKinds {
                unsigned,
                signed,
                float,
                boolean,
                character,
                text,
                unit: (),
                option,
                list,
                array,
                map,
                newtype: Newtype(number),
                nested: None,
            };
            AllKinds { nested: Some(Box::new(inner.clone())), ..inner }
        },
    )
}

proptest! {
    #[test]
    fn wincode_bytes_equal_bincode_bytes(value in all_kinds()) {
        assert_same_bytes(&value);
    }
}
