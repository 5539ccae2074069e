//! [`Payload`]: a serialized value.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::{codec::Codec, compression::Compression, uncopied};
use crate::{Code, Status};

/// Serialized arguments, a serialized result or a serialized error value, with their format.
///
/// Codec and compression stay numbers until the payload is decoded, so that a gateway can forward formats that it does
/// not support.
#[derive(Debug, Clone)]
pub struct Payload {
    /// The number of the codec in the frame header.
    pub codec: u8,
    /// The number of the compression in the frame header.
    pub compression: u8,
    /// The serialized value.
    pub bytes: Bytes,
    /// The limit to which [`decode`](Self::decode) decompresses, in bytes.
    pub max_decompressed: usize,
}

impl Payload {
    /// The default of [`max_decompressed`](Self::max_decompressed): 16 MiB.
    pub const MAX_DECOMPRESSED: usize = 16 << 20;

    /// Creates the payload of a value that is encoded in `codec` and not compressed.
    pub(crate) fn plain(codec: Codec, bytes: Bytes) -> Self {
        let compression = Compression::None as u8;
        Self { codec: codec as u8, compression, bytes, max_decompressed: Self::MAX_DECOMPRESSED }
    }

    /// Decompresses and decodes the value.
    ///
    /// # Errors
    ///
    /// `Unimplemented` for an unknown codec or compression, `ResourceExhausted` if the decompressed payload exceeds the
    /// limit, `InvalidArgument` if the payload is not such a value.
    pub fn decode<T: DeserializeOwned>(self) -> Result<T, Status> {
        let codec = Codec::from_u8(self.codec)?;
        let plain = match Compression::from_u8(self.compression)? {
            Compression::None => self.bytes,
            compression => compression.decompress(&self.bytes, self.max_decompressed)?,
        };
        let _lent = uncopied::lend(&plain);
        codec.decode(&plain).map_err(|error| {
            Status::new(Code::InvalidArgument, format!("the {} payload does not decode: {error}", codec.name()))
        })
    }
}
