//! One suite for all backends.

use futures::future::join_all;

use super::*;

macro_rules! on_each_backend {
    ($($name:ident)*) => {
        mod in_memory { $(#[tokio::test] async fn $name() { super::$name(super::Bed::memory()).await; })* }
        mod in_postgres { $(#[tokio::test] async fn $name() { super::$name(super::Bed::postgres()).await; })* }
        mod in_sqlite { $(#[tokio::test] async fn $name() { super::$name(super::Bed::sqlite()).await; })* }
    };
}

on_each_backend! {
    a_write_happens_only_if_it_finds_what_it_expects
    a_body_that_is_not_the_named_object_is_refused
    revisions_are_dense_whoever_writes
    writes_of_one_batch_see_each_other
    a_snapshot_does_not_change_and_shows_one_namespace
    pages_of_a_list_are_of_one_revision
    a_watcher_gets_each_change_of_its_namespace_once
    a_watcher_of_a_quiet_namespace_keeps_up_without_being_woken
    a_slow_watcher_is_evicted_and_a_quiet_one_is_not
    nothing_is_lost_by_many_watchers_of_many_writers
    a_dropped_caller_harms_nobody
    everything_is_there_after_a_restart
    a_shortened_log_keeps_the_objects_and_expires_the_past
    a_log_of_large_states_is_shortened_by_its_bytes
    objects_expire_as_ordinary_removals
    tokens_are_found_by_their_secret_until_they_end
    tokens_that_ended_are_forgotten_and_a_revoked_one_stays_so
    the_audit_log_has_what_was_committed_and_nothing_else
    dependents_are_those_that_name_the_owner
    a_closed_store_refuses_writes_and_can_be_read
}

async fn a_write_happens_only_if_it_finds_what_it_expects(bed: Bed) {
    let store = bed.open().await;
    let key = thing("a", "x");
    assert!(matches!(store.write(replace(&key, 0, 1)).await, Err(Error::NotFound)));
    assert!(matches!(store.write(remove(&key, 0)).await, Err(Error::NotFound)));
    let first = store.write(create(&key, 1)).await.unwrap();
    assert_eq!((first.revision, store.revision()), (1, 1), "refused writes take no revision");
    let Err(Error::Exists { current }) = store.write(create(&key, 2)).await else { panic!("it exists") };
    assert_eq!(current.revision, 1);
    let second = store.write(replace(&key, 1, 2)).await.unwrap();
    assert_eq!(store.get(&key).unwrap().body, second.body);
    assert_eq!(second.value()["metadata"]["resourceVersion"], "2");
    for stale in [replace(&key, 1, 3), remove(&key, 1)] {
        let Err(Error::Conflict { current }) = store.write(stale).await else { panic!("it is stale") };
        assert_eq!(current.body, second.body);
    }
    let last = store.write(remove(&key, 2)).await.unwrap();
    assert_eq!((last.revision, &last.value()["metadata"]["resourceVersion"]), (3, &json!("3")));
    assert_eq!(last.value()["spec"], second.value()["spec"], "the last state is the one that was removed");
    assert!(store.get(&key).is_none());
    let again = store.write(create(&key, 4)).await.unwrap();
    let said = Write::Remove { key: key.clone(), expected_revision: again.revision, body: Some(body(&key, "bye")) };
    assert_eq!(store.write(said).await.unwrap().value()["spec"]["content"], "bye");
}

async fn a_body_that_is_not_the_named_object_is_refused(bed: Bed) {
    let store = bed.open().await;
    let key = thing("a", "x");
    let mut bodies = vec![
        body(&thing("a", "y"), 1),
        body(&thing("b", "x"), 1),
        body(&thing("", "x"), 1),
        json!("x"),
        json!({ "metadata": { "name": "x", "namespace": "a", "uid": "u" } }),
    ];
    let mut without_uid = body(&key, 1);
    without_uid["metadata"]["uid"] = json!("");
    bodies.push(without_uid);
    for wrong in bodies {
        let result = store.write(Write::Create { key: key.clone(), body: wrong.clone() }).await;
        assert!(matches!(result, Err(Error::Invalid { .. })), "{wrong}");
    }
    let unknown = Key::new(KindId(99), "a", "x");
    assert!(matches!(store.write(create(&unknown, 1)).await, Err(Error::Invalid { .. })));
    store.write(create(&key, 1)).await.unwrap();
    let mut other_uid = body(&key, 2);
    other_uid["metadata"]["uid"] = json!("another");
    let result = store.write(Write::Replace { key: key.clone(), expected_revision: 1, body: other_uid }).await;
    assert!(matches!(result, Err(Error::Invalid { .. })), "an object cannot become another");
    assert_eq!(store.revision(), 1);
}

async fn revisions_are_dense_whoever_writes(bed: Bed) {
    let store = bed.open().await;
    let writers = (0..40).map(|writer| {
        let store = store.clone();
        async move {
            let mut revisions = Vec::new();
            for n in 0..10 {
                let kind = KindId(writer % 3);
                let key = Key::new(kind, if kind == PLANS { "" } else { "a" }, format!("{writer}-{n}"));
                revisions.push(store.write(create(&key, n)).await.unwrap().revision);
            }
            revisions
        }
    });
    let mut all: Vec<u64> = Vec::new();
    for revisions in join_all(writers).await {
        assert!(revisions.is_sorted(), "one writer's writes are ordered as it made them");
        all.extend(revisions);
    }
    all.sort_unstable();
    assert_eq!(all, (1..=400).collect::<Vec<_>>());
}

async fn writes_of_one_batch_see_each_other(bed: Bed) {
    let store = bed.open().await;
    let key = thing("a", "x");
    // All of these are queued before the writer runs, in this order: they become one batch.
    let results = join_all([
        store.write(create(&key, 1)),
        store.write(create(&key, 2)),
        store.write(replace(&key, 1, 3)),
        store.write(replace(&key, 1, 4)),
        store.write(remove(&key, 2)),
        store.write(remove(&key, 2)),
        store.write(create(&key, 5)),
        store.write(replace(&key, 4, 6)),
    ])
    .await;
    let outcome = |result: &Result<Arc<Object>, Error>| match result {
        Ok(object) => format!("at {}", object.revision),
        Err(Error::Exists { current }) => format!("exists at {}", current.revision),
        Err(Error::Conflict { current }) => format!("conflict at {}", current.revision),
        Err(error) => error.to_string(),
    };
    assert_eq!(
        results.iter().map(outcome).collect::<Vec<_>>(),
        ["at 1", "exists at 1", "at 2", "conflict at 2", "at 3", "no such object", "at 4", "at 5"]
    );
    let events = take(&mut store.watch(THINGS, "a", 0).unwrap(), 5).await;
    assert_eq!(replay(&events), contents(&store.snapshot(THINGS, "a")));
    assert_eq!(store.get(&key).unwrap().value()["spec"]["content"], 6);
}

async fn a_snapshot_does_not_change_and_shows_one_namespace(bed: Bed) {
    let store = bed.open().await;
    for (namespace, name) in [("b", "1"), ("a", "2"), ("a", "1"), ("ab", "1"), ("a", "3")] {
        store.write(create(&thing(namespace, name), 0)).await.unwrap();
    }
    store.write(create(&Key::new(PLANS, "", "small"), 0)).await.unwrap();
    let (one, all) = (store.snapshot(THINGS, "a"), store.snapshot_across_namespaces(THINGS));
    store.write(replace(&thing("a", "1"), 3, 9)).await.unwrap();
    store.write(remove(&thing("a", "2"), 2)).await.unwrap();
    let names = |snapshot: &Snapshot| {
        snapshot.iter().map(|object| format!("{}/{}", object.namespace, object.name)).collect::<Vec<_>>()
    };
    assert_eq!(names(&one), ["a/1", "a/2", "a/3"]);
    assert_eq!(names(&all), ["a/1", "a/2", "a/3", "ab/1", "b/1"]);
    assert_eq!((one.revision, one.len(), all.len()), (6, 3, 5));
    assert_eq!(one.get("a", "1").unwrap().revision, 3);
    assert!(one.get("b", "1").is_none() && all.get("b", "1").is_some());
    assert!(store.snapshot(THINGS, "").is_empty() && store.snapshot(THINGS, "none").is_empty());
    assert_eq!(names(&store.snapshot(PLANS, "")), ["/small"]);
    let after = |snapshot: &Snapshot, namespace, name| {
        snapshot.range_after(namespace, name).map(|object| object.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(after(&one, "a", "1"), ["2", "3"]);
    assert_eq!(after(&all, "a", "25"), ["3", "1", "1"]);
    assert_eq!(after(&one, "0", "1"), ["1", "2", "3"], "a position before the namespace is its start");
    assert!(after(&one, "b", "0").is_empty(), "a position in another namespace shows nothing of it");
}

async fn pages_of_a_list_are_of_one_revision(bed: Bed) {
    let mut settings = settings();
    settings.ring.events_max = 50;
    let store = bed.open_with(settings).await;
    let mut past = vec![store.snapshot_across_namespaces(THINGS)];
    for n in 0..40_u64 {
        let key = thing(if n % 2 == 0 { "a" } else { "b" }, &format!("{}", n % 7));
        let write = match store.get(&key) {
            None => create(&key, n),
            Some(object) if n % 3 == 0 => remove(&key, object.revision),
            Some(object) => replace(&key, object.revision, n),
        };
        store.write(write).await.unwrap();
        past.push(store.snapshot_across_namespaces(THINGS));
    }
    for snapshot in &past {
        let again = store.snapshot_at_across_namespaces(THINGS, snapshot.revision).unwrap();
        assert_eq!(contents(&again), contents(snapshot), "at {}", snapshot.revision);
        let one = store.snapshot_at(THINGS, "a", snapshot.revision).unwrap();
        assert!(one.iter().all(|object| &*object.namespace == "a"));
        assert_eq!(one.len(), snapshot.iter().filter(|object| &*object.namespace == "a").count());
    }
    assert_eq!(store.snapshot_at(THINGS, "a", 1_000).unwrap().revision, 40, "the future is the present");
    for n in 0..20 {
        store.write(create(&thing("c", &n.to_string()), n)).await.unwrap();
    }
    let expired = Expired { requested: 9, oldest: 10 };
    assert_eq!(store.snapshot_at(THINGS, "a", 9).map(|_| ()), Err(expired));
    assert_eq!(contents(&store.snapshot_at_across_namespaces(THINGS, 10).unwrap()), contents(&past[10]));
}

async fn a_watcher_gets_each_change_of_its_namespace_once(bed: Bed) {
    let store = bed.open().await;
    let (x, y) = (thing("a", "x"), thing("b", "y"));
    store.write(create(&x, 1)).await.unwrap();
    let mut watch = store.watch(THINGS, "a", 0).unwrap();
    store.write(create(&y, 2)).await.unwrap();
    store.write(replace(&x, 1, 3)).await.unwrap();
    store.write(create(&Key::new(EVENTS, "a", "x"), 4)).await.unwrap();
    store.write(remove(&x, 3)).await.unwrap();
    let events = take(&mut watch, 3).await;
    let seen: Vec<_> = events.iter().map(|event| (event.revision, event.change)).collect();
    assert_eq!(seen, [(1, Change::Created), (3, Change::Updated), (5, Change::Deleted)]);
    assert_eq!(watch.revision(), 5);
    assert!(watch.ready().unwrap().is_empty());
    for (event, (kind, revision)) in events.iter().zip([("ADDED", "1"), ("MODIFIED", "3"), ("DELETED", "5")]) {
        let line: Value = serde_json::from_slice(&event.line()).unwrap();
        assert_eq!(line, json!({ "type": kind, "object": event.object.value() }));
        assert_eq!(line["object"]["metadata"]["resourceVersion"], revision);
        assert!(event.line().ends_with(b"}\n"));
    }
    let line = |bytes: bytes::Bytes| serde_json::from_slice::<Value>(&bytes).unwrap();
    let entered = line(events[1].line_entered());
    assert_eq!((&entered["type"], &entered["object"]["spec"]["content"]), (&json!("ADDED"), &json!(3)));
    let left = line(events[1].line_left().unwrap());
    assert_eq!((&left["type"], &left["object"]["spec"]["content"]), (&json!("DELETED"), &json!(1)));
    assert_eq!(left["object"]["metadata"]["resourceVersion"], "3", "the old state under the new revision");
    assert!(events[0].line_left().is_none());

    let across = take(&mut store.watch_across_namespaces(THINGS, 1).unwrap(), 3).await;
    assert_eq!(across.iter().map(|event| event.revision).collect::<Vec<_>>(), [2, 3, 5]);
    let mut future = store.watch(THINGS, "a", 7).unwrap();
    for n in 6..=8 {
        store.write(create(&thing("a", &n.to_string()), n)).await.unwrap();
    }
    assert_eq!(take(&mut future, 1).await[0].revision, 8, "only what comes after the revision it waits for");
}

async fn a_watcher_of_a_quiet_namespace_keeps_up_without_being_woken(bed: Bed) {
    let store = bed.open().await;
    let mut watch = store.watch(THINGS, "quiet", 0).unwrap();
    let loud = async {
        for n in 0..5 {
            store.write(create(&thing("loud", &n.to_string()), n)).await.unwrap();
        }
    };
    assert!(!is_woken(&mut watch, loud).await, "changes of other namespaces wake nobody here");
    assert_eq!(watch.revision(), 5, "its bookmarks move on with the store");
    let quiet = async {
        store.write(create(&thing("quiet", "x"), 0)).await.unwrap();
    };
    assert!(is_woken(&mut watch, quiet).await);
    assert_eq!(take(&mut watch, 1).await[0].revision, 6);
}

/// Whether something was woken.
#[derive(Default)]
struct Flag(std::sync::atomic::AtomicBool);

impl std::task::Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// Whether a watcher that waits is woken by `change`.
async fn is_woken(watch: &mut Watch, change: impl Future<Output = ()>) -> bool {
    let woken = Arc::new(Flag::default());
    let waker = std::task::Waker::from(Arc::clone(&woken));
    let mut next = std::pin::pin!(watch.next());
    assert!(next.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
    change.await;
    woken.0.load(Ordering::Acquire)
}

async fn a_slow_watcher_is_evicted_and_a_quiet_one_is_not(bed: Bed) {
    let mut settings = settings();
    settings.ring.events_max = 10;
    let store = bed.open_with(settings).await;
    store.write(create(&thing("loud", "first"), 0)).await.unwrap();
    let mut slow = store.watch(THINGS, "loud", 1).unwrap();
    let mut quiet = store.watch(THINGS, "quiet", 1).unwrap();
    for n in 0..30 {
        store.write(create(&thing("loud", &n.to_string()), n)).await.unwrap();
    }
    assert_eq!(slow.next().await.map(|events| events.len()), Err(Evicted { seen: 1 }));
    assert!(quiet.ready().unwrap().is_empty(), "what it did not want cannot be missed");
    assert_eq!(store.watch(THINGS, "loud", 5).map(|_| ()), Err(Expired { requested: 5, oldest: 21 }));
    assert_eq!(take(&mut store.watch(THINGS, "loud", 21).unwrap(), 10).await.len(), 10);
    store.write(create(&thing("quiet", "x"), 0)).await.unwrap();
    assert_eq!(take(&mut quiet, 1).await[0].revision, 32);
}

async fn nothing_is_lost_by_many_watchers_of_many_writers(bed: Bed) {
    const WRITERS: usize = 8;
    const WRITES: usize = 50;
    let store = bed.open().await;
    let watchers = (0..30).map(|watcher| {
        let store = store.clone();
        async move {
            let namespace = format!("{}", watcher % WRITERS);
            let mut watch = store.watch(THINGS, &namespace, 0).unwrap();
            let events = take(&mut watch, WRITES).await;
            assert!(events.is_sorted_by_key(|event| event.revision));
            assert!(events.iter().all(|event| *event.object.namespace == namespace));
            replay(&events)
        }
    });
    let writers = (0..WRITERS).map(|writer| {
        let store = store.clone();
        async move {
            let key = thing(&writer.to_string(), "x");
            let mut revision = store.write(create(&key, 0)).await.unwrap().revision;
            for n in 1..WRITES {
                revision = store.write(replace(&key, revision, n)).await.unwrap().revision;
            }
        }
    });
    let (seen, _) = tokio::join!(join_all(watchers), join_all(writers));
    for (watcher, state) in seen.into_iter().enumerate() {
        assert_eq!(state, contents(&store.snapshot(THINGS, &(watcher % WRITERS).to_string())));
    }
}

async fn a_dropped_caller_harms_nobody(bed: Bed) {
    let store = bed.open().await;
    for n in 0..100_u32 {
        let key = thing("a", &n.to_string());
        let mut write = Box::pin(store.write(create(&key, n)));
        // Dropped after no, one or a few polls: before it is queued, while it is, and while it is committed.
        for _ in 0..n % 4 {
            if futures::poll!(&mut write).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    let last = store.write(create(&thing("a", "last"), 0)).await.unwrap();
    let events = take(&mut store.watch(THINGS, "a", 0).unwrap(), usize::try_from(last.revision).unwrap()).await;
    assert_eq!(events.last().unwrap().revision, last.revision, "revisions are dense whoever went away");
    assert_eq!(replay(&events), contents(&store.snapshot(THINGS, "a")));
}

async fn everything_is_there_after_a_restart(bed: Bed) {
    let store = bed.open().await;
    let mut rich = body(&thing("a", "rich"), "Grüße 🚀 \u{0} \" \\");
    rich["metadata"]["labels"] = json!({ "app": "web" });
    rich["metadata"]["finalizers"] = json!(["berth.dev/x"]);
    rich["metadata"]["generation"] = json!(4);
    rich["metadata"]["creationTimestamp"] = json!("2025-05-05T05:05:05Z");
    rich["metadata"]["deletionTimestamp"] = json!("2025-06-05T05:05:05Z");
    rich["metadata"]["ownerReferences"] = json!([{ "apiVersion": "v1", "kind": "K", "name": "o", "uid": "owner" }]);
    rich["spec"]["node"] = json!("n1");
    store.write(Write::Create { key: thing("a", "rich"), body: rich }).await.unwrap();
    for n in 0..20_u64 {
        let key = Key::new(KindId(usize::try_from(n % 2).unwrap()), "a", (n % 5).to_string());
        let write = match store.get(&key) {
            None => create(&key, n),
            Some(object) if n % 3 == 0 => remove(&key, object.revision),
            Some(object) => replace(&key, object.revision, n),
        };
        store.write(write).await.unwrap();
    }
    let events = |store: &Store| {
        let of_kind = |kind| store.watch_across_namespaces(kind, 0).unwrap().ready().unwrap();
        [THINGS, EVENTS].map(of_kind).concat()
    };
    let before = events(&store);
    assert_eq!(before.len(), 21);
    let objects: Vec<_> = store.snapshot_across_namespaces(THINGS).iter().map(Arc::clone).collect();
    let middle = contents(&store.snapshot_at(THINGS, "a", 11).unwrap());
    store.close().await.unwrap();
    drop(store);

    let store = bed.open().await;
    assert_eq!(store.revision(), 21);
    let after = events(&store);
    assert_eq!(after.len(), before.len());
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((before.revision, before.change, before.line()), (after.revision, after.change, after.line()));
        let state =
            |object: &Option<Arc<Object>>| object.as_ref().map(|o| (o.body.clone(), o.modified, o.meta.clone()));
        assert_eq!(state(&before.previous), state(&after.previous));
    }
    let loaded = store.snapshot_across_namespaces(THINGS);
    assert_eq!(loaded.len(), objects.len());
    for (before, after) in objects.iter().zip(loaded.iter()) {
        assert_eq!(format!("{before:?}"), format!("{after:?}"), "every field is as it was");
    }
    assert_eq!(contents(&store.snapshot_at(THINGS, "a", 11).unwrap()), middle);
    assert_eq!(store.dependents("owner").len(), 1);
    let rich = store.get(&thing("a", "rich")).unwrap();
    assert_eq!((rich.meta.fields.get("spec.node"), rich.generation), (Some("n1"), 4));
    assert_eq!(store.write(create(&thing("a", "next"), 0)).await.unwrap().revision, 22);
}

async fn a_shortened_log_keeps_the_objects_and_expires_the_past(bed: Bed) {
    let mut settings = settings();
    settings.log =
        LogLimits { changes_max: 30, age_max: Duration::from_mins(1), changes_old_max: 5, ..LogLimits::default() };
    let clock = settings.clock.clone();
    let store = bed.open_with(settings.clone()).await;
    for n in 0..40 {
        store.write(create(&thing("a", &n.to_string()), n)).await.unwrap();
    }
    assert_eq!(store.compact().await.unwrap(), 10, "by number");
    clock.advance(Duration::from_secs(61));
    store.write(create(&thing("a", "late"), 0)).await.unwrap();
    assert_eq!(store.compact().await.unwrap(), 36, "by age, but for the newest");
    assert_eq!(store.compact().await.unwrap(), 36);
    let before = contents(&store.snapshot(THINGS, "a"));
    assert!(store.watch(THINGS, "a", 0).is_ok(), "memory still knows what the log has forgotten");
    store.close().await.unwrap();
    drop(store);
    let store = bed.open_with(settings).await;
    assert_eq!(contents(&store.snapshot(THINGS, "a")), before);
    assert_eq!(store.watch(THINGS, "a", 35).map(|_| ()), Err(Expired { requested: 35, oldest: 36 }));
    assert_eq!(take(&mut store.watch(THINGS, "a", 36).unwrap(), 5).await.len(), 5);
    assert!(store.snapshot_at(THINGS, "a", 35).is_err());
}

async fn a_log_of_large_states_is_shortened_by_its_bytes(bed: Bed) {
    const CHANGES: u64 = 40;
    const BODY: usize = 1_000;
    let mut settings = settings();
    settings.log = LogLimits { bytes_max: 10_000, ..LogLimits::default() };
    let store = bed.open_with(settings.clone()).await;
    let key = thing("a", "x");
    store.write(create(&key, "x".repeat(BODY))).await.unwrap();
    for revision in 1..CHANGES {
        store.write(replace(&key, revision, "x".repeat(BODY))).await.unwrap();
    }
    let compacted = store.compact().await.unwrap();
    assert!(
        (CHANGES - 10..CHANGES - 5).contains(&compacted),
        "ten states of some more than a thousand bytes: {compacted}"
    );
    assert_eq!(store.compact().await.unwrap(), compacted);
    store.close().await.unwrap();
    drop(store);
    let store = bed.open_with(settings).await;
    assert_eq!(store.watch(THINGS, "a", 1).map(|_| ()), Err(Expired { requested: 1, oldest: compacted }));
    assert_eq!(store.compact().await.unwrap(), compacted, "the size is known after a restart too");
    store.write(replace(&key, CHANGES, "x".repeat(9_000))).await.unwrap();
    store.write(replace(&key, CHANGES + 1, "x")).await.unwrap();
    assert_eq!(store.compact().await.unwrap(), CHANGES + 1, "the large state alone is left");
}

async fn objects_expire_as_ordinary_removals(bed: Bed) {
    let settings = settings();
    let clock = settings.clock.clone();
    let store = bed.open_with(settings).await;
    let event = |name: &str| Key::new(EVENTS, "a", name);
    for name in ["old", "renewed"] {
        store.write(create(&event(name), 0)).await.unwrap();
    }
    store.write(create(&thing("a", "for-ever"), 0)).await.unwrap();
    clock.advance(Duration::from_mins(30));
    store.write(replace(&event("renewed"), 2, 1)).await.unwrap();
    assert_eq!(store.remove_expired().await.unwrap(), 0);
    clock.advance(Duration::from_secs(1_801));
    let mut watch = store.watch(EVENTS, "a", store.revision()).unwrap();
    assert_eq!(store.remove_expired().await.unwrap(), 1);
    let removed = take(&mut watch, 1).await;
    assert_eq!((removed[0].change, &*removed[0].object.name), (Change::Deleted, "old"));
    assert!(store.get(&event("renewed")).is_some() && store.get(&thing("a", "for-ever")).is_some());
}

async fn tokens_that_ended_are_forgotten_and_a_revoked_one_stays_so(bed: Bed) {
    let settings = settings();
    let clock = settings.clock.clone();
    let store = bed.open_with(settings.clone()).await;
    let tokens = store.tokens();
    let scope = crate::auth::Scope { namespaces: vec!["a".into()], ..crate::auth::Scope::default() };
    let bond = Bond { uid: "1".into(), epoch: "2".into() };
    let new = |purpose| NewToken { user: "ann".into(), purpose, bond: bond.clone(), ..NewToken::default() };
    let (_, session) = tokens.create(new(Purpose::Session)).await.unwrap();
    let (secret, token) = tokens.create(NewToken { scope: Some(scope.clone()), ..new(Purpose::Token) }).await.unwrap();
    let (_, standing) = tokens.create(new(Purpose::Standing)).await.unwrap();
    clock.advance(Duration::from_secs(1));
    let used = clock.now();
    tokens.touch(&token);
    tokens.revoke(&session.id).await.unwrap();
    // What was on its way when it was revoked changes nothing of that.
    tokens.touch(&session);
    clock.advance(Duration::from_secs(1));
    let minute = Duration::from_mins(1);
    let ended = |before, sessions_before| Ended { before, sessions_before };
    tokens.forget(ended(used - minute, used)).await.unwrap();
    assert_eq!(tokens.by_id(&session.id).unwrap().revoked, Some(used), "it ended then, and not before");
    let known = tokens.find(&secret).unwrap();
    assert_eq!((known.last_used, known.scope.as_deref(), &known.bond), (Some(used), Some(&scope), &bond));
    let before = tokens.list();
    store.close().await.unwrap();
    drop((store, tokens));
    let store = bed.open_with(settings).await;
    let tokens = store.tokens();
    assert_eq!(tokens.list(), before, "all of it is kept");
    assert!(tokens.by_id(&session.id).unwrap().revoked.is_some());
    tokens.forget(ended(used - minute, clock.now())).await.unwrap();
    assert!(tokens.by_id(&session.id).is_none() && tokens.by_id(&token.id).is_some());
    tokens.revoke(&token.id).await.unwrap();
    clock.advance(minute);
    tokens.forget(ended(clock.now(), used)).await.unwrap();
    assert_eq!(tokens.list(), [standing]);
}

async fn tokens_are_found_by_their_secret_until_they_end(bed: Bed) {
    let settings = settings();
    let clock = settings.clock.clone();
    let store = bed.open_with(settings.clone()).await;
    let new = |user: &str, expires| NewToken {
        user: user.into(),
        groups: vec!["admins".into()],
        expires,
        description: "a test".into(),
        ..NewToken::default()
    };
    let (secret, token) = store.tokens().create(new("ann", None)).await.unwrap();
    let (short, _) = store.tokens().create(new("bob", Some(start() + Duration::from_mins(1)))).await.unwrap();
    store.tokens().create_with_secret("agreed", new("cy", None)).await.unwrap();
    assert!(store.tokens().create_with_secret("agreed", new("eve", None)).await.is_err(), "a secret is one user's");
    assert!(secret.len() >= 43, "32 random bytes");
    assert_eq!(store.tokens().find(&secret).unwrap().user, "ann");
    assert!(store.tokens().find(&secret[1..]).is_none() && store.tokens().find("").is_none());
    assert_eq!(store.tokens().find(&short).unwrap().user, "bob");
    clock.advance(Duration::from_mins(1));
    assert!(store.tokens().find(&short).is_none(), "expired");
    store.tokens().revoke(&token.id).await.unwrap();
    assert!(store.tokens().find(&secret).is_none(), "revoked");
    assert!(matches!(store.tokens().revoke("none").await, Err(Error::NotFound)));
    let before = store.tokens().list();
    store.close().await.unwrap();
    drop(store);
    let store = bed.open_with(settings).await;
    assert_eq!(store.tokens().list(), before);
    assert!(store.tokens().find(&secret).is_none());
    assert_eq!(store.tokens().find("agreed").unwrap().groups, ["admins"]);
    assert!(!format!("{:?}", store.tokens().list()).contains("agreed"), "the secret is kept nowhere");
}

async fn the_audit_log_has_what_was_committed_and_nothing_else(bed: Bed) {
    let store = bed.open().await;
    let line = |user: &str, namespace: &str, verb: &str| AuditLine {
        time: store.shared.clock.now(),
        user: user.to_owned(),
        namespace: namespace.to_owned(),
        resource: "things".to_owned(),
        verb: verb.to_owned(),
        record: format!("{{\"verb\":\"{verb}\",\"user\":\"{user}\"}}"),
    };
    let create = |name: &str| create(&thing("a", name), 1);
    let made = store.write_audited(create("x"), Some(line("ann", "a", "create"))).await.unwrap();
    // What fails is not told of, alone and among others.
    store.write_audited(create("x"), Some(line("eve", "a", "create"))).await.unwrap_err();
    let many = (0..20).map(|n| {
        let line = line("bob", "a", "create");
        let (store, write) = (store.clone(), create(&format!("y{}", n % 10)));
        async move { store.write_audited(write, Some(line)).await }
    });
    let results = futures::future::join_all(many).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 10);
    store.write_audited(remove(&thing("a", "x"), made.revision), Some(line("ann", "a", "delete"))).await.unwrap();
    store.write(create("z")).await.unwrap();
    assert!(store.note(line("eve", "b", "refused")));
    // A write behind it, so that the note has been taken.
    store.write(create("after")).await.unwrap();
    let all = AuditQuery { limit: 100, ..AuditQuery::default() };
    let noted = async || store.audit(all.clone()).await.unwrap().len() == 13;
    let until = tokio::time::Instant::now() + PATIENCE;
    while !noted().await {
        assert!(tokio::time::Instant::now() < until, "{:?}", store.audit(all.clone()).await);
        tokio::task::yield_now().await;
    }
    let count = async |query: AuditQuery| store.audit(query).await.unwrap().len();
    let of = |namespace: &str| AuditQuery { namespace: Some(namespace.to_owned()), ..all.clone() };
    assert_eq!((count(of("a")).await, count(of("b")).await, count(of("c")).await), (12, 1, 0));
    assert_eq!(count(AuditQuery { user: Some("eve".to_owned()), ..all.clone() }).await, 1);
    assert_eq!(count(AuditQuery { verb: Some("delete".to_owned()), ..all.clone() }).await, 1);
    assert_eq!(count(AuditQuery { resource: Some("others".to_owned()), ..all.clone() }).await, 0);
    let later = store.shared.clock.now() + Duration::from_hours(1);
    assert_eq!(count(AuditQuery { since: Some(later), ..all.clone() }).await, 0);
    // Pages, the newest first.
    let (mut before, mut seen) = (None, Vec::new());
    loop {
        let page = store.audit(AuditQuery { before, limit: 5, ..all.clone() }).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        seen.extend(page.into_iter().map(|entry| entry.id));
    }
    assert_eq!(seen.len(), 13);
    assert!(seen.is_sorted_by(|a, b| a > b), "{seen:?}");
    store.close().await.unwrap();
    drop(store);
    let store = bed.open().await;
    assert_eq!(store.audit(all).await.unwrap().len(), 13, "it is kept");
}

async fn dependents_are_those_that_name_the_owner(bed: Bed) {
    let store = bed.open().await;
    let owned = |key: &Key, owners: &[&str]| {
        let mut body = body(key, 0);
        let reference = |uid| json!({ "apiVersion": "v1", "kind": "K", "name": "o", "uid": uid });
        body["metadata"]["ownerReferences"] = owners.iter().map(reference).collect();
        body
    };
    let (a, b) = (thing("a", "a"), Key::new(EVENTS, "a", "b"));
    store.write(Write::Create { key: a.clone(), body: owned(&a, &["o1", "o2"]) }).await.unwrap();
    store.write(Write::Create { key: b.clone(), body: owned(&b, &["o2"]) }).await.unwrap();
    let of = |uid: &str| store.dependents(uid).into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!((of("o1"), of("o2"), of("o")), (vec![a.clone()], vec![a.clone(), b.clone()], vec![]));
    let body = owned(&a, &["o3"]);
    store.write(Write::Replace { key: a.clone(), expected_revision: 1, body }).await.unwrap();
    store.write(remove(&b, 2)).await.unwrap();
    assert_eq!((of("o1"), of("o2"), of("o3")), (vec![], vec![], vec![a]));
}

async fn a_closed_store_refuses_writes_and_can_be_read(bed: Bed) {
    let store = bed.open().await;
    let key = thing("a", "x");
    let (written, closed) = tokio::join!(store.write(create(&key, 1)), store.close());
    written.unwrap();
    closed.unwrap();
    assert!(matches!(store.write(create(&thing("a", "y"), 1)).await, Err(Error::Closed)));
    assert!(matches!(store.close().await, Err(Error::Closed)));
    assert_eq!(store.get(&key).unwrap().revision, 1);
}

#[tokio::test]
async fn a_failed_commit_changes_nothing() {
    let memory = Memory::new();
    let store = Store::open(memory.clone(), tables(), settings()).await.unwrap();
    store.write(create(&thing("a", "before"), 0)).await.unwrap();
    memory.fail_commits(1);
    let keys: Vec<_> = (0..5).map(|n| thing("a", &n.to_string())).collect();
    let results = join_all(keys.iter().map(|key| store.write(create(key, 0)))).await;
    assert!(results.iter().all(|result| matches!(result, Err(Error::Backend(_)))), "all of the batch are told");
    assert_eq!((store.revision(), store.snapshot(THINGS, "a").len()), (1, 1));
    let mut watch = store.watch(THINGS, "a", 1).unwrap();
    assert!(watch.ready().unwrap().is_empty());
    assert_eq!(store.write(create(&keys[0], 0)).await.unwrap().revision, 2, "and the next write takes their place");
    assert_eq!(take(&mut watch, 1).await.len(), 1);
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let settings = settings();
    let registry = settings.registry.clone();
    let store = Store::open_in_memory(tables(), settings).await.unwrap();
    let _watch = store.watch(THINGS, "a", 0).unwrap();
    store.write(create(&thing("a", "x"), 0)).await.unwrap();
    store.write(create(&thing("a", "x"), 0)).await.unwrap_err();
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    for line in [
        r#"apiserver_store_objects{table="core_configmaps"} 1"#,
        r#"apiserver_store_writes_total{result="committed",table="core_configmaps"} 1"#,
        r#"apiserver_store_writes_total{result="refused",table="core_configmaps"} 1"#,
        r#"apiserver_store_commits_total{result="committed"} 1"#,
        "apiserver_store_watchers 1",
        "apiserver_store_revision 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}
