//! A server that is killed and started again under load.

use std::time::{Duration, Instant};

use tests::{
    load::seconds,
    nacos::{Kind, NacosServer},
    process::Provider,
};

use super::{client, end, ledger, load, on_servers, until_listed};

/// How often the server is killed.
const RESTARTS: usize = 3;

async fn restarts_fail_no_call(kind: Kind) {
    let directory = tempfile::tempdir().unwrap();
    let mut server = NacosServer::start_kind(kind).await;
    let mut providers: Vec<Provider> = Vec::new();
    for _ in 0..2 {
        providers.push(ledger(&server.url(), directory.path()).await);
    }
    let addresses: Vec<_> = providers.iter().map(Provider::address).collect();
    let client = client(&server.url()).await;
    let load = load(&client, &addresses).await;

    for restart in 1..=RESTARTS {
        server.kill();
        tokio::time::sleep(seconds("MSNB_OUTAGE_SECONDS", 0)).await;
        server.restart().await;
        let ready = Instant::now();
        until_listed(&server, &addresses).await;
        eprintln!("{kind:?}, restart {restart}: all listed {:?} after the server was ready", ready.elapsed());
        load.until_answers(&addresses, 1000).await;
    }
    // A provider that starts now is found, and nobody is listed twice.
    let new = ledger(&server.url(), directory.path()).await;
    load.until_answers(&[new.address()], 100).await;
    until_listed(&server, &[addresses, vec![new.address()]].concat()).await;
    end(load).await;
}

/// `registered` means that the registry has confirmed it.
#[tokio::test]
async fn late_registrations_are_logged_when_confirmed() {
    let logs = tempfile::tempdir().unwrap();
    let log = logs.path().join("log");
    let mut server = NacosServer::absent(Kind::RNacos);
    let _provider = Provider::start_logging(&server.url(), &log).await;
    let until_logged = async |words: &str, more: &str| {
        let logged = async {
            loop {
                let text = std::fs::read_to_string(&log).unwrap();
                if text.lines().any(|line| line.contains(words) && line.contains(more)) {
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
