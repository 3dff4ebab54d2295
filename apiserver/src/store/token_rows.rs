//! Bearer tokens as rows: the same columns, and the same code for both databases, since only the types of their driver
//! differ.

/// The columns, in the order in which they are read and bound.
pub(super) const COLUMNS: &str = "id, hash, user_name, groups_json, created, expires, description, revoked, purpose, \
                                  user_uid, epoch, scope_json, last_used";

/// What [`Ended`](super::Ended) means.
pub(super) const ENDED: &str =
    "revoked < $1 OR expires < $1 OR (purpose = 'session' AND (revoked < $2 OR expires < $2))";

/// Inserts a token or changes one, which stays revoked if it is.
pub(super) fn upsert() -> String {
    format!(
        "INSERT INTO paas_api_tokens ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
         ON CONFLICT (id) DO UPDATE SET user_name = excluded.user_name, groups_json = excluded.groups_json, \
         expires = excluded.expires, description = excluded.description, \
         revoked = COALESCE(paas_api_tokens.revoked, excluded.revoked)"
    )
}

/// Makes the functions for a database, its connection and its rows.
macro_rules! token_rows {
    ($database:ty, $connection:ty, $row:ty) => {
        /// A statement like [`upsert`] with its values.
        fn upserting(
            sql: String,
            token: &Token,
        ) -> Result<sqlx::query::Query<'_, $database, <$database as sqlx::Database>::Arguments>, BackendError> {
            let damaged = |error: serde_json::Error| BackendError::Damaged(error.to_string());
            let groups = serde_json::to_string(&token.groups).map_err(damaged)?;
            let scope = token.scope.as_deref().map(serde_json::to_string).transpose().map_err(damaged)?;
            Ok(sqlx::query(AssertSqlSafe(sql))
                .bind(&token.id)
                .bind(token.hash.0.to_vec())
                .bind(&token.user)
                .bind(groups)
                .bind(token.created.as_microsecond())
                .bind(token.expires.map(Timestamp::as_microsecond))
                .bind(&token.description)
                .bind(token.revoked.map(Timestamp::as_microsecond))
                .bind(token.purpose.as_str())
                .bind(&token.bond.uid)
                .bind(&token.bond.epoch)
                .bind(scope)
                .bind(token.last_used.map(Timestamp::as_microsecond)))
        }

        /// All of them.
        pub(super) async fn load(connection: &mut $connection) -> Result<Vec<Token>, BackendError> {
            let doing = "cannot read the tokens";
            let sql = format!("SELECT {COLUMNS} FROM paas_api_tokens");
            let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(connection).await.map_err(failed(doing))?;
            rows.iter().map(read).collect()
        }

        fn read(row: &$row) -> Result<Token, BackendError> {
            let failed = failed("cannot read a token");
            let damaged = |error: serde_json::Error| BackendError::Damaged(error.to_string());
            let optional = |index| match row.try_get::<Option<i64>, _>(index) {
                Ok(micros) => micros.map(time).transpose(),
                Err(error) => Err(failed(error)),
            };
            let hash: &[u8] = row.try_get(1).map_err(&failed)?;
            let groups: &str = row.try_get(3).map_err(&failed)?;
            let purpose: &str = row.try_get(8).map_err(&failed)?;
            let scope: Option<&str> = row.try_get(11).map_err(&failed)?;
            Ok(Token {
                id: row.try_get(0).map_err(&failed)?,
                hash: TokenHash(hash.try_into().map_err(|_length| BackendError::Damaged("a token's hash".into()))?),
                user: row.try_get(2).map_err(&failed)?,
                groups: serde_json::from_str(groups).map_err(damaged)?,
                created: time(row.try_get(4).map_err(&failed)?)?,
                expires: optional(5)?,
                description: row.try_get(6).map_err(&failed)?,
                revoked: optional(7)?,
                purpose: Purpose::parse(purpose)?,
                bond: Bond { uid: row.try_get(9).map_err(&failed)?, epoch: row.try_get(10).map_err(&failed)? },
                scope: scope.map(serde_json::from_str).transpose().map_err(damaged)?,
                last_used: optional(12)?,
            })
        }
    };
}
pub(super) use token_rows;
