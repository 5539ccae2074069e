//! Checks of payloads: the cost of decompression and decoding is at most linear in the length.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use rpc_core::{Codec, Compression};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Checks that decompression stops at the limit. The first byte selects the compression.
pub fn packed(input: &[u8]) {
    let Some((&number, packed)) = input.split_first() else { return };
    let compressions = [Compression::Gzip, Compression::Zstd, Compression::Lz4];
    let compression = compressions[usize::from(number) % compressions.len()];
    let packed = Bytes::copy_from_slice(packed);
    if let Ok(plain) = compression.decompress(&packed, MAX_PLAIN) {
        assert!(plain.len() <= MAX_PLAIN);
        // A limit equal to the length suffices; a limit one below does not.
        assert_eq!(compression.decompress(&packed, plain.len()).as_ref(), Ok(&plain));
        if let Some(less) = plain.len().checked_sub(1) {
            assert!(compression.decompress(&packed, less).is_err());
        }
    }
}

/// Checks a payload in bincode.
pub fn bincode(input: &[u8]) {
    payload(Codec::Bincode, input);
}

/// Checks a payload in MessagePack.
pub fn messagepack(input: &[u8]) {
    payload(Codec::MessagePack, input);
}

/// Checks a payload in JSON.
pub fn json(input: &[u8]) {
    payload(Codec::Json, input);
}

/// Decodes the payload as the type that the first byte selects.
fn payload(codec: Codec, input: &[u8]) {
    let Some((&kind, bytes)) = input.split_first() else { return };
    match kind % 8 {
        0 => drop(check_round_trip::<Value>(codec, bytes)),
        1 => drop(check_round_trip::<Wide>(codec, bytes)),
        2 => drop(check_round_trip::<Nest>(codec, bytes)),
        3 => {
            let Some(nothings) = check_round_trip::<Vec<()>>(codec, bytes) else { return };
            assert!(nothings.len() <= bytes.len() + Codec::FREE_ELEMENTS, "{} zero-sized elements", nothings.len());
        }
        4 => {
            let Some(lists) = check_round_trip::<Vec<Vec<Empty>>>(codec, bytes) else { return };
            let elements = lists.len() + lists.iter().map(Vec::len).sum::<usize>();
            assert!(elements <= bytes.len() + Codec::FREE_ELEMENTS, "{elements} elements");
        }
        5 => drop(check_round_trip::<BTreeMap<u64, Option<Box<Chain>>>>(codec, bytes)),
        6 => drop(check_round_trip::<(Bytes, String, char, Vec<u64>)>(codec, bytes)),
        // Unknown fields are skipped.
        _ => drop(check_round_trip::<Known>(codec, bytes)),
    }
}

/// Checks that a decoded value encodes and decodes to itself.
///
/// Compares the encoded bytes, because NaN does not equal itself.
fn check_round_trip<T: Serialize + DeserializeOwned>(codec: Codec, bytes: &[u8]) -> Option<T> {
    let value: T = codec.decode(bytes).ok()?;
    let written = write(codec, &value)?;
    match codec.decode::<T>(&written) {
        Ok(again) => assert_eq!(write(codec, &again).as_ref(), Some(&written)),
        Err(error) => panic!("an encoded value does not decode: {error}"),
    }
    Some(value)
}

/// Returns `None` for a value that the codec cannot represent.
fn write<T: Serialize>(codec: Codec, value: &T) -> Option<BytesMut> {
    let mut out = BytesMut::new();
    codec.encode(value, &mut out).ok()?;
    Some(out)
}

/// A recursive type with every shape of serde's data model.
#[derive(Debug, Serialize, Deserialize)]
enum Value {
    Unit,
    Bool(bool),
    Number(i64),
    Text(String),
    Bytes(Bytes),
    Pair(Box<Value>, u8),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
    Maybe { value: Option<Box<Value>>, nothing: () },
}

/// A struct with many fields of different types.
#[derive(Debug, Serialize, Deserialize)]
struct Wide {
    a: u8,
    b: i8,
    c: u16,
    d: i16,
    e: u32,
    f: i32,
    g: u64,
    h: i64,
    i: u128,
    j: i128,
    k: bool,
    l: char,
    m: (u8, [u16; 3], ()),
    n: Option<Option<u8>>,
    o: String,
    p: Vec<String>,
    q: BTreeMap<u8, Vec<(u8, u8)>>,
    r: Bytes,
    s: Box<[u64]>,
    t: Empty,
    u: Newtype,
    v: Result<u8, String>,
    w: [[u8; 4]; 8],
    x: std::time::Duration,
    y: std::net::SocketAddr,
    z: Vec<Option<Empty>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Nest(Vec<Nest>);

#[derive(Debug, Serialize, Deserialize)]
enum Chain {
    End,
    Link(Box<Chain>),
}

#[derive(Debug, Serialize, Deserialize)]
struct Empty;

#[derive(Debug, Serialize, Deserialize)]
struct Newtype(u32);

#[derive(Debug, Serialize, Deserialize)]
struct Known {
    #[serde(default)]
    known: Option<f64>,
}

/// The decompression limit: small, so that decompression bombs are cheap to check.
const MAX_PLAIN: usize = 256 << 10;
