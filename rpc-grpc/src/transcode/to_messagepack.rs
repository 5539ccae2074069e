//! [`to_messagepack`]: from protobuf to MessagePack.

use bytes::{BufMut as _, BytesMut};

use super::{
    any,
    fault::Fault,
    messagepack::{
        write_array, write_bool, write_bytes, write_double, write_float, write_map, write_nil, write_signed,
        write_text, write_unsigned,
    },
    wire::{Raw, read_array, read_field, read_varint},
};
use crate::schema::{Count, Field, Form, Kind, Message, Presence, Proto};

/// Converts a message to MessagePack, and appends it to `out`.
///
/// # Errors
///
/// A fault of the message, or the fault that `out` would be longer than `limit` bytes: a short message may be a long
/// value, because protobuf omits defaults.
pub(crate) fn to_messagepack(
    proto: &Proto,
    message: usize,
    bytes: &[u8],
    limit: usize,
    out: &mut BytesMut,
) -> Result<(), Fault> {
    let mut reading = Reading { proto, values: Vec::new(), fields: Vec::new(), limit, out };
    reading.message(&proto.messages[message], bytes, MAX_DEPTH)
}

/// A message of a stream of requests.
pub(crate) enum Part<'a> {
    /// The message of the parameters.
    Parameters(&'a [u8]),
    Item(Item<'a>),
}

/// The value of an item.
pub(crate) struct Item<'a>(Raw<'a>);

/// Reads a message of a stream of requests, a oneof of the parameters and an item.
///
/// # Errors
///
/// A fault of the message.
pub(crate) fn read_part(mut bytes: &[u8]) -> Result<Part<'_>, Fault> {
    let mut part = None;
    while !bytes.is_empty() {
        match read_field(&mut bytes)? {
            (1, Raw::Bytes(parameters)) => part = Some(Part::Parameters(parameters)),
            (1, _) => return Err(Fault::new(OTHER_KIND)),
            (2, item) => part = Some(Part::Item(Item(item))),
            _ => {}
        }
    }
    part.ok_or_else(|| Fault::new("the message has neither parameters nor an item"))
}

/// Converts an item to MessagePack, as [`to_messagepack`].
///
/// # Errors
///
/// As [`to_messagepack`].
pub(crate) fn item_to_messagepack(
    proto: &Proto,
    kind: Kind,
    item: Item<'_>,
    limit: usize,
    out: &mut BytesMut,
) -> Result<(), Fault> {
    let mut reading = Reading { proto, values: Vec::new(), fields: Vec::new(), limit, out };
    reading.value(kind, item.0, MAX_DEPTH)
}

/// The values of the messages that are being converted, the innermost message last.
struct Reading<'a, 'o> {
    proto: &'a Proto,
    /// The values of fields with several values, as they occur; those of a field are a list.
    values: Vec<Value>,
    fields: Vec<Found>,
    limit: usize,
    out: &'o mut BytesMut,
}

/// A value of a field with several values. Small, because an element may have only two bytes.
#[derive(Clone, Copy)]
struct Value {
    /// Where the field begins in the message.
    at: u32,
    /// The index of the next value of the same field; `NONE` for the last one.
    next: u32,
}

/// The first and the last value of a field: their indices; for a field with one value where the field begins.
#[derive(Clone, Copy)]
struct Found {
    first: u32,
    last: u32,
}

impl Found {
    const NOTHING: Self = Self { first: NONE, last: NONE };
}

