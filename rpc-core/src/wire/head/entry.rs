//! Tag-length-value entries: reading and writing, independent of their meaning.

use std::{
    ops::{Deref, Range},
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::tag;
use crate::{Code, Metadata, Status, frame::Violation};

/// The value of an entry.
pub(super) struct Value<'a> {
    body: &'a Bytes,
    range: Range<usize>,
}

impl Value<'_> {
    /// Returns the value to keep. It shares the memory of a short body, and would keep a long one alive.
    #[inline]
    pub(super) fn to_bytes(&self) -> Bytes {
        if self.body.len() <= MAX_SHARED_BODY {
            self.body.slice(self.range.clone())
        } else {
            Bytes::copy_from_slice(self)
        }
    }
}

impl Deref for Value<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.body[self.range.clone()]
    }
}

/// Calls `each` with every entry and advances `body` to the payload.
pub(super) fn for_each(body: &mut Bytes, mut each: impl FnMut(u8, Value<'_>)) -> Result<(), Violation> {
    let payload_at = walk(body, |tag, range| each(tag, Value { body, range }))?;
    body.advance(payload_at);
    Ok(())
}

/// Calls `each` with the tag and the range of every entry. Returns the offset of the payload.
pub(super) fn walk(body: &[u8], mut each: impl FnMut(u8, Range<usize>)) -> Result<usize, Violation> {
    let length = body.first_chunk::<2>().ok_or(Violation::HeadOverrun)?;
    let end = 2 + usize::from(u16::from_be_bytes(*length));
    if end > body.len() {
        return Err(Violation::HeadOverrun);
    }
    let mut at = 2;
    while at < end {
        let entry = &body[at..end];
        let [tag, l0, l1] = *entry.first_chunk::<3>().ok_or(Violation::HeadOverrun)?;
        let value = at + 3..at + 3 + usize::from(u16::from_be_bytes([l0, l1]));
        if value.end > end {
            return Err(Violation::HeadOverrun);
        }
        at = value.end;
        each(tag, value);
    }
    Ok(end)
}

/// Skips an unknown even tag; fails the call for an unknown odd one.
pub(super) fn check_unknown(tag: u8) -> Result<(), Status> {
    if tag.is_multiple_of(2) {
        return Ok(());
    }
    Err(Status::new(Code::Unimplemented, format!("critical head tag {tag} is not supported")))
}

/// Reads a value of a fixed length.
pub(super) fn fixed<const N: usize>(value: &[u8], name: &str) -> Result<[u8; N], Status> {
    value.try_into().map_err(|_| {
        let message = format!("{name} in the head is {} bytes, expected {N}", value.len());
        Status::new(Code::InvalidArgument, message)
    })
}

/// Reads a time.
pub(super) fn millis(value: &[u8], name: &str) -> Result<Duration, Status> {
    Ok(Duration::from_millis(u32::from_be_bytes(fixed(value, name)?).into()))
}

/// Returns a time in milliseconds, rounded up and at most `u32::MAX`, which is 49 days.
///
/// Rounding up ensures that a callee's deadline is never earlier than its caller's.
pub(super) fn wire_millis(time: Duration) -> u32 {
    let millis = time.as_secs().saturating_mul(1_000).saturating_add(time.subsec_nanos().div_ceil(1_000_000).into());
    millis.try_into().unwrap_or(u32::MAX)
}

/// Appends the length of a head and the entries that `write` appends.
pub(super) fn write_all(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u16(0);
    write(out);
    let length = length(out.len() - start - 2);
    out[start..start + 2].copy_from_slice(&length.to_be_bytes());
}

/// Appends one entry.
pub(super) fn put(out: &mut BytesMut, tag: u8, value: &[u8]) {
    let [l0, l1] = length(value.len()).to_be_bytes();
    out.extend_from_slice(&[tag, l0, l1]);
    out.extend_from_slice(value);
}

/// Returns the length of a head or of a value, in wire format.
pub(super) fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).expect("the limits of route, metadata and message keep a head below 64 KiB")
}

/// Appends the METADATA entry, unless it would be empty.
pub(super) fn put_metadata(out: &mut BytesMut, metadata: &Metadata) {
    if !metadata.is_empty() {
        put(out, tag::METADATA, metadata.as_wire());
    }
}

/// The length of the longest body whose memory a kept value shares, in bytes. It is a part of a read buffer.
const MAX_SHARED_BODY: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_value_does_not_keep_a_long_body_alive() {
        for (length, is_shared) in [(MAX_SHARED_BODY, true), (MAX_SHARED_BODY + 1, false)] {
            let body = Bytes::from(vec![7; length]);
            let kept = Value { body: &body, range: 2..10 }.to_bytes();
            assert_eq!(kept, body.slice(2..10));
            assert_eq!(body.as_ptr_range().contains(&kept.as_ptr()), is_shared);
        }
    }
}
