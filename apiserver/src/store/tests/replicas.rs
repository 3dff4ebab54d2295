//! Several servers on one PostgreSQL, and a PostgreSQL that goes away.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;

use super::cluster::Database;
use super::proxy::{Fate, Proxy};
use super::*;

async fn server(url: &str, settings: Settings) -> Store {
    Store::open(Postgres::connect(url).await.unwrap(), tables(), settings).await.unwrap()
}

async fn servers<const COUNT: usize>(database: &Database) -> [Store; COUNT] {
    let url = database.url();
    let opened = join_all((0..COUNT).map(|_| server(&url, settings()))).await;
    opened.try_into().unwrap_or_else(|_| panic!("as many as were asked for"))
}

/// Waits until the condition holds.
async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("in the end: {what}"));
}

/// Waits until a server has all that was committed. Where the machine stands still for seconds, it says that it does not know.
async fn is_fresh(store: &Store) {
    eventually("it is fresh", async || store.refresh().await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_of_several_servers_have_one_order_that_all_watchers_see() {
    const WRITERS: u64 = 6;
    const WRITES: u64 = 40;
    let database = Database::new();
    let stores = servers::<3>(&database).await;
    let mut watches: Vec<_> = stores.iter().map(|store| store.watch_across_namespaces(THINGS, 0).unwrap()).collect();
    let writers = (0..WRITERS).map(|writer| {
        let store = stores[usize::try_from(writer).unwrap() % stores.len()].clone();
        task::spawn("writer", async move {
            let mut written = Vec::new();
            for n in 0..WRITES {
                // All writers use the same few names, so that they get in each other's way.
                let key = thing("a", &(n % 5).to_string());
                let seen = store.get(&key).map(|object| object.revision);
                let write = match seen {
                    None => create(&key, n),
                    Some(revision) if n % 7 == 6 => remove(&key, revision),
                    Some(revision) => replace(&key, revision, n),
                };
                match store.write(write).await {
                    Ok(object) => written.push((object.revision, object.body.clone())),
                    Err(Error::NotFound) => assert!(seen.is_some(), "a creation finds nothing in its way"),
                    Err(Error::Exists { current }) => {
                        assert!(seen.is_none() && current.revision > 0);
                    }
                    Err(Error::Conflict { current }) => {
                        assert!(Some(current.revision) != seen, "it was changed since");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            written
        })
    });
    let mut written: BTreeMap<u64, _> = BTreeMap::new();
    for done in join_all(writers.collect::<Vec<_>>()).await {
        for (revision, body) in done.unwrap() {
            assert!(written.insert(revision, body).is_none(), "a revision is given once");
        }
    }
    let count = written.len();
    assert!(written.keys().copied().eq(1..=count as u64), "dense");
    for (watch, store) in watches.iter_mut().zip(&stores) {
        let events = take(watch, count).await;
        for (event, (revision, body)) in events.iter().zip(&written) {
            assert_eq!((event.revision, &event.object.body), (*revision, body));
        }
        is_fresh(store).await;
        assert_eq!(replay(&events), contents(&store.snapshot_across_namespaces(THINGS)));
        assert!(watch.ready().unwrap().is_empty(), "and nothing twice");
    }
}

#[tokio::test]
async fn what_one_server_has_answered_the_others_know() {
    let database = Database::new();
    let [one, other] = servers(&database).await;
    for n in 0..30 {
        let key = thing("a", &n.to_string());
        let made = one.write(create(&key, n)).await.unwrap();
        if n % 3 == 0 {
            is_fresh(&other).await;
            assert_eq!(other.get(&key).unwrap().body, made.body);
        } else if n % 3 == 1 {
            // Without asking: a write is judged by what is, not by what this server has heard.
            assert!(matches!(other.write(create(&key, "again")).await, Err(Error::Exists { .. })));
        } else {
            other.write(replace(&key, made.revision, "changed")).await.unwrap();
            assert!(matches!(one.write(replace(&key, made.revision, "late")).await, Err(Error::Conflict { .. })));
        }
    }
    let before = other.revision();
    let waiting = other.reach(before + 1, PATIENCE);
    let (reached, _) = tokio::join!(waiting, one.write(create(&thing("a", "last"), 0)));
    assert!(reached && !other.reach(before + 2, Duration::from_millis(10)).await);
    let secret = one.tokens().create(NewToken { user: "ann".into(), ..NewToken::default() }).await.unwrap().0;
    let token = other.tokens().look_up(&secret).await.expect("known at once");
    other.tokens().revoke(&token.id).await.unwrap();
    is_fresh(&one).await;
    assert!(one.tokens().find(&secret).is_none(), "and revoked for all");
}

#[tokio::test]
async fn a_server_that_was_away_for_too_long_reads_everything_anew() {
    let database = Database::new();
    let proxy = Proxy::new(&database);
    let mut settings = settings();
    settings.log =
        LogLimits { changes_max: 10, age_max: Duration::from_mins(1), changes_old_max: 5, ..LogLimits::default() };
    let one = server(&database.url(), settings.clone()).await;
    one.write(create(&thing("a", "first"), 0)).await.unwrap();
    let away = server(&proxy.url(&database), settings).await;
    let mut watch = away.watch(THINGS, "a", 1).unwrap();
    proxy.set(Fate::Away);
    eventually("it notices", async || away.staleness().is_some()).await;
    assert_eq!(away.refresh().await, Err(Stale));
    assert!(away.get(&thing("a", "first")).is_some(), "reads go on");
    let error = away.write(create(&thing("a", "x"), 0)).await.unwrap_err();
    assert!(matches!(&error, Error::Backend(cause) if cause.is_unavailable()), "{error:?}");
    for n in 0..30 {
        one.write(create(&thing("a", &n.to_string()), n)).await.unwrap();
    }
    assert_eq!(one.compact().await.unwrap(), 21);
    proxy.set(Fate::Passes);
    eventually("it is back", async || away.refresh().await.is_ok()).await;
    assert_eq!(away.staleness(), None);
    assert_eq!(contents(&away.snapshot(THINGS, "a")), contents(&one.snapshot(THINGS, "a")));
    assert_eq!(
        watch.next().await.map(|events| events.len()),
        Err(Evicted { seen: 1 }),
        "it cannot know what it missed"
    );
    drop(watch);
    let mut watch = away.watch(THINGS, "a", 31).unwrap();
    one.write(create(&thing("a", "next"), 0)).await.unwrap();
    assert_eq!(take(&mut watch, 1).await[0].revision, 32);
    away.write(create(&thing("a", "x"), 0)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_are_sent_though_somebody_reads_all_the_time() {
    const READERS: usize = 400;
    let database = Database::new();
    let [store] = servers(&database).await;
    let mut listener = sqlx::postgres::PgListener::connect(&database.url()).await.unwrap();
    listener.listen("berth_store").await.unwrap();
    let over = tokio_util::sync::CancellationToken::new();
    let looks = Arc::new(AtomicUsize::new(0));
    let readers = (0..READERS).map(|_| {
        let (store, over, looked) = (store.clone(), over.clone(), Arc::clone(&looks));
        task::spawn("reader", async move {
            while !over.is_cancelled() {
                // One that takes too long on a machine that stands still is another reader's affair.
                if store.refresh().await.is_ok() {
                    looked.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    // Two looks of all readers on average, and thousands while readers come first. A hint that the database does not take
    // in time is not sent again: so there are three.
    let mut heard = false;
    for name in ["x", "y", "z"] {
        let revision = store.write(create(&thing("a", name), 0)).await.unwrap().revision;
        let last = looks.load(Ordering::Relaxed) + 100 * READERS;
        let many_looks = async {
            while looks.load(Ordering::Relaxed) < last {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        heard = tokio::select! {
            hint = listener.recv() => hint.unwrap().payload() == revision.to_string(),
            () = many_looks => false,
        };
        if heard {
            break;
        }
    }
    assert!(heard, "the others hear of it");
    over.cancel();
    join_all(readers).await.into_iter().for_each(Result::unwrap);
}

#[tokio::test]
async fn a_connection_for_hints_that_has_fallen_silent_is_replaced() {
    const WRITES: u32 = 10;
    let database = Database::new();
    let proxy = Proxy::new(&database);
    let one = server(&database.url(), settings()).await;
    let other = server(&proxy.url(&database), settings()).await;
    one.write(create(&thing("a", "x"), 0)).await.unwrap();
    let mut watch = other.watch_across_namespaces(THINGS, 0).unwrap();
    take(&mut watch, 1).await;
    // Without hints each is seen by the look of every second.
    let hears = async |watch: &mut Watch| {
        let begun = tokio::time::Instant::now();
        for _ in 0..WRITES {
            one.write(replace(&thing("a", "x"), one.revision(), 0)).await.unwrap();
            take(watch, 1).await;
        }
        begun.elapsed() < Duration::from_secs(1) * (WRITES / 2)
    };
    let hearing = async { while !hears(&mut watch).await {} };
    tokio::time::timeout(PATIENCE, hearing).await.expect("it hears");
    proxy.set(Fate::Deaf);
    // What makes the network drop everything that is sent to it.
    one.write(replace(&thing("a", "x"), one.revision(), 0)).await.unwrap();
    take(&mut watch, 1).await;
    proxy.set(Fate::Passes);
    let waiting = async { while !hears(&mut watch).await {} };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it hears again");
}

#[tokio::test]
async fn a_log_that_another_server_has_shortened_further_stays_so() {
    let database = Database::new();
    let mut settings = settings();
    settings.log = LogLimits { changes_max: 5, ..LogLimits::default() };
    let store = server(&database.url(), settings.clone()).await;
    // The other's commit falls between this one's reading and writing, the first time that all are written.
    database.query(
        "CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         UPDATE store_meta SET compacted_revision = 18; DELETE FROM store_changes WHERE revision <= 18; RETURN NULL; END $$; \
         CREATE TRIGGER other AFTER DELETE ON store_changes FOR EACH ROW \
         WHEN (pg_trigger_depth() = 0 AND OLD.revision = 15) EXECUTE FUNCTION other()",
    );
    for n in 0..20 {
        store.write(create(&thing("a", &n.to_string()), n)).await.unwrap();
    }
    eventually("it is shortened", async || store.compact().await.unwrap() >= 15).await;
    assert_eq!(store.compact().await.unwrap(), 18);
    store.close().await.unwrap();
    server(&database.url(), settings).await;
}

#[tokio::test]
async fn a_database_that_has_gone_back_is_not_gone_on_with() {
    let database = Database::new();
    let [store] = servers(&database).await;
    for n in 0..3 {
        store.write(create(&thing("a", &n.to_string()), n)).await.unwrap();
    }
    // A standby that lacked the last commit has become the primary.
    database.query("DELETE FROM store_changes WHERE revision = 3; DELETE FROM core_configmaps WHERE name = '2'");
    database.query("UPDATE store_meta SET revision = 2");
    eventually("it notices without a write", async || store.lag().is_some_and(|why| why.contains("gone back"))).await;
    assert_eq!(store.refresh().await, Err(Stale));
    assert!(store.write(create(&thing("a", "x"), 0)).await.is_err());
    // Others go on, and reach the revision that this server was at.
    let [other] = servers(&database).await;
    other.write(create(&thing("a", "another"), 0)).await.unwrap();
    assert_eq!(other.revision(), store.revision());
    assert!(store.write(create(&thing("a", "x"), 0)).await.is_err(), "its memory is not what was committed");
    assert!(store.lag().is_some());
}

#[tokio::test]
async fn a_server_that_lacks_a_key_of_another_says_so_until_it_has_it() {
    let database = Database::new();
    let with = async |bytes: &[u8]| server(&database.url(), Settings { keys: Some(ring(bytes)), ..settings() }).await;
    let (one, other) = (with(&[1]).await, with(&[1]).await);
    let keys = |bytes: &[u8]| bytes.iter().map(|byte| master_key(*byte)).collect::<Vec<_>>();
    // Behind the old one everywhere first: nobody is left behind.
    for store in [&one, &other] {
        store.replace_keys(keys(&[1, 2])).await.unwrap();
    }
    one.replace_keys(keys(&[2, 1])).await.unwrap();
    one.write(create(&thing("a", "x"), 1)).await.unwrap();
    is_fresh(&other).await;
    assert_eq!((other.get(&thing("a", "x")).is_some(), other.lag()), (true, None));
    // Before the old one at once: the others cannot read what is written from now on.
    one.replace_keys(keys(&[3, 2, 1])).await.unwrap();
    one.write(create(&thing("a", "y"), 1)).await.unwrap();
    eventually("it says so", async || other.lag().is_some_and(|why| why.contains(master_key(3).id()))).await;
    assert_eq!(other.refresh().await, Err(Stale));
    other.replace_keys(keys(&[2, 1, 3])).await.unwrap();
    eventually("it has caught up", async || other.lag().is_none()).await;
    is_fresh(&other).await;
    assert!(other.get(&thing("a", "y")).is_some());
    // A key that a rotation elsewhere has forgotten while this server still seals with it is noted again.
    database.query(&format!("DELETE FROM store_keys WHERE id = '{}'", master_key(2).id()));
    other.note_key().await.unwrap();
    assert!(one.master_keys().await.unwrap().iter().any(|key| key.id == master_key(2).id()));
}

/// Numbers that look random and are the same for the same seed (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_was_lost_is_looked_up() {
    #[expect(clippy::disallowed_methods, reason = "the tests' settings come in through the environment")]
    let runs = std::env::var("BERTH_SOAK_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    for _ in 0..runs {
        lose_answers(uuid::Uuid::new_v4().as_u64_pair().0).await;
    }
}

async fn lose_answers(seed: u64) {
    println!("seed {seed}");
    let mut random = Random(seed);
    let database = Database::new();
    let proxy = Proxy::new(&database);
    let store = server(&proxy.url(&database), settings()).await;
    let other = server(&database.url(), settings()).await;
    let mut watch = store.watch_across_namespaces(THINGS, 0).unwrap();
    let (mut written, mut lost, mut saved) = (BTreeMap::new(), 0, 0);
    for round in 0..24 {
        let fate = [Fate::AnswerLost, Fate::RequestLost, Fate::Passes][round % 3];
        // One write is one statement; several of two kinds are a transaction of some. The first is of the kind that is not
        // sealed: by its text the proxy knows it.
        let count = 1 + random.below(4);
        let writes = (0..count).map(|n| {
            let (kind, name) = (KindId(usize::try_from((n + 1) % 2).unwrap()), format!("{round}-{n}"));
            store.write(create(&Key::new(kind, "a", name), n))
        });
        proxy.set(fate);
        let (results, ()) = tokio::join!(join_all(writes), async {
            if random.below(2) == 0 {
                other.write(create(&thing("b", &round.to_string()), 0)).await.unwrap();
            }
        });
        for result in results {
            match result {
                Ok(object) => {
                    saved += u32::from(fate == Fate::AnswerLost);
                    assert!(written.insert(object.revision, object).is_none());
                }
                Err(Error::Backend(cause)) if cause.is_unavailable() => lost += 1,
                Err(error) => panic!("{fate:?}: {error:?}"),
            }
        }
        proxy.set(Fate::Passes);
        eventually("it is back", async || store.refresh().await.is_ok()).await;
    }
    // What was answered is there, and nothing else is.
    let of =
        |namespace| [THINGS, EVENTS].map(|kind| store.snapshot(kind, namespace).iter().count()).iter().sum::<usize>();
    assert_eq!(of("a"), written.len());
    assert_eq!(written.len() + of("b"), usize::try_from(store.revision()).unwrap());
    assert!(lost > 0 && saved > 0, "both happened: {lost} writes were lost and said so, {saved} were found again");
    let events = watch.ready().unwrap();
    assert!(events.iter().zip(events.iter().skip(1)).all(|(a, b)| a.revision < b.revision));
    assert_eq!(replay(&events), contents(&store.snapshot_across_namespaces(THINGS)));
    assert_eq!(database.query("SELECT count(*) FROM store_changes"), store.revision().to_string());
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_refused_with_the_reason_and_without_the_password() {
    let database = Database::new();
    let role = format!("poor_{}", uuid::Uuid::new_v4().simple());
    database.query(&format!("CREATE ROLE {role} LOGIN"));
    let url = database.url();
    let (_, place) = url.split_once('@').unwrap();
    for (url, reason) in [
        (format!("postgres://{role}:hunter2@{place}"), "GRANT CREATE ON SCHEMA public TO"),
        ("postgres://berth:hunter2@127.0.0.1:1/berth".to_owned(), "cannot connect"),
        ("postgres://berth:hunter2@host:port/berth".to_owned(), "the address must be postgres://"),
        (format!("postgres://nobody:hunter2@{place}"), "cannot connect"),
    ] {
        let error = Postgres::connect(&url).await.expect_err(&url);
        let mut text = format!("{error} {error:?}");
        let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
        while let Some(error) = cause {
            text.push_str(&error.to_string());
            cause = error.source();
        }
        assert!(text.contains(reason), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    let url = url.replacen("berth_test@", "berth_test:hunter2@", 1);
    let backend = Postgres::connect(&url).await.unwrap();
    assert!(!format!("{backend:?}").contains("hunter2"));
    database.query(&format!("DROP ROLE {role}"));
}

#[tokio::test]
async fn both_databases_have_the_same_tables() {
    // What several writers need, and one alone does not.
    const ONLY_SHARED: [&str; 2] = ["store_meta.tokens_version", "store_changes.writer"];
    let numbers = |folder: &str| {
        let path = format!("{}/../migrations/{folder}", env!("CARGO_MANIFEST_DIR"));
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = entries.collect();
        names.sort();
        names
    };
    assert_eq!(numbers("sqlite"), numbers("postgres"));
    let database = Database::new();
    Postgres::connect(&database.url()).await.unwrap();
    let shared = database.query(
        "SELECT table_name || '.' || column_name FROM information_schema.columns \
         WHERE table_schema = 'public' AND table_name <> '_sqlx_migrations' ORDER BY 1",
    );
    let mut shared: Vec<String> = shared.lines().map(str::to_owned).collect();
    for column in ONLY_SHARED {
        let at = shared.iter().position(|known| known == column).expect("it is still needed");
        shared.remove(at);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    Sqlite::open(&path).await.unwrap();
    let mut connection = super::sqlite::sql(&folder).await;
    let alone = sqlx::query_scalar::<_, String>(
        "SELECT m.name || '.' || c.name FROM sqlite_schema AS m, pragma_table_info(m.name) AS c \
         WHERE m.type = 'table' AND m.name <> '_sqlx_migrations' AND m.name NOT LIKE 'sqlite%' ORDER BY 1",
    );
    let mut alone = alone.fetch_all(&mut connection).await.unwrap();
    alone.sort();
    shared.sort();
    assert_eq!(shared, alone);
}
