//! The creation of the tables, by sqlx's migrator. Several nodes may start at once: a lock makes them take turns.

use sqlx::{
    AnyConnection, Connection as _, Row as _, SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};

use super::statement::Engine;

/// Creates the tables, or applies the migrations that the database lacks. Closing the connection releases its lock.
///
/// The connection has no limit for the duration of a statement, because it waits for other nodes.
pub(super) async fn migrate(mut connection: AnyConnection, engine: Engine) -> Result<(), sqlx::Error> {
    let texts = match engine {
        Engine::Postgres => POSTGRES,
        Engine::MariaDb => MARIADB,
    };
    let migrations = (1..).zip(texts).map(|(version, (name, text))| {
        Migration::new(version, (*name).into(), MigrationType::Simple, SqlStr::from_static(text), false)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.dangerous_set_table_name(TABLE);
    if engine == Engine::MariaDb {
        // The migrator's lock has the timeout -1, which MariaDB rejects without an error, other than MySQL.
        migrator.set_locking(false);
        let lock = sqlx::query(MARIADB_LOCK).fetch_one(&mut connection).await?;
        if lock.try_get::<Option<i64>, _>(0)? != Some(1) {
            return Err(sqlx::Error::PoolTimedOut);
        }
    }
    migrator.run_direct(None, &mut connection, false).await?;
    connection.close().await
}

/// The table of the applied migrations; its name does not collide with that of other programs.
const TABLE: &str = "im_migrations";
const POSTGRES: &[(&str, &str)] = &[
    ("initial", include_str!("../../migrations/postgres/0001_initial.sql")),
    ("membership", include_str!("../../migrations/postgres/0002_membership.sql")),
];
const MARIADB: &[(&str, &str)] = &[
    ("initial", include_str!("../../migrations/mysql/0001_initial.sql")),
    ("membership", include_str!("../../migrations/mysql/0002_membership.sql")),
];
/// The names of locks are global to a server.
const MARIADB_LOCK: &str = "SELECT GET_LOCK(CONCAT('im_migrations.', DATABASE()), 60)";
