//! Seeds of the fuzzers: the golden frames of docs/PROTOCOL.md, and one example of each attack of the other tests.
//!
//! `~~~~` stands for 16 KiB in sessions with fragments, whose inputs would otherwise be too long for a fuzzer.

use std::io::Write as _;

use crate::raw_peer::{RawFrame, RawHead};

/// Returns the test vectors of docs/PROTOCOL.md.
///
/// # Panics
///
/// Panics if the document has no vectors.
pub fn golden() -> Vec<Vec<u8>> {
    let document = include_str!("../docs/PROTOCOL.md");
    let (_, vectors) = document.split_once("\n## Test vectors\n").expect("the document has test vectors");
    let blocks = vectors.split("```text\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0));
    // The bytes of a line end at the first word that is not a byte.
    let byte = |word: &str| if word.len() == 2 { u8::from_str_radix(word, 16).ok() } else { None };
    blocks.map(|block| block.lines().flat_map(|line| line.split(' ').map_while(byte)).collect()).collect()
}

/// Returns sessions of a hostile caller for a server whose frame limit is `max_frame` bytes.
pub fn caller_sessions(max_frame: u32) -> Vec<Vec<u8>> {
    let route = |method: &str| RawHead::route(&format!("test.Wire:1.0/{method}"));
    let call = |id, method: &str, arguments: &str| RawFrame::request(id, &route(method), arguments);
    let echo = |id| call(id, "echo", r#"{"text":"x"}"#);
    let with = |tag: u8, value: &[u8]| RawFrame::request(1, &route("metadata").with(tag, value), "{}");
    let once = |id, repeat| {
        let head = route("once").with(RawHead::IDEMPOTENCY_KEY, [7; 16]).with(RawHead::REPEAT, [repeat]);
        RawFrame::request(id, &head, "{}")
    };
    let frames = |frames: &[RawFrame]| frames.iter().flat_map(RawFrame::to_bytes).collect::<Vec<u8>>();

    let mut seeds = sessions_of_either_end(max_frame);
    // Heads.
    seeds.extend((1..=12).map(|tag| frames(&[with(tag, &[1; 4]), echo(2)])));
    seeds.push(frames(&[
        with(RawHead::METADATA, &b"\x01k\0\0".repeat(65)),
        with(RawHead::METADATA, &b"\x01k\0\0".repeat(64)),
    ]));
    seeds.push(frames(&[
        RawFrame::request(1, &RawHead::new(), "{}"),
        RawFrame::request(2, &RawHead::route(&"r".repeat(514)), "{}"),
    ]));
    seeds.push(frames(&[0, 1, u32::MAX].map(|time| with(RawHead::TIMEOUT, &time.to_be_bytes()))[..2]));
    seeds.extend([4, 8, 16, 255].map(|flags| frames(&[with(RawHead::CALL_FLAGS, &[flags]), echo(2)])));
    // Ids.
    seeds.push(frames(&[echo(0)]));
    seeds.push(frames(&[call(1, "wait", "{}"), echo(1)]));
    seeds.push(frames(&[call(1, "wait", "{}"), RawFrame::empty(RawFrame::ITEM, 1), RawFrame::empty(8, 1), echo(2)]));
    seeds.push(frames(&(1..20).map(|id| call(id, "wait", "{}")).collect::<Vec<_>>()));
    seeds.push(frames(
        &(1..20).flat_map(|id| [call(id, "wait", "{}"), RawFrame::empty(RawFrame::CANCEL, id)]).collect::<Vec<_>>(),
    ));
    seeds.push(frames(&[once(1, 0), once(2, 1), once(3, 0), echo(4)]));
    seeds.push(frames(&[RawFrame::request(1, &route("once").with(RawHead::ONCE_KEY, [7; 16]), "{}"), echo(2)]));
    seeds.push(frames(&[
        RawFrame::request(1, &route("note").with(RawHead::CALL_FLAGS, [1]), r#"{"text":"x"}"#),
        echo(2),
    ]));
    // Invalid proofs.
    seeds.extend(
        [0, 63, 64, 67, 128, 129]
            .map(|length| frames(&[RawFrame::empty(RawFrame::PROOF, 0).with_body(vec![b'a'; length]), echo(1)])),
    );
    // Large answers, and frames over the limit.
    seeds.push(frames(&(1..9).map(|id| call(id, "zeros", r#"{"count":60000}"#)).collect::<Vec<_>>()));
    seeds.push(
        [&RawFrame::empty(RawFrame::REQUEST, 1).header(max_frame + 1)[..], &vec![0; max_frame as usize]].concat(),
    );
    // An incomplete frame.
    seeds.push(echo(1).to_bytes()[..20].to_vec());
    for (codec, payload) in payloads() {
        for method in ["echo", "numbers", "nothings", "map", "bytes"] {
            seeds.push(frames(&[RawFrame::request(1, &route(method), &payload).with_codec(codec), echo(2)]));
        }
    }
    for (compression, payload) in compressed() {
        let request = RawFrame::request(1, &route("echo"), payload).with_compression(compression);
        seeds.push(frames(&[request.clone(), request.with_codec(0), echo(2)]));
    }
    seeds.push(frames(&[
        echo(1).with_codec(1),
        echo(2).with_codec(255),
        echo(3).with_compression(4),
        call(4, "?", ""),
    ]));
    seeds.extend(streams_of_caller());
    seeds
}

/// Returns sessions with calls that have streams.
fn streams_of_caller() -> Vec<Vec<u8>> {
    let call = |id, method: &str, flags: u8, arguments: &str| {
        let head = RawHead::route(&format!("test.Wire:1.0/{method}")).with(RawHead::CALL_FLAGS, [flags]);
        RawFrame::request(id, &head, arguments)
    };
    let count = |id| call(id, "count", 8, r#"{"to":100,"long":true}"#);
    let credit = |id, bytes: u32| RawFrame::empty(RawFrame::CREDIT, id).with_body(bytes.to_be_bytes());
    let (item, end) = (RawFrame::item(1, "\"x\""), RawFrame::empty(RawFrame::END, 1));
    let cancel = RawFrame::empty(RawFrame::CANCEL, 1);
    let sessions = [
        vec![call(1, "count", 8, r#"{"to":3,"long":false}"#), RawFrame::empty(RawFrame::PING, 1)],
        // More items than the credit, and further credit.
        vec![count(1), count(2), credit(1, 1 << 20), count(3), credit(3, 100)],
        vec![count(1), credit(1, u32::MAX), credit(1, u32::MAX)],
        vec![count(1), RawFrame::empty(RawFrame::CREDIT, 1).with_body(*b"\0\0\x01")],
        vec![count(1), cancel.clone(), count(2)],
        vec![call(1, "collect", 4, "{}"), item.clone(), item.clone(), end.clone()],
        vec![call(1, "collect", 4, "{}"), RawFrame::item(1, "1"), end.clone()],
        vec![call(1, "copy", 12, "{}"), item.clone(), item.clone(), end.clone()],
        // The caller closes its sending side without END.
        vec![call(1, "copy", 12, "{}"), item.clone()],
        vec![call(1, "collect", 4, "{}"), item.clone()],
        vec![call(1, "ignore", 4, "{}"), item.clone().with_body(vec![b'1'; 60_000]), item.clone(), item.clone()],
        vec![call(1, "copy", 12, "{}"), end.clone(), end.clone()],
        vec![call(1, "copy", 12, "{}"), end.clone(), item.clone()],
        vec![call(1, "copy", 12, "{}"), item.clone(), cancel, item.clone(), end.clone()],
        // Streams that the method or the call does not have.
        vec![call(1, "echo", 4, r#"{"text":"x"}"#), item.clone(), end.clone()],
        vec![count(1), item.clone(), end.clone(), credit(1, 9)],
        vec![call(1, "collect", 4, "{}"), credit(1, 9), item.clone(), end.clone()],
        vec![item.clone(), end, credit(1, 1), RawFrame::empty(RawFrame::CALLEE_CREDIT, 1).with_body([0; 4]), item],
    ];
    sessions.iter().map(|frames| frames.iter().flat_map(RawFrame::to_bytes).collect()).collect()
}

/// Returns sessions of a caller with fragments.
pub fn fragmented_calls() -> Vec<Vec<u8>> {
    let head = RawHead::route("test.Wire:1.0/echo");
    let echo = |id| fragments(&RawFrame::request(id, &head, r#"{"text":"x""#), 3, b"}");
    let head = RawHead::route("test.Wire:1.0/collect").with(RawHead::CALL_FLAGS, [4]);
    let (collect, end) = (RawFrame::request(5, &head, "{}").to_bytes(), RawFrame::empty(RawFrame::END, 5).to_bytes());
    let item = fragments(&RawFrame::item(5, "\"x\""), 2, b" ");
    let cancel = |id| RawFrame::empty(RawFrame::CANCEL, id).to_bytes();
    let settings = RawFrame::empty(RawFrame::SETTINGS, 0).with_body([1, 0, 1, 4]).to_bytes();
    let each = |bodies: &[Vec<Vec<u8>>]| {
        let longest = bodies.iter().map(Vec::len).max().unwrap_or(0);
        let rounds = (0..longest).flat_map(|round| bodies.iter().filter_map(move |body| body.get(round).cloned()));
        rounds.collect::<Vec<_>>().concat()
    };
    let [first, second, .., last] = &echo(1)[..] else { unreachable!("a body with fillers has several fragments") };
    vec![
        echo(1).concat(),
        [settings, each(&[echo(1), echo(2)])].concat(),
        [collect.clone(), each(&[item.clone(), echo(1)]), end.clone()].concat(),
        // Too many bodies, a call that is cancelled, and wrong lengths.
        each(&[echo(1), echo(2), echo(3), echo(4), echo(5)]),
        [first.clone(), cancel(1), echo(2).concat()].concat(),
        [collect, item[0].clone(), cancel(5), item[1].clone(), end].concat(),
        [&first[..], second, second, second, last].concat(),
        [&first[..], last].concat(),
        [second.clone(), last.clone()].concat(),
        fragments(&RawFrame::request(1, &RawHead::route("test.Wire:1.0/echo"), r#"{"text":"x""#), 6, b"}").concat(),
    ]
}

/// Returns sessions of a callee with answers in fragments.
pub fn fragmented_answers(ids: &[u32]) -> Vec<Vec<u8>> {
    let answer = |id: &u32| fragments(&RawFrame::response(*id, &RawHead::new(), "\"x\""), 2, b" ");
    let answers: Vec<_> = ids.iter().map(answer).collect();
    vec![
        answers.concat().concat(),
        answers
            .iter()
            .take(4)
            .map(|answer| answer[0].clone())
            .chain([answers[0][1].clone()])
            .collect::<Vec<_>>()
            .concat(),
        answers[0][..1].concat(),
    ]
}

/// Divides a frame whose payload is continued by `fillers` times 16 KiB and `rest`.
fn fragments(frame: &RawFrame, fillers: usize, rest: &[u8]) -> Vec<Vec<u8>> {
    const FILLER: usize = 16 << 10;
    let total = (frame.body.len() + fillers * FILLER + rest.len()) as u32;
    let more = RawFrame { kind: frame.kind | RawFrame::MORE_FRAGMENTS, ..frame.clone() };
    let first = [&total.to_be_bytes()[..], &frame.body].concat();
    let header = |frame: &RawFrame, length: usize| frame.header((16 + length) as u32).to_vec();
    let mut fragments = vec![[&header(&more, first.len() + FILLER)[..], &first, b"~~~~"].concat()];
    fragments.extend((1..fillers).map(|_| [&header(&more, FILLER)[..], b"~~~~"].concat()));
    fragments.push([&header(frame, rest.len())[..], rest].concat());
    fragments
}

/// Returns sessions of a hostile server whose client's calls have `ids`.
pub fn callee_sessions(ids: &[u32], max_frame: u32) -> Vec<Vec<u8>> {
    let mut seeds = sessions_of_either_end(max_frame);
    let mut answers = Vec::new();
    for code in (0..=17).chain([32, 200]) {
        answers.push((RawHead::status(code, "why").with(RawHead::RETRY_AFTER, [0, 0, 0, 50]), 3, 0, b"\"x\"".to_vec()));
    }
    for tag in [4, 5, 6, 254, 255] {
        answers.push((RawHead::new().with(tag, b"\x01k\0\0"), 3, 0, b"\"x\"".to_vec()));
    }
    answers.extend(payloads().into_iter().map(|(codec, payload)| (RawHead::new(), codec, 0, payload)));
    answers.extend(compressed().into_iter().map(|(compression, payload)| (RawHead::new(), 3, compression, payload)));
    for (head, codec, compression, payload) in answers {
        let answer =
            |id: &u32| RawFrame::response(*id, &head, &payload).with_codec(codec).with_compression(compression);
        seeds.push(ids.iter().flat_map(|id| answer(id).to_bytes()).collect());
    }
    let goaway = RawFrame { kind: RawFrame::GOAWAY, ..RawFrame::response(0, &RawHead::status(14, "draining"), "") };
    let twice = RawFrame::response(ids[0], &RawHead::new(), "\"x\"").to_bytes();
    seeds.push([&goaway.to_bytes()[..], &twice, &twice].concat());
    seeds.push([&twice[..], b"----", &twice, b"----", &twice[..9]].concat());
    seeds.push(RawFrame::empty(RawFrame::RESPONSE, ids[0]).header(max_frame + 1).to_vec());
    let challenge = RawFrame::empty(RawFrame::CHALLENGE, 0).with_body([1; 32]).to_bytes();
    let pong = RawFrame::empty(RawFrame::PONG, 0).to_bytes();
    seeds.push([&challenge[..], &challenge, &pong, &twice].concat());
    seeds.extend(streams_of_callee(ids));
    seeds
}

/// Returns sessions that answer each call like one with streams.
fn streams_of_callee(ids: &[u32]) -> Vec<Vec<u8>> {
    let accept = |id| RawFrame::response(id, &RawHead::new(), "");
    let item = |id| RawFrame { kind: RawFrame::CALLEE_ITEM, ..RawFrame::item(id, "\"x\"") };
    let long = |id| item(id).with_body([b"\"", &[b'x'; 40_000][..], b"\""].concat());
    let end = |id, head: RawHead| RawFrame { kind: RawFrame::CALLEE_END, ..RawFrame::response(id, &head, "") };
    let ended = |id| end(id, RawHead::new());
    let credit = |id, bytes: u32| RawFrame::empty(RawFrame::CALLEE_CREDIT, id).with_body(bytes.to_be_bytes());
    let to_each = |frames: &dyn Fn(u32) -> Vec<RawFrame>| {
        ids.iter().flat_map(|id| frames(*id)).flat_map(|frame| frame.to_bytes()).collect::<Vec<u8>>()
    };
    vec![
        to_each(&|id| vec![accept(id), item(id), item(id), ended(id)]),
        to_each(&|id| vec![credit(id, 100), accept(id), credit(id, 1 << 20), item(id)]),
        to_each(&|id| vec![accept(id), item(id), end(id, RawHead::status(14, "draining"))]),
        to_each(&|id| vec![accept(id), item(id).with_body(*b"1"), ended(id)]),
        // Items before the acceptance, without credit and behind the end; an end twice; too much credit.
        to_each(&|id| vec![item(id), accept(id)]),
        to_each(&|id| vec![accept(id), long(id), long(id), long(id)]),
        to_each(&|id| vec![accept(id), ended(id), item(id), ended(id)]),
        to_each(&|id| vec![accept(id), accept(id)]),
        to_each(&|id| vec![accept(id), credit(id, u32::MAX), credit(id, u32::MAX)]),
    ]
}

/// Returns sessions for both ends.
fn sessions_of_either_end(max_frame: u32) -> Vec<Vec<u8>> {
    let ping = |body: usize| RawFrame::empty(RawFrame::PING, 1).with_body(vec![0; body]);
    let mut seeds = golden();
    seeds.push(golden().concat());
    seeds.push(b"GET / HTTP/1.1\r\n\r\n".to_vec());
    seeds.push(b"msnb\x02".to_vec());
    seeds.extend([0, 15].map(|length| ping(0).header(length).to_vec()));
    seeds.extend(
        [max_frame + 1, 16 * max_frame, 16 * max_frame + 1, u32::MAX]
            .map(|length| RawFrame::empty(RawFrame::REQUEST, 1).header(length).to_vec()),
    );
    seeds.extend(
        (0..=10).chain([63, 64, 127, 128, 255]).map(|kind| RawFrame::empty(kind, 5).with_body(*b"\0\0").to_bytes()),
    );
    for body in [&b""[..], b"\0", b"\0\x01", b"\0\x02\x01\0", b"\0\x03\x01\0\x01", b"\xff\xff\x01\0\x01r"] {
        seeds.extend(
            [RawFrame::REQUEST, RawFrame::RESPONSE, RawFrame::GOAWAY]
                .map(|kind| RawFrame::empty(kind, 1).with_body(body).to_bytes()),
        );
    }
    seeds.extend([1024, 1025].map(|body| ping(body).to_bytes()));
    seeds.push(ping(0).to_bytes().repeat(101));
    seeds
}

/// Returns small payloads that announce large, deep or numerous values, each with its codec number.
pub fn payloads() -> Vec<(u8, Vec<u8>)> {
    const DEEP: usize = 200;
    let mut payloads = Vec::new();
    for prefix in [1_u64, 1 << 33, 1 << 40, u64::MAX] {
        payloads.push((2, prefix.to_le_bytes().to_vec()));
        payloads.push((2, prefix.to_le_bytes().repeat(DEEP)));
    }
    for open in ["[", r#"{"x":"#, r#"{"Link":"#, r#"{"List":["#, r#"{"list":[null,"#, r#"{"text":"#] {
        payloads.push((3, open.into()));
        payloads.push((3, open.repeat(DEEP).into_bytes()));
    }
    for text in
        [r#"{"text":"x"} more"#, r#"{"list":[1,2,3]}"#, r#"{"map":{"1":2}}"#, "1e999", "\"\\ud800\"", "null", "{}"]
    {
        payloads.push((3, text.into()));
    }
    // A number with more digits than any integer type has.
    payloads.push((3, format!(r#"{{"known":{}}}"#, "2".repeat(67)).into_bytes()));
    for open in [&[0x91][..], &[0x81, 0xa1, b'x'], &[0xdd, 255, 255, 255, 255], &[0xdf, 255, 255, 255, 255]] {
        payloads.push((5, open.to_vec()));
        payloads.push((5, open.repeat(DEEP)));
    }
    for mark in [0xdb, 0xc6, 0xc9] {
        payloads.push((5, vec![0x81, 0xa4, b't', b'e', b'x', b't', mark, 255, 255, 255, 255, 0]));
    }
    payloads
}

/// Returns valid, truncated and doubled compressed payloads, and one with an excessive window.
///
/// Each has its compression number.
///
/// # Panics
///
/// Panics if a compression library fails.
pub fn compressed() -> Vec<(u8, Vec<u8>)> {
    let mut payloads = Vec::new();
    for plain in [br#"{"text":"x"}"#.repeat(3), vec![b'x'; 300 << 10], Vec::new()] {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&plain).expect("a write to a vector succeeds");
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(&plain).expect("a write to a vector succeeds");
        for (number, whole) in [
            (1, gzip.finish().expect("a write to a vector succeeds")),
            (2, zstd::bulk::compress(&plain, 1).expect("the compression succeeds")),
            (3, lz4.finish().expect("a write to a vector succeeds")),
        ] {
            payloads.push((number, whole[..whole.len() - 1].to_vec()));
            payloads.push((number, [&whole[..], &whole].concat()));
            payloads.push((number, whole));
        }
    }
    payloads.push((2, vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00]));
    payloads
}

/// Returns payloads of a few KiB that decompress to 20 MiB, each with its compression number.
///
/// # Panics
///
/// Panics if a compression library fails.
pub fn bombs() -> Vec<(u8, Vec<u8>)> {
    let plain = vec![0; 20 << 20];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&plain).expect("a write to a vector succeeds");
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    lz4.write_all(&plain).expect("a write to a vector succeeds");
    vec![
        (1, gzip.finish().expect("a write to a vector succeeds")),
        (2, zstd::bulk::compress(&plain, 1).expect("the compression succeeds")),
        (3, lz4.finish().expect("a write to a vector succeeds")),
    ]
}
