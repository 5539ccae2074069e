//! Between an [`Instance`] and what Nacos lists.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use nacos_sdk::api::naming::ServiceInstance;
use rpc_core::{Error, Instance};

use super::limits;

/// The metadata entry that repeats the weight for consumers of other frameworks, which read it there.
const WEIGHT: &str = "weight";

/// The metadata entry in which an instance says when its process was started, in seconds since 1970.
const STARTED: &str = "started";

/// The metadata entry in which frameworks, Dubbo among them, say what their instances speak, and what ours say.
const PROTOCOL: (&str, &str) = ("protocol", "msnb");

/// The cluster of instances that name none.
const DEFAULT_CLUSTER: &str = "DEFAULT";

/// What is sent to Nacos for `instance`: ephemeral, so that it is gone with the connection.
///
/// # Errors
///
/// `InvalidArgument` when the metadata is too long.
pub(super) fn to_nacos(instance: &Instance, cluster: Option<&str>) -> Result<ServiceInstance, Error> {
    let weight = limits::weight(instance);
    let mut metadata: HashMap<_, _> = instance.metadata().clone().into_iter().collect();
    metadata.insert(WEIGHT.to_owned(), weight.to_string());
    limits::metadata(&metadata)?;
    Ok(ServiceInstance { weight, metadata, ..place(instance.address(), cluster) })
}

/// What names an instance, without what it says of itself.
pub(super) fn place(address: SocketAddr, cluster: Option<&str>) -> ServiceInstance {
    ServiceInstance {
        ip: address.ip().to_string(),
        port: address.port().into(),
        ephemeral: true,
        cluster_name: Some(cluster.unwrap_or(DEFAULT_CLUSTER).to_owned()),
        ..Default::default()
    }
}

/// The instances that can be called, by address.
///
/// An official server lists an address twice while two connections have registered it, as after the restart of a process whose earlier
/// connection the server has not given up yet. The entry of the process that was started last counts.
///
/// Nacos was asked for these only, but r-nacos ignores the cluster, and what a server filters differs with its version. Instances
/// that say that they speak another protocol are another framework's.
pub(super) fn from_nacos(listed: Vec<ServiceInstance>, cluster: Option<&str>) -> Vec<Instance> {
    let mut instances: Vec<_> = listed
        .into_iter()
        .filter(|listed| listed.healthy && listed.enabled)
        .filter(|listed| cluster.is_none_or(|cluster| listed.cluster_name.as_deref() == Some(cluster)))
        .filter(|listed| listed.metadata.get(PROTOCOL.0).is_none_or(|protocol| protocol == PROTOCOL.1))
        .filter_map(|listed| {
            // Nacos' weight, not the metadata's: an operator may have changed it.
            let instance = Instance::new(address(&listed.ip, listed.port)?).with_weight(listed.weight);
            let metadata = listed.metadata.into_iter().filter(|(key, _)| key != WEIGHT);
            Some(metadata.fold(instance, |instance, (key, value)| instance.with_metadata(key, value)))
        })
        .collect();
    instances.sort_by_key(|instance| (instance.address(), Reverse(started(instance.metadata().get(STARTED)))));
    instances.dedup_by_key(|instance| instance.address());
    instances
}

/// The weight under which this address is listed, in whatever state.
pub(super) fn weight(listed: &[ServiceInstance], wanted: SocketAddr) -> Option<f64> {
    let entries = listed.iter().filter(|listed| address(&listed.ip, listed.port) == Some(wanted));
    entries.max_by_key(|listed| started(listed.metadata.get(STARTED))).map(|listed| listed.weight)
}

fn started(entry: Option<&String>) -> Option<u64> {
    entry?.parse().ok()
}

/// Whether `instance` is listed, and not another process's at its address: both have the same start, and the same metadata but for entries
/// that an operator has added.
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

/// Where an instance listens; none for a name, which Nacos takes in place of an address and msnb does not.
pub(super) fn address(ip: &str, port: i32) -> Option<SocketAddr> {
    let ip: IpAddr = ip.parse().ok()?;
    let port = u16::try_from(port).ok().filter(|port| *port != 0)?;
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(port: u16) -> Instance {
        Instance::new(([10, 0, 0, 1], port).into()).with_weight(2.5).with_metadata("protocol", "msnb")
    }

    #[test]
    fn what_is_sent_comes_back() {
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
        assert_eq!(from_nacos(vec![sent], Some("c")), [instance(1)]);
    }

    #[test]
    fn what_cannot_be_called_is_left_out() {
        let good = to_nacos(&instance(1), None).unwrap();
        let without = |change: fn(&mut ServiceInstance)| {
            let mut listed = good.clone();
            listed.port = 2;
            change(&mut listed);
            listed
        };
        let listed = vec![
            without(|listed| listed.healthy = false),
            without(|listed| listed.enabled = false),
            without(|listed| listed.cluster_name = Some("other".to_owned())),
            without(|listed| listed.ip = "some.host".to_owned()),
            without(|listed| listed.port = 65_536),
            without(|listed| drop(listed.metadata.insert("protocol".to_owned(), "dubbo".to_owned()))),
            good.clone(),
            good.clone(),
        ];
        assert_eq!(from_nacos(listed.clone(), Some(DEFAULT_CLUSTER)), [instance(1)]);
        assert_eq!(from_nacos(listed, None).len(), 2);
    }

    #[test]
    fn latest_of_two_entries_for_one_address_counts() {
        let started = |at: &str| to_nacos(&instance(1).with_metadata(STARTED, at), None).unwrap();
        for listed in [vec![started("99"), started("100")], vec![started("100"), started("99")]] {
            assert_eq!(from_nacos(listed, None), [instance(1).with_metadata(STARTED, "100")]);
        }
        let unknown = to_nacos(&instance(1), None).unwrap();
        assert_eq!(from_nacos(vec![unknown, started("1")], None), [instance(1).with_metadata(STARTED, "1")]);
    }

    #[test]
    fn a_weight_that_an_operator_set_counts() {
        let mut listed = to_nacos(&instance(1), None).unwrap();
        listed.weight = 0.0;
        assert_eq!(from_nacos(vec![listed], None)[0].weight(), 0.0);
    }

    #[test]
    fn the_weight_counts_towards_the_metadata() {
        // "protocol" + "msnb" + "weight" + "2.5" + the key "x"
        let room = 1024 - (8 + 4 + 6 + 3 + 1);
        assert!(to_nacos(&instance(1).with_metadata("x", "y".repeat(room)), None).is_ok());
        assert!(to_nacos(&instance(1).with_metadata("x", "y".repeat(room + 1)), None).is_err());
    }
}
