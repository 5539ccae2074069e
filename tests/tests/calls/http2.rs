//! JSON and gRPC on one port: each request of a connection of HTTP/2 goes to the endpoint of its content.

use std::{net::SocketAddr, process::Stdio};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request, StatusCode};
use rpc_grpc::Grpc;
use rpc_http::Http;
use rpc_server::{Server, ServerBuilder};
use tests::{
    Task,
    certificates::Authority,
    http::RawHttp,
    in_time,
    probe::{Event, Probe, ProbingClient},
    serving::Serving,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    process::Command,
};

use crate::caller;

/// A connection of HTTP/2.
struct Connection {
    sender: SendRequest<Bytes>,
    driving: Task<Result<(), String>>,
}

impl Connection {
    async fn open(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let (sender, connection) = in_time(h2::client::handshake(io)).await.unwrap();
        Self { sender, driving: Task::begin(async move { connection.await.map_err(|error| error.to_string()) }) }
    }

    async fn connect(address: SocketAddr) -> Self {
        Self::open(TcpStream::connect(address).await.unwrap()).await
    }

    /// Returns the headers, the body and the trailers of a response.
    async fn post(&mut self, path: &str, content_type: &str, body: &'static [u8]) -> (StatusCode, HeaderMap, Vec<u8>) {
        self.sender = in_time(self.sender.clone().ready()).await.unwrap();
        let request = Request::post(format!("http://a{path}")).header("content-type", content_type).body(()).unwrap();
        let (response, mut sent) = self.sender.send_request(request, false).unwrap();
        sent.send_data(Bytes::from_static(body), true).unwrap();
        let (head, mut body) = in_time(response).await.unwrap().into_parts();
        let (mut headers, mut bytes) = (head.headers, Vec::new());
        while let Some(data) = in_time(body.data()).await {
            bytes.extend_from_slice(&data.unwrap());
        }
        headers.extend(in_time(body.trailers()).await.unwrap().unwrap_or_default());
        (head.status, headers, bytes)
    }

