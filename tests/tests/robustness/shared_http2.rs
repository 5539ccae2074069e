//! Hostile callers of connections that JSON and gRPC share: the strictest limit of both endpoints holds.

use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, client::Builder};
use http::Request;
use rpc_grpc::{Grpc, GrpcConfig};
use rpc_http::{Http, HttpConfig};
use rpc_server::Server;
use tests::{in_time, probe::Probe, serving::Serving};

use super::hostile_grpc::{ECHO, Frames, HOLD, Raw, message};

/// A time that passes soon, for limits that a test reaches.
const SOON: Duration = Duration::from_millis(50);

/// Starts servers on which one endpoint has its default limits, and the other the strict ones.
async fn serve(probe: &Probe, http: HttpConfig, grpc: GrpcConfig) -> [Serving; 2] {
    let start = async |http, grpc| {
        let builder = Server::builder().service(probe.server());
        Serving::start(builder.endpoint(Http::new().config(http)).endpoint(Grpc::new().config(grpc))).await
    };
    [start(http, GrpcConfig::default()).await, start(HttpConfig::default(), grpc).await]
}

/// Checks that the server still answers others, by JSON and by gRPC.
async fn expect_service(serving: &Serving) {
    let mut other = Raw::connect(serving, &Builder::new()).await;
    assert_eq!(other.call(ECHO, message(0, b"\x0a\x01a"), &[]).await["grpc-status"], "0");
    assert_eq!(json(&mut other, "a").await, 200);
}

