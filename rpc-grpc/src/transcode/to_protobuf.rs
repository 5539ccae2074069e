//! [`to_protobuf`]: from MessagePack to protobuf.

use bytes::{BufMut as _, BytesMut};

use super::{
    any,
    fault::Fault,
    messagepack::{self, Token},
    wire::{write_delimited, write_tag, write_varint},
};
use crate::schema::{Count, Field, Form, Kind, Message, Presence, Proto};

/// Converts a value of MessagePack to a message, and appends it to `out`.
///
/// # Errors
///
/// A fault of the value: the type serializes in another form than its description has.
pub(crate) fn to_protobuf(proto: &Proto, message: usize, value: &[u8], out: &mut BytesMut) -> Result<(), Fault> {
    let mut input = value;
    Writing { proto }.message(&proto.messages[message], &mut input, out, MAX_DEPTH)?;
    if input.is_empty() { Ok(()) } else { Err(Fault::new("bytes follow the value")) }
}

#[derive(Clone, Copy)]
struct Writing<'a> {
    proto: &'a Proto,
}

impl Writing<'_> {
    fn message(self, message: &Message, input: &mut &[u8], out: &mut BytesMut, depth: usize) -> Result<(), Fault> {
        let depth = depth.checked_sub(1).ok_or_else(|| Fault::new("a value is nested too deeply"))?;
        match message.form {
            Form::Fields => {
                let Token::Map(length) = messagepack::read(input)? else { return Err(Fault::new(OTHER_FORM)) };
                // Most values have the fields in the order of the description.
                let mut expected = 0;
                for _ in 0..length {
                    let Token::Text(name) = messagepack::read(input)? else { return Err(Fault::new(OTHER_FORM)) };
                    let is_named = |index: &usize| message.fields.get(*index).is_some_and(|field| field.name == name);
                    let index = Some(expected)
                        .filter(is_named)
                        .or_else(|| message.fields.iter().position(|field| field.name == name));
                    let Some(index) = index else {
                        messagepack::skip(input)?;
                        continue;
                    };
                    expected = index + 1;
                    self.field(message, index, input, out, depth)?;
                }
                Ok(())
            }
            Form::Elements => {
                let Token::Array(length) = messagepack::read(input)? else { return Err(Fault::new(OTHER_FORM)) };
                if length != message.fields.len() {
                    return Err(Fault::new(OTHER_FORM));
                }
                (0..length).try_for_each(|index| self.field(message, index, input, out, depth))
            }
            Form::Value => self.field(message, 0, input, out, depth),
            Form::Variants => {
                let (name, has_content) = match messagepack::read(input)? {
                    Token::Text(name) => (name, false),
                    Token::Map(1) => match messagepack::read(input)? {
                        Token::Text(name) => (name, true),
                        _ => return Err(Fault::new(OTHER_FORM)),
                    },
                    _ => return Err(Fault::new(OTHER_FORM)),
                };
                let index = message.fields.iter().position(|field| field.name == name);
                let index = index.ok_or_else(|| Fault::new("the variant is not described"))?;
                if has_content {
                    return self.field(message, index, input, out, depth);
                }
                write_tag(Field::number(index), DELIMITED, out);
                write_varint(0, out);
                Ok(())
            }
            Form::Entry => {
                (0..message.fields.len()).try_for_each(|index| self.field(message, index, input, out, depth))
            }
            Form::Nil | Form::Empty => messagepack::skip(input),
        }
    }

    fn field(
        self,
        message: &Message,
        index: usize,
        input: &mut &[u8],
        out: &mut BytesMut,
        depth: usize,
    ) -> Result<(), Fault> {
        let field = &message.fields[index];
        let number = Field::number(index);
        self.values(field, number, input, out, depth).map_err(|fault| fault.within(&field.proto_name))
    }

    fn values(
        self,
        field: &Field,
        number: u32,
        input: &mut &[u8],
        out: &mut BytesMut,
        depth: usize,
    ) -> Result<(), Fault> {
        let is_nil = input.first() == Some(&NIL);
        match field.count {
            Count::One if is_nil && !self.accepts_nil(field) => messagepack::skip(input),
            Count::One => {
                let at = out.len();
                write_tag(number, wire_type(field.kind), out);
                let value_at = out.len();
                self.value(field.kind, input, out, depth)?;
                let is_default = out[value_at..].iter().all(|byte| *byte == 0);
                if is_default && !field.has_presence() {
                    out.truncate(at);
                }
                Ok(())
            }
            Count::Many => {
                let Token::Array(length) = messagepack::read(input)? else { return Err(Fault::new(OTHER_FORM)) };
                if !field.kind.is_packed() {
                    return (0..length).try_for_each(|_| {
                        write_tag(number, wire_type(field.kind), out);
                        self.value(field.kind, input, out, depth)
                    });
                }
                if length == 0 {
                    return Ok(());
                }
                write_tag(number, DELIMITED, out);
                write_delimited(out, |out| (0..length).try_for_each(|_| self.value(field.kind, input, out, depth)))
            }
            Count::Entries(entry) => {
                let Token::Map(length) = messagepack::read(input)? else { return Err(Fault::new(OTHER_FORM)) };
                let entry = &self.proto.messages[entry];
                (0..length).try_for_each(|_| {
                    write_tag(number, DELIMITED, out);
                    write_delimited(out, |out| self.message(entry, input, out, depth))
                })
            }
        }
    }

    /// Returns whether nil is a value of a field, and not its absence.
    fn accepts_nil(self, field: &Field) -> bool {
        match field.kind {
            Kind::Any => field.presence != Presence::Option,
            Kind::Message(index) => {
                let message = &self.proto.messages[index];
                field.presence != Presence::Option && matches!(message.form, Form::Nil | Form::Value)
            }
            _ => false,
        }
    }

    fn value(self, kind: Kind, input: &mut &[u8], out: &mut BytesMut, depth: usize) -> Result<(), Fault> {
        match kind {
            Kind::Message(index) => {
                let message = &self.proto.messages[index];
                return write_delimited(out, |out| self.message(message, input, out, depth));
            }
            Kind::Any => return write_delimited(out, |out| any::to_value(input, out, depth)),
            Kind::Octets => return octets(input, out),
            _ => {}
        }
        let number = |value, out: &mut BytesMut| {
            write_varint(value, out);
            Ok(())
        };
        let range = || Fault::new("a number is out of range");
        match (kind, messagepack::read(input)?) {
            (Kind::Bool, Token::Bool(value)) => number(u64::from(value), out),
            (Kind::Int32 | Kind::Int64, Token::Int(value)) => {
                number(i64::try_from(value).map_err(|_| range())? as u64, out)
            }
            (Kind::Uint32 | Kind::Uint64, Token::Int(value)) => number(u64::try_from(value).map_err(|_| range())?, out),
            (Kind::Float, Token::Float(value)) => {
                out.put_f32_le(value as f32);
                Ok(())
            }
            (Kind::Double, Token::Float(value)) => {
                out.put_f64_le(value);
                Ok(())
            }
            (Kind::String | Kind::Char, Token::Text(text)) => {
                write_text(text.as_bytes(), out);
                Ok(())
            }
            (Kind::Bytes, Token::Bytes(bytes)) => {
                write_text(bytes, out);
                Ok(())
            }
            (Kind::Int128, Token::Bytes(bytes)) => {
                let bytes = bytes.try_into().map_err(|_| Fault::new(OTHER_FORM))?;
                write_text(i128::from_be_bytes(bytes).to_string().as_bytes(), out);
                Ok(())
            }
            (Kind::Uint128, Token::Bytes(bytes)) => {
                let bytes = bytes.try_into().map_err(|_| Fault::new(OTHER_FORM))?;
                write_text(u128::from_be_bytes(bytes).to_string().as_bytes(), out);
                Ok(())
            }
            (Kind::Int128 | Kind::Uint128, Token::Int(value)) => {
                write_text(value.to_string().as_bytes(), out);
                Ok(())
            }
            (Kind::Enum(index), Token::Text(name)) => {
                let position = self.proto.enums[index].iter().position(|variant| variant == name);
                let position = position.ok_or_else(|| Fault::new("the variant is not described"))?;
                number(position as u64 + 1, out)
            }
            _ => Err(Fault::new(OTHER_FORM)),
        }
    }
}

