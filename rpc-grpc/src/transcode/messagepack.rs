//! The wire format of MessagePack, as rmp-serde reads and writes it.

use bytes::{BufMut as _, BytesMut};

use super::{fault::Fault, wire::read_array};

/// The begin of a value. The elements of an array or a map follow it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Token<'a> {
    Nil,
    Bool(bool),
    /// A number from `i64::MIN` to `u64::MAX`.
    Int(i128),
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Array(usize),
    Map(usize),
}

/// Reads the begin of a value.
pub(super) fn read<'a>(input: &mut &'a [u8]) -> Result<Token<'a>, Fault> {
    let [marker] = read_array(input)?;
    Ok(match marker {
        0x00..=0x7f => Token::Int(i128::from(marker)),
        0x80..=0x8f => Token::Map(usize::from(marker & 0x0f)),
        0x90..=0x9f => Token::Array(usize::from(marker & 0x0f)),
        0xa0..=0xbf => text(input, usize::from(marker & 0x1f))?,
        0xc0 => Token::Nil,
        0xc2 => Token::Bool(false),
        0xc3 => Token::Bool(true),
        0xc4 | 0xd9 => {
            let [length] = read_array(input)?;
            text_or_bytes(input, marker == 0xd9, usize::from(length))?
        }
        0xc5 | 0xda => {
            let length = u16::from_be_bytes(read_array(input)?);
            text_or_bytes(input, marker == 0xda, usize::from(length))?
        }
        0xc6 | 0xdb => {
            let length = u32::from_be_bytes(read_array(input)?);
            text_or_bytes(input, marker == 0xdb, length as usize)?
        }
        0xca => Token::Float(f64::from(f32::from_be_bytes(read_array(input)?))),
        0xcb => Token::Float(f64::from_be_bytes(read_array(input)?)),
        0xcc => Token::Int(i128::from(u8::from_be_bytes(read_array(input)?))),
        0xcd => Token::Int(i128::from(u16::from_be_bytes(read_array(input)?))),
        0xce => Token::Int(i128::from(u32::from_be_bytes(read_array(input)?))),
        0xcf => Token::Int(i128::from(u64::from_be_bytes(read_array(input)?))),
        0xd0 => Token::Int(i128::from(i8::from_be_bytes(read_array(input)?))),
        0xd1 => Token::Int(i128::from(i16::from_be_bytes(read_array(input)?))),
        0xd2 => Token::Int(i128::from(i32::from_be_bytes(read_array(input)?))),
        0xd3 => Token::Int(i128::from(i64::from_be_bytes(read_array(input)?))),
        0xdc => Token::Array(usize::from(u16::from_be_bytes(read_array(input)?))),
        0xdd => Token::Array(u32::from_be_bytes(read_array(input)?) as usize),
        0xde => Token::Map(usize::from(u16::from_be_bytes(read_array(input)?))),
        0xdf => Token::Map(u32::from_be_bytes(read_array(input)?) as usize),
        0xe0..=0xff => Token::Int(i128::from(marker as i8)),
        // Extensions, which no codec of msnb writes.
        0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 => return Err(Fault::new("a value has an unknown form")),
    })
}

/// Reads a value and discards it.
pub(super) fn skip(input: &mut &[u8]) -> Result<(), Fault> {
    let mut values = 1usize;
    while values > 0 {
        values -= 1;
        match read(input)? {
            Token::Array(length) => values = values.saturating_add(length),
            Token::Map(length) => values = values.saturating_add(length.saturating_mul(2)),
            _ => {}
        }
    }
    Ok(())
}

fn take<'a>(input: &mut &'a [u8], length: usize) -> Result<&'a [u8], Fault> {
    let (bytes, rest) = input.split_at_checked(length).ok_or_else(|| Fault::new("the value ends too early"))?;
    *input = rest;
    Ok(bytes)
}

fn text<'a>(input: &mut &'a [u8], length: usize) -> Result<Token<'a>, Fault> {
    std::str::from_utf8(take(input, length)?).map(Token::Text).map_err(|_| Fault::new("a text is not UTF-8"))
}

fn text_or_bytes<'a>(input: &mut &'a [u8], is_text: bool, length: usize) -> Result<Token<'a>, Fault> {
    if is_text { text(input, length) } else { take(input, length).map(Token::Bytes) }
}

pub(super) fn write_nil(out: &mut BytesMut) {
    out.put_u8(0xc0);
}

pub(super) fn write_bool(value: bool, out: &mut BytesMut) {
    out.put_u8(if value { 0xc3 } else { 0xc2 });
}

pub(super) fn write_unsigned(value: u64, out: &mut BytesMut) {
    match value {
        0..=0x7f => out.put_u8(value as u8),
        0x80..=0xff => out.put_slice(&[0xcc, value as u8]),
        0x100..=0xffff => {
            out.put_u8(0xcd);
            out.put_u16(value as u16);
        }
        0x1_0000..=0xffff_ffff => {
            out.put_u8(0xce);
            out.put_u32(value as u32);
        }
        _ => {
            out.put_u8(0xcf);
            out.put_u64(value);
        }
    }
}

