//! The functions of the `fuzz` folders under input of our own: seeds, seeds that were changed, and noise. What libFuzzer does with
//! them is told in docs/TESTING.md; this runs on every toolchain, in seconds.
//!
//! `MSNB_FUZZ_ROUNDS` says how many inputs each gets, `MSNB_FUZZ_CORPUS` names a directory to write the seeds to, and
//! `MSNB_FUZZ_INPUT` a file to be the one input.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

#[path = "../../../rpc-client/fuzz/lib.rs"]
#[allow(unreachable_pub, reason = "a crate of its own for cargo-fuzz")]
mod rpc_client_fuzz;
#[path = "../../../rpc-core/fuzz/lib.rs"]
#[allow(unreachable_pub, reason = "a crate of its own for cargo-fuzz")]
mod rpc_core_fuzz;
#[path = "../../../rpc-registry/fuzz/lib.rs"]
#[allow(unreachable_pub, reason = "a crate of its own for cargo-fuzz")]
mod rpc_registry_fuzz;
#[path = "../../../rpc-server/fuzz/lib.rs"]
#[allow(unreachable_pub, reason = "a crate of its own for cargo-fuzz")]
pub(crate) mod rpc_server_fuzz;

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::PathBuf,
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tests::seeds;

/// Runs one of the functions with many inputs.
fn fuzz(name: &str, function: fn(&[u8]), seeds: &[Vec<u8>], rounds: usize) {
    assert!(!seeds.is_empty());
    if let Some(file) = env::var_os("MSNB_FUZZ_INPUT") {
        return function(&fs::read(file).unwrap());
    }
    if let Some(corpus) = env::var_os("MSNB_FUZZ_CORPUS") {
        let directory = PathBuf::from(corpus).join(name);
        fs::create_dir_all(&directory).unwrap();
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(directory.join(format!("seed-{number}")), seed).unwrap();
        }
        return;
    }
    let rounds = env::var("MSNB_FUZZ_ROUNDS").map_or(rounds, |rounds| rounds.parse().unwrap());
    let mut chance = SmallRng::seed_from_u64(1);
    seeds.iter().for_each(|seed| survives(name, function, seed));
    for _ in 0..rounds {
        survives(name, function, &changed(seeds, &mut chance));
    }
}

fn survives(name: &str, function: fn(&[u8]), input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| function(input))) {
        let file = env::temp_dir().join(format!("msnb-fuzz-{name}-{}", std::process::id()));
        fs::write(&file, input).unwrap();
        eprintln!("again: MSNB_FUZZ_INPUT={} cargo test -p tests --test robustness {name}", file.display());
        resume_unwind(panic);
    }
}

