//! Providers in DNS, with a real server; and two registries at once.

use rpc_core::{Addresses, Instance, ServiceId};
use tests::{
    engines::{dnsmasq::DnsServer, etcd::EtcdServer, zookeeper::ZooKeeperServer},
    in_time,
};

const SERVICE: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");

async fn until_listed(addresses: &mut Addresses, wanted: &[(&str, f64)]) {
    let listed = |list: &[Instance]| {
        list.iter()
            .map(|instance| (instance.address().to_string(), instance.weight()))
            .eq(wanted.iter().map(|(address, weight)| ((*address).to_owned(), *weight)))
    };
    in_time(addresses.wait_for(|list| list.as_deref().is_some_and(listed))).await.unwrap();
}

#[tokio::test]
async fn addresses_of_a_name_are_looked_up_again() {
    let records = ["host-record=greeter.test,127.0.0.1", "host-record=greeter.test,127.0.0.2"];
    let Some(mut server) = DnsServer::start(&records).await else { return };
    let url = format!("dns://greeter.test:7788?server={}", server.address());
    let registry = rpc_registry::connect(&url).await.unwrap();
    let mut addresses = registry.watch(&SERVICE);
    until_listed(&mut addresses, &[("127.0.0.1:7788", 1.0), ("127.0.0.2:7788", 1.0)]).await;
    // Lookups fail meanwhile.
    server.kill();
    server.restart(&["host-record=greeter.test,127.0.0.3"]).await;
    until_listed(&mut addresses, &[("127.0.0.3:7788", 1.0)]).await;
    server.restart(&[]).await;
    until_listed(&mut addresses, &[]).await;
}

#[tokio::test]
async fn services_have_ports_and_weights() {
    let hosts = ["host-record=n1.test,127.0.0.1", "host-record=n2.test,127.0.0.2"];
    let services = [
        "srv-host=_msnb._tcp.greeter.test,n1.test,7788,0,5",
        "srv-host=_msnb._tcp.greeter.test,n2.test,7789,0,10",
        "srv-host=_msnb._tcp.greeter.test,n2.test,7790,1,10",
    ];
    let Some(mut server) = DnsServer::start(&[&hosts[..], &services].concat()).await else { return };
    let url = format!("dns+srv://_msnb._tcp.greeter.test?server={}", server.address());
    let registry = rpc_registry::connect(&url).await.unwrap();
    let mut addresses = registry.watch(&SERVICE);
    until_listed(&mut addresses, &[("127.0.0.1:7788", 5.0), ("127.0.0.2:7789", 10.0)]).await;
    server.restart(&[&hosts[..], &services[2..]].concat()).await;
    until_listed(&mut addresses, &[("127.0.0.2:7790", 10.0)]).await;
}

#[tokio::test]
async fn provider_migrates_between_registries() {
    let (Some(mut old), Some(new)) = (ZooKeeperServer::start().await, EtcdServer::start().await) else { return };
    let both = rpc_registry::connect(&format!("{},{}", old.url(), new.url())).await.unwrap();
    let only_old = rpc_registry::connect(&old.url()).await.unwrap();
    let only_new = rpc_registry::connect(&new.url()).await.unwrap();
    let instance = |port| Instance::new(([127, 0, 0, 1], port).into());
    both.register(&SERVICE, instance(1)).await.unwrap();
    only_old.register(&SERVICE, instance(2)).await.unwrap();
    only_new.register(&SERVICE, instance(3)).await.unwrap();
    let (one, two, three) = (("127.0.0.1:1", 1.0), ("127.0.0.1:2", 1.0), ("127.0.0.1:3", 1.0));
    until_listed(&mut only_old.watch(&SERVICE), &[one, two]).await;
    until_listed(&mut only_new.watch(&SERVICE), &[one, three]).await;
    let mut addresses = both.watch(&SERVICE);
    until_listed(&mut addresses, &[one, two, three]).await;
    // The list of a registry that is gone stays, and the other one still changes.
    old.kill();
    only_new.register(&SERVICE, instance(4)).await.unwrap();
    until_listed(&mut addresses, &[one, two, three, ("127.0.0.1:4", 1.0)]).await;
}
