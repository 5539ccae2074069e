//! One-way calls: a call that is accepted is written, also when its client is dropped or closed.

use std::time::Duration;

use rpc_client::{Client, ClientConfig};
use rpc_core::transport::TransportConfig;
use rpc_server::ServerConfig;
use tests::{
    Task, in_time,
    probe::{Event, Probe, ProbingClient},
    relay::{Mode, Relay},
    serving::Serving,
};

fn client(config: ClientConfig) -> ProbingClient<Client> {
    ProbingClient::new(Client::builder().config(config).build().unwrap())
}

fn received(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::Received(_))).count()
}

/// The calls are queued before the driver runs: this runtime has one thread, and no call waits.
#[tokio::test]
async fn dropped_client_writes_queued_one_way_calls() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let probing = client(ClientConfig::default());
    probing.echo("connect".to_owned()).address(serving.address()).await.unwrap();
    for number in 0..100 {
        probing.tell(number.to_string()).address(serving.address()).await.unwrap();
    }
    drop(probing);
    probe.until_true(|events| received(events) == 100).await;
}

/// The runtime of the connection runs again after the drop.
#[test]
fn client_dropped_outside_of_a_runtime_writes_one_way_calls() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (probe, probing) = (Probe::default(), client(ClientConfig::default()));
    let serving = runtime.block_on(async {
        let serving = Serving::probe(&probe, ServerConfig::default()).await;
        probing.echo("connect".to_owned()).address(serving.address()).await.unwrap();
        for number in 0..100 {
            probing.tell(number.to_string()).address(serving.address()).await.unwrap();
        }
        serving
    });
    drop(probing);
    runtime.block_on(probe.until_true(|events| received(events) == 100));
    drop(serving);
}

/// A one-way call needs no slot of the in-flight table, so one that waits for the outbox takes none from others.
#[tokio::test]
async fn one_way_call_waits_for_no_slot() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let relay = Relay::to(serving.address()).await;
    let mut transport = TransportConfig::default();
    transport.outbox = 64 << 10;
    let probing = client(ClientConfig::default().with_max_in_flight(1).with_transport(transport));
    let held = Task::begin(probing.hold(1).address(relay.address()).timeout(Duration::from_secs(50)));
    probe.until(Event::Began(1)).await;
    // The peer reads nothing until the outbox is full, and the only slot is occupied throughout.
    relay.set(Mode::BlackHole).await;
    let mut told = Vec::new();
    for _ in 0..64 {
        let call = probing.tell("x".repeat(256 << 10)).address(relay.address()).timeout(Duration::from_secs(50));
        told.push(Task::begin(call));
    }
    tokio::task::yield_now().await;
    relay.set(Mode::Pass).await;
    in_time(async {
        for call in told {
            call.end().await.unwrap();
        }
    })
    .await;
    probe.until_true(|events| received(events) == 64).await;
    probe.release_all();
    assert_eq!(held.end().await.unwrap(), 1);
}
