//! Behaviour under invalid input, hostile or slow peers, and faults of the network and of processes.

#![expect(clippy::unwrap_used, reason = "a panic reports the failing line")]

mod attack_mix;
mod bad_answers;
mod bad_frames;
mod bad_streams;
mod bincode_bytes;
mod clocks;
mod fuzz;
mod golden;
mod hostile_grpc;
mod hostile_payloads;
mod hostile_peers;
mod http;
mod http_attacks;
mod network_faults;
mod payload_tables;
mod protocol_vectors;
mod provider_faults;
mod python_client;
mod routing_faults;
mod shared_http2;
mod simulation;
