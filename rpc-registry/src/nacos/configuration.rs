//! [`Configuration`]: the SDK's configuration service, with time limits and errors.

use std::sync::Arc;

use nacos_sdk::api::{
    config::{ConfigChangeListener, ConfigService, ConfigServiceBuilder},
    error::Error as SdkError,
};
use rpc_core::{Code, Error};
use tokio::time::timeout;

use super::{
    login::{ConnectionLogin, Login},
    naming::{REQUEST_TIMEOUT, SETUP_TIMEOUT, check_reachable, is_auth_rejection, properties, translate},
    relay::Relay,
    url::Config,
};
use crate::tasks::Tasks;

/// Two connections to the configurations of Nacos: one for notifications, and one that reads.
///
/// A connection of the SDK with a listener answers reads from its cache, in which a removed configuration remains. The other
/// one has no listeners and therefore asks the server.
pub(super) struct Configuration {
    notifier: Connection,
    reader: Connection,
    config: Arc<Config>,
    login: Arc<Login>,
}

struct Connection {
    service: ConfigService,
    relay: Relay,
}

impl Configuration {
    /// Tries once to connect.
    ///
    /// # Errors
    ///
    /// As `Naming::connect`.
    pub(super) async fn connect(config: Arc<Config>, login: Arc<Login>, tasks: &Tasks) -> Result<Self, Error> {
        check_reachable(&config).await?;
        login.ensure().await?;
        let notifier = Connection::open(&config, &login, tasks).await?;
        let reader = Connection::open(&config, &login, tasks).await?;
        Ok(Self { notifier, reader, config, login })
    }

    /// Returns whether a relay has ended, because its runtime has ended.
    pub(super) fn has_ended(&self) -> bool {
        [&self.notifier, &self.reader].iter().any(|connection| connection.relay.ended().is_cancelled())
    }

    /// Returns the content of a configuration; empty if it does not exist.
    pub(super) async fn read(&self, data_id: &str) -> Result<String, Error> {
        let read = || async {
            match self.reader.service.get_config(data_id.to_owned(), self.config.group.clone()).await {
                Ok(response) => Ok(response.content().clone()),
                Err(SdkError::ConfigNotFound(_)) => Ok(String::new()),
                Err(error) => Err(error),
            }
        };
        let result = match self.request(read()).await {
            Err(error) if is_auth_rejection(&error) && self.login.renew(data_id).await? => self.request(read()).await,
            result => result,
        };
        if result.is_ok() {
            self.login.handle_permitted(data_id);
        }
        result
    }

    /// Notifies `listener` of changes of a configuration.
    ///
    /// The SDK does not report whether the server accepted the subscription, and notifies of no removal.
    pub(super) async fn listen(&self, data_id: &str, listener: Arc<dyn ConfigChangeListener>) -> Result<(), Error> {
        self.request(self.notifier.service.add_listener(data_id.to_owned(), self.config.group.clone(), listener)).await
    }

    /// Ends the notifications of [`listen`](Self::listen).
    pub(super) async fn end_listening(
        &self,
        data_id: &str,
        listener: Arc<dyn ConfigChangeListener>,
    ) -> Result<(), Error> {
        let group = self.config.group.clone();
        self.request(self.notifier.service.remove_listener(data_id.to_owned(), group, listener)).await
    }

    async fn request<T>(&self, request: impl Future<Output = Result<T, SdkError>>) -> Result<T, Error> {
        match timeout(REQUEST_TIMEOUT, request).await {
            Ok(result) => result.map_err(|error| translate(error, &self.config)),
            Err(_) => {
                let message = format!("no answer from {} within {REQUEST_TIMEOUT:?}", self.config);
                Err(Error::not_executed(Code::Unavailable, message))
            }
        }
    }
}

impl Connection {
    async fn open(config: &Arc<Config>, login: &Arc<Login>, tasks: &Tasks) -> Result<Self, Error> {
        let relay = Relay::start(config.servers.iter().map(|server| config.grpc(server)).collect(), tasks).await?;
        let builder = ConfigServiceBuilder::new(properties(config, &relay));
        let builder = match &config.credentials {
            Some(_) => builder.with_auth_plugin(Arc::new(ConnectionLogin::new(Arc::clone(login), relay.ended()))),
            None => builder,
        };
        match timeout(SETUP_TIMEOUT, builder.build()).await {
            Ok(Ok(service)) => Ok(Self { service, relay }),
            Ok(Err(error)) => Err(translate(error, config)),
            Err(_) => {
                let message = format!("no answer from {config} on a new connection within {SETUP_TIMEOUT:?}");
                Err(Error::not_executed(Code::Unavailable, message))
            }
        }
    }
}
