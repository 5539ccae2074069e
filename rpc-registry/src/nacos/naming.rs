//! [`Naming`]: the SDK's naming service, with time limits and errors.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::{join_all, select_ok};
use nacos_sdk::api::{
    error::Error as SdkError,
    naming::{NamingChangeEvent, NamingEventListener, NamingService, NamingServiceBuilder, ServiceInstance},
    props::ClientProps,
};
use rpc_core::{Code, Error, Instance, ServiceId, files};
use tokio::{net::TcpStream, time::timeout};

use super::{
    limits, listing,
    login::{ConnectionLogin, Login},
    relay::{self, Relay},
    url::Config,
};
use crate::{supervision::log, tasks::Tasks, user_directory};

/// The time limit of one request; the SDK itself waits forever while the server is unavailable.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// The time limit for the SDK to set up a connection.
///
/// With a server that has just started it needs 4.5 s and a pause.
pub(super) const SETUP_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest number of services that are listed.
const MAX_SERVICES: i32 = 10_000;
/// The number of services that one request lists.
const SERVICES_PER_PAGE: i32 = 1000;
/// The service that each connection subscribes to. It has no providers.
const STREAM_SERVICE: &str = "msnb.connection";

/// A connection to Nacos.
///
/// Dropping the last clone closes it, and the server removes the instances that were registered through it. The SDK's
/// own tasks remain until the process ends, and periodically try to connect to the ports of the [`Relay`]. Connections
/// are therefore few, and idle ones are reused.
#[derive(Clone)]
pub(super) struct Naming {
    service: NamingService,
    config: Arc<Config>,
    login: Arc<Login>,
    relay: Arc<Relay>,
}

/// Ignores the pushes for [`STREAM_SERVICE`], which carry no information.
struct NoopListener;

impl NamingEventListener for NoopListener {
    fn event(&self, _: Arc<NamingChangeEvent>) {}
}

impl Naming {
    /// Tries once to connect.
    ///
    /// # Errors
    ///
    /// `Unavailable` if no server accepts a connection, `Unauthenticated` if the user or the password is wrong.
    pub(super) async fn connect(config: Arc<Config>, login: Arc<Login>, tasks: &Tasks) -> Result<Self, Error> {
        // Checked first, because each failed attempt of the SDK takes 4.5 s and leaves a sleeping task behind forever.
        check_reachable(&config).await?;
        login.ensure().await?;
        let relay = Relay::start(config.servers.iter().map(|server| config.grpc(server)).collect(), tasks).await?;
        let builder = NamingServiceBuilder::new(properties(&config, &relay));
        let builder = match &config.credentials {
            Some(_) => builder.with_auth_plugin(Arc::new(ConnectionLogin::new(Arc::clone(&login), relay.ended()))),
            None => builder,
        };
        let service = match timeout(SETUP_TIMEOUT, builder.build()).await {
            Ok(Ok(service)) => service,
            Ok(Err(error)) => return Err(translate(error, &config)),
            Err(_) => {
                let message = format!("no answer from {config} on a new connection within {SETUP_TIMEOUT:?}");
                return Err(Error::not_executed(Code::Unavailable, message));
            }
        };
        let naming = Self { service, config, login, relay: Arc::new(relay) };
        // Not fatal: the SDK retries by itself, and a rejected user receives an error from the next request.
        if let Err(error) = naming.open_stream().await {
            log(|| tracing::debug!(%error, "cannot open the stream of a connection to Nacos yet"));
        }
        Ok(naming)
    }

