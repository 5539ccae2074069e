//! Compression by request and by setting, and requests whose payload costs much to decode.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    task::{self, Waker},
    time::Duration,
};

use bytes::Bytes;
use rpc_client::Client;
use rpc_core::{
    Code, Codec, Compression, Context, Metadata, Payload, Responder,
    frame::{FrameType, Header},
    rpc_service,
    transport::{Outbox, WireSink},
};
use rpc_server::{Server, ServerConfig};
use serde::{Deserialize, Deserializer, Serialize};
use tests::{
    Task, in_time,
    occupied_thread::OccupiedThread,
    probe::{Probe, ProbingClient},
    raw_peer::{RawFrame, RawHead, RawPeer},
    serving::Serving,
};
use tokio::net::TcpListener;

const GZIP: u8 = Compression::Gzip as u8;

fn packed(compression: Compression, value: &impl Serialize) -> Bytes {
    let mut plain = bytes::BytesMut::new();
    Codec::Json.encode(value, &mut plain).unwrap();
    match compression {
        Compression::Gzip => {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut packer, &plain).unwrap();
            packer.finish().unwrap().into()
        }
        _ => plain.freeze(),
    }
}

fn plain(frame: &RawFrame) -> String {
    let bytes = Bytes::copy_from_slice(frame.payload());
    let (codec, compression) = (frame.codec, frame.compression);
    Payload { codec, compression, bytes, max_decompressed: 1 << 20 }.decode().unwrap()
}

fn large(id: u32) -> (RawHead, impl Fn(RawHead) -> RawFrame) {
    (RawHead::route("test.Probe:1.0/large"), move |head| {
        RawFrame::request(id, &head, r#"{"length":100000}"#).with_codec(Codec::Json as u8)
    })
}

#[tokio::test]
async fn small_request_announces_response_compression() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = ProbingClient::new(super::caller());
    let call = client.large(7).address(listener.local_addr().unwrap()).compression(Compression::Gzip);
    let call = Task::begin(call.codec(Codec::Json));
    let (mut peer, request) = accept_request(&listener).await;
    assert_eq!((request.compression, request.entry(RawHead::RESPONSE_COMPRESSION)), (0, Some(&[GZIP][..])));
    let payload = packed(Compression::Gzip, &"x".repeat(2000));
    let answer = RawFrame::response(request.id, &RawHead::new(), payload).with_codec(Codec::Json as u8);
    peer.send(answer.with_compression(GZIP).to_bytes()).await;
    assert_eq!(call.end().await.unwrap(), "x".repeat(2000));
}

#[tokio::test]
async fn server_compresses_the_response_as_announced() {
    let serving = Serving::probe(&Probe::default(), ServerConfig::default()).await;
    let mut peer = RawPeer::connect(serving.address()).await;
    for (wanted, found) in [(GZIP, GZIP), (2, 2), (3, 3), (0, 0), (99, 0)] {
        let (head, request) = large(1);
        let answer = peer.ask(&request(head.with(RawHead::RESPONSE_COMPRESSION, [wanted]))).await;
        assert_eq!(answer.compression, found, "wanted {wanted}");
        assert_eq!(plain(&answer).len(), 100_000);
        assert_eq!(answer.body.len() < 10_000, found != 0);
    }
    let (head, request) = large(1);
    assert_eq!(peer.ask(&request(head)).await.compression, 0);
}

#[tokio::test]
async fn server_rejects_compressions_that_it_does_not_accept() {
    let config = ServerConfig::default().with_compressions(vec![Compression::Zstd]);
    let serving = Serving::probe(&Probe::default(), config).await;
    let client = ProbingClient::new(super::caller());
    let echo = |compression| {
        let call = client.echo("x".repeat(10_000)).address(serving.address());
        in_time(call.compression(compression))
    };
    let error = echo(Compression::Gzip).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented, "{error:?}");
    let message = error.message();
    assert!(message.contains("gzip is not accepted") && message.contains("ServerConfig::compressions"), "{message}");
    assert_eq!(echo(Compression::Zstd).await.unwrap().len(), 10_000);
    assert_eq!(echo(Compression::None).await.unwrap().len(), 10_000);
    let mut peer = RawPeer::connect(serving.address()).await;
    let (head, request) = large(1);
    assert_eq!(peer.ask(&request(head.with(RawHead::RESPONSE_COMPRESSION, [GZIP]))).await.compression, 0);
}

/// Returns a client that compresses requests and accepts no compressed responses.
fn client_of_plain_responses() -> ProbingClient<Client> {
    let config = tests::patient().with_compressions(Vec::new()).with_compression(Compression::Gzip);
    ProbingClient::new(Client::builder().config(config).build().unwrap())
}

#[tokio::test]
async fn client_requests_only_compressions_that_it_accepts() {
    let serving = Serving::probe(&Probe::default(), ServerConfig::default()).await;
    let client = client_of_plain_responses();
    assert_eq!(in_time(client.large(10_000).address(serving.address())).await.unwrap().len(), 10_000);
    let text = "x".repeat(10_000);
    assert_eq!(in_time(client.echo(text.clone()).address(serving.address())).await.unwrap(), text);
}

