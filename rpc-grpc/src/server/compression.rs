//! The compression of messages.

use std::io::{self, Read as _, Write as _};

use bytes::Bytes;
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use hyper::HeaderMap;
use rpc_core::{Code, Error};
use tokio::task::spawn_blocking;

/// The encodings of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Encodings {
    /// Whether the compressed messages of the caller use gzip.
    pub(super) request_is_gzip: bool,
    /// Whether the messages of the response are compressed: as the caller does, if it accepts that.
    pub(super) compresses: bool,
}

impl Encodings {
    /// Reads the encodings of a call.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Error> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default()).unwrap_or_default();
        let request_is_gzip = match text(ENCODING) {
            "" | "identity" => false,
            GZIP => true,
            other => {
                let message = format!("the encoding {other:?} is not supported, expected `{GZIP}` or `identity`");
                return Err(Error::not_executed(Code::Unimplemented, message));
            }
        };
        let accepts_gzip = text(ACCEPT_ENCODING).split(',').any(|accepted| accepted.trim() == GZIP);
        Ok(Self { request_is_gzip, compresses: request_is_gzip && accepts_gzip })
    }
}

/// Decompresses a message of at most `limit` bytes.
pub(super) async fn decompress(bytes: Bytes, limit: usize) -> Result<Bytes, Error> {
    let decompressed = if bytes.len() < MIN_BLOCKING {
        decompress_now(&bytes, limit)
    } else {
        // In a thread of its own, so that the other calls of this one do not wait.
        spawn_blocking(move || decompress_now(&bytes, limit)).await.unwrap_or_else(|error| Err(io::Error::other(error)))
    };
    match decompressed {
        Ok(message) if message.len() > limit => Err(too_long(limit)),
        Ok(message) => Ok(message.into()),
        Err(_) => Err(Error::not_executed(Code::InvalidArgument, "the message is not compressed with gzip")),
    }
}

pub(super) fn too_long(limit: usize) -> Error {
    let message = format!("the message is longer than {limit} bytes (GrpcConfig::max_message)");
    Error::not_executed(Code::ResourceExhausted, message)
}

fn decompress_now(bytes: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    MultiGzDecoder::new(bytes).take(limit as u64 + 1).read_to_end(&mut message)?;
    Ok(message)
}

/// Compresses a message; `None` if it is short, or not shorter afterwards.
pub(super) fn compress(message: &[u8]) -> Option<Vec<u8>> {
    if message.len() < MIN_COMPRESSED {
        return None;
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(message.len() / 2), Compression::fast());
    encoder.write_all(message).ok()?;
    encoder.finish().ok().filter(|compressed| compressed.len() < message.len())
}

pub(super) const GZIP: &str = "gzip";
pub(super) const ENCODING: &str = "grpc-encoding";
pub(super) const ACCEPT_ENCODING: &str = "grpc-accept-encoding";
/// The shortest message that is compressed, in bytes.
const MIN_COMPRESSED: usize = 1 << 10;
/// The length from which a message is decompressed in a thread of its own, in bytes.
const MIN_BLOCKING: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_are_equal_after_both_ways() {
        for length in [1 << 10, 1 << 20] {
            let message = vec![7; length];
            let compressed = Bytes::from(compress(&message).unwrap());
            assert_eq!(decompress(compressed.clone(), length).await.unwrap(), message);
            let error = decompress(compressed, length - 1).await.unwrap_err();
            assert_eq!(error.code(), Code::ResourceExhausted);
        }
        assert!(compress(&[7; (1 << 10) - 1]).is_none());
        assert_eq!(decompress(Bytes::from_static(b"x"), 9).await.unwrap_err().code(), Code::InvalidArgument);
    }

    #[test]
    fn encodings_follow_the_caller() {
        let of = |pairs: &[(&'static str, &str)]| {
            let headers = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            Encodings::of(&headers.collect()).map_err(|error| error.code())
        };
        let both = |request_is_gzip, compresses| Ok(Encodings { request_is_gzip, compresses });
        assert_eq!(of(&[]), both(false, false));
        assert_eq!(of(&[(ENCODING, "identity"), (ACCEPT_ENCODING, "gzip")]), both(false, false));
        assert_eq!(of(&[(ENCODING, "gzip")]), both(true, false));
        assert_eq!(of(&[(ENCODING, "gzip"), (ACCEPT_ENCODING, "deflate, gzip")]), both(true, true));
        assert_eq!(of(&[(ENCODING, "snappy")]), Err(Code::Unimplemented));
    }
}
