//! ZooKeeper and etcd as registries, with real servers, clients and processes.

use std::{net::SocketAddr, path::Path, time::Duration};

use rpc_client::Client;
use rpc_core::{Addresses, Code, Instance, RegisterOutcome, ServiceId};
use rpc_registry::InstanceChange;
use tests::{
    engines::{etcd::EtcdServer, zookeeper::ZooKeeperServer},
    in_time,
    ledger::{LEDGER, LedgerClient},
    load::{Kind, Load, until_ready},
    process::Provider,
    relay::free_address,
};

/// A server of a registry.
trait Server: Sized {
    async fn start() -> Option<Self>;
    fn url(&self) -> String;
    fn kill(&mut self);
    fn kill_and_erase(&mut self);
    async fn restart(&mut self);
}

macro_rules! server {
    ($server:ty) => {
        impl Server for $server {
            async fn start() -> Option<Self> {
                Self::start().await
            }

            fn url(&self) -> String {
                self.url()
            }

            fn kill(&mut self) {
                self.kill();
            }

            fn kill_and_erase(&mut self) {
                self.kill_and_erase();
            }

            async fn restart(&mut self) {
                self.restart().await;
            }
        }
    };
}

server!(EtcdServer);
server!(ZooKeeperServer);

/// Defines each test for both servers.
macro_rules! with_servers {
    ($($test:ident)*) => {
        mod etcd {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test::<super::EtcdServer>().await;
            })*
        }

        mod zookeeper {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test::<super::ZooKeeperServer>().await;
            })*
        }
    };
}

with_servers! {
    registrations_reach_other_processes
    changes_of_an_operator_outlive_the_provider
    outage_fails_no_call
    erased_server_lists_providers_again
    killed_provider_leaves_the_list
    unreachable_server_is_no_error
}

const SERVICE: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");

async fn until_listed(addresses: &mut Addresses, wanted: impl Fn(&[Instance]) -> bool) {
    in_time(addresses.wait_for(|list| list.as_deref().is_some_and(&wanted))).await.unwrap();
}

fn instance(port: u16) -> Instance {
    Instance::new(([127, 0, 0, 1], port).into()).with_weight(2.0).with_metadata("zone", "a")
}

async fn registrations_reach_other_processes<S: Server>() {
    let Some(server) = S::start().await else { return };
    let (provider, consumer) = (connect(&server).await, connect(&server).await);
    let mut addresses = consumer.watch(&SERVICE);
    until_listed(&mut addresses, <[_]>::is_empty).await;
    assert_eq!(provider.register(&SERVICE, instance(1)).await.unwrap(), RegisterOutcome::Confirmed);
    provider.register(&SERVICE, instance(2)).await.unwrap();
    until_listed(&mut addresses, |list| list == [instance(1), instance(2)]).await;
    // A registration replaces that of the same address.
    let tagged = instance(1).with_metadata("tags", "gray");
    provider.register(&SERVICE, tagged.clone()).await.unwrap();
    until_listed(&mut addresses, |list| list == [tagged.clone(), instance(2)]).await;
    assert_eq!(consumer.services().await.unwrap(), [SERVICE.to_string()]);
    provider.deregister(&SERVICE, instance(1).address()).await.unwrap();
    until_listed(&mut addresses, |list| list == [instance(2)]).await;
    assert!(provider.reachable_ip().await.unwrap().is_loopback());
    // Dropping the handle removes its registrations.
    drop(provider);
    until_listed(&mut addresses, <[_]>::is_empty).await;
    assert!(consumer.services().await.unwrap().is_empty());
}

async fn changes_of_an_operator_outlive_the_provider<S: Server>() {
    let Some(server) = S::start().await else { return };
    let (provider, consumer) = (connect(&server).await, connect(&server).await);
    let mut addresses = consumer.watch(&SERVICE);
    provider.register(&SERVICE, instance(1)).await.unwrap();
    let (name, address) = (SERVICE.to_string(), instance(1).address());
    let offline = InstanceChange { enabled: Some(false), weight: None };
    assert_eq!(consumer.change(&name, address, offline).await.unwrap(), Some(instance(1).with_enabled(false)));
    until_listed(&mut addresses, |list| list == [instance(1).with_enabled(false)]).await;
    let heavier = InstanceChange { enabled: None, weight: Some(5.0) };
    consumer.change(&name, address, heavier).await.unwrap();
    let changed = instance(1).with_enabled(false).with_weight(5.0);
    until_listed(&mut addresses, |list| list == std::slice::from_ref(&changed)).await;
    provider.deregister(&SERVICE, address).await.unwrap();
    until_listed(&mut addresses, <[_]>::is_empty).await;
    assert_eq!(consumer.change(&name, address, offline).await.unwrap(), None, "it is not listed");
    provider.register(&SERVICE, instance(1)).await.unwrap();
    until_listed(&mut addresses, |list| list == std::slice::from_ref(&changed)).await;
}

