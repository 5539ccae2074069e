//! [`RawPeer`]: one end of a connection that sends arbitrary bytes, including those that msnb itself never sends.
//!
//! It implements docs/PROTOCOL.md independently of the frames, heads and limits of rpc-core: a shared mistake would escape
//! the tests.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::in_time;

/// One end of a connection that sends any bytes of a test's choice.
///
/// # Panics
///
/// Methods that do not return a `Result` panic if they fail or exceed the time limit of [`in_time`].
pub struct RawPeer {
    reader: RawReader,
    writer: RawWriter,
}

/// The receiving half of a [`RawPeer`].
pub struct RawReader {
    stream: Box<dyn AsyncRead + Send + Unpin>,
    buffer: Vec<u8>,
    settings: Vec<RawFrame>,
    acknowledged: u32,
}

/// The sending half of a [`RawPeer`]. Dropping it closes the sending side.
pub struct RawWriter {
    stream: Box<dyn AsyncWrite + Send + Unpin>,
}

impl RawPeer {
    /// Connects to a server.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(in_time(TcpStream::connect(address)).await.expect("the server listens"))
    }

    /// Accepts the next connection of a client.
    pub async fn accept(listener: &TcpListener) -> Self {
        Self::over(in_time(listener.accept()).await.expect("a client connects").0)
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("the connection is open");
        let (reader, writer) = stream.into_split();
        Self::of(reader, writer)
    }

    /// Uses an established stream, which need not be plain TCP.
    pub fn through(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self::of(reader, writer)
    }

    fn of(reader: impl AsyncRead + Send + Unpin + 'static, writer: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        let reader = RawReader { stream: Box::new(reader), buffer: Vec::new(), settings: Vec::new(), acknowledged: 0 };
        Self { reader, writer: RawWriter { stream: Box::new(writer) } }
    }

    /// Sends `bytes`.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        in_time(self.writer.send(bytes.as_ref())).await.expect("the connection is open");
    }

    /// Sends `frame` and returns the next frame that arrives.
    pub async fn ask(&mut self, frame: &RawFrame) -> RawFrame {
        self.send(frame.to_bytes()).await;
        self.receive().await
    }

    /// Returns the next frame.
    pub async fn receive(&mut self) -> RawFrame {
        self.reader.receive().await.expect("a frame arrives before the end")
    }

    /// Returns the next frame, or `None` at the end of the connection.
    pub async fn try_receive(&mut self) -> Option<RawFrame> {
        self.reader.receive().await
    }

    /// Waits until the other end closes the connection, and panics if a frame arrives first.
    pub async fn expect_end(&mut self) {
        assert_eq!(self.reader.receive().await, None, "the connection is closed");
    }

    /// Closes only the sending side.
    pub async fn finish_sending(&mut self) {
        self.writer.stream.shutdown().await.expect("the connection is open");
    }

    /// Returns the SETTINGS that were received before the last frame.
    pub fn settings(&self) -> &[RawFrame] {
        &self.reader.settings
    }

    /// Returns the number of bytes that were acknowledged before the last frame.
    pub fn acknowledged(&self) -> u32 {
        self.reader.acknowledged
    }

    /// Splits the peer into halves that can send and receive concurrently.
    pub fn into_split(self) -> (RawReader, RawWriter) {
        (self.reader, self.writer)
    }
}

impl RawReader {
    /// Returns the next frame that is neither SETTINGS nor ACK, or `None` after an orderly or abrupt end of the connection.
    pub async fn receive(&mut self) -> Option<RawFrame> {
        in_time(async {
            loop {
                match self.take_frame() {
                    Some(frame) if frame.kind == RawFrame::SETTINGS => {
                        self.settings.push(frame);
                        continue;
                    }
                    Some(frame) if frame.kind == RawFrame::ACK => {
                        self.acknowledged += u32::from_be_bytes(frame.body.try_into().expect("a u32"));
                        continue;
                    }
                    Some(frame) => return Some(frame),
                    None => {}
                }
                // The connection ends with a reset if the peer closed it before it read all received bytes.
                if matches!(self.stream.read_buf(&mut self.buffer).await, Ok(0) | Err(_)) {
                    return None;
                }
            }
        })
        .await
    }

