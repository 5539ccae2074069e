//! [`Credentials`]: the credentials that a server accepts; [`Proved`]: those that a peer has proved.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

#[cfg(feature = "tls")]
use rpc_core::tls::{LoadedServerTls, PeerCertificate};
use rpc_core::{AcceptedTokens, ProvedToken};

/// The credentials that a server accepts.
#[derive(Debug, Default)]
pub(crate) struct Credentials {
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<LoadedServerTls>,
    pub(crate) tokens: Option<AcceptedTokens>,
    /// The version of the files that the connections were notified of.
    version: AtomicU64,
}

/// The credentials that a peer has proved, for a check after the accepted ones have changed.
#[derive(Debug, Default)]
pub(crate) struct Proved {
    pub(crate) token: Option<ProvedToken>,
    #[cfg(feature = "tls")]
    pub(crate) certificate: Option<PeerCertificate>,
    /// The version at the latest check, or an earlier one.
    version: u64,
}

impl Proved {
    /// Returns the record of a caller on the same connection that has also presented a token.
    pub(crate) fn with_token(&self, token: Option<ProvedToken>) -> Self {
        Self {
            token,
            #[cfg(feature = "tls")]
            certificate: self.certificate.clone(),
            version: self.version,
        }
    }
}

impl Credentials {
    pub(crate) fn new(tokens: Option<AcceptedTokens>) -> Self {
        Self { tokens, ..Self::default() }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn with_tls(self, tls: Option<LoadedServerTls>) -> Self {
        Self { tls, ..self }
    }

    /// Returns whether the server requires neither TLS nor a token.
    pub(crate) fn is_empty(&self) -> bool {
        self.tokens.is_none() && !self.is_encrypted()
    }

    /// Returns whether the server requires TLS.
    pub(crate) fn is_encrypted(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    /// Returns the record of a peer whose handshake begins.
    pub(crate) fn nothing_proved(&self) -> Proved {
        Proved { version: self.version.load(Ordering::Acquire), ..Proved::default() }
    }

    /// Returns whether everything that a peer has proved is still accepted.
    ///
    /// Costs one load unless the files have changed.
    pub(crate) fn accepts(&self, proved: &mut Proved) -> bool {
        let version = self.version.load(Ordering::Acquire);
        if version == proved.version {
            return true;
        }
        proved.version = version;
        let token = self.tokens.as_ref().zip(proved.token.as_ref());
        token.is_none_or(|(tokens, token)| tokens.accepts(token)) && self.accepts_certificate(proved)
    }

    #[cfg(feature = "tls")]
    fn accepts_certificate(&self, proved: &Proved) -> bool {
        let certificate = self.tls.as_ref().zip(proved.certificate.as_ref());
        certificate.is_none_or(|(tls, certificate)| tls.accepts(certificate))
    }

    #[cfg(not(feature = "tls"))]
    fn accepts_certificate(&self, _: &Proved) -> bool {
        true
    }

    /// Checks the files every second until they have changed. Never returns if there are none.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub(crate) async fn until_changed(&self) {
        if !self.is_reloadable() {
            std::future::pending::<()>().await;
        }
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            self.refresh().await;
            let version = self.loaded_version();
            if self.version.swap(version, Ordering::AcqRel) != version {
                return;
            }
        }
    }

    async fn refresh(&self) {
        if let Some(tokens) = &self.tokens {
            tokens.refresh().await;
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            tls.refresh().await;
        }
    }

    fn is_reloadable(&self) -> bool {
        let tokens = self.tokens.as_ref().is_some_and(AcceptedTokens::is_reloadable);
        #[cfg(feature = "tls")]
        return tokens || self.tls.as_ref().is_some_and(LoadedServerTls::requires_certificate);
        #[cfg(not(feature = "tls"))]
        tokens
    }

    fn loaded_version(&self) -> u64 {
        let tokens = self.tokens.as_ref().map_or(0, AcceptedTokens::version);
        #[cfg(feature = "tls")]
        return tokens + self.tls.as_ref().map_or(0, LoadedServerTls::version);
        #[cfg(not(feature = "tls"))]
        tokens
    }
}

/// The interval between two checks of the files for the connections that are open.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
