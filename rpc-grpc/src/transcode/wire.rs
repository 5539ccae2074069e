//! The wire format of protobuf.

use bytes::{BufMut as _, BytesMut};

use super::fault::Fault;

/// The value of a field on the wire.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Raw<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

/// Reads the number and the value of a field.
pub(super) fn read_field<'a>(input: &mut &'a [u8]) -> Result<(u32, Raw<'a>), Fault> {
    let tag = read_varint(input)?;
    let number = u32::try_from(tag >> 3).ok().filter(|number| *number != 0).ok_or_else(|| Fault::new(BAD_TAG))?;
    let raw = match tag & 7 {
        0 => Raw::Varint(read_varint(input)?),
        1 => Raw::Fixed64(u64::from_le_bytes(read_array(input)?)),
        5 => Raw::Fixed32(u32::from_le_bytes(read_array(input)?)),
        2 => {
            let length = usize::try_from(read_varint(input)?).map_err(|_| Fault::new(ENDS))?;
            let (bytes, rest) = input.split_at_checked(length).ok_or_else(|| Fault::new(ENDS))?;
            *input = rest;
            Raw::Bytes(bytes)
        }
        // Groups, which proto3 does not have.
        _ => return Err(Fault::new(BAD_TAG)),
    };
    Ok((number, raw))
}

#[inline]
pub(super) fn read_varint(input: &mut &[u8]) -> Result<u64, Fault> {
    if let [byte @ 0..0x80, rest @ ..] = *input {
        *input = rest;
        return Ok(u64::from(*byte));
    }
    let mut value = 0;
    for (index, byte) in input.iter().enumerate().take(MAX_VARINT) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if *byte < 0x80 {
            if index == MAX_VARINT - 1 && *byte > 1 {
                return Err(Fault::new(LONG_VARINT));
            }
            *input = &input[index + 1..];
            return Ok(value);
        }
    }
    Err(Fault::new(if input.len() < MAX_VARINT { ENDS } else { LONG_VARINT }))
}

pub(super) fn read_array<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], Fault> {
    let (array, rest) = input.split_first_chunk().ok_or_else(|| Fault::new(ENDS))?;
    *input = rest;
    Ok(*array)
}

#[inline]
pub(super) fn write_varint(mut value: u64, out: &mut BytesMut) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

pub(super) fn write_tag(number: u32, wire_type: u8, out: &mut BytesMut) {
    write_varint(u64::from(number) << 3 | u64::from(wire_type), out);
}

/// Writes what `content` writes behind its length.
pub(super) fn write_delimited<E>(
    out: &mut BytesMut,
    content: impl FnOnce(&mut BytesMut) -> Result<(), E>,
) -> Result<(), E> {
    let at = out.len();
    out.put_u8(0);
    content(out)?;
    let length = out.len() - at - 1;
    if length < 0x80 {
        out[at] = length as u8;
        return Ok(());
    }
    let mut prefix = BytesMut::with_capacity(MAX_VARINT);
    write_varint(length as u64, &mut prefix);
    let added = prefix.len() - 1;
    out.put_bytes(0, added);
    out.copy_within(at + 1..at + 1 + length, at + 1 + added);
    out[at..at + prefix.len()].copy_from_slice(&prefix);
    Ok(())
}

/// The longest varint in bytes.
const MAX_VARINT: usize = 10;
const ENDS: &str = "the message ends too early";
const BAD_TAG: &str = "a field has an unknown wire type or the number 0";
const LONG_VARINT: &str = "a number has more than 64 bits";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_read_as_they_are_written() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX >> 1, u64::MAX] {
            let mut out = BytesMut::new();
            write_varint(value, &mut out);
            let mut input = &out[..];
            assert_eq!(read_varint(&mut input), Ok(value));
            assert!(input.is_empty());
            for cut in 0..out.len() {
                assert_eq!(read_varint(&mut &out[..cut]), Err(Fault::new(ENDS)), "{value}");
            }
        }
        assert_eq!(read_varint(&mut &[0xff; 10][..]), Err(Fault::new(LONG_VARINT)));
        assert_eq!(
            read_varint(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2][..]).unwrap_err(),
            Fault::new(LONG_VARINT)
        );
    }

    #[test]
    fn lengths_precede_their_content() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 3 << 20] {
            let mut out = BytesMut::from(&b"x"[..]);
            write_delimited(&mut out, |out| {
                out.put_bytes(7, length);
                Ok::<_, ()>(())
            })
            .unwrap();
            let mut input = &out[1..];
            assert_eq!(read_varint(&mut input), Ok(length as u64));
            assert!(input.len() == length && input.iter().all(|byte| *byte == 7));
        }
    }

    #[test]
    fn groups_and_cut_fields_are_rejected() {
        assert_eq!(read_field(&mut &[0x0b][..]), Err(Fault::new(BAD_TAG)));
        assert_eq!(read_field(&mut &[0x00, 1][..]), Err(Fault::new(BAD_TAG)));
        for cut in [&[0x0a, 2, 1][..], &[0x08], &[0x0d, 1, 2, 3], &[0x09, 1]] {
            assert_eq!(read_field(&mut &*cut), Err(Fault::new(ENDS)));
        }
    }
}