    fn take_frame(&mut self) -> Option<RawFrame> {
        let header: [u8; 16] = *self.buffer.first_chunk()?;
        assert_eq!(header[..5], *b"msnb\x01", "magic and version");
        let length = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) as usize;
        assert!(length >= 16, "the full length is {length}, the minimum is 16");
        let frame: Vec<u8> = self.buffer.get(..length)?.to_vec();
        self.buffer.drain(..length);
        let [.., kind, codec, compression, i0, i1, i2, i3] = header;
        let id = u32::from_be_bytes([i0, i1, i2, i3]);
        Some(RawFrame { kind, codec, compression, id, body: frame[16..].to_vec() })
    }
}

impl RawWriter {
    /// Sends `bytes`.
    ///
    /// # Errors
    ///
    /// Returns an error if the other end has closed the connection.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }
}

/// A frame, valid or invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFrame {
    /// Number of the frame type.
    pub kind: u8,
    /// Number of the payload's codec.
    pub codec: u8,
    /// Number of the payload's compression.
    pub compression: u8,
    /// Id of the call that the frame belongs to.
    pub id: u32,
    /// Bytes after the header.
    pub body: Vec<u8>,
}

impl RawFrame {
    /// Frame type of a call.
    pub const REQUEST: u8 = 1;
    /// Frame type of an answer.
    pub const RESPONSE: u8 = 2;
    /// Frame type of a heartbeat.
    pub const PING: u8 = 3;
    /// Frame type of the answer to a heartbeat.
    pub const PONG: u8 = 4;
    /// Frame type that cancels a call.
    pub const CANCEL: u8 = 5;
    /// Frame type that announces that the sender accepts no new calls.
    pub const GOAWAY: u8 = 6;
    /// Frame type of one item of a caller's stream.
    pub const ITEM: u8 = 7;
    /// Frame type of the end of a caller's stream.
    pub const END: u8 = 8;
    /// Frame type with which a caller permits further items.
    pub const CREDIT: u8 = 9;
    /// Frame type of one item of a callee's stream.
    pub const CALLEE_ITEM: u8 = 10;
    /// Frame type of the end of a callee's stream.
    pub const CALLEE_END: u8 = 11;
    /// Frame type with which a callee permits further items.
    pub const CALLEE_CREDIT: u8 = 12;
    /// Frame type with which a server requests the proof of a token.
    pub const CHALLENGE: u8 = 64;
    /// Frame type with which a client proves its token.
    pub const PROOF: u8 = 65;
    /// Frame type that states what its sender supports.
    pub const SETTINGS: u8 = 66;
    /// Frame type that acknowledges fragments.
    pub const ACK: u8 = 67;
    /// Frame type with the digests of a server's methods.
    pub const DIGESTS: u8 = 68;
    /// The bit of a frame type that states that more fragments of the body follow.
    pub const MORE_FRAGMENTS: u8 = 0x80;

    /// Returns a frame without a body.
    pub fn empty(kind: u8, id: u32) -> Self {
        Self { kind, codec: 0, compression: 0, id, body: Vec::new() }
    }

    /// Returns a call with JSON arguments.
    pub fn request(id: u32, head: &RawHead, payload: impl AsRef<[u8]>) -> Self {
        Self { body: body(head, payload.as_ref()), ..Self::empty(Self::REQUEST, id).with_codec(JSON) }
    }

    /// Returns an answer with a JSON result.
    pub fn response(id: u32, head: &RawHead, payload: impl AsRef<[u8]>) -> Self {
        Self { kind: Self::RESPONSE, ..Self::request(id, head, payload) }
    }

    /// Returns an item of a caller with a JSON payload.
    pub fn item(id: u32, payload: impl AsRef<[u8]>) -> Self {
        Self::empty(Self::ITEM, id).with_codec(JSON).with_body(payload.as_ref())
    }

    /// Sets the codec number.
    #[must_use]
    pub fn with_codec(self, codec: u8) -> Self {
        Self { codec, ..self }
    }

    /// Sets the compression number.
    #[must_use]
    pub fn with_compression(self, compression: u8) -> Self {
        Self { compression, ..self }
    }

    /// Divides the frame into fragments whose bodies have at most `length` bytes.
    pub fn into_fragments(self, length: usize) -> Vec<Self> {
        let total = (self.body.len() as u32).to_be_bytes();
        let body = [&total[..], &self.body].concat();
        let mut fragments: Vec<_> = body.chunks(length).map(|body| self.clone().with_body(body)).collect();
        if let [most @ .., _] = &mut fragments[..] {
            most.iter_mut().for_each(|fragment| fragment.kind |= Self::MORE_FRAGMENTS);
        }
        fragments
    }

