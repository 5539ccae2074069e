//! [`KnownHeads`]: the heads of recent requests, so that a connection does not parse the same bytes again.

use std::cell::{Cell, RefCell};

use bytes::{Buf, Bytes};
use rpc_core::head::RequestHead;

/// The heads of recent requests of a connection.
///
/// The head of a call without metadata contains the route, the timeout and the flags, and the calls of a method usually
/// have the same ones.
#[derive(Default)]
pub(super) struct KnownHeads {
    heads: RefCell<Vec<KnownHead>>,
    /// The number of heads that were not known while there was no place for another.
    missed: Cell<u32>,
}

struct KnownHead {
    /// The length of the head and the head, as received.
    wire: [u8; MAX_KNOWN_HEAD],
    length: usize,
    /// Without the route, which the target has.
    head: RequestHead,
    /// The index of the target.
    target: usize,
}

impl KnownHeads {
    /// Returns the head at the start of a request, without its route, and the index of its target, if they are known.
    /// Advances `body` to the payload.
    #[inline]
    pub(super) fn take(&self, body: &mut Bytes) -> Option<(RequestHead, usize)> {
        let heads = self.heads.borrow();
        let known = heads.iter().find(|known| body.starts_with(&known.wire[..known.length]))?;
        body.advance(known.length);
        Some((known.head.clone(), known.target))
    }

    /// Keeps a head, of which `wire` is the received form, unless it is long or concerns one call only.
    pub(super) fn insert(&self, wire: &[u8], head: &RequestHead, target: usize) {
        let is_plain = head.metadata.is_empty() && head.idempotency_key.is_none() && !head.repeat;
        if !is_plain || wire.len() > MAX_KNOWN_HEAD {
            return;
        }
        let mut heads = self.heads.borrow_mut();
        if heads.len() == MAX_KNOWN_HEADS {
            let missed = self.missed.replace(self.missed.get().wrapping_add(1));
            if !missed.is_multiple_of(MISSES_PER_REPLACEMENT) {
                return;
            }
            heads.remove(0);
        }
        let mut bytes = [0; MAX_KNOWN_HEAD];
        bytes[..wire.len()].copy_from_slice(wire);
        let RequestHead { timeout, flags, response_compression, stream_timeout, .. } = *head;
        let head = RequestHead { timeout, flags, response_compression, stream_timeout, ..RequestHead::default() };
        heads.push(KnownHead { wire: bytes, length: wire.len(), head, target });
    }

    /// Forgets all heads.
    pub(super) fn release(&self) {
        self.heads.take();
    }
}

/// The number of heads that a connection keeps.
const MAX_KNOWN_HEADS: usize = 4;
/// The longest head that a connection keeps, in bytes.
const MAX_KNOWN_HEAD: usize = 96;
/// A head that is not known replaces a kept one at most once in so many requests.
const MISSES_PER_REPLACEMENT: u32 = 16;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::BytesMut;
    use rpc_core::{
        Metadata,
        head::{CallFlags, RequestHeadRef},
    };

    use super::*;

    fn request(route: &str, metadata: &Metadata, once_key: Option<[u8; 16]>) -> Bytes {
        let head = RequestHeadRef {
            route,
            timeout: Some(Duration::from_secs(5)),
            flags: CallFlags::IDEMPOTENT,
            metadata,
            once_key,
            repeat: false,
            response_compression: Some(1),
            stream_timeout: None,
        };
        let mut out = BytesMut::new();
        head.write(&mut out);
        out.extend_from_slice(b"payload");
        out.freeze()
    }

    fn insert(known: &KnownHeads, request: &Bytes, target: usize) {
        let mut body = request.clone();
        let head = RequestHead::take(&mut body).unwrap();
        known.insert(&request[..request.len() - body.len()], &head, target);
    }

    #[test]
    fn known_head_is_that_of_the_same_bytes() {
        let known = KnownHeads::default();
        let [first, second] = ["a:1/b", "a:1/bc"].map(|route| request(route, &Metadata::default(), None));
        assert!(known.take(&mut first.clone()).is_none());
        insert(&known, &first, 7);
        insert(&known, &second, 8);
        for (request, expected) in [(&first, 7), (&second, 8)] {
            let mut body = request.clone();
            let parsed = RequestHead { route: Default::default(), ..RequestHead::take(&mut request.clone()).unwrap() };
            assert_eq!(known.take(&mut body), Some((parsed, expected)));
            assert_eq!(&body[..], b"payload");
        }
        known.release();
        assert!(known.take(&mut first.clone()).is_none());
    }

    #[test]
    fn heads_of_single_calls_are_not_kept() {
        let mut metadata = Metadata::default();
        metadata.insert("tenant", "a").unwrap();
        let known = KnownHeads::default();
        let long = "x".repeat(MAX_KNOWN_HEAD);
        let none = Metadata::default();
        for request in
            [request("a:1/b", &metadata, None), request("a:1/b", &none, Some([1; 16])), request(&long, &none, None)]
        {
            insert(&known, &request, 0);
            assert!(known.take(&mut request.clone()).is_none());
        }
    }

    #[test]
    fn number_of_heads_is_limited() {
        let known = KnownHeads::default();
        let requests: Vec<_> =
            (0..100).map(|index| request(&format!("a:1/m{index}"), &Metadata::default(), None)).collect();
        requests.iter().for_each(|request| insert(&known, request, 0));
        let kept = requests.iter().filter(|request| known.take(&mut (*request).clone()).is_some()).count();
        assert_eq!(kept, MAX_KNOWN_HEADS);
    }
}
