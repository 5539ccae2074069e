//! What the bytes of whole connections may do to a client: nothing but answer its calls, fail them, or end that connection.
//!
//! The function takes any bytes and panics when something does not hold that must. `cargo fuzz` calls it with libFuzzer's input
//! (`fuzz_targets/`), and `tests/tests/robustness/fuzz.rs` with input of its own, on every toolchain.

mod provider;

use std::{net::SocketAddr, time::Duration};

use rpc_client::{Client, ClientConfig};
use rpc_core::{CallError, Code, Codec, Compression, Delivery, Error, Token, rpc_service, transport::TransportConfig};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

use self::provider::Provider;

/// Plays the bytes to a client as the answers of a server, in simulated time. The first byte says how the server behaves and
/// whether the client has a token, the second into which pieces the rest is split; `----` in it ends a connection, and what follows is played to the next one.
///
/// Whatever they are: every call ends once, by its deadline, and the client closes.
pub fn client_session(input: &[u8]) {
    let Some((&[how, pieces], session)) = input.split_first_chunk::<2>() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime can be made").block_on(async {
        let provider = Provider::new(how, pieces, session);
        let mut client = Client::builder().connector(provider).config(config());
        if how & 64 != 0 {
            client = client.token(Token::new("ann", "the secret of ann, the caller").expect("a valid token"));
        }
        let client = client.build().expect("the config is valid");
        timeout(LONG, calls(&client)).await.expect("every call ends");
        // Another round meets what the first has left behind.
        timeout(LONG, calls(&client)).await.expect("every call ends");
        timeout(LONG, client.close()).await.expect("a client closes");
    });
}

/// Small numbers, so that small input meets them.
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
    );
}

fn own_error(error: CallError<Failure>) -> Error {
    match error {
        CallError::Rpc(error) => error,
        CallError::Service(_) => Error::not_executed(Code::Application, "the service's own"),
    }
}

async fn by_its_deadline<T>(call: impl IntoFuture<Output = Result<T, Error>>) {
    let began = Instant::now();
    let outcome = call.await;
    // Overdue calls are looked for once in a while, and a timer has whole milliseconds.
    assert!(began.elapsed() <= TIMEOUT + Duration::from_millis(100), "{:?} after {:?}", outcome.err(), began.elapsed());
    if let Err(error) = outcome {
        assert!(!(error.is_retryable() && error.delivery() == Delivery::Answered), "{error:?}");
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
}

#[derive(Debug, Serialize, Deserialize)]
enum Failure {
    Known { why: String },
}

const ADDRESS: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 7788));
const TIMEOUT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(3600);
