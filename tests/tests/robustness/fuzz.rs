//! Runs the functions of the `fuzz` folders with seeds, mutated seeds and random bytes.
//!
//! These tests take seconds on every toolchain; docs/SECURITY.md describes longer runs with libFuzzer.
//!
//! - `MSNB_FUZZ_ROUNDS` sets the number of inputs of each function.
//! - `MSNB_FUZZ_CORPUS` names a directory; the tests write the seeds to it and run no input.
//! - `MSNB_FUZZ_INPUT` names a file that is the only input.

#[path = "../../../rpc-client/fuzz/lib.rs"]
#[allow(unreachable_pub, reason = "cargo-fuzz compiles the file as a separate crate")]
mod rpc_client_fuzz;
#[path = "../../../rpc-core/fuzz/lib.rs"]
#[allow(unreachable_pub, reason = "cargo-fuzz compiles the file as a separate crate")]
mod rpc_core_fuzz;
#[path = "../../../rpc-registry/fuzz/lib.rs"]
#[allow(unreachable_pub, reason = "cargo-fuzz compiles the file as a separate crate")]
mod rpc_registry_fuzz;
#[path = "../../../rpc-server/fuzz/lib.rs"]
#[allow(unreachable_pub, reason = "cargo-fuzz compiles the file as a separate crate")]
pub(crate) mod rpc_server_fuzz;

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::PathBuf,
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tests::seeds;

/// Runs `function` with all seeds and `rounds` mutated inputs.
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
    let mut rng = SmallRng::seed_from_u64(1);
    seeds.iter().for_each(|seed| run_input(name, function, seed));
    for _ in 0..rounds {
        run_input(name, function, &mutated(seeds, &mut rng));
    }
}

fn run_input(name: &str, function: fn(&[u8]), input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| function(input))) {
        let file = env::temp_dir().join(format!("msnb-fuzz-{name}-{}", std::process::id()));
        fs::write(&file, input).unwrap();
        eprintln!("replay: MSNB_FUZZ_INPUT={} cargo test -p tests --test robustness {name}", file.display());
        resume_unwind(panic);
    }
}

/// Returns a seed with one to eight random changes.
fn mutated(seeds: &[Vec<u8>], rng: &mut SmallRng) -> Vec<u8> {
    let any = |rng: &mut SmallRng| seeds[rng.random_range(0..seeds.len())].clone();
    let mut input = any(rng);
    for _ in 0..rng.random_range(1..=8) {
        let at = rng.random_range(0..=input.len());
        match rng.random_range(0..9) {
            0 => input.insert(at, rng.random()),
            1 => input.truncate(at),
            2 => {
                // Continue with another seed, from its start or from its middle.
                let other = any(rng);
                let from = if rng.random() { 0 } else { rng.random_range(0..=other.len()) };
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            3 => {
                let end = (at + rng.random_range(0..64)).min(input.len());
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            4 => input.splice(at..at, (0..rng.random_range(1..32)).map(|_| rng.random())).for_each(drop),
            5 => {
                // Boundary values of length fields.
                let interesting: u64 =
                    [0, 1, 15, 16, 127, 128, 255, 1 << 16, 1 << 31, u64::MAX][rng.random_range(0..10)];
                let bytes = if rng.random() { interesting.to_be_bytes() } else { interesting.to_le_bytes() };
                let width = 1 << rng.random_range(0..4);
                let bytes = if rng.random() { &bytes[..width] } else { &bytes[8 - width..] };
                bytes.iter().zip(input.iter_mut().skip(at)).for_each(|(new, old)| *old = *new);
            }
            _ => {
                let Some(byte) = input.get_mut(at) else { continue };
                *byte = if rng.random() { rng.random() } else { *byte ^ 1 << rng.random_range(0..8) };
            }
        }
    }
    input.truncate(16 << 10);
    input
}

/// Returns each seed with each prefix; the functions read options from the first bytes.
fn with_prefixes<const N: usize>(
    prefixes: impl IntoIterator<Item = [u8; N]> + Clone,
    seeds: Vec<Vec<u8>>,
) -> Vec<Vec<u8>> {
    let with = |seed: Vec<u8>| prefixes.clone().into_iter().map(move |prefix| [&prefix[..], &seed].concat());
    seeds.into_iter().flat_map(with).collect()
}

fn payloads(codec: u8) -> Vec<Vec<u8>> {
    let payloads = seeds::payloads().into_iter().filter(|(number, _)| *number == codec).map(|(_, payload)| payload);
    with_prefixes((0..8).map(|kind| [kind]), payloads.collect())
}

#[test]
fn frame() {
    fuzz("frame", rpc_core_fuzz::frame, &seeds::caller_sessions(1024), 20_000);
}

#[test]
fn frame_stream() {
    let seeds = with_prefixes([[0, 0], [255, 7]], seeds::caller_sessions(1024));
    fuzz("frame_stream", rpc_core_fuzz::frame_stream, &seeds, 10_000);
}

#[test]
fn fragments() {
    let sessions = [seeds::fragmented_calls(), seeds::fragmented_answers(&[1, 2, 3, 4]), seeds::golden()].concat();
    fuzz("fragments", rpc_core_fuzz::fragments, &with_prefixes([[0, 0], [255, 7]], sessions), 3_000);
}

#[test]
fn packed() {
    let seeds: Vec<_> = seeds::compressed()
        .into_iter()
        .map(|(compression, packed)| [&[compression - 1], &packed[..]].concat())
        .collect();
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
    let seeds = with_prefixes([[0], [1], [2]], content.map(Into::into).to_vec());
    fuzz("registry_instance", rpc_registry_fuzz::registry_instance, &seeds, 20_000);
}

#[test]
fn server_session() {
    let sessions = [seeds::caller_sessions(64 << 10), seeds::fragmented_calls()].concat();
    let mut seeds = with_prefixes([[0, 1], [1, 255], [14, 0], [16, 1]], sessions);
    // The same sessions after and before the proof of a token, which replaces `----`.
    let callers = seeds::caller_sessions(64 << 10);
    seeds.extend(callers.iter().map(|seed| [b"\x1e\x01----", &seed[..]].concat()));
    seeds.extend(callers.iter().map(|seed| [b"\x1e\xff", &seed[..], b"----", seed].concat()));
    fuzz("server_session", rpc_server_fuzz::server_session, &seeds, 500);
}

#[test]
fn client_session() {
    // The ids of a client's first calls: generation 1 of the first slots.
    let ids: Vec<u32> = (0..8).map(|slot| 1 << 20 | slot).collect();
    let sessions = [seeds::callee_sessions(&ids, 64 << 10), seeds::fragmented_answers(&ids)].concat();
    let seeds = with_prefixes([[0, 1], [4, 255], [2, 0], [57, 7], [65, 1]], sessions);
    fuzz("client_session", rpc_client_fuzz::client_session, &seeds, 500);
}
