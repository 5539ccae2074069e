//! Conversions between [`Instance`] and the instances of Nacos.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
};

use nacos_sdk::api::naming::ServiceInstance;
use rpc_core::{Error, Instance};

use super::limits;
use crate::address::HostPort;

/// The metadata key that repeats the weight, for consumers of other frameworks.
pub(super) const WEIGHT: &str = "weight";

/// The metadata key with the start time of an instance's process, in seconds since 1970.
const STARTED: &str = "started";

/// The metadata key for the protocol of an instance, and its value for msnb.
///
/// Dubbo and other frameworks use the same key.
const PROTOCOL: (&str, &str) = ("protocol", "msnb");

/// The cluster of instances without a cluster name.
const DEFAULT_CLUSTER: &str = "DEFAULT";

/// Converts `instance` for Nacos.
///
/// The result is ephemeral, so that Nacos removes it when the connection closes.
///
/// # Errors
///
/// `InvalidArgument` if the metadata is too long.
pub(super) fn to_nacos(instance: &Instance, cluster: Option<&str>) -> Result<ServiceInstance, Error> {
    let weight = limits::weight(instance);
    let mut metadata: HashMap<_, _> = instance.metadata().clone().into_iter().collect();
    metadata.insert(WEIGHT.to_owned(), weight.to_string());
    limits::metadata(&metadata)?;
    Ok(ServiceInstance { weight, metadata, ..identity(instance.address(), cluster) })
}

/// Returns an instance with only the fields that identify it, without weight and metadata.
pub(super) fn identity(address: SocketAddr, cluster: Option<&str>) -> ServiceInstance {
    ServiceInstance {
        ip: address.ip().to_string(),
        port: address.port().into(),
        ephemeral: true,
        cluster_name: Some(cluster.unwrap_or(DEFAULT_CLUSTER).to_owned()),
        ..Default::default()
    }
}

/// The addresses of host names, which Nacos accepts in place of an IP address.
pub(super) type Hosts = BTreeMap<String, Vec<IpAddr>>;

/// Returns the callable instances, sorted by address. The cluster of an instance is its zone, if its metadata states none.
///
/// An instance with a host name counts once for each address in
/// `hosts`.
///
/// An official server lists an address twice while two connections have registered it, as after the restart of a
/// process whose earlier connection the server has not closed yet. The instance with the latest start time is used.
pub(super) fn from_nacos(listed: &[ServiceInstance], cluster: Option<&str>, hosts: &Hosts) -> Vec<Instance> {
    let mut instances: Vec<_> = listed
        .iter()
        .filter(|listed| is_callable(listed, cluster))
        .flat_map(|listed| {
            // The weight of Nacos, not of the metadata: an operator may have changed it.
            let instance = move |address| {
                let instance = Instance::new(address).with_weight(listed.weight);
                // The metadata replaces it, if it states a zone. A consumer of one cluster has no choice of zones.
                match &listed.cluster_name {
                    Some(name) if cluster.is_none() && name != DEFAULT_CLUSTER => {
                        instance.with_metadata(Instance::ZONE, name)
                    }
                    _ => instance,
                }
            };
            let with_metadata = move |address| {
                let metadata = listed.metadata.iter().filter(|(key, _)| *key != WEIGHT);
                metadata.fold(instance(address), |instance, (key, value)| instance.with_metadata(key, value))
            };
            addresses(&listed.ip, listed.port, hosts).map(with_metadata)
        })
        .collect();
    instances.sort_by_key(|instance| (instance.address(), Reverse(started(instance.metadata().get(STARTED)))));
    instances.dedup_by_key(|instance| instance.address());
    instances
}

