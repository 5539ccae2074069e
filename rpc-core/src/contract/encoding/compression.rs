//! [`Compression`]: how a payload is compressed.

use std::io::{self, Read, Write};

use bytes::{BufMut, Bytes, BytesMut};

use crate::{Code, Status};

/// How a payload is compressed. The numbers are those of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
#[repr(u8)]
pub enum Compression {
    /// As it is.
    #[default]
    None = 0,
    /// RFC 1952, one member or more.
    Gzip = 1,
    /// RFC 8878, one frame or more, each with a window of at most 16 MiB.
    Zstd = 2,
    /// The LZ4 frame format, one frame.
    Lz4 = 3,
}

impl Compression {
    /// All of this version.
    pub const ALL: [Self; 4] = [Self::None, Self::Gzip, Self::Zstd, Self::Lz4];
    /// A payload shorter than this many bytes is never compressed.
    pub const THRESHOLD: usize = 1024;

    /// The compression with this number on the wire.
    ///
    /// # Errors
    ///
    /// `Unimplemented`, naming those that are known.
    pub fn from_u8(number: u8) -> Result<Self, Status> {
        Self::ALL.into_iter().find(|compression| *compression as u8 == number).ok_or_else(|| unknown(number))
    }

    /// The name: `none`, `gzip`, `zstd`, `lz4`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
        }
    }

    /// Compresses what `out` holds from `start` on in its place, if it is long enough and becomes smaller by that; says which
    /// compression the payload has now.
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
            // Writing into memory does not fail; if a library does nevertheless, the plain payload is always right.
            Ok(_) | Err(_) => Self::None,
        }
    }

    fn compress(self, plain: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(plain.to_vec()),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(plain)?;
                encoder.finish()
            }
            Self::Zstd => zstd::bulk::compress(plain, zstd::DEFAULT_COMPRESSION_LEVEL),
            Self::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(plain)?;
                encoder.finish().map_err(io::Error::other)
            }
        }
    }

    /// Decompresses a payload of at most `limit` bytes. Memory stays below the limit and a constant, whatever the input.
    ///
    /// # Errors
    ///
    /// `ResourceExhausted` for a payload that grows over the limit; `InvalidArgument` for one that is not so compressed.
    pub fn decompress(self, packed: &Bytes, limit: usize) -> Result<Bytes, Status> {
        let reader = &packed[..];
        let plain = match self {
            Self::None if packed.len() > limit => return Err(over(limit)),
            Self::None => return Ok(packed.clone()),
            Self::Gzip => read_bounded(flate2::bufread::MultiGzDecoder::new(reader), limit),
            Self::Zstd => zstd::Decoder::with_buffer(reader).and_then(|mut decoder| {
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                read_bounded(decoder, limit)
            }),
            Self::Lz4 => lz4(reader, limit),
        };
        let plain = plain.map_err(|error| {
            Status::new(Code::InvalidArgument, format!("the payload is not {}: {error}", self.name()))
        })?;
        if plain.len() > limit { Err(over(limit)) } else { Ok(plain.into()) }
    }
}

/// Reads to the end, or one byte past the limit.
fn read_bounded(reader: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    reader.take(limit as u64 + 1).read_to_end(&mut plain)?;
    Ok(plain)
}

/// Reads one whole LZ4 frame.
///
/// The library takes an end of the input for the end of the frame, and does not look at what follows a frame. With one end
/// mark more than there should be after the input, exactly that is left over of a payload that is one frame.
fn lz4(packed: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    let mut decoder = lz4_flex::frame::FrameDecoder::new(packed.chain(&LZ4_END_MARK[..]));
    let plain = read_bounded(&mut decoder, limit)?;
    let (rest, mark) = decoder.get_ref().get_ref();
    if plain.len() > limit || (rest.is_empty() && mark.len() == LZ4_END_MARK.len()) {
        return Ok(plain);
    }
    let what = if rest.is_empty() { "the end mark is missing" } else { "bytes are left over after the frame" };
    Err(io::Error::new(io::ErrorKind::InvalidData, what))
}

fn over(limit: usize) -> Status {
    Status::new(Code::ResourceExhausted, format!("the payload is over the limit of {limit} bytes once decompressed"))
}

const LZ4_END_MARK: [u8; 4] = [0; 4];
/// A zstd frame names the window it needs; 2^24 bytes is the most granted.
const ZSTD_WINDOW_LOG: u32 = 24;

#[cold]
fn unknown(number: u8) -> Status {
    let known = Compression::ALL.map(|c| format!("{} ({})", c.name(), c as u8)).join(", ");
    Status::new(Code::Unimplemented, format!("compression {number} is not known here, only {known}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKED: [Compression; 3] = [Compression::Gzip, Compression::Zstd, Compression::Lz4];

    #[test]
    fn payloads_round_trip_and_neither_less_nor_more_is_taken() {
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
                    "{compression:?} with {more:?} after it"
                );
            }
        }
    }

    #[test]
    fn short_and_incompressible_payloads_stay_as_they_are() {
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
    fn bombs_stop_at_the_limit() {
        const LIMIT: usize = 1 << 20;
        for compression in PACKED {
            let bomb: Bytes = compression.compress(&vec![0; 64 << 20]).unwrap().into();
            assert_eq!(compression.decompress(&bomb, LIMIT).unwrap_err().code(), Code::ResourceExhausted);
        }
    }

    #[test]
    fn garbage_is_refused() {
        for compression in PACKED {
            let status = compression.decompress(&Bytes::from_static(b"garbage"), 100).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
        }
        assert_eq!(Compression::from_u8(4).unwrap_err().code(), Code::Unimplemented);
    }
}
