//! [`Memory`]: the messages of a connection that occupy memory.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use rpc_core::{Code, Error};

/// The number of bytes of the messages of a connection. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    used: Arc<AtomicUsize>,
    limit: usize,
}

/// The part of a message, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    memory: Memory,
    bytes: usize,
}

impl Memory {
    pub(super) fn new(limit: usize) -> Self {
        Self { used: Arc::new(AtomicUsize::new(0)), limit }
    }

    pub(super) fn share(&self) -> Share {
        Share { memory: self.clone(), bytes: 0 }
    }
}

impl Share {
    /// Adds bytes.
    ///
    /// # Errors
    ///
    /// `ResourceExhausted` if the connection reaches its limit.
    pub(super) fn add(&mut self, bytes: usize) -> Result<(), Error> {
        let Memory { used, limit } = &self.memory;
        self.bytes += bytes;
        if used.fetch_add(bytes, Relaxed) + bytes > *limit {
            let message =
                format!("the messages of this connection have more than {limit} bytes (GrpcConfig::request_memory)");
            return Err(Error::not_executed(Code::ResourceExhausted, message));
        }
        Ok(())
    }

    /// Takes a part.
    pub(super) fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { memory: self.memory.clone(), bytes }
    }

    /// Returns bytes of the message that count until they are passed on. Short ones do not count any more.
    pub(super) fn keep(self, bytes: Bytes) -> Bytes {
        if bytes.len() < SHORT { bytes } else { Bytes::from_owner(Counted { bytes, _share: self }) }
    }
}

/// Bytes that count until all of their clones are dropped.
struct Counted {
    bytes: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Relaxed);
    }
}

/// The length up to which bytes that wait to be passed on do not count.
const SHORT: usize = 1 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_count_until_they_are_dropped() {
        let memory = Memory::new(10);
        let (mut one, mut other) = (memory.share(), memory.share());
        one.add(6).unwrap();
        other.add(4).unwrap();
        assert_eq!(other.add(1).unwrap_err().code(), Code::ResourceExhausted);
        drop(one.split(4));
        other.add(3).unwrap();
        drop((one, other));
        assert_eq!(memory.used.load(Relaxed), 0);
    }

    #[test]
    fn kept_bytes_count_until_they_are_dropped() {
        let memory = Memory::new(SHORT);
        let mut share = memory.share();
        share.add(SHORT).unwrap();
        let kept = share.keep(Bytes::from(vec![7; SHORT]));
        let part = kept.slice(..1);
        drop(kept);
        assert_eq!((part[0], memory.used.load(Relaxed)), (7, SHORT));
        drop(part);
        assert_eq!(memory.used.load(Relaxed), 0);
        let mut share = memory.share();
        share.add(SHORT - 1).unwrap();
        let _short = share.keep(Bytes::from(vec![7; SHORT - 1]));
        assert_eq!(memory.used.load(Relaxed), 0);
    }
}
