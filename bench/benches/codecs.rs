//! Time and allocations of frames, heads and payloads.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use divan::{AllocProfiler, Bencher, black_box, counter::BytesCount};
use rpc_core::{
    Codec, Compression, EncodedPayload, Message, Metadata, WriteBuffer,
    frame::{FrameType, HEADER_LEN, Header},
    head::{CallFlags, RequestHead, RequestHeadRef, ResponseHead},
    transport::FrameReader,
};
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// The arguments of the echo method.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Arguments {
    request: Request,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Request {
    id: u64,
    name: String,
    #[serde(with = "serde_bytes")]
    payload: Vec<u8>,
}

fn arguments(payload: usize) -> Arguments {
    Arguments { request: Request { id: 7, name: "parrot".to_owned(), payload: vec![7; payload] } }
}

fn head(metadata: &Metadata) -> RequestHeadRef<'_> {
    let timeout = Some(std::time::Duration::from_secs(5));
    let flags = CallFlags::default();
    RequestHeadRef {
        route: "bench.Echo:1.0/echo",
        timeout,
        flags,
        metadata,
        once_key: None,
        repeat: false,
        response_compression: None,
        stream_timeout: None,
    }
}

fn write_request(out: &mut WriteBuffer, id: u32, arguments: &Arguments) {
    let payload = EncodedPayload::new(arguments, Codec::Bincode, Compression::None).expect("the arguments encode");
    let max_frame = FrameReader::MAX_FRAME as usize;
    let message = Message { frame_type: FrameType::Request, id, payload, max_frame };
    message.write(out, |out| head(&Metadata::default()).write(out)).expect("the request fits into a frame");
}

/// Returns each codec with each payload length.
fn cases() -> impl Iterator<Item = (Codec, usize)> {
    let codecs = [Codec::Bincode, Codec::Json, Codec::MessagePack];
    codecs.into_iter().flat_map(|codec| PAYLOADS.map(|payload| (codec, payload)))
}

const PAYLOADS: [usize; 3] = [32, 1 << 10, 64 << 10];

#[divan::bench]
fn header_parse(bencher: Bencher<'_, '_>) {
    let bytes = Header::empty(FrameType::Request, 7).to_bytes();
    bencher.bench(|| Header::parse(black_box(&bytes)));
}

#[divan::bench]
fn header_write() -> [u8; HEADER_LEN] {
    black_box(Header::empty(FrameType::Request, 7)).to_bytes()
}

#[divan::bench]
fn request_head_write(bencher: Bencher<'_, '_>) {
    let mut out = BytesMut::with_capacity(1 << 10);
    let metadata = Metadata::default();
    bencher.bench_local(|| {
        out.clear();
        black_box(head(&metadata)).write(&mut out);
    });
}

#[divan::bench]
fn request_head_parse(bencher: Bencher<'_, '_>) {
    let mut out = BytesMut::new();
    head(&Metadata::default()).write(&mut out);
    let body = out.freeze();
    bencher.bench(|| RequestHead::take(&mut black_box(body.clone())));
}

#[divan::bench]
fn response_head_parse(bencher: Bencher<'_, '_>) {
    let body = Bytes::from_static(&[0, 0]);
    bencher.bench(|| ResponseHead::take(&mut black_box(body.clone())));
}

/// Writes a complete request: header, head and arguments.
#[divan::bench(args = PAYLOADS)]
fn request_write(bencher: Bencher<'_, '_>, payload: usize) {
    let arguments = arguments(payload);
    let mut out = WriteBuffer::new();
    let start = out.mark();
    bencher.counter(BytesCount::new(payload)).bench_local(|| {
        out.rewind(start);
        write_request(&mut out, 7, black_box(&arguments));
    });
}

/// Splits 64 requests from one read into frames and drops them.
#[divan::bench(args = PAYLOADS)]
fn frames_read(bencher: Bencher<'_, '_>, payload: usize) {
    let mut bytes = WriteBuffer::new();
    let arguments = arguments(payload);
    (1..=64).for_each(|id| write_request(&mut bytes, id, &arguments));
    let bytes = bytes.copy_to_bytes(bytes.len());
    let mut reader = FrameReader::new(FrameReader::MAX_FRAME);
    bencher.counter(BytesCount::new(bytes.len())).bench_local(|| {
        reader.read_buffer().put_slice(&bytes);
        reader.filled(bytes.len());
        while let Some(frame) = reader.next_frame().expect("the frames are valid") {
            black_box(frame);
        }
    });
}

#[divan::bench(args = cases())]
fn payload_encode(bencher: Bencher<'_, '_>, (codec, payload): (Codec, usize)) {
    let arguments = arguments(payload);
    let mut out = BytesMut::with_capacity(8 * payload + (1 << 10));
    bencher.counter(BytesCount::new(payload)).bench_local(|| {
        out.clear();
        codec.encode(black_box(&arguments), &mut out)
    });
}

#[divan::bench(args = cases())]
fn payload_decode(bencher: Bencher<'_, '_>, (codec, payload): (Codec, usize)) {
    let mut bytes = BytesMut::new();
    codec.encode(&arguments(payload), &mut bytes).expect("the arguments can be encoded");
    bencher.counter(BytesCount::new(payload)).bench(|| codec.decode::<Arguments>(black_box(&bytes)));
}
