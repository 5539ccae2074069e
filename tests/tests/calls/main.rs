//! Behaviour of calls between clients and servers through the public API.

#![expect(clippy::unwrap_used, reason = "a panic reports the failing line")]

mod access_rules;
mod adaptive_limit;
mod admin;
mod balancing;
mod call_timeouts;
mod compression;
mod connections;
mod contracts;
mod deadlines;
mod deploy;
mod drain;
mod encoding;
mod ended_watches;
mod endpoints;
mod eviction;
mod failing_log;
mod fair_share;
mod futures;
mod grpc;
mod hedges;
mod http;
mod http2;
mod identity;
mod late_answers;
mod layers;
mod limits;
mod log_sinks;
mod long_frames;
mod long_work;
mod metrics;
mod monitor_port;
mod msnb;
mod once;
mod once_calls;
mod once_contracts;
mod once_rejections;
mod one_way;
#[cfg(feature = "opentelemetry")]
mod opentelemetry;
mod outliers;
mod overload;
mod policies;
mod processes;
mod programs;
mod rate_limits;
mod reconnects;
mod region;
mod registration;
mod relayed_status;
mod resumed_streams;
mod revoked;
mod routes;
mod routing;
mod runtimes;
mod server_threads;
mod starved_client;
mod statuses;
mod stored_list;
mod streams;
mod subsets;
mod tag_chain;
mod tls;
mod tracing;
mod unary;
mod uncopied;
mod undecodable;
mod waiting_calls;
mod warm_up;

use rpc_client::Client;

/// Returns a client without a registry, whose calls state addresses.
fn caller() -> Client {
    Client::builder().config(tests::patient()).build().expect("the default config is valid")
}
