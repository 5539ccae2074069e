//! A rolling upgrade from one version of a contract to the next, and back, under load.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rpc_client::Client;
use rpc_core::{Codec, Discovery};
use rpc_registry::Memory;
use rpc_server::{Server, ServerBuilder, ServerConfig};
use tests::{
    Task,
    evolution::{Load, one, two},
    patient,
    process::Provider,
    serving::Serving,
};

/// Begins callers of both versions.
fn begin(load: &Arc<Load>, registry: &Arc<dyn Discovery>) -> Vec<Task<()>> {
    let client = |codec| {
        let builder = Client::builder().registry(Arc::clone(registry)).config(patient().with_codec(codec));
        builder.build().unwrap()
    };
    let mut callers = Vec::new();
    for codec in [Codec::Bincode, Codec::Bincode, Codec::MessagePack] {
        callers.push(Task::begin(Arc::clone(load).call_as_one(client(codec))));
        callers.push(Task::begin(Arc::clone(load).call_as_two(client(codec))));
    }
    callers
}

async fn end(load: &Load, callers: Vec<Task<()>>) {
    load.stop();
    for caller in callers {
        caller.end().await;
    }
}

fn first() -> ServerBuilder {
    Server::builder().service(one::EvolvingServer::new(one::Service))
}

fn second() -> ServerBuilder {
    Server::builder().service(two::EvolvingServer::new(two::Service))
}

/// Providers restart one after the other on their addresses with the other version of the contract.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_upgrade_and_back_fails_no_call() {
    let registry = Arc::new(Memory::named("rolling-contracts"));
    let config = ServerConfig::default().with_drain_notice(Duration::from_millis(50));
    let start = async |version: fn() -> ServerBuilder, address: SocketAddr| {
        Serving::start_on(version().registry(Arc::clone(&registry) as _).config(config.clone()), address).await
    };
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(start(first, SocketAddr::from(([127, 0, 0, 1], 0))).await);
    }
    let load = Arc::new(Load::default());
    let callers = begin(&load, &(Arc::clone(&registry) as _));
    for (version, is_second) in [(second as fn() -> ServerBuilder, true), (first, false), (second, true)] {
        load.set_upgraded(false);
        for server in &mut servers {
            load.proceed(200).await;
            let address = server.address();
            server.stop();
            server.ended().await.unwrap();
            *server = start(version, address).await;
        }
        load.set_upgraded(is_second);
        load.proceed(200).await;
    }
    end(&load, callers).await;
}

/// As above, with a process for each provider, and the registry `local:`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_of_two_contracts_replace_each_other() {
    let [first, second] = [env!("CARGO_BIN_EXE_tests-evolving-one"), env!("CARGO_BIN_EXE_tests-evolving-two")];
    let directory = tempfile::tempdir().unwrap();
    let url = format!("local:{}", directory.path().display());
    let mut providers = Vec::new();
    for _ in 0..3 {
        providers.push(Provider::start_evolving(first, &url, SocketAddr::from(([127, 0, 0, 1], 0))).await);
    }
    let registry: Arc<dyn Discovery> = rpc_registry::connect(&url).await.unwrap();
    let load = Arc::new(Load::default());
    let callers = begin(&load, &registry);
    for (binary, is_second) in [(second, true), (first, false)] {
        load.set_upgraded(false);
        for provider in &mut providers {
            load.proceed(200).await;
            provider.terminate();
            let (status, lines) = provider.wait().await;
            assert!(status.success() && lines == ["drained"], "{status} {lines:?}");
            *provider = Provider::start_evolving(binary, &url, provider.address()).await;
        }
        load.set_upgraded(is_second);
        load.proceed(200).await;
    }
    end(&load, callers).await;
}
