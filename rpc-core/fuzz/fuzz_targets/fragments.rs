//! The libFuzzer target of [`rpc_core_fuzz::fragments`].

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| rpc_core_fuzz::fragments(input));