async fn outage_fails_no_call<S: Server>() {
    let Some(mut server) = S::start().await else { return };
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (provider(&server, directory.path()).await, provider(&server, directory.path()).await);
    let old = [one.address(), other.address()];
    let client = client(&server).await;
    drop(LedgerClient::new(client.clone()).look_up(0).timeout(Duration::from_millis(1)).await);
    until_ready(&client, &old).await;
    let load = Load::begin(&client, 16, &Kind::ALL, Duration::from_secs(5));
    load.until_answers(&old, 1).await;
    server.kill();
    load.until_answers(&old, 200).await;
    server.restart().await;
    let new = provider(&server, directory.path()).await;
    load.until_answers(&[old[0], old[1], new.address()], 50).await;
    let tally = load.end().await;
    for kind in Kind::ALL {
        tally.expect_none_failed(kind);
    }
}

async fn erased_server_lists_providers_again<S: Server>() {
    let Some(mut server) = S::start().await else { return };
    let provider = connect(&server).await;
    provider.register(&SERVICE, instance(1)).await.unwrap();
    let mut addresses = provider.watch(&SERVICE);
    until_listed(&mut addresses, |list| list == [instance(1)]).await;
    server.kill_and_erase();
    server.restart().await;
    // A new handle has no earlier list.
    let consumer = connect(&server).await;
    let mut addresses = consumer.watch(&SERVICE);
    until_listed(&mut addresses, |list| list == [instance(1)]).await;
}

async fn killed_provider_leaves_the_list<S: Server>() {
    let Some(server) = S::start().await else { return };
    let directory = tempfile::tempdir().unwrap();
    let mut provider = provider(&server, directory.path()).await;
    let consumer = connect(&server).await;
    let mut addresses = consumer.watch(&LEDGER);
    let address = provider.address();
    until_listed(&mut addresses, |list| list.iter().map(Instance::address).eq([address])).await;
    provider.kill();
    provider.wait().await;
    until_listed(&mut addresses, <[_]>::is_empty).await;
}

async fn unreachable_server_is_no_error<S: Server>() {
    let Some(mut server) = S::start().await else { return };
    server.kill();
    let registry = connect(&server).await;
    let mut addresses = registry.watch(&SERVICE);
    assert_eq!(registry.register(&SERVICE, instance(1)).await.unwrap(), RegisterOutcome::Pending);
    assert!(addresses.borrow_and_update().is_none());
    assert_eq!(registry.services().await.unwrap_err().code(), Code::Unavailable);
    server.restart().await;
    until_listed(&mut addresses, |list| list == [instance(1)]).await;
}

/// The addresses are those of documentation (RFC 5737): this machine has a route to them, and nothing answers.
#[tokio::test]
async fn loopback_is_rejected_for_a_remote_server() {
    for url in ["etcd://192.0.2.1", "zookeeper://192.0.2.1"] {
        let registry = rpc_registry::connect(url).await.unwrap();
        match registry.reachable_ip().await {
            Ok(ip) => {
                let error = registry.register(&SERVICE, instance(1)).await.unwrap_err();
                assert_eq!(error.code(), Code::InvalidArgument);
                assert!(error.message().contains(&format!("advertise {ip}")), "{error}");
            }
            Err(_) => eprintln!("SKIPPED: this machine has no route to other networks"),
        }
    }
}

async fn connect(server: &impl Server) -> std::sync::Arc<dyn rpc_registry::Backend> {
    rpc_registry::connect(&server.url()).await.unwrap()
}

async fn client(server: &impl Server) -> Client {
    Client::builder().registry(connect(server).await).build().unwrap()
}

async fn provider(server: &impl Server, directory: &Path) -> Provider {
    let address: SocketAddr = free_address();
    Provider::start_ledger(env!("CARGO_BIN_EXE_tests-provider"), &server.url(), address, directory).await
}