    /// Calls `echo` with JSON and with gRPC.
    async fn expect_both(&mut self) {
        let (status, headers, body) = self.post("/test.Probe/echo", "application/json", br#"{"text":"a"}"#).await;
        assert_eq!((status.as_u16(), &body[..]), (200, &b"\"a\""[..]));
        assert_eq!(headers["content-type"], "application/json");
        let (status, headers, body) = self.post(ECHO, "application/grpc", MESSAGE).await;
        assert_eq!((status.as_u16(), &body[..]), (200, MESSAGE));
        assert_eq!(
            (&headers["content-type"], &headers["grpc-status"]),
            (&"application/grpc".parse().unwrap(), &"0".parse().unwrap())
        );
    }
}

/// Returns a server with both endpoints, in one of the two orders.
fn server(probe: &Probe, grpc_first: bool) -> ServerBuilder {
    let builder = Server::builder().service(probe.server());
    if grpc_first {
        builder.endpoint(Grpc::new()).endpoint(Http::new())
    } else {
        builder.endpoint(Http::new()).endpoint(Grpc::new())
    }
}

#[tokio::test]
async fn json_and_grpc_share_a_connection_of_http2() {
    for grpc_first in [false, true] {
        let serving = Serving::start(server(&Probe::default(), grpc_first)).await;
        let mut connection = Connection::connect(serving.address()).await;
        connection.expect_both().await;
        connection.expect_both().await;
        let mut plain = RawHttp::connect(serving.address()).await;
        assert_eq!(plain.post("/test.Probe/echo", r#"{"text":"b"}"#).await.text(), "\"b\"");
        let msnb = ProbingClient::new(caller());
        assert_eq!(msnb.echo("c".into()).address(serving.address()).await.unwrap(), "c");
        let tonic = super::grpc::echo(serving.address(), "d").await;
        assert_eq!(tonic.unwrap(), "d");
    }
}

#[tokio::test]
async fn content_type_selects_the_endpoint() {
    for grpc_first in [false, true] {
        let serving = Serving::start(server(&Probe::default(), grpc_first)).await;
        let mut connection = Connection::connect(serving.address()).await;
        for (content, status) in [
            ("application/grpc+proto", 200),
            ("Application/GRPC", 200),
            ("application/grpc+json", 415),
            ("application/grpc-web", 415),
        ] {
            let (found, headers, _) = connection.post(ECHO, content, MESSAGE).await;
            assert_eq!((found.as_u16(), headers.contains_key("grpc-status")), (status, status == 200), "{content}");
        }
        // The path of gRPC with another content is a path of JSON that does not exist.
        let (status, headers, _) = connection.post(ECHO, "application/json", br#"{"text":"a"}"#).await;
        assert_eq!((status.as_u16(), &headers["content-type"]), (404, &"application/problem+json".parse().unwrap()));
        let (status, headers, _) = connection.post("/test.Probe/echo", "image/png", b"x").await;
        assert_eq!((status.as_u16(), &headers["content-type"]), (415, &"application/problem+json".parse().unwrap()));
    }
}

#[tokio::test]
async fn lone_endpoint_answers_foreign_content() {
    let probe = Probe::default();
    let grpc = Serving::start(Server::builder().service(probe.server()).endpoint(Grpc::new())).await;
    let mut connection = Connection::connect(grpc.address()).await;
    assert_eq!(connection.post(ECHO, "application/json", b"{}").await.0, 415);
    let http = Serving::start(Server::builder().service(probe.server()).endpoint(Http::new())).await;
    let mut connection = Connection::connect(http.address()).await;
    assert_eq!(connection.post("/test.Probe/echo", "application/grpc", MESSAGE).await.0, 415);
}

#[tokio::test]
async fn json_and_grpc_share_a_connection_of_tls() {
    let authority = Authority::new();
    let tls = authority.issue("server", &["127.0.0.1"]).server();
    let serving = Serving::start(server(&Probe::default(), false).tls(tls)).await;
    let connect = async |alpn: &[&str]| {
        authority.connect(TcpStream::connect(serving.address()).await.unwrap(), alpn).await.unwrap()
    };
    for alpn in [&["h2", "http/1.1"][..], &["h2"], &[]] {
        let stream = connect(alpn).await;
        if !alpn.is_empty() {
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "{alpn:?}");
        }
        Connection::open(stream).await.expect_both().await;
    }
    let response = RawHttp::over(connect(&["http/1.1"]).await).post("/test.Probe/echo", r#"{"text":"a"}"#).await;
    assert_eq!(response.text(), "\"a\"");
}

#[tokio::test]
async fn curl_calls_json_next_to_grpc() {
    let serving = Serving::start(server(&Probe::default(), true)).await;
    let url = format!("http://{}/test.Probe/echo", serving.address());
    for (version, expected) in [("--http2-prior-knowledge", "\"a\" 2"), ("--http1.1", "\"a\" 1.1")] {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--noproxy", "*", version, "-w", " %{http_version}"]);
        curl.args(["-H", "Content-Type: application/json", "-d", r#"{"text":"a"}"#, &url]).stdin(Stdio::null());
        let Ok(output) = in_time(curl.output()).await else { return println!("SKIPPED: curl does not run here") };
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    }
}

#[tokio::test]
async fn shared_connection_drains_after_its_requests() {
    let probe = Probe::default();
    let mut serving = Serving::start(server(&probe, false)).await;
    let (mut json, idle) = (Connection::connect(serving.address()).await, Connection::connect(serving.address()).await);
    let mut grpc = Connection { sender: json.sender.clone(), driving: Task::begin(async { Ok(()) }) };
    let held = tokio::join!(
        json.post("/test.Probe/hold", "application/json", br#"{"key":1}"#),
        grpc.post("/test.probe.v1_0.Probe/Hold", "application/grpc", b"\0\0\0\0\x02\x08\x02"),
        async {
            probe.until(Event::Began(1)).await;
            probe.until(Event::Began(2)).await;
            serving.stop();
            // The server has sent GOAWAY on all connections when one without a request has ended.
            idle.driving.end().await.unwrap();
            probe.release_all();
        }
    );
    let ((json_status, ..), (grpc_status, trailers, _), ()) = held;
    assert_eq!((json_status.as_u16(), grpc_status.as_u16()), (200, 200));
    assert_eq!(trailers["grpc-status"], "0");
    drop(grpc);
    json.driving.end().await.unwrap();
    serving.ended().await.unwrap();
}

const ECHO: &str = "/test.probe.v1_0.Probe/Echo";
/// A message whose first field is the text `a`.
const MESSAGE: &[u8] = b"\0\0\0\0\x03\x0a\x01a";
