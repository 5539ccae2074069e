//! [`Codec`]: the serialization of a payload.

use std::{error::Error as StdError, fmt, io};

use bytes::BytesMut;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    budget::{self, Budget},
    causes,
    checked::{self, Checked},
    output::{self, Output},
    raw,
    recorder::{PathRecorder, Recorder},
    trail::Trail,
    write_buffer::WriteBuffer,
};
use crate::{Code, Status};

/// The serialization of a payload. The discriminants are the numbers in the frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
#[repr(u8)]
pub enum Codec {
    /// Opaque bytes: the only argument, and the result, are bytes or text and are sent unchanged.
    Raw = 0,
    /// bincode 2 with fixed-width little-endian integers, byte-compatible with bincode 1 and wincode.
    ///
    /// Not self-describing: both ends must declare the same fields in the same order.
    #[default]
    Bincode = 2,
    /// JSON. Arguments are an object keyed by parameter name.
    Json = 3,
    /// MessagePack with named fields.
    MessagePack = 5,
}

impl Codec {
    /// All codecs of this version.
    pub const ALL: [Self; 4] = [Self::Raw, Self::Bincode, Self::Json, Self::MessagePack];
    /// The deepest nesting that is decoded: 128.
    ///
    /// Each struct, tuple, sequence, map, enum, newtype and option counts as one level.
    pub const MAX_DEPTH: usize = budget::MAX_DEPTH;
    /// How many elements a payload may decode to in addition to one for each of its bytes: 16.
    ///
    /// All its sequences and maps count together.
    pub const FREE_ELEMENTS: usize = budget::FREE_ELEMENTS;

    /// Returns the codec with this number on the wire.
    ///
    /// # Errors
    ///
    /// `Unimplemented` for an unknown number, listing the supported codecs.
    pub fn from_u8(number: u8) -> Result<Self, Status> {
        match number {
            0 => Ok(Self::Raw),
            2 => Ok(Self::Bincode),
            3 => Ok(Self::Json),
            5 => Ok(Self::MessagePack),
            _ => Err(unknown(number)),
        }
    }

