//! The deserializer that records which forms a type asks for, and offers values of them.

use std::any::type_name;

use serde::de::{self, Visitor};

use super::{
    super::types::Type,
    access::{Elements, Entries, OneVariant, visit_fields},
    at::{At, within},
    error::TraceError,
    graph::{Content, Form, Graph, Kind, NamedKey, VariantState},
    names::inside_option,
    samples,
};

macro_rules! leaves {
    ($($method:ident $visit:ident $ty:ident $value:expr;)*) => {$(
        fn $method<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, TraceError> {
            let attempt = self.ask_leaf::<V::Value>(Type::$ty)?;
            let value: fn(usize) -> _ = $value;
            visitor.$visit(value(attempt))
        }
    )*};
}

impl<'g> de::Deserializer<'static> for At<'g> {
    type Error = TraceError;

    fn is_human_readable(&self) -> bool {
        // The codecs in which the form of a value matters most, bincode and MessagePack, are not.
        false
    }

    leaves! {
        deserialize_bool visit_bool Bool |attempt| attempt == 1;
        deserialize_i8 visit_i8 I8 |attempt| attempt as i8;
        deserialize_i16 visit_i16 I16 |attempt| attempt as i16;
        deserialize_i32 visit_i32 I32 |attempt| attempt as i32;
        deserialize_i64 visit_i64 I64 |attempt| attempt as i64;
        deserialize_i128 visit_i128 I128 |attempt| attempt as i128;
        deserialize_u8 visit_u8 U8 |attempt| attempt as u8;
        deserialize_u16 visit_u16 U16 |attempt| attempt as u16;
        deserialize_u32 visit_u32 U32 |attempt| attempt as u32;
        deserialize_u64 visit_u64 U64 |attempt| attempt as u64;
        deserialize_u128 visit_u128 U128 |attempt| attempt as u128;
        deserialize_f32 visit_f32 F32 |attempt| attempt as f32;
        deserialize_f64 visit_f64 F64 |attempt| attempt as f64;
        deserialize_char visit_char Char |_| 'a';
        deserialize_str visit_borrowed_str String samples::text;
        deserialize_string visit_borrowed_str String samples::text;
        deserialize_bytes visit_borrowed_bytes Bytes samples::bytes;
        deserialize_byte_buf visit_borrowed_bytes Bytes samples::bytes;
    }

    fn deserialize_any<V: Visitor<'static>>(self, _: V) -> Result<V::Value, TraceError> {
        self.graph.borrow_mut().slots[self.slot].rust_name = type_name::<V::Value>();
        Err(TraceError::Other)
    }

    serde::forward_to_deserialize_any! { <V: Visitor<'static>> identifier ignored_any }

    fn deserialize_unit<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, TraceError> {
        self.ask_leaf::<V::Value>(Type::Unit)?;
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, TraceError> {
        let (form, attempts) =
            self.ask::<V::Value>(|form| matches!(form, Form::Option(_)), |graph| Form::Option(graph.new_slot()))?;
        let Form::Option(inner) = form else { return Err(TraceError::Other) };
        if attempts == 0 && !self.graph.borrow().is_wanted(inner) {
            return visitor.visit_none();
        }
        within(self.graph, inner, inside_option(type_name::<V::Value>()), |at| visitor.visit_some(at))
    }

    fn deserialize_unit_struct<V: Visitor<'static>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        self.with_struct(("unit", name, &[]), |_| Content::Unit, |_, _| visitor.visit_unit())
    }

    fn deserialize_newtype_struct<V: Visitor<'static>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        self.with_struct(
            ("newtype", name, &[]),
            |graph| Content::Newtype(graph.new_slot()),
            |_, content| {
                let Content::Newtype(inner) = content else { return Err(TraceError::Other) };
                within(self.graph, inner, type_name::<V::Value>(), |at| visitor.visit_newtype_struct(at))
            },
        )
    }

    fn deserialize_tuple_struct<V: Visitor<'static>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        if length > MAX_TRACE_TUPLE {
            return Err(TraceError::Other);
        }
        self.with_struct(
            ("tuple", name, &[]),
            |graph| Content::Tuple(graph.new_slots(length)),
            |_, content| visitor.visit_seq(Elements::new(self.graph, content.slots())),
        )
    }

    fn deserialize_struct<V: Visitor<'static>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        self.with_struct(
            ("struct", name, fields),
            |graph| Content::Fields(graph.new_fields(fields)),
            |id, _| visit_fields(self.graph, (id, None), visitor),
        )
    }

    fn deserialize_tuple<V: Visitor<'static>>(self, length: usize, visitor: V) -> Result<V::Value, TraceError> {
        if length > MAX_TRACE_TUPLE {
            return Err(TraceError::Other);
        }
        let (form, _) = self.ask::<V::Value>(
            |form| matches!(form, Form::Tuple(elements) if elements.len() == length),
            |graph| Form::Tuple(graph.new_slots(length)),
        )?;
        let Form::Tuple(elements) = form else { return Err(TraceError::Other) };
        visitor.visit_seq(Elements::new(self.graph, elements))
    }

    fn deserialize_seq<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, TraceError> {
        let (form, attempts) =
            self.ask::<V::Value>(|form| matches!(form, Form::Sequence(_)), |graph| Form::Sequence(graph.new_slot()))?;
        let Form::Sequence(element) = form else { return Err(TraceError::Other) };
        let is_empty = attempts == 0 && !self.graph.borrow().is_wanted(element);
        visitor.visit_seq(Elements::new(self.graph, if is_empty { Vec::new() } else { vec![element] }))
    }

    fn deserialize_map<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, TraceError> {
        let (form, attempts) = self.ask::<V::Value>(
            |form| matches!(form, Form::Map(..)),
            |graph| Form::Map(graph.new_slot(), graph.new_slot()),
        )?;
        let Form::Map(key, value) = form else { return Err(TraceError::Other) };
        let is_empty = {
            let graph = self.graph.borrow();
            attempts == 0 && !graph.is_wanted(key) && !graph.is_wanted(value)
        };
        visitor.visit_map(Entries::new(self.graph, key, value, is_empty))
    }

    fn deserialize_enum<V: Visitor<'static>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        let key = NamedKey { rust_name: type_name::<V::Value>(), name, kind: "enum", members: variants };
        let states = |_: &mut Graph| {
            let state = |name: &&'static str| VariantState { name, content: Content::Unseen, cost: None };
            Kind::Enum(variants.iter().map(state).collect())
        };
        let id = self.ask_named::<V::Value>(key, states)?;
        let Some(variant) = self.graph.borrow().choose_variant(id) else { return Err(TraceError::Other) };
        let start = self.graph.borrow().steps;
        self.graph.borrow_mut().active.push((id, Some(variant)));
        let result = visitor.visit_enum(OneVariant { graph: self.graph, id, variant, name: variants[variant] });
        let mut graph = self.graph.borrow_mut();
        graph.active.pop();
        graph.finish_variant(id, variant, start, result.is_ok());
        result
    }
}

/// The longest tuple or array whose elements are described.
const MAX_TRACE_TUPLE: usize = 1024;
