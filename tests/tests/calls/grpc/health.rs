//! Health checks.

use rpc_core::Tokens;
use rpc_server::ServerConfig;
use tests::{Task, in_time, probe::Probe, serving::Serving};
use tonic::{Code, Status, Streaming};

use super::{Caller, HOLD, Number, number, serving, start, text};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const SERVING: Number = Number { value: 1 };
const NOT_SERVING: Number = Number { value: 2 };
const SERVICE_UNKNOWN: Number = Number { value: 3 };

async fn next(states: &mut Streaming<Number>) -> Result<Option<Number>, Status> {
    in_time(states.message()).await
}

#[tokio::test]
async fn health_of_services_is_that_of_the_server() {
    let probe = Probe::default();
    let (_serving, grpc) = start(&probe).await;
    for known in ["", "test.probe.v1_0.Probe", "grpc.health.v1.Health"] {
        assert_eq!(grpc.call::<_, Number>(CHECK, text(known)).await.unwrap(), SERVING, "{known}");
    }
    let unknown = grpc.call::<_, Number>(CHECK, text("x")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let mut states = grpc.items::<_, Number>(WATCH, text("x")).await.unwrap();
    assert_eq!(next(&mut states).await.unwrap(), Some(SERVICE_UNKNOWN));
}

#[tokio::test]
async fn watcher_receives_the_begin_of_the_drain() {
    let probe = Probe::default();
    let (mut serving, grpc) = start(&probe).await;
    let mut states = grpc.items::<_, Number>(WATCH, text("")).await.unwrap();
    assert_eq!(next(&mut states).await.unwrap(), Some(SERVING));
    serving.stop();
    assert_eq!(next(&mut states).await.unwrap(), Some(NOT_SERVING));
    assert_eq!(next(&mut states).await.unwrap_err().code(), Code::Unavailable);
    in_time(serving.ended()).await.unwrap();
}

#[tokio::test]
async fn check_during_the_drain_is_not_serving() {
    let probe = Probe::default();
    let config = ServerConfig::default().with_drain_notice(std::time::Duration::from_secs(3600));
    let registry = std::sync::Arc::new(rpc_registry::Memory::named("grpc health"));
    let mut serving = Serving::start(serving(&probe).registry(registry).config(config)).await;
    let grpc = Caller::connect(serving.address()).await;
    let calling = grpc.clone();
    let call = Task::begin(async move { calling.call::<_, Number>(HOLD, number(1)).await });
    serving.stop();
    in_time(async {
        while grpc.call::<_, Number>(CHECK, text("")).await.unwrap() != NOT_SERVING {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop((call, serving));
}

#[tokio::test]
async fn probe_needs_no_token() {
    let probe = Probe::default();
    let tokens = Tokens::new().with("ann", "a-long-secret-of-ann's").unwrap();
    let serving = Serving::start(serving(&probe).require_token(tokens)).await;
    let grpc = Caller::connect(serving.address()).await;
    assert_eq!(grpc.call::<_, Number>(CHECK, text("")).await.unwrap(), SERVING);
}
