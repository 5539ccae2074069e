//! The bytes of attackers that use HTTP and gRPC.

/// A request of HTTP/1.1 whose head does not end.
pub(super) const ENDLESS_HEAD: &[u8] =
    b"POST /test.Wire:1.0/echo HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\nx: ";

/// A request that two implementations divide differently, and the one that it hides.
pub(super) const SMUGGLED: &[u8] = b"POST /test.Wire:1.0/wait HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\
    transfer-encoding: chunked\r\n\r\n0\r\n\r\nPOST /test.Wire:1.0/wait HTTP/1.1\r\nhost: a\r\n\r\n";

/// Returns a request that announces a body of 3 MiB and has a part of it.
pub(super) fn half_body() -> Vec<u8> {
    let head = "POST /test.Wire:1.0/echo HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
        content-length: 3145728\r\n\r\n";
    [head.as_bytes(), &[b' '; 64 << 10]].concat()
}

/// Returns requests of HTTP/2 that are reset at once.
pub(super) fn rapid_resets() -> Vec<u8> {
    let reset = |id| [frame(HEADERS, END_HEADERS, id, &POST), frame(RST_STREAM, 0, id, &[0, 0, 0, 8])];
    connection((1..1000).step_by(2).flat_map(reset))
}

/// Returns pings of HTTP/2.
pub(super) fn pings() -> Vec<u8> {
    connection((0..5000).map(|_| frame(PING, 0, 0, &[0; 8])))
}

/// Returns calls of gRPC that announce messages of 4 MiB and have a part of them.
pub(super) fn half_messages() -> Vec<u8> {
    let headers = grpc_headers("/test.wire.v1_0.Wire/Echo", &[]);
    let announced = [&[0, 0, 0x40, 0, 0][..], &[0; 8 << 10]].concat();
    let call = |id| [frame(HEADERS, END_HEADERS, id, &headers), frame(DATA, 0, id, &announced)];
    connection((1..200).step_by(2).flat_map(call))
}

/// Returns calls of gRPC with 12 KiB of metadata each.
pub(super) fn long_metadata() -> Vec<u8> {
    let headers = grpc_headers("/test.wire.v1_0.Wire/Wait", &[b'a'; 100]);
    connection((1..200).step_by(2).map(|id| frame(HEADERS, END_HEADERS, id, &headers)))
}

/// Returns the preface of HTTP/2 and empty settings, followed by `frames`.
fn connection(frames: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let start = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])];
    start.into_iter().chain(frames).flatten().collect()
}

/// Encodes a frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Encodes the headers of a call (RFC 7541). If `value` is not empty, 120 further headers have it.
fn grpc_headers(path: &str, value: &[u8]) -> Vec<u8> {
    let mut block = POST[..2].to_vec();
    // Literals without indexing; the names `:path` (4) and `content-type` (31) are in the static table.
    block.extend([&[4, path.len() as u8], path.as_bytes()].concat());
    block.extend([&[0x0f, 16, 16][..], b"application/grpc"].concat());
    for number in 0..if value.is_empty() { 0 } else { 120 } {
        block.extend([&[0, 2, b'x', b'a' + number % 26, value.len() as u8][..], value].concat());
    }
    block
}

/// The indexed headers `:method: POST`, `:scheme: http` and `:path: /`.
const POST: [u8; 3] = [0x83, 0x86, 0x84];
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const END_HEADERS: u8 = 4;
