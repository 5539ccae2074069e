//! [`Database`]: runs transactions.

use std::{fmt, sync::Arc, time::Duration};

use rpc_core::BoxFuture;
use sqlx::{ConnectOptions as _, any::AnyConnectOptions};
use tokio::time::timeout;

use super::{
    migrations::migrate,
    pool::{Leased, Pool, Session},
    statement::Engine,
};

/// A PostgreSQL or MariaDB database with the tables of an IM cluster. Clones share their connections.
#[derive(Clone)]
pub struct Database {
    engine: Engine,
    pool: Arc<Pool>,
}

/// The database does not answer, or reports an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DatabaseError(pub(crate) String);

/// The reason why a transaction is rolled back.
pub(crate) enum Failure<R> {
    /// The database reports an error or does not answer.
    Database(sqlx::Error),
    /// The request is refused.
    Refused(R),
}

/// A function that executes the statements of a transaction, and can be repeated.
pub(crate) trait Operation<A, T, R>:
    for<'a> Fn(&'a mut Session, &'a A) -> BoxFuture<'a, Result<T, Failure<R>>> + Send + Sync + 'static
{
}

impl<A, T, R, F> Operation<A, T, R> for F where
    F: for<'a> Fn(&'a mut Session, &'a A) -> BoxFuture<'a, Result<T, Failure<R>>> + Send + Sync + 'static
{
}

#[derive(Debug, Clone, Copy)]
enum Mode {
    Write,
    Read,
}

impl Database {
    /// Connects to a database by a URL `postgres://…` or `mysql://…` (MariaDB), and creates its tables.
    ///
    /// # Errors
    ///
    /// Returns an error if the URL is invalid, the server does not answer, or it rejects the user.
    pub async fn connect(url: &str) -> Result<Self, DatabaseError> {
        let (engine, options) = parse(url)?;
        let prepared = timeout(MIGRATION_TIMEOUT, async { migrate(options.connect().await?, engine).await });
        match prepared.await {
            Err(_) => Err(DatabaseError(format!("the database has no tables after {MIGRATION_TIMEOUT:?}"))),
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok(())) => Ok(Self { engine, pool: Arc::new(Pool::new(options, engine)) }),
        }
    }

    /// Returns whether a text is the URL of a database.
    pub(crate) fn is_url(text: &str) -> bool {
        parse(text).is_ok()
    }

    /// Runs a transaction that writes; commits it if `operation` succeeds, and rolls it back otherwise.
    ///
    /// Each statement sees all writes that were committed before it began. The transaction is repeated if it conflicts
    /// with another one, which the database rolled back.
    ///
    /// # Errors
    ///
    /// Returns the error of `operation`, or a [`DatabaseError`]; then the transaction may be committed or not.
    pub(crate) fn write<A, T, R, F>(&self, input: A, operation: F) -> BoxFuture<'_, Result<T, R>>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        R: From<DatabaseError> + Send + 'static,
        F: Operation<A, T, R>,
    {
        Box::pin(async move { self.run(Mode::Write, &input, operation).await })
    }

    /// Runs a transaction that only reads. All statements see the same state.
    ///
    /// # Errors
    ///
    /// Returns the error of `operation`, or a [`DatabaseError`].
    pub(crate) fn read<A, T, R, F>(&self, input: A, operation: F) -> BoxFuture<'_, Result<T, R>>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        R: From<DatabaseError> + Send + 'static,
        F: Operation<A, T, R>,
    {
        Box::pin(async move { self.run(Mode::Read, &input, operation).await })
    }

    async fn run<A, T, R, F>(&self, mode: Mode, input: &A, operation: F) -> Result<T, R>
    where
        A: Sync,
        T: Send,
        R: From<DatabaseError> + Send,
        F: Operation<A, T, R>,
    {
        let attempts = async {
            let mut attempt = 1;
            loop {
                match self.attempt(mode, input, &operation).await {
                    Ok(output) => return Ok(output),
                    Err(Failure::Refused(reason)) => return Err(reason),
                    Err(Failure::Database(error)) if attempt < MAX_ATTEMPTS && is_conflict(&error) => attempt += 1,
                    Err(Failure::Database(error)) => return Err(DatabaseError::from(error).into()),
                }
            }
        };
        let limited = timeout(OPERATION_TIMEOUT, attempts).await;
        limited.unwrap_or_else(|_| {
            Err(DatabaseError(format!("the database does not answer within {OPERATION_TIMEOUT:?}")).into())
        })
    }

    async fn attempt<A, T, R, F>(&self, mode: Mode, input: &A, operation: &F) -> Result<T, Failure<R>>
    where
        F: Operation<A, T, R>,
    {
        let mut leased = self.begin(mode).await?;
        match operation(&mut leased.session, input).await {
            Ok(output) => {
                leased.session.control("COMMIT").await?;
                leased.release();
                Ok(output)
            }
            Err(failure) => {
                let is_usable = match &failure {
                    Failure::Refused(_) => true,
                    Failure::Database(error) => is_conflict(error),
                };
                if is_usable && leased.session.control("ROLLBACK").await.is_ok() {
                    leased.release();
                }
                Err(failure)
            }
        }
    }

    /// Begins a transaction on a connection that works.
    async fn begin(&self, mode: Mode) -> Result<Leased<'_>, sqlx::Error> {
        let text = match (self.engine, mode) {
            (Engine::Postgres, Mode::Write) => "BEGIN ISOLATION LEVEL READ COMMITTED",
            (Engine::Postgres, Mode::Read) => "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            (Engine::MariaDb, Mode::Write) => "START TRANSACTION",
            (Engine::MariaDb, Mode::Read) => {
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; \
                 START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"
            }
        };
        loop {
            let mut leased = self.pool.acquire().await?;
            match leased.session.control(text).await {
                Ok(()) => return Ok(leased),
                // The server was restarted, so the other connections do not work either.
                Err(_) if leased.is_reused => self.pool.clear(),
                Err(error) => return Err(error),
            }
        }
    }
}