pub(super) fn write_signed(value: i64, out: &mut BytesMut) {
    match u64::try_from(value) {
        Ok(value) => write_unsigned(value, out),
        Err(_) if value >= -32 => out.put_i8(value as i8),
        Err(_) => {
            out.put_u8(0xd3);
            out.put_i64(value);
        }
    }
}

pub(super) fn write_float(value: f32, out: &mut BytesMut) {
    out.put_u8(0xca);
    out.put_f32(value);
}

pub(super) fn write_double(value: f64, out: &mut BytesMut) {
    out.put_u8(0xcb);
    out.put_f64(value);
}

pub(super) fn write_text(text: &str, out: &mut BytesMut) {
    match text.len() {
        length @ 0..=31 => out.put_u8(0xa0 | length as u8),
        length @ 32..=0xff => out.put_slice(&[0xd9, length as u8]),
        length @ 0x100..=0xffff => {
            out.put_u8(0xda);
            out.put_u16(length as u16);
        }
        length => {
            out.put_u8(0xdb);
            out.put_u32(length as u32);
        }
    }
    out.put_slice(text.as_bytes());
}

pub(super) fn write_bytes(bytes: &[u8], out: &mut BytesMut) {
    match bytes.len() {
        length @ 0..=0xff => out.put_slice(&[0xc4, length as u8]),
        length @ 0x100..=0xffff => {
            out.put_u8(0xc5);
            out.put_u16(length as u16);
        }
        length => {
            out.put_u8(0xc6);
            out.put_u32(length as u32);
        }
    }
    out.put_slice(bytes);
}

pub(super) fn write_array(length: usize, out: &mut BytesMut) {
    match length {
        0..=15 => out.put_u8(0x90 | length as u8),
        16..=0xffff => {
            out.put_u8(0xdc);
            out.put_u16(length as u16);
        }
        _ => {
            out.put_u8(0xdd);
            out.put_u32(length as u32);
        }
    }
}

pub(super) fn write_map(length: usize, out: &mut BytesMut) {
    match length {
        0..=15 => out.put_u8(0x80 | length as u8),
        16..=0xffff => {
            out.put_u8(0xde);
            out.put_u16(length as u16);
        }
        _ => {
            out.put_u8(0xdf);
            out.put_u32(length as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut BytesMut)) -> BytesMut {
        let mut out = BytesMut::new();
        write(&mut out);
        out
    }

    fn check(bytes: &[u8], expected: Token<'_>) {
        let mut input = bytes;
        assert_eq!(read(&mut input), Ok(expected));
        assert!(input.is_empty());
        for cut in 0..bytes.len() {
            assert!(read(&mut &bytes[..cut]).is_err(), "{expected:?}");
        }
    }

    #[test]
    fn values_are_read_as_they_are_written() {
        for value in [0, 1, 127, 128, 255, 256, 65_535, 65_536, u64::from(u32::MAX), u64::from(u32::MAX) + 1, u64::MAX]
        {
            check(&written(|out| write_unsigned(value, out)), Token::Int(i128::from(value)));
        }
        for value in [0, -1, -32, -33, i64::MIN, i64::MAX] {
            check(&written(|out| write_signed(value, out)), Token::Int(i128::from(value)));
        }
        for length in [0, 31, 32, 255, 256, 65_535, 65_536] {
            let text = "a".repeat(length);
            let mut bytes = &written(|out| write_text(&text, out))[..];
            assert_eq!(read(&mut bytes), Ok(Token::Text(&text)));
            let mut bytes = &written(|out| write_bytes(text.as_bytes(), out))[..];
            assert_eq!(read(&mut bytes), Ok(Token::Bytes(text.as_bytes())));
        }
        for length in [0, 15, 16, 65_535, 65_536] {
            check(&written(|out| write_array(length, out)), Token::Array(length));
            check(&written(|out| write_map(length, out)), Token::Map(length));
        }
        check(&written(|out| write_float(1.5, out)), Token::Float(1.5));
        check(&written(|out| write_double(1.5, out)), Token::Float(1.5));
        check(&written(write_nil), Token::Nil);
        check(&written(|out| write_bool(true, out)), Token::Bool(true));
    }

    #[test]
    fn skipped_value_ends_where_the_next_one_begins() {
        let value = rpc_core::Codec::MessagePack;
        let mut bytes = BytesMut::new();
        value.encode(&(vec![Some(1u8), None], [("a", vec![1.5f64])], "b"), &mut bytes).unwrap();
        bytes.put_u8(7);
        let mut input = &bytes[..];
        skip(&mut input).unwrap();
        assert_eq!(input, [7]);
        assert!(skip(&mut &[0xdd, 0xff, 0xff, 0xff, 0xff][..]).is_err());
    }
}