/// A seed with a few changes.
fn changed(seeds: &[Vec<u8>], chance: &mut SmallRng) -> Vec<u8> {
    let any = |chance: &mut SmallRng| seeds[chance.random_range(0..seeds.len())].clone();
    let mut input = any(chance);
    for _ in 0..chance.random_range(1..=8) {
        let at = chance.random_range(0..=input.len());
        match chance.random_range(0..9) {
            0 => input.insert(at, chance.random()),
            1 => input.truncate(at),
            2 => {
                // The rest of another one: a whole frame more, or half of one.
                let other = any(chance);
                let from = if chance.random() { 0 } else { chance.random_range(0..=other.len()) };
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            3 => {
                let end = (at + chance.random_range(0..64)).min(input.len());
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            4 => input.splice(at..at, (0..chance.random_range(1..32)).map(|_| chance.random())).for_each(drop),
            5 => {
                // What lengths are made of.
                let interesting: u64 =
                    [0, 1, 15, 16, 127, 128, 255, 1 << 16, 1 << 31, u64::MAX][chance.random_range(0..10)];
                let bytes = if chance.random() { interesting.to_be_bytes() } else { interesting.to_le_bytes() };
                let width = 1 << chance.random_range(0..4);
                let bytes = if chance.random() { &bytes[..width] } else { &bytes[8 - width..] };
                bytes.iter().zip(input.iter_mut().skip(at)).for_each(|(new, old)| *old = *new);
            }
            _ => {
                let Some(byte) = input.get_mut(at) else { continue };
                *byte = if chance.random() { chance.random() } else { *byte ^ 1 << chance.random_range(0..8) };
            }
        }
    }
    input.truncate(16 << 10);
    input
}

/// Each seed under the first bytes by which a function is told what to do.
fn under<const N: usize>(prefixes: impl IntoIterator<Item = [u8; N]> + Clone, seeds: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let with = |seed: Vec<u8>| prefixes.clone().into_iter().map(move |prefix| [&prefix[..], &seed].concat());
    seeds.into_iter().flat_map(with).collect()
}

fn payloads(codec: u8) -> Vec<Vec<u8>> {
    let payloads = seeds::payloads().into_iter().filter(|(number, _)| *number == codec).map(|(_, payload)| payload);
    under((0..8).map(|kind| [kind]), payloads.collect())
}

#[test]
fn frame() {
    fuzz("frame", rpc_core_fuzz::frame, &seeds::callers(1024), 20_000);
}

#[test]
fn frame_stream() {
    let seeds = under([[0, 0], [255, 7]], seeds::callers(1024));
    fuzz("frame_stream", rpc_core_fuzz::frame_stream, &seeds, 10_000);
}

#[test]
fn packed() {
    let seeds: Vec<_> =
        seeds::packed().into_iter().map(|(compression, packed)| [&[compression - 1], &packed[..]].concat()).collect();
    fuzz("packed", rpc_core_fuzz::packed, &seeds, 2_000);
}

#[test]
fn bincode() {
    fuzz("bincode", rpc_core_fuzz::bincode, &payloads(2), 20_000);
}

#[test]
fn messagepack() {
    fuzz("messagepack", rpc_core_fuzz::messagepack, &payloads(5), 20_000);
}

#[test]
fn json() {
    fuzz("json", rpc_core_fuzz::json, &payloads(3), 20_000);
}

#[test]
fn registry_instance() {
    let announced =
        r#"{"format":1,"service":"demo.Greeter:1.0","address":"127.0.0.1:2","weight":1.0,"metadata":{"a":"b"}}"#;
    let listed = r#"[{"instanceId":"x","ip":"10.0.0.1","port":80,"weight":1.0,"healthy":true,"enabled":true,"ephemeral":true,"clusterName":"DEFAULT","serviceName":"s","metadata":{"weight":"2"}}]"#;
    let content = [announced, listed, "[::1]:80", "host:80", "127.0.0.1"];
    let seeds = under([[0], [1], [2]], content.map(Into::into).to_vec());
    fuzz("registry_instance", rpc_registry_fuzz::registry_instance, &seeds, 20_000);
}

#[test]
fn server_session() {
    let mut seeds = under([[0, 1], [1, 255], [14, 0], [16, 1]], seeds::callers(64 << 10));
    // The same after the proof of a token, which `----` stands for, and before.
    let callers = seeds::callers(64 << 10);
    seeds.extend(callers.iter().map(|seed| [b"\x1e\x01----", &seed[..]].concat()));
    seeds.extend(callers.iter().map(|seed| [b"\x1e\xff", &seed[..], b"----", seed].concat()));
    fuzz("server_session", rpc_server_fuzz::server_session, &seeds, 500);
}

#[test]
fn client_session() {
    // The ids of a client's first calls: the first generation of the first places.
    let ids: Vec<u32> = (0..6).map(|place| 1 << 20 | place).collect();
    let seeds = under([[0, 1], [4, 255], [2, 0], [57, 7], [65, 1]], seeds::callees(&ids, 64 << 10));
    fuzz("client_session", rpc_client_fuzz::client_session, &seeds, 500);
}
