//! [`log_to_stderr`]: the log of a program.

use std::env;

use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// Logs to stderr, filtered by `RUST_LOG` or, if it is not set or invalid, by the level `default`.
///
/// `RUST_LOG` is a list of `target=level` or levels: `info,rpc_client=debug`. The default filter disables the Nacos SDK,
/// which logs failed connection attempts as errors, and whole instance lists.
///
/// msnb logs no secrets and no payloads at any level. Two libraries do, tungstenite at level trace and the Nacos SDK at
/// level debug: these levels stay disabled, whatever `RUST_LOG` contains.
///
/// If stderr cannot be written, for instance because its disk is full, lines are lost and the program continues.
///
/// # Panics
///
/// Panics if `default` is not a filter, and if the program has set another global subscriber.
pub fn log_to_stderr(default: &str) {
    let from_environment = env::var("RUST_LOG").ok().and_then(|directives| directives.parse::<Targets>().ok());
    let filter = from_environment
        .unwrap_or_else(|| format!("{default},nacos_sdk=off").parse().expect("the default is a level of tracing"));
    // The layer would report its own errors to stderr, and panic if stderr cannot be written.
    let stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    let without_secrets = Targets::new()
        .with_default(LevelFilter::TRACE)
        .with_target("nacos_sdk", LevelFilter::INFO)
        .with_target("tungstenite", LevelFilter::DEBUG);
    tracing_subscriber::registry().with(stderr).with(filter).with(without_secrets).init();
}