    /// Returns the name that registries list: `raw`, `bincode`, `json`, `messagepack`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Bincode => "bincode",
            Self::Json => "json",
            Self::MessagePack => "messagepack",
        }
    }

    /// Appends `value` to `out`.
    ///
    /// After an error, `out` may end with a part of the value, which the caller must truncate. After a panic of the
    /// value's `Serialize`, `out` is empty.
    ///
    /// # Errors
    ///
    /// The error of the codec's library, or an error for a value that the receiver would read as another one:
    ///
    /// | codec | rejected values |
    /// |---|---|
    /// | [`Raw`](Self::Raw) | everything except bytes and text |
    /// | [`Bincode`](Self::Bincode) | structs from which `skip_serializing_if` left out a field |
    /// | [`Json`](Self::Json) | NaN and infinity; `Some` of `None`, of `()` and of a unit struct |
    /// | [`MessagePack`](Self::MessagePack) | `Some` of `None`, of `()` and of a unit struct |
    ///
    /// A field with [`nullable`](crate::nullable) may be `Some(None)` in each of them.
    pub fn encode<T: Serialize + ?Sized>(self, value: &T, out: &mut BytesMut) -> Result<(), CodecError> {
        let mut buffer = WriteBuffer::copying(std::mem::take(out));
        let encoded = self.encode_into(value, &mut buffer);
        *out = std::mem::take(buffer.copied());
        encoded
    }

    /// As [`encode`](Self::encode), but shares long bytes as [`uncopied`](crate::uncopied) describes.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn encode_into<T: Serialize + ?Sized>(self, value: &T, out: &mut WriteBuffer) -> Result<(), CodecError> {
        let trail = Trail::default();
        match self {
            Self::Raw => value.serialize(raw::Serializer { out }).map_err(CodecError::new),
            Self::Bincode => {
                let checked = Checked::<_, checked::Bincode>::new(value, &trail);
                output::encode_bincode(&checked, out)
                    .map_err(|error| CodecError::described(trail.describe(&causes::of_encoding(&error)), error))
            }
            Self::Json => {
                let checked = Checked::<_, checked::Json>::new(value, &trail);
                serde_json::to_writer(Output(out), &checked)
                    .map_err(|error| CodecError::described(trail.describe(&error), error))
            }
            Self::MessagePack => {
                let checked = Checked::<_, checked::MessagePack>::new(value, &trail);
                checked
                    .serialize(&mut rmp_serde::Serializer::new(Output(out)).with_struct_map())
                    .map_err(|error| CodecError::described(trail.describe(&error), error))
            }
        }
    }

    /// Decodes a value from all of `bytes`.
    ///
    /// The length of the input limits time and memory, whatever its content: see [`MAX_DEPTH`](Self::MAX_DEPTH) and
    /// [`FREE_ELEMENTS`](Self::FREE_ELEMENTS).
    ///
    /// # Errors
    ///
    /// An error if the input is not such a value, has trailing bytes, or exceeds a limit. It names the field and its
    /// type if the input has at most 64 KiB.
    pub fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, CodecError> {
        if self == Self::Raw {
            return T::deserialize(raw::Deserializer { bytes }).map_err(CodecError::new);
        }
        match self.decode_within::<T, ()>(bytes, &Budget::for_payload(bytes.len())) {
            Err(failed) if bytes.len() <= MAX_EXPLAINED => Err(self.explain::<T>(bytes, failed)),
            result => result,
        }
    }

    /// Decodes `bytes` again and returns the failure with the name of the field.
    #[cold]
    fn explain<T: DeserializeOwned>(self, bytes: &[u8], failed: CodecError) -> CodecError {
        let recording = Budget::<PathRecorder>::for_payload(bytes.len());
        match self.decode_within::<T, _>(bytes, &recording) {
            Err(CodecError(again)) => CodecError::described(recording.recorder.trail.describe(&again), again),
            Ok(_) => failed,
        }
    }

    #[inline]
    fn decode_within<T: DeserializeOwned, R: Recorder>(
        self,
        bytes: &[u8],
        budget: &Budget<R>,
    ) -> Result<T, CodecError> {
        let (value, used) = match self {
            Self::Raw | Self::Bincode => {
                bincode::serde::seed_decode_from_slice(budget.seed(), bytes, bincode::config::legacy())
                    .map_err(|error| CodecError::described(causes::of_decoding(&error).into_owned(), error))?
            }
            Self::Json => {
                let mut deserializer = serde_json::Deserializer::from_slice(bytes);
                let value = T::deserialize(budget.bound(&mut deserializer)).map_err(CodecError::new)?;
                deserializer.end().map_err(CodecError::new)?;
                (value, bytes.len())
            }
            Self::MessagePack => {
                let mut deserializer = rmp_serde::Deserializer::new(io::Cursor::new(bytes));
                let value = T::deserialize(budget.bound(&mut deserializer)).map_err(CodecError::new)?;
                (value, deserializer.position() as usize)
            }
        };
        if used == bytes.len() { Ok(value) } else { Err(CodecError::new(TrailingBytes(bytes.len() - used))) }
    }
}

/// Why a value could not be encoded, or bytes not be decoded.
#[derive(Debug)]
pub struct CodecError(Box<dyn StdError + Send + Sync>);

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for CodecError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

impl CodecError {
    fn new(error: impl StdError + Send + Sync + 'static) -> Self {
        Self(Box::new(error))
    }

    fn described(message: String, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self(Box::new(Described { message, source: source.into() }))
    }
}

/// The error of a codec's library, with a message that names the field, its type and the cause.
#[derive(Debug)]
struct Described {
    message: String,
    source: Box<dyn StdError + Send + Sync>,
}

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Described {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.source)
    }
}

#[derive(Debug)]
struct TrailingBytes(usize);

impl fmt::Display for TrailingBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} trailing bytes after the value; both ends must declare the same fields", self.0)
    }
}

impl StdError for TrailingBytes {}

/// The length of the longest payload that is decoded a second time to find the field that does not decode, in bytes.
const MAX_EXPLAINED: usize = 64 << 10;