impl<R> From<sqlx::Error> for Failure<R> {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<sqlx::Error> for DatabaseError {
    fn from(error: sqlx::Error) -> Self {
        Self(match error {
            sqlx::Error::Io(error) => format!("the database does not answer: {error}"),
            sqlx::Error::PoolTimedOut => "the database does not answer: no connection is available".to_owned(),
            sqlx::Error::Database(error) => format!("the database reports an error: {}", error.message()),
            error => format!("the database cannot be used: {error}"),
        })
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("engine", &self.engine).finish_non_exhaustive()
    }
}

/// Parses the URL of a database. Errors do not contain it.
fn parse(url: &str) -> Result<(Engine, AnyConnectOptions), DatabaseError> {
    let engine = match url.split_once("://") {
        Some(("postgres" | "postgresql", _)) => Engine::Postgres,
        Some(("mysql" | "mariadb", _)) => Engine::MariaDb,
        _ => return Err(DatabaseError("the URL of a database begins with postgres:// or mysql://".to_owned())),
    };
    sqlx::any::install_default_drivers();
    let options = url.parse().map_err(|_| DatabaseError("the URL of the database is invalid".to_owned()))?;
    Ok((engine, options))
}

/// Returns whether the database rolled the transaction back because of a concurrent one.
fn is_conflict(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else { return false };
    // Serialization failure and deadlock. A concurrent transaction may also have inserted the same key.
    error.is_unique_violation() || matches!(error.code().as_deref(), Some("40001" | "40P01"))
}

/// The maximum duration of an operation with all attempts.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum number of attempts of a transaction that conflicts with others.
const MAX_ATTEMPTS: u32 = 10;
/// The maximum time to wait for the migrations, of this node or of another one that started at the same time.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(60);
