//! Checks of a client that reads arbitrary bytes from its server.

use std::{net::SocketAddr, time::Duration};

use rpc_client::{Client, ClientConfig};
use rpc_core::{
    CallError, Code, Codec, Compression, Delivery, Error, Status, Streaming, Token, rpc_service,
    transport::TransportConfig,
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

use super::{filled::filled, provider::Provider};

/// Sends the bytes to a client as the output of a server, in simulated time.
///
/// The first byte sets the server's behaviour and whether the client has a token. The second byte sets the size of the
/// pieces in which the server writes the remaining bytes. `----` in them ends the output of a connection; the bytes
/// behind it belong to the next connection. Each `~~~~` stands for 16 KiB.
///
/// For any bytes, every call ends exactly once by its deadline, every stream ends, and the client closes.
pub fn client_session(input: &[u8]) {
    let Some((&[flags, pieces], session)) = input.split_first_chunk::<2>() else { return };
    let session = &filled(session)[..];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("the runtime settings are valid").block_on(async {
        let provider = Provider::new(flags, pieces, session);
        let mut client = Client::builder().connector(provider).config(config());
        if flags & 64 != 0 {
            client = client.token(Token::new("ann", "the secret of ann, the caller").expect("a valid token"));
        }
        let client = client.build().expect("the config is valid");
        timeout(LONG, calls(&client)).await.expect("every call ends");
        // The second round starts in the state that the first one left.
        timeout(LONG, calls(&client)).await.expect("every call ends");
        timeout(LONG, client.close()).await.expect("a client closes");
    });
}

/// Low limits, so that short inputs reach them.
fn config() -> ClientConfig {
    let mut transport = TransportConfig::default();
    transport.max_frame = 64 << 10;
    transport.outbox = 1 << 10;
    let config = ClientConfig::default().with_seed(Some(1)).with_cache_directory(None).with_max_in_flight(8);
    config.with_max_decompressed(256 << 10).with_transport(transport)
}

async fn calls(client: &Client) {
    let wire = WireClient::new(client.clone());
    tokio::join!(
        by_its_deadline(wire.echo("x".to_owned()).codec(Codec::Json).address(ADDRESS).timeout(TIMEOUT)),
        by_its_deadline(wire.numbers(vec![1, 2]).address(ADDRESS).timeout(TIMEOUT)),
        by_its_deadline(wire.again("x".repeat(2000)).compression(Compression::Gzip).address(ADDRESS).timeout(TIMEOUT)),
        by_its_deadline(wire.once().codec(Codec::MessagePack).address(ADDRESS).timeout(TIMEOUT)),
        by_its_deadline(wire.note("x".to_owned()).address(ADDRESS).timeout(TIMEOUT)),
        async {
            let call = wire.fail("x".to_owned()).codec(Codec::Json).address(ADDRESS).timeout(TIMEOUT);
            by_its_deadline(async { call.await.map_err(own_error) }).await;
        },
        async {
            let call = wire.count(2).codec(Codec::Json).address(ADDRESS).timeout(TIMEOUT);
            if let Some(counted) = by_its_deadline(call).await {
                read(counted).await;
            }
        },
        by_its_deadline(wire.collect(texts()).codec(Codec::Json).address(ADDRESS).timeout(TIMEOUT)),
        async {
            let call = wire.copy(texts()).codec(Codec::Json).address(ADDRESS).timeout(TIMEOUT);
            let copied = by_its_deadline(call).await;
            if let Some(copied) = copied {
                read(copied).await;
            }
        },
    );
}

/// More texts than the initial credit.
fn texts() -> Streaming<String> {
    (0..100).map(|_| "x".repeat(1000)).collect()
}

/// Reads a stream to its end, which has no deadline: the provider may accept it and send nothing. The client then closes
/// the connection, because its pings have no answer.
async fn read(mut stream: Streaming<String>) {
    while let Some(item) = stream.next().await {
        if item.is_err() {
            assert!(stream.next().await.is_none(), "a stream ends with its error");
        }
    }
    assert!(stream.next().await.is_none(), "a stream ends once");
}

fn own_error(error: CallError<Failure>) -> Error {
    match error {
        CallError::Rpc(error) => error,
        CallError::Service(_) => Error::not_executed(Code::Application, "service error"),
    }
}

async fn by_its_deadline<T>(call: impl IntoFuture<Output = Result<T, Error>>) -> Option<T> {
    let began = Instant::now();
    let outcome = call.await;
    // The driver expires calls in intervals, and timers have a resolution of one millisecond.
    assert!(began.elapsed() <= TIMEOUT + Duration::from_millis(100), "{:?} after {:?}", outcome.err(), began.elapsed());
    match outcome {
        Ok(value) => Some(value),
        Err(error) => {
            assert!(!(error.is_retryable() && error.delivery() == Delivery::Answered), "{error:?}");
            None
        }
    }
}

#[rpc_service(name = "test.Wire", version = "1.0")]
trait Wire {
    async fn echo(&self, text: String) -> String;
    async fn numbers(&self, list: Vec<u64>) -> Vec<u64>;
    #[rpc(idempotent)]
    async fn again(&self, text: String) -> String;
    #[rpc(once)]
    async fn once(&self) -> Option<u64>;
    #[rpc(one_way)]
    async fn note(&self, text: String);
    async fn fail(&self, why: String) -> Result<String, Failure>;
    async fn count(&self, to: u32) -> Streaming<String>;
    async fn collect(&self, texts: Streaming<String>) -> Result<u32, Status>;
    async fn copy(&self, texts: Streaming<String>) -> Streaming<String>;
}

#[derive(Debug, Serialize, Deserialize)]
enum Failure {
    Known { why: String },
}

const ADDRESS: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 7788));
const TIMEOUT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(3600);
