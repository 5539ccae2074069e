//! Payloads that are small on the wire and would be huge in memory, on the stack or in time: each fails its call with the right
//! status, costs next to nothing, and the next call on the same connection is served.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::io::Write as _;

use rpc_server::ServerConfig;
use tests::{
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

/// How deep what is nested is nested.
const DEEP: usize = 100_000;
/// What each bomb grows to.
const GIB: usize = 1 << 30;
/// What bombs are made of.
const MIB: usize = 1 << 20;

/// Sends a payload to a method of `test.Wire`; says how that ended, after the next call was served.
struct Attack {
    peer: RawPeer,
    _server: Listening,
    /// The most memory that the process had held before.
    before: Option<usize>,
}

impl Attack {
    async fn new() -> Self {
        let server = Listening::start(ServerConfig::default()).await;
        Self { peer: RawPeer::connect(server.address()).await, _server: server, before: most_memory() }
    }

    async fn fails(&mut self, method: &str, codec: u8, compression: u8, payload: &[u8], code: u8) {
        let head = RawHead::route(&format!("test.Wire:1.0/{method}"));
        let frame = RawFrame::request(1, &head, payload).with_codec(codec).with_compression(compression);
        let answer = self.peer.ask(&frame).await;
        let (found, message) = answer.status();
        assert_eq!(found, code, "{method} with codec {codec}, compression {compression}: {message}");
        assert!(answer.body.len() < 8 << 10, "an answer of {} bytes", answer.body.len());
        let next = RawFrame::request(2, &RawHead::route("test.Wire:1.0/echo"), r#"{"text":"next"}"#);
        assert_eq!(self.peer.ask(&next).await.text(), r#""next""#);
        // All tests of this file together stay far below what one of these payloads pretends to be.
        if let (Some(before), Some(now)) = (self.before, most_memory()) {
            // The system counts in batches: the most may seem to have become less.
            let more = now.saturating_sub(before);
            assert!(more < GIB / 2, "{method}: {} MiB more", more >> 20);
        }
    }

    async fn is_invalid(&mut self, method: &str, codec: u8, payload: &[u8]) {
        self.fails(method, codec, 0, payload, INVALID_ARGUMENT).await;
    }
}

/// The most bytes that this process has held at once, where the system tells.
fn most_memory() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<usize>().ok()? << 10)
}

/// A MessagePack map with one entry.
fn argument(name: &str, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap();
    [&[0x81, 0xa0 | length], name.as_bytes(), value].concat()
}

#[tokio::test]
async fn a_length_prefix_of_2_to_the_40_costs_nothing() {
    let mut attack = Attack::new().await;
    let prefix = (1_u64 << 40).to_le_bytes();
    for method in ["echo", "numbers", "nothings", "map", "bytes", "nest"] {
        attack.is_invalid(method, BINCODE, &prefix).await;
        attack.is_invalid(method, BINCODE, &u64::MAX.to_le_bytes()).await;
        // With something behind it, so that not the first element is missing.
        attack.is_invalid(method, BINCODE, &[&prefix[..], &[0; 1000]].concat()).await;
    }
}

#[tokio::test]
async fn message_packs_longest_prefixes_cost_nothing() {
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
            attack.is_invalid(method, MESSAGE_PACK, &argument(name, &value)).await;
        }
    }
    // What a method does not know, it skips: that must not cost more.
    for mark in [array, map, text, bytes] {
        attack.is_invalid("echo", MESSAGE_PACK, &argument("unknown", &prefix(mark))).await;
    }
    attack.is_invalid("echo", MESSAGE_PACK, &prefix(map)).await;
}

