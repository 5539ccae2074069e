//! [`to_json`]: a value of MessagePack as JSON, for messages to people.

use std::fmt::Write as _;

use rpc_core::Codec;

use super::{
    fault::Fault,
    messagepack::{self, Token},
};

/// Writes a value of MessagePack as JSON.
///
/// Bytes are an array of numbers, and numbers that JSON does not have are `null`.
pub(crate) fn to_json(value: &[u8]) -> Result<String, Fault> {
    let mut out = String::new();
    write(&mut &*value, &mut out, Codec::MAX_DEPTH)?;
    Ok(out)
}

/// Writes a key of a map as the text that JSON has instead.
pub(super) fn key(input: &mut &[u8], depth: usize) -> Result<String, Fault> {
    if let Ok(Token::Text(text)) = messagepack::read(&mut &**input) {
        messagepack::skip(input)?;
        return Ok(text.to_owned());
    }
    let mut key = String::new();
    write(input, &mut key, depth)?;
    Ok(key)
}

fn write(input: &mut &[u8], out: &mut String, depth: usize) -> Result<(), Fault> {
    let depth = depth.checked_sub(1).ok_or_else(|| Fault::new("a value is nested too deeply"))?;
    // Writing to a string does not fail.
    let _ = match messagepack::read(input)? {
        Token::Bool(value) => write!(out, "{value}"),
        Token::Int(value) => write!(out, "{value}"),
        Token::Float(value) if value.is_finite() => out.write_str(&serde_json::to_string(&value).unwrap_or_default()),
        Token::Nil | Token::Float(_) => out.write_str("null"),
        Token::Text(text) => out.write_str(&quoted(text)),
        Token::Bytes(bytes) => out.write_str(&serde_json::to_string(bytes).unwrap_or_default()),
        Token::Array(length) => {
            out.push('[');
            for index in 0..length {
                out.push_str(if index == 0 { "" } else { "," });
                write(input, out, depth)?;
            }
            out.write_char(']')
        }
        Token::Map(length) => {
            out.push('{');
            for index in 0..length {
                out.push_str(if index == 0 { "" } else { "," });
                out.push_str(&quoted(&key(input, depth)?));
                out.push(':');
                write(input, out, depth)?;
            }
            out.write_char('}')
        }
    };
    Ok(())
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::BytesMut;

    use super::*;

    #[test]
    fn forms_that_json_does_not_have_are_replaced() {
        let mut bytes = BytesMut::new();
        let map: BTreeMap<_, _> = [(1u8, "a\"")].into();
        Codec::MessagePack.encode(&(f64::NAN, map, 1.5, (), true, -7), &mut bytes).unwrap();
        assert_eq!(to_json(&bytes).unwrap(), r#"[null,{"1":"a\""},1.5,null,true,-7]"#);
        assert_eq!(to_json(&[0xc4, 2, 1, 255]).unwrap(), "[1,255]");
        assert!(to_json(&[0x91; 200]).is_err());
    }
}
