//! [`Encode`]: a serializable value of any type.

use serde::Serialize;

use super::{
    codec::{Codec, CodecError},
    write_buffer::WriteBuffer,
};

/// A value that a codec can write: every type that implements serde's [`Serialize`].
///
/// Unlike [`Serialize`], this trait is `dyn`-compatible.
pub trait Encode {
    /// Appends the value to `out`.
    ///
    /// # Errors
    ///
    /// As [`Codec::encode_into`].
    fn encode(&self, codec: Codec, out: &mut WriteBuffer) -> Result<(), CodecError>;
}

impl<T: Serialize + ?Sized> Encode for T {
    fn encode(&self, codec: Codec, out: &mut WriteBuffer) -> Result<(), CodecError> {
        codec.encode_into(self, out)
    }
}
