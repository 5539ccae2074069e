//! [`Compression`]: the compression of a payload.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};

use super::algorithms;
use crate::{Code, Status};

/// The compression of a payload. The discriminants are the numbers in the frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
#[repr(u8)]
pub enum Compression {
    /// No compression.
    #[default]
    None = 0,
    /// RFC 1952, one or more members.
    Gzip = 1,
    /// RFC 8878, one or more frames, each with a window of at most 16 MiB.
    Zstd = 2,
    /// The LZ4 frame format, one frame.
    Lz4 = 3,
}

impl Compression {
    /// All compressions of this version.
    pub const ALL: [Self; 4] = [Self::None, Self::Gzip, Self::Zstd, Self::Lz4];
    /// The length in bytes below which a payload is never compressed: 1 KiB.
    pub const THRESHOLD: usize = 1024;

    /// Returns the compression with this number on the wire.
    ///
    /// # Errors
    ///
    /// `Unimplemented` for an unknown number, listing the supported compressions.
    pub fn from_u8(number: u8) -> Result<Self, Status> {
        Self::ALL.into_iter().find(|compression| *compression as u8 == number).ok_or_else(|| unknown(number))
    }

    /// Returns the name: `none`, `gzip`, `zstd`, `lz4`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
        }
    }

    /// Compresses the bytes of `out` from `start` on in place, if they are long enough and become shorter.
    ///
    /// Returns the compression that was applied.
    pub(crate) fn compress_tail(self, out: &mut BytesMut, start: usize) -> Self {
        let plain = &out[start..];
        if plain.len() < Self::THRESHOLD {
            return Self::None;
        }
        match self.compress(plain) {
            Ok(packed) if packed.len() < plain.len() => {
                out.truncate(start);
                out.put_slice(&packed);
                self
            }
            // Compressing into memory does not fail. If a library fails nevertheless, the plain payload is valid.
            Ok(_) | Err(_) => Self::None,
        }
    }

    fn compress(self, plain: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(plain.to_vec()),
            Self::Gzip => algorithms::compress_gzip(plain),
            Self::Zstd => algorithms::compress_zstd(plain),
            Self::Lz4 => algorithms::compress_lz4(plain),
        }
    }

    /// Decompresses a payload to at most `limit` bytes.
    ///
    /// Memory stays below the limit plus a constant for any input.
    ///
    /// # Errors
    ///
    /// `ResourceExhausted` if the decompressed payload exceeds the limit; `InvalidArgument` if the payload is not in
    /// this format.
    pub fn decompress(self, packed: &Bytes, limit: usize) -> Result<Bytes, Status> {
        let plain = match self {
            Self::None if packed.len() > limit => return Err(over_limit(limit)),
            Self::None => return Ok(packed.clone()),
            Self::Gzip => algorithms::decompress_gzip(packed, limit),
            Self::Zstd => algorithms::decompress_zstd(packed, limit),
            Self::Lz4 => algorithms::decompress_lz4(packed, limit),
        };
        let plain = plain.map_err(|error| {
            Status::new(Code::InvalidArgument, format!("the payload is not {}: {error}", self.name()))
        })?;
        if plain.len() > limit { Err(over_limit(limit)) } else { Ok(plain.into()) }
    }
}

fn over_limit(limit: usize) -> Status {
    Status::new(Code::ResourceExhausted, format!("decompressed payload exceeds the limit of {limit} bytes"))
}

#[cold]
fn unknown(number: u8) -> Status {
    let known = Compression::ALL.map(|c| format!("{} ({})", c.name(), c as u8)).join(", ");
    Status::new(Code::Unimplemented, format!("compression {number} is not supported, supported are {known}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKED: [Compression; 3] = [Compression::Gzip, Compression::Zstd, Compression::Lz4];

    #[test]
    fn payloads_round_trip_and_other_lengths_fail() {
        let plain: Vec<u8> = (0..5000_u32).map(|i| (i / 100) as u8).collect();
        for compression in PACKED {
            let mut out = BytesMut::from(&b"head"[..]);
            out.put_slice(&plain);
            assert_eq!(compression.compress_tail(&mut out, 4), compression);
            assert_eq!(&out[..4], b"head");
            let packed = out.freeze().slice(4..);
            assert_eq!(compression.decompress(&packed, plain.len()).unwrap(), plain);
            assert_eq!(compression.decompress(&packed, plain.len() - 1).unwrap_err().code(), Code::ResourceExhausted);
            for cut in 0..packed.len() {
                assert!(
                    compression.decompress(&packed.slice(..cut), plain.len()).is_err(),
                    "{compression:?} cut at {cut}"
                );
            }
            for more in [&[0; 4][..], b"x", b"more than a few bytes"] {
                let longer = [&packed, more].concat().into();
                assert!(
                    compression.decompress(&longer, plain.len()).is_err(),
                    "{compression:?} with {more:?} appended"
                );
            }
        }
    }

    #[test]
    fn short_or_incompressible_payloads_stay_plain() {
        let mut noise = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8
        })
        .take(4096)
        .collect();
        for compression in PACKED {
            for plain in [&vec![0; Compression::THRESHOLD - 1], &noise] {
                let mut out = BytesMut::from(&plain[..]);
                assert_eq!(compression.compress_tail(&mut out, 0), Compression::None);
                assert_eq!(&out[..], &plain[..]);
            }
            let mut out = BytesMut::zeroed(Compression::THRESHOLD);
            assert_eq!(compression.compress_tail(&mut out, 0), compression);
        }
    }

    #[test]
    fn decompression_bombs_stop_at_the_limit() {
        const LIMIT: usize = 1 << 20;
        for compression in PACKED {
            let bomb: Bytes = compression.compress(&vec![0; 64 << 20]).unwrap().into();
            assert_eq!(compression.decompress(&bomb, LIMIT).unwrap_err().code(), Code::ResourceExhausted);
        }
    }

    #[test]
    fn garbage_is_rejected() {
        for compression in PACKED {
            let status = compression.decompress(&Bytes::from_static(b"garbage"), 100).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
        }
        assert_eq!(Compression::from_u8(4).unwrap_err().code(), Code::Unimplemented);
    }
}
