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
    /// The compressions that this build supports, according to the features `gzip`, `lz4` and `zstd`.
    pub const SUPPORTED: &[Self] = &[
        Self::None,
        #[cfg(feature = "gzip")]
        Self::Gzip,
        #[cfg(feature = "zstd")]
        Self::Zstd,
        #[cfg(feature = "lz4")]
        Self::Lz4,
    ];
    /// The length in bytes below which a payload is never compressed: 1 KiB.
    pub const THRESHOLD: usize = 1024;

    /// Returns the compression with this number on the wire.
    ///
    /// # Errors
    ///
    /// `Unimplemented` for a number that this build does not support, listing the supported compressions.
    pub fn from_u8(number: u8) -> Result<Self, Status> {
        let supported = Self::SUPPORTED.iter().copied().find(|compression| *compression as u8 == number);
        supported.ok_or_else(|| unsupported(number))
    }

    /// Checks that a configuration accepts the compression with this number on the wire.
    ///
    /// A number that this build does not support passes: the end that decodes the payload rejects it, and a gateway may
    /// forward it.
    ///
    /// # Errors
    ///
    /// `Unimplemented`, listing the `accepted` compressions and their `setting`.
    #[doc(hidden)]
    #[inline]
    pub fn check_accepted(number: u8, accepted: &[Self], setting: &str) -> Result<(), Status> {
        // Most payloads are not compressed.
        if number == Self::None as u8 {
            return Ok(());
        }
        match Self::from_u8(number) {
            Ok(compression) if !accepted.contains(&compression) => Err(rejected(compression, accepted, setting)),
            _ => Ok(()),
        }
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
                // A buffer of the exact size: otherwise waiting bytes would hold the memory of the plain ones.
                let mut exact = BytesMut::with_capacity(start + packed.len());
                exact.put_slice(&out[..start]);
                exact.put_slice(&packed);
                *out = exact;
                self
            }
            // Compressing into memory does not fail. If a library fails nevertheless, the plain payload is valid.
            Ok(_) | Err(_) => Self::None,
        }
    }

    fn compress(self, plain: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(plain.to_vec()),
            #[cfg(feature = "gzip")]
            Self::Gzip => algorithms::gzip::compress(plain),
            #[cfg(feature = "zstd")]
            Self::Zstd => algorithms::zstd::compress(plain),
            #[cfg(feature = "lz4")]
            Self::Lz4 => algorithms::lz4::compress(plain),
            #[cfg(not(all(feature = "gzip", feature = "lz4", feature = "zstd")))]
            _ => algorithms::unsupported(),
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
            #[cfg(feature = "gzip")]
            Self::Gzip => algorithms::gzip::decompress(packed, limit),
            #[cfg(feature = "zstd")]
            Self::Zstd => algorithms::zstd::decompress(packed, limit),
            #[cfg(feature = "lz4")]
            Self::Lz4 => algorithms::lz4::decompress(packed, limit),
            #[cfg(not(all(feature = "gzip", feature = "lz4", feature = "zstd")))]
            _ => algorithms::unsupported(),
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
fn rejected(compression: Compression, accepted: &[Compression], setting: &str) -> Status {
    let name = compression.name();
    let accepted: Vec<_> = accepted.iter().map(|accepted| accepted.name()).filter(|name| *name != "none").collect();
    let accepted = if accepted.is_empty() { "none".to_owned() } else { accepted.join(", ") };
    Status::new(
        Code::Unimplemented,
        format!("compression {name} is not accepted, accepted are: {accepted} ({setting})"),
    )
}

#[cold]
fn unsupported(number: u8) -> Status {
    let supported: Vec<_> = Compression::SUPPORTED.iter().map(|c| format!("{} ({})", c.name(), *c as u8)).collect();
    let supported = supported.join(", ");
    Status::new(Code::Unimplemented, format!("compression {number} is not supported, supported are {supported}"))
}

#[cfg(all(test, feature = "gzip", feature = "lz4", feature = "zstd"))]
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
    fn empty_members_are_limited() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let (empty, last) = (compression.compress(b"").unwrap(), compression.compress(b"last").unwrap());
            let with = |count: usize| {
                let packed = [&empty.repeat(count - 1)[..], &last].concat();
                compression.decompress(&packed.into(), 100)
            };
            assert_eq!(with(1024).unwrap(), "last", "{compression:?}");
            let status = with(1025).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.message().contains("more than 1024"), "{status}");
        }
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0].repeat(1025);
        assert!(Compression::Zstd.decompress(&skippable.into(), 100).unwrap_err().message().contains("more than 1024"));
    }

    #[test]
    fn only_accepted_compressions_pass() {
        let check = |number, accepted: &[Compression]| Compression::check_accepted(number, accepted, "A::setting");
        assert_eq!((check(0, &[]), check(1, &[Compression::Gzip]), check(9, &[])), (Ok(()), Ok(()), Ok(())));
        let status = check(2, &[Compression::Gzip, Compression::Lz4]).unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        assert_eq!(status.message(), "compression zstd is not accepted, accepted are: gzip, lz4 (A::setting)");
        assert!(check(1, &[]).unwrap_err().message().contains("accepted are: none"));
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