/// Calls by JSON, with a header of this value. Returns the status.
async fn json(raw: &mut Raw, header: &str) -> u16 {
    let request =
        Request::post("http://a/test.Probe/echo").header("content-type", "application/json").header("x", header);
    let (response, mut body) = raw.sender.send_request(request.body(()).unwrap(), false).unwrap();
    body.send_data(Bytes::from_static(br#"{"text":"a"}"#), true).unwrap();
    in_time(response).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn smaller_head_limit_holds_for_both() {
    let probe = Probe::default();
    let (http, grpc) = (HttpConfig::default().with_max_head(8 << 10), GrpcConfig::default().with_max_head(8 << 10));
    for serving in serve(&probe, http, grpc).await {
        let mut raw = Raw::connect(&serving, &Builder::new()).await;
        assert_eq!(json(&mut raw, &"a".repeat(7000)).await, 200);
        assert_eq!(json(&mut raw, &"a".repeat(9000)).await, 431);
        let (response, _body) = raw.send(ECHO, &[("a", &"a".repeat(9000))]);
        assert_eq!(in_time(response).await.unwrap().status(), 431);
        expect_service(&serving).await;
    }
}

/// Short headers occupy far more memory than their length.
#[tokio::test]
async fn many_short_headers_are_rejected() {
    let probe = Probe::default();
    let [serving, _] = serve(&probe, HttpConfig::default(), GrpcConfig::default()).await;
    for (count, expected) in [(63, 200), (64, 431)] {
        let mut raw = Raw::connect(&serving, &Builder::new()).await;
        let mut request = Request::post("http://a/test.Probe/echo").header("content-type", "application/json");
        for number in 0..count {
            request = request.header(format!("x{number}"), "");
        }
        let (response, mut body) = raw.sender.send_request(request.body(()).unwrap(), false).unwrap();
        body.send_data(Bytes::from_static(br#"{"text":"a"}"#), true).unwrap();
        assert_eq!(in_time(response).await.unwrap().status(), expected, "{count} headers");
    }
    // The message of the call does not follow.
    let headers: Vec<_> = (0..65).map(|number| format!("x{number}")).collect();
    let headers: Vec<_> = headers.iter().map(|name| (name.as_str(), "a")).collect();
    let mut raw = Raw::connect(&serving, &Builder::new()).await;
    let (response, _body) = raw.send(HOLD, &headers);
    assert_eq!(in_time(response).await.unwrap().headers()["grpc-status"], "8");
    expect_service(&serving).await;
}

#[tokio::test]
async fn fewer_streams_hold_for_both() {
    let probe = Probe::default();
    let (http, grpc) = (HttpConfig::default().with_max_streams(2), GrpcConfig::default().with_max_streams(2));
    for serving in serve(&probe, http, grpc).await {
        // The caller does not wait for the settings of the server.
        let mut raw = Raw::connect(&serving, Builder::new().initial_max_send_streams(3)).await;
        let held = [raw.send(HOLD, &[]), raw.send(HOLD, &[])];
        let request = Request::post("http://a/test.Probe/echo").body(()).unwrap();
        let (refused, _) = raw.sender.send_request(request, true).unwrap();
        assert_eq!(in_time(refused).await.unwrap_err().reason(), Some(Reason::REFUSED_STREAM));
        drop(held);
        expect_service(&serving).await;
    }
}

#[tokio::test]
async fn rapid_resets_close_a_shared_connection() {
    let probe = Probe::default();
    let (http, grpc) = (HttpConfig::default().with_max_resets(5), GrpcConfig::default().with_max_resets(5));
    for serving in serve(&probe, http, grpc).await {
        let mut frames = Frames::connect(&serving).await;
        let mut stream = 1;
        // :method POST, :scheme http, :path /, without data.
        while frames.write(1, 4, stream, &[0x83, 0x86, 0x84]).await.is_ok()
            && frames.write(3, 0, stream, &[0, 0, 0, 8]).await.is_ok()
        {
            stream += 2;
            assert!(stream < 10_000_000, "the server accepts all resets");
        }
        frames.closed().await;
        expect_service(&serving).await;
    }
}

#[tokio::test]
async fn slow_headers_close_a_shared_connection() {
    let probe = Probe::default();
    let (http, grpc) = (HttpConfig::default().with_head_time(SOON), GrpcConfig::default().with_head_time(SOON));
    for serving in serve(&probe, http, grpc).await {
        let mut frames = Frames::connect(&serving).await;
        // Without END_HEADERS.
        frames.write(1, 0, 1, &[0x83]).await.unwrap();
        frames.closed().await;
        expect_service(&serving).await;
    }
}

#[tokio::test]
async fn idle_time_of_either_closes_a_shared_connection() {
    let probe = Probe::default();
    let (http, grpc) = (HttpConfig::default().with_idle_time(SOON), GrpcConfig::default().with_idle_time(SOON));
    for serving in serve(&probe, http, grpc).await {
        let frames = Frames::connect(&serving).await;
        frames.closed().await;
        serving.until_counted(|counts| counts.connections == 0).await;
    }
}

#[tokio::test]
async fn flood_of_pings_closes_a_connection_of_json() {
    let probe = Probe::default();
    let builder = Server::builder().service(probe.server()).endpoint(Http::new());
    let serving = Serving::start(builder).await;
    let mut frames = Frames::connect(&serving).await;
    let mut pings = 0;
    while frames.write(6, 0, 0, &[0; 8]).await.is_ok() {
        pings += 1;
        assert!(pings < 10_000_000, "the server accepts all pings");
    }
    frames.closed().await;
}

#[tokio::test]
async fn caller_that_leaves_json_unread_is_disconnected() {
    let probe = Probe::default();
    let http = HttpConfig::default().with_write_stall(SOON);
    let serving = Serving::start(Server::builder().service(probe.server()).endpoint(Http::new().config(http))).await;
    // The window of the stream stays closed after its first 64 KiB.
    let mut raw = Raw::connect(&serving, &Builder::new()).await;
    let request = Request::post("http://a/test.Probe/large?length=2000000").body(()).unwrap();
    let (response, _) = raw.sender.send_request(request, true).unwrap();
    let response = in_time(response).await.unwrap();
    serving.until_counted(|counts| counts.connections == 0).await;
    drop(response);
}
