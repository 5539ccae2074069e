//! Metrics of calls, connections and bytes, and the monitor port that serves them.

use std::{net::SocketAddr, time::Duration};

use rpc_client::{Client, ClientBuilder};
use rpc_core::{Code, Token, Tokens, layer::Layered};
use rpc_layers::{Metrics, MonitorPort};
use rpc_server::{Server, ServerBuilder, ServerConfig};
use tests::{
    Task, in_time,
    probe::{Event, Probe, ProbingClient},
    process::Provider,
    raw_peer::{RawFrame, RawHead, RawPeer},
    serving::Serving,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::caller;

/// Timeout far longer than a call needs.
const LONG: Duration = Duration::from_secs(50);

/// Returns the value of a metric, or `None` if the text does not contain it.
fn value(text: &str, metric: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '))?;
    Some(line.parse().expect("the value is a number"))
}

/// Waits until `metric` has the value `wanted`.
async fn until(metrics: &Metrics, metric: &str, wanted: f64) {
    in_time(async {
        while value(&metrics.text(), metric) != Some(wanted) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn measured(probe: &Probe, metrics: &Metrics, config: ServerConfig) -> Serving {
    let server = Server::builder().service(probe.server()).layer(metrics.clone()).config(config);
    let serving = Serving::start(server).await;
    metrics.watch_server(serving.handle().clone());
    serving
}

fn measured_client(metrics: &Metrics) -> (Client, ProbingClient<Layered<Client>>) {
    let client = caller();
    metrics.watch_client(client.clone());
    (client.clone(), ProbingClient::new(Layered::new(client).layer(metrics.clone())))
}

#[tokio::test]
async fn metrics_count_calls_by_method_and_outcome() {
    let (metrics, probe) = (Metrics::new(), Probe::default());
    let serving = measured(&probe, &metrics, ServerConfig::default()).await;
    let (_, probing) = measured_client(&metrics);
    let address = serving.address();
    for _ in 0..3 {
        probing.echo("x".to_owned()).address(address).await.expect("the call succeeds");
    }
    probing.fail("why".to_owned()).address(address).await.expect_err("the service returns an error");
    probing.panic(true).address(address).await.expect_err("the handler panics");
    let held = Task::begin(probing.hold(1).address(address).timeout(LONG));
    probe.until(Event::Began(1)).await;
    for side in ["server", "client"] {
        let text = metrics.text();
        let of = |name: &str| value(&text, &format!("msnb_{side}_{name}"));
        for (route, code, count) in [("echo", "Ok", 3.0), ("fail", "Application", 1.0), ("panic", "Internal", 1.0)] {
            let name = format!("calls_total{{route=\"test.Probe:1.0/{route}\",code=\"{code}\"}}");
            assert_eq!(of(&name), Some(count), "{side} {name}\n{text}");
            let seconds = of(&format!("call_seconds_count{{route=\"test.Probe:1.0/{route}\"}}"));
            assert_eq!(seconds, Some(count), "{side} {route}");
        }
        assert_eq!(of("in_flight{route=\"test.Probe:1.0/hold\"}"), Some(1.0), "{text}");
        assert_eq!(of("in_flight{route=\"test.Probe:1.0/echo\"}"), Some(0.0), "{text}");
    }
    held.abort().await;
    for side in ["server", "client"] {
        until(&metrics, &format!("msnb_{side}_calls_total{{route=\"test.Probe:1.0/hold\",code=\"Cancelled\"}}"), 1.0)
            .await;
        until(&metrics, &format!("msnb_{side}_in_flight{{route=\"test.Probe:1.0/hold\"}}"), 0.0).await;
    }
}

#[tokio::test]
async fn unknown_routes_create_no_labels() {
    let (metrics, probe) = (Metrics::new(), Probe::default());
    let serving = measured(&probe, &metrics, ServerConfig::default()).await;
    let mut peer = RawPeer::connect(serving.address()).await;
    for (id, route) in (1..).zip(["made.Up:1.0/x", "test.Probe:1.0/made_up", "\"} 1\nevil 2"]) {
        let answer = peer.ask(&RawFrame::request(id, &RawHead::route(route), "{}")).await;
        assert_eq!(answer.status().0, Code::Unimplemented as u8);
    }
    let text = metrics.text();
    assert!(!text.contains("made") && !text.contains("evil"), "{text}");
    assert_eq!(value(&text, "msnb_server_refused_total{reason=\"unknown\"}"), Some(3.0), "{text}");
}

#[tokio::test]
async fn server_metrics_report_load_and_rejections() {
    let (metrics, probe) = (Metrics::new(), Probe::default());
    let config = ServerConfig::default().with_max_running(1).with_max_queued(1).with_queue_time(LONG);
    let serving = measured(&probe, &metrics, config).await;
    let (_, probing) = measured_client(&metrics);
    let address = serving.address();
    let _running = Task::begin(probing.hold(1).address(address).timeout(LONG));
    until(&metrics, "msnb_server_running", 1.0).await;
    let _waiting = Task::begin(probing.hold(2).address(address).timeout(LONG));
    until(&metrics, "msnb_server_queued", 1.0).await;
    probing.hold(3).address(address).await.expect_err("the server is at its limit");
    until(&metrics, "msnb_server_refused_total{reason=\"server full\"}", 1.0).await;
    until(&metrics, "msnb_server_connections", 1.0).await;
    until(&metrics, "msnb_server_accepted_total", 1.0).await;

    let mut peer = RawPeer::connect(address).await;
    peer.send(RawFrame::empty(RawFrame::RESPONSE, 7).with_body([0, 0]).to_bytes()).await;
    until(&metrics, "msnb_server_strays_total", 1.0).await;
    let late = RawHead::route("test.Probe:1.0/echo").with(RawHead::TIMEOUT, 0_u32.to_be_bytes());
    peer.ask(&RawFrame::request(1, &late, r#"{"text":"x"}"#)).await;
    until(&metrics, "msnb_server_refused_total{reason=\"late\"}", 1.0).await;
    peer.ask(&RawFrame::request(2, &RawHead::new(), "{}")).await;
    until(&metrics, "msnb_server_refused_total{reason=\"malformed\"}", 1.0).await;
    peer.finish_sending().await;
    until(&metrics, "msnb_server_connections", 1.0).await;
}

#[tokio::test]
async fn metrics_count_rejections_by_connection_limits() {
    let (metrics, probe) = (Metrics::new(), Probe::default());
    let config = ServerConfig::default().with_max_connections(1).with_max_in_flight(1);
    let serving = measured(&probe, &metrics, config).await;
    let (_, probing) = measured_client(&metrics);
    let _held = Task::begin(probing.hold(1).address(serving.address()).timeout(LONG));
    probe.until(Event::Began(1)).await;
    probing.hold(2).address(serving.address()).await.expect_err("the connection is at its limit");
    until(&metrics, "msnb_server_refused_total{reason=\"connection full\"}", 1.0).await;
    RawPeer::connect(serving.address()).await.receive().await;
    until(&metrics, "msnb_server_turned_away_total", 1.0).await;
}

#[tokio::test]
async fn byte_counters_of_both_ends_agree() {
    let probe = Probe::default();
    assert_byte_counters_agree(Server::builder().service(probe.server()), Client::builder()).await;
    // The counters include the bytes of the token proof.
    let secret = "the secret of ann, the caller";
    let tokens = Tokens::new().with("ann", secret).expect("the token is valid");
    let token = Token::new("ann", secret).expect("the token is valid");
    let server = Server::builder().service(probe.server()).require_token(tokens);
    assert_byte_counters_agree(server, Client::builder().token(token)).await;
}

async fn assert_byte_counters_agree(server: ServerBuilder, client: ClientBuilder) {
    let metrics = Metrics::new();
    let mut serving = Serving::start(server).await;
    metrics.watch_server(serving.handle().clone());
    let client = client.build().expect("the config is valid");
    metrics.watch_client(client.clone());
    let probing = ProbingClient::new(client.clone());
    probing.large(100_000).address(serving.address()).await.expect("the call succeeds");
    client.close().await;
    serving.stop();
    serving.ended().await.expect("the server shuts down gracefully");
    let text = metrics.text();
    let of = |name: &str| value(&text, name).expect("the metric exists");
    assert!(of("msnb_server_bytes_written_total") > 100_000.0, "{text}");
    assert_eq!(of("msnb_server_bytes_written_total"), of("msnb_client_bytes_read_total"), "{text}");
    assert_eq!(of("msnb_server_bytes_read_total"), of("msnb_client_bytes_written_total"), "{text}");
}

#[tokio::test]
async fn client_metrics_report_channels_and_failures() {
    let (metrics, probe) = (Metrics::new(), Probe::default());
    let serving = measured(&probe, &metrics, ServerConfig::default()).await;
    let (_, probing) = measured_client(&metrics);
    let unused = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let unused = unused.expect("no port is free");
    probing.echo("x".to_owned()).address(serving.address()).await.expect("the call succeeds");
    probing.echo("x".to_owned()).address(unused).await.expect_err("no server listens");
    until(&metrics, "msnb_client_channels{state=\"ready\"}", 1.0).await;
    until(&metrics, "msnb_client_channels{state=\"backoff\"}", 1.0).await;
    let text = metrics.text();
    assert_eq!(value(&text, "msnb_client_connected_total"), Some(1.0), "{text}");
    assert!(value(&text, "msnb_client_not_connected_total") >= Some(1.0), "{text}");
    assert_eq!(value(&text, "msnb_client_evicted_total"), Some(0.0), "{text}");
}

/// Sends `request` and returns the status and the body of the answer.
async fn get(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("the port is open");
    stream.write_all(request.as_bytes()).await.expect("the port reads the request");
    let mut answer = String::new();
    in_time(stream.read_to_string(&mut answer)).await.expect("the port answers and closes the connection");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("the answer has no head: {answer}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("the head has no status: {head}")), body.to_owned())
}

async fn page(address: SocketAddr, path: &str) -> (u16, String) {
    get(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await
}

#[tokio::test]
async fn monitor_port_serves_metrics_and_health() {
    let (metrics, probe) = (Metrics::new(), Probe::default());
    let port = MonitorPort::bind("127.0.0.1:0", metrics.clone()).await.expect("the port binds");
    let address = port.local_address();
    assert_eq!(page(address, "/health").await, (503, "starting\n".to_owned()), "no server is registered yet");
    let server = Server::builder().service(probe.server()).layer(metrics.clone());
    let server = server.bind("127.0.0.1:0").await.expect("the server binds");
    let at = server.local_address();
    metrics.watch_server(server.handle());
    assert_eq!(page(address, "/health").await, (503, "starting\n".to_owned()));

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = Task::begin(server.run_until(stopped));
    let (_, probing) = measured_client(&metrics);
    let held = Task::begin(probing.hold(1).address(at).timeout(LONG));
    probe.until(Event::Began(1)).await;
    assert_eq!(page(address, "/health").await, (200, "serving\n".to_owned()));
    let (status, text) = page(address, "/metrics").await;
    assert_eq!(status, 200);
    assert_eq!(value(&text, "msnb_server_in_flight{route=\"test.Probe:1.0/hold\"}"), Some(1.0), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");

    drop(stop);
    let draining = async { while page(address, "/health").await != (503, "draining\n".to_owned()) {} };
    in_time(draining).await;
    probe.release_all();
    held.end().await.expect("the call succeeds");
    task.end().await.expect("the server shuts down gracefully");
    assert_eq!(page(address, "/health").await, (503, "ended\n".to_owned()));
    assert_eq!(page(address, "/").await.0, 404);
    assert_eq!(get(address, "POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await.0, 405);
    drop(port);
    in_time(async { while TcpStream::connect(address).await.is_ok() {} }).await;
}

#[tokio::test]
async fn monitor_port_rejects_long_request_head() {
    let port = MonitorPort::bind("127.0.0.1:0", Metrics::new()).await.expect("the port binds");
    let long = format!("GET /health HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(16 << 10));
    assert_eq!(get(port.local_address(), &long).await.0, 431);
}

#[tokio::test]
async fn provider_example_serves_metrics() {
    let directory = tempfile::tempdir().expect("cannot create a directory");
    let registry = format!("local:{}", directory.path().display());
    let (provider, monitor) = Provider::start_with_metrics(&registry).await;
    // The provider prints the address before it serves.
    in_time(async { while page(monitor, "/health").await != (200, "serving\n".to_owned()) {} }).await;
    let (_, text) = page(monitor, "/metrics").await;
    assert_eq!(value(&text, "msnb_server_running"), Some(0.0), "{text}");
    provider.terminate();
    let draining = async { while page(monitor, "/health").await != (503, "draining\n".to_owned()) {} };
    in_time(draining).await;
}
