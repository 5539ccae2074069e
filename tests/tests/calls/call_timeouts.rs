//! The order of the timeouts of a call: its own, those of a layer, of its method, of its client.

use std::time::Duration;

use rpc_core::{
    Error, Local, Reply,
    layer::{ClientLayer, ClientNext, Layered, OutgoingCall},
};
use rpc_layers::Timeouts;
use tests::probe::{Probe, ProbingClient, ProbingServer};

fn client(layer: impl ClientLayer) -> ProbingClient<Layered<Local<ProbingServer<Probe>>>> {
    ProbingClient::new(Layered::new(Local::new(Probe::default().server())).layer(layer))
}

/// Returns the time that the handler has, with an explicit timeout of the call if there is one.
async fn remaining(client: &ProbingClient<impl rpc_core::Caller>, timeout: Option<Duration>) -> Duration {
    let call = client.context();
    let call = timeout.into_iter().fold(call, |call, timeout| call.timeout(timeout));
    call.await.unwrap().remaining.expect("the call has a deadline")
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn explicit_timeout_precedes_those_of_layer() {
    for of_layer in [1, 60] {
        let client = client(Timeouts::new().with("test.Probe:1.0/context", seconds(of_layer)));
        assert_eq!(remaining(&client, Some(seconds(10))).await, seconds(10));
        assert_eq!(remaining(&client, None).await, seconds(of_layer), "instead of the client's 5 s");
    }
}

#[tokio::test(start_paused = true)]
async fn timeout_of_method_precedes_that_of_service() {
    let layer = Timeouts::new().with("test.Probe:1.0", seconds(2)).with("test.Probe:1.0/hold_briefly", seconds(3));
    let client = client(layer.with("test.Other:1.0", seconds(4)));
    assert_eq!(remaining(&client, None).await, seconds(2));
    // Instead of the contract's 50 ms.
    let start = tokio::time::Instant::now();
    assert!(client.hold_briefly(1).await.unwrap_err().is_timeout());
    assert_eq!(start.elapsed(), seconds(3));
}

/// A layer that sets a timeout for every call, and waits after the call.
struct Fixed {
    timeout: Duration,
    wait: Duration,
}

impl ClientLayer for Fixed {
    async fn call(&self, mut call: OutgoingCall, next: ClientNext<'_>) -> Result<Reply, Error> {
        call.options.timeout = Some(self.timeout);
        let outcome = next.run(call).await;
        tokio::time::sleep(self.wait).await;
        outcome
    }
}

#[tokio::test(start_paused = true)]
async fn layer_shortens_but_never_extends_explicit_timeout() {
    for (of_layer, expected) in [(1, 1), (60, 10)] {
        let client = client(Fixed { timeout: seconds(of_layer), wait: Duration::ZERO });
        assert_eq!(remaining(&client, Some(seconds(10))).await, seconds(expected));
    }
}

/// The default of 5 s does not end a call whose layer has set 60 s, while the layer waits after it.
#[tokio::test(start_paused = true)]
async fn layer_waits_until_the_timeout_that_it_set() {
    let patient = client(Fixed { timeout: seconds(60), wait: seconds(20) });
    patient.echo("x".to_owned()).await.unwrap();
    let endless = client(Fixed { timeout: seconds(60), wait: Duration::MAX });
    let start = tokio::time::Instant::now();
    assert!(endless.echo("x".to_owned()).await.unwrap_err().is_timeout());
    assert_eq!(start.elapsed(), seconds(60));
}

/// Returns a client whose layers are around a caller with layers of its own.
fn nested(outer: impl ClientLayer, inner: impl ClientLayer) -> ProbingClient<impl rpc_core::Caller> {
    let inner = Layered::new(Local::new(Probe::default().server())).layer(inner);
    ProbingClient::new(Layered::new(inner).layer(outer))
}

/// A layer that takes time before it sends a call.
struct Delayed(Duration);

impl ClientLayer for Delayed {
    async fn call(&self, call: OutgoingCall, next: ClientNext<'_>) -> Result<Reply, Error> {
        tokio::time::sleep(self.0).await;
        next.run(call).await
    }
}

#[tokio::test(start_paused = true)]
async fn inner_layer_replaces_the_default_timeout() {
    let minute = || Timeouts::new().with("test.Probe:1.0", seconds(60));
    let client = nested(Timeouts::new(), minute());
    assert_eq!(remaining(&client, None).await, seconds(60), "instead of the client's 5 s");
    assert_eq!(remaining(&client, Some(seconds(10))).await, seconds(10));
    let client = nested(Timeouts::new().with("test.Probe:1.0", seconds(20)), minute());
    assert_eq!(remaining(&client, None).await, seconds(20), "the outer layer is first");
}

#[tokio::test(start_paused = true)]
async fn time_of_outer_layer_counts_at_inner_caller() {
    let client = nested(Delayed(seconds(2)), Timeouts::new());
    assert_eq!(remaining(&client, None).await, seconds(3), "of the client's 5 s");
    assert_eq!(remaining(&client, Some(seconds(10))).await, seconds(8));
    let client = nested(Delayed(seconds(2)), Timeouts::new().with("test.Probe:1.0", seconds(60)));
    assert_eq!(remaining(&client, None).await, seconds(58));
}

/// The default of 5 s does not end a call whose inner layer has set 60 s, while the outer layer waits after it.
#[tokio::test(start_paused = true)]
async fn outer_layer_waits_until_the_inner_timeout() {
    let minute = Timeouts::new().with("test.Probe:1.0", seconds(60));
    nested(AfterCall(seconds(20)), minute.clone()).echo("x".to_owned()).await.unwrap();
    let start = tokio::time::Instant::now();
    assert!(nested(AfterCall(Duration::MAX), minute).echo("x".to_owned()).await.unwrap_err().is_timeout());
    assert_eq!(start.elapsed(), seconds(60));
}

/// A layer that takes time after a call.
struct AfterCall(Duration);

impl ClientLayer for AfterCall {
    async fn call(&self, call: OutgoingCall, next: ClientNext<'_>) -> Result<Reply, Error> {
        let outcome = next.run(call).await;
        tokio::time::sleep(self.0).await;
        outcome
    }
}
