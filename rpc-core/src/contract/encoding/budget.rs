//! A serde adapter that limits depth and number of elements, for any format.
//!
//! bincode's own limit counts bytes. Nesting and zero-sized elements take none, so ten bytes could exhaust the stack or
//! loop for hours. This adapter counts every container when it is entered, and every element of a sequence or map when
//! it is read. It does not count fields of structs and tuples: the type determines their number, not the input.
//!
//! After a failure, a second pass over the same input records the path to the field that failed. The first pass has
//! another [`Recorder`], so successful decoding costs nothing more.

use std::{cell::Cell, fmt, marker::PhantomData};

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::recorder::Recorder;

/// The remaining depth and number of elements of one payload.
pub(super) struct Budget<R> {
    depth: Cell<usize>,
    elements: Cell<usize>,
    pub(super) recorder: R,
}

impl<R: Recorder> Budget<R> {
    pub(super) fn for_payload(length: usize) -> Self {
        let (depth, elements) = (Cell::new(MAX_DEPTH), Cell::new(length + FREE_ELEMENTS));
        Self { depth, elements, recorder: R::default() }
    }

    pub(super) fn bound<D>(&self, inner: D) -> Bounded<'_, D, R> {
        Bounded { inner, budget: self, counted: false, place: R::Place::default() }
    }

    pub(super) fn seed<T>(&self) -> Bounded<'_, PhantomData<T>, R> {
        self.bound(PhantomData)
    }

    fn descend<T, E: Error>(&self, inside: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let left = self.depth.get();
        if left == 0 {
            return Err(E::custom(format_args!("nested deeper than {}", MAX_DEPTH)));
        }
        self.depth.set(left - 1);
        let result = inside();
        self.depth.set(left);
        result
    }

    fn count<E: Error>(&self) -> Result<(), E> {
        let left = self.elements.get().checked_sub(1);
        self.elements.set(left.ok_or_else(|| E::custom("more elements than the payload's bytes allow"))?);
        Ok(())
    }
}

/// A deserializer, visitor, seed or access that is limited by a [`Budget`].
pub(super) struct Bounded<'b, I, R: Recorder> {
    inner: I,
    budget: &'b Budget<R>,
    /// Whether the elements of the visited container are counted.
    counted: bool,
    /// The next element, or the field whose value is next.
    place: R::Place,
}

impl<I, R: Recorder> Bounded<'_, I, R> {
    fn at(self, place: R::Place) -> Self {
        Self { place, ..self }
    }
}

/// Scalars contain nothing, so their visitors are passed on unchanged.
macro_rules! scalars {
    ($($method:ident)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method(visitor)
        }
    )*};
}

macro_rules! containers {
    ($($method:ident($($name:ident: $type:ty),*) $counted:literal)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, $($name: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method($($name,)* Bounded { counted: $counted, ..self.budget.bound(visitor) })
        }
    )*};
}

impl<'de, D: Deserializer<'de>, R: Recorder> Deserializer<'de> for Bounded<'_, D, R> {
    type Error = D::Error;

