//! A call is a future: the combinators and spawners of tokio accept what a proxy returns.

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use rpc_client::Client;
use rpc_server::ServerConfig;
use tests::{
    in_time,
    probe::{Event, Probe, ProbingClient},
    serving::Serving,
};
use tokio::task::JoinSet;

use super::caller;

async fn probe() -> (Probe, Serving, ProbingClient<Client>) {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    (probe, serving, ProbingClient::new(caller()))
}

#[tokio::test]
async fn join_runs_calls_concurrently() {
    let (probe, serving, client) = probe().await;
    let (one, other) = (client.hold(1).address(serving.address()), client.hold(2).address(serving.address()));
    let release = async {
        probe.until(Event::Began(1)).await;
        probe.until(Event::Began(2)).await;
        probe.release_all();
    };
    let (one, other, ()) = in_time(async { tokio::join!(one, other, release) }).await;
    assert_eq!((one.unwrap(), other.unwrap()), (1, 2));
}

#[tokio::test]
async fn join_set_spawns_a_call() {
    let (_, serving, client) = probe().await;
    let mut set = JoinSet::new();
    set.spawn(client.echo("a".to_owned()).address(serving.address()));
    assert_eq!(in_time(set.join_all()).await.pop().unwrap().unwrap(), "a");
}

#[tokio::test]
async fn select_drops_and_thereby_cancels_a_call() {
    let (probe, serving, client) = probe().await;
    let held = client.hold(1).address(serving.address());
    tokio::select! {
        outcome = held => panic!("nothing releases the handler: {outcome:?}"),
        () = probe.until(Event::Began(1)) => {}
    }
    in_time(probe.until(Event::Dropped(1))).await;
}

#[tokio::test]
async fn timeout_accepts_a_call_by_reference() {
    let (probe, serving, client) = probe().await;
    let mut held = client.hold(1).address(serving.address());
    tokio::time::timeout(Duration::ZERO, &mut held).await.unwrap_err();
    probe.release(1);
    assert_eq!(in_time(held).await.unwrap(), 1, "the call continues after the timeout");
}

#[tokio::test]
async fn options_after_the_first_poll_have_no_effect() {
    let (probe, serving, client) = probe().await;
    let mut held = client.hold(1).address(serving.address());
    assert!(poll_fn(|cx| Poll::Ready(pin!(&mut held).poll(cx))).await.is_pending());
    let held = held.timeout(Duration::ZERO);
    probe.release(1);
    assert_eq!(in_time(held).await.unwrap(), 1);
}
