//! Callers of gRPC that send too much, too slowly or too often: each limit holds, and other callers are served.

use std::{io::Write as _, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::{Compression, write::GzEncoder};
use h2::{
    Reason, RecvStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request};
use rpc_grpc::{Grpc, GrpcConfig};
use rpc_server::Server;
use tests::{
    Task, in_time,
    probe::{Event, Probe},
    serving::Serving,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

pub(super) const ECHO: &str = "Echo";
pub(super) const HOLD: &str = "Hold";
const LARGE: &str = "Large";

async fn serve(probe: &Probe, config: GrpcConfig) -> Serving {
    Serving::start(Server::builder().service(probe.server()).endpoint(Grpc::new().config(config))).await
}

/// A caller with the client of the crate h2.
pub(super) struct Raw {
    pub(super) sender: SendRequest<Bytes>,
    _connection: Task<Result<(), String>>,
}

impl Raw {
    pub(super) async fn connect(serving: &Serving, builder: &Builder) -> Self {
        let stream = TcpStream::connect(serving.address()).await.unwrap();
        let (sender, connection) = in_time(builder.handshake(stream)).await.unwrap();
        let _connection = Task::begin(async move { connection.await.map_err(|error| error.to_string()) });
        Self { sender, _connection }
    }

    pub(super) fn send(&mut self, method: &str, headers: &[(&str, &str)]) -> (ResponseFuture, h2::SendStream<Bytes>) {
        let path = format!("http://a/test.probe.v1_0.Probe/{method}");
        let request = Request::post(path).header("content-type", "application/grpc");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.sender.send_request(request.body(()).unwrap(), false).unwrap()
    }

    /// Calls a method with one message.
    pub(super) async fn call(&mut self, method: &str, message: Bytes, headers: &[(&str, &str)]) -> HeaderMap {
        self.sender = in_time(self.sender.clone().ready()).await.unwrap();
        let (response, mut body) = self.send(method, headers);
        body.send_data(message, true).unwrap();
        status(response).await
    }
}

/// Returns the trailers of a call.
async fn status(response: ResponseFuture) -> HeaderMap {
    let response = in_time(response).await.unwrap();
    if response.headers().contains_key("grpc-status") {
        return response.headers().clone();
    }
    let mut body: RecvStream = response.into_body();
    while let Some(data) = in_time(body.data()).await {
        let length = data.unwrap().len();
        body.flow_control().release_capacity(length).unwrap();
    }
    in_time(body.trailers()).await.unwrap().unwrap()
}

pub(super) fn message(flag: u8, content: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(flag);
    out.put_u32(content.len() as u32);
    out.put_slice(content);
    out.freeze()
}

async fn check_served(serving: &Serving) {
    let mut other = Raw::connect(serving, &Builder::new()).await;
    assert_eq!(other.call(ECHO, message(0, b"\x0a\x01a"), &[]).await["grpc-status"], "0");
}

/// A caller that writes frames as it likes.
pub(super) struct Frames(TcpStream);

impl Frames {
    pub(super) async fn connect(serving: &Serving) -> Self {
        let mut stream = TcpStream::connect(serving.address()).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        Self(stream)
    }

    /// Writes a frame. Fails if the server has closed the connection.
    pub(super) async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> std::io::Result<()> {
        let mut frame = BytesMut::new();
        frame.put_uint(payload.len() as u64, 3);
        frame.put_slice(&[kind, flags]);
        frame.put_u32(stream);
        frame.put_slice(payload);
        self.0.write_all(&frame).await
    }

    /// Waits until the server closes the connection.
    pub(super) async fn closed(mut self) {
        in_time(async {
            let mut bytes = [0; 4096];
            while self.0.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
        })
        .await;
    }
}

#[tokio::test]
async fn deadline_of_grpc_is_a_status() {
    let probe = Probe::default();
    let serving = serve(&probe, GrpcConfig::default()).await;
    let mut raw = Raw::connect(&serving, &Builder::new()).await;
    let trailers = raw.call(HOLD, message(0, b"\x08\x01"), &[("grpc-timeout", "50m")]).await;
    assert_eq!(
        (&trailers["grpc-status"], &trailers["msnb-delivery"]),
        (&"4".parse().unwrap(), &"answered".parse().unwrap())
    );
    probe.until(Event::Dropped(1)).await;
}

#[tokio::test]
async fn rapid_resets_of_grpc_close_the_connection() {
    let probe = Probe::default();
    let serving = serve(&probe, GrpcConfig::default().with_max_resets(10)).await;
    let mut frames = Frames::connect(&serving).await;
    // :method POST, :scheme http, :path /, without data.
    let head = [0x83, 0x86, 0x84];
    let mut stream = 1;
    loop {
        let head = frames.write(1, 4, stream, &head).await;
        if head.is_err() || frames.write(3, 0, stream, &[0, 0, 0, 8]).await.is_err() {
            break;
        }
        stream += 2;
        assert!(stream < 10_000_000, "the server accepts all resets");
    }
    frames.closed().await;
    check_served(&serving).await;
}

#[tokio::test]
async fn pings_without_calls_close_the_connection() {
    let probe = Probe::default();
    let serving = serve(&probe, GrpcConfig::default().with_max_idle_frames(100)).await;
    let mut frames = Frames::connect(&serving).await;
    let mut pings = 0;
    while frames.write(6, 0, 0, &[0; 8]).await.is_ok() {
        pings += 1;
        assert!(pings < 1_000_000, "the server accepts all pings");
    }
    frames.closed().await;
    check_served(&serving).await;
}

#[tokio::test]
async fn slow_headers_of_grpc_close_the_connection() {
    let probe = Probe::default();
    let serving = serve(&probe, GrpcConfig::default().with_head_time(Duration::from_millis(50))).await;
    let mut frames = Frames::connect(&serving).await;
    // Without END_HEADERS.
    frames.write(1, 0, 1, &[0x83]).await.unwrap();
    frames.closed().await;
    check_served(&serving).await;
}

#[tokio::test]
async fn long_headers_of_grpc_are_rejected() {
    let probe = Probe::default();
    let serving = serve(&probe, GrpcConfig::default().with_max_head(4 << 10)).await;
    let mut raw = Raw::connect(&serving, &Builder::new()).await;
    let metadata = "a".repeat(3000);
    let trailers = raw.call(ECHO, message(0, b""), &[("a", &metadata)]).await;
    assert_eq!(trailers["grpc-status"], "0");
    let metadata = "a".repeat(5000);
    let (response, _body) = raw.send(ECHO, &[("a", &metadata)]);
    assert_eq!(in_time(response).await.unwrap().status(), 431);
    check_served(&serving).await;
}

#[tokio::test]
async fn calls_above_max_streams_are_refused() {
    let probe = Probe::default();
    let serving = serve(&probe, GrpcConfig::default().with_max_streams(2)).await;
    // The caller does not wait for the settings of the server.
    let mut raw = Raw::connect(&serving, Builder::new().initial_max_send_streams(3)).await;
    let mut responses = Vec::new();
    for number in 1..=3 {
        let (response, mut body) = raw.send(HOLD, &[]);
        body.send_data(message(0, &[8, number]), true).unwrap();
        responses.push(response);
    }
    let refused = in_time(responses.pop().unwrap()).await.unwrap_err();
    assert_eq!(refused.reason(), Some(Reason::REFUSED_STREAM));
    probe.release_all();
    for response in responses {
        assert_eq!(status(response).await["grpc-status"], "0");
    }
}

#[tokio::test]
async fn slow_message_of_grpc_fails_its_call() {
    let probe = Probe::default();
    let serving = serve(&probe, GrpcConfig::default().with_message_time(Duration::from_millis(50))).await;
    let mut raw = Raw::connect(&serving, &Builder::new()).await;
    for sent in [&b""[..], b"\0\0", b"\0\0\0\0\x03\x0a"] {
        let (response, mut body) = raw.send(ECHO, &[]);
        body.send_data(Bytes::from_static(sent), false).unwrap();
        let trailers = status(response).await;
        assert_eq!(trailers["grpc-status"], "4");
        assert!(trailers["grpc-message"].to_str().unwrap().contains("message_time"), "{trailers:?}");
    }
    assert_eq!(raw.call(ECHO, message(0, b""), &[]).await["grpc-status"], "0");
}

#[tokio::test]
async fn messages_of_a_connection_share_memory() {
    let probe = Probe::default();
    let serving = serve(&probe, GrpcConfig::default().with_request_memory(100_000)).await;
    let mut raw = Raw::connect(&serving, &Builder::new()).await;
    let begin = |length: usize| message(0, &vec![0; length]).slice(..length);
    let (one, mut of_one) = raw.send(ECHO, &[]);
    of_one.send_data(begin(60_000), false).unwrap();
    let (other, mut of_other) = raw.send(ECHO, &[]);
    of_other.send_data(begin(60_000), false).unwrap();
    let rejected = tokio::select! {
        trailers = status(one) => trailers,
        trailers = status(other) => trailers,
    };
    assert_eq!(rejected["grpc-status"], "8");
    assert!(rejected["grpc-message"].to_str().unwrap().contains("request_memory"), "{rejected:?}");
    drop((of_one, of_other));
    assert_eq!(raw.call(ECHO, message(0, b""), &[]).await["grpc-status"], "0");
}

#[tokio::test]
async fn malformed_messages_of_grpc_fail_their_calls() {
    let probe = Probe::default();
    let serving = serve(&probe, GrpcConfig::default().with_max_message(1 << 20)).await;
    let mut raw = Raw::connect(&serving, &Builder::new()).await;
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    bomb.write_all(&vec![0; 2 << 20]).unwrap();
    let bomb = message(1, &bomb.finish().unwrap());
    let gzip = [("grpc-encoding", "gzip")];
    for (sent, headers, expected) in [
        (bomb, &gzip[..], "8"),
        (message(1, b"x"), &gzip, "3"),
        (message(1, b"x"), &[], "13"),
        (message(2, b"x"), &[], "3"),
        (message(0, b"\x0a\x05a"), &[], "3"),
        (message(0, b"\x0a\x01\xff"), &[], "3"),
        (Bytes::from_static(b"\0\xff\xff\xff\xff"), &[], "8"),
        (Bytes::from_static(b"\0\0\0\0\x05a"), &[], "3"),
        (Bytes::new(), &[], "3"),
        (message(0, b"").iter().chain(&message(0, b"")).copied().collect(), &[], "3"),
        (message(0, b""), &[("grpc-encoding", "snappy")], "12"),
        (message(0, b""), &[("a-bin", "!")], "3"),
    ] {
        let trailers = raw.call(ECHO, sent.clone(), headers).await;
        assert_eq!(trailers["grpc-status"], expected, "{sent:?} {trailers:?}");
    }
    let request = Request::get("http://a/test.probe.v1_0.Probe/Echo").body(()).unwrap();
    let (response, _) = raw.sender.send_request(request, true).unwrap();
    assert_eq!(in_time(response).await.unwrap().status(), 405);
    let request = Request::post("http://a/test.probe.v1_0.Probe/Echo").body(()).unwrap();
    let (response, _) = raw.sender.send_request(request, true).unwrap();
    assert_eq!(in_time(response).await.unwrap().status(), 415);
    check_served(&serving).await;
}

#[tokio::test]
async fn caller_that_does_not_read_is_disconnected() {
    let probe = Probe::default();
    let serving = serve(&probe, GrpcConfig::default().with_write_stall(Duration::from_millis(100))).await;
    // The window of the stream stays closed after its first 64 KiB.
    let mut raw = Raw::connect(&serving, &Builder::new()).await;
    let (response, mut body) = raw.send(LARGE, &[]);
    body.send_data(message(0, b"\x08\x80\x80\x80\x01"), true).unwrap();
    let response = in_time(response).await.unwrap();
    serving.until_counted(|counts| counts.connections == 0).await;
    drop(response);
    check_served(&serving).await;
}

#[tokio::test]
async fn dead_caller_is_disconnected() {
    let probe = Probe::default();
    let config =
        GrpcConfig::default().with_ping_interval(Duration::from_millis(50)).with_ping_time(Duration::from_millis(50));
    let serving = serve(&probe, config).await;
    // It answers no PING.
    let frames = Frames::connect(&serving).await;
    frames.closed().await;
    serving.until_counted(|counts| counts.connections == 0).await;
}
