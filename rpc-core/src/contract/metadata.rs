//! [`Metadata`]: key-value pairs that are sent with a call.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{Code, Status};

/// Key-value pairs that are sent with a call in addition to its arguments.
///
/// Examples are tenant, trace context and locale. Stored in wire format, so that receiving and sending them needs no
/// conversion.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    wire: Bytes,
}

impl Metadata {
    /// No entries.
    pub(crate) const EMPTY: Self = Self { wire: Bytes::new() };

    /// The largest number of entries.
    pub const MAX_ENTRIES: usize = 64;
    /// The largest length of all entries together, in bytes on the wire.
    pub const MAX_LEN: usize = 16 * 1024;

    /// Adds an entry. A key may occur more than once; [`get`](Self::get) returns the last.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a key that is empty, longer than 255 bytes, or contains characters other than lower-case
    /// ASCII letters, digits, `-`, `_` and `.`; `ResourceExhausted` if the entry would exceed the limits of this type.
    pub fn insert(&mut self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Status> {
        let value = value.as_ref();
        if !legal_key(key.as_bytes()) {
            return Err(Status::new(
                Code::InvalidArgument,
                format!("metadata key {key:?} is invalid: expected 1 to 255 of `a-z 0-9 - _ .`"),
            ));
        }
        let length = self.wire.len() + 3 + key.len() + value.len();
        if length > Self::MAX_LEN || self.iter().count() == Self::MAX_ENTRIES {
            return Err(over_limit());
        }
        let mut wire = BytesMut::from(std::mem::take(&mut self.wire));
        wire.put_u8(key.len() as u8);
        wire.put_slice(key.as_bytes());
        wire.put_u16(value.len() as u16);
        wire.put_slice(value);
        self.wire = wire.freeze();
        Ok(())
    }

    /// Replaces all entries with this key by one.
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert). The previous entries with this key are then removed.
    pub fn set(&mut self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Status> {
        if self.get_bytes(key).is_some() {
            let mut others = Self::default();
            for (other, value) in self.iter().filter(|(other, _)| *other != key) {
                others.insert(other, value)?;
            }
            *self = others;
        }
        self.insert(key, value)
    }

    /// Returns the last value of `key`, if it is UTF-8.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.get_bytes(key).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Returns the last value of `key`.
    pub fn get_bytes(&self, key: &str) -> Option<&[u8]> {
        self.iter().filter(|(k, _)| *k == key).last().map(|(_, value)| value)
    }

    /// Returns all entries in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest = &self.wire[..];
        std::iter::from_fn(move || {
            let (key, value) = next_entry(&mut rest)?;
            Some((std::str::from_utf8(key).ok()?, value))
        })
    }

    /// Returns whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.wire.is_empty()
    }

    /// Returns a copy that does not share the memory of the frame from which this was read.
    #[doc(hidden)]
    #[must_use]
    pub fn copied(&self) -> Self {
        Self { wire: Bytes::copy_from_slice(&self.wire) }
    }

    /// Returns the value of the METADATA entry.
    pub(crate) fn as_wire(&self) -> &[u8] {
        &self.wire
    }

    /// Reads the value of a METADATA entry.
    pub(crate) fn from_wire(wire: Bytes) -> Result<Self, Status> {
        if wire.len() > Self::MAX_LEN {
            return Err(over_limit());
        }
        let (mut rest, mut entries) = (&wire[..], 0);
        while !rest.is_empty() {
            let entry = next_entry(&mut rest);
            if !entry.is_some_and(|(key, _)| legal_key(key)) {
                return Err(Status::new(Code::InvalidArgument, "the metadata is malformed"));
            }
            entries += 1;
        }
        if entries > Self::MAX_ENTRIES { Err(over_limit()) } else { Ok(Self { wire }) }
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secrets.
        f.debug_list().entries(self.iter().map(|(key, _)| key)).finish()
    }
}

fn next_entry<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (key_length, after) = rest.split_first()?;
    let (key, after) = after.split_at_checked(usize::from(*key_length))?;
    let (value_length, after) = after.split_first_chunk::<2>()?;
    let (value, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*value_length)))?;
    *rest = after;
    Some((key, value))
}

fn legal_key(key: &[u8]) -> bool {
    (1..=255).contains(&key.len())
        && key.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'))
}

fn over_limit() -> Status {
    Status::new(
        Code::ResourceExhausted,
        format!(
            "metadata exceeds {} entries (Metadata::MAX_ENTRIES) or {} bytes (Metadata::MAX_LEN)",
            Metadata::MAX_ENTRIES,
            Metadata::MAX_LEN
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_round_trip_and_last_value_wins() {
        let mut metadata = Metadata::default();
        for (key, value) in [("tenant", "a"), ("trace-id", "7"), ("tenant", "b")] {
            metadata.insert(key, value).unwrap();
        }
        let read = Metadata::from_wire(metadata.wire.clone()).unwrap();
        assert_eq!((read.get("tenant"), read.get("trace-id"), read.get("x")), (Some("b"), Some("7"), None));
        assert_eq!(read.iter().count(), 3);
    }

    #[test]
    fn set_replaces_previous_entries() {
        let mut metadata = Metadata::default();
        for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
            metadata.insert(key, value).unwrap();
        }
        metadata.set("a", "4").unwrap();
        metadata.set("c", "5").unwrap();
        assert_eq!(metadata.iter().collect::<Vec<_>>(), [("b", &b"2"[..]), ("a", b"4"), ("c", b"5")]);
    }

    #[test]
    fn limits_hold_at_and_above_the_limit() {
        let mut metadata = Metadata::default();
        for _ in 0..Metadata::MAX_ENTRIES {
            metadata.insert("k", "").unwrap();
        }
        assert_eq!(metadata.insert("k", "").unwrap_err().code(), Code::ResourceExhausted);
        let mut wire = BytesMut::from(&metadata.wire[..]);
        assert!(Metadata::from_wire(wire.clone().freeze()).is_ok());
        wire.put_slice(b"\x01k\0\0");
        assert_eq!(Metadata::from_wire(wire.freeze()).unwrap_err().code(), Code::ResourceExhausted);

        let mut metadata = Metadata::default();
        metadata.insert("k", vec![0; Metadata::MAX_LEN - 4]).unwrap();
        assert_eq!(metadata.as_wire().len(), Metadata::MAX_LEN);
        assert!(metadata.insert("k", "").is_err());
    }

    #[test]
    fn malformed_entries_are_rejected() {
        for bad in [&b"\x01"[..], b"\x01k", b"\x01k\0", b"\x01k\0\x02v", b"\0\0\0", b"\x01K\0\0"] {
            assert_eq!(Metadata::from_wire(Bytes::from_static(bad)).unwrap_err().code(), Code::InvalidArgument);
        }
        assert!(Metadata::default().insert("Key", "").is_err());
        assert!(Metadata::default().insert("", "").is_err());
    }
}
