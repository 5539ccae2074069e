//! Values of any form: `google.protobuf.Value`.

use bytes::{BufMut as _, BytesMut};

use super::{
    fault::Fault,
    json,
    messagepack::{self, Token, write_array, write_bool, write_double, write_map, write_nil, write_signed, write_text},
    wire::{Raw, read_field, write_delimited, write_tag, write_varint},
};

/// Converts a `google.protobuf.Value` to MessagePack. A whole number becomes an integer.
pub(super) fn from_value(bytes: &[u8], out: &mut BytesMut, limit: usize, depth: usize) -> Result<(), Fault> {
    let depth = depth.checked_sub(1).ok_or_else(|| Fault::new("a value is nested too deeply"))?;
    if out.len() > limit {
        return Err(Fault::too_long(limit));
    }
    let mut input = bytes;
    let mut kind = None;
    while !input.is_empty() {
        let (number, raw) = read_field(&mut input)?;
        if (NULL..=LIST).contains(&number) {
            kind = Some((number, raw));
        }
    }
    match kind {
        None | Some((NULL, Raw::Varint(_))) => write_nil(out),
        Some((NUMBER, Raw::Fixed64(bits))) => {
            let number = f64::from_bits(bits);
            if number.fract() == 0.0 && number.abs() < FIRST_INEXACT {
                write_signed(number as i64, out);
            } else {
                write_double(number, out);
            }
        }
        Some((STRING, Raw::Bytes(bytes))) => write_text(text(bytes)?, out),
        Some((BOOL, Raw::Varint(value))) => write_bool(value != 0, out),
        Some((STRUCT, Raw::Bytes(bytes))) => {
            write_map(elements(bytes).try_fold(0, |count, element| element.map(|_| count + 1))?, out);
            for entry in elements(bytes) {
                let (mut entry, mut key, mut value) = (entry?, &[][..], &[][..]);
                while !entry.is_empty() {
                    match read_field(&mut entry)? {
                        (1, Raw::Bytes(bytes)) => key = bytes,
                        (2, Raw::Bytes(bytes)) => value = bytes,
                        _ => {}
                    }
                }
                write_text(text(key)?, out);
                from_value(value, out, limit, depth)?;
            }
        }
        Some((LIST, Raw::Bytes(bytes))) => {
            write_array(elements(bytes).try_fold(0, |count, element| element.map(|_| count + 1))?, out);
            for element in elements(bytes) {
                from_value(element?, out, limit, depth)?;
            }
        }
        Some(_) => return Err(Fault::new("the value is of another kind")),
    }
    Ok(())
}

/// Returns the values of the field 1 of a list or a struct.
fn elements(mut input: &[u8]) -> impl Iterator<Item = Result<&[u8], Fault>> {
    std::iter::from_fn(move || {
        while !input.is_empty() {
            match read_field(&mut input) {
                Ok((1, Raw::Bytes(bytes))) => return Some(Ok(bytes)),
                Ok(_) => {}
                Err(fault) => {
                    input = &[];
                    return Some(Err(fault));
                }
            }
        }
        None
    })
}

/// Converts a value of MessagePack to a `google.protobuf.Value`. Bytes become a list of numbers.
pub(crate) fn to_value(input: &mut &[u8], out: &mut BytesMut, depth: usize) -> Result<(), Fault> {
    let depth = depth.checked_sub(1).ok_or_else(|| Fault::new("a value is nested too deeply"))?;
    match messagepack::read(input)? {
        Token::Nil => {
            write_tag(NULL, 0, out);
            write_varint(0, out);
        }
        Token::Bool(value) => {
            write_tag(BOOL, 0, out);
            write_varint(u64::from(value), out);
        }
        Token::Int(value) => write_number(value as f64, out),
        Token::Float(value) => write_number(value, out),
        Token::Text(text) => {
            write_tag(STRING, DELIMITED, out);
            write_varint(text.len() as u64, out);
            out.put_slice(text.as_bytes());
        }
        Token::Bytes(bytes) => {
            write_tag(LIST, DELIMITED, out);
            write_delimited(out, |out| {
                bytes.iter().try_for_each(|byte| {
                    write_tag(1, DELIMITED, out);
                    write_delimited(out, |out| {
                        write_number(f64::from(*byte), out);
                        Ok(())
                    })
                })
            })?;
        }
        Token::Array(length) => {
            write_tag(LIST, DELIMITED, out);
            write_delimited(out, |out| {
                (0..length).try_for_each(|_| {
                    write_tag(1, DELIMITED, out);
                    write_delimited(out, |out| to_value(input, out, depth))
                })
            })?;
        }
        Token::Map(length) => {
            write_tag(STRUCT, DELIMITED, out);
            write_delimited(out, |out| {
                (0..length).try_for_each(|_| {
                    let key = json::key(input, depth)?;
                    write_tag(1, DELIMITED, out);
                    write_delimited(out, |out| {
                        write_tag(1, DELIMITED, out);
                        write_varint(key.len() as u64, out);
                        out.put_slice(key.as_bytes());
                        write_tag(2, DELIMITED, out);
                        write_delimited(out, |out| to_value(input, out, depth))
                    })
                })
            })?;
        }
    }
    Ok(())
}

fn write_number(number: f64, out: &mut BytesMut) {
    write_tag(NUMBER, 1, out);
    out.put_f64_le(number);
}

fn text(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|_| Fault::new("a text is not UTF-8"))
}

/// The fields of `google.protobuf.Value`.
const NULL: u32 = 1;
const NUMBER: u32 = 2;
const STRING: u32 = 3;
const BOOL: u32 = 4;
const STRUCT: u32 = 5;
const LIST: u32 = 6;
const DELIMITED: u8 = 2;
/// The lowest whole number that a double does not distinguish from its neighbours: 2^53.
const FIRST_INEXACT: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests {
    use rpc_core::Codec;
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_equal_after_both_ways() {
        for value in [
            json!(null),
            json!(true),
            json!(-7),
            json!(9_007_199_254_740_991i64),
            json!(1.5),
            json!(1e300),
            json!("a"),
            json!([]),
            json!([1, [2], null]),
            json!({ "a": { "b": [null] }, "": "" }),
        ] {
            let mut packed = BytesMut::new();
            Codec::MessagePack.encode(&value, &mut packed).unwrap();
            let mut bytes = BytesMut::new();
            to_value(&mut &packed[..], &mut bytes, 100).unwrap();
            let mut back = BytesMut::new();
            from_value(&bytes, &mut back, 1 << 20, 100).unwrap();
            assert_eq!(Codec::MessagePack.decode::<serde_json::Value>(&back).unwrap(), value);
        }
        let mut bytes = BytesMut::new();
        from_value(&[], &mut bytes, 100, 100).unwrap();
        assert_eq!(bytes[..], [0xc0], "a value without a kind");
    }

    #[test]
    fn depth_is_limited() {
        assert!(to_value(&mut &[0x91; 200][..], &mut BytesMut::new(), 100).is_err());
        let mut bytes = BytesMut::new();
        for _ in 0..100 {
            let inner = bytes.split();
            write_tag(LIST, DELIMITED, &mut bytes);
            write_delimited(&mut bytes, |out| {
                write_tag(1, DELIMITED, out);
                write_delimited(out, |out| {
                    out.put_slice(&inner);
                    Ok::<_, Fault>(())
                })
            })
            .unwrap();
        }
        assert!(from_value(&bytes, &mut BytesMut::new(), 1 << 20, 101).is_ok());
        assert!(from_value(&bytes, &mut BytesMut::new(), 1 << 20, 100).is_err());
    }
}
