//! [`EngineArguments`]: the command-line arguments that select the engines of a cluster.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter},
    net::SocketAddr,
    path::Path,
    sync::Arc,
};

use clap::Args;

use crate::{
    NodeConfig, StoreChoice,
    store::{RedbStore, StoreError, Transfer, TransferError, Transferred, export, import},
};

/// The command-line arguments that select the engines of a cluster.
///
/// URLs may contain passwords, so this type is not printed by `Debug` except for the names of the arguments.
#[derive(Args, Clone)]
pub struct EngineArguments {
    /// Where messages are stored: a file of this node, which other nodes can use; node://HOST:PORT, the --rpc address of
    /// the node that has the file; postgres://USER:PASSWORD@HOST/DATABASE; or mysql://… for MariaDB. Without it,
    /// messages are in memory and are lost when the process ends.
    #[arg(long, value_name = "FILE|URL", env = "MSNB_IM_STORE", hide_env_values = true)]
    pub store: Option<String>,
    /// Where the sessions of all nodes are listed: redis://USER:PASSWORD@HOST:PORT/DATABASE, where only the host is
    /// required, postgres://… or mysql://…. Without it, the database of --store, or the memory of the node that has the
    /// file.
    #[arg(long, value_name = "URL", env = "MSNB_IM_DIRECTORY", hide_env_values = true)]
    pub directory: Option<String>,
    /// Where the nodes are listed: zookeeper://HOST:PORT,…/PATH, postgres://… or mysql://…. Without it, the registry.
    #[arg(long, value_name = "URL", env = "MSNB_IM_MEMBERSHIP", hide_env_values = true)]
    pub membership: Option<String>,
    /// The message queue for messages that all nodes receive: amqp://USER:PASSWORD@HOST (RabbitMQ) or nats://…. Without
    /// it, nodes send them to each other.
    #[arg(long, value_name = "URL", env = "MSNB_IM_BACKPLANE", hide_env_values = true)]
    pub backplane: Option<String>,
}

