//! [`Scripted`]: one end of a connection that a test drives frame by frame.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use rpc_core::{
    Codec, Metadata,
    frame::{Frame, FrameType, Header},
    head::{CallFlags, RequestHeadRef, ResponseHead},
    transport::{FrameReader, Inbound},
};
use serde::Serialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
};

/// One end of a connection. It sends only the frames of the test, apart from the pong to a client's first ping.
#[derive(Debug)]
pub struct Scripted {
    stream: TcpStream,
    reader: FrameReader,
}

impl Scripted {
    /// Connects to the server at `address`.
    ///
    /// # Panics
    ///
    /// Panics if it cannot connect.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.expect("a server listens"))
    }

    /// Connects to the server at `address` from the local IP address `from`.
    ///
    /// # Panics
    ///
    /// Panics if this machine does not have the address `from`, or if it cannot connect.
    pub async fn connect_from(from: &str, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("cannot create a socket");
        let from = from.parse().expect("`from` is an IP address");
        socket.bind(SocketAddr::new(from, 0)).expect("this machine does not have the address");
        Self::new(socket.connect(address).await.expect("a server listens"))
    }

    /// Accepts a client and answers its first ping, before which a client sends no call.
    ///
    /// # Panics
    ///
    /// Panics if no client connects and pings within the limit of [`in_time`](crate::in_time).
    pub async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = crate::in_time(listener.accept()).await.expect("cannot accept a connection");
        let mut provider = Self::new(stream);
        let ping = provider.receive_type(FrameType::Ping).await;
        let header = Header::empty(FrameType::Pong, ping.header.id);
        provider.send(&Frame { header, body: Bytes::new() }).await;
        provider
    }

    /// Wraps an established connection.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, reader: FrameReader::new(FrameReader::MAX_FRAME) }
    }

    /// Sends a frame.
    ///
    /// # Panics
    ///
    /// Panics if the connection is broken.
    pub async fn send(&mut self, frame: &Frame) {
        let mut bytes = BytesMut::new();
        frame.write(&mut bytes);
        self.stream.write_all(&bytes).await.expect("the connection is open");
    }

    /// Returns the next frame, or `None` at the end of the connection.
    ///
    /// # Panics
    ///
    /// Panics if neither arrives within the limit of [`in_time`](crate::in_time), or the peer breaks the protocol.
    pub async fn receive(&mut self) -> Option<Frame> {
        crate::in_time(async {
            loop {
                match self.reader.next_frame().expect("the peer follows the protocol") {
                    Some(Inbound::Frame(frame)) => return Some(frame),
                    Some(Inbound::Overlong(header)) => panic!("oversized frame of {} bytes", header.full_length),
                    None => {}
                }
                let Ok(count @ 1..) = self.stream.read_buf(self.reader.read_buffer()).await else { return None };
                self.reader.filled(count);
            }
        })
        .await
    }

    /// Returns the next frame of this type, and skips others.
    ///
    /// # Panics
    ///
    /// Panics if none arrives within the limit of [`in_time`](crate::in_time), or the connection ends first.
    pub async fn receive_type(&mut self, frame_type: FrameType) -> Frame {
        loop {
            let frame = self.receive().await.unwrap_or_else(|| panic!("no {frame_type:?} before the end"));
            if frame.header.frame_type == frame_type {
                return frame;
            }
        }
    }

    /// Sends a ping and returns the next frame, which is the pong unless the peer sends another frame first.
    ///
    /// Returns `None` at the end of the connection.
    pub async fn ping(&mut self, id: u32) -> Option<Frame> {
        let ping = Header::empty(FrameType::Ping, id).to_bytes();
        self.stream.write_all(&ping).await.ok()?;
        self.receive().await
    }
}

/// Returns a request with bincode arguments.
///
/// # Panics
///
/// Panics if the arguments do not encode.
pub fn request(id: u32, route: &str, timeout: std::time::Duration, arguments: &impl Serialize) -> Frame {
    let mut body = BytesMut::new();
    let (metadata, flags) = (Metadata::default(), CallFlags::default());
    RequestHeadRef {
        route,
        timeout: Some(timeout),
        flags,
        metadata: &metadata,
        once_key: None,
        repeat: false,
        response_compression: None,
        stream_timeout: None,
    }
    .write(&mut body);
    Codec::Bincode.encode(arguments, &mut body).expect("the arguments encode");
    let header = Header { codec: Codec::Bincode as u8, ..Header::empty(FrameType::Request, id) };
    Frame { header, body: body.freeze() }
}

/// Splits a response or a goaway into its head and the payload.
///
/// # Panics
///
/// Panics if the frame has no valid head.
pub fn head(frame: Frame) -> (ResponseHead, Bytes) {
    let mut body = frame.body;
    let head = ResponseHead::take(&mut body).expect("the frame has a valid head");
    (head, body)
}
