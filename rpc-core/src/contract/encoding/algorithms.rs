//! The compression algorithms. Each decompresses at most `limit` bytes and one more, which shows that the payload
//! exceeds the limit.

use std::io::{self, Read, Write};

pub(super) fn compress_gzip(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain)?;
    encoder.finish()
}

pub(super) fn compress_zstd(plain: &[u8]) -> io::Result<Vec<u8>> {
    zstd::bulk::compress(plain, zstd::DEFAULT_COMPRESSION_LEVEL)
}

pub(super) fn compress_lz4(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(plain)?;
    encoder.finish().map_err(io::Error::other)
}

pub(super) fn decompress_gzip(packed: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    read_limited(flate2::bufread::MultiGzDecoder::new(packed), limit)
}

pub(super) fn decompress_zstd(packed: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    let mut decoder = zstd::Decoder::with_buffer(packed)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    read_limited(decoder, limit)
}

/// Decompresses one complete LZ4 frame.
///
/// The library treats the end of the input as the end of the frame, and ignores bytes after a frame. With one
/// additional end mark appended to the input, a payload that is exactly one frame leaves exactly that mark unread.
pub(super) fn decompress_lz4(packed: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    let mut decoder = lz4_flex::frame::FrameDecoder::new(packed.chain(&LZ4_END_MARK[..]));
    let plain = read_limited(&mut decoder, limit)?;
    let (rest, mark) = decoder.get_ref().get_ref();
    if plain.len() > limit || (rest.is_empty() && mark.len() == LZ4_END_MARK.len()) {
        return Ok(plain);
    }
    let problem = if rest.is_empty() { "the end mark is missing" } else { "trailing bytes after the frame" };
    Err(io::Error::new(io::ErrorKind::InvalidData, problem))
}

fn read_limited(reader: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    reader.take(limit as u64 + 1).read_to_end(&mut plain)?;
    Ok(plain)
}

const LZ4_END_MARK: [u8; 4] = [0; 4];
/// The logarithm of the largest accepted window of a zstd frame, 2^24 bytes.
const ZSTD_WINDOW_LOG: u32 = 24;
