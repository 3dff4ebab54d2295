//! What is SQLite's own.

use futures::future::join_all;
use sqlx::{ConnectOptions, Row};

use super::*;

pub(super) async fn sql(folder: &tempfile::TempDir) -> sqlx::SqliteConnection {
    sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join("store.sqlite")).connect().await.unwrap()
}

#[tokio::test]
async fn one_refused_row_does_not_fail_the_others_of_its_batch() {
    let bed = Bed::sqlite();
    let store = bed.open().await;
    let mut writes: Vec<_> = (0..20).map(|n| create(&thing("a", &n.to_string()), n)).collect();
    let (Write::Create { body: first, .. }, [.., Write::Create { body: last, .. }]) =
        (writes[0].clone(), &mut writes[..])
    else {
        panic!("they are creations")
    };
    last["metadata"]["uid"] = first["metadata"]["uid"].clone();
    let results = join_all(writes.into_iter().map(|write| store.write(write))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 19);
    assert!(matches!(&results[19], Err(Error::Backend(error)) if error.is_constraint()));
    assert_eq!((store.revision(), store.snapshot(THINGS, "a").len()), (19, 19));
    assert_eq!(take(&mut store.watch(THINGS, "a", 0).unwrap(), 19).await.last().unwrap().revision, 19);
}

#[tokio::test]
async fn batches_of_every_size_and_mixture_are_stored_whole() {
    let bed = Bed::sqlite();
    let store = bed.open().await;
    let mut alive: Vec<Arc<Object>> = Vec::new();
    for size in (1..40).chain([63, 64, 65, 127, 200]) {
        let removals = alive.split_off(alive.len() / 2);
        let removals = removals.iter().map(|object| remove(&object.key(THINGS), object.revision));
        let updates = alive.iter().map(|object| replace(&object.key(THINGS), object.revision, size));
        let creations = (0..size).map(|n| create(&thing("a", &format!("{size}-{n}")), n));
        let others = (0..size % 5).map(|n| create(&Key::new(EVENTS, "a", format!("{size}-{n}")), n));
        let all: Vec<_> = removals.chain(updates).chain(creations).chain(others).collect();
        for result in join_all(all.into_iter().map(|write| store.write(write))).await {
            result.unwrap();
        }
        alive = store.snapshot(THINGS, "a").iter().map(Arc::clone).collect();
    }
    let before = [THINGS, EVENTS].map(|kind| contents(&store.snapshot(kind, "a")));
    store.close().await.unwrap();
    drop(store);
    let store = bed.open().await;
    assert_eq!([THINGS, EVENTS].map(|kind| contents(&store.snapshot(kind, "a"))), before);
}

/// Of a body that is sealed, SQL cannot see anything.
fn unsealed() -> Settings {
    Settings { keys: None, ..settings() }
}

#[tokio::test]
async fn columns_say_what_the_body_says() {
    let bed = Bed::sqlite();
    let Bed::Sqlite(folder) = &bed else { panic!("it is SQLite") };
    let store = bed.open_with(unsealed()).await;
    let mut value = body(&thing("a", "x"), 1);
    value["metadata"]["generation"] = json!(7);
    value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:01Z");
    store.write(Write::Create { key: thing("a", "x"), body: value }).await.unwrap();
    let mut connection = sql(folder).await;
    let row = sqlx::query(
        "SELECT revision, generation, created, modified, deleted, body ->> '$.metadata.resourceVersion', \
         (SELECT journal_mode FROM pragma_journal_mode) FROM core_configmaps WHERE namespace = 'a' AND name = 'x'",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    let number = |index| row.get::<i64, _>(index);
    let now = start().as_microsecond();
    assert_eq!([0, 1, 2, 3, 4].map(number), [1, 7, now, now, now + 1_000_000]);
    assert_eq!((row.get::<String, _>(5).as_str(), row.get::<String, _>(6).as_str()), ("1", "wal"));
}

#[tokio::test]
async fn commits_wait_for_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let mut backend = Sqlite::open(folder.path().join("store.sqlite")).await.unwrap();
    let connection = backend.writer().await.unwrap();
    let full: i64 = sqlx::query("PRAGMA synchronous").fetch_one(connection).await.unwrap().get(0);
    assert_eq!(full, 2, "a commit that was answered must survive a loss of power");
}

#[tokio::test]
async fn the_library_is_built_as_the_repository_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut backend = Sqlite::open(folder.path().join("store.sqlite")).await.unwrap();
    let options: Vec<String> =
        sqlx::query_scalar("PRAGMA compile_options").fetch_all(backend.writer().await.unwrap()).await.unwrap();
    // One of the settings in `.cargo/config.toml`, which come together: the other leaves no trace to ask for.
    assert!(options.iter().any(|option| option == "DEFAULT_MEMSTATUS=0"), "{options:?}");
}

#[tokio::test]
async fn a_file_belongs_to_one_store_at_a_time() {
    let bed = Bed::sqlite();
    let Bed::Sqlite(folder) = &bed else { panic!("it is SQLite") };
    let path = folder.path().join("store.sqlite");
    let store = bed.open().await;
    let second = Sqlite::open_within(path.clone(), Duration::from_millis(100)).await;
    assert!(matches!(second, Err(BackendError::File { .. })), "two writers would each order their own");
    store.close().await.unwrap();
    drop(store);
    Sqlite::open(&path).await.unwrap();
}

#[tokio::test]
async fn damage_is_found_when_the_store_is_opened() {
    let damages = [
        "UPDATE store_meta SET revision = 5",
        "UPDATE store_meta SET revision = 1",
        "DELETE FROM store_changes WHERE revision = 2",
        "DELETE FROM core_configmaps WHERE name = 'x'",
        "UPDATE core_configmaps SET revision = 1 WHERE name = 'x'",
        "UPDATE core_configmaps SET body = replace(body, '\"resourceVersion\":\"3\"', '\"resourceVersion\":\"2\"')",
        "UPDATE core_configmaps SET name = 'z' WHERE name = 'x'",
        "UPDATE core_configmaps SET body = '{}' WHERE name = 'x'",
        "UPDATE store_changes SET previous = NULL WHERE revision = 3",
        "UPDATE store_changes SET operation = 'created' WHERE revision = 3",
    ];
    for damage in damages {
        let bed = Bed::sqlite();
        let Bed::Sqlite(folder) = &bed else { panic!("it is SQLite") };
        let store = bed.open_with(unsealed()).await;
        store.write(create(&thing("a", "x"), 1)).await.unwrap();
        store.write(create(&thing("a", "y"), 1)).await.unwrap();
        store.write(replace(&thing("a", "x"), 1, 2)).await.unwrap();
        store.close().await.unwrap();
        drop(store);
        sqlx::raw_sql(damage).execute(&mut sql(folder).await).await.unwrap();
        let backend = Sqlite::open(folder.path().join("store.sqlite")).await.unwrap();
        let opened = Store::open(backend, tables(), unsealed()).await;
        assert!(opened.is_err(), "{damage}");
    }
}

#[tokio::test]
async fn a_name_that_is_no_tables_is_refused() {
    for name in ["", "Paas", "a; DROP TABLE store_meta", "1a", "a-b", "no_such_table"] {
        let folder = tempfile::tempdir().unwrap();
        let backend = Sqlite::open(folder.path().join("store.sqlite")).await.unwrap();
        let table = Table { name: name.into(), ..Table::default() };
        assert!(Store::open(backend, vec![table], settings()).await.is_err(), "{name}");
    }
}
