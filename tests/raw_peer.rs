//! [`RawPeer`]: one end of a connection that speaks bytes, to say what no client and no server of ours would.
//!
//! It is written from docs/PROTOCOL.md alone and shares nothing with the frames, heads and limits of rpc-core: what both get
//! wrong in the same way, no test would find.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::in_time;

/// One end of a connection that says whatever a test wants.
///
/// Methods without a `Result` panic when they fail or take too long: a test has nothing else to do then.
pub struct RawPeer {
    reader: RawReader,
    writer: RawWriter,
}

/// The half of a [`RawPeer`] that receives.
pub struct RawReader {
    stream: Box<dyn AsyncRead + Send + Unpin>,
    buffer: Vec<u8>,
}

/// The half of a [`RawPeer`] that sends. Dropped, it closes the sending side.
pub struct RawWriter {
    stream: Box<dyn AsyncWrite + Send + Unpin>,
}

impl RawPeer {
    /// Connects to a server.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(in_time(TcpStream::connect(address)).await.expect("the server listens"))
    }

    /// Takes the next connection of a client.
    pub async fn accept(listener: &TcpListener) -> Self {
        Self::over(in_time(listener.accept()).await.expect("a client connects").0)
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("the connection is open");
        let (reader, writer) = stream.into_split();
        Self::of(reader, writer)
    }

    /// Speaks over what is there already, which need not be plain TCP.
    pub fn through(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self::of(reader, writer)
    }

    fn of(reader: impl AsyncRead + Send + Unpin + 'static, writer: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        let reader = RawReader { stream: Box::new(reader), buffer: Vec::new() };
        Self { reader, writer: RawWriter { stream: Box::new(writer) } }
    }

    /// Sends these bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        in_time(self.writer.send(bytes.as_ref())).await.expect("the connection is open");
    }

    /// Sends a frame, and receives the next.
    pub async fn ask(&mut self, frame: &RawFrame) -> RawFrame {
        self.send(frame.to_bytes()).await;
        self.receive().await
    }

    /// The next frame.
    pub async fn receive(&mut self) -> RawFrame {
        self.reader.receive().await.expect("a frame comes before the end")
    }

    /// The next frame; `None` at the end of the connection.
    pub async fn try_receive(&mut self) -> Option<RawFrame> {
        self.reader.receive().await
    }

    /// Waits until the other end has closed the connection, without a frame before.
    pub async fn expect_end(&mut self) {
        assert_eq!(self.reader.receive().await, None, "the connection should be closed");
    }

    /// Closes the sending side only.
    pub async fn finish_sending(&mut self) {
        self.writer.stream.shutdown().await.expect("the connection is open");
    }

    /// Both halves, to send and receive at the same time.
    pub fn into_split(self) -> (RawReader, RawWriter) {
        (self.reader, self.writer)
    }
}

impl RawReader {
    /// The next frame; `None` at the end of the connection, in order or not.
    pub async fn receive(&mut self) -> Option<RawFrame> {
        in_time(async {
            loop {
                if let Some(frame) = self.cut() {
                    return Some(frame);
                }
                // A reset is how a connection ends whose peer did not read all that it was sent.
                if matches!(self.stream.read_buf(&mut self.buffer).await, Ok(0) | Err(_)) {
                    return None;
                }
            }
        })
        .await
    }

    fn cut(&mut self) -> Option<RawFrame> {
        let header: [u8; 16] = *self.buffer.first_chunk()?;
        assert_eq!(header[..5], *b"msnb\x01", "magic and version");
        let length = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) as usize;
        assert!(length >= 16, "a full length of {length}");
        let frame: Vec<u8> = self.buffer.get(..length)?.to_vec();
        self.buffer.drain(..length);
        let [.., kind, codec, compression, i0, i1, i2, i3] = header;
        let id = u32::from_be_bytes([i0, i1, i2, i3]);
        Some(RawFrame { kind, codec, compression, id, body: frame[16..].to_vec() })
    }
}

impl RawWriter {
    /// Sends these bytes.
    ///
    /// # Errors
    ///
    /// The other end has closed the connection.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }
}

/// A frame, legal or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFrame {
    /// The number of its type.
    pub kind: u8,
    /// The number of the payload's codec.
    pub codec: u8,
    /// The number of the payload's compression.
    pub compression: u8,
    /// The call that it belongs to.
    pub id: u32,
    /// What follows the header.
    pub body: Vec<u8>,
}

