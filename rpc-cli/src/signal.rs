//! [`shutdown_signal`]: the end of a program.

/// Returns a future that resolves when the process receives Ctrl-C or, on Unix, SIGTERM.
///
/// Pass it to `Server::run_until`. On Unix this function installs the signal handlers: from then on, neither signal ends the
/// process by itself. Call it before the program reports that it is ready. If the handlers cannot be installed, the
/// future never resolves, and only SIGKILL ends the process.
///
/// # Panics
///
/// Panics outside of a Tokio runtime with its I/O driver enabled.
///
/// # Cancel safety
///
/// Safe to drop at any time. The handlers stay installed.
pub fn shutdown_signal() -> impl Future<Output = ()> + Send + 'static {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (terminate, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
        async move {
            let (Ok(mut terminate), Ok(mut interrupt)) = (terminate, interrupt) else {
                return std::future::pending().await;
            };
            // Cancel-safe: the process ends after the first signal.
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
    }
    #[cfg(not(unix))]
    async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
