//! A serde adapter that rejects values which a format would change, and names the field that fails.
//!
//! The receiver of such a value would read another one: JSON writes NaN and `Some(None)` as `null`, and bincode leaves
//! out a skipped field without a trace.

use std::{any::type_name, marker::PhantomData};

use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::trail::Trail;

/// The values that a format can represent.
pub(super) trait Format {
    /// Whether `None`, `()` and unit structs have the same form, so that `Some` of one of them is lost.
    const HAS_ONE_NULL: bool;
    /// Whether only finite numbers have a form.
    const IS_FINITE: bool;
    /// Whether a receiver recognizes that a field was skipped.
    const NAMES_FIELDS: bool;
}

pub(super) struct Bincode;

impl Format for Bincode {
    const HAS_ONE_NULL: bool = false;
    const IS_FINITE: bool = false;
    const NAMES_FIELDS: bool = false;
}

pub(super) struct Json;

impl Format for Json {
    const HAS_ONE_NULL: bool = true;
    const IS_FINITE: bool = true;
    const NAMES_FIELDS: bool = true;
}

pub(super) struct MessagePack;

impl Format for MessagePack {
    const HAS_ONE_NULL: bool = true;
    const IS_FINITE: bool = false;
    const NAMES_FIELDS: bool = true;
}

/// A value, serializer or part of a serializer whose values are checked for the format `F`.
pub(super) struct Checked<'t, I, F> {
    inner: I,
    /// Whether the value is the content of a `Some`.
    in_some: bool,
    trail: &'t Trail,
    format: PhantomData<F>,
}

impl<'t, I, F> Checked<'t, I, F> {
    pub(super) fn new(inner: I, trail: &'t Trail) -> Self {
        Self { inner, in_some: false, trail, format: PhantomData }
    }

    fn within<J>(&self, inner: J) -> Checked<'t, J, F> {
        Checked::new(inner, self.trail)
    }
}

impl<T: Serialize + ?Sized, F: Format> Serialize for Checked<'_, &T, F> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { in_some, trail, format, .. } = *self;
        self.inner.serialize(Checked { inner: serializer, in_some, trail, format })
    }
}

macro_rules! scalars {
    ($($method:ident($type:ty))*) => {$(
        #[inline]
        fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
        }
    )*};
}

impl<'t, S: Serializer, F: Format> Checked<'t, S, F> {
    fn check_null(&self) -> Result<(), S::Error> {
        if F::HAS_ONE_NULL && self.in_some { Err(self.trail.fail(NESTED_OPTION)) } else { Ok(()) }
    }

    fn check_finite(&self, is_finite: bool) -> Result<(), S::Error> {
        if F::IS_FINITE && !is_finite { Err(self.trail.fail(NOT_FINITE)) } else { Ok(()) }
    }
}

impl<'t, S: Serializer, F: Format> Serializer for Checked<'t, S, F> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Checked<'t, S::SerializeSeq, F>;
    type SerializeTuple = Checked<'t, S::SerializeTuple, F>;
    type SerializeTupleStruct = Checked<'t, S::SerializeTupleStruct, F>;
    type SerializeTupleVariant = Checked<'t, S::SerializeTupleVariant, F>;
    type SerializeMap = Checked<'t, S::SerializeMap, F>;
    type SerializeStruct = Checked<'t, S::SerializeStruct, F>;
    type SerializeStructVariant = Checked<'t, S::SerializeStructVariant, F>;

    scalars! {
        serialize_bool(bool) serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64)
        serialize_i128(i128) serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64)
        serialize_u128(u128) serialize_char(char) serialize_str(&str) serialize_bytes(&[u8])
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        self.check_finite(value.is_finite())?;
        self.inner.serialize_f32(value)
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        self.check_finite(value.is_finite())?;
        self.inner.serialize_f64(value)
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.check_null()?;
        self.inner.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let value = Checked { in_some: true, ..self.within(value) };
        self.inner.serialize_some(&value)
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.check_null()?;
        self.inner.serialize_unit()
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        self.check_null()?;
        self.inner.serialize_unit_struct(name)
    }

    fn serialize_unit_variant(self, name: &'static str, index: u32, variant: &'static str) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        // It has the form of its content.
        let value = Checked { in_some: self.in_some, ..self.within(value) };
        self.inner.serialize_newtype_struct(name, &value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = self.within(value);
        self.inner.serialize_newtype_variant(name, index, variant, &value)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        Ok(Checked::new(self.inner.serialize_seq(length)?, self.trail))
    }

    fn serialize_tuple(self, length: usize) -> Result<Self::SerializeTuple, S::Error> {
        Ok(Checked::new(self.inner.serialize_tuple(length)?, self.trail))
    }

    fn serialize_tuple_struct(self, name: &'static str, length: usize) -> Result<Self::SerializeTupleStruct, S::Error> {
        Ok(Checked::new(self.inner.serialize_tuple_struct(name, length)?, self.trail))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        Ok(Checked::new(self.inner.serialize_tuple_variant(name, index, variant, length)?, self.trail))
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        Ok(Checked::new(self.inner.serialize_map(length)?, self.trail))
    }

    fn serialize_struct(self, name: &'static str, length: usize) -> Result<Self::SerializeStruct, S::Error> {
        Ok(Checked::new(self.inner.serialize_struct(name, length)?, self.trail))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        Ok(Checked::new(self.inner.serialize_struct_variant(name, index, variant, length)?, self.trail))
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! elements {
    ($($trait:ident::$method:ident)*) => {$(
        impl<S: $trait, F: Format> $trait for Checked<'_, S, F> {
            type Ok = S::Ok;
            type Error = S::Error;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
                let value = self.within(value);
                self.inner.$method(&value).inspect_err(|_| self.trail.note("[]", type_name::<T>()))
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.inner.end()
            }
        }
    )*};
}

elements! {
    SerializeSeq::serialize_element
    SerializeTuple::serialize_element
    SerializeTupleStruct::serialize_field
    SerializeTupleVariant::serialize_field
}

impl<S: SerializeMap, F: Format> SerializeMap for Checked<'_, S, F> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), S::Error> {
        let key = self.within(key);
        self.inner.serialize_key(&key).inspect_err(|_| self.trail.note("[key]", type_name::<T>()))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        let value = self.within(value);
        self.inner.serialize_value(&value).inspect_err(|_| self.trail.note("[value]", type_name::<T>()))
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.inner.end()
    }
}

macro_rules! fields {
    ($($trait:ident)*) => {$(
        impl<S: $trait, F: Format> $trait for Checked<'_, S, F> {
            type Ok = S::Ok;
            type Error = S::Error;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), S::Error> {
                let value = self.within(value);
                self.inner.serialize_field(key, &value).inspect_err(|_| self.trail.note(key, type_name::<T>()))
            }

            fn skip_field(&mut self, key: &'static str) -> Result<(), S::Error> {
                if F::NAMES_FIELDS {
                    return self.inner.skip_field(key);
                }
                let failed = self.trail.fail(SKIPPED);
                self.trail.note(key, "");
                Err(failed)
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.inner.end()
            }
        }
    )*};
}

fields! { SerializeStruct SerializeStructVariant }

const NESTED_OPTION: &str = "`Some` of a value without content would arrive as `None`; use codec bincode, an enum \
                             instead of the option, or, for a field, `rpc_core::nullable`";
const NOT_FINITE: &str = "NaN and infinity have no form in JSON; use codec bincode or messagepack, or an `Option`";
const SKIPPED: &str = "the receiver cannot recognize a field that `skip_serializing_if` left out; remove the \
                       attribute, or use codec json or messagepack";
