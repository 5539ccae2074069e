//! [`Encoded`]: a value that is encoded already.

use bytes::Bytes;
use rpc_core::{Codec, CodecError, Encode, WriteBuffer};

/// A value that is encoded already.
pub(super) struct Encoded(pub(super) Bytes);

impl Encoded {
    pub(super) fn append_to(self, out: &mut WriteBuffer) {
        out.put_shared(self.0);
    }
}

impl Encode for Encoded {
    fn encode(&self, _: Codec, out: &mut WriteBuffer) -> Result<(), CodecError> {
        Self(self.0.clone()).append_to(out);
        Ok(())
    }
}
