//! Deadlines, cancellation and the end of a server.

use std::time::Duration;

use tests::{
    Task, in_time,
    probe::{Event, Probe},
};
use tonic::{Code, Request};

use super::{ECHO, HOLD, Number, Text, number, start, text};

#[tokio::test]
async fn deadline_of_the_caller_ends_the_handler() {
    let probe = Probe::default();
    let (_serving, grpc) = start(&probe).await;
    let mut request = Request::new(number(1));
    request.metadata_mut().insert("grpc-timeout", "50m".parse().unwrap());
    let late = grpc.unary::<_, Number>(HOLD, request).await.unwrap_err();
    // The caller ends the call itself, unless the answer is there before.
    assert!([Code::Cancelled, Code::DeadlineExceeded].contains(&late.code()), "{late:?}");
    probe.until(Event::Dropped(1)).await;
    let mut request = Request::new(number(2));
    request.metadata_mut().insert("grpc-timeout", "1x".parse().unwrap());
    assert_eq!(grpc.unary::<_, Number>(HOLD, request).await.unwrap_err().code(), Code::InvalidArgument);
    // The timeout of the method applies without one.
    let brief = grpc.call::<_, Number>("/test.probe.v1_0.Probe/HoldBriefly", number(3)).await.unwrap_err();
    assert_eq!(brief.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn cancelled_call_ends_its_handler() {
    let probe = Probe::default();
    let (serving, grpc) = start(&probe).await;
    let calling = grpc.clone();
    let call = Task::begin(async move { calling.call::<_, Number>(HOLD, number(1)).await });
    probe.until(Event::Began(1)).await;
    drop(call);
    probe.until(Event::Dropped(1)).await;
    assert_eq!(grpc.call::<_, Text>(ECHO, text("a")).await.unwrap(), text("a"));
    let calling = grpc.clone();
    let call = Task::begin(async move { calling.call::<_, Number>(HOLD, number(2)).await });
    probe.until(Event::Began(2)).await;
    drop((grpc, call));
    probe.until(Event::Dropped(2)).await;
    serving.until_counted(|counts| counts.connections == 0).await;
}

#[tokio::test]
async fn draining_server_finishes_calls_and_sends_goaway() {
    let probe = Probe::default();
    let (mut serving, grpc) = start(&probe).await;
    let calling = grpc.clone();
    let call = Task::begin(async move { calling.call::<_, Number>(HOLD, number(1)).await });
    probe.until(Event::Began(1)).await;
    serving.stop();
    // The caller opens another connection after GOAWAY, which the server does not accept.
    let refused = tests::until_error(
        async || grpc.call::<_, Text>(ECHO, text("a")).await,
        |status: &tonic::Status| status.code() == Code::Unavailable,
    );
    refused.await;
    probe.release_all();
    assert_eq!(call.end().await.unwrap(), number(1));
    in_time(serving.ended()).await.unwrap();
}

#[tokio::test]
async fn idle_connection_ends() {
    let probe = Probe::default();
    let config = rpc_grpc::GrpcConfig::default().with_idle_time(Duration::from_millis(50));
    let endpoint = rpc_grpc::Grpc::new().config(config);
    let builder = rpc_server::Server::builder().service(probe.server()).endpoint(endpoint);
    let serving = tests::serving::Serving::start(builder).await;
    let grpc = super::Caller::connect(serving.address()).await;
    assert_eq!(grpc.call::<_, Text>(ECHO, text("a")).await.unwrap(), text("a"));
    serving.until_counted(|counts| counts.connections == 0).await;
    // The caller connects again.
    assert_eq!(grpc.call::<_, Text>(ECHO, text("b")).await.unwrap(), text("b"));
}