#[tokio::test]
async fn client_rejects_compressions_that_it_does_not_accept() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client_of_plain_responses();
    let call = client.echo("x".repeat(2000)).address(listener.local_addr().unwrap()).codec(Codec::Json);
    let call = Task::begin(call);
    let (mut peer, request) = accept_request(&listener).await;
    assert_eq!((request.compression, request.entry(RawHead::RESPONSE_COMPRESSION)), (GZIP, Some(&[0][..])));
    let payload = packed(Compression::Gzip, &"x".repeat(2000));
    let answer = RawFrame::response(request.id, &RawHead::new(), payload).with_codec(Codec::Json as u8);
    peer.send(answer.with_compression(GZIP).to_bytes()).await;
    let error = call.end().await.unwrap_err();
    assert_eq!(error.code(), Code::Internal, "{error:?}");
    assert!(error.message().contains("ClientConfig::compressions"), "{error:?}");
}

/// Accepts a connection and reads its first request.
async fn accept_request(listener: &TcpListener) -> (RawPeer, RawFrame) {
    let mut peer = RawPeer::accept(listener).await;
    let ping = peer.receive().await;
    peer.send(RawFrame::empty(RawFrame::PONG, ping.id).to_bytes()).await;
    let request = peer.receive().await;
    (peer, request)
}

/// The only thread for blocking work does not compress until the test permits it.
#[test]
fn long_result_is_compressed_outside_of_its_poll() {
    OccupiedThread::run(async |thread| {
        let send = |length| {
            let outbox = Arc::new(Outbox::new(1 << 20).for_results());
            let (codec, compression) = (Codec::Bincode as u8, GZIP);
            let request = Header { codec, compression, ..Header::empty(FrameType::Request, 1) };
            let sink = WireSink::new(Arc::clone(&outbox), &request, 1 << 20);
            let responder = Responder::wire(Context::new(Arc::default(), None, Metadata::default(), None), sink);
            let mut sending = Box::pin(responder.result("x".repeat(length)));
            let polled = sending.as_mut().poll(&mut task::Context::from_waker(Waker::noop()));
            (outbox, sending, polled)
        };
        let (short, _, polled) = send(200_000);
        assert!(polled.is_ready());
        let (long, sending, polled) = send(300_000);
        assert!(polled.is_pending() && long.is_empty());
        thread.release().await;
        in_time(sending).await;
        for outbox in [short, long] {
            assert!(outbox.push(|out| out.len()).unwrap() < 10_000, "the result is compressed");
        }
    });
}

/// A text whose `Deserialize` blocks until the test releases it.
#[derive(Clone, Serialize)]
struct Blocking(String);

static BLOCK: Mutex<Option<(SyncSender<()>, Receiver<()>)>> = Mutex::new(None);

impl<'de> Deserialize<'de> for Blocking {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Some((begin, released)) = BLOCK.lock().unwrap().take() {
            begin.send(()).unwrap();
            // The limit ends a test that fails, whose runtime would otherwise wait for this thread.
            released.recv_timeout(Duration::from_secs(20)).expect("another call of the connection is answered");
        }
        Ok(Self(text))
    }
}

impl fmt::Debug for Blocking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blocking")
    }
}

#[rpc_service(name = "test.Bodies", version = "1.0")]
trait Bodies {
    async fn take(&self, body: Blocking) -> u64;
    async fn echo(&self, text: String) -> String;
}

#[derive(Debug)]
struct Counter;

impl Bodies for Counter {
    async fn take(&self, body: Blocking) -> u64 {
        body.0.len() as u64
    }

    async fn echo(&self, text: String) -> String {
        text
    }
}

async fn decode_beside_another_call(client: &BodiesClient<Client>, address: SocketAddr, compression: Compression) {
    let (begin, begun) = sync_channel(1);
    let (release, released) = sync_channel(1);
    *BLOCK.lock().unwrap() = Some((begin, released));
    let call = client.take(Blocking("x".repeat(300_000))).address(address).compression(compression);
    let long = Task::begin(call.timeout(Duration::from_secs(60)));
    in_time(tokio::task::spawn_blocking(move || begun.recv())).await.unwrap().unwrap();
    assert_eq!(in_time(client.echo("y".to_owned()).address(address)).await.unwrap(), "y", "{compression:?}");
    release.send(()).unwrap();
    assert_eq!(long.end().await.unwrap(), 300_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn long_body_does_not_occupy_its_connection() {
    let serving = Serving::start(Server::builder().service(BodiesServer::new(Counter))).await;
    let client = BodiesClient::new(super::caller());
    for compression in [Compression::None, Compression::Zstd, Compression::Gzip, Compression::Lz4] {
        decode_beside_another_call(&client, serving.address(), compression).await;
    }
}
