//! Checks of announcements, instance lists and addresses.

use rpc_core::{Instance, ServiceId};
use rpc_registry::fuzzing;

/// Parses an announcement of a `local:` registry, an instance list of Nacos or an address.
///
/// The first byte selects the parser. Without the feature `nacos` of rpc-registry, Nacos lists are not parsed.
pub fn registry_instance(input: &[u8]) {
    let Some((&kind, content)) = input.split_first() else { return };
    match kind % 3 {
        0 => fuzzing::parse_announcement(content, &SERVICE).iter().for_each(assert_valid_weight),
        1 => fuzzing::parse_nacos_list(content).iter().flatten().for_each(assert_valid_weight),
        _ => {
            let Ok(text) = std::str::from_utf8(content) else { return };
            let Some(address) = fuzzing::parse_host_port(text) else { return };
            assert_eq!(fuzzing::parse_host_port(&address).as_ref(), Some(&address));
        }
    }
}

fn assert_valid_weight(instance: &Instance) {
    assert!(
        (0.0..=Instance::MAX_WEIGHT).contains(&instance.weight()),
        "weight is {}, allowed are 0 to {}",
        instance.weight(),
        Instance::MAX_WEIGHT
    );
}

const SERVICE: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");
