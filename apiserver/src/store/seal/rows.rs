//! Reading and writing keys and bodies: the same code for both databases, since only the types of their driver differ.

/// Makes the functions for a connection and its rows.
macro_rules! rows {
    ($connection:ty, $row:ty) => {
        use sqlx::{AssertSqlSafe, Connection, Row};

        use $crate::store::backend::{BodyRow, KnownKey};
        use $crate::store::error::{BackendError, failed};
        use $crate::store::number::{signed, time, unsigned};
        use $crate::store::seal::{Shelf, sql};

        pub(super) async fn known(connection: &mut $connection) -> Result<Vec<KnownKey>, BackendError> {
            let doing = "cannot read which master keys there are";
            let rows = sqlx::query(sql::KEYS).fetch_all(connection).await.map_err(failed(doing))?;
            let key = |row: &$row| {
                let created: i64 = row.try_get(1).map_err(failed(doing))?;
                Ok(KnownKey {
                    id: row.try_get(0).map_err(failed(doing))?,
                    created: time(created)?,
                    complete: row.try_get::<i64, _>(2).map_err(failed(doing))? == 1,
                })
            };
            rows.iter().map(key).collect()
        }

        pub(super) async fn save(connection: &mut $connection, key: &KnownKey) -> Result<(), BackendError> {
            insert(connection, sql::SAVE_KEY, key).await
        }

        async fn insert(
            connection: &mut $connection,
            statement: &'static str,
            key: &KnownKey,
        ) -> Result<(), BackendError> {
            let query =
                sqlx::query(statement).bind(&key.id).bind(key.created.as_microsecond()).bind(i64::from(key.complete));
            query.execute(connection).await.map_err(failed("cannot note a master key"))?;
            Ok(())
        }

        pub(super) async fn forget(connection: &mut $connection, id: &str) -> Result<(), BackendError> {
            let query = sqlx::query(sql::FORGET_KEY).bind(id);
            query.execute(connection).await.map_err(failed("cannot forget a master key"))?;
            Ok(())
        }

        pub(super) async fn read(
            connection: &mut $connection,
            shelf: &Shelf,
            after: Option<&BodyRow>,
        ) -> Result<Vec<BodyRow>, BackendError> {
            let doing = "cannot read what is to be sealed";
            let query = sqlx::query(AssertSqlSafe(sql::read(shelf)?));
            let query = match shelf {
                Shelf::Objects(_) => {
                    let (namespace, name) = after.map_or(("", ""), |row| (&*row.namespace, &*row.name));
                    query.bind(namespace).bind(name)
                }
                Shelf::Log => query.bind(signed(after.map_or(0, |row| row.revision))),
            };
            let rows = query.fetch_all(connection).await.map_err(failed(doing))?;
            let row = |row: &$row| {
                let text = |index| row.try_get::<String, _>(index).map_err(failed(doing));
                let body = |index| row.try_get::<Option<String>, _>(index).map_err(failed(doing));
                Ok(BodyRow {
                    revision: unsigned(row.try_get(0).map_err(failed(doing))?)?,
                    table: text(1)?,
                    namespace: text(2)?,
                    name: text(3)?,
                    bodies: vec![body(4)?, body(5)?],
                })
            };
            rows.iter().map(row).collect()
        }

        pub(super) async fn replace(
            connection: &mut $connection,
            shelf: &Shelf,
            rows: &[(BodyRow, BodyRow)],
        ) -> Result<(), BackendError> {
            let doing = "cannot replace what was sealed";
            let mut transaction = connection.begin().await.map_err(failed(doing))?;
            let statement: ::std::sync::Arc<str> = sql::replace(shelf)?.into();
            for (old, new) in rows {
                let query = sqlx::query(AssertSqlSafe(::std::sync::Arc::clone(&statement)));
                let (first, second) = (new.bodies.first().cloned().flatten(), new.bodies.get(1).cloned().flatten());
                let query = match shelf {
                    Shelf::Objects(_) => query
                        .bind(first)
                        .bind(&old.namespace)
                        .bind(&old.name)
                        .bind(old.bodies.first().cloned().flatten()),
                    Shelf::Log => query.bind(first).bind(second).bind(signed(old.revision)),
                };
                query.execute(&mut *transaction).await.map_err(failed(doing))?;
            }
            transaction.commit().await.map_err(failed(doing))
        }
    };
}
pub(in super::super) use rows;
