//! Routes of hand-written methods.

use std::sync::LazyLock;

use rpc_client::Client;
use rpc_core::{Call, Code, Delivery, Error, Method, MethodInfo, Reply, ServiceId};
use rpc_server::ServerConfig;
use tests::{in_time, probe::Probe, serving::Serving};

/// A method with a name of `LENGTH` bytes.
#[derive(Debug)]
enum Long<const LENGTH: usize> {}

static SERVICE: ServiceId = ServiceId::from_static("test.Probe", "1.0");
static AT_LIMIT: LazyLock<MethodInfo> = LazyLock::new(|| MethodInfo::new(SERVICE.clone(), &"m".repeat(498)));
static ABOVE: LazyLock<MethodInfo> = LazyLock::new(|| MethodInfo::new(SERVICE.clone(), &"m".repeat(499)));
static TRUNCATED: LazyLock<MethodInfo> = LazyLock::new(|| MethodInfo::new(SERVICE.clone(), &"m".repeat(65_536)));

impl<const LENGTH: usize> Method for Long<LENGTH> {
    type Arguments = ();
    type Outcome = Result<Reply, Error>;

    fn info() -> &'static MethodInfo {
        match LENGTH {
            498 => &AT_LIMIT,
            499 => &ABOVE,
            _ => &TRUNCATED,
        }
    }

    fn outcome(reply: Result<Reply, Error>) -> Self::Outcome {
        reply
    }
}

async fn error<const LENGTH: usize>(client: &Client, serving: &Serving) -> Error {
    let call = Call::<_, Long<LENGTH>>::new(client.clone(), ()).address(serving.address());
    in_time(call).await.unwrap_err()
}

#[tokio::test]
async fn route_over_the_limit_fails_its_call_only() {
    let serving = Serving::probe(&Probe::default(), ServerConfig::default()).await;
    let client = super::caller();
    let unknown = error::<498>(&client, &serving).await;
    assert_eq!(unknown.code(), Code::Unimplemented, "the route has 513 bytes: {unknown:?}");
    for (error, length) in
        [(error::<499>(&client, &serving).await, 514), (error::<65_536>(&client, &serving).await, 65_551)]
    {
        assert_eq!((error.code(), error.delivery()), (Code::InvalidArgument, Delivery::NotExecuted));
        assert_eq!(error.message(), format!("route is {length} bytes, limit is 513 (Route::MAX_LEN)"));
    }
    assert_eq!(error::<498>(&client, &serving).await.code(), Code::Unimplemented, "the connection is usable");
}
