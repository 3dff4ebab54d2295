//! Large objects: what is read of a database, at the start and from other servers, stays small whatever tenants have written.

use super::cluster::Database;
use super::proxy::{Fate, Proxy};
use super::*;

/// As large as objects may be.
const BODY: usize = 1_400_000;
/// So many states of that size are more than is read of the log.
const CHANGES: u64 = 60;

macro_rules! on_both_databases {
    ($($name:ident)*) => {
        mod in_postgres { $(#[tokio::test] async fn $name() { super::$name(super::Bed::postgres()).await; })* }
        mod in_sqlite { $(#[tokio::test] async fn $name() { super::$name(super::Bed::sqlite()).await; })* }
    };
}

on_both_databases! {
    of_a_log_that_is_too_large_the_newest_is_read
    large_objects_are_read_a_few_at_a_time
}

/// Of a kind that is not sealed.
fn plan(name: &str) -> Key {
    Key::new(PLANS, "", name)
}

/// Writes the same object again and again.
async fn overwrite(store: &Store) {
    let large = "x".repeat(BODY);
    store.write(create(&plan("x"), large.as_str())).await.unwrap();
    for _ in 1..CHANGES {
        store.write(replace(&plan("x"), store.revision(), large.as_str())).await.unwrap();
    }
}

fn endless() -> Settings {
    Settings { log: LogLimits { bytes_max: u64::MAX, ..LogLimits::default() }, ..settings() }
}

async fn of_a_log_that_is_too_large_the_newest_is_read(bed: Bed) {
    let store = bed.open_with(endless()).await;
    overwrite(&store).await;
    store.close().await.unwrap();
    drop(store);
    let store = bed.open_with(endless()).await;
    assert!(store.watch(PLANS, "", 1).is_err(), "it is as if it had left the log");
    assert!(store.shared.logged().bytes() <= log::READ_BYTES_MAX);
    // The ring keeps less than the log.
    let newest = take(&mut store.watch(PLANS, "", CHANGES - 5).unwrap(), 5).await;
    assert_eq!(newest.last().unwrap().revision, CHANGES);
    let compacted = store.compact().await.unwrap();
    assert!(compacted > 5 && compacted < CHANGES - 5, "and leaves it: {compacted}");
}

async fn large_objects_are_read_a_few_at_a_time(bed: Bed) {
    const OBJECTS: usize = 12;
    let store = bed.open().await;
    for number in 0..OBJECTS {
        store.write(create(&plan(&number.to_string()), "x".repeat(BODY))).await.unwrap();
    }
    store.close().await.unwrap();
    drop(store);
    let (portions, mut arriving) = mpsc::channel(2);
    let tables = tables();
    let loading = async {
        match &bed {
            Bed::Memory(_) => panic!("this is about databases"),
            Bed::Sqlite(folder) => {
                let mut backend = Sqlite::open(folder.path().join("store.sqlite")).await.unwrap();
                backend.load(&tables, portions).await.unwrap()
            }
            Bed::Postgres(database) => {
                Postgres::connect(&database.url()).await.unwrap().load(&tables, portions).await.unwrap()
            }
        }
    };
    let counting = async {
        let mut counts = Vec::new();
        while let Some(Portion { objects, .. }) = arriving.recv().await {
            counts.push(objects.len());
        }
        counts
    };
    let (_, counts) = tokio::join!(loading, counting);
    assert_eq!(counts.iter().sum::<usize>(), OBJECTS);
    assert!(counts.iter().all(|count| count * BODY < 8 << 20), "{counts:?}");
}

#[tokio::test]
async fn too_much_of_others_is_read_as_what_it_has_led_to() {
    let database = Database::new();
    let open =
        async || Store::open(Postgres::connect(&database.url()).await.unwrap(), tables(), endless()).await.unwrap();
    let one = open().await;
    overwrite(&one).await;
    let mut backend = Postgres::connect(&database.url()).await.unwrap();
    // The statements are made by reading everything, which nobody takes here.
    let (portions, arriving) = mpsc::channel(1);
    drop(arriving);
    backend.load(&tables(), portions).await.unwrap_err();
    assert!(matches!(backend.news(1).await.unwrap(), News::Lost));
    assert!(matches!(backend.news(CHANGES - 5).await.unwrap(), News::Changes(changes) if changes.changes.len() == 5));
}

#[tokio::test]
async fn a_database_that_falls_silent_while_it_is_read_is_given_up() {
    let database = Database::new();
    let store = Store::open(Postgres::connect(&database.url()).await.unwrap(), tables(), settings()).await.unwrap();
    for number in 0..12 {
        store.write(create(&plan(&number.to_string()), "x".repeat(BODY))).await.unwrap();
    }
    let proxy = Proxy::new(&database);
    let connected = Postgres::connect(&proxy.url(&database)).await.unwrap();
    let mut backend = connected.with_row_max(Duration::from_secs(2));
    let (portions, mut arriving) = mpsc::channel(1);
    let tables = tables();
    let reading = tokio::time::timeout(PATIENCE, backend.load(&tables, portions));
    let falling_silent = async {
        // The first that has anything; the rest is more than what is on its way.
        while arriving.recv().await.is_some_and(|portion| portion.objects.is_empty()) {}
        proxy.set(Fate::Silent);
        while arriving.recv().await.is_some() {}
    };
    let (read, ()) = tokio::join!(reading, falling_silent);
    assert!(matches!(read.expect("it does not wait for ever"), Err(BackendError::Lost)));
}

/// The most memory that this process has had, in bytes. Every test has a process of its own.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
}

#[tokio::test]
async fn a_table_larger_than_the_memory_is_copied_both_ways() {
    let (database, target) = (Database::new(), Database::new());
    for database in [&database, &target] {
        Postgres::connect(&database.url()).await.unwrap().close().await.unwrap();
    }
    database.query(
        "INSERT INTO store_audit (time, user_name, namespace, resource, verb, record) \
         SELECT n, 'u', '', 'r', 'v', n || repeat('x', 1000000) FROM generate_series(1, 128) AS n",
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.sqlite");
    Sqlite::open(&file).await.unwrap().close().await.unwrap();
    let before = peak();
    let there = export(&database.url(), &[&file]).await.unwrap();
    let back = transfer(&[&file], &target.url(), Direction::ToPostgres).await.unwrap();
    let taken = peak() - before;
    assert_eq!(there, back);
    assert!(there.iter().any(|moved| moved.table == "store_audit" && moved.rows == 128));
    assert!(taken < 64 << 20, "{taken} bytes were taken for 128 MB");
}
