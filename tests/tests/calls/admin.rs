//! `msnb.Admin`: the counters that a server reports to its callers.

use rpc_core::{Code, Token, Tokens, admin::AdminClient, reflection::ReflectionClient};
use rpc_server::Server;
use tests::{
    Task, in_time, patient,
    probe::{Probe, ProbingClient},
    serving::Serving,
};

use crate::caller;

#[tokio::test]
async fn server_reports_calls_by_method() {
    let probe = Probe::default();
    let serving = Serving::start(Server::builder().service(probe.server()).admin(true)).await;
    let (client, address) = (caller(), serving.address());
    let (probing, admin) = (ProbingClient::new(client.clone()), AdminClient::new(client));
    for _ in 0..3 {
        probing.echo("x".into()).address(address).await.unwrap();
    }
    probing.fail("x".into()).address(address).await.unwrap_err();
    probing.panic(true).address(address).await.unwrap_err();
    let held = Task::begin(probing.hold(1).address(address));
    serving.until_counted(|counts| counts.running == 1).await;

    let counters = admin.counters().address(address).await.unwrap();
    assert_eq!((&*counters.state, counters.connections, counters.running), ("serving", 1, 1));
    assert!(counters.bytes_read > 0 || counters.uptime_ms < 1000);
    let method = |name: &str| {
        let route = format!("test.Probe:1.0/{name}");
        counters.methods.iter().find(|method| method.route == route).unwrap()
    };
    let numbers = |name: &str| {
        let method = method(name);
        [method.calls, method.errors, method.failed, method.running]
    };
    assert_eq!(numbers("echo"), [3, 0, 0, 0]);
    assert_eq!(numbers("fail"), [1, 1, 0, 0]);
    assert_eq!(numbers("panic"), [1, 0, 1, 0]);
    assert_eq!(numbers("hold"), [0, 0, 0, 1]);
    assert_eq!(method("echo").latencies.iter().map(|count| count.calls).sum::<u64>(), 3);
    assert!(counters.methods.iter().all(|method| method.route.starts_with("test.Probe:1.0/")));
    probe.release(1);
    in_time(held.end()).await.unwrap();
    let counters = admin.counters().address(address).await.unwrap();
    let hold = counters.methods.iter().find(|method| method.route.ends_with("/hold")).unwrap();
    assert_eq!((hold.calls, hold.running), (1, 0));
    let listed = ReflectionClient::new(caller()).list().address(address).await.unwrap();
    assert!(listed.iter().any(|service| service.service == "msnb.Admin:1.0"), "{listed:?}");
}

#[tokio::test]
async fn counters_are_disabled_by_default_and_restricted() {
    let without = Serving::start(Server::builder().service(Probe::default().server())).await;
    let error = AdminClient::new(caller()).counters().address(without.address()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);

    let tokens = Tokens::new().with("operator", "the secret of the operator").unwrap();
    let tokens = tokens.with("ann", "the secret of ann, the caller").unwrap();
    let server = Server::builder().service(Probe::default().server()).admin(true).require_token(tokens);
    let restricted = Serving::start(server.allow("msnb.Admin:1.0", ["operator"])).await;
    let counters = async |name: &str, secret: &str| {
        let builder = rpc_client::Client::builder().config(patient()).token(Token::new(name, secret).unwrap());
        AdminClient::new(builder.build().unwrap()).counters().address(restricted.address()).await
    };
    assert!(counters("operator", "the secret of the operator").await.is_ok());
    let error = counters("ann", "the secret of ann, the caller").await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
}
