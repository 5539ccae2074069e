//! [`FaultPeer`]: the compared frameworks, each configured for two providers as its documentation recommends.

mod msnb;
#[cfg(feature = "compare")]
mod tarpc;
#[cfg(feature = "compare")]
mod tonic;
#[cfg(feature = "compare")]
mod volo;

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::caller::Caller;
use crate::failure::Failure;

/// An implementation of the service and its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FaultPeer {
    /// msnb with its defaults.
    Msnb,
    /// tonic with a balanced channel, timeouts and keep-alive; it has no retries.
    #[cfg(feature = "compare")]
    Tonic,
    /// tarpc with its stubs for round robin and retries; it does not reconnect.
    #[cfg(feature = "compare")]
    Tarpc,
    /// volo-thrift with a list of addresses, timeouts and two retries.
    #[cfg(feature = "compare")]
    Volo,
}

impl FaultPeer {
    /// Serves until SIGTERM.
    pub(super) async fn serve(self, listener: TcpListener) -> Result<(), Failure> {
        match self {
            Self::Msnb => msnb::serve(listener).await,
            #[cfg(feature = "compare")]
            Self::Tonic => tonic::serve(listener).await,
            #[cfg(feature = "compare")]
            Self::Tarpc => tarpc::serve(listener).await,
            #[cfg(feature = "compare")]
            Self::Volo => volo::serve(listener).await,
        }
    }

    /// Creates a client of two providers.
    pub(super) async fn connect(self, providers: [SocketAddr; 2]) -> Result<Caller, Failure> {
        match self {
            Self::Msnb => msnb::connect(providers).await,
            #[cfg(feature = "compare")]
            Self::Tonic => tonic::connect(providers),
            #[cfg(feature = "compare")]
            Self::Tarpc => tarpc::connect(providers).await,
            #[cfg(feature = "compare")]
            Self::Volo => Ok(volo::connect(providers)),
        }
    }
}
