//! [`Pool`]: a limited number of connections. A connection to a server that does not listen fails at once.
//!
//! sqlx's own pool repeats refused connections until its timeout, and checks a connection before each use with a round
//! trip. Here each transaction begins with a round trip anyway, which detects a broken connection.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{
    AnyConnection, AssertSqlSafe, ConnectOptions as _, Executor as _,
    any::{AnyConnectOptions, AnyRow},
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use super::statement::{Engine, Statement};

/// The connections to one database.
pub(super) struct Pool {
    /// The options contain the password, so this type is not `Debug`.
    options: AnyConnectOptions,
    engine: Engine,
    permits: Semaphore,
    /// The connections that are not in use. The last one was used last.
    idle: Mutex<Vec<(AnyConnection, Instant)>>,
}

/// A connection in use. Dropping it closes the connection, so the database rolls its transaction back.
pub(super) struct Leased<'a> {
    pub(super) session: Session,
    /// Whether an earlier transaction used the connection, so the server may have closed it since.
    pub(super) is_reused: bool,
    pool: &'a Pool,
    _permit: SemaphorePermit<'a>,
}

/// A connection in a transaction.
pub(crate) struct Session {
    connection: AnyConnection,
    engine: Engine,
}

impl Pool {
    /// Creates a pool without connections.
    pub(super) fn new(options: AnyConnectOptions, engine: Engine) -> Self {
        Self { options, engine, permits: Semaphore::new(MAX_CONNECTIONS), idle: Mutex::default() }
    }

    /// Returns a connection that is not in use, or a new one.
    ///
    /// # Errors
    ///
    /// Returns an error if the server rejects the connection, or after [`ACQUIRE_TIMEOUT`].
    pub(super) async fn acquire(&self) -> Result<Leased<'_>, sqlx::Error> {
        let acquired = timeout(ACQUIRE_TIMEOUT, async {
            let permit = self.permits.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
            let reused = self.reuse();
            let is_reused = reused.is_some();
            let connection = match reused {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let session = Session { connection, engine: self.engine };
            Ok(Leased { session, is_reused, pool: self, _permit: permit })
        });
        acquired.await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// Closes the connections that are not in use.
    pub(super) fn clear(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        drop(idle);
    }

    fn reuse(&self) -> Option<AnyConnection> {
        let (connection, since) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        if since.elapsed() < MAX_IDLE {
            return Some(connection);
        }
        // The others have been idle for even longer.
        self.clear();
        None
    }

    async fn connect(&self) -> Result<AnyConnection, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        let setup = match self.engine {
            Engine::Postgres => POSTGRES_SETUP,
            Engine::MariaDb => MARIADB_SETUP,
        };
        connection.execute(setup).await?;
        Ok(connection)
    }
}

impl Leased<'_> {
    /// Makes the connection available to other transactions. It has no open transaction.
    pub(super) fn release(self) {
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push((self.session.connection, Instant::now()));
    }
}

impl Session {
    /// Returns the engine of the database.
    pub(crate) fn engine(&self) -> Engine {
        self.engine
    }

    /// Returns the rows of a query.
    pub(crate) async fn rows(&mut self, statement: Statement) -> Result<Vec<AnyRow>, sqlx::Error> {
        let (text, arguments) = statement.into_parts(self.engine);
        self.connection.fetch_all(sqlx::query_with(AssertSqlSafe(text), arguments)).await
    }

    /// Returns the first row of a query.
    pub(crate) async fn row(&mut self, statement: Statement) -> Result<Option<AnyRow>, sqlx::Error> {
        let (text, arguments) = statement.into_parts(self.engine);
        self.connection.fetch_optional(sqlx::query_with(AssertSqlSafe(text), arguments)).await
    }

    /// Executes a statement; returns the number of rows that it changed.
    pub(crate) async fn execute(&mut self, statement: Statement) -> Result<u64, sqlx::Error> {
        let (text, arguments) = statement.into_parts(self.engine);
        let result = self.connection.execute(sqlx::query_with(AssertSqlSafe(text), arguments)).await?;
        Ok(result.rows_affected())
    }

    /// Executes a statement that begins or ends a transaction.
    pub(super) async fn control(&mut self, text: &'static str) -> Result<(), sqlx::Error> {
        self.connection.execute(text).await?;
        Ok(())
    }
}

/// The maximum number of connections of a node. PostgreSQL accepts 100 from all nodes by default.
const MAX_CONNECTIONS: usize = 16;
/// The maximum time to wait for a connection that is not in use, and to connect.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection is closed instead of used after this time, because a firewall may have dropped it.
const MAX_IDLE: Duration = Duration::from_secs(60);
/// The server ends statements and transactions of a node that no longer answers, so that their locks are released.
const POSTGRES_SETUP: &str =
    "SET statement_timeout = '5s'; SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = '10s'";
/// See [`POSTGRES_SETUP`]. The isolation level avoids locks of gaps; strict mode rejects values that do not fit.
const MARIADB_SETUP: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
    SET SESSION innodb_lock_wait_timeout = 5, max_statement_time = 5, idle_write_transaction_timeout = 10, \
    idle_readonly_transaction_timeout = 10, sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')";
