//! The test vectors of docs/PROTOCOL.md: rpc-core decodes and encodes the bytes of the document.

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use contracts::{Good, GoodsError};
use rpc_core::{
    Code, Codec, Compression, Digests, EncodedPayload, Message, Metadata, Method, Payload, Status, Token, Tokens,
    WriteBuffer,
    frame::{Frame, FrameType, HEADER_LEN, Header, put_number},
    head::{CallFlags, RequestHead, RequestHeadRef, ResponseHead},
    proof::{Challenge, Proof},
    rpc_service,
    settings::Settings,
    transport::{FrameReader, Inbound},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::golden::GOLDEN;

pub(crate) const DOCUMENT: &str = include_str!("../../../docs/PROTOCOL.md");

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) name: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct NoArguments {}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Join {
    separator: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FindGoods {
    id: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Put {
    data: Bytes,
}

#[rpc_service(name = "demo.Greeter", version = "1.0")]
trait Greeter {
    async fn hello(&self, name: String) -> String;
}

fn golden(name: &str) -> Bytes {
    let (_, hex) = GOLDEN.iter().find(|(known, _)| *known == name).unwrap();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    hex.as_bytes().chunks(2).map(byte).collect()
}

/// Returns the vectors of the document's section "Test vectors", each of which is a heading and a block.
fn documented() -> BTreeMap<String, Bytes> {
    let (_, vectors) = DOCUMENT.split_once("\n## Test vectors\n").unwrap();
    vectors.split("\n### ").skip(1).map(documented_vector).collect()
}

fn documented_vector(section: &str) -> (String, Bytes) {
    let (name, rest) = section.split_once('\n').unwrap();
    let (_, block) = rest.split_once("```text\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    // The bytes of a line end at the first word that is not a byte.
    let bytes = block.lines().flat_map(|line| line.split(' ').map_while(hex_byte));
    (name.trim_matches('`').to_owned(), bytes.collect())
}

pub(crate) fn hex_byte(word: &str) -> Option<u8> {
    if word.len() == 2 { u8::from_str_radix(word, 16).ok() } else { None }
}

/// Reads the only frame of a connection.
fn read(bytes: &Bytes) -> Frame {
    let mut reader = FrameReader::new(FrameReader::MAX_FRAME);
    // A connection may deliver one byte at a time.
    for (index, byte) in bytes.iter().enumerate() {
        reader.read_buffer().extend_from_slice(&[*byte]);
        reader.filled(1);
        match reader.next_frame().unwrap() {
            Some(Inbound::Frame(frame)) => {
                assert_eq!(index + 1, bytes.len(), "the frame is complete with its last byte");
                return frame;
            }
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    }
    panic!("the frame is incomplete: {bytes:02x?}");
}

fn payload(frame: &Frame, bytes: Bytes) -> Payload {
    let Header { codec, compression, .. } = frame.header;
    Payload { codec, compression, bytes, max_decompressed: Payload::MAX_DECOMPRESSED }
}

/// Decodes a request and encodes it again.
#[track_caller]
fn request<T>(name: &str, id: u32, codec: Codec, head: &RequestHeadRef<'_>, arguments: &T)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let bytes = golden(name);
    let frame = read(&bytes);
    assert_eq!((frame.header.frame_type, frame.header.id), (FrameType::Request, id));
    assert_eq!((frame.header.codec, frame.header.compression), (codec as u8, 0));
    let mut body = frame.body.clone();
    let found = RequestHead::take(&mut body).unwrap();
    assert_eq!((found.route.as_str(), found.timeout, found.flags), (head.route, head.timeout, head.flags));
    assert_eq!((&found.metadata, found.idempotency_key), (head.metadata, head.once_key));
    assert_eq!((found.once, found.repeat), (head.once_key.is_some(), head.repeat));
    assert_eq!((found.response_compression, found.stream_timeout), (head.response_compression, head.stream_timeout));
    assert_eq!(&payload(&frame, body).decode::<T>().unwrap(), arguments);
    assert_eq!(encoded(FrameType::Request, id, codec, arguments, |out| head.write(out)), bytes);
}

/// Decodes a response with a value and encodes it again.
#[track_caller]
fn response<T>(name: &str, id: u32, codec: Codec, code: Code, value: &T)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    answer_with(name, Header { codec: codec as u8, ..Header::empty(FrameType::Response, id) }, code, value);
}

/// Decodes a response or the END of a callee with a value and encodes it again.
#[track_caller]
fn answer_with<T>(name: &str, header: Header, code: Code, value: &T)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let bytes = golden(name);
    let frame = read(&bytes);
    assert_eq!(Header { full_length: HEADER_LEN as u32, ..frame.header }, header);
    let (head, body) = response_head(&frame);
    assert_eq!(head, answer(code, "", None));
    assert_eq!(&payload(&frame, body).decode::<T>().unwrap(), value);
    let codec = Codec::from_u8(header.codec).unwrap();
    assert_eq!(encoded(header.frame_type, header.id, codec, value, |out| head.write(out)), bytes);
}

/// Decodes a frame whose body is only a head and encodes it again.
#[track_caller]
fn head_only(name: &str, header: Header, head: &ResponseHead) {
    let bytes = golden(name);
    let frame = read(&bytes);
    assert_eq!(Header { full_length: HEADER_LEN as u32, ..frame.header }, header);
    assert_eq!(response_head(&frame), (head.clone(), Bytes::new()));
    let mut body = BytesMut::new();
    head.write(&mut body);
    assert_encodes(&Frame { header, body: body.freeze() }, &bytes);
}

fn answer(code: Code, message: &'static str, retry_after: Option<Duration>) -> ResponseHead {
    ResponseHead { status: Status::new(code, message), metadata: Metadata::default(), retry_after, not_executed: false }
}

fn response_head(frame: &Frame) -> (ResponseHead, Bytes) {
    let mut body = frame.body.clone();
    (ResponseHead::take(&mut body).unwrap(), body)
}

fn encoded<T: Serialize>(
    frame_type: FrameType,
    id: u32,
    codec: Codec,
    value: &T,
    head: impl FnOnce(&mut BytesMut),
) -> Bytes {
    let max_frame = FrameReader::MAX_FRAME as usize;
    let payload = EncodedPayload::new(value, codec, Compression::None).unwrap();
    let message = Message { frame_type, id, payload, max_frame };
    let mut out = WriteBuffer::new();
    message.write(&mut out, head).unwrap();
    out.copy_to_bytes(out.len())
}

#[track_caller]
fn assert_encodes(frame: &Frame, bytes: &Bytes) {
    let mut out = BytesMut::new();
    frame.write(&mut out);
    assert_eq!(&out.freeze(), bytes);
}

/// Decodes a frame without a body and encodes it again.
#[track_caller]
fn empty(name: &str, frame_type: FrameType, id: u32) {
    let bytes = golden(name);
    assert_eq!(read(&bytes), Frame { header: Header::empty(frame_type, id), body: Bytes::new() });
    assert_eq!(Header::empty(frame_type, id).to_bytes(), bytes[..]);
}

#[test]
fn document_contains_golden_vectors() {
    let golden: BTreeMap<String, Bytes> = GOLDEN.iter().map(|(name, _)| ((*name).to_owned(), golden(name))).collect();
    assert_eq!(documented(), golden);
}

#[test]
fn requests_match_vectors() {
    let metadata = |entries: &[(&str, &[u8])]| {
        let mut metadata = Metadata::default();
        entries.iter().for_each(|(key, value)| metadata.insert(key, value).unwrap());
        metadata
    };
    let none = metadata(&[]);
    let bare = |route| RequestHeadRef {
        route,
        timeout: None,
        flags: CallFlags::default(),
        metadata: &none,
        once_key: None,
        repeat: false,
        response_compression: None,
        stream_timeout: None,
    };
    let bo = Hello { name: "Bo".to_owned() };

    let tenant = metadata(&[("tenant", b"a")]);
    let head = RequestHeadRef {
        timeout: Some(Duration::from_millis(500)),
        flags: CallFlags::IDEMPOTENT,
        metadata: &tenant,
        ..bare("demo.Greeter:1.0/hello")
    };
    request("request-bincode", 1, Codec::Bincode, &head, &bo);
    request("request-json", 2, Codec::Json, &bare("demo.Greeter:1.0/hello"), &bo);
    let head = RequestHeadRef { timeout: Some(Duration::from_secs(5)), ..bare("shop.Goods:1.0/find_goods") };
    request("request-messagepack", 3, Codec::MessagePack, &head, &FindGoods { id: 7 });

    let entries = metadata(&[("k", b""), ("trace", b"\xff\0")]);
    let head = RequestHeadRef {
        timeout: Some(Duration::from_secs(60)),
        flags: CallFlags::ONE_WAY.union(CallFlags::IDEMPOTENT),
        metadata: &entries,
        once_key: Some([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
        repeat: true,
        ..bare("demo.Blobs:1.0/put")
    };
    let arguments = Put { data: Bytes::from_static(b"\xde\xad\xbe\xef") };
    request("request-every-entry", 0x0100_0002, Codec::Raw, &head, &arguments);

    let head = RequestHeadRef { response_compression: Some(2), ..bare("demo.Greeter:1.0/hello") };
    request("request-response-compression", 5, Codec::Json, &head, &bo);
}

#[test]
fn responses_match_vectors() {
    response("response-bincode", 1, Codec::Bincode, Code::Ok, &"Hello Bo".to_owned());
    let teapot = Good { id: 1, name: "teapot".to_owned(), price: 2499 };
    response("response-json", 4, Codec::Json, Code::Ok, &teapot);
    let error = GoodsError::NotFound { id: 9 };
    response("application-error-bincode", 1, Codec::Bincode, Code::Application, &error);
    response("application-error-json", 2, Codec::Json, Code::Application, &error);
}

#[test]
fn compressed_response_matches_vector() {
    let frame = read(&golden("response-json-gzip"));
    assert_eq!((frame.header.codec, frame.header.compression), (Codec::Json as u8, Compression::Gzip as u8));
    let (_, body) = response_head(&frame);
    assert_eq!(payload(&frame, body).decode::<String>().unwrap(), "a".repeat(1022));
}

#[test]
fn statuses_match_vectors() {
    let header = |codec: Codec, id| Header { codec: codec as u8, ..Header::empty(FrameType::Response, id) };
    let head = answer(Code::Unimplemented, "no such method here: demo.Greeter:1.0/bye", None);
    head_only("status-error-json", header(Codec::Json, 2), &head);
    let wait = Some(Duration::from_millis(100));
    let head = answer(Code::ResourceExhausted, "1024 calls run on this connection", wait);
    head_only("status-error-bincode", header(Codec::Bincode, 1), &head);
    let head = answer(Code::Unavailable, "the store did not answer", wait);
    let head = ResponseHead { not_executed: true, ..head };
    head_only("rejection-bincode", header(Codec::Bincode, 1), &head);
    let head = answer(Code::Unavailable, "the server is draining", None);
    head_only("goaway", Header::empty(FrameType::Goaway, 0), &head);
}

#[test]
fn frames_without_head_match_vectors() {
    empty("ping", FrameType::Ping, 7);
    empty("pong", FrameType::Pong, 7);
    empty("cancel", FrameType::Cancel, 1);
    assert_encodes(&Settings::OWN.to_frame(), &golden("settings"));
    let mut ack = BytesMut::new();
    put_number(&mut ack, FrameType::Ack, 0, 65_536);
    assert_eq!(ack, golden("ack"));
    let bytes = golden("ping-foreign");
    let frame = read(&bytes);
    assert_eq!((frame.header.frame_type, frame.header.id), (FrameType::Ping, 8));
    assert_eq!((frame.header.codec, frame.header.compression, &frame.body[..]), (1, 1, &b"\x1f\x8b\x08\0"[..]));
    assert_encodes(&frame, &bytes);
}

#[test]
fn digests_match_vectors() {
    assert_encodes(&Digests::question(), &golden("ping-digests"));
    let bytes = golden("digests");
    let method = greeter_methods::Hello::info().digest().unwrap();
    // Another implementation of SHA-256 computed the digest, and another one of FNV-1a the hash.
    assert_eq!((method.route, method.digest), (0x0a1b_515f_2317_8826, 0x83b9_eaf2_e3e2_8c70));
    assert_eq!(Digests::read(&read(&bytes).body).unwrap().find(method.route), Some(method.digest));
    assert_encodes(&Digests::frame([method]), &bytes);
}

/// Decodes a frame of a payload without a head and encodes it again.
#[track_caller]
fn item(name: &str, frame_type: FrameType, text: &str) {
    let bytes = golden(name);
    let frame = read(&bytes);
    assert_eq!((frame.header.frame_type, frame.header.id), (frame_type, 6));
    assert_eq!(payload(&frame, frame.body.clone()).decode::<String>().unwrap(), text);
    assert_eq!(encoded(frame_type, 6, Codec::Json, &text, |_| {}), bytes);
}

/// Decodes a CREDIT and encodes it again.
#[track_caller]
fn credit(name: &str, frame_type: FrameType, credit: u32) {
    let bytes = golden(name);
    let frame = read(&bytes);
    assert_eq!((frame.header.frame_type, frame.header.id, &frame.body[..]), (frame_type, 6, &credit.to_be_bytes()[..]));
    let mut out = BytesMut::new();
    put_number(&mut out, frame_type, 6, credit);
    assert_eq!(out, bytes);
}

#[test]
fn frames_of_streams_match_vectors() {
    let none = Metadata::default();
    let head = RequestHeadRef {
        route: "demo.Texts:1.0/join",
        timeout: Some(Duration::from_secs(5)),
        flags: CallFlags::SENDS_ITEMS.union(CallFlags::EXPECTS_ITEMS),
        metadata: &none,
        once_key: None,
        repeat: false,
        response_compression: None,
        stream_timeout: None,
    };
    request("request-streams", 6, Codec::Json, &head, &Join { separator: "-".to_owned() });
    let head = RequestHeadRef {
        route: "demo.Clock:1.0/ticks",
        flags: CallFlags::EXPECTS_ITEMS,
        stream_timeout: Some(Duration::from_secs(60)),
        ..head
    };
    request("request-stream-timeout", 7, Codec::Json, &head, &NoArguments {});
    let header = |frame_type| Header { codec: Codec::Json as u8, ..Header::empty(frame_type, 6) };
    head_only("acceptance", header(FrameType::Response), &answer(Code::Ok, "", None));
    item("item-caller", FrameType::CallerItem, "a");
    item("item-callee", FrameType::CalleeItem, "a-b");
    empty("end-caller", FrameType::CallerEnd, 6);
    head_only("end-callee", header(FrameType::CalleeEnd), &answer(Code::Ok, "", None));
    let error = GoodsError::NotFound { id: 9 };
    answer_with("end-callee-application-error", header(FrameType::CalleeEnd), Code::Application, &error);
    credit("credit-caller", FrameType::CallerCredit, 32_768);
    credit("credit-callee", FrameType::CalleeCredit, 229_376);
}

#[test]
fn token_frames_match_vectors() {
    let bytes = golden("challenge");
    let frame = read(&bytes);
    assert_eq!((frame.header.frame_type, frame.header.id), (FrameType::Challenge, 0));
    let challenge = Challenge::read(&frame.body).unwrap();
    assert_encodes(&challenge.to_frame(), &bytes);

    let bytes = golden("proof");
    let frame = read(&bytes);
    assert_eq!((frame.header.frame_type, frame.header.id), (FrameType::Proof, 0));
    let (name, secret, plain) = ("ann", "0123456789abcdef", [0; 32]);
    let nonce = std::array::from_fn(|index| 32 + index as u8);
    let proof = Proof::new(&Token::new(name, secret).unwrap(), challenge, &plain, nonce);
    assert_encodes(&proof.to_frame(), &bytes);
    let accepted = Tokens::new().with(name, secret).unwrap().load().unwrap();
    let found = Proof::read(&frame.body).unwrap();
    assert_eq!(found.verify(&accepted, challenge, &plain).unwrap().name(), name);
}
