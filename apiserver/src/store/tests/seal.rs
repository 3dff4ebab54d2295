//! What is sealed, with which key, and what is noticed of those who change the database themselves.

use sqlx::{ConnectOptions, Connection};

use super::*;

const SECRET: &str = "hunter2-is-no-password";
/// It stands in no name, but in an unsealed body: so that the search is known to find what is there.
const OPEN: &str = "everybody-may-read-this";

macro_rules! on_both_databases {
    ($($name:ident)*) => {
        mod in_postgres { $(#[tokio::test] async fn $name() { super::$name(super::Bed::postgres()).await; })* }
        mod in_sqlite { $(#[tokio::test] async fn $name() { super::$name(super::Bed::sqlite()).await; })* }
    };
}

on_both_databases! {
    no_secret_stands_in_the_database
    a_store_that_was_not_sealed_is_when_it_is_opened_with_a_key
    another_key_opens_nothing
    keys_are_replaced_while_clients_write
    a_key_that_was_used_is_not_given_up
    a_rotation_that_was_cut_off_is_finished_by_the_next
    what_was_swapped_or_unsealed_is_noticed
}

impl Bed {
    async fn try_open(&self, keys: Option<Arc<KeyRing>>) -> Result<Store, Error> {
        let settings = Settings { keys, ..settings() };
        match self {
            Self::Memory(_) => panic!("this is about databases"),
            Self::Sqlite(_) => Store::open(Sqlite::open(self.file()).await.unwrap(), tables(), settings).await,
            Self::Postgres(database) => {
                Store::open(Postgres::connect(&database.url()).await.unwrap(), tables(), settings).await
            }
        }
    }

    fn file(&self) -> std::path::PathBuf {
        let Self::Sqlite(folder) = self else { panic!("it has no file") };
        folder.path().join("store.sqlite")
    }

    /// Everything that the database has on disk or, of the cluster that all tests share, in its tables.
    fn content(&self) -> Vec<u8> {
        match self {
            Self::Memory(_) => panic!("this is about databases"),
            Self::Sqlite(folder) => {
                let files = std::fs::read_dir(folder.path()).unwrap();
                files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
            }
            Self::Postgres(database) => {
                let tables =
                    ["core_configmaps", "core_events", "paas_plans", "store_changes", "store_keys", "store_audit"];
                tables.iter().map(|table| database.query(&format!("SELECT * FROM {table}"))).collect::<String>().into()
            }
        }
    }

    /// What the tables of sealed bodies have.
    async fn rows(&self) -> Vec<u8> {
        let Self::Sqlite(_) = self else { return self.content() };
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.file());
        let mut connection = options.connect().await.unwrap();
        let sql = "SELECT group_concat(body) || (SELECT group_concat(concat(last, previous)) FROM store_changes) \
                   FROM core_configmaps";
        let all: String = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        all.into()
    }

    /// Changes the closed database behind the store's back.
    pub(super) async fn execute(&self, statement: &'static str) {
        match self {
            Self::Memory(_) => panic!("this is about databases"),
            Self::Sqlite(_) => {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.file());
                let mut connection = options.connect().await.unwrap();
                sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            }
            Self::Postgres(database) => drop(database.query(statement)),
        }
    }
}

fn has(content: &[u8], text: &str) -> bool {
    content.windows(text.len()).any(|window| window == text.as_bytes())
}

/// A store with a past: secrets that are there, that were replaced and that were removed.
async fn write_all(store: &Store) {
    let kept = store.write(create(&thing("a", "kept"), format!("{SECRET} 1"))).await.unwrap();
    store.write(replace(&thing("a", "kept"), kept.revision, format!("{SECRET} 2"))).await.unwrap();
    let gone = store.write(create(&thing("a", "gone"), format!("{SECRET} 3"))).await.unwrap();
    store.write(remove(&thing("a", "gone"), gone.revision)).await.unwrap();
    store.write(create(&Key::new(PLANS, "", "small"), OPEN)).await.unwrap();
}

async fn no_secret_stands_in_the_database(bed: Bed) {
    let store = bed.open().await;
    write_all(&store).await;
    // With the log that is not in the file yet, and without.
    let open = bed.content();
    assert!(has(&open, OPEN));
    assert!(!has(&open, SECRET));
    let before = contents(&store.snapshot(THINGS, "a"));
    store.close().await.unwrap();
    let closed = bed.content();
    assert!(has(&closed, OPEN) && !has(&closed, SECRET));
    let store = bed.open().await;
    assert_eq!(contents(&store.snapshot(THINGS, "a")), before);
    let mut watch = store.watch(THINGS, "a", 0).unwrap();
    let past = take(&mut watch, 4).await;
    assert_eq!(past[3].object.value()["spec"]["content"], format!("{SECRET} 3"), "the log is opened too");
}

async fn a_store_that_was_not_sealed_is_when_it_is_opened_with_a_key(bed: Bed) {
    let store = bed.try_open(None).await.unwrap();
    write_all(&store).await;
    let before = contents(&store.snapshot(THINGS, "a"));
    store.close().await.unwrap();
    assert!(has(&bed.content(), SECRET));
    let store = bed.try_open(Some(ring(&[1]))).await.unwrap();
    assert!(!has(&bed.content(), SECRET), "nothing is left of it");
    assert_eq!(contents(&store.snapshot(THINGS, "a")), before);
    assert_eq!(take(&mut store.watch(THINGS, "a", 0).unwrap(), 4).await.len(), 4);
    store.close().await.unwrap();
    assert!(bed.try_open(Some(ring(&[1]))).await.is_ok());
}

#[tokio::test]
async fn a_sealing_that_was_cut_off_leaves_nothing_open_in_the_end() {
    let bed = Bed::sqlite();
    let store = bed.try_open(None).await.unwrap();
    write_all(&store).await;
    store.close().await.unwrap();
    drop(store);
    // Whoever reads the file keeps its old pages from being written over.
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(bed.file());
    let mut reader = options.connect().await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT * FROM store_meta").execute(&mut reader).await.unwrap();
    let Err(Error::Backend(refused)) = bed.try_open(Some(ring(&[1]))).await else { panic!("something is left") };
    assert!(refused.to_string().contains("somebody reads it"), "{refused}");
    reader.close().await.unwrap();
    // All rows are sealed by now; in pages that nothing is on any more they still stand open.
    bed.execute(
        "CREATE TABLE aside (body TEXT); INSERT INTO aside VALUES ('hunter2-is-no-password'); DROP TABLE aside",
    )
    .await;
    assert!(has(&bed.content(), SECRET));
    let store = bed.try_open(Some(ring(&[1]))).await.unwrap();
    assert!(!has(&bed.content(), SECRET));
    assert!(store.get(&thing("a", "kept")).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_servers_that_begin_at_once_with_keys_of_their_own_one_does() {
    const SERVERS: u8 = 6;
    let bed = Bed::postgres();
    let Bed::Postgres(database) = &bed else { panic!("it is PostgreSQL") };
    let mut backends = Vec::new();
    for _ in 0..SERVERS {
        backends.push(Postgres::connect(&database.url()).await.unwrap());
    }
    let opening = backends.into_iter().zip(1..).map(|(backend, byte)| {
        let settings = Settings { keys: Some(ring(&[byte])), ..settings() };
        task::spawn("server", async move { (byte, Store::open(backend, tables(), settings).await) })
    });
    let (mut begun, mut refused) = (Vec::new(), Vec::new());
    for opened in futures::future::join_all(opening.collect::<Vec<_>>()).await {
        match opened.unwrap() {
            (byte, Ok(store)) => begun.push((byte, store)),
            (_, Err(Error::Backend(error))) => refused.push(error.to_string()),
            (_, Err(error)) => panic!("{error:?}"),
        }
    }
    let [(first, store)] = &begun[..] else { panic!("{} have begun, each with another key", begun.len()) };
    let id = master_key(*first).id().to_owned();
    assert!(refused.iter().all(|error| error.contains(&format!("with the master key {id}"))), "{refused:?}");
    assert_eq!(store.master_keys().await.unwrap().into_iter().map(|key| key.id).collect::<Vec<_>>(), [id]);
}

async fn another_key_opens_nothing(bed: Bed) {
    let store = bed.try_open(Some(ring(&[1]))).await.unwrap();
    write_all(&store).await;
    store.close().await.unwrap();
    let error = |result: Result<Store, Error>| match result.err() {
        Some(Error::Backend(error)) => error.to_string(),
        other => panic!("it must not open: {other:?}"),
    };
    let (one, two) = (master_key(1), master_key(2));
    let wanted = format!("the store is sealed with the master key {}, which was not given", one.id());
    let told = error(bed.try_open(Some(ring(&[2]))).await);
    assert_eq!(told, format!("{wanted} (given: {})", two.id()));
    assert_eq!(error(bed.try_open(None).await), format!("{wanted} (no key was given)"));
    assert!(!told.contains(&*one.to_text()) && !told.contains(&*two.to_text()));
    assert!(bed.try_open(Some(ring(&[2, 1]))).await.is_ok());
}

async fn keys_are_replaced_while_clients_write(bed: Bed) {
    let store = bed.try_open(Some(ring(&[1]))).await.unwrap();
    for number in 0..200 {
        store.write(create(&thing("a", &format!("t{number}")), format!("{SECRET} {number}"))).await.unwrap();
    }
    store.replace_keys(vec![master_key(2), master_key(1)]).await.unwrap();
    let rotating = store.rewrap();
    let writing = async {
        for number in 0..50 {
            let key = thing("a", &format!("t{number}"));
            let revision = store.get(&key).unwrap().revision;
            store.write(replace(&key, revision, format!("{SECRET} again {number}"))).await.unwrap();
        }
    };
    let (rewrapped, ()) = tokio::join!(rotating, writing);
    assert!(rewrapped.unwrap() >= 150);
    let known: Vec<_> = store.master_keys().await.unwrap().into_iter().map(|key| key.id).collect();
    assert_eq!(known, [master_key(2).id()]);
    let before = contents(&store.snapshot(THINGS, "a"));
    store.close().await.unwrap();
    // In a file's free pages the old rows may still stand.
    let old = format!("sealed:1:{}", master_key(1).id());
    assert!(!has(&bed.rows().await, &old), "nothing needs the old key");
    let store = bed.try_open(Some(ring(&[2]))).await.unwrap();
    assert_eq!(contents(&store.snapshot(THINGS, "a")), before);
    take(&mut store.watch(THINGS, "a", 0).unwrap(), 250).await;
}

async fn a_key_that_was_used_is_not_given_up(bed: Bed) {
    let store = bed.try_open(Some(ring(&[1]))).await.unwrap();
    store.replace_keys(vec![master_key(2), master_key(1)]).await.unwrap();
    let needed = || async { store.master_keys().await.unwrap().into_iter().map(|key| key.id).collect::<Vec<_>>() };
    assert!(needed().await.contains(&master_key(2).id().to_owned()), "noted before it seals anything");
    let made = store.write(create(&thing("a", "x"), SECRET)).await.unwrap();
    // The old file is put back.
    let Err(Error::Backend(refused)) = store.replace_keys(vec![master_key(1)]).await else { panic!("it is needed") };
    assert_eq!(refused.to_string(), format!("the master key {} is still needed, and not there", master_key(2).id()));
    store.write(replace(&thing("a", "x"), made.revision, SECRET)).await.unwrap();
    store.close().await.unwrap();
    assert!(bed.try_open(Some(ring(&[1]))).await.is_err());
    let store = bed.try_open(Some(ring(&[1, 2]))).await.unwrap();
    assert!(store.get(&thing("a", "x")).is_some());
    // What a rotation began with is the first no more when it is about to forget the others.
    let (primary, older) = (master_key(2).id().to_owned(), vec![master_key(1).id().to_owned()]);
    let forgotten = store.ask(|answer| Request::ForgetKeys { primary, older, answer }).await;
    assert!(matches!(forgotten, Err(Error::Backend(cause)) if cause.to_string().contains("rotate again")));
    assert_eq!(store.master_keys().await.unwrap().len(), 2);
}

async fn a_rotation_that_was_cut_off_is_finished_by_the_next(bed: Bed) {
    let store = bed.try_open(Some(ring(&[1]))).await.unwrap();
    write_all(&store).await;
    store.close().await.unwrap();
    // A server that has both keys has written something and ended.
    let store = bed.try_open(Some(ring(&[2, 1]))).await.unwrap();
    store.write(create(&thing("b", "new"), SECRET)).await.unwrap();
    store.close().await.unwrap();
    for only in [1, 2] {
        assert!(bed.try_open(Some(ring(&[only]))).await.is_err(), "both are needed: {only}");
    }
    let store = bed.try_open(Some(ring(&[2, 1]))).await.unwrap();
    assert!(store.rewrap().await.unwrap() > 0);
    assert_eq!(store.rewrap().await.unwrap(), 0);
    store.close().await.unwrap();
    assert!(bed.try_open(Some(ring(&[2]))).await.is_ok());
}

async fn what_was_swapped_or_unsealed_is_noticed(bed: Bed) {
    let attacks = [
        "UPDATE core_configmaps SET body = (SELECT body FROM core_configmaps WHERE name = 'x') WHERE name = 'y'",
        "UPDATE core_configmaps SET body = substr(body, 1, length(body) - 2) WHERE name = 'y'",
        "UPDATE core_configmaps SET body = '{}' WHERE name = 'y'",
        "UPDATE store_changes SET last = 'sealed:1::' WHERE name = 'z'",
    ];
    for attack in attacks {
        let store = bed.open().await;
        for name in ["x", "y", "z"] {
            let key = thing("a", name);
            let made = match store.get(&key) {
                Some(there) => there,
                None => store.write(create(&key, name)).await.unwrap(),
            };
            if name == "z" {
                store.write(remove(&key, made.revision)).await.unwrap();
            }
        }
        store.close().await.unwrap();
        bed.execute("CREATE TABLE saved AS SELECT * FROM core_configmaps").await;
        bed.execute("CREATE TABLE saved_log AS SELECT * FROM store_changes").await;
        bed.execute(attack).await;
        assert!(bed.try_open(Some(ring(&[0]))).await.is_err(), "{attack}");
        bed.execute(
            "UPDATE core_configmaps SET body = (SELECT body FROM saved AS s WHERE s.name = core_configmaps.name)",
        )
        .await;
        bed.execute("UPDATE store_changes SET last = (SELECT last FROM saved_log AS s WHERE s.revision = store_changes.revision)").await;
        bed.execute("DROP TABLE saved").await;
        bed.execute("DROP TABLE saved_log").await;
    }
    assert!(bed.try_open(Some(ring(&[0]))).await.is_ok(), "and it is good again");
}
