//! [`WriteBuffer`]: a buffer of bytes to be written.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes, BytesMut};

#[cfg(feature = "transport")]
use super::compression::Compression;
use super::uncopied;

/// A buffer of bytes to be written.
///
/// It copies short chunks into one allocation, and holds long chunks between them without copying.
///
/// Its [`Buf`] implementation returns the bytes in the order in which they were appended.
#[derive(Debug, Default)]
pub struct WriteBuffer {
    copied: BytesMut,
    /// The number of consumed bytes of `copied`.
    consumed: usize,
    /// The unconsumed parts of the long chunks. None is empty.
    held: VecDeque<Held>,
    /// The length of all of `held`, in bytes.
    held_length: usize,
    /// Whether long chunks are copied as well.
    copies_all: bool,
}

/// A long chunk.
#[derive(Debug)]
struct Held {
    /// The offset in `copied` before which the chunk is inserted.
    at: usize,
    bytes: Bytes,
}

/// A position in a [`WriteBuffer`].
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    copied: usize,
    held: usize,
    length: usize,
}

impl WriteBuffer {
    /// Creates an empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a buffer that appends to `bytes` and copies long chunks as well.
    pub(crate) fn copying(bytes: BytesMut) -> Self {
        Self { copied: bytes, copies_all: true, ..Self::default() }
    }

    /// Returns the buffer of the copied chunks, to which callers append.
    ///
    /// Callers may overwrite existing bytes but not remove them.
    pub fn copied(&mut self) -> &mut BytesMut {
        &mut self.copied
    }

    /// Returns the number of unconsumed bytes.
    pub fn len(&self) -> usize {
        self.copied.len() - self.consumed + self.held_length
    }

    /// Returns whether there are no unconsumed bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the position of the next byte. The mark is valid until bytes are consumed.
    pub fn mark(&self) -> Mark {
        Mark { copied: self.copied.len(), held: self.held.len(), length: self.len() }
    }

    /// Returns the number of bytes after `mark`.
    pub fn length_since(&self, mark: Mark) -> usize {
        self.len() - mark.length
    }

    /// Removes the bytes after `mark`.
    pub fn rewind(&mut self, mark: Mark) {
        self.copied.truncate(mark.copied);
        while self.held.len() > mark.held {
            self.held_length -= self.held.pop_back().map_or(0, |held| held.bytes.len());
        }
    }

    /// Returns the copied chunks after `mark`.
    pub(crate) fn copied_since(&mut self, mark: Mark) -> &mut [u8] {
        &mut self.copied[mark.copied..]
    }

    /// Compresses the copied bytes behind `length` bytes after `mark`, if they become shorter. No chunk may be held after
    /// `mark`.
    ///
    /// Returns the compression that was applied.
    #[cfg(feature = "transport")]
    pub(crate) fn compress_since(&mut self, mark: Mark, length: usize, wanted: Compression) -> Compression {
        wanted.compress_tail(&mut self.copied, mark.copied + length)
    }

    /// Removes all bytes and keeps the allocations.
    pub(crate) fn clear(&mut self) {
        self.copied.clear();
        self.held.clear();
        (self.consumed, self.held_length) = (0, 0);
    }

    /// Returns whether the buffer has an allocation.
    pub(crate) fn holds_memory(&self) -> bool {
        self.copied.capacity() > 0 || self.held.capacity() > 0
    }

    /// Sets whether long chunks are copied from now on.
    pub(crate) fn copy_all(&mut self, copies_all: bool) {
        self.copies_all = copies_all;
    }

