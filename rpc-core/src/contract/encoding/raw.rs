//! The raw codec: a value that is bytes or text, bare or as the only argument, is sent unchanged.

use std::{error::Error as StdError, fmt};

use serde::{
    de::{self, IntoDeserializer},
    ser::{self, Impossible, Serialize},
};

use super::{output, write_buffer::WriteBuffer};

/// The value is not bytes or text, or the payload is not such a value.
#[derive(Debug)]
pub(super) struct RawError(String);

impl fmt::Display for RawError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for RawError {}

impl ser::Error for RawError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl de::Error for RawError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

pub(super) struct Serializer<'a> {
    pub(super) out: &'a mut WriteBuffer,
}

macro_rules! reject {
    ($($method:ident($($type:ty),*) -> $ok:ty;)*) => {$(
        fn $method(self, $(_: $type),*) -> Result<$ok, RawError> {
            Err(only_bytes())
        }
    )*};
}

impl<'a> ser::Serializer for Serializer<'a> {
    type Ok = ();
    type Error = RawError;
    type SerializeSeq = Bytewise<'a>;
    type SerializeTuple = Impossible<(), RawError>;
    type SerializeTupleStruct = Impossible<(), RawError>;
    type SerializeTupleVariant = Impossible<(), RawError>;
    type SerializeMap = Impossible<(), RawError>;
    type SerializeStruct = OneField<'a>;
    type SerializeStructVariant = Impossible<(), RawError>;

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), RawError> {
        self.out.put(bytes);
        Ok(())
    }

    fn serialize_str(self, text: &str) -> Result<(), RawError> {
        self.serialize_bytes(text.as_bytes())
    }

    fn serialize_unit(self) -> Result<(), RawError> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), RawError> {
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), RawError> {
        value.serialize(self)
    }

    fn serialize_struct(self, _: &'static str, fields: usize) -> Result<OneField<'a>, RawError> {
        if fields > 1 { Err(only_bytes()) } else { Ok(OneField(self)) }
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Bytewise<'a>, RawError> {
        Ok(Bytewise(self.out))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), RawError> {
        Err(only_bytes())
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), RawError> {
        Err(only_bytes())
    }

    reject! {
        serialize_bool(bool) -> ();
        serialize_i8(i8) -> ();
        serialize_i16(i16) -> ();
        serialize_i32(i32) -> ();
        serialize_i64(i64) -> ();
        serialize_u8(u8) -> ();
        serialize_u16(u16) -> ();
        serialize_u32(u32) -> ();
        serialize_u64(u64) -> ();
        serialize_f32(f32) -> ();
        serialize_f64(f64) -> ();
        serialize_char(char) -> ();
        serialize_none() -> ();
        serialize_unit_variant(&'static str, u32, &'static str) -> ();
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }
}

/// The struct of a method's arguments, if it has at most one field.
pub(super) struct OneField<'a>(Serializer<'a>);

impl ser::SerializeStruct for OneField<'_> {
    type Ok = ();
    type Error = RawError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), RawError> {
        value.serialize(Serializer { out: self.0.out })
    }

    fn end(self) -> Result<(), RawError> {
        Ok(())
    }
}

/// A `Vec<u8>`, which serde serializes element by element.
pub(super) struct Bytewise<'a>(&'a mut WriteBuffer);

impl ser::SerializeSeq for Bytewise<'_> {
    type Ok = ();
    type Error = RawError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RawError> {
        // bincode writes a `u8` as exactly one byte. It does the same for `i8`, `bool` and `None`, which are accepted
        // as that byte.
        let at = self.0.len();
        output::encode_bincode(value, self.0).map_err(|_| only_bytes())?;
        if self.0.len() == at + 1 { Ok(()) } else { Err(only_bytes()) }
    }

    fn end(self) -> Result<(), RawError> {
        Ok(())
    }
}

pub(super) struct Deserializer<'de> {
    pub(super) bytes: &'de [u8],
}

impl<'de> Deserializer<'de> {
    fn text(&self) -> Result<&'de str, RawError> {
        std::str::from_utf8(self.bytes).map_err(|_| RawError("the payload is not UTF-8".to_owned()))
    }

    fn check_empty(&self) -> Result<(), RawError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(RawError("the payload is not empty".to_owned())) }
    }
}

impl<'de> de::Deserializer<'de> for Deserializer<'de> {
    type Error = RawError;

    fn deserialize_any<V: de::Visitor<'de>>(self, _: V) -> Result<V::Value, RawError> {
        Err(only_bytes())
    }

    fn deserialize_bytes<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        visitor.visit_borrowed_bytes(self.bytes)
    }

    fn deserialize_byte_buf<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        visitor.visit_byte_buf(self.bytes.to_vec())
    }

    fn deserialize_str<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_string<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        visitor.visit_string(self.text()?.to_owned())
    }

    fn deserialize_unit<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        self.check_empty()?;
        visitor.visit_unit()
    }

    fn deserialize_seq<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        visitor.visit_seq(de::value::SeqDeserializer::new(self.bytes.iter().copied()))
    }

    fn deserialize_newtype_struct<V: de::Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, RawError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: de::Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, RawError> {
        match fields {
            [] => {
                self.check_empty()?;
                visitor.visit_map(Argument { name: None, bytes: self.bytes })
            }
            [name] => visitor.visit_map(Argument { name: Some(name), bytes: self.bytes }),
            _ => Err(only_bytes()),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char option unit_struct tuple tuple_struct map enum
        identifier ignored_any
    }
}

/// The payload as the only field of a struct.
struct Argument<'de> {
    name: Option<&'static str>,
    bytes: &'de [u8],
}

impl<'de> de::MapAccess<'de> for Argument<'de> {
    type Error = RawError;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, RawError> {
        self.name.take().map(|name| seed.deserialize(name.into_deserializer())).transpose()
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, RawError> {
        seed.deserialize(Deserializer { bytes: self.bytes })
    }
}

fn only_bytes() -> RawError {
    RawError("codec raw encodes only bytes or text, as the only argument or as the result".to_owned())
}
