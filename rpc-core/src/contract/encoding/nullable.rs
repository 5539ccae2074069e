//! Optional fields that distinguish an absent field from `null`.
//!
//! A change of a record leaves out the fields that stay as they are, and sends `null` for those that it clears. JSON and
//! MessagePack write `Some(None)` as `null` and read `null` as `None`, so the codecs reject a plain `Some(None)`. A field
//! with these attributes keeps the three states apart:
//!
//! ```
//! use bytes::BytesMut;
//! use rpc_core::Codec;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! pub struct Change {
//!     #[serde(default, skip_serializing_if = "Option::is_none", with = "rpc_core::nullable")]
//!     nickname: Option<Option<String>>,
//! }
//!
//! # fn main() -> Result<(), rpc_core::CodecError> {
//! for (nickname, json) in [
//!     (None, r#"{}"#),
//!     (Some(None), r#"{"nickname":null}"#),
//!     (Some(Some("Bo".to_owned())), r#"{"nickname":"Bo"}"#),
//! ] {
//!     let change = Change { nickname };
//!     let mut bytes = BytesMut::new();
//!     Codec::Json.encode(&change, &mut bytes)?;
//!     assert_eq!(bytes, json);
//!     assert_eq!(Codec::Json.decode::<Change>(&bytes)?, change);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! bincode has no absent fields and represents `Option<Option<T>>` without attributes.

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::Error};

/// Serializes the inner option: `Some(None)` as `null`, `Some(Some(value))` as the value.
///
/// # Errors
///
/// An error for `None`, which `skip_serializing_if = "Option::is_none"` leaves out; the error of the serializer.
pub fn serialize<T: Serialize, S: Serializer>(value: &Option<Option<T>>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => value.serialize(serializer),
        None => Err(S::Error::custom(NOT_SKIPPED)),
    }
}

/// Deserializes the inner option of a field that is not absent.
///
/// # Errors
///
/// The error of the deserializer.
pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

const NOT_SKIPPED: &str = "a field with `rpc_core::nullable` that is `None` must be left out; add `default` and \
                           `skip_serializing_if = \"Option::is_none\"`";

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::Codec;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Change {
        #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::nullable")]
        price: Option<Option<u8>>,
        #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::nullable")]
        tags: Option<Option<Vec<Option<u8>>>>,
    }

    #[test]
    fn three_states_of_a_field_round_trip() {
        for price in [None, Some(None), Some(Some(7))] {
            for tags in [None, Some(None), Some(Some(vec![])), Some(Some(vec![None, Some(7)]))] {
                let change = Change { price, tags };
                for codec in [Codec::Json, Codec::MessagePack] {
                    let mut bytes = BytesMut::new();
                    codec.encode(&change, &mut bytes).unwrap();
                    assert_eq!(codec.decode::<Change>(&bytes).unwrap(), change, "{codec:?}");
                }
            }
        }
    }

    #[test]
    fn present_field_round_trips_in_every_codec() {
        for price in [Some(None), Some(Some(7))] {
            let change = Change { price, tags: Some(None) };
            for codec in [Codec::Bincode, Codec::Json, Codec::MessagePack] {
                let mut bytes = BytesMut::new();
                codec.encode(&change, &mut bytes).unwrap();
                assert_eq!(codec.decode::<Change>(&bytes).unwrap(), change, "{codec:?}");
            }
        }
    }

    #[test]
    fn lost_states_are_rejected_with_the_fix() {
        fn failure<T: Serialize>(codec: Codec, value: &T) -> String {
            codec.encode(value, &mut BytesMut::new()).unwrap_err().to_string()
        }
        /// `None` is not left out.
        #[derive(Serialize)]
        struct NotSkipped {
            #[serde(with = "crate::nullable")]
            price: Option<Option<u8>>,
        }
        #[derive(Serialize)]
        struct Nested {
            #[serde(with = "crate::nullable")]
            price: Option<Option<Option<u8>>>,
        }
        #[derive(Serialize)]
        struct Plain {
            price: Option<Option<u8>>,
        }
        for codec in [Codec::Json, Codec::MessagePack] {
            let message = failure(codec, &NotSkipped { price: None });
            assert!(message.starts_with("`price`: ") && message.contains("skip_serializing_if"), "{message}");
            let message = failure(codec, &Nested { price: Some(Some(None)) });
            assert!(message.starts_with("`price`: ") && message.contains("would arrive as `None`"), "{message}");
            let message = failure(codec, &Plain { price: Some(None) });
            assert!(message.contains("for a field, `rpc_core::nullable`"), "{message}");
        }
    }
}
