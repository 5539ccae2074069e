//! [`WriteBuffer`]: bytes that are to be written.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes, BytesMut};

use super::uncopied;

/// Bytes that are to be written: short pieces, copied one behind the other, and between them long ones, which are held as they are
/// and never copied.
///
/// As a [`Buf`] it gives them in the order in which they came.
#[derive(Debug, Default)]
pub struct WriteBuffer {
    copied: BytesMut,
    /// How much of `copied` was consumed.
    consumed: usize,
    /// What was not consumed of the long pieces. None is empty.
    held: VecDeque<Held>,
    /// Their bytes in all.
    held_length: usize,
    /// Whether long pieces are copied too.
    copies_all: bool,
}

/// A long piece.
#[derive(Debug)]
struct Held {
    /// The place in `copied` before which it comes.
    at: usize,
    bytes: Bytes,
}

/// A place in a [`WriteBuffer`].
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    copied: usize,
    held: usize,
    length: usize,
}

impl WriteBuffer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// A buffer behind `bytes` that copies long pieces too.
    pub(crate) fn copying(bytes: BytesMut) -> Self {
        Self { copied: bytes, copies_all: true, ..Self::default() }
    }

    /// The short pieces: what is appended to them comes last of all. What stands there already may be written over, not taken away.
    pub fn copied(&mut self) -> &mut BytesMut {
        &mut self.copied
    }

    /// How many bytes were not consumed.
    pub fn len(&self) -> usize {
        self.copied.len() - self.consumed + self.held_length
    }

    /// Whether all bytes were consumed, or there were none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the next byte comes. Good until something is consumed.
    pub fn mark(&self) -> Mark {
        Mark { copied: self.copied.len(), held: self.held.len(), length: self.len() }
    }

    /// How many bytes came after `mark`.
    pub fn length_since(&self, mark: Mark) -> usize {
        self.len() - mark.length
    }

    /// Takes back what came after `mark`.
    pub fn rewind(&mut self, mark: Mark) {
        self.copied.truncate(mark.copied);
        while self.held.len() > mark.held {
            self.held_length -= self.held.pop_back().map_or(0, |held| held.bytes.len());
        }
    }

    /// The short pieces that came after `mark`.
    pub(crate) fn copied_since(&mut self, mark: Mark) -> &mut [u8] {
        &mut self.copied[mark.copied..]
    }

    /// Forgets all, but for the room.
    pub(crate) fn clear(&mut self) {
        self.copied.clear();
        self.held.clear();
        (self.consumed, self.held_length) = (0, 0);
    }

    /// Whether it has room, or anything else worth giving back.
    pub(crate) fn holds_memory(&self) -> bool {
        self.copied.capacity() > 0 || self.held.capacity() > 0
    }

    /// Says whether long pieces are copied from now on, like short ones.
    pub(crate) fn copy_all(&mut self, copies_all: bool) {
        self.copies_all = copies_all;
    }

    /// Appends `bytes`, uncopied if they are lent.
    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        // What is mostly written are a few bytes whose number is known where they are written.
        if bytes.len() >= uncopied::LEAST && !self.copies_all && self.hold(bytes) {
            return;
        }
        self.copied.extend_from_slice(bytes);
    }

    fn hold(&mut self, bytes: &[u8]) -> bool {
        let Some(bytes) = uncopied::lent(bytes) else { return false };
        self.held_length += bytes.len();
        self.held.push_back(Held { at: self.copied.len(), bytes });
        true
    }

    /// All of it in one piece.
    pub(crate) fn into_bytes(mut self) -> Bytes {
        if self.held.is_empty() {
            self.copied.advance(self.consumed);
            return self.copied.freeze();
        }
        self.copy_to_bytes(self.len())
    }

    /// The one piece that it is, if it is one.
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
        let pieces = self.held.iter().flat_map(|held| {
            let before = &self.copied[std::mem::replace(&mut from, held.at)..held.at];
            [before, &held.bytes[..]]
        });
        let last = self.held.back().map_or(self.consumed, |held| held.at);
        let pieces = pieces.chain([&self.copied[last..]]).filter(|piece| !piece.is_empty());
        slices.iter_mut().zip(pieces).map(|(slice, piece)| *slice = IoSlice::new(piece)).count()
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.len(), "more is consumed than there is");
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn put(buffer: &mut WriteBuffer, bytes: &Bytes) {
        let _lent = uncopied::lend(bytes);
        buffer.put(bytes);
    }

    #[test]
    fn long_pieces_are_held_in_their_place_and_short_ones_copied() {
        let (short, long) = (Bytes::from_static(b"short"), Bytes::from(vec![7; uncopied::LEAST]));
        let mut buffer = WriteBuffer::new();
        put(&mut buffer, &short);
        put(&mut buffer, &long);
        put(&mut buffer, &short);
        assert_eq!(buffer.copied.len(), 10);
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(buffer.chunks_vectored(&mut slices), 3);
        assert_eq!(slices[1].as_ptr(), long.as_ptr(), "the very same bytes");
        assert_eq!(buffer.into_bytes(), [&short, &long, &short].map(|piece| &piece[..]).concat());
    }

    #[test]
    fn what_nobody_lends_is_copied_and_so_is_all_where_it_must_be() {
        let long = Bytes::from(vec![7; uncopied::LEAST]);
        let mut buffer = WriteBuffer::new();
        buffer.put(&long);
        buffer.copy_all(true);
        put(&mut buffer, &long);
        assert_eq!(buffer.only_chunk().map(<[u8]>::len), Some(2 * uncopied::LEAST));
    }

    #[test]
    fn what_is_taken_back_leaves_what_came_before() {
        let long = Bytes::from(vec![7; uncopied::LEAST]);
        let mut buffer = WriteBuffer::new();
        put(&mut buffer, &long);
        let mark = buffer.mark();
        buffer.put(b"half");
        put(&mut buffer, &long);
        assert_eq!(buffer.length_since(mark), 4 + uncopied::LEAST);
        buffer.rewind(mark);
        assert_eq!(buffer.into_bytes(), long);
    }

    proptest! {
        #[test]
        fn all_comes_out_in_order_however_it_is_consumed(
            pieces in proptest::collection::vec((any::<u8>(), any::<bool>(), 0..40_usize), 0..12),
            steps in proptest::collection::vec(1..30_000_usize, 0..20),
        ) {
            let (mut buffer, mut expected) = (WriteBuffer::new(), Vec::new());
            for (byte, long, length) in pieces {
                let piece = Bytes::from(vec![byte; if long { uncopied::LEAST + length } else { length }]);
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
}
