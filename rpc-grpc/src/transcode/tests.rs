//! Both directions together: values of Rust types, messages of other implementations, and malformed input.

use std::collections::{BTreeMap, HashMap};

use bytes::{Bytes, BytesMut};
use rpc_core::{Codec, DynCaller, rpc_service};
use serde::{Deserialize, Serialize};

use super::{to_messagepack, to_protobuf};
use crate::schema::Proto;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Color {
    Red,
    DarkBlue,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Shape {
    Nothing,
    Circle(f64),
    Rectangle { width: f32, height: f32 },
    Line(i8, i64),
    Group(Vec<Shape>),
    Named(Option<String>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Meters(u16);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Chain(Vec<Chain>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Nothing;

fn ten() -> u32 {
    10
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Everything {
    flag: bool,
    numbers: (i8, i16, i32, i64, u8, u16),
    large: u64,
    huge: (i128, u128),
    float: f32,
    double: f64,
    letter: char,
    text: String,
    bytes: Bytes,
    octets: Vec<u8>,
    array: [u8; 4],
    option: Option<u32>,
    nested: Option<Vec<String>>,
    sequence: Vec<i32>,
    texts: Vec<String>,
    doubles: Vec<f64>,
    options: Vec<Option<u8>>,
    matrix: Vec<Vec<u16>>,
    map: BTreeMap<String, u8>,
    numbered: HashMap<i64, Vec<String>>,
    keyed: BTreeMap<(i8, i8), Color>,
    color: Color,
    colors: Vec<Color>,
    shape: Shape,
    shapes: Vec<Shape>,
    length: Meters,
    chain: Chain,
    nothing: Nothing,
    unit: (),
    id: uuid::Uuid,
    any: serde_json::Value,
    #[serde(default = "ten")]
    defaulted: u32,
    #[serde(rename = "type")]
    kind: String,
    children: Vec<Everything>,
}

#[rpc_service(name = "test.Everything")]
trait Service {
    async fn both(&self, value: Everything, times: u32) -> Everything;
    async fn wrapped(&self) -> Vec<Option<u32>>;
    async fn empty(&self);
}

fn proto() -> Proto {
    {
        let contract = ServiceClient::<DynCaller>::contract();
        Proto::new(&contract.service_id().unwrap(), contract)
    }
}

fn everything() -> Everything {
    Everything {
        flag: true,
        numbers: (i8::MIN, i16::MIN, i32::MIN, i64::MIN, u8::MAX, u16::MAX),
        large: u64::MAX,
        huge: (i128::MIN, u128::MAX),
        float: 1.5,
        double: -0.1,
        letter: 'ß',
        text: "tëxt".repeat(100),
        bytes: Bytes::from_static(&[0, 255, 7]),
        octets: (0..=255).collect(),
        array: [1, 2, 3, 255],
        option: Some(0),
        nested: Some(vec![String::new(), "a".to_owned()]),
        sequence: vec![0, -1, i32::MAX, 5],
        texts: vec!["a".to_owned(), String::new()],
        doubles: vec![0.0, -1.0, f64::INFINITY],
        options: vec![None, Some(0), Some(7)],
        matrix: vec![vec![], vec![1, 2], vec![0]],
        map: [("a".to_owned(), 1), (String::new(), 0)].into(),
        numbered: [(-5, vec!["x".to_owned()]), (0, vec![])].into(),
        keyed: [((1, -1), Color::DarkBlue), ((0, 0), Color::Red)].into(),
        color: Color::DarkBlue,
        colors: vec![Color::Red, Color::DarkBlue],
        shape: Shape::Rectangle { width: 0.0, height: 2.0 },
        shapes: vec![
            Shape::Nothing,
            Shape::Circle(0.0),
            Shape::Line(-1, 0),
            Shape::Group(vec![Shape::Nothing, Shape::Group(vec![])]),
            Shape::Named(None),
            Shape::Named(Some(String::new())),
        ],
        length: Meters(7),
        chain: Chain(vec![Chain(vec![]), Chain(vec![Chain(vec![])])]),
        nothing: Nothing,
        unit: (),
        id: uuid::Uuid::from_u128(7),
        any: serde_json::json!({ "a": [1, null, "b"] }),
        defaulted: 0,
        kind: "k".to_owned(),
        children: Vec::new(),
    }
}

fn least() -> Everything {
    Everything {
        flag: false,
        numbers: (0, 0, 0, 0, 0, 0),
        large: 0,
        huge: (0, 0),
        float: 0.0,
        double: 0.0,
        letter: '\0',
        text: String::new(),
        bytes: Bytes::new(),
        octets: Vec::new(),
        array: [0; 4],
        option: None,
        nested: None,
        sequence: Vec::new(),
        texts: Vec::new(),
        doubles: Vec::new(),
        options: Vec::new(),
        matrix: Vec::new(),
        map: BTreeMap::new(),
        numbered: HashMap::new(),
        keyed: BTreeMap::new(),
        color: Color::Red,
        colors: Vec::new(),
        shape: Shape::Nothing,
        shapes: Vec::new(),
        chain: Chain(vec![]),
        length: Meters(0),
        any: serde_json::Value::Null,
        kind: String::new(),
        id: uuid::Uuid::nil(),
        defaulted: 10,
        ..everything()
    }
}

fn messagepack<T: Serialize>(value: &T) -> BytesMut {
    let mut bytes = BytesMut::new();
    Codec::MessagePack.encode(value, &mut bytes).unwrap();
    bytes
}

fn response(proto: &Proto, method: &str) -> usize {
    proto.methods.iter().find(|known| known.name == method).unwrap().response
}

fn protobuf<T: Serialize>(proto: &Proto, method: &str, value: &T) -> BytesMut {
    let mut out = BytesMut::new();
    to_protobuf(proto, response(proto, method), &messagepack(value), &mut out).unwrap();
    out
}

/// Returns the message of the type itself, which the response contains.
fn inside(proto: &Proto) -> usize {
    match proto.messages[response(proto, "both")].fields[0].kind {
        crate::schema::Kind::Message(message) => message,
        _ => unreachable!(),
    }
}

fn back(proto: &Proto, message: usize, bytes: &[u8]) -> Result<BytesMut, String> {
    let mut out = BytesMut::new();
    to_messagepack(proto, message, bytes, LIMIT, &mut out).map_err(|fault| fault.to_string())?;
    Ok(out)
}

const LIMIT: usize = 1 << 20;

#[test]
fn values_are_equal_after_both_ways() {
    let proto = proto();
    let parent = Everything { children: vec![everything(), least()], ..everything() };
    for value in [everything(), least(), parent] {
        let bytes = protobuf(&proto, "both", &value);
        let converted = back(&proto, response(&proto, "both"), &bytes).unwrap();
        let read: Everything = Codec::MessagePack.decode(&converted).unwrap();
        assert_eq!(read, value);
    }
    for value in [vec![], vec![None, Some(0), Some(u32::MAX)]] {
        let bytes = protobuf(&proto, "wrapped", &value);
        let converted = back(&proto, response(&proto, "wrapped"), &bytes).unwrap();
        assert_eq!(Codec::MessagePack.decode::<Vec<Option<u32>>>(&converted).unwrap(), value);
    }
    assert!(protobuf(&proto, "empty", &()).is_empty());
}

#[test]
fn every_truncation_of_a_message_is_an_error_or_a_value() {
    let proto = proto();
    let bytes = protobuf(&proto, "both", &Everything { children: vec![everything()], ..everything() });
    for cut in 0..bytes.len() {
        if let Ok(converted) = back(&proto, response(&proto, "both"), &bytes[..cut]) {
            // A field that is missing has a default, or the receiver names it.
            let _ = Codec::MessagePack.decode::<Everything>(&converted);
        }
    }
    let value = messagepack(&everything());
    for cut in 0..value.len() {
        let mut out = BytesMut::new();
        assert!(to_protobuf(&proto, response(&proto, "both"), &value[..cut], &mut out).is_err(), "{cut}");
    }
}

#[test]
fn changed_bytes_never_panic() {
    let proto = proto();
    let bytes = protobuf(&proto, "both", &everything());
    let value = messagepack(&everything());
    for (at, change) in (0..bytes.len().max(value.len())).flat_map(|at| [(at, 1u8), (at, 0x80), (at, 0xff)]) {
        let mut changed = bytes.clone();
        if let Some(byte) = changed.get_mut(at) {
            *byte ^= change;
            let _ = back(&proto, response(&proto, "both"), &changed);
        }
        let mut changed = value.clone();
        if let Some(byte) = changed.get_mut(at) {
            *byte ^= change;
            let _ = to_protobuf(&proto, response(&proto, "both"), &changed, &mut BytesMut::new());
        }
    }
}

#[test]
fn absent_fields_have_defaults_or_are_named() {
    let proto = proto();
    let crate::schema::Requests::One(request) = proto.methods[0].request else { unreachable!() };
    let converted = back(&proto, request, &[]).unwrap();
    #[derive(Debug, Deserialize)]
    struct Arguments {
        #[expect(dead_code, reason = "decoded only")]
        value: Everything,
        #[expect(dead_code, reason = "decoded only")]
        times: u32,
    }
    let error = Codec::MessagePack.decode::<Arguments>(&converted).unwrap_err().to_string();
    assert!(error.contains("value"), "{error}");
    let fault = back(&proto, request, &[0x0a, 2, 0x12, 0]).unwrap();
    assert!(Codec::MessagePack.decode::<Arguments>(&fault).is_err());
    let fault = back(&proto, request, &[0x0a, 4, 0x12, 2, 0x0a, 0]).unwrap_err();
    assert_eq!(fault, "`value.numbers.field_0`: the value is of another kind");
    let fault = back(&proto, request, &[0x0a, 3, 0x42, 1, 0xff]).unwrap_err();
    assert_eq!(fault, "`value.text`: a text is not UTF-8");
}

#[test]
fn short_message_is_no_long_value() {
    let proto = proto();
    let mut children = BytesMut::new();
    let number = proto.messages[inside(&proto)].fields.len() as u32;
    for _ in 0..100_000 {
        super::wire::write_tag(number, 2, &mut children);
        super::wire::write_varint(0, &mut children);
    }
    let fault = back(&proto, inside(&proto), &children).unwrap_err();
    assert!(fault.contains("1048576 bytes") && fault.contains("max_frame"), "{fault}");
}

#[test]
fn nesting_is_limited() {
    let proto = proto();
    let number = proto.messages[inside(&proto)].fields.len() as u32;
    let nested = |depth: usize| {
        let mut bytes = BytesMut::new();
        for _ in 0..depth {
            let mut outer = BytesMut::new();
            super::wire::write_tag(number, 2, &mut outer);
            super::wire::write_varint(bytes.len() as u64, &mut outer);
            outer.extend_from_slice(&bytes);
            bytes = outer;
        }
        bytes
    };
    assert!(back(&proto, inside(&proto), &nested(99)).is_ok());
    assert!(back(&proto, inside(&proto), &nested(100)).unwrap_err().contains("nested too deeply"));
}
