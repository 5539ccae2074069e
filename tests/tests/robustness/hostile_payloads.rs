//! Small payloads that demand much memory, stack or time: each fails its call with the right status and at little cost,
//! and the same connection serves the next call.

use std::io::Write as _;

use rpc_server::ServerConfig;
use tests::{
    process::test_process,
    raw_peer::{RawFrame, RawHead, RawPeer},
    wire::Listening,
};

const OK: u8 = 0;
const INVALID_ARGUMENT: u8 = 3;
const RESOURCE_EXHAUSTED: u8 = 8;

const BINCODE: u8 = 2;
const JSON: u8 = 3;
const MESSAGE_PACK: u8 = 5;

const GZIP: u8 = 1;
const ZSTD: u8 = 2;
const LZ4: u8 = 3;

/// Number of nesting levels.
const LEVELS: usize = 100_000;
/// Decompressed size of each bomb in bytes.
const GIB: usize = 1 << 30;
/// Size of a repeated piece of a bomb in bytes.
const MIB: usize = 1 << 20;

/// Sends payloads to methods of `test.Wire`.
struct Attack {
    peer: RawPeer,
    _server: Listening,
    /// Peak memory of the process before the attack in bytes.
    before: Option<usize>,
}

impl Attack {
    async fn new() -> Self {
        let server = Listening::start(ServerConfig::default()).await;
        Self { peer: RawPeer::connect(server.address()).await, _server: server, before: peak_memory() }
    }