    /// Sets all bytes after the header.
    #[must_use]
    pub fn with_body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Encodes the frame.
    pub fn to_bytes(&self) -> Vec<u8> {
        let length = u32::try_from(16 + self.body.len()).expect("the full length of the frame has 32 bits");
        let mut bytes = self.header(length).to_vec();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Encodes the header with an arbitrary full length.
    pub fn header(&self, full_length: u32) -> [u8; 16] {
        let [l0, l1, l2, l3] = full_length.to_be_bytes();
        let [i0, i1, i2, i3] = self.id.to_be_bytes();
        let Self { kind, codec, compression, .. } = *self;
        [b'm', b's', b'n', b'b', 1, l0, l1, l2, l3, kind, codec, compression, i0, i1, i2, i3]
    }

    /// Returns the tags and values of the head's entries.
    pub fn head(&self) -> Vec<(u8, &[u8])> {
        let (mut head, _) = self.parts();
        let mut entries = Vec::new();
        while let [tag, l0, l1, rest @ ..] = head {
            let (value, rest) = rest.split_at(usize::from(u16::from_be_bytes([*l0, *l1])));
            entries.push((*tag, value));
            head = rest;
        }
        assert!(head.is_empty(), "the head ends inside an entry: {head:02x?}");
        entries
    }

    /// Returns the value of the first head entry with `tag`.
    pub fn entry(&self, tag: u8) -> Option<&[u8]> {
        self.head().into_iter().find(|(t, _)| *t == tag).map(|(_, value)| value)
    }

    /// Returns the bytes after the head.
    pub fn payload(&self) -> &[u8] {
        self.parts().1
    }

    /// Returns the payload as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(self.payload()).expect("the payload is text")
    }

    /// Returns the code and message of the STATUS entry, or 0 and an empty message without such an entry.
    pub fn status(&self) -> (u8, String) {
        match self.entry(RawHead::STATUS) {
            Some([code, message @ ..]) => {
                (*code, String::from_utf8(message.to_vec()).expect("a status message is UTF-8"))
            }
            Some([]) => panic!("the STATUS entry has no code"),
            None => (0, String::new()),
        }
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        let (length, rest) = self.body.split_first_chunk::<2>().expect("the body has a head");
        rest.split_at(usize::from(u16::from_be_bytes(*length)))
    }
}

/// A head under construction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawHead(Vec<u8>);

impl RawHead {
    /// Tag of the route.
    pub const ROUTE: u8 = 1;
    /// Tag of the remaining time until the deadline.
    pub const TIMEOUT: u8 = 2;
    /// Tag of the call flags.
    pub const CALL_FLAGS: u8 = 3;
    /// Tag of the metadata.
    pub const METADATA: u8 = 4;
    /// Tag of the status.
    pub const STATUS: u8 = 5;
    /// Tag of the delay before a retry.
    pub const RETRY_AFTER: u8 = 6;
    /// Tag of the key of a call that the callee must execute once, or reject.
    pub const ONCE_KEY: u8 = 7;
    /// Tag of a key that a callee may ignore.
    pub const IDEMPOTENCY_KEY: u8 = 8;
    /// Tag that marks an attempt that may repeat an earlier one.
    pub const REPEAT: u8 = 10;
    /// Tag of the compression that the caller wants for the response.
    pub const RESPONSE_COMPRESSION: u8 = 14;
    /// Tag of the entry which states that the handler did not execute.
    pub const NOT_EXECUTED: u8 = 12;
    /// Tag of the time for which the stream of the callee may last.
    pub const STREAM_TIMEOUT: u8 = 16;

    /// Returns a head without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a head with a route.
    pub fn route(route: &str) -> Self {
        Self::new().with(Self::ROUTE, route)
    }

    /// Returns a head with a status.
    pub fn status(code: u8, message: &str) -> Self {
        Self::new().with(Self::STATUS, [&[code], message.as_bytes()].concat())
    }

    /// Adds an entry.
    #[must_use]
    pub fn with(mut self, tag: u8, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.0.push(tag);
        self.0.extend(u16::try_from(value.len()).expect("an entry's length has 16 bits").to_be_bytes());
        self.0.extend(value);
        self
    }
}

/// Encodes the body of a frame with a head.
fn body(head: &RawHead, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(head.0.len()).expect("a head's length has 16 bits");
    [&length.to_be_bytes(), &head.0[..], payload].concat()
}

/// Number of the JSON codec.
const JSON: u8 = 3;
