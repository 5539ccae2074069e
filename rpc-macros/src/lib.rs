//! `#[rpc_service]`.
