//! [`Message`], [`Field`] and [`Kind`]: how the values of a contract are written in protobuf and in MessagePack.

/// A message of protobuf, and the value of MessagePack with the same content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) form: Form,
    /// The fields, in the order of their numbers.
    pub(crate) fields: Vec<Field>,
}

/// The form of a message in MessagePack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// A map from the names of the fields to their values.
    #[default]
    Fields,
    /// An array of the values.
    Elements,
    /// The value of the only field.
    Value,
    /// The name of the field that is set, or a map of this name and its value.
    Variants,
    /// Nil: the unit type.
    Nil,
    /// An empty array: a struct without content.
    Empty,
    /// A key and a value, one behind the other.
    Entry,
}

/// A field of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    /// The name in the contract.
    pub(crate) name: String,
    /// The name in protobuf.
    pub(crate) proto_name: String,
    pub(crate) kind: Kind,
    pub(crate) count: Count,
    pub(crate) presence: Presence,
}

/// How many values a field has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    One,
    Many,
    /// Entries of a map, which are messages of this index.
    Entries(usize),
}

/// The meaning of the absence of a field with one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// The default of protobuf. A message or an enum must be present.
    Required,
    /// `None`.
    Option,
    /// The default of the type in Rust.
    Default,
    /// Another variant.
    Variant,
    /// As `Variant`, for a variant without content.
    UnitVariant,
    /// The default of protobuf, also for a message.
    Entry,
}

/// The kind of a single value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    /// `int32`, for `i8`, `i16` and `i32`.
    Int32,
    Int64,
    /// `uint32`, for `u8`, `u16` and `u32`.
    Uint32,
    Uint64,
    Float,
    Double,
    String,
    /// `string` with one character.
    Char,
    Bytes,
    /// `bytes`, for a sequence of `u8`, which is an array of numbers in MessagePack.
    Octets,
    /// `string` with a decimal number.
    Int128,
    /// As `Int128`.
    Uint128,
    /// `google.protobuf.Value`, for a value of any form.
    Any,
    /// The enum with this index.
    Enum(usize),
    /// The message with this index.
    Message(usize),
}

/// A method, and the indices of its messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Method {
    /// The name in the contract.
    pub(crate) name: String,
    /// The name in protobuf.
    pub(crate) proto_name: String,
    pub(crate) request: Requests,
    pub(crate) response: usize,
    /// The message of the service's own error. Errors of other kinds have no message of their own.
    pub(crate) error: Option<ErrorMessage>,
}

/// The message of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ErrorMessage {
    /// The name with the package.
    pub(crate) name: String,
    pub(crate) message: usize,
}

/// The messages that the caller sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Requests {
    /// One message with the parameters.
    One(usize),
    /// A stream: first the parameters, then items. Both are fields of one message.
    Stream {
        /// The message of the parameters.
        parameters: usize,
        item: Kind,
        /// Whether the first message may be an item.
        has_no_parameters: bool,
    },
}

impl Field {
    /// Returns the number of the field with this index.
    pub(crate) fn number(index: usize) -> u32 {
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        // The numbers in between are reserved for protobuf itself.
        if number < FIRST_RESERVED { number } else { number.saturating_add(RESERVED) }
    }

    /// Returns the index of the field with this number.
    pub(crate) fn index(number: u32) -> Option<usize> {
        let number = match number {
            0 => return None,
            1..FIRST_RESERVED => number,
            _ => number.checked_sub(RESERVED).filter(|number| *number >= FIRST_RESERVED)?,
        };
        usize::try_from(number - 1).ok()
    }

    /// Returns whether the absence of the value differs from its default.
    pub(crate) fn has_presence(&self) -> bool {
        self.presence != Presence::Required || matches!(self.kind, Kind::Message(_))
    }
}

impl Kind {
    /// Returns whether several values are written one behind the other.
    pub(crate) fn is_packed(self) -> bool {
        !matches!(
            self,
            Self::String
                | Self::Char
                | Self::Bytes
                | Self::Octets
                | Self::Int128
                | Self::Uint128
                | Self::Any
                | Self::Message(_)
        )
    }
}

/// The first number that protobuf reserves, and how many it reserves.
const FIRST_RESERVED: u32 = 19_000;
const RESERVED: u32 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_begin_at_one_and_omit_the_reserved_ones() {
        for (index, number) in [(0, 1), (18_998, 18_999), (18_999, 20_000), (19_000, 20_001)] {
            assert_eq!((Field::number(index), Field::index(number)), (number, Some(index)));
        }
        assert_eq!(Field::index(0), None);
        assert_eq!(Field::index(19_500), None);
    }
}
