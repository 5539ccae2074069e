//! What every binary needs: its registry, its log, its end.

use std::{env, error::Error, fmt};

use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// Where services find each other.
#[derive(Debug, Clone, clap::Args)]
pub struct RegistryArgs {
    /// The registry: `local:`, `local:/dir`, `nacos://host:8848?namespace=&group=&username=&password=`,
    /// `fixed:host:port,host:port`
    #[arg(
        long = "registry",
        value_name = "URL",
        env = "MSNB_REGISTRY",
        hide_env_values = true,
        default_value = "local:"
    )]
    pub url: String,
}

/// Logs to stderr what `RUST_LOG` says, else `default` and nothing of the Nacos SDK: it logs attempts to connect as errors, and whole lists.
pub fn log_to_stderr(default: &str) {
    let from_environment = env::var("RUST_LOG").ok().and_then(|directives| directives.parse::<Targets>().ok());
    let filter = from_environment.unwrap_or_else(|| {
        format!("{default},nacos_sdk=off").parse().expect("the default level is one that tracing has")
    });
    let stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry().with(stderr).with(filter).init();
}

/// Resolves when the process is asked to end: by Ctrl-C or, on Unix, SIGTERM.
pub async fn stopped_by_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let (Ok(mut terminate), Ok(mut interrupt)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        {
            // Dropping the other loses nothing: the process ends.
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            return;
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        // Without signals only a kill ends the process.
        std::future::pending::<()>().await;
    }
}

/// Why a binary ends before its time. What `main` returns is shown to a person, so its Debug is the message and its causes.
pub struct Failure(Box<dyn Error + Send + Sync>);

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let (mut said, mut cause) = (self.0.to_string(), self.0.source());
        while let Some(error) = cause {
            let next = error.to_string();
            // A message may quote its cause already.
            if !said.contains(&next) {
                write!(f, ": {next}")?;
            }
            (said, cause) = (next, error.source());
        }
        Ok(())
    }
}