/// The fields of one message.
#[derive(Clone, Copy)]
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Reading<'a, '_> {
    fn message(&mut self, message: &'a Message, bytes: &'a [u8], depth: usize) -> Result<(), Fault> {
        let depth = depth.checked_sub(1).ok_or_else(|| Fault::new("a message is nested too deeply"))?;
        if self.out.len() > self.limit || bytes.len() >= NONE as usize {
            return Err(Fault::too_long(self.limit));
        }
        let (values_at, at) = (self.values.len(), self.fields.len());
        self.fields.resize(at + message.fields.len(), Found::NOTHING);
        let mut last = None;
        let mut input = bytes;
        while !input.is_empty() {
            let begins = (bytes.len() - input.len()) as u32;
            let (number, _) = read_field(&mut input)?;
            // Fields of later versions of the contract are unknown here.
            let Some(index) = Field::index(number).filter(|index| *index < message.fields.len()) else { continue };
            last = Some(index);
            let found = &mut self.fields[at + index];
            if message.fields[index].count == Count::One {
                // Of several values, the last one is valid.
                *found = Found { first: begins, last: begins };
                continue;
            }
            let added = self.values.len() as u32;
            self.values.push(Value { at: begins, next: NONE });
            match std::mem::replace(&mut found.last, added) {
                NONE => found.first = added,
                before => self.values[before as usize].next = added,
            }
        }
        let converted = self.content(message, Fields { bytes, at, depth }, last);
        self.values.truncate(values_at);
        self.fields.truncate(at);
        converted
    }

    fn content(&mut self, message: &'a Message, fields: Fields<'a>, last: Option<usize>) -> Result<(), Fault> {
        let at = fields.at;
        match message.form {
            Form::Fields => {
                let written = |(index, field): (usize, &Field)| self.is_written(field, self.fields[at + index]);
                let count = message.fields.iter().enumerate().filter(|field| written(*field)).count();
                write_map(count, self.out);
                for (index, field) in message.fields.iter().enumerate() {
                    let found = self.fields[at + index];
                    if self.is_written(field, found) {
                        write_text(&field.name, self.out);
                        self.field(field, found, fields).map_err(|fault| fault.within(&field.proto_name))?;
                    }
                }
                Ok(())
            }
            Form::Elements => {
                write_array(message.fields.len(), self.out);
                for (index, field) in message.fields.iter().enumerate() {
                    let found = self.fields[at + index];
                    self.field(field, found, fields).map_err(|fault| fault.within(&field.proto_name))?;
                }
                Ok(())
            }
            Form::Value => {
                let field = &message.fields[0];
                self.field(field, self.fields[at], fields).map_err(|fault| fault.within(&field.proto_name))
            }
            Form::Variants => {
                let index = last.ok_or_else(|| Fault::new("no variant is set, or one of a later version"))?;
                let field = &message.fields[index];
                if field.presence == Presence::UnitVariant {
                    write_text(&field.name, self.out);
                    return Ok(());
                }
                write_map(1, self.out);
                write_text(&field.name, self.out);
                self.field(field, self.fields[at + index], fields).map_err(|fault| fault.within(&field.proto_name))
            }
            Form::Entry => {
                for (index, field) in message.fields.iter().enumerate() {
                    let found = self.fields[at + index];
                    self.field(field, found, fields).map_err(|fault| fault.within(&field.proto_name))?;
                }
                Ok(())
            }
            Form::Nil => {
                write_nil(self.out);
                Ok(())
            }
            Form::Empty => {
                write_array(0, self.out);
                Ok(())
            }
        }
    }

    /// Returns whether a map has the field. The receiver then fails for a required one that is missing.
    fn is_written(&self, field: &Field, found: Found) -> bool {
        let has_default = field.count != Count::One
            || (field.presence == Presence::Required && !matches!(field.kind, Kind::Message(_) | Kind::Enum(_)));
        found.first != NONE || has_default
    }

    fn field(&mut self, field: &'a Field, found: Found, fields: Fields<'a>) -> Result<(), Fault> {
        match field.count {
            Count::One if found.last != NONE => {
                let raw = raw_at(fields.bytes, found.last)?;
                self.value(field.kind, raw, fields.depth)
            }
            Count::One if field.presence == Presence::Entry && matches!(field.kind, Kind::Message(_)) => {
                // In the entry of a map, protobuf omits also an empty message.
                self.value(field.kind, Raw::Bytes(&[]), fields.depth)
            }
            Count::One if !matches!(field.presence, Presence::Required | Presence::Entry) => {
                write_nil(self.out);
                Ok(())
            }
            Count::One => self.default(field.kind),
            Count::Many => self.elements(field.kind, found, fields),
            Count::Entries(entry) => self.entries(entry, found, fields),
        }
    }

    /// Returns the value with this index, and the index of the next one.
    fn at(&self, index: u32, fields: Fields<'a>) -> Result<(Raw<'a>, u32), Fault> {
        let Value { at, next } = self.values[index as usize];
        Ok((raw_at(fields.bytes, at)?, next))
    }

    fn elements(&mut self, kind: Kind, found: Found, fields: Fields<'a>) -> Result<(), Fault> {
        let mut count = 0;
        let mut index = found.first;
        while index != NONE {
            let (raw, next) = self.at(index, fields)?;
            count += match raw {
                Raw::Bytes(packed) if kind.is_packed() => packed_count(kind, packed)?,
                _ => 1,
            };
            index = next;
        }
        write_array(count, self.out);
        let mut index = found.first;
        while index != NONE {
            let (raw, next) = self.at(index, fields)?;
            match raw {
                Raw::Bytes(mut packed) if kind.is_packed() => {
                    while !packed.is_empty() {
                        let raw = match kind {
                            Kind::Float => Raw::Fixed32(u32::from_le_bytes(read_array(&mut packed)?)),
                            Kind::Double => Raw::Fixed64(u64::from_le_bytes(read_array(&mut packed)?)),
                            _ => Raw::Varint(read_varint(&mut packed)?),
                        };
                        self.value(kind, raw, fields.depth)?;
                    }
                }
                raw => self.value(kind, raw, fields.depth)?,
            }
            index = next;
        }
        Ok(())
    }

    fn entries(&mut self, entry: usize, found: Found, fields: Fields<'a>) -> Result<(), Fault> {
        let mut count = 0;
        let mut index = found.first;
        while index != NONE {
            count += 1;
            index = self.values[index as usize].next;
        }
        write_map(count, self.out);
        let mut index = found.first;
        while index != NONE {
            let (raw, next) = self.at(index, fields)?;
            self.value(Kind::Message(entry), raw, fields.depth)?;
            index = next;
        }
        Ok(())
    }

    /// Writes the value of a required field that is absent.
    fn default(&mut self, kind: Kind) -> Result<(), Fault> {
        match kind {
            Kind::Bool => write_bool(false, self.out),
            Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 => write_unsigned(0, self.out),
            Kind::Float => write_float(0.0, self.out),
            Kind::Double => write_double(0.0, self.out),
            Kind::String | Kind::Char => write_text("", self.out),
            Kind::Bytes => write_bytes(&[], self.out),
            Kind::Octets => write_array(0, self.out),
            Kind::Int128 | Kind::Uint128 => write_bytes(&[0; 16], self.out),
            Kind::Any => write_nil(self.out),
            Kind::Enum(_) => return Err(Fault::new("the enum has no value")),
            Kind::Message(_) => return Err(Fault::new("the message is missing")),
        }
        Ok(())
    }

    fn value(&mut self, kind: Kind, raw: Raw<'a>, depth: usize) -> Result<(), Fault> {
        if self.out.len() > self.limit {
            return Err(Fault::too_long(self.limit));
        }
        match (kind, raw) {
            (Kind::Bool, Raw::Varint(value)) => write_bool(value != 0, self.out),
            // Numbers of 32 bits may be written with 64 bits, of which protobuf ignores the upper half.
            (Kind::Int32, Raw::Varint(value)) => write_signed(i64::from(value as i32), self.out),
            (Kind::Uint32, Raw::Varint(value)) => write_unsigned(u64::from(value as u32), self.out),
            (Kind::Int64, Raw::Varint(value)) => write_signed(value as i64, self.out),
            (Kind::Uint64, Raw::Varint(value)) => write_unsigned(value, self.out),
            (Kind::Float, Raw::Fixed32(value)) => write_float(f32::from_bits(value), self.out),
            (Kind::Double, Raw::Fixed64(value)) => write_double(f64::from_bits(value), self.out),
            (Kind::Bytes, Raw::Bytes(bytes)) => write_bytes(bytes, self.out),
            (Kind::Octets, Raw::Bytes(bytes)) => {
                write_array(bytes.len(), self.out);
                self.out.reserve(bytes.len() + bytes.len() / 2);
                for byte in bytes {
                    match byte {
                        0..=0x7f => self.out.put_u8(*byte),
                        _ => self.out.put_slice(&[0xcc, *byte]),
                    }
                }
            }
            (Kind::String | Kind::Char, Raw::Bytes(bytes)) => write_text(text(bytes)?, self.out),
            (Kind::Int128, Raw::Bytes(bytes)) => {
                let number: i128 =
                    text(bytes)?.parse().map_err(|_| Fault::new("the text is not a number of 128 bits"))?;
                write_bytes(&number.to_be_bytes(), self.out);
            }
            (Kind::Uint128, Raw::Bytes(bytes)) => {
                let number: u128 =
                    text(bytes)?.parse().map_err(|_| Fault::new("the text is not a number of 128 bits"))?;
                write_bytes(&number.to_be_bytes(), self.out);
            }
            (Kind::Any, Raw::Bytes(bytes)) => any::from_value(bytes, self.out, self.limit, depth)?,
            (Kind::Enum(index), Raw::Varint(number)) => {
                let variants = &self.proto.enums[index];
                let variant = (number as u32).checked_sub(1).and_then(|index| variants.get(index as usize));
                write_text(variant.ok_or_else(|| Fault::new("the enum has no such value"))?, self.out);
            }
            (Kind::Message(index), Raw::Bytes(bytes)) => {
                return self.message(&self.proto.messages[index], bytes, depth);
            }
            _ => return Err(Fault::new(OTHER_KIND)),
        }
        Ok(())
    }
}

fn raw_at(bytes: &[u8], at: u32) -> Result<Raw<'_>, Fault> {
    let mut input = bytes.get(at as usize..).unwrap_or_default();
    Ok(read_field(&mut input)?.1)
}

fn packed_count(kind: Kind, packed: &[u8]) -> Result<usize, Fault> {
    let width = match kind {
        Kind::Float => 4,
        Kind::Double => 8,
        // Each varint has one byte without the upper bit.
        _ => return Ok(packed.iter().filter(|byte| **byte < 0x80).count()),
    };
    if packed.len().is_multiple_of(width) { Ok(packed.len() / width) } else { Err(Fault::new("packed values are cut")) }
}

fn text(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|_| Fault::new("a text is not UTF-8"))
}

/// The deepest nesting of messages, the default of other implementations of protobuf.
const MAX_DEPTH: usize = 100;
/// The end of a list of values.
const NONE: u32 = u32::MAX;
const OTHER_KIND: &str = "the value is of another kind";