/// An error in an engine argument, or of the engine that it names. No error contains a password.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The scheme of the URL is unknown, or its feature is disabled in this program.
    #[error("--{argument}: unknown scheme; expected {expected}")]
    Scheme {
        /// The name of the argument.
        argument: &'static str,
        /// The known schemes.
        expected: &'static str,
    },
    /// The address of the storing node cannot be resolved.
    #[error("--store: cannot resolve {0}")]
    StoringNode(String, #[source] io::Error),
    /// The database cannot be used.
    #[cfg(feature = "sql")]
    #[error("cannot use the database")]
    Database(#[from] crate::sql::DatabaseError),
    /// The store failed.
    #[error("cannot use the store")]
    Store(#[from] StoreError),
    /// The conversations cannot be exported or imported.
    #[error("the conversations are not transferred completely")]
    Transfer(#[from] TransferError),
    /// Another engine cannot be used.
    #[error("cannot use an engine")]
    Engine(#[from] rpc_core::Error),
}

impl EngineArguments {
    /// Connects to the engines, and adds them to a configuration.
    ///
    /// # Errors
    ///
    /// Returns an error if a URL is invalid or an engine does not answer.
    pub(super) async fn apply(&self, mut config: NodeConfig) -> Result<NodeConfig, EngineError> {
        match self.store.as_deref().map(|store| (store, scheme(store))) {
            None => {}
            Some((file, None)) => config = config.with_store(StoreChoice::File(file.into())),
            Some((url, Some("node"))) => {
                let node = resolve(url.trim_start_matches("node://")).await?;
                config = config.with_store(StoreChoice::Node(node));
            }
            #[cfg(feature = "sql")]
            Some((url, Some("postgres" | "postgresql" | "mysql"))) => {
                let database = crate::sql::Database::connect(url).await?;
                let directory = Arc::new(crate::directory::SqlDirectory::new(database.clone()));
                config = config
                    .with_store(StoreChoice::Custom(Arc::new(crate::store::SqlStore::new(database))))
                    .with_directory(crate::DirectoryChoice::Custom(directory));
            }
            Some(_) => return Err(unknown("store", "a file, node://, postgres:// or mysql://")),
        }
        match self.directory.as_deref().map(|url| (url, scheme(url))) {
            None => {}
            #[cfg(feature = "redis")]
            Some((url, Some("redis" | "rediss"))) => {
                let url = crate::directory::RedisUrl::new(url);
                let directory = crate::directory::RedisDirectory::connect(&url).await?;
                config = config.with_directory(crate::DirectoryChoice::Custom(Arc::new(directory)));
            }
            #[cfg(feature = "sql")]
            Some((url, Some("postgres" | "postgresql" | "mysql"))) => {
                let directory = crate::directory::SqlDirectory::new(crate::sql::Database::connect(url).await?);
                config = config.with_directory(crate::DirectoryChoice::Custom(Arc::new(directory)));
            }
            Some(_) => return Err(unknown("directory", "redis://, postgres:// or mysql://")),
        }
        match self.membership.as_deref().map(|url| (url, scheme(url))) {
            None => {}
            #[cfg(feature = "zookeeper")]
            Some((url, Some("zookeeper"))) => {
                let membership = crate::membership::ZooKeeperMembership::connect(url)?;
                config = config.with_membership(crate::MembershipChoice::Custom(Arc::new(membership)));
            }
            #[cfg(feature = "sql")]
            Some((url, Some("postgres" | "postgresql" | "mysql"))) => {
                let membership = crate::membership::SqlMembership::connect(url)?;
                config = config.with_membership(crate::MembershipChoice::Custom(Arc::new(membership)));
            }
            Some(_) => return Err(unknown("membership", "zookeeper://, postgres:// or mysql://")),
        }
        match self.backplane.as_deref().map(|url| (url, scheme(url))) {
            None => {}
            #[cfg(feature = "rabbitmq")]
            Some((url, Some("amqp"))) => {
                config =
                    config.with_backplane(Some(Arc::new(crate::backplane::RabbitMqBackplane::connect(url).await?)));
            }
            #[cfg(feature = "nats")]
            Some((url, Some("nats"))) => {
                config = config.with_backplane(Some(Arc::new(crate::backplane::NatsBackplane::connect(url).await?)));
            }
            Some(_) => return Err(unknown("backplane", "amqp:// or nats://")),
        }
        Ok(config)
    }
}

impl EngineArguments {
    /// Gives each conversation of `--store` a new incarnation, after the store was restored from a backup; returns their
    /// number. No node uses the store meanwhile.
    ///
    /// # Errors
    ///
    /// Returns an error if `--store` is absent or another node, or the store cannot be used.
    pub async fn renew_incarnations(&self) -> Result<u64, EngineError> {
        Ok(self.open_store().await?.renew_incarnations().await?)
    }

    /// Writes all conversations of `--store` to a file, which is created for this user only. No node uses the store
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// Returns an error if `--store` is absent or another node, the store cannot be used, or the file exists or cannot be
    /// written.
    pub async fn export(&self, path: &Path) -> Result<Transferred, EngineError> {
        let store = self.open_store().await?;
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = BufWriter::new(options.open(path).map_err(TransferError::from)?);
        let transferred = export(&*store, &mut file).await?;
        file.get_ref().sync_all().map_err(TransferError::from)?;
        Ok(transferred)
    }

    /// Stores the conversations of a file that [`export`](Self::export) wrote, except those that exist, in `--store`. No
    /// node uses the store meanwhile.
    ///
    /// # Errors
    ///
    /// Returns an error if `--store` is absent or another node, the store cannot be used, or the file is invalid.
    pub async fn import(&self, path: &Path) -> Result<Transferred, EngineError> {
        let mut file = BufReader::new(File::open(path).map_err(TransferError::from)?);
        let store = self.open_store().await?;
        Ok(import(&*store, &mut file).await?)
    }

    /// Opens the store for a command.
    async fn open_store(&self) -> Result<Arc<dyn Transfer>, EngineError> {
        let store: Arc<dyn Transfer> = match self.store.as_deref().map(|store| (store, scheme(store))) {
            Some((file, None)) => Arc::new(RedbStore::open(Some(file.as_ref()))?),
            #[cfg(feature = "sql")]
            Some((url, Some("postgres" | "postgresql" | "mysql"))) => {
                Arc::new(crate::store::SqlStore::new(crate::sql::Database::connect(url).await?))
            }
            _ => return Err(unknown("store", "a file, postgres:// or mysql://")),
        };
        Ok(store)
    }
}

impl std::fmt::Debug for EngineArguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineArguments").finish_non_exhaustive()
    }
}

fn scheme(url: &str) -> Option<&str> {
    url.split_once("://").map(|(scheme, _)| scheme)
}

fn unknown(argument: &'static str, expected: &'static str) -> EngineError {
    EngineError::Scheme { argument, expected }
}

async fn resolve(node: &str) -> Result<SocketAddr, EngineError> {
    let failed = |error| EngineError::StoringNode(node.to_owned(), error);
    let mut addresses = tokio::net::lookup_host(node).await.map_err(failed)?;
    addresses.next().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}
