//! Registry option, logging, shutdown signal and error type of the binaries.

use std::{env, error::Error, fmt};

use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// The registry through which services are discovered.
#[derive(Debug, Clone, clap::Args)]
pub struct RegistryArgs {
    /// The registry: `local:`, `local:/dir`, `nacos://host:8848?namespace=&group=&username=&password=`,
    /// `fixed:host:port,host:port`.
    #[arg(
        long = "registry",
        value_name = "URL",
        env = "MSNB_REGISTRY",
        hide_env_values = true,
        default_value = "local:"
    )]
    pub url: String,
}

/// Logs to stderr, filtered by `RUST_LOG` or, if it is not set, by `default`.
///
/// The default filter disables the Nacos SDK, which logs failed connection attempts as errors, and whole instance
/// lists.
pub fn log_to_stderr(default: &str) {
    let from_environment = env::var("RUST_LOG").ok().and_then(|directives| directives.parse::<Targets>().ok());
    let filter = from_environment
        .unwrap_or_else(|| format!("{default},nacos_sdk=off").parse().expect("the default is a level of tracing"));
    let stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry().with(stderr).with(filter).init();
}

/// Resolves when the process receives Ctrl-C or, on Unix, SIGTERM.
pub async fn shutdown_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let (Ok(mut terminate), Ok(mut interrupt)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        {
            // Cancel-safe: the process ends after the first signal.
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            return;
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        // If the signal handler cannot be installed, only SIGKILL ends the process.
        std::future::pending::<()>().await;
    }
}

/// The error type of `main`.
///
/// Rust prints the `Debug` form of an error that `main` returns, so `Debug` prints the message and its causes.
pub struct Failure(Box<dyn Error + Send + Sync>);

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let (mut printed, mut cause) = (self.0.to_string(), self.0.source());
        while let Some(error) = cause {
            let next = error.to_string();
            // Skip a cause that the message already contains.
            if !printed.contains(&next) {
                write!(f, ": {next}")?;
            }
            (printed, cause) = (next, error.source());
        }
        Ok(())
    }
}
