//! [`Output`]: the writer into which codecs encode.

use std::io;

use serde::Serialize;

use super::write_buffer::WriteBuffer;

/// Adapts a [`WriteBuffer`] to the writer traits of the codecs' libraries.
pub(super) struct Output<'a>(pub(super) &'a mut WriteBuffer);

/// Appends a value in [`Codec::Bincode`](super::Codec::Bincode).
pub(super) fn encode_bincode<T: Serialize + ?Sized>(
    value: &T,
    out: &mut WriteBuffer,
) -> Result<(), bincode::error::EncodeError> {
    bincode::serde::encode_into_writer(value, Output(out), bincode::config::legacy())
}

impl bincode::enc::write::Writer for Output<'_> {
    // Inlined because most writes are a few bytes whose number is a constant at the call site.
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        self.0.put(bytes);
        Ok(())
    }
}

impl io::Write for Output<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.put(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
