//! A server that is killed and restarted under load.

use std::time::{Duration, Instant};

use tests::{
    load::seconds,
    nacos::{NacosServer, ServerKind},
    process::Provider,
};

use super::{client, end, ledger, load, on_servers, until_listed};

/// The number of restarts.
const RESTARTS: usize = 3;

async fn restarts_fail_no_call(kind: ServerKind) {
    let directory = tempfile::tempdir().unwrap();
    let mut server = NacosServer::start_kind(kind).await;
    let mut providers: Vec<Provider> = Vec::new();
    for _ in 0..2 {
        providers.push(ledger(&server.url(), directory.path()).await);
    }
    let addresses: Vec<_> = providers.iter().map(Provider::address).collect();
    let client = client(&server.url()).await;
    let load = load(&client, &[&server], &addresses).await;

    for restart in 1..=RESTARTS {
        server.kill();
        tokio::time::sleep(seconds("MSNB_OUTAGE_SECONDS", 0)).await;
        server.restart().await;
        let ready = Instant::now();
        until_listed(&[&server], &addresses).await;
        eprintln!("{kind:?}, restart {restart}: all instances listed {:?} after the server was ready", ready.elapsed());
        load.until_answers(&addresses, 1000).await;
    }
    // The client discovers a new provider, and the server lists each provider once.
    let new = ledger(&server.url(), directory.path()).await;
    load.until_answers(&[new.address()], 100).await;
    until_listed(&[&server], &[addresses, vec![new.address()]].concat()).await;
    end(load).await;
}

/// The log message `registered` states that the registry has confirmed the registration.
#[tokio::test]
async fn provider_logs_late_registrations_once_confirmed() {
    let logs = tempfile::tempdir().unwrap();
    let log = logs.path().join("log");
    let mut server = NacosServer::stopped(ServerKind::RNacos);
    let _provider = Provider::start_logging(&server.url(), &log).await;
    let until_logged = async |message: &str, field: &str| {
        let logged = async {
            loop {
                let text = std::fs::read_to_string(&log).unwrap();
                if text.lines().any(|line| line.contains(message) && line.contains(field)) {
                    return text;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tests::in_time(logged).await
    };
    let text = until_logged("the registry has not confirmed all registrations", "pending=2").await;
    assert!(!text.contains(" registered "), "{text}");

    server.restart().await;
    until_logged(" registered ", "pending=1").await;
    until_logged(" registered ", "pending=0").await;
}

on_servers! { restarts_fail_no_call:
    restarts_of_r_nacos_fail_no_call RNacos,
    restarts_of_official_2_fail_no_call Official2,
    restarts_of_official_3_fail_no_call Official3
}
