//! Hostile callers of HTTP, over real sockets.

use std::time::Duration;

use rpc_http::{Http, HttpConfig};
use rpc_server::{Server, ServerConfig};
use tests::{
    http::RawHttp,
    in_time,
    probe::{Event, Probe},
    serving::Serving,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A time that passes soon, for limits that a test reaches.
const SOON: Duration = Duration::from_millis(200);

async fn serving(probe: &Probe, config: HttpConfig) -> Serving {
    Serving::start(Server::builder().service(probe.server()).endpoint(Http::new().config(config))).await
}

/// Checks that the server still answers others.
async fn expect_service(serving: &Serving) {
    let response = RawHttp::connect(serving.address()).await.post("/test.Probe/again", r#"{"text":"a"}"#).await;
    assert_eq!(response.status, 200);
}

fn head(line: &str, headers: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: a\r\n{headers}\r\n")
}

#[tokio::test]
async fn slow_head_closes_the_connection() {
    let serving = serving(&Probe::default(), HttpConfig::default().with_head_time(SOON)).await;
    let mut first = RawHttp::connect(serving.address()).await;
    first.send("POST /test.Probe/echo HTTP/1.1\r\nHost: ").await;
    let mut second = RawHttp::connect(serving.address()).await;
    assert_eq!(second.post("/test.Probe/echo", r#"{"text":"a"}"#).await.status, 200);
    second.send("POST /test.Probe/echo HTTP/1.1\r\nHost: ").await;
    assert!(first.is_closed().await && second.is_closed().await);
    serving.until_counted(|counts| counts.connections == 0).await;
    expect_service(&serving).await;
}

#[tokio::test]
async fn slow_body_ends_its_request() {
    let serving = serving(&Probe::default(), HttpConfig::default().with_body_time(SOON)).await;
    for encoding in ["Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut http = RawHttp::connect(serving.address()).await;
        http.send(head("POST /test.Probe/echo", encoding)).await;
        let response = http.receive().await.unwrap();
        assert_eq!((response.status, response.header("connection")), (408, "close"), "{encoding}");
        assert!(http.is_closed().await);
    }
    expect_service(&serving).await;
}

#[tokio::test]
async fn body_over_the_limit_is_rejected() {
    let serving = serving(&Probe::default(), HttpConfig::default().with_max_body(1000)).await;
    let body = |length: usize| format!(r#"{{"text":"{}"}}"#, "x".repeat(length - r#"{"text":""}"#.len()));
    let mut http = RawHttp::connect(serving.address()).await;
    assert_eq!(http.post("/test.Probe/echo", &body(1000)).await.status, 200);
    http.send(head("POST /test.Probe/echo", "Content-Length: 1001\r\n")).await;
    let response = http.receive().await.unwrap();
    assert_eq!((response.status, response.header("connection")), (413, "close"), "before the body arrives");
    let mut http = RawHttp::connect(serving.address()).await;
    http.send(head("POST /test.Probe/echo", "Transfer-Encoding: chunked\r\n")).await;
    http.send(format!("3e8\r\n{}\r\n", "x".repeat(1000))).await;
    http.send("1\r\nx\r\n").await;
    assert_eq!(http.receive().await.unwrap().status, 413);
    // A length above all numbers that a body can have.
    let mut http = RawHttp::connect(serving.address()).await;
    http.send(head("POST /test.Probe/echo", "Content-Length: 18446744073709551616\r\n")).await;
    assert_eq!(http.receive().await.unwrap().status, 400);
    expect_service(&serving).await;
}

#[tokio::test]
async fn head_over_the_limits_is_rejected() {
    let config = HttpConfig::default();
    let serving = serving(&Probe::default(), config.clone()).await;
    let count = |count: usize| (0..count).map(|number| format!("X-{number}: a\r\n")).collect::<String>();
    // The helper adds two headers.
    for (headers, status) in [(config.max_headers - 2, 200), (config.max_headers - 1, 431)] {
        let mut http = RawHttp::connect(serving.address()).await;
        let response = http.request("POST", "/test.Probe/context", &count(headers), "").await;
        assert_eq!(response.status, status, "{headers}");
    }
    let mut http = RawHttp::connect(serving.address()).await;
    let long = format!("X-Long: {}\r\n", "x".repeat(config.max_head));
    // The server may close before it has read everything.
    let _ = http.try_send(head("POST /test.Probe/context", &long)).await;
    assert_eq!(http.receive().await.unwrap().status, 431);
    assert!(http.is_closed().await);
    let mut http = RawHttp::connect(serving.address()).await;
    let _ = http.try_send(head(&format!("GET /{}", "x".repeat(config.max_head)), "")).await;
    assert!([414, 431].contains(&http.receive().await.unwrap().status));
    expect_service(&serving).await;
}

#[tokio::test]
async fn metadata_over_the_limit_is_rejected() {
    let config = HttpConfig::default().with_max_headers(100).with_max_head(64 << 10);
    let serving = serving(&Probe::default(), config).await;
    let many = |count: usize| (0..count).map(|number| format!("Msnb-Metadata-K{number}: a\r\n")).collect::<String>();
    let mut http = RawHttp::connect(serving.address()).await;
    assert_eq!(http.request("POST", "/test.Probe/context", &many(64), "").await.status, 200);
    assert_eq!(http.request("POST", "/test.Probe/context", &many(65), "").await.status, 431);
    let long = format!("Msnb-Metadata-K: {}\r\n", "x".repeat(17 << 10));
    assert_eq!(http.request("POST", "/test.Probe/context", &long, "").await.status, 431);
    assert_eq!(http.request("POST", "/test.Probe/context", "Msnb-Metadata-a~b: x\r\n", "").await.status, 400);
}

#[tokio::test]
async fn smuggled_requests_do_not_execute() {
    let probe = Probe::default();
    let serving = serving(&probe, HttpConfig::default()).await;
    let inner = "POST /test.Probe/echo?text=smuggled HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    let with = |headers: &str| format!("{}0\r\n\r\n{inner}", head("POST /test.Probe/echo?text=outer", headers));
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\u{b}chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
    ] {
        let mut http = RawHttp::connect(serving.address()).await;
        let _ = http.try_send(with(headers)).await;
        // One answer at most, and then the end: no second request is read from the body of the first.
        if let Some(response) = http.receive().await {
            assert!([200, 400].contains(&response.status), "{headers:?} {}", response.status);
        }
        assert!(http.is_closed().await, "{headers:?}");
    }
    assert_eq!(probe.count(|event| *event == Event::Echoed("smuggled".to_owned())), 0);
    let mut old = RawHttp::connect(serving.address()).await;
    old.send("POST /test.Probe/echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").await;
    assert_eq!(old.receive().await.unwrap().status, 400, "HTTP/1.0 has no encodings");
    expect_service(&serving).await;
}

#[tokio::test]
async fn connections_of_http_count_towards_the_limits() {
    let config = ServerConfig::default().with_max_connections_per_ip(2);
    let builder = Server::builder().service(Probe::default().server()).endpoint(Http::new()).config(config);
    let serving = Serving::start(builder).await;
    let (mut one, mut other) = (RawHttp::connect(serving.address()).await, RawHttp::connect(serving.address()).await);
    assert_eq!(one.post("/test.Probe/echo", r#"{"text":"a"}"#).await.status, 200);
    assert_eq!(other.post("/test.Probe/echo", r#"{"text":"a"}"#).await.status, 200);
    let mut third = TcpStream::connect(serving.address()).await.unwrap();
    let mut rest = Vec::new();
    // The server does not know the protocol of a connection that it rejects.
    in_time(third.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.starts_with(b"msnb"));
    assert_eq!(serving.handle().counts().connections_rejected, 1);
    drop((one, other));
    serving.until_counted(|counts| counts.connections == 0).await;
    expect_service(&serving).await;
}

#[tokio::test]
async fn caller_that_does_not_read_is_disconnected() {
    let probe = Probe::default();
    let serving = serving(&probe, HttpConfig::default().with_write_stall(SOON)).await;
    let mut http = RawHttp::connect(serving.address()).await;
    // Longer than the buffers of both sockets.
    http.send(head("POST /test.Probe/large?length=8000000", "")).await;
    serving.until_counted(|counts| counts.connections == 0 && counts.accepted == 1).await;
    expect_service(&serving).await;
}

#[tokio::test]
async fn requests_of_one_caller_leave_capacity_to_others() {
    let probe = Probe::default();
    let config = ServerConfig::default().with_max_in_flight(10);
    let builder = Server::builder().service(probe.server()).endpoint(Http::new()).config(config);
    let serving = Serving::start(builder).await;
    let mut peer = Http2::connect(&serving).await;
    let ids: Vec<u32> = (0..30).map(|number| 2 * number + 1).collect();
    for id in &ids {
        peer.post(*id, &format!("/test.Probe/hold?key={id}")).await;
    }
    // The others are rejected: the connection has reached its limit of running calls.
    probe.until_true(|events| events.len() == 10).await;
    let rejected = in_time(peer.responses(20)).await;
    assert_eq!(rejected, 20);
    expect_service(&serving).await;
    assert_eq!(serving.handle().counts().connection_full, 20);
}

#[tokio::test]
async fn rapid_resets_close_the_connection() {
    let probe = Probe::default();
    let serving = serving(&probe, HttpConfig::default()).await;
    let mut peer = Http2::connect(&serving).await;
    let mut attack = Vec::new();
    for number in 0..10_000 {
        attack.extend(Http2::headers(2 * number + 1, "/test.Probe/hold?key=1"));
        attack.extend(Http2::frame(3, 0, 2 * number + 1, &8_u32.to_be_bytes()));
    }
    // The server closes before it has read everything.
    let _ = in_time(peer.0.write_all(&attack)).await;
    let last = in_time(peer.until_closed()).await;
    assert_eq!(last, Some(ENHANCE_YOUR_CALM));
    serving.until_counted(|counts| counts.connections == 0 && counts.running == 0).await;
    assert!(probe.count(|event| matches!(event, Event::Began(_))) < 200, "few of them execute");
    expect_service(&serving).await;
}

#[tokio::test]
async fn streams_over_the_limit_are_refused() {
    let probe = Probe::default();
    let serving = serving(&probe, HttpConfig::default().with_max_streams(5)).await;
    let mut peer = Http2::connect(&serving).await;
    for number in 0..6 {
        peer.post(2 * number + 1, &format!("/test.Probe/hold?key={number}")).await;
    }
    let refused = in_time(async {
        loop {
            let (kind, _, id, payload) = peer.receive().await.unwrap();
            if kind == 3 {
                return (id, u32::from_be_bytes(payload.try_into().unwrap()));
            }
        }
    });
    assert_eq!(refused.await, (11, REFUSED_STREAM));
    probe.until_true(|events| events.len() == 5).await;
    expect_service(&serving).await;
}

#[tokio::test]
async fn long_heads_of_http2_are_rejected() {
    let probe = Probe::default();
    let config = HttpConfig::default().with_max_head(8 << 10).with_idle_time(SOON);
    let serving = serving(&probe, config).await;
    let mut peer = Http2::connect(&serving).await;
    // HEADERS without END_HEADERS, and CONTINUATION frames that never end.
    let mut block = Http2::block("/test.Probe/hold?key=1");
    let long = [&b"\x00\x01x\x7f\x81\x07"[..], &[b'y'; 262]].concat();
    peer.0.write_all(&Http2::frame(1, 1, 1, &block)).await.unwrap();
    block = long;
    for _ in 0..1000 {
        if peer.0.write_all(&Http2::frame(9, 0, 1, &block)).await.is_err() {
            break;
        }
    }
    in_time(peer.until_closed()).await;
    assert!(probe.events().is_empty(), "no handler executes");
    // A head that is never completed: the connection has no request.
    let mut peer = Http2::connect(&serving).await;
    peer.0.write_all(&Http2::frame(1, 1, 1, &Http2::block("/test.Probe/hold?key=1"))).await.unwrap();
    in_time(peer.until_closed()).await;
    serving.until_counted(|counts| counts.connections == 0).await;
    expect_service(&serving).await;
}

/// A caller of HTTP/2 that sends any frames.
struct Http2(TcpStream);

/// The type, the flags, the stream and the payload of a frame.
type Frame = (u8, u8, u32, Vec<u8>);

impl Http2 {
    async fn connect(serving: &Serving) -> Self {
        let mut stream = TcpStream::connect(serving.address()).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        stream.write_all(&Self::frame(4, 0, 0, &[])).await.unwrap();
        Self(stream)
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// Returns the header block of a POST without a body.
    fn block(path: &str) -> Vec<u8> {
        assert!(path.len() < 127);
        [&[0x83, 0x86, 0x04, path.len() as u8][..], path.as_bytes(), &[0x01, 0x01, b'a']].concat()
    }

    fn headers(stream: u32, path: &str) -> Vec<u8> {
        // END_STREAM and END_HEADERS.
        Self::frame(1, 5, stream, &Self::block(path))
    }

    async fn post(&mut self, stream: u32, path: &str) {
        self.0.write_all(&Self::headers(stream, path)).await.unwrap();
    }

    async fn receive(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        Some((kind, flags, u32::from_be_bytes([s0, s1, s2, s3]), payload))
    }

    /// Receives until `count` streams have their HEADERS. Returns the number of streams.
    async fn responses(&mut self, count: usize) -> usize {
        let mut received = 0;
        while received < count {
            let Some((kind, ..)) = self.receive().await else { break };
            received += usize::from(kind == 1);
        }
        received
    }

    /// Receives until the end of the connection. Returns the error of the last GOAWAY.
    async fn until_closed(&mut self) -> Option<u32> {
        let mut error = None;
        while let Some((kind, _, _, payload)) = self.receive().await {
            if let (7, Some(code)) = (kind, payload.get(4..8)) {
                error = Some(u32::from_be_bytes(code.try_into().unwrap()));
            }
        }
        error
    }
}

/// The error of a caller that causes too much work.
const ENHANCE_YOUR_CALM: u32 = 11;
/// The error of a stream that was not processed.
const REFUSED_STREAM: u32 = 7;
