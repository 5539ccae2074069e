//! Runs [`rpc_server_fuzz::server_session`] under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| rpc_server_fuzz::server_session(input));
