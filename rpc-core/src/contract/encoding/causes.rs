//! The causes of failures in bincode, with the change that mends them.

use std::borrow::Cow;

use bincode::{
    error::{DecodeError, EncodeError},
    serde::{DecodeError as SerdeDecodeError, EncodeError as SerdeEncodeError},
};

/// Returns the cause of a value that bincode cannot represent.
pub(super) fn of_encoding(error: &EncodeError) -> Cow<'_, str> {
    match error {
        EncodeError::Serde(SerdeEncodeError::SequenceMustHaveLength) => NO_LENGTH.into(),
        EncodeError::OtherString(cause) => cause.into(),
        other => other.to_string().into(),
    }
}

/// Returns the cause of a payload that is no such value.
pub(super) fn of_decoding(error: &DecodeError) -> Cow<'_, str> {
    match error {
        DecodeError::Serde(
            SerdeDecodeError::AnyNotSupported
            | SerdeDecodeError::IdentifierNotSupported
            | SerdeDecodeError::IgnoredAnyNotSupported,
        ) => NO_TYPES.into(),
        DecodeError::UnexpectedEnd { .. } => TOO_SHORT.into(),
        DecodeError::UnexpectedVariant { .. }
        | DecodeError::InvalidBooleanValue(_)
        | DecodeError::InvalidCharEncoding(_)
        | DecodeError::Utf8 { .. } => OTHER_FIELDS.into(),
        DecodeError::OtherString(cause) => cause.into(),
        other => other.to_string().into(),
    }
}

const NO_TYPES: &str = "bincode contains no types, which `untagged`, `tag`, `flatten` and types such as \
                        `serde_json::Value` need; use codec json or messagepack, or a serde representation without them";
const NO_LENGTH: &str = "bincode requires the length of a map or sequence in advance, which `flatten` does not state; \
                         remove the attribute, or use codec json or messagepack";
const TOO_SHORT: &str = "the bincode payload ends before this value; both ends must declare the same fields in the \
                         same order, otherwise use codec json or messagepack";
const OTHER_FIELDS: &str = "the bincode payload has another value here; both ends must declare the same fields in the \
                            same order, otherwise use codec json or messagepack";
