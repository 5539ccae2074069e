//! [`Naming`]: the SDK's naming service, with an end to every call and an error for every failure.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::{join_all, select_ok};
use nacos_sdk::api::{
    error::Error as SdkError,
    naming::{NamingChangeEvent, NamingEventListener, NamingService, NamingServiceBuilder, ServiceInstance},
    props::ClientProps,
};
use rpc_core::{Code, Error, Instance, ServiceId};
use tokio::{net::TcpStream, time::timeout};
use tokio_util::task::TaskTracker;

use super::{
    limits, listing,
    login::{ConnectionLogin, Login},
    relay::{self, Relay},
    url::Config,
};
use crate::user_directory;

/// The longest that one call may take; the SDK's own calls wait for ever while the server is away.
pub(super) const CALL: Duration = Duration::from_secs(3);
/// The longest that the SDK may take to set up a connection. A server that has just started takes it 4.5 s and a pause.
const BUILD: Duration = Duration::from_secs(10);
/// The service that each connection subscribes to, and that nobody provides.
const STREAM_SERVICE: &str = "msnb.connection";

/// One connection to Nacos.
///
/// The last clone closes it: the server removes what was registered through it. The SDK's own tasks remain until the process ends, and
/// try to connect to the ports of its [`Relay`] from time to time. So few are made, and one that is idle is
/// [used again](super::Shared::idle).
#[derive(Clone)]
pub(super) struct Naming {
    service: NamingService,
    config: Arc<Config>,
    login: Arc<Login>,
    _relay: Arc<Relay>,
}

/// Takes the pushes for [`STREAM_SERVICE`], which say nothing.
struct Ignored;

impl NamingEventListener for Ignored {
    fn event(&self, _: Arc<NamingChangeEvent>) {}
}

impl Naming {
    /// Tries once to connect.
    ///
    /// # Errors
    ///
    /// `Unavailable` when no server accepts a connection, `Unauthenticated` when the user or the password is wrong.
    pub(super) async fn connect(config: Arc<Config>, login: Arc<Login>, tasks: &TaskTracker) -> Result<Self, Error> {
        // Asked first, because each failed attempt of the SDK takes 4.5 s and leaves a sleeping task behind for ever.
        probe(&config).await?;
        login.ensure().await?;
        let relay = Relay::start(config.servers.iter().map(|server| config.grpc(server)).collect(), tasks).await?;
        let builder = NamingServiceBuilder::new(properties(&config, &relay));
        let builder = match &config.credentials {
            Some(_) => builder.with_auth_plugin(Arc::new(ConnectionLogin::new(Arc::clone(&login), relay.ended()))),
            None => builder,
        };
        let service = match timeout(BUILD, builder.build()).await {
            Ok(Ok(service)) => service,
            Ok(Err(error)) => return Err(translate(error, &config)),
            Err(_) => {
                return Err(Error::not_executed(Code::Unavailable, "Nacos accepts connections and does not answer"));
            }
        };
        let naming = Self { service, config, login, _relay: Arc::new(relay) };
        // The SDK repeats it by itself, and what matters is refused elsewhere.
        if let Err(error) = naming.open_stream().await {
            tracing::debug!(%error, "the stream of a connection to Nacos is not opened yet");
        }
        Ok(naming)
    }

    /// Makes the server send something on the stream of this connection, by subscribing to a service that nobody provides.
    ///
    /// An official server sends the headers of that stream with its first message, and has none for a connection that only registers. The
    /// SDK notices the end of a stream at once if its headers have arrived, and else only by the silence of the [`Relay`], after 16 to 26 s.
    async fn open_stream(&self) -> Result<(), Error> {
        let listener: Arc<dyn NamingEventListener> = Arc::new(Ignored);
        let subscribe =
            || self.service.subscribe(STREAM_SERVICE.to_owned(), self.group(), Vec::new(), Arc::clone(&listener));
        self.call(subscribe).await.map(drop)
    }

    /// Lists `instance`. It may be listed later although this fails: the SDK goes on by itself.
    pub(super) async fn register(&self, service: &ServiceId, instance: &Instance) -> Result<(), Error> {
        let name = limits::service(service)?;
        let instance = listing::to_nacos(instance, self.config.cluster.as_deref())?;
        self.call(|| self.service.register_instance(name.clone(), self.group(), instance.clone())).await
    }

    /// Takes the instance at `address` off. If this fails the SDK lists it again by itself.
    pub(super) async fn deregister(&self, service: &ServiceId, address: SocketAddr) -> Result<(), Error> {
        let name = limits::service(service)?;
        let instance = listing::place(address, self.config.cluster.as_deref());
        self.call(|| self.service.deregister_instance(name.clone(), self.group(), instance.clone())).await
    }

    /// What the server lists now. It is asked, not the SDK's cache, which says "none" when a call fails.
    pub(super) async fn list(&self, service: &ServiceId) -> Result<Vec<ServiceInstance>, Error> {
        let name = limits::service(service)?;
        self.call(|| self.service.get_all_instances(name.clone(), self.group(), self.clusters(), false)).await
    }

    /// Has the SDK tell `listener` when the list changes. The SDK does not say whether the server agreed.
    pub(super) async fn subscribe(
        &self,
        service: &ServiceId,
        listener: Arc<dyn NamingEventListener>,
    ) -> Result<(), Error> {
        let name = limits::service(service)?;
        self.call(|| self.service.subscribe(name.clone(), self.group(), self.clusters(), Arc::clone(&listener))).await
    }