    scalars! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64
        deserialize_char deserialize_str deserialize_bytes deserialize_unit
    }

    containers! {
        deserialize_any() true
        deserialize_ignored_any() true
        deserialize_option() true
        deserialize_newtype_struct(name: &'static str) true
        deserialize_seq() true
        deserialize_map() true
        deserialize_tuple(length: usize) false
        deserialize_tuple_struct(name: &'static str, length: usize) false
        deserialize_enum(name: &'static str, variants: &'static [&'static str]) false
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_struct(name, fields, self.budget.bound(visitor).at(R::first(fields)))
    }

    #[inline]
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_identifier(self.budget.bound(visitor).at(self.place))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, visitor)
    }

    // bincode allocates the length in the prefix of an owned string or buffer before it checks that the input has as
    // many bytes. Borrowed ones are slices of the input.
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_bytes(visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! visits {
    ($($method:ident($type:ty))*) => {$(
        #[inline]
        fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>, R: Recorder> Visitor<'de> for Bounded<'_, V, R> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    visits! {
        visit_bool(bool) visit_i8(i8) visit_i16(i16) visit_i32(i32) visit_i64(i64) visit_i128(i128)
        visit_u8(u8) visit_u16(u16) visit_u32(u32) visit_u64(u64) visit_u128(u128) visit_f32(f32) visit_f64(f64)
        visit_char(char) visit_string(String)
        visit_bytes(&[u8]) visit_borrowed_bytes(&'de [u8]) visit_byte_buf(Vec<u8>)
    }

    #[inline]
    fn visit_str<E: Error>(self, value: &str) -> Result<V::Value, E> {
        self.budget.recorder.record_key(self.place, value);
        self.inner.visit_str(value)
    }

    #[inline]
    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<V::Value, E> {
        self.budget.recorder.record_key(self.place, value);
        self.inner.visit_borrowed_str(value)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let Self { inner: visitor, budget, .. } = self;
        budget.descend(|| visitor.visit_some(budget.bound(inner)))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let Self { inner: visitor, budget, .. } = self;
        budget.descend(|| visitor.visit_newtype_struct(budget.bound(inner)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let Self { inner: visitor, budget, counted, place } = self;
        budget.descend(|| visitor.visit_seq(Bounded { inner, budget, counted, place }))
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let Self { inner: visitor, budget, counted, place } = self;
        budget.descend(|| visitor.visit_map(Bounded { inner, budget, counted, place }))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let Self { inner: visitor, budget, .. } = self;
        budget.descend(|| visitor.visit_enum(budget.bound(inner)))
    }
}

impl<'de, S: DeserializeSeed<'de>, R: Recorder> DeserializeSeed<'de> for Bounded<'_, S, R> {
    type Value = S::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(self.budget.bound(deserializer).at(self.place))
    }
}

impl<'de, A: SeqAccess<'de>, R: Recorder> SeqAccess<'de> for Bounded<'_, A, R> {
    type Error = A::Error;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, A::Error> {
        let (seed, place) = (self.budget.bound(seed), R::advance(&mut self.place));
        let failed = |_: &A::Error| self.budget.recorder.note::<T::Value>(place);
        let element = self.inner.next_element_seed(seed).inspect_err(failed)?;
        if self.counted && element.is_some() {
            self.budget.count()?;
        }
        Ok(element)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint().map(|hint| hint.min(self.budget.elements.get()))
    }
}

impl<'de, A: MapAccess<'de>, R: Recorder> MapAccess<'de> for Bounded<'_, A, R> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let seed = self.budget.bound(seed).at(self.place);
        let key = self.inner.next_key_seed(seed)?;
        self.budget.recorder.move_to_key(&mut self.place);
        if self.counted && key.is_some() {
            self.budget.count()?;
        }
        Ok(key)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        let failed = |_: &A::Error| self.budget.recorder.note::<T::Value>(self.place);
        self.inner.next_value_seed(self.budget.bound(seed)).inspect_err(failed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint().map(|hint| hint.min(self.budget.elements.get()))
    }
}

impl<'de, 'b, A: EnumAccess<'de>, R: Recorder> EnumAccess<'de> for Bounded<'b, A, R> {
    type Error = A::Error;
    type Variant = Bounded<'b, A::Variant, R>;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self::Variant), A::Error> {
        let budget = self.budget;
        let (value, variant) = self.inner.variant_seed(budget.bound(seed))?;
        Ok((value, budget.bound(variant)))
    }
}

impl<'de, A: VariantAccess<'de>, R: Recorder> VariantAccess<'de> for Bounded<'_, A, R> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, A::Error> {
        self.inner.newtype_variant_seed(self.budget.bound(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.inner.tuple_variant(length, self.budget.bound(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.inner.struct_variant(fields, self.budget.bound(visitor).at(R::first(fields)))
    }
}

/// The deepest nesting.
pub(super) const MAX_DEPTH: usize = 128;
/// The number of elements in addition to one for each byte.
pub(super) const FREE_ELEMENTS: usize = 16;
