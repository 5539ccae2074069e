//! [`Payload`]: a serialized value.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use tokio::task::{coop::consume_budget, yield_now};

use super::{codec::Codec, compression::Compression, offload::offload, uncopied};
use crate::{Code, Peer, PeerWork, Status};

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

    /// Decompresses and decodes the value, as [`decode`](Self::decode), outside of the task of the peer's connection if
    /// that may take long.
    ///
    /// A server polls a handler first in the task of its connection. This future is pending at its first poll if the
    /// payload is long, and decompresses on another thread unless the result is short.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode); `Unavailable` if the runtime shuts down.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub async fn decode_for<T: DeserializeOwned + Send + 'static>(self, peer: &Peer) -> Result<T, Status> {
        if self.is_short() {
            return self.decode();
        }
        // Boxed, because the future of every handler contains this one.
        Box::pin(self.decode_long(peer)).await
    }

    /// Returns whether [`decode`](Self::decode) takes little time.
    #[doc(hidden)]
    pub fn is_short(&self) -> bool {
        self.compression == Compression::None as u8 && self.bytes.len() < LONG
    }

    /// As [`decode`](Self::decode), for a payload that [`is_short`](Self::is_short).
    #[doc(hidden)]
    #[inline(always)]
    pub fn decode_short<T: DeserializeOwned>(self) -> Result<T, Status> {
        let codec = Codec::from_u8(self.codec)?;
        decode_plain(codec, &self.bytes)
    }

    /// Decompresses the value outside of this task, unless the result is short.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode); `Unavailable` if the runtime shuts down.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub(crate) async fn into_plain(self, work: &PeerWork) -> Result<Self, Status> {
        let compression = Compression::from_u8(self.compression)?;
        if compression == Compression::None {
            return Ok(self);
        }
        let limit = self.max_decompressed;
        let plain = match self.decompress_inline(compression).await {
            Some(plain) => plain?,
            None => offload(work, move || compression.decompress(&self.bytes, limit)).await??,
        };
        Ok(Self { compression: Compression::None as u8, bytes: plain, ..self })
    }

    /// Decompresses the value if it is short; `None` if it is long.
    async fn decompress_inline(&self, compression: Compression) -> Option<Result<Bytes, Status>> {
        if self.bytes.len() > MAX_INLINE {
            return None;
        }
        // The coop budget limits the work in one poll of a task: a connection with many compressed requests yields.
        for _ in 0..MAX_INLINE / BYTES_PER_COOP_UNIT {
            consume_budget().await;
        }
        let limit = MAX_INLINE.min(self.max_decompressed);
        match compression.decompress(&self.bytes, limit) {
            Err(status) if status.code() == Code::ResourceExhausted && limit < self.max_decompressed => None,
            plain => Some(plain),
        }
    }

    async fn decode_long<T: DeserializeOwned + Send + 'static>(self, peer: &Peer) -> Result<T, Status> {
        let Ok(compression) = Compression::from_u8(self.compression) else { return self.decode() };
        if compression == Compression::None {
            yield_now().await;
            return self.decode();
        }
        match self.decompress_inline(compression).await {
            Some(plain) => Self { compression: Compression::None as u8, bytes: plain?, ..self }.decode(),
            None => offload(peer.work(), move || self.decode()).await?,
        }
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
        decode_plain(codec, &plain)
    }
}

#[inline]
fn decode_plain<T: DeserializeOwned>(codec: Codec, plain: &Bytes) -> Result<T, Status> {
    let _lent = uncopied::lend(plain);
    codec.decode(plain).map_err(|error| {
        Status::new(Code::InvalidArgument, format!("the {} payload does not decode: {error}", codec.name()))
    })
}

/// The length from which a payload is decoded and compressed outside of the task of its connection, in bytes.
pub(crate) const LONG: usize = 256 << 10;
/// The longest payload, before and after decompression, that is decompressed in the task that polls the handler, in
/// bytes.
const MAX_INLINE: usize = 64 << 10;
/// The number of bytes for which decompression consumes one of the 128 units of coop budget that tokio gives to each
/// poll of a task: 1 MiB for a poll.
const BYTES_PER_COOP_UNIT: usize = 8 << 10;