    /// Appends `bytes`, without copying them if they are long and lent (see [`uncopied`]).
    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        // The length is compared first: most writes are a few bytes whose number is a constant at the inlined call
        // site.
        if bytes.len() >= uncopied::MIN_SHARED {
            if !self.copies_all && self.hold(bytes) {
                return;
            }
            self.reserve_long(bytes.len());
        }
        self.copied.extend_from_slice(bytes);
    }

    /// Reserves capacity for a long chunk.
    ///
    /// A reallocation copies the whole old allocation, of which a payload with a single long field uses a few bytes.
    fn reserve_long(&mut self, additional: usize) {
        let (length, capacity) = (self.copied.len(), self.copied.capacity());
        if capacity - length < additional && length <= capacity / 2 {
            let mut grown = BytesMut::with_capacity(length + additional + SPACE_AFTER_LONG);
            grown.extend_from_slice(&self.copied);
            self.copied = grown;
        }
    }

    /// Appends `bytes`, without copying them if they are long.
    #[cfg(feature = "transport")]
    #[doc(hidden)]
    pub fn put_shared(&mut self, bytes: Bytes) {
        if bytes.len() >= uncopied::MIN_SHARED && !self.copies_all {
            self.hold_bytes(bytes);
        } else {
            self.copied.extend_from_slice(&bytes);
        }
    }

    fn hold(&mut self, bytes: &[u8]) -> bool {
        let Some(bytes) = uncopied::lent(bytes) else { return false };
        self.hold_bytes(bytes);
        true
    }

    fn hold_bytes(&mut self, bytes: Bytes) {
        self.held_length += bytes.len();
        self.held.push_back(Held { at: self.copied.len(), bytes });
    }

    /// Moves all bytes of `other`, none of which is consumed, to the end of this buffer.
    #[inline]
    pub(crate) fn append(&mut self, other: &mut Self) {
        debug_assert_eq!(other.consumed, 0, "the bytes of a payload are appended at once");
        if other.held.is_empty() {
            self.copied.extend_from_slice(&other.copied);
            other.copied.clear();
        } else {
            self.append_held(other);
        }
    }

    fn append_held(&mut self, other: &mut Self) {
        let mut from = 0;
        for Held { at, bytes } in other.held.drain(..) {
            self.copied.extend_from_slice(&other.copied[from..at]);
            from = at;
            self.held.push_back(Held { at: self.copied.len(), bytes });
        }
        self.copied.extend_from_slice(&other.copied[from..]);
        self.held_length += other.held_length;
        other.clear();
    }

    /// Moves the first `count` bytes to the end of `out`, long chunks without copying them.
    #[cfg(feature = "transport")]
    pub(crate) fn move_to(&mut self, out: &mut Self, count: usize) {
        debug_assert!(count <= self.len());
        let mut count = count;
        while count > 0 {
            let step = count.min(self.chunk().len());
            match self.held.front() {
                Some(held) if held.at == self.consumed => out.put_shared(held.bytes.slice(..step)),
                _ => out.copied.extend_from_slice(&self.copied[self.consumed..self.consumed + step]),
            }
            self.advance(step);
            count -= step;
        }
        self.compact();
    }

    /// Releases the consumed bytes of a buffer that is never empty.
    #[cfg(feature = "transport")]
    fn compact(&mut self) {
        if self.consumed >= uncopied::MIN_SHARED || self.is_empty() {
            self.copied.advance(self.consumed);
            self.held.iter_mut().for_each(|held| held.at -= self.consumed);
            self.consumed = 0;
        }
    }

    /// Returns the first `N` bytes, of which each chunk has at least one.
    #[cfg(feature = "transport")]
    pub(crate) fn first<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        let mut slices = [IoSlice::new(&[]); N];
        let count = self.chunks_vectored(&mut slices);
        let chunks = slices[..count].iter().flat_map(|chunk| chunk.iter());
        bytes.iter_mut().zip(chunks).for_each(|(byte, from)| *byte = *from);
        bytes
    }

    /// Holds the copied bytes too if they are long, so that [`append`](Self::append) copies nothing long.
    ///
    /// The new buffer for copied bytes has the same capacity, up to `max_capacity`: the next payload is often as long.
    #[inline]
    pub(crate) fn hold_long_copies(&mut self, max_capacity: usize) {
        if self.copied.len() >= uncopied::MIN_SHARED {
            self.hold_copies(max_capacity);
        }
    }

    fn hold_copies(&mut self, max_capacity: usize) {
        let empty = BytesMut::with_capacity(self.copied.len().min(max_capacity));
        let copied = std::mem::replace(&mut self.copied, empty).freeze();
        self.held_length += copied.len();
        let mut from = 0;
        let mut held = VecDeque::with_capacity(2 * self.held.len() + 1);
        for Held { at, bytes } in self.held.drain(..) {
            held.extend((from < at).then(|| Held { at: 0, bytes: copied.slice(from..at) }));
            held.push_back(Held { at: 0, bytes });
            from = at;
        }
        held.extend((from < copied.len()).then(|| Held { at: 0, bytes: copied.slice(from..) }));
        self.held = held;
    }

    /// Releases the spare capacity for copied bytes.
    pub(crate) fn shrink(&mut self) {
        if self.copied.capacity() > 2 * self.copied.len() {
            self.copied = BytesMut::from(&self.copied[..]);
        }
    }

    /// Returns the unconsumed bytes as one contiguous chunk.
    #[doc(hidden)]
    pub fn into_bytes(mut self) -> Bytes {
        if self.held.is_empty() {
            self.copied.advance(self.consumed);
            return self.copied.freeze();
        }
        self.copy_to_bytes(self.len())
    }

    /// Returns the unconsumed bytes if they are contiguous.
    pub(crate) fn only_chunk(&self) -> Option<&[u8]> {
        self.held.is_empty().then(|| &self.copied[self.consumed..])
    }
}