#[cold]
fn unknown(number: u8) -> Status {
    let known = Codec::ALL.map(|codec| format!("{} ({})", codec.name(), codec as u8)).join(", ");
    Status::new(Code::Unimplemented, format!("codec {number} is not supported, supported are {known}"))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use bytes::{BufMut, Bytes};
    use proptest::{
        collection::{btree_map, vec},
        prelude::*,
    };
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Unit,
        New(u8),
        Tuple(i64, String),
        Struct { some: Option<f64>, none: Option<()>, list: Vec<Shape>, map: BTreeMap<String, (char, bool)> },
    }

    fn encoded<T: Serialize>(codec: Codec, value: &T) -> BytesMut {
        let mut out = BytesMut::new();
        codec.encode(value, &mut out).unwrap();
        out
    }

    const STRUCTURED: [Codec; 3] = [Codec::Bincode, Codec::Json, Codec::MessagePack];

    #[test]
    fn values_round_trip_and_truncations_fail() {
        let shape = Shape::Struct {
            some: Some(1.5),
            none: None,
            list: vec![Shape::Unit, Shape::New(7), Shape::Tuple(-1, "x".into())],
            map: [("k".to_owned(), ('é', true))].into(),
        };
        for codec in STRUCTURED {
            let bytes = encoded(codec, &shape);
            assert_eq!(codec.decode::<Shape>(&bytes).unwrap(), shape);
            for cut in 0..bytes.len() {
                assert!(codec.decode::<Shape>(&bytes[..cut]).is_err(), "{codec:?} cut at {cut}");
            }
            let mut longer = bytes.clone();
            longer.put_u8(b'0');
            assert!(codec.decode::<Shape>(&longer).is_err(), "{codec:?} with a trailing byte");
        }
    }

    proptest! {
        #[test]
        fn every_number_round_trips(bits: u64, wide: i128, text: char) {
            let (double, single) = (f64::from_bits(bits), f32::from_bits(bits as u32));
            for codec in STRUCTURED {
                let survives = codec != Codec::Json || (double.is_finite() && single.is_finite());
                let mut out = BytesMut::new();
                prop_assert_eq!(codec.encode(&(double, single), &mut out).is_ok(), survives);
                if survives {
                    let (again, single_again): (f64, f32) = codec.decode(&out).unwrap();
                    prop_assert_eq!((again.to_bits(), single_again.to_bits()), (bits, bits as u32), "{:?}", codec);
                }
                let numbers = (wide, wide as u128, bits, bits as i64, text, bits as u8);
                prop_assert_eq!(codec.decode::<(i128, u128, u64, i64, char, u8)>(&encoded(codec, &numbers)).unwrap(), numbers);
            }
        }

        #[test]
        fn value_survives_or_fails_to_encode(
            nested: Option<Option<Option<u8>>>,
            nothing: Option<()>,
            maps in btree_map(any::<i64>(), btree_map(any::<bool>(), any::<Option<bool>>(), 0..3), 0..4),
            letters in btree_map(any::<char>(), vec(any::<Option<String>>(), 0..4), 0..4),
            pair: (Option<(u8, Option<u8>)>, Vec<u8>),
        ) {
            type Values = (
                Option<Option<Option<u8>>>,
                Option<()>,
                BTreeMap<i64, BTreeMap<bool, Option<bool>>>,
                BTreeMap<char, Vec<Option<String>>>,
                (Option<(u8, Option<u8>)>, Vec<u8>),
            );
            let values: Values = (nested, nothing, maps, letters, pair);
            for codec in STRUCTURED {
                let mut out = BytesMut::new();
                match codec.encode(&values, &mut out) {
                    Ok(()) => prop_assert_eq!(&codec.decode::<Values>(&out).unwrap(), &values, "{:?}", codec),
                    Err(error) => {
                        let is_lost = matches!(values.0, Some(None | Some(None))) || values.1.is_some();
                        prop_assert!(is_lost && codec != Codec::Bincode, "{:?}: {}", codec, error);
                    }
                }
            }
        }
    }

    fn failure<T: Serialize>(codec: Codec, value: &T) -> String {
        codec.encode(value, &mut BytesMut::new()).unwrap_err().to_string()
    }

    #[test]
    fn encode_error_names_field_type_and_fix() {
        #[derive(Serialize)]
        struct Unit;
        #[derive(Serialize)]
        struct Newtype<T>(T);
        #[derive(Serialize)]
        struct Order<T> {
            items: Vec<Item<T>>,
        }
        #[derive(Serialize)]
        struct Item<T> {
            price: T,
            #[serde(skip_serializing_if = "Option::is_none")]
            note: Option<u8>,
        }
        #[derive(Serialize)]
        struct Flat {
            #[serde(flatten)]
            more: BTreeMap<String, u8>,
        }
        fn order<T>(price: T, note: Option<u8>) -> Order<T> {
            Order { items: vec![Item { price, note }] }
        }
        let message = failure(Codec::Json, &order(f64::NAN, None));
        assert!(message.starts_with("`items[].price` of type `f64`: NaN and infinity"), "{message}");
        assert!(message.contains("codec bincode or messagepack"), "{message}");
        for codec in [Codec::Json, Codec::MessagePack] {
            for message in [
                failure(codec, &order(Some(Some(None::<u8>)), None)),
                failure(codec, &order(Some(()), None)),
                failure(codec, &order(Some(Newtype(Unit)), None)),
            ] {
                assert!(message.contains("would arrive as `None`; use codec bincode"), "{codec:?}: {message}");
                assert!(message.starts_with("`items[].price` of type `core::option::Option<"), "{message}");
            }
            assert!(codec.encode(&order(Some(Some(7)), None), &mut BytesMut::new()).is_ok());
        }
        let message = failure(Codec::Bincode, &order(7, None));
        assert!(message.starts_with("`items[].note`: ") && message.contains("skip_serializing_if"), "{message}");
        assert!(Codec::Bincode.encode(&order(7, Some(1)), &mut BytesMut::new()).is_ok());
        let message = failure(Codec::Bincode, &order(Flat { more: BTreeMap::new() }, Some(1)));
        assert!(message.starts_with("`items[].price` of type `") && message.contains("`flatten`"), "{message}");
    }

    #[test]
    fn decode_error_names_field_type_and_fix() {
        #[derive(Debug, Serialize, Deserialize)]
        struct Order {
            id: u8,
            items: Vec<Item>,
        }
        #[derive(Debug, Serialize, Deserialize)]
        struct Item {
            price: Price,
        }
        #[derive(Debug, Serialize, Deserialize)]
        #[serde(untagged)]
        enum Price {
            Whole(u32),
        }
        let order = Order { id: 1, items: vec![Item { price: Price::Whole(7) }] };
        let message = Codec::Bincode.decode::<Order>(&encoded(Codec::Bincode, &order)).unwrap_err().to_string();
        assert!(message.starts_with("`items[].price` of type `"), "{message}");
        assert!(message.contains("Price`: bincode contains no types"), "{message}");
        assert!(message.contains("use codec json or messagepack"), "{message}");
        for codec in [Codec::Json, Codec::MessagePack] {
            #[derive(Serialize)]
            struct Other {
                unknown: u8,
                items: [BTreeMap<&'static str, &'static str>; 1],
                id: u8,
            }
            let other = Other { unknown: 1, items: [[("price", "7")].into()], id: 1 };
            let message = codec.decode::<Order>(&encoded(codec, &other)).unwrap_err().to_string();
            assert!(message.starts_with("`items[].price` of type `"), "{codec:?}: {message}");
        }
        let message = Codec::Bincode.decode::<(u8, Vec<u32>)>(&[1, 1, 0, 0, 0, 0, 0, 0, 0]).unwrap_err().to_string();
        assert!(message.contains("both ends must declare the same fields"), "{message}");
    }

    #[test]
    fn bincode_writes_the_bytes_of_bincode_1() {
        let bytes = encoded(Codec::Bincode, &(258_u16, "Bo", Some(true)));
        assert_eq!(&bytes[..], b"\x02\x01\x02\0\0\0\0\0\0\0Bo\x01\x01");
    }

    #[test]
    fn huge_length_prefixes_allocate_nothing() {
        let mut bincode = BytesMut::new();
        bincode.put_u64_le(1 << 40);
        assert!(Codec::Bincode.decode::<Vec<u64>>(&bincode).is_err());
        assert!(Codec::Bincode.decode::<String>(&bincode).is_err());
        assert!(Codec::Bincode.decode::<Bytes>(&bincode).is_err());
        assert!(Codec::Bincode.decode::<HashMap<u64, u64>>(&bincode).is_err());
        // The longest prefix of MessagePack is 32 bits.
        assert!(Codec::MessagePack.decode::<Vec<u64>>(b"\xdd\xff\xff\xff\xff").is_err());
        assert!(Codec::MessagePack.decode::<HashMap<u64, u64>>(b"\xdf\xff\xff\xff\xff").is_err());
        assert!(Codec::MessagePack.decode::<String>(b"\xdb\xff\xff\xff\xff").is_err());
        assert!(Codec::MessagePack.decode::<Bytes>(b"\xc6\xff\xff\xff\xff").is_err());
    }

    #[test]
    fn zero_sized_elements_are_counted() {
        let mut bytes = BytesMut::new();
        bytes.put_u64_le(1 << 33);
        assert!(Codec::Bincode.decode::<Vec<()>>(&bytes).is_err());
        // At the limit, which is the 8 bytes of the prefix plus FREE_ELEMENTS, and one above.
        let limit = 8 + Codec::FREE_ELEMENTS;
        assert_eq!(Codec::Bincode.decode::<Vec<()>>(&encoded(Codec::Bincode, &vec![(); limit])).unwrap().len(), limit);
        assert!(Codec::Bincode.decode::<Vec<()>>(&encoded(Codec::Bincode, &vec![(); limit + 1])).is_err());
        assert!(Codec::MessagePack.decode::<Vec<()>>(b"\xdd\xff\xff\xff\xff\xc0").is_err());
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Nest(Vec<Nest>);

    #[derive(Debug, Serialize, Deserialize)]
    enum Chain {
        End,
        Link(Box<Chain>),
    }

    #[test]
    fn deep_nesting_does_not_overflow_the_stack() {
        const DEEP: usize = 100_000;
        let ones: Vec<u8> = [1, 0, 0, 0, 0, 0, 0, 0].repeat(DEEP);
        assert!(Codec::Bincode.decode::<Nest>(&ones).is_err());
        assert!(Codec::Bincode.decode::<Chain>(&[1, 0, 0, 0].repeat(DEEP)).is_err());
        assert!(Codec::Json.decode::<Nest>("[".repeat(DEEP).as_bytes()).is_err());
        assert!(Codec::Json.decode::<Chain>(r#"{"Link":"#.repeat(DEEP).as_bytes()).is_err());
        assert!(Codec::MessagePack.decode::<Nest>(&vec![0x91; DEEP]).is_err());
        // Unknown fields are skipped; skipping must not recurse without a limit either.
        #[derive(Debug, Deserialize)]
        struct Known {}
        for (codec, start, level) in
            [(Codec::Json, &b"{\"x\":"[..], &b"["[..]), (Codec::MessagePack, b"\x81\xa1x", b"\x91")]
        {
            let bytes = [start, &level.repeat(DEEP)].concat();
            assert!(codec.decode::<Known>(&bytes).is_err(), "{codec:?}");
        }
    }

    #[test]
    fn depth_limit_holds_at_and_above_the_limit() {
        // Each `Nest` counts two levels: a newtype and a sequence.
        let nest = |levels: usize| (1..levels).fold(Nest(vec![]), |inner, _| Nest(vec![inner]));
        for codec in STRUCTURED {
            let levels = Codec::MAX_DEPTH / 2;
            assert!(codec.decode::<Nest>(&encoded(codec, &nest(levels))).is_ok(), "{codec:?}");
            assert!(codec.decode::<Nest>(&encoded(codec, &nest(levels + 1))).is_err(), "{codec:?}");
        }
    }

    #[test]
    fn raw_accepts_only_bytes_and_text() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Arguments {
            data: Bytes,
        }
        let arguments = Arguments { data: Bytes::from_static(b"\0opaque") };
        let bytes = encoded(Codec::Raw, &arguments);
        assert_eq!(&bytes[..], b"\0opaque");
        assert_eq!(Codec::Raw.decode::<Arguments>(&bytes).unwrap(), arguments);
        assert_eq!(Codec::Raw.decode::<String>(b"text").unwrap(), "text");
        assert_eq!(&encoded(Codec::Raw, &"text")[..], b"text");
        Codec::Raw.decode::<()>(b"").unwrap();
        assert!(Codec::Raw.decode::<()>(b"x").is_err());
        assert!(Codec::Raw.decode::<String>(b"\xff").is_err());
        assert!(Codec::Raw.decode::<u32>(b"1234").is_err());
        assert!(Codec::Raw.encode(&(Bytes::new(), Bytes::new()), &mut BytesMut::new()).is_err());
        assert!(Codec::Raw.encode(&7, &mut BytesMut::new()).is_err());
    }

    #[test]
    fn unknown_codec_error_lists_supported_codecs() {
        let status = Codec::from_u8(4).unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains("bincode (2)"), "{status}");
    }
}
