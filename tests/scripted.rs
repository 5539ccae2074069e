//! [`Scripted`]: one end of a connection that a test drives by hand, frame by frame.

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

/// One end of a connection. It does nothing by itself, and answers no ping but a client's first.
#[derive(Debug)]
pub struct Scripted {
    stream: TcpStream,
    reader: FrameReader,
}

impl Scripted {
    /// A caller.
    ///
    /// # Panics
    ///
    /// When nobody listens at `address`.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.expect("somebody listens"))
    }

    /// A caller at the address `from` of this machine.
    ///
    /// # Panics
    ///
    /// When this machine has no such address, or nobody listens at `address`.
    pub async fn connect_from(from: &str, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket can be made");
        let from = from.parse().expect("an IP address");
        socket.bind(SocketAddr::new(from, 0)).expect("this machine has the address");
        Self::new(socket.connect(address).await.expect("somebody listens"))
    }

    /// A provider that is called, which has given its first sign of life: before it, no client sends a call.
    ///
    /// # Panics
    ///
    /// When nobody connects for a long time, or whoever does is no client.
    pub async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = crate::in_time(listener.accept()).await.expect("the listener accepts");
        let mut provider = Self::new(stream);
        let ping = provider.receive_type(FrameType::Ping).await;
        let header = Header::empty(FrameType::Pong, ping.header.id);
        provider.send(&Frame { header, body: Bytes::new() }).await;
        provider
    }

    /// The end of a connection that there is already.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, reader: FrameReader::new(FrameReader::MAX_FRAME) }
    }

    /// Sends a frame.
    ///
    /// # Panics
    ///
    /// When the connection is broken.
    pub async fn send(&mut self, frame: &Frame) {
        let mut bytes = BytesMut::new();
        frame.write(&mut bytes);
        self.stream.write_all(&bytes).await.expect("the connection is open");
    }

    /// The next frame; `None` when the connection is over.
    ///
    /// # Panics
    ///
    /// When neither comes for a long time.
    pub async fn receive(&mut self) -> Option<Frame> {
        crate::in_time(async {
            loop {
                match self.reader.next_frame().expect("the peer keeps the protocol") {
                    Some(Inbound::Frame(frame)) => return Some(frame),
                    Some(Inbound::Overlong(header)) => panic!("a frame of {} bytes", header.full_length),
                    None => {}
                }
                let Ok(count @ 1..) = self.stream.read_buf(self.reader.read_buffer()).await else { return None };
                self.reader.filled(count);
            }
        })
        .await
    }

    /// The next frame of this type; others are skipped.
    ///
    /// # Panics
    ///
    /// When none comes for a long time, or the connection ends first.
    pub async fn receive_type(&mut self, frame_type: FrameType) -> Frame {
        loop {
            let frame = self.receive().await.unwrap_or_else(|| panic!("a {frame_type:?} comes before the end"));
            if frame.header.frame_type == frame_type {
                return frame;
            }
        }
    }

    /// Sends a ping and takes the next frame, which is the pong unless the peer had something else to say; `None` when the
    /// connection is over.
    pub async fn ping(&mut self, id: u32) -> Option<Frame> {
        let ping = Header::empty(FrameType::Ping, id).to_bytes();
        self.stream.write_all(&ping).await.ok()?;
        self.receive().await
    }
}

/// A request with bincode arguments.
///
/// # Panics
///
/// When they do not encode.
pub fn request(id: u32, route: &str, timeout: std::time::Duration, arguments: &impl Serialize) -> Frame {
    let mut body = BytesMut::new();
    let (metadata, flags) = (Metadata::default(), CallFlags::default());
    RequestHeadRef { route, timeout: Some(timeout), flags, metadata: &metadata, idempotency_key: None, repeat: false }
        .write(&mut body);
    Codec::Bincode.encode(arguments, &mut body).expect("the arguments encode");
    let header = Header { codec: Codec::Bincode as u8, ..Header::empty(FrameType::Request, id) };
    Frame { header, body: body.freeze() }
}

/// The head of a response or a goaway, and what follows it.
///
/// # Panics
///
/// When it has none.
pub fn head(frame: Frame) -> (ResponseHead, Bytes) {
    let mut body = frame.body;
    let head = ResponseHead::take(&mut body).expect("the frame has a head");
    (head, body)
}
