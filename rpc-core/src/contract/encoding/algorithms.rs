//! The compression algorithms that this build supports.
//!
//! Each decompresses at most `limit` bytes and one more, which shows that the payload exceeds the limit.

use std::io;

#[cfg(feature = "gzip")]
pub(super) mod gzip {
    use std::io::{self, Write as _};

    use super::{MAX_MEMBERS, read_to_limit, too_many_members};

    pub(crate) fn compress(plain: &[u8]) -> io::Result<Vec<u8>> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain)?;
        encoder.finish()
    }

    pub(crate) fn decompress(packed: &[u8], limit: usize) -> io::Result<Vec<u8>> {
        let (mut plain, mut rest) = (Vec::new(), packed);
        for _ in 0..MAX_MEMBERS {
            let mut member = flate2::bufread::GzDecoder::new(rest);
            read_to_limit(&mut member, &mut plain, limit)?;
            rest = member.into_inner();
            if plain.len() > limit || rest.is_empty() {
                return Ok(plain);
            }
        }
        Err(too_many_members("members"))
    }
}

#[cfg(feature = "zstd")]
pub(super) mod zstd {
    use std::io;

    use super::{MAX_MEMBERS, read_limited, too_many_members};

    pub(crate) fn compress(plain: &[u8]) -> io::Result<Vec<u8>> {
        ::zstd::bulk::compress(plain, ::zstd::DEFAULT_COMPRESSION_LEVEL)
    }

    pub(crate) fn decompress(packed: &[u8], limit: usize) -> io::Result<Vec<u8>> {
        check_frames(packed)?;
        let mut decoder = ::zstd::Decoder::with_buffer(packed)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG)?;
        read_limited(decoder, limit)
    }

    /// Checks the number of frames. The decoder reports malformed ones.
    fn check_frames(packed: &[u8]) -> io::Result<()> {
        let mut rest = packed;
        for _ in 0..MAX_MEMBERS {
            match ::zstd::zstd_safe::find_frame_compressed_size(rest) {
                Ok(length) if length < rest.len() => rest = &rest[length..],
                _ => return Ok(()),
            }
        }
        Err(too_many_members("frames"))
    }

    /// The logarithm of the largest accepted window of a zstd frame, 2^24 bytes.
    const ZSTD_WINDOW_LOG: u32 = 24;
}

#[cfg(feature = "lz4")]
pub(super) mod lz4 {
    use std::io::{self, Read as _, Write as _};

    use super::read_limited;

    pub(crate) fn compress(plain: &[u8]) -> io::Result<Vec<u8>> {
        let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
        encoder.write_all(plain)?;
        encoder.finish().map_err(io::Error::other)
    }

    /// Decompresses one complete LZ4 frame.
    ///
    /// The library treats the end of the input as the end of the frame, and ignores bytes after a frame. With one
    /// additional end mark appended to the input, a payload that is exactly one frame leaves exactly that mark unread.
    pub(crate) fn decompress(packed: &[u8], limit: usize) -> io::Result<Vec<u8>> {
        let mut decoder = lz4_flex::frame::FrameDecoder::new(packed.chain(&END_MARK[..]));
        let plain = read_limited(&mut decoder, limit)?;
        let (rest, mark) = decoder.get_ref().get_ref();
        if plain.len() > limit || (rest.is_empty() && mark.len() == END_MARK.len()) {
            return Ok(plain);
        }
        let problem = if rest.is_empty() { "the end mark is missing" } else { "trailing bytes after the frame" };
        Err(io::Error::new(io::ErrorKind::InvalidData, problem))
    }

    const END_MARK: [u8; 4] = [0; 4];
}

/// The error of an algorithm that this build does not support.
#[cfg(not(all(feature = "gzip", feature = "lz4", feature = "zstd")))]
pub(super) fn unsupported() -> io::Result<Vec<u8>> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(any(feature = "lz4", feature = "zstd"))]
fn read_limited(reader: impl io::Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    read_to_limit(reader, &mut plain, limit)?;
    Ok(plain)
}

/// Appends the output of `reader` to `plain` until `plain` exceeds the limit by one byte.
#[cfg(any(feature = "gzip", feature = "lz4", feature = "zstd"))]
fn read_to_limit(reader: impl io::Read, plain: &mut Vec<u8>, limit: usize) -> io::Result<()> {
    use io::Read as _;

    reader.take((limit - plain.len()) as u64 + 1).read_to_end(plain)?;
    Ok(())
}

#[cfg(any(feature = "gzip", feature = "zstd"))]
fn too_many_members(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("more than {MAX_MEMBERS} {name}"))
}

/// The largest number of gzip members or zstd frames in one payload. An empty one costs time and yields no bytes.
#[cfg(any(feature = "gzip", feature = "zstd"))]
const MAX_MEMBERS: usize = 1024;