/// Writes an array of numbers of 8 bits as bytes.
fn octets(input: &mut &[u8], out: &mut BytesMut) -> Result<(), Fault> {
    match messagepack::read(input)? {
        Token::Bytes(bytes) => {
            write_text(bytes, out);
            Ok(())
        }
        Token::Array(length) => write_delimited(out, |out| {
            // The value has at least one byte for each.
            out.reserve(length.min(input.len()));
            (0..length).try_for_each(|_| match messagepack::read(input)? {
                Token::Int(value) => {
                    out.put_u8(u8::try_from(value).map_err(|_| Fault::new("a number is out of range"))?);
                    Ok(())
                }
                _ => Err(Fault::new(OTHER_FORM)),
            })
        }),
        _ => Err(Fault::new(OTHER_FORM)),
    }
}

fn write_text(bytes: &[u8], out: &mut BytesMut) {
    write_varint(bytes.len() as u64, out);
    out.put_slice(bytes);
}

fn wire_type(kind: Kind) -> u8 {
    match kind {
        Kind::Bool | Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 | Kind::Enum(_) => 0,
        Kind::Double => 1,
        Kind::Float => 5,
        _ => DELIMITED,
    }
}

/// The wire type of values with a length.
const DELIMITED: u8 = 2;
/// Nil in MessagePack.
const NIL: u8 = 0xc0;
/// The deepest nesting, as of the codecs.
const MAX_DEPTH: usize = rpc_core::Codec::MAX_DEPTH;
const OTHER_FORM: &str = "the value has another form than its description";