/// Returns the healthy instances, sorted by address, including those of other frameworks.
pub(super) fn all(listed: &[ServiceInstance]) -> Vec<Instance> {
    let instance =
        |listed: &ServiceInstance| {
            let instance = Instance::new(address(&listed.ip, listed.port)?).with_weight(listed.weight);
            let metadata = listed.metadata.iter().filter(|(key, _)| *key != WEIGHT);
            Some(metadata.fold(instance.with_enabled(listed.enabled), |instance, (key, value)| {
                instance.with_metadata(key, value)
            }))
        };
    let mut instances: Vec<_> = listed.iter().filter(|listed| listed.healthy).filter_map(instance).collect();
    instances.sort_by_key(|instance| (instance.address(), Reverse(started(instance.metadata().get(STARTED)))));
    instances.dedup_by_key(|instance| instance.address());
    instances
}

/// Returns the host names of the callable instances.
pub(super) fn host_names(listed: &[ServiceInstance], cluster: Option<&str>) -> BTreeSet<String> {
    let callable = listed.iter().filter(|listed| is_callable(listed, cluster));
    callable.filter(|listed| is_host_name(&listed.ip)).map(|listed| listed.ip.clone()).collect()
}

/// Returns whether clients may call the instance.
///
/// Filters again although the request contains the filters: r-nacos ignores the cluster, and the filters of other
/// servers differ between versions. Instances with another protocol belong to other frameworks.
fn is_callable(listed: &ServiceInstance, cluster: Option<&str>) -> bool {
    listed.healthy
        && listed.enabled
        && cluster.is_none_or(|cluster| listed.cluster_name.as_deref() == Some(cluster))
        && listed.metadata.get(PROTOCOL.0).is_none_or(|protocol| protocol == PROTOCOL.1)
}

/// Returns whether `host` can be a host name, and is not an IP address.
fn is_host_name(host: &str) -> bool {
    HostPort::parse(host, Some(1)).is_ok_and(|host| host.is_name()) && host.len() <= MAX_HOST_NAME
}

/// Returns the listed weight of an address, whatever its state; `None` if it is not listed.
pub(super) fn weight(listed: &[ServiceInstance], wanted: SocketAddr) -> Option<f64> {
    let entries = listed.iter().filter(|listed| address(&listed.ip, listed.port) == Some(wanted));
    entries.max_by_key(|listed| started(listed.metadata.get(STARTED))).map(|listed| listed.weight)
}

fn started(entry: Option<&String>) -> Option<u64> {
    entry?.parse().ok()
}

/// Returns whether `instance` is listed, as opposed to an instance of another process at its address.
///
/// Compares the start times. Without a start time, compares the metadata, ignoring entries that an operator has added.
pub(super) fn contains(listed: &[ServiceInstance], instance: &Instance) -> bool {
    let same = |listed: &ServiceInstance| match instance.metadata().get(STARTED) {
        Some(started) => listed.metadata.get(STARTED) == Some(started),
        None => {
            !listed.metadata.contains_key(STARTED)
                && instance.metadata().iter().all(|(key, value)| listed.metadata.get(key) == Some(value))
        }
    };
    listed.iter().any(|listed| address(&listed.ip, listed.port) == Some(instance.address()) && same(listed))
}

/// Returns the address of an instance; `None` for a host name.
pub(super) fn address(ip: &str, port: i32) -> Option<SocketAddr> {
    Some(SocketAddr::new(ip.parse().ok()?, valid_port(port)?))
}

/// Returns the addresses of an instance: several if its host name has several, none if the name is not in `hosts`.
pub(super) fn addresses(ip: &str, port: i32, hosts: &Hosts) -> impl Iterator<Item = SocketAddr> {
    let named = hosts.get(ip).into_iter().flatten().copied();
    let ips = ip.parse().ok().into_iter().chain(named);
    valid_port(port).into_iter().flat_map(move |port| ips.clone().map(move |ip| SocketAddr::new(ip, port)))
}

fn valid_port(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port != 0)
}