    /// Returns whether the relay has ended, because its runtime has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.relay.ended().is_cancelled()
    }

    /// Subscribes to a service without providers, so that the server sends a message on the stream.
    ///
    /// An official server sends the headers of that stream with its first message, and has no message for a connection
    /// that only registers. The SDK detects the end of a stream at once if its headers have arrived, and otherwise only
    /// because the [`Relay`] does not answer its reconnects, after 16 to 26 s.
    async fn open_stream(&self) -> Result<(), Error> {
        let listener: Arc<dyn NamingEventListener> = Arc::new(NoopListener);
        let subscribe =
            || self.service.subscribe(STREAM_SERVICE.to_owned(), self.group(), Vec::new(), Arc::clone(&listener));
        self.request(STREAM_SERVICE, subscribe).await.map(drop)
    }

    /// Registers `instance`.
    ///
    /// After an error it may still be registered later, because the SDK retries by itself.
    pub(super) async fn register(&self, service: &ServiceId, instance: &Instance) -> Result<(), Error> {
        let name = limits::service(service)?;
        let instance = listing::to_nacos(instance, self.config.cluster.as_deref())?;
        self.request(&name, || self.service.register_instance(name.clone(), self.group(), instance.clone())).await
    }

    /// Deregisters the instance at `address`. After an error the SDK may register it again by itself.
    pub(super) async fn deregister(&self, service: &ServiceId, address: SocketAddr) -> Result<(), Error> {
        let name = limits::service(service)?;
        let instance = listing::identity(address, self.config.cluster.as_deref());
        self.request(&name, || self.service.deregister_instance(name.clone(), self.group(), instance.clone())).await
    }

    /// Returns the current list of the server.
    ///
    /// Bypasses the SDK's cache, which returns an empty list after a failed request.
    pub(super) async fn list(&self, service: &ServiceId) -> Result<Vec<ServiceInstance>, Error> {
        let name = limits::service(service)?;
        self.request(&name, || self.service.get_all_instances(name.clone(), self.group(), self.clusters(), false)).await
    }

    /// Returns the names of the services in the group, sorted.
    pub(super) async fn services(&self) -> Result<Vec<String>, Error> {
        let mut names = BTreeSet::new();
        for page in 1..=MAX_SERVICES / SERVICES_PER_PAGE {
            let request = || self.service.get_service_list(page, SERVICES_PER_PAGE, self.group());
            let (listed, count) = self.request("the list of services", request).await?;
            let is_last = listed.is_empty() || page * SERVICES_PER_PAGE >= count;
            // An official server returns `group@@name`.
            let without_group = |name: String| name.rsplit("@@").next().map(str::to_owned);
            names.extend(listed.into_iter().filter_map(without_group).filter(|name| name != STREAM_SERVICE));
            if is_last {
                break;
            }
        }
        Ok(names.into_iter().collect())
    }

    /// Returns the instances of the service `name` that the server lists, sorted by address.
    pub(super) async fn instances(&self, name: &str) -> Result<Vec<Instance>, Error> {
        let list = || self.service.get_all_instances(name.to_owned(), self.group(), self.clusters(), false);
        Ok(listing::all(&self.request(name, list).await?))
    }

    /// Subscribes `listener` to changes of the list.
    ///
    /// The SDK does not report whether the server accepted the subscription.
    pub(super) async fn subscribe(
        &self,
        service: &ServiceId,
        listener: Arc<dyn NamingEventListener>,
    ) -> Result<(), Error> {
        let name = limits::service(service)?;
        self.request(&name, || {
            self.service.subscribe(name.clone(), self.group(), self.clusters(), Arc::clone(&listener))
        })
        .await
    }

    /// Ends a subscription made by [`subscribe`](Self::subscribe).
    pub(super) async fn unsubscribe(
        &self,
        service: &ServiceId,
        listener: Arc<dyn NamingEventListener>,
    ) -> Result<(), Error> {
        let name = limits::service(service)?;
        self.request(&name, || {
            self.service.unsubscribe(name.clone(), self.group(), self.clusters(), Arc::clone(&listener))
        })
        .await
    }

    /// Sends a request for the service `name`, and once more after a new login if the server rejects the user.
    async fn request<T, F>(&self, name: &str, request: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, SdkError>>,
    {
        let result = match self.request_once(&request).await {
            Err(error) if is_auth_rejection(&error) && self.login.renew(name).await? => {
                self.request_once(&request).await
            }
            result => result,
        };
        if result.is_ok() {
            self.login.handle_permitted(name);
        }
        result
    }

    async fn request_once<T, F>(&self, request: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, SdkError>>,
    {
        match timeout(REQUEST_TIMEOUT, request()).await {
            Ok(result) => result.map_err(|error| translate(error, &self.config)),
            Err(_) => {
                let message = format!("no answer from {} within {REQUEST_TIMEOUT:?}", self.config);
                Err(Error::not_executed(Code::Unavailable, message))
            }
        }
    }

    fn group(&self) -> Option<String> {
        Some(self.config.group.clone())
    }

    fn clusters(&self) -> Vec<String> {
        self.config.cluster.iter().cloned().collect()
    }
}

/// Returns whether Nacos rejected the user, as opposed to being unavailable.
pub(super) fn is_auth_rejection(error: &Error) -> bool {
    matches!(error.code(), Code::Unauthenticated | Code::PermissionDenied)
}

/// Checks that at least one server accepts a connection.
pub(super) async fn check_reachable(config: &Config) -> Result<(), Error> {
    let attempts = config.servers.iter().map(|server| {
        let server = config.grpc(server);
        Box::pin(async move {
            match timeout(relay::CONNECT_TIMEOUT, TcpStream::connect(server.to_string())).await {
                Ok(connected) => connected.map(drop),
                Err(elapsed) => Err(std::io::Error::new(std::io::ErrorKind::TimedOut, elapsed)),
            }
        })
    });
    select_ok(attempts).await.map(|_| ()).map_err(|cause| {
        Error::not_executed(Code::Unavailable, format!("cannot connect to {config}")).with_source(cause)
    })
}

pub(super) fn properties(config: &Config, relay: &Relay) -> ClientProps {
    ClientProps::new()
        .server_addr(relay.servers())
        .namespace(&config.namespace)
        .app_name("msnb")
        // Only the URL configures the connection, not environment variables.
        .env_first(false)
        // Otherwise the SDK would discard an empty list.
        .naming_push_empty_protection(false)
        // The SDK always writes to this directory, and never reads it.
        .cache_dir(cache_directory())
}

/// Returns the directory for the SDK's files.
///
/// It is in this user's directory or, if that is not private, under an unpredictable name.
fn cache_directory() -> PathBuf {
    let private = user_directory::path();
    match files::create_private_directory(&private).and_then(|()| files::check_private_directory(&private)) {
        Ok(()) => private.join("nacos"),
        Err(_) => std::env::temp_dir().join(format!("msnb-nacos-{:032x}", rand::random::<u128>())),
    }
}

/// Converts an error of the SDK.
pub(super) fn translate(error: SdkError, config: &Config) -> Error {
    let code = match &error {
        SdkError::InvalidParam(..) | SdkError::WrongServerAddress(_) => Code::InvalidArgument,
        SdkError::ErrResponse(_, _, 401 | 403, _) => rejection_code(config),
        // The SDK embeds the server's answer in a text, so the code must be searched for.
        SdkError::ErrResult(text) if text.contains("error_code=403") || text.contains("error_code=401") => {
            rejection_code(config)
        }
        _ => Code::Unavailable,
    };
    let message = match (code, config.username()) {
        (Code::InvalidArgument, _) => "Nacos rejects this request as invalid".to_owned(),
        (Code::PermissionDenied, Some(user)) => format!("Nacos denies this request to the user `{user}`"),
        (Code::Unauthenticated, _) => {
            "Nacos requires a login: add the parameters `username` and `password` to its URL".to_owned()
        }
        _ => format!("a request to {config} failed"),
    };
    Error::not_executed(code, message).with_source(error)
}

fn rejection_code(config: &Config) -> Code {
    if config.credentials.is_some() { Code::PermissionDenied } else { Code::Unauthenticated }
}

/// Resolves the servers concurrently; skips those whose names cannot be resolved.
pub(super) async fn resolve(config: &Config) -> Vec<SocketAddr> {
    let resolved = join_all(config.servers.iter().map(|server| server.resolve())).await;
    resolved.into_iter().flatten().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejection_is_distinguished_from_outage() {
        let anonymous = Config::parse("nacos://a").unwrap();
        let known = Config::parse("nacos://a?username=bo&password=hunter2").unwrap();
        let rejections = || {
            [
                SdkError::ErrResponse(None, 500, 403, Some("unknown user!".to_owned())),
                SdkError::ErrResult(
                    "handle register failed: result_code=500, error_code=403, message=no right".to_owned(),
                ),
            ]
        };
        for error in rejections() {
            let error = translate(error, &known);
            assert_eq!(error.code(), Code::PermissionDenied);
            assert!(error.to_string().contains("`bo`") && !format!("{error:?}").contains("hunter2"), "{error:?}");
        }
        for error in rejections() {
            assert_eq!(translate(error, &anonymous).code(), Code::Unauthenticated);
        }
        let outage = SdkError::ErrResult("the connection is not connected".to_owned());
        assert_eq!(translate(outage, &known).code(), Code::Unavailable);
        assert_eq!(translate(SdkError::ErrResponse(None, 500, 301, None), &known).code(), Code::Unavailable);
    }
}