    async fn expect_status(&mut self, method: &str, codec: u8, compression: u8, payload: &[u8], code: u8) {
        let head = RawHead::route(&format!("test.Wire:1.0/{method}"));
        let frame = RawFrame::request(1, &head, payload).with_codec(codec).with_compression(compression);
        let answer = self.peer.ask(&frame).await;
        let (found, message) = answer.status();
        assert_eq!(found, code, "{method} with codec {codec}, compression {compression}: {message}");
        assert!(answer.body.len() < 8 << 10, "the answer has {} bytes", answer.body.len());
        let next = RawFrame::request(2, &RawHead::route("test.Wire:1.0/echo"), r#"{"text":"next"}"#);
        assert_eq!(self.peer.ask(&next).await.text(), r#""next""#);
        // All tests of this module together need far less memory than one of these payloads announces.
        if let (Some(before), Some(now)) = (self.before, peak_memory()) {
            // The kernel updates its counters in batches, so that the peak can appear to decrease.
            let more = now.saturating_sub(before);
            assert!(more < GIB / 2, "{method}: {} MiB more", more >> 20);
        }
    }

    async fn expect_invalid(&mut self, method: &str, codec: u8, payload: &[u8]) {
        self.expect_status(method, codec, 0, payload, INVALID_ARGUMENT).await;
    }
}

/// Returns the peak memory of this process in bytes, if the system reports it.
///
/// `None` also in a process with other tests: see [`module_needs_less_memory_than_payloads_announce`].
fn peak_memory() -> Option<usize> {
    std::env::var_os(OWN_PROCESS)?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<usize>().ok()? << 10)
}

/// Encodes a MessagePack map with one entry.
fn argument(name: &str, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap();
    [&[0x81, 0xa0 | length], name.as_bytes(), value].concat()
}

#[tokio::test]
async fn length_prefix_of_2_to_the_40_allocates_nothing() {
    let mut attack = Attack::new().await;
    let prefix = (1_u64 << 40).to_le_bytes();
    for method in ["echo", "numbers", "nothings", "map", "bytes", "nest"] {
        attack.expect_invalid(method, BINCODE, &prefix).await;
        attack.expect_invalid(method, BINCODE, &u64::MAX.to_le_bytes()).await;
        // With bytes after the prefix, so that the first elements exist.
        attack.expect_invalid(method, BINCODE, &[&prefix[..], &[0; 1000]].concat()).await;
    }
}

#[tokio::test]
async fn longest_messagepack_prefixes_allocate_nothing() {
    let mut attack = Attack::new().await;
    let prefix = |mark: u8| [mark, 0xff, 0xff, 0xff, 0xff];
    let (array, map, text, bytes) = (0xdd, 0xdf, 0xdb, 0xc6);
    for (method, name, mark) in [
        ("numbers", "list", array),
        ("nothings", "list", array),
        ("nest", "nest", array),
        ("map", "map", map),
        ("echo", "text", text),
        ("bytes", "data", bytes),
        ("bytes", "data", array),
    ] {
        for rest in [&[][..], &[0xc0; 1000]] {
            let value = [&prefix(mark), rest].concat();
            attack.expect_invalid(method, MESSAGE_PACK, &argument(name, &value)).await;
        }
    }
    // Skipping an unknown argument must not cost more than decoding a known one.
    for mark in [array, map, text, bytes] {
        attack.expect_invalid("echo", MESSAGE_PACK, &argument("unknown", &prefix(mark))).await;
    }
    attack.expect_invalid("echo", MESSAGE_PACK, &prefix(map)).await;
}

#[tokio::test]
async fn nesting_of_100_000_levels_uses_no_stack() {
    let mut attack = Attack::new().await;
    attack.expect_invalid("nest", BINCODE, &1_u64.to_le_bytes().repeat(LEVELS)).await;
    for open in ["[", "{\"x\":", "[{\"x\":"] {
        for argument in ["nest", "unknown"] {
            let arguments = format!(r#"{{"{argument}":{}"#, open.repeat(LEVELS));
            attack.expect_invalid("nest", JSON, arguments.as_bytes()).await;
        }
    }
    attack.expect_invalid("nest", JSON, "[".repeat(LEVELS).as_bytes()).await;
    for open in [&[0x91][..], &[0x81, 0xa1, b'x'], &[0x81]] {
        for name in ["nest", "unknown"] {
            attack.expect_invalid("nest", MESSAGE_PACK, &argument(name, &open.repeat(LEVELS))).await;
        }
    }
    attack.expect_invalid("nest", MESSAGE_PACK, &[0x91].repeat(LEVELS)).await;
}

#[tokio::test]
async fn zero_sized_elements_use_no_time() {
    let mut attack = Attack::new().await;
    attack.expect_invalid("nothings", BINCODE, &(1_u64 << 33).to_le_bytes()).await;
    // In MessagePack and JSON each element needs at least one byte.
    let nulls = format!(r#"{{"list":[{}null]}}"#, "null,".repeat(100_000));
    attack.expect_status("nothings", JSON, 0, nulls.as_bytes(), OK).await;
}

/// Repeats the compressed form of 1 MiB of zeros, which ends with a full flush so that all pieces are equal.
fn gzip_bomb() -> Vec<u8> {
    let mut packer = flate2::Compress::new(flate2::Compression::best(), false);
    let zeros = vec![0; MIB];
    let mut piece = |flush| {
        let mut out = Vec::with_capacity(MIB);
        packer.compress_vec(&zeros, &mut out, flush).unwrap();
        assert!(out.len() < out.capacity(), "the buffer holds the whole flush");
        out
    };
    let pieces = piece(flate2::FlushCompress::Full).repeat(GIB / MIB);
    let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    // An empty last block, and a trailer whose wrong checksum the decoder never reaches.
    [&header[..], &pieces, &[3, 0], &[0; 8]].concat()
}

/// Repeats a frame of 1 MiB of zeros.
fn zstd_bomb() -> Vec<u8> {
    zstd::bulk::compress(&vec![0; MIB], 1).unwrap().repeat(GIB / MIB)
}

/// Repeats a block of 1 MiB of zeros.
fn lz4_bomb() -> Vec<u8> {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max1MB);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(&vec![0; MIB]).unwrap();
    let frame = encoder.finish().unwrap();
    // 7 bytes of header, the block, and 4 bytes of end mark.
    let (header, rest) = frame.split_at(7);
    let (block, end) = rest.split_at(rest.len() - 4);
    [header, &block.repeat(GIB / MIB), end].concat()
}

fn bomb(compression: u8) -> Vec<u8> {
    match compression {
        GZIP => gzip_bomb(),
        ZSTD => zstd_bomb(),
        _ => lz4_bomb(),
    }
}

#[tokio::test]
async fn decompression_of_1_gib_stops_at_limit() {
    for compression in [GZIP, ZSTD, LZ4] {
        let bomb = bomb(compression);
        assert!(
            bomb.len() < 8 * MIB,
            "compression {compression}: the bomb of {} bytes does not fit into a frame",
            bomb.len()
        );
        let mut attack = Attack::new().await;
        for codec in [BINCODE, JSON, MESSAGE_PACK] {
            attack.expect_status("echo", codec, compression, &bomb, RESOURCE_EXHAUSTED).await;
        }
    }
}

/// Proves that the bombs are valid compressed data, at least for their first 20 MiB.
#[test]
fn bombs_decompress_to_20_mib_or_more() {
    use std::io::Read as _;
    let unpacked = |compression: u8| {
        let bomb = bomb(compression);
        let count = |mut reader: Box<dyn std::io::Read>| {
            let mut buffer = vec![0; MIB];
            (0..20).map(|_| reader.read_exact(&mut buffer).unwrap()).count()
        };
        match compression {
            GZIP => count(Box::new(flate2::read::GzDecoder::new(std::io::Cursor::new(bomb)))),
            ZSTD => count(Box::new(zstd::Decoder::new(std::io::Cursor::new(bomb)).unwrap())),
            _ => count(Box::new(lz4_flex::frame::FrameDecoder::new(std::io::Cursor::new(bomb)).take(u64::MAX))),
        }
    };
    assert_eq!([GZIP, ZSTD, LZ4].map(unpacked), [20; 3], "each bomb decompresses to at least 20 MiB");
}

fn pack(compression: u8, plain: &[u8]) -> Vec<u8> {
    match compression {
        GZIP => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        ZSTD => zstd::bulk::compress(plain, 1).unwrap(),
        _ => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
    }
}

#[tokio::test]
async fn server_rejects_compressed_hostile_payloads() {
    let mut attack = Attack::new().await;
    let prefix = (1_u64 << 40).to_le_bytes();
    for compression in [GZIP, ZSTD, LZ4] {
        for (method, codec, plain) in [
            ("numbers", BINCODE, prefix.to_vec()),
            ("nothings", BINCODE, prefix.to_vec()),
            ("nest", BINCODE, 1_u64.to_le_bytes().repeat(LEVELS)),
            ("nest", JSON, format!(r#"{{"nest":{}"#, "[".repeat(LEVELS)).into_bytes()),
            ("nest", MESSAGE_PACK, argument("nest", &[0x91].repeat(LEVELS))),
        ] {
            attack.expect_status(method, codec, compression, &pack(compression, &plain), INVALID_ARGUMENT).await;
        }
    }
}

#[tokio::test]
async fn server_rejects_damaged_compressed_payloads() {
    let mut attack = Attack::new().await;
    for compression in [GZIP, ZSTD, LZ4] {
        let whole = pack(compression, format!(r#"{{"text":"{}"}}"#, "text ".repeat(1000)).as_bytes());
        attack.expect_status("echo", JSON, compression, &whole, OK).await;
        attack.expect_status("echo", JSON, compression, &whole[..whole.len() - 1], INVALID_ARGUMENT).await;
        attack.expect_status("echo", JSON, compression, &[&whole[..], b"?"].concat(), INVALID_ARGUMENT).await;
        attack.expect_status("echo", JSON, compression, b"", INVALID_ARGUMENT).await;
        let mut broken = whole;
        broken[0] ^= 1;
        attack.expect_status("echo", JSON, compression, &broken, INVALID_ARGUMENT).await;
    }
}

/// A zstd frame announces its window, and a decoder without a limit allocates the announced size.
#[tokio::test]
async fn server_rejects_zstd_window_over_16_mib() {
    let mut attack = Attack::new().await;
    // Not a single segment, no content size, a window of 2^31 bytes; one empty raw block, the last.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
    attack.expect_status("echo", JSON, ZSTD, &frame, INVALID_ARGUMENT).await;
}

/// Runs the tests of this module again, in a process in which they measure their memory.
#[test]
fn module_needs_less_memory_than_payloads_announce() {
    if std::env::var_os(OWN_PROCESS).is_some() {
        return;
    }
    let output = test_process(&["hostile_payloads::"]).env(OWN_PROCESS, "1").output().expect("the test binary starts");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !stdout.contains(" 0 passed"), "{stdout}");
}

/// The environment variable that marks the process of this module alone.
const OWN_PROCESS: &str = "MSNB_TEST_HOSTILE_PAYLOADS";