/// The maximum length of a host name in DNS.
const MAX_HOST_NAME: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(port: u16) -> Instance {
        Instance::new(([10, 0, 0, 1], port).into()).with_weight(2.5).with_metadata("protocol", "msnb")
    }

    #[test]
    fn instance_survives_the_round_trip() {
        let sent = to_nacos(&instance(1), Some("c")).unwrap();
        let listed = std::slice::from_ref(&sent);
        assert!(sent.ephemeral);
        assert_eq!(weight(listed, instance(1).address()), Some(2.5));
        assert_eq!(weight(listed, instance(2).address()), None);
        assert!(contains(listed, &instance(1)) && !contains(listed, &instance(1).with_metadata("started", "9")));
        let administered =
            to_nacos(&instance(1).with_metadata("started", "9").with_metadata("zone", "b"), None).unwrap();
        assert!(contains(&[administered], &instance(1).with_metadata("started", "9")));
        assert_eq!(sent.metadata[WEIGHT], "2.5");
        assert_eq!(from_nacos(listed, Some("c"), &Hosts::new()), [instance(1)]);
        assert_eq!(from_nacos(listed, None, &Hosts::new()), [instance(1).with_metadata("zone", "c")]);
    }

    #[test]
    fn uncallable_instances_are_skipped() {
        let good = to_nacos(&instance(1), None).unwrap();
        let changed = |change: fn(&mut ServiceInstance)| {
            let mut listed = good.clone();
            listed.port = 2;
            change(&mut listed);
            listed
        };
        let listed = vec![
            changed(|listed| listed.healthy = false),
            changed(|listed| listed.enabled = false),
            changed(|listed| listed.cluster_name = Some("other".to_owned())),
            changed(|listed| listed.ip = "some.host".to_owned()),
            changed(|listed| listed.port = 65_536),
            changed(|listed| drop(listed.metadata.insert("protocol".to_owned(), "dubbo".to_owned()))),
            good.clone(),
            good.clone(),
        ];
        assert_eq!(from_nacos(&listed, Some(DEFAULT_CLUSTER), &Hosts::new()), [instance(1)]);
        assert_eq!(from_nacos(&listed, None, &Hosts::new()).len(), 2);
    }

    #[test]
    fn host_name_yields_one_instance_per_address() {
        let named = |name: &str| ServiceInstance { ip: name.to_owned(), ..to_nacos(&instance(1), None).unwrap() };
        let mut dubbo = named("dubbo.example");
        dubbo.metadata.insert("protocol".to_owned(), "dubbo".to_owned());
        let listed = [named("10.0.0.1"), named("some.host"), named("other.host"), named("no host"), dubbo];
        assert_eq!(host_names(&listed, None), ["other.host", "some.host"].map(str::to_owned).into());
        let hosts = Hosts::from([("some.host".to_owned(), vec![[10, 0, 0, 3].into(), [10, 0, 0, 2].into()])]);
        let addresses: Vec<_> = from_nacos(&listed, None, &hosts).iter().map(|one| one.address().to_string()).collect();
        assert_eq!(addresses, ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]);
    }

    #[test]
    fn latest_instance_at_an_address_is_used() {
        let started = |at: &str| to_nacos(&instance(1).with_metadata(STARTED, at), None).unwrap();
        for listed in [vec![started("99"), started("100")], vec![started("100"), started("99")]] {
            assert_eq!(from_nacos(&listed, None, &Hosts::new()), [instance(1).with_metadata(STARTED, "100")]);
        }
        let unknown = to_nacos(&instance(1), None).unwrap();
        let listed = [unknown, started("1")];
        assert_eq!(from_nacos(&listed, None, &Hosts::new()), [instance(1).with_metadata(STARTED, "1")]);
    }

    #[test]
    fn weight_of_nacos_overrides_metadata() {
        let mut listed = to_nacos(&instance(1), None).unwrap();
        listed.weight = 0.0;
        assert_eq!(from_nacos(&[listed], None, &Hosts::new())[0].weight(), 0.0);
    }

    #[test]
    fn weight_entry_counts_towards_metadata_limit() {
        // "protocol" + "msnb" + "weight" + "2.5" + the key "x"
        let longest = 1024 - (8 + 4 + 6 + 3 + 1);
        assert!(to_nacos(&instance(1).with_metadata("x", "y".repeat(longest)), None).is_ok());
        assert!(to_nacos(&instance(1).with_metadata("x", "y".repeat(longest + 1)), None).is_err());
    }
}
