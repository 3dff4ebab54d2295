//! Connections to PostgreSQL: what they are set to, and what is asked of a database before it is used.

use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Row, SqlSafeStr};
use tokio::time::timeout;

use super::super::error::BackendError;
use super::failed;

/// The oldest version that everything here was tested with: Debian 12's.
const VERSION_MIN: i32 = 15;
/// How long a connection may take. On a network that works it is milliseconds.
const CONNECT_MAX: Duration = Duration::from_secs(if cfg!(test) { 60 } else { 3 });
/// Prepared statements that are kept: those of some fifty tables.
const STATEMENTS_MAX: usize = 256;

/// What every connection is set to. A statement takes milliseconds; the limits are for those that wait for somebody who
/// has stopped, so that one server's standstill holds the others up for seconds only.
const LIMITS: [(&str, &str); 3] = [
    ("statement_timeout", "15s"),
    ("lock_timeout", "10s"),
    // A test may stand still between two statements.
    ("idle_in_transaction_session_timeout", if cfg!(test) { "60s" } else { "5s" }),
];

/// The connection that a server writes with.
pub(super) struct Session {
    pub(super) connection: PgConnection,
    /// Its name in `pg_stat_activity`, which no other connection has or ever had.
    pub(super) name: String,
    /// The same as a number: what it writes is marked with it.
    pub(super) writer: i64,
}

impl Session {
    pub(super) async fn open(options: &PgConnectOptions) -> Result<Self, BackendError> {
        let (id, _) = uuid::Uuid::new_v4().as_u64_pair();
        let name = format!("berth-writer-{id:016x}");
        let connection = open(&options.clone().application_name(&name)).await?;
        Ok(Self { connection, name, writer: id.cast_signed() })
    }
}

/// Reads an address. What it says wrong is not repeated, since it may be a password.
pub(super) fn options(url: &str) -> Result<PgConnectOptions, BackendError> {
    let options = PgConnectOptions::from_str(url).map_err(|_may_hold_a_password| {
        let message = "the address must be postgres://USER:PASSWORD@HOST:PORT/DATABASE";
        BackendError::Unsuitable(message.to_owned())
    })?;
    Ok(options.statement_cache_capacity(STATEMENTS_MAX).options(LIMITS).disable_statement_logging())
}

/// Opens a connection.
pub(super) async fn open(options: &PgConnectOptions) -> Result<PgConnection, BackendError> {
    let connecting = timeout(CONNECT_MAX, options.connect()).await;
    let mut connection = connecting.map_err(|_elapsed| BackendError::Lost)?.map_err(failed("cannot connect"))?;
    // A commit that was answered has to survive a loss of power, whatever is usual for this user or database.
    let sql =
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";
    sqlx::query(sql).execute(&mut connection).await.map_err(failed("cannot prepare a connection"))?;
    Ok(connection)
}

/// Opens the first connection: checks what it leads to, and brings the tables to this version's form.
pub(super) async fn first(options: &PgConnectOptions) -> Result<Session, BackendError> {
    let mut session = Session::open(options).await?;
    check(&mut session.connection).await?;
    // Servers that start together take turns: the migrator holds an advisory lock. It may wait for another's long
    // migration, and may itself take long.
    let limits = "SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false)";
    let doing = "cannot prepare the migration";
    sqlx::query(limits).execute(&mut session.connection).await.map_err(failed(doing))?;
    migrator().run(&mut session.connection).await.map_err(BackendError::Migrate)?;
    Session::open(options).await
}

async fn check(connection: &mut PgConnection) -> Result<(), BackendError> {
    let unsuitable = |message: String| Err(BackendError::Unsuitable(message));
    let sql = "SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), \
               current_setting('server_encoding'), current_setting('fsync'), current_user::text, \
               current_schema()::text, \
               COALESCE(has_schema_privilege(current_schema(), 'CREATE'), false)";
    let doing = "cannot ask what database this is";
    let row = sqlx::query(sql).fetch_one(connection).await.map_err(failed(doing))?;
    let version: i32 = row.try_get(0).map_err(failed(doing))?;
    if version / 10_000 < VERSION_MIN {
        return unsuitable(format!("it is PostgreSQL {}, but {VERSION_MIN} or newer is needed", version / 10_000));
    }
    if row.try_get(1).map_err(failed(doing))? {
        return unsuitable("it is a standby, which cannot be written to: give the address of the primary".to_owned());
    }
    let encoding: &str = row.try_get(2).map_err(failed(doing))?;
    if encoding != "UTF8" {
        return unsuitable(format!("its encoding is {encoding}: make it with ENCODING 'UTF8'"));
    }
    let fsync: &str = row.try_get(3).map_err(failed(doing))?;
    if fsync == "off" {
        tracing::warn!("this PostgreSQL runs with fsync=off: a crash of its machine loses what was written");
    }
    let user: &str = row.try_get(4).map_err(failed(doing))?;
    let schema: Option<&str> = row.try_get(5).map_err(failed(doing))?;
    let may_create: bool = row.try_get(6).map_err(failed(doing))?;
    match schema {
        Some(_) if may_create => Ok(()),
        Some(schema) => unsuitable(format!(
            "the user {user} may not make tables in the schema {schema}: make {user} the owner of the database, or \
             GRANT CREATE ON SCHEMA {schema} TO {user}"
        )),
        None => unsuitable(format!("the user {user} has no schema to make tables in")),
    }
}

/// Number, name and statements; see `migrations/README.md`.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "objects", include_str!("../../../../migrations/postgres/0001_objects.sql")),
    (2, "roles", include_str!("../../../../migrations/postgres/0002_roles.sql")),
    (3, "quotas", include_str!("../../../../migrations/postgres/0003_quotas.sql")),
    (4, "audit", include_str!("../../../../migrations/postgres/0004_audit.sql")),
    (5, "keys", include_str!("../../../../migrations/postgres/0005_keys.sql")),
    (6, "accounts", include_str!("../../../../migrations/postgres/0006_accounts.sql")),
    (7, "audit ids", include_str!("../../../../migrations/postgres/0007_audit_ids.sql")),
];

fn migrator() -> Migrator {
    migrator_to(i64::MAX)
}

/// Up to a version: what an older program had.
pub(in super::super) fn migrator_to(version: i64) -> Migrator {
    let migration = |(number, name, sql): &(i64, &'static str, &'static str)| {
        Migration::new(*number, (*name).into(), MigrationType::Simple, (*sql).into_sql_str(), false)
    };
    let wanted = MIGRATIONS.iter().filter(|(number, ..)| *number <= version);
    Migrator::with_migrations(wanted.map(migration).collect())
}