    /// Ends what [`subscribe`](Self::subscribe) began.
    pub(super) async fn unsubscribe(
        &self,
        service: &ServiceId,
        listener: Arc<dyn NamingEventListener>,
    ) -> Result<(), Error> {
        let name = limits::service(service)?;
        self.call(|| self.service.unsubscribe(name.clone(), self.group(), self.clusters(), Arc::clone(&listener))).await
    }

    /// Calls, and once more after a new login when the server does not know the caller.
    async fn call<T, F>(&self, call: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, SdkError>>,
    {
        match self.call_once(&call).await {
            Err(error) if is_refusal(&error) && self.config.credentials.is_some() => {
                self.login.renew().await?;
                self.call_once(&call).await
            }
            done => done,
        }
    }

    async fn call_once<T, F>(&self, call: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, SdkError>>,
    {
        match timeout(CALL, call()).await {
            Ok(done) => done.map_err(|error| translate(error, &self.config)),
            Err(_) => Err(Error::not_executed(Code::Unavailable, format!("{} does not answer", self.config))),
        }
    }

    fn group(&self) -> Option<String> {
        Some(self.config.group.clone())
    }

    fn clusters(&self) -> Vec<String> {
        self.config.cluster.iter().cloned().collect()
    }
}

/// Whether Nacos said no to this caller, rather than nothing.
pub(super) fn is_refusal(error: &Error) -> bool {
    matches!(error.code(), Code::Unauthenticated | Code::PermissionDenied)
}

/// Finds out whether any server accepts a connection.
async fn probe(config: &Config) -> Result<(), Error> {
    let attempts = config.servers.iter().map(|server| {
        let server = config.grpc(server);
        Box::pin(async move {
            match timeout(relay::CONNECT, TcpStream::connect(server.to_string())).await {
                Ok(connected) => connected.map(drop),
                Err(elapsed) => Err(std::io::Error::new(std::io::ErrorKind::TimedOut, elapsed)),
            }
        })
    });
    select_ok(attempts).await.map(|_| ()).map_err(|cause| {
        Error::not_executed(Code::Unavailable, format!("{config} cannot be reached")).with_source(cause)
    })
}

fn properties(config: &Config, relay: &Relay) -> ClientProps {
    ClientProps::new()
        .server_addr(relay.servers())
        .namespace(&config.namespace)
        .app_name("msnb")
        // The URL is what counts, not variables that happen to be set.
        .env_first(false)
        // Else an empty list would be swallowed.
        .naming_push_empty_protection(false)
        // It is written always and read never.
        .cache_dir(cache_directory())
}

/// Where the SDK writes what it sees: in this user's own directory; and where that cannot be trusted, in one that nobody can guess.
fn cache_directory() -> PathBuf {
    let own = user_directory::path();
    match user_directory::create(&own).and_then(|()| user_directory::check_private(&own)) {
        Ok(()) => own.join("nacos"),
        Err(_) => std::env::temp_dir().join(format!("msnb-nacos-{:032x}", rand::random::<u128>())),
    }
}

/// The SDK's error as ours.
fn translate(error: SdkError, config: &Config) -> Error {
    let code = match &error {
        SdkError::InvalidParam(..) | SdkError::WrongServerAddress(_) => Code::InvalidArgument,
        SdkError::ErrResponse(_, _, 401 | 403, _) => refused(config),
        // The SDK puts the server's answer into a text, in which the code has to be looked for.
        SdkError::ErrResult(words) if words.contains("error_code=403") || words.contains("error_code=401") => {
            refused(config)
        }
        _ => Code::Unavailable,
    };
    let message = match (code, config.username()) {
        (Code::InvalidArgument, _) => "Nacos rejects this request as invalid".to_owned(),
        (Code::PermissionDenied, Some(user)) => format!("Nacos does not allow this to the user `{user}`"),
        (Code::Unauthenticated, _) => {
            "Nacos requires a login: add the parameters `username` and `password` to its URL".to_owned()
        }
        _ => format!("a request to {config} failed"),
    };
    Error::not_executed(code, message).with_source(error)
}

fn refused(config: &Config) -> Code {
    if config.credentials.is_some() { Code::PermissionDenied } else { Code::Unauthenticated }
}

/// Resolves the servers, all at once; those whose names are not known are left out.
pub(super) async fn resolve(config: &Config) -> Vec<SocketAddr> {
    let resolved = join_all(config.servers.iter().map(|server| server.resolve())).await;
    resolved.into_iter().flatten().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_an_outage() {
        let anonymous = Config::parse("nacos://a").unwrap();
        let known = Config::parse("nacos://a?username=bo&password=hunter2").unwrap();
        let refusals = || {
            [
                SdkError::ErrResponse(None, 500, 403, Some("unknown user!".to_owned())),
                SdkError::ErrResult(
                    "handle register failed: result_code=500, error_code=403, message=no right".to_owned(),
                ),
            ]
        };
        for error in refusals() {
            let error = translate(error, &known);
            assert_eq!(error.code(), Code::PermissionDenied);
            assert!(error.to_string().contains("`bo`") && !format!("{error:?}").contains("hunter2"), "{error:?}");
        }
        for error in refusals() {
            assert_eq!(translate(error, &anonymous).code(), Code::Unauthenticated);
        }
        let away = SdkError::ErrResult("the connection is not connected".to_owned());
        assert_eq!(translate(away, &known).code(), Code::Unavailable);
        assert_eq!(translate(SdkError::ErrResponse(None, 500, 301, None), &known).code(), Code::Unavailable);
    }
}
