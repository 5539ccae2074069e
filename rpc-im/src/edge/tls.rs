//! [`EdgeTls`]: TLS at the port for clients, with a certificate that is read again when it changes.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rpc_core::contained;
use tokio::{net::TcpStream, time::Instant};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        version::TLS13,
    },
    server::TlsStream,
};
use tracing::{info, warn};

use crate::files;

/// The certificate of a node for its clients, and its private key, each in a PEM file.
///
/// Intermediate certificates may follow the certificate in its file. Only TLS 1.3 is supported. The node checks the
/// files at most once a second when a client connects, and uses changed ones for the next connections. If changed files
/// are unusable, it logs a warning and keeps the previous certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeTls {
    /// The certificate file.
    pub certificate: PathBuf,
    /// The key file.
    pub key: PathBuf,
}

/// Accepts TLS connections with the latest certificate.
pub(super) struct Acceptor {
    files: EdgeTls,
    state: Mutex<State>,
}

struct State {
    config: Arc<ServerConfig>,
    /// The files at the last check, or the reason why they could not be read.
    seen: Result<Contents, String>,
    check_at: Instant,
}

/// The contents of the certificate file and of the key file.
type Contents = (Vec<u8>, Vec<u8>);

impl Acceptor {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// Returns an error that names the file if it cannot be read, or that states why the files are unusable.
    pub(super) fn new(files: EdgeTls) -> io::Result<Arc<Self>> {
        let contents = files.read()?;
        let config = configure(&contents)?;
        files::warn_if_accessible(&files.key);
        let check_at = Instant::now() + CHECK_INTERVAL;
        Ok(Arc::new(Self { files, state: Mutex::new(State { config, seen: Ok(contents), check_at }) }))
    }

    /// Performs the handshake. The caller limits its time.
    ///
    /// # Errors
    ///
    /// The client is at fault, or its connection failed.
    pub(super) async fn accept(self: &Arc<Self>, stream: TcpStream) -> io::Result<Box<TlsStream<TcpStream>>> {
        if self.is_due() {
            let this = Arc::clone(self);
            // The previous certificate stays in use after a panic.
            let _ = tokio::task::spawn_blocking(move || this.check()).await;
        }
        let config = Arc::clone(&self.state().config);
        Ok(Box::new(TlsAcceptor::from(config).accept(stream).await?))
    }

    /// Returns whether this caller has to check the files. Others use the present certificate.
    fn is_due(&self) -> bool {
        let (mut state, now) = (self.state(), Instant::now());
        let is_due = now >= state.check_at;
        if is_due {
            state.check_at = now + CHECK_INTERVAL;
        }
        is_due
    }

    fn check(&self) {
        let seen = self.files.read().map_err(|error| error.to_string());
        if seen == self.state().seen {
            return;
        }
        let usable = seen.as_ref().map_err(String::clone);
        let config = usable.and_then(|contents| configure(contents).map_err(|error| error.to_string()));
        self.state().seen = seen;
        let files = &self.files;
        match config {
            Ok(config) => {
                self.state().config = config;
                files::warn_if_accessible(&files.key);
                contained(|| info!(?files, "the certificate for clients was reloaded"));
            }
            // The key may be written shortly after its certificate: the next change is checked again.
            Err(error) => {
                contained(|| warn!(error, ?files, "changed files are unusable, the previous certificate stays in use"));
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EdgeTls {
    fn read(&self) -> io::Result<Contents> {
        let named = |path: &PathBuf, error: io::Error| {
            io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()))
        };
        let certificate = files::read(&self.certificate).map_err(|error| named(&self.certificate, error))?;
        let key = files::read(&self.key).map_err(|error| named(&self.key, error))?;
        Ok((certificate, key))
    }
}

fn configure((certificate, key): &Contents) -> io::Result<Arc<ServerConfig>> {
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.map_err(|error| invalid(format!("the certificate file is invalid: {error}")))?;
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|error| invalid(format!("the key file is invalid: {error}")))?;
    let mismatch = |error: rustls::Error| invalid(format!("the certificate and the key are unusable: {error}"));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(mismatch)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(mismatch)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The minimum time between two checks of the files.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
