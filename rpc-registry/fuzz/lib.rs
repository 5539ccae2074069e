//! What a registry may list: whatever is in it, a client reads instances or passes it over.
//!
//! The function takes any bytes and panics when something does not hold that must. `cargo fuzz` calls it with libFuzzer's input
//! (`fuzz_targets/`), and `tests/tests/robustness/fuzz.rs` with input of its own, on every toolchain.

use rpc_core::{Instance, ServiceId};
use rpc_registry::fuzzing;

/// The file by which a provider announces itself in a `local:` registry, a list as Nacos tells it (where that is built in), and
/// an address as a person writes it; the first byte chooses.
pub fn registry_instance(input: &[u8]) {
    let Some((&kind, content)) = input.split_first() else { return };
    match kind % 3 {
        0 => fuzzing::announced(content, &SERVICE).iter().for_each(sane),
        1 => fuzzing::listed_by_nacos(content).iter().flatten().for_each(sane),
        _ => {
            let Ok(text) = std::str::from_utf8(content) else { return };
            let Some(address) = fuzzing::host_and_port(text) else { return };
            assert_eq!(fuzzing::host_and_port(&address).as_ref(), Some(&address));
        }
    }
}

fn sane(instance: &Instance) {
    assert!((0.0..=Instance::MAX_WEIGHT).contains(&instance.weight()), "a weight of {}", instance.weight());
}

const SERVICE: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");