impl RawFrame {
    /// The type of a call.
    pub const REQUEST: u8 = 1;
    /// The type of an answer.
    pub const RESPONSE: u8 = 2;
    /// The type of a heartbeat.
    pub const PING: u8 = 3;
    /// The type of an answer to a heartbeat.
    pub const PONG: u8 = 4;
    /// The type that gives a call up.
    pub const CANCEL: u8 = 5;
    /// The type that says that no new calls are taken.
    pub const GOAWAY: u8 = 6;
    /// The type of one item of a stream.
    pub const ITEM: u8 = 7;
    /// The type by which a server asks for a token.
    pub const CHALLENGE: u8 = 64;
    /// The type that proves it.
    pub const PROOF: u8 = 65;

    /// A frame without a body.
    pub fn empty(kind: u8, id: u32) -> Self {
        Self { kind, codec: 0, compression: 0, id, body: Vec::new() }
    }

    /// A call whose arguments are JSON.
    pub fn request(id: u32, head: &RawHead, payload: impl AsRef<[u8]>) -> Self {
        Self { body: body(head, payload.as_ref()), ..Self::empty(Self::REQUEST, id).with_codec(JSON) }
    }

    /// An answer whose result is JSON.
    pub fn response(id: u32, head: &RawHead, payload: impl AsRef<[u8]>) -> Self {
        Self { kind: Self::RESPONSE, ..Self::request(id, head, payload) }
    }

    /// Sets the number of the codec.
    #[must_use]
    pub fn with_codec(self, codec: u8) -> Self {
        Self { codec, ..self }
    }

    /// Sets the number of the compression.
    #[must_use]
    pub fn with_compression(self, compression: u8) -> Self {
        Self { compression, ..self }
    }

    /// Sets all that follows the header.
    #[must_use]
    pub fn with_body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// The frame's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let length = u32::try_from(16 + self.body.len()).expect("a frame that a length can say");
        let mut bytes = self.header(length).to_vec();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// The header's bytes with a full length that need not be true.
    pub fn header(&self, full_length: u32) -> [u8; 16] {
        let [l0, l1, l2, l3] = full_length.to_be_bytes();
        let [i0, i1, i2, i3] = self.id.to_be_bytes();
        let Self { kind, codec, compression, .. } = *self;
        [b'm', b's', b'n', b'b', 1, l0, l1, l2, l3, kind, codec, compression, i0, i1, i2, i3]
    }

    /// The entries of the head: tags and values.
    pub fn head(&self) -> Vec<(u8, &[u8])> {
        let (mut head, _) = self.parts();
        let mut entries = Vec::new();
        while let [tag, l0, l1, rest @ ..] = head {
            let (value, rest) = rest.split_at(usize::from(u16::from_be_bytes([*l0, *l1])));
            entries.push((*tag, value));
            head = rest;
        }
        assert!(head.is_empty(), "half an entry in the head: {head:02x?}");
        entries
    }

    /// The value of an entry of the head.
    pub fn entry(&self, tag: u8) -> Option<&[u8]> {
        self.head().into_iter().find(|(t, _)| *t == tag).map(|(_, value)| value)
    }

    /// What follows the head.
    pub fn payload(&self) -> &[u8] {
        self.parts().1
    }

    /// The payload as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(self.payload()).expect("the payload is text")
    }

    /// The code and the message of the STATUS entry; 0 and nothing where there is none.
    pub fn status(&self) -> (u8, String) {
        match self.entry(RawHead::STATUS) {
            Some([code, message @ ..]) => {
                (*code, String::from_utf8(message.to_vec()).expect("a status message is UTF-8"))
            }
            Some([]) => panic!("a STATUS without a code"),
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
    /// The tag of the route.
    pub const ROUTE: u8 = 1;
    /// The tag of the time left.
    pub const TIMEOUT: u8 = 2;
    /// The tag of the call flags.
    pub const CALL_FLAGS: u8 = 3;
    /// The tag of the metadata.
    pub const METADATA: u8 = 4;
    /// The tag of the status.
    pub const STATUS: u8 = 5;
    /// The tag of the time to wait before a retry.
    pub const RETRY_AFTER: u8 = 6;
    /// The tag of the key by which a call is known again.
    pub const IDEMPOTENCY_KEY: u8 = 8;
    /// The tag that says that the call may have been sent before.
    pub const REPEAT: u8 = 10;

    /// A head without an entry.
    pub fn new() -> Self {
        Self::default()
    }

    /// A head with a route.
    pub fn route(route: &str) -> Self {
        Self::new().with(Self::ROUTE, route)
    }

    /// A head with a status.
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

/// The body of a frame with a head.
fn body(head: &RawHead, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(head.0.len()).expect("a head's length has 16 bits");
    [&length.to_be_bytes(), &head.0[..], payload].concat()
}

/// The number of the codec JSON.
const JSON: u8 = 3;
