//! [`Pool`]: the connections to one provider.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rpc_core::{Code, Error, Phase};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{Instant, timeout},
};

use super::config::HttpCallerConfig;

/// The connections to one provider.
#[derive(Debug)]
pub(super) struct Pool {
    address: SocketAddr,
    connect_timeout: Duration,
    idle_time: Duration,
    places: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The unused connections and the times of their last use, the latest last.
    idle: Vec<(SendRequest<Full<Bytes>>, Instant)>,
    /// The tasks of the connections.
    tasks: JoinSet<()>,
}

/// A connection for one call. It occupies a place until it is dropped.
#[derive(Debug)]
pub(super) struct Pooled {
    pub(super) sender: SendRequest<Full<Bytes>>,
    _place: OwnedSemaphorePermit,
}

impl Pool {
    pub(super) fn new(address: SocketAddr, config: &HttpCallerConfig) -> Self {
        let &HttpCallerConfig { connect_timeout, idle_time, max_connections, .. } = config;
        let places = Arc::new(Semaphore::new(max_connections.max(1)));
        Self { address, connect_timeout, idle_time, places, state: Mutex::default() }
    }

    /// Returns an unused connection, or opens one. Waits for a place.
    ///
    /// # Errors
    ///
    /// `Unavailable`; nothing was sent.
    pub(super) async fn connection(&self) -> Result<Pooled, Error> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|_| self.unavailable("the caller is closed"))?;
        let known = self.take_idle();
        let sender = match known {
            Some(sender) => sender,
            None => self.open().await?,
        };
        Ok(Pooled { sender, _place: place })
    }

    /// Keeps a connection for a later call.
    pub(super) fn keep(&self, pooled: Pooled) {
        let Pooled { sender, .. } = pooled;
        if !sender.is_closed() {
            self.lock().idle.push((sender, Instant::now()));
        }
    }

    fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        let now = Instant::now();
        let mut state = self.lock();
        state.idle.retain(|(sender, used)| !sender.is_closed() && now.duration_since(*used) < self.idle_time);
        while state.tasks.try_join_next().is_some() {}
        let at = state.idle.iter().rposition(|(sender, _)| sender.is_ready())?;
        Some(state.idle.remove(at).0)
    }

    async fn open(&self) -> Result<SendRequest<Full<Bytes>>, Error> {
        let opened = timeout(self.connect_timeout, async {
            let stream = TcpStream::connect(self.address).await.map_err(|error| error.to_string())?;
            stream.set_nodelay(true).map_err(|error| error.to_string())?;
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())
        });
        let (sender, connection) = match opened.await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return Err(self.unavailable(&format!("cannot connect: {error}"))),
            Err(_) => {
                let detail =
                    format!("not connected within {:?} (HttpCallerConfig::connect_timeout)", self.connect_timeout);
                return Err(self.unavailable(&detail));
            }
        };
        self.lock().tasks.spawn(async move {
            // The call reports the error.
            let _ = connection.await;
        });
        Ok(sender)
    }

    fn unavailable(&self, detail: &str) -> Error {
        let error = Error::not_executed(Code::Unavailable, format!("{}: {detail}", self.address));
        error.with_peer(self.address).with_phase(Phase::Connect)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
