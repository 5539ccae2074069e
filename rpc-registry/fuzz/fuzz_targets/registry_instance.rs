//! The libFuzzer entry point of [`rpc_registry_fuzz::registry_instance`].

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| rpc_registry_fuzz::registry_instance(input));
