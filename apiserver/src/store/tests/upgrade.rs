//! Databases of every older version are opened by this one, with what is in them.

use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use super::*;

/// The first version is 1; the present one needs no upgrade.
const OLDER: std::ops::RangeInclusive<i64> = 1..=6;

/// What a program of that time had written: two states of an object, and a token.
const CONTENT: &str = r#"
INSERT INTO core_configmaps (namespace, name, uid, revision, generation, created, modified, deleted, body) VALUES
    ('a', 'x', 'u1', 2, 0, 1767225600000000, 1767225601000000, NULL,
     '{"apiVersion":"v1","kind":"Thing","metadata":{"resourceVersion":"2","name":"x","namespace":"a","uid":"u1"},"spec":{"content":"new"}}');
INSERT INTO store_changes (revision, time, kind, namespace, name, operation, last, previous, previous_modified) VALUES
    (1, 1767225600000000, 'core_configmaps', 'a', 'x', 'created', NULL, NULL, NULL),
    (2, 1767225601000000, 'core_configmaps', 'a', 'x', 'updated', NULL,
     '{"apiVersion":"v1","kind":"Thing","metadata":{"resourceVersion":"1","name":"x","namespace":"a","uid":"u1"},"spec":{"content":"old"}}',
     1767225600000000);
UPDATE store_meta SET revision = 2;
"#;

async fn is_as_it_was(store: &Store) {
    let found = store.get(&thing("a", "x")).unwrap();
    assert_eq!((found.revision, &found.value()["spec"]["content"]), (2, &json!("new")));
    let past = take(&mut store.watch(THINGS, "a", 0).unwrap(), 2).await;
    assert_eq!(past[0].object.value()["spec"]["content"], "old");
    let next = store.write(replace(&thing("a", "x"), 2, "newer")).await;
    assert!(matches!(next, Err(Error::Invalid { .. })), "the uid is another one");
    assert_eq!(store.write(create(&thing("a", "y"), 1)).await.unwrap().revision, 3);
}

#[tokio::test]
async fn files_of_older_versions() {
    for version in OLDER {
        let bed = Bed::sqlite();
        let Bed::Sqlite(folder) = &bed else { panic!("it is SQLite") };
        let options = SqliteConnectOptions::new().filename(folder.path().join("store.sqlite")).create_if_missing(true);
        let mut connection = options.connect().await.unwrap();
        super::super::sqlite::migrator_to(version).run(&mut connection).await.unwrap();
        sqlx::raw_sql(CONTENT).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let store = bed.open().await;
        is_as_it_was(&store).await;
        store.close().await.unwrap();
        bed.open().await;
    }
}

#[tokio::test]
async fn databases_of_older_versions() {
    for version in OLDER {
        let bed = Bed::postgres();
        let Bed::Postgres(database) = &bed else { panic!("it is PostgreSQL") };
        let mut connection = PgConnection::connect(&database.url()).await.unwrap();
        super::super::postgres::connect::migrator_to(version).run(&mut connection).await.unwrap();
        sqlx::raw_sql(CONTENT).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let store = bed.open().await;
        is_as_it_was(&store).await;
        store.close().await.unwrap();
        bed.open().await;
    }
}

/// A database remembers the checksum of each migration and is refused where one has another: a file that anybody may have
/// used is never edited. `migrations/checksums` has what each was when it was made.
#[test]
fn no_migration_was_edited() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
    let known = std::fs::read_to_string(root.join("checksums")).unwrap();
    let mut found = Vec::new();
    for dialect in ["postgres", "postgres-series", "sqlite", "sqlite-series"] {
        let files = std::fs::read_dir(root.join(dialect)).unwrap();
        let mut names: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        for name in names {
            let text = std::fs::read(root.join(dialect).join(&name)).unwrap();
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &text);
            found.push(format!("{}  {dialect}/{name}", hex::encode(digest)));
        }
    }
    let known: Vec<&str> = known.lines().collect();
    assert_eq!(found, known, "correct an older migration by a new one; add a new one's line to migrations/checksums");
}
