//! [`Database`]: PostgreSQL or MariaDB, which store messages and the directory.
//!
//! | topic | module |
//! |---|---|
//! | transactions, retries and time limits | `database` |
//! | connections | `pool` |
//! | the creation of tables | `migrations` |
//! | SQL for both engines, and the values of rows | `statement` |

mod database;
mod migrations;
mod pool;
mod statement;

pub(crate) use database::Failure;
pub use database::{Database, DatabaseError};
pub(crate) use pool::Session;
pub(crate) use statement::{Columns, MAX_BATCH, Statement, batches, padded, placeholders};
