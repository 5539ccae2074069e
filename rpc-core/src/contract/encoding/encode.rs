//! [`Encode`]: a serializable value of any type.

use serde::Serialize;

use super::{
    codec::{Codec, CodecError},
    write_buffer::WriteBuffer,
};

/// A serializable value of any type. Unlike [`Serialize`], this trait is `dyn`-compatible.
pub(crate) trait Encode {
    /// Appends the value to `out`, as [`Codec::encode_into`].
    fn encode(&self, codec: Codec, out: &mut WriteBuffer) -> Result<(), CodecError>;
}

impl<T: Serialize + ?Sized> Encode for T {
    fn encode(&self, codec: Codec, out: &mut WriteBuffer) -> Result<(), CodecError> {
        codec.encode_into(self, out)
    }
}
