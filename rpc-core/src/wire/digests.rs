//! [`Digests`]: the digests of a server's methods, which it sends when its client asks.

use bytes::{BufMut, Bytes, BytesMut};

use super::frame::{Frame, FrameType, HEADER_LEN, Header};
use crate::descriptor::MethodDigest;

/// The digests of a server's methods, by the hash of the route.
#[derive(Debug)]
pub struct Digests {
    /// A table with open addressing, whose length is a power of two, and of which at least half is free.
    slots: Box<[Option<MethodDigest>]>,
}

impl Digests {
    /// The body of the PING with which a client asks for the digests.
    pub const QUESTION: &[u8] = b"contracts 1";
    /// The largest number of methods in a frame.
    pub const MAX_METHODS: usize = 4096;

    /// Returns the frame with the digests of a server. Methods above the limit are left out.
    pub fn frame(methods: impl IntoIterator<Item = MethodDigest>) -> Frame {
        let mut body = BytesMut::new();
        for method in methods.into_iter().take(Self::MAX_METHODS) {
            body.put_u64(method.route);
            body.put_u64(method.digest);
        }
        let full_length = (HEADER_LEN + body.len()) as u32;
        Frame { header: Header { full_length, ..Header::empty(FrameType::Digests, 0) }, body: body.freeze() }
    }

    /// Returns the PING that asks for the digests.
    pub fn question() -> Frame {
        let full_length = (HEADER_LEN + Self::QUESTION.len()) as u32;
        let header = Header { full_length, ..Header::empty(FrameType::Ping, 0) };
        Frame { header, body: Bytes::from_static(Self::QUESTION) }
    }

    /// Reads the body of a frame; `None` if it is malformed or too long.
    pub fn read(body: &[u8]) -> Option<Self> {
        let (methods, rest) = body.as_chunks::<16>();
        if !rest.is_empty() || methods.len() > Self::MAX_METHODS {
            return None;
        }
        let mut digests = Self { slots: vec![None; (methods.len() * 2).next_power_of_two()].into() };
        for method in methods {
            let number = u128::from_be_bytes(*method);
            let method = MethodDigest { route: (number >> 64) as u64, digest: number as u64 };
            let slot = digests.slot(method.route);
            digests.slots[slot] = Some(method);
        }
        Some(digests)
    }

    /// Returns the digest of the method whose route has this hash.
    #[inline]
    pub fn find(&self, route: u64) -> Option<u64> {
        self.slots[self.slot(route)].map(|method| method.digest)
    }

    /// Returns the slot of a route, which is free if there is no such method.
    #[inline]
    fn slot(&self, route: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = route as usize & mask;
        // Half of the slots are free, so the search ends.
        while self.slots[slot].is_some_and(|method| method.route != route) {
            slot = (slot + 1) & mask;
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(route: u64) -> MethodDigest {
        MethodDigest { route, digest: !route }
    }

    #[test]
    fn digests_round_trip_up_to_the_limit() {
        for count in [0, 1, 2, 100, Digests::MAX_METHODS as u64] {
            // Many routes share a slot.
            let frame = Digests::frame((0..count).map(|number| method(number * 64)));
            assert_eq!(frame.header.full_length as usize, HEADER_LEN + frame.body.len());
            let digests = Digests::read(&frame.body).unwrap();
            assert!((0..count).all(|number| digests.find(number * 64) == Some(!(number * 64))), "{count}");
            assert_eq!((digests.find(7), digests.find(count * 64)), (None, None));
        }
        let frame = Digests::frame((0..Digests::MAX_METHODS as u64 + 1).map(method));
        assert_eq!(frame.body.len(), 16 * Digests::MAX_METHODS);
        assert!(Digests::read(&[frame.body.as_ref(), &[0; 16]].concat()).is_none(), "one above the limit");
        assert!(Digests::read(&[0; 15]).is_none() && Digests::read(&[0; 17]).is_none());
    }

    #[test]
    fn hostile_routes_take_bounded_time() {
        let frame = Digests::frame((0..Digests::MAX_METHODS as u64).map(|number| method(number << 32)));
        assert_eq!(Digests::read(&frame.body).unwrap().find(1 << 60), None);
    }
}