#[tokio::test]
async fn nesting_of_100_000_costs_no_stack() {
    let mut attack = Attack::new().await;
    attack.is_invalid("nest", BINCODE, &1_u64.to_le_bytes().repeat(DEEP)).await;
    for open in ["[", "{\"x\":", "[{\"x\":"] {
        for argument in ["nest", "unknown"] {
            let arguments = format!(r#"{{"{argument}":{}"#, open.repeat(DEEP));
            attack.is_invalid("nest", JSON, arguments.as_bytes()).await;
        }
    }
    attack.is_invalid("nest", JSON, "[".repeat(DEEP).as_bytes()).await;
    for open in [&[0x91][..], &[0x81, 0xa1, b'x'], &[0x81]] {
        for name in ["nest", "unknown"] {
            attack.is_invalid("nest", MESSAGE_PACK, &argument(name, &open.repeat(DEEP))).await;
        }
    }
    attack.is_invalid("nest", MESSAGE_PACK, &[0x91].repeat(DEEP)).await;
}

#[tokio::test]
async fn elements_of_no_size_cost_no_time() {
    let mut attack = Attack::new().await;
    attack.is_invalid("nothings", BINCODE, &(1_u64 << 33).to_le_bytes()).await;
    // MessagePack and JSON spend a byte and more on each.
    let nulls = format!(r#"{{"list":[{}null]}}"#, "null,".repeat(100_000));
    attack.fails("nothings", JSON, 0, nulls.as_bytes(), OK).await;
}

/// Deflates with a full flush after each MiB of zeros, so that the pieces are alike and one is enough.
fn gzip_bomb() -> Vec<u8> {
    let mut packer = flate2::Compress::new(flate2::Compression::best(), false);
    let zeros = vec![0; MIB];
    let mut piece = |flush| {
        let mut out = Vec::with_capacity(MIB);
        packer.compress_vec(&zeros, &mut out, flush).unwrap();
        assert!(out.len() < out.capacity(), "the flush is complete");
        out
    };
    let pieces = piece(flate2::FlushCompress::Full).repeat(GIB / MIB);
    let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    // An empty last block, and a trailer of which nobody gets to see that the checksum is wrong.
    [&header[..], &pieces, &[3, 0], &[0; 8]].concat()
}

/// One frame for each MiB.
fn zstd_bomb() -> Vec<u8> {
    zstd::bulk::compress(&vec![0; MIB], 1).unwrap().repeat(GIB / MIB)
}

/// The same block again and again.
fn lz4_bomb() -> Vec<u8> {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max1MB);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(&vec![0; MIB]).unwrap();
    let frame = encoder.finish().unwrap();
    // Seven bytes of header, the block, four of end mark.
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
async fn a_bomb_of_a_gib_stops_at_the_limit() {
    for compression in [GZIP, ZSTD, LZ4] {
        let bomb = bomb(compression);
        assert!(bomb.len() < 8 * MIB, "{compression}: a bomb of {} bytes fits into a frame", bomb.len());
        let mut attack = Attack::new().await;
        for codec in [BINCODE, JSON, MESSAGE_PACK] {
            attack.fails("echo", codec, compression, &bomb, RESOURCE_EXHAUSTED).await;
        }
    }
}

/// Were a bomb only garbage, nothing would be shown by it.
#[test]
fn bombs_are_what_they_say() {
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
    assert_eq!([GZIP, ZSTD, LZ4].map(unpacked), [20; 3], "MiB at least");
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
async fn what_is_hostile_stays_so_when_it_is_packed() {
    let mut attack = Attack::new().await;
    let prefix = (1_u64 << 40).to_le_bytes();
    for compression in [GZIP, ZSTD, LZ4] {
        for (method, codec, plain) in [
            ("numbers", BINCODE, prefix.to_vec()),
            ("nothings", BINCODE, prefix.to_vec()),
            ("nest", BINCODE, 1_u64.to_le_bytes().repeat(DEEP)),
            ("nest", JSON, format!(r#"{{"nest":{}"#, "[".repeat(DEEP)).into_bytes()),
            ("nest", MESSAGE_PACK, argument("nest", &[0x91].repeat(DEEP))),
        ] {
            attack.fails(method, codec, compression, &pack(compression, &plain), INVALID_ARGUMENT).await;
        }
    }
}

#[tokio::test]
async fn packed_payloads_that_are_cut_longer_or_broken_are_refused() {
    let mut attack = Attack::new().await;
    for compression in [GZIP, ZSTD, LZ4] {
        let whole = pack(compression, format!(r#"{{"text":"{}"}}"#, "text ".repeat(1000)).as_bytes());
        attack.fails("echo", JSON, compression, &whole, OK).await;
        attack.fails("echo", JSON, compression, &whole[..whole.len() - 1], INVALID_ARGUMENT).await;
        attack.fails("echo", JSON, compression, &[&whole[..], b"?"].concat(), INVALID_ARGUMENT).await;
        attack.fails("echo", JSON, compression, b"", INVALID_ARGUMENT).await;
        let mut broken = whole;
        broken[0] ^= 1;
        attack.fails("echo", JSON, compression, &broken, INVALID_ARGUMENT).await;
    }
}

/// A zstd frame names the window that it needs, and a decoder that believes it allocates that.
#[tokio::test]
async fn a_zstd_window_over_16_mib_is_refused() {
    let mut attack = Attack::new().await;
    // No single segment, no content size, a window of 2^31; one last block, raw, empty.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
    attack.fails("echo", JSON, ZSTD, &frame, INVALID_ARGUMENT).await;
}