impl Buf for WriteBuffer {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        match self.held.front() {
            Some(held) if held.at == self.consumed => &held.bytes,
            Some(held) => &self.copied[self.consumed..held.at],
            None => &self.copied[self.consumed..],
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut from = self.consumed;
        let chunks = self.held.iter().flat_map(|held| {
            let before = &self.copied[std::mem::replace(&mut from, held.at)..held.at];
            [before, &held.bytes[..]]
        });
        let last = self.held.back().map_or(self.consumed, |held| held.at);
        let chunks = chunks.chain([&self.copied[last..]]).filter(|chunk| !chunk.is_empty());
        slices.iter_mut().zip(chunks).map(|(slice, chunk)| *slice = IoSlice::new(chunk)).count()
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.len(), "cannot advance past the end of the buffer");
        while count > 0 {
            let step = count.min(self.chunk().len());
            count -= step;
            match self.held.front_mut() {
                Some(held) if held.at == self.consumed => {
                    held.bytes.advance(step);
                    self.held_length -= step;
                    if held.bytes.is_empty() {
                        self.held.pop_front();
                    }
                }
                _ => self.consumed += step,
            }
        }
    }
}

/// The capacity for the fields after a long one, in bytes.
const SPACE_AFTER_LONG: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn put(buffer: &mut WriteBuffer, bytes: &Bytes) {
        let _lent = uncopied::lend(bytes);
        buffer.put(bytes);
    }

    #[test]
    fn long_chunks_are_held_and_short_chunks_copied() {
        let (short, long) = (Bytes::from_static(b"short"), Bytes::from(vec![7; uncopied::MIN_SHARED]));
        let mut buffer = WriteBuffer::new();
        put(&mut buffer, &short);
        put(&mut buffer, &long);
        put(&mut buffer, &short);
        assert_eq!(buffer.copied.len(), 10);
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(buffer.chunks_vectored(&mut slices), 3);
        assert_eq!(slices[1].as_ptr(), long.as_ptr(), "the same allocation");
        assert_eq!(buffer.into_bytes(), [&short, &long, &short].map(|piece| &piece[..]).concat());
    }

    #[test]
    fn bytes_are_copied_if_not_lent_or_copying_is_set() {
        let long = Bytes::from(vec![7; uncopied::MIN_SHARED]);
        let mut buffer = WriteBuffer::new();
        buffer.put(&long);
        buffer.copy_all(true);
        put(&mut buffer, &long);
        assert_eq!(buffer.only_chunk().map(<[u8]>::len), Some(2 * uncopied::MIN_SHARED));
    }

    #[test]
    fn rewind_keeps_bytes_before_the_mark() {
        let long = Bytes::from(vec![7; uncopied::MIN_SHARED]);
        let mut buffer = WriteBuffer::new();
        put(&mut buffer, &long);
        let mark = buffer.mark();
        buffer.put(b"half");
        put(&mut buffer, &long);
        assert_eq!(buffer.length_since(mark), 4 + uncopied::MIN_SHARED);
        buffer.rewind(mark);
        assert_eq!(buffer.into_bytes(), long);
    }

    proptest! {
        #[test]
        fn bytes_come_out_in_order_for_any_steps(
            pieces in proptest::collection::vec((any::<u8>(), any::<bool>(), 0..40_usize), 0..12),
            steps in proptest::collection::vec(1..30_000_usize, 0..20),
        ) {
            let (mut buffer, mut expected) = (WriteBuffer::new(), Vec::new());
            for (byte, long, length) in pieces {
                let piece = Bytes::from(vec![byte; if long { uncopied::MIN_SHARED + length } else { length }]);
                put(&mut buffer, &piece);
                expected.extend_from_slice(&piece);
            }
            let (mut found, mut steps) = (Vec::new(), steps.into_iter());
            while buffer.has_remaining() {
                prop_assert_eq!(buffer.len(), expected.len() - found.len());
                let mut slices = [IoSlice::new(&[]); 64];
                let count = buffer.chunks_vectored(&mut slices);
                let gathered = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>();
                prop_assert_eq!(&gathered[..], &expected[found.len()..]);
                prop_assert_eq!(buffer.chunk(), &slices[0][..]);
                let step = steps.next().unwrap_or(usize::MAX).min(gathered.len());
                found.extend_from_slice(&gathered[..step]);
                buffer.advance(step);
            }
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn long_chunk_after_few_bytes_does_not_double_the_capacity() {
        let mut out = WriteBuffer::copying(BytesMut::with_capacity(100_000));
        out.put(b"few");
        out.put(&[7; 100_000]);
        assert_eq!((out.len(), out.copied.len()), (100_003, 100_003));
        assert!(out.copied.capacity() < 101_000);
        out.put(b"end");
        assert!(out.into_bytes().ends_with(b"\x07end"));
    }
}
