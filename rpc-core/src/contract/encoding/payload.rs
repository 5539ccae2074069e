//! [`Payload`]: arguments or a result in serialized form.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::{codec::Codec, compression::Compression, uncopied};
use crate::{Code, Status};

/// Arguments, a result or an error value in serialized form, and how to read it.
///
/// Codec and compression stay numbers until the payload is read: who only forwards it needs neither.
#[derive(Debug, Clone)]
pub struct Payload {
    /// The header's codec.
    pub codec: u8,
    /// The header's compression.
    pub compression: u8,
    /// The serialized value.
    pub bytes: Bytes,
    /// The most bytes that [`decode`](Self::decode) decompresses to.
    pub max_decompressed: usize,
}

impl Payload {
    /// The default of [`max_decompressed`](Self::max_decompressed): 16 MiB.
    pub const MAX_DECOMPRESSED: usize = 16 << 20;

    /// Decompresses and reads the value.
    ///
    /// # Errors
    ///
    /// `Unimplemented` for an unknown codec or compression, `ResourceExhausted` for a payload that grows over the limit,
    /// `InvalidArgument` for one that is no such value.
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
