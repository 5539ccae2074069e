//! Long requests and results beside short ones on one connection.

use std::time::Duration;

use futures_util::future::join_all;
use rpc_client::{Client, ClientConfig};
use rpc_server::ServerConfig;
use tests::{
    in_time, patient,
    wire::{Listening, WireClient},
};

/// The length of arguments that are sent in fragments.
const LONG: usize = 1_000_000;

/// Returns a client whose connection has carried a short call, so that it sends long frames in fragments.
async fn connected(config: ClientConfig) -> (WireClient<Client>, Listening) {
    let server = Listening::start(ServerConfig::default()).await;
    let client = Client::builder().config(config).build().unwrap();
    let wire = WireClient::new(client);
    assert_eq!(wire.echo("short".into()).address(server.address()).await.unwrap(), "short");
    (wire, server)
}

/// The results exceed the amount from which the server reads no more, so that it receives no acknowledgements.
#[tokio::test]
async fn results_above_the_limit_of_waiting_ones_arrive() {
    let (wire, server) = connected(patient()).await;
    let long = (0..4).map(|_| wire.zeros(5_000_000).address(server.address()).into_future());
    let short = async {
        for _ in 0..100 {
            assert_eq!(wire.echo("short".into()).address(server.address()).await.unwrap(), "short");
        }
    };
    let (long, ()) = in_time(async { tokio::join!(join_all(long), short) }).await;
    assert!(long.into_iter().all(|result| result.unwrap().len() == 5_000_000));
}

#[tokio::test]
async fn long_and_short_one_way_calls_do_not_mix() {
    let (wire, server) = connected(patient()).await;
    let address = server.address();
    for number in 0..20 {
        wire.note("x".repeat(LONG)).address(address).await.unwrap();
        wire.note("short".into()).address(address).await.unwrap();
        assert_eq!(wire.echo(number.to_string()).address(address).await.unwrap(), number.to_string());
    }
    in_time(async { while wire.notes().address(address).await.unwrap() < 40 {} }).await;
}

/// A cancelled request frees its slot, although the server may never have seen it.
#[tokio::test]
async fn cancelled_long_requests_free_their_slots() {
    let config = patient().with_max_in_flight(2);
    let (wire, server) = connected(config).await;
    let address = server.address();
    for _ in 0..20 {
        let call = wire.echo("x".repeat(LONG)).address(address).timeout(Duration::from_secs(60)).into_future();
        // The first poll appends the request; the drop cancels it in the queue, between fragments, or afterwards.
        tokio::select! {
            biased;
            _ = call => {}
            () = tokio::task::yield_now() => {}
        }
    }
    let two = [1, 2].map(|number| wire.echo(number.to_string()).address(address).into_future());
    let answers = in_time(join_all(two)).await.into_iter().map(Result::unwrap).collect::<Vec<_>>();
    assert_eq!(answers, ["1", "2"]);
}
