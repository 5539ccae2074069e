//! The libFuzzer entry point of [`rpc_client_fuzz::client_session`].

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| rpc_client_fuzz::client_session(input));
