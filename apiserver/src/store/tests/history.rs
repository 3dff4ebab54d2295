//! Random histories: whatever writers, watchers and restarts do, one order of writes must explain all that was seen.

use futures::future::join_all;
use proptest::prelude::*;

use super::*;

/// One client's wish. The object is one of a few, so that clients get in each other's way.
#[derive(Clone, Debug)]
enum Wish {
    Create(u8),
    /// Replaces what the client saw last, or with a revision that is `stale` behind.
    Replace(u8, bool),
    Remove(u8, bool),
}

#[derive(Clone, Debug)]
enum Round {
    /// Clients write at once.
    Write(Vec<Wish>),
    /// The watcher reads.
    Read,
    /// Somebody lists, to compare with the same revision later.
    List,
    /// The store is closed and opened again.
    Restart,
}

fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        3 => (0..6_u8).prop_map(Wish::Create),
        4 => (0..6_u8, any::<bool>()).prop_map(|(object, stale)| Wish::Replace(object, stale)),
        2 => (0..6_u8, any::<bool>()).prop_map(|(object, stale)| Wish::Remove(object, stale)),
    ]
}

fn rounds() -> impl Strategy<Value = Vec<Round>> {
    let round = prop_oneof![
        6 => prop::collection::vec(wish(), 1..12).prop_map(Round::Write),
        3 => Just(Round::Read),
        2 => Just(Round::List),
        1 => Just(Round::Restart),
    ];
    prop::collection::vec(round, 1..14)
}

fn key(object: u8) -> Key {
    let kind = KindId(usize::from(object % 2));
    Key::new(kind, ["a", "b"][usize::from(object / 2 % 2)], format!("o{object}"))
}

/// A write that was asked for, the revisions between which it happened, and how it ended.
struct Attempt {
    write: Write,
    after: u64,
    upto: u64,
    result: Result<Arc<Object>, Error>,
}

/// Checks a history against a model that performs one write after the other.
fn explain(attempts: &[Attempt], events: &[Arc<Event>]) {
    let revisions: Vec<u64> = events.iter().map(|event| event.revision).collect();
    assert_eq!(revisions, (1..=events.len() as u64).collect::<Vec<_>>(), "dense, each event once, in order");
    // The revision of every object after each write.
    let mut model: Vec<BTreeMap<Key, u64>> = vec![BTreeMap::new()];
    for event in events {
        let mut next = model[model.len() - 1].clone();
        let name = event.object.key(event.kind);
        match event.change {
            Change::Deleted => next.remove(&name),
            Change::Created | Change::Updated => next.insert(name, event.revision),
        };
        model.push(next);
    }
    let at = |revision: u64| &model[usize::try_from(revision).unwrap()];
    let allowed = |write: &Write, state: &BTreeMap<Key, u64>| match write {
        Write::Create { key, .. } => !state.contains_key(key),
        Write::Replace { key, expected_revision, .. } | Write::Remove { key, expected_revision, .. } => {
            state.get(key) == Some(expected_revision)
        }
    };
    let mut written = Vec::new();
    for Attempt { write, after, upto, result } in attempts {
        match result {
            Ok(object) => {
                assert!(*after < object.revision && object.revision <= *upto, "it happened while it was asked for");
                assert!(allowed(write, at(object.revision - 1)), "{write:?} found what it expects");
                let event = &events[usize::try_from(object.revision).unwrap() - 1];
                assert_eq!(
                    (&event.object.body, event.change),
                    (&object.body, change(write)),
                    "and it is in the history"
                );
                written.push(object.revision);
            }
            Err(error) => {
                let refused = (*after..=*upto).any(|revision| !allowed(write, at(revision)));
                assert!(refused, "{write:?} could not have failed with {error}");
            }
        }
    }
    written.sort_unstable();
    assert_eq!(written, revisions, "every event is somebody's write");
}

fn change(write: &Write) -> Change {
    match write {
        Write::Create { .. } => Change::Created,
        Write::Replace { .. } => Change::Updated,
        Write::Remove { .. } => Change::Deleted,
    }
}

async fn check(bed: Bed, rounds: Vec<Round>) {
    let mut store = bed.open().await;
    let mut attempts = Vec::new();
    let mut lists = Vec::new();
    let mut seen: [Vec<Arc<Event>>; 2] = Default::default();
    let watch = |store: &Store, seen: &[Vec<Arc<Event>>; 2]| {
        [0, 1].map(|kind| {
            let after = seen[kind].last().map_or(0, |event| event.revision);
            store.watch_across_namespaces(KindId(kind), after).unwrap()
        })
    };
    let mut watches = watch(&store, &seen);
    let mut content = 0;
    for round in rounds {
        match round {
            Round::Write(wishes) => {
                let after = store.revision();
                let writes: Vec<Write> = wishes
                    .into_iter()
                    .map(|wish| {
                        content += 1;
                        let revision = |key: &Key, stale| {
                            let current = store.get(key).map_or(1, |object| object.revision);
                            if stale { current - 1 } else { current }
                        };
                        match wish {
                            Wish::Create(object) => create(&key(object), content),
                            Wish::Replace(object, stale) => {
                                replace(&key(object), revision(&key(object), stale), content)
                            }
                            Wish::Remove(object, stale) => remove(&key(object), revision(&key(object), stale)),
                        }
                    })
                    .collect();
                let results = join_all(writes.iter().map(|write| store.write(write.clone()))).await;
                let upto = store.revision();
                let done = writes.into_iter().zip(results);
                attempts.extend(done.map(|(write, result)| Attempt { write, after, upto, result }));
            }
            Round::Read => {
                for (watch, seen) in watches.iter_mut().zip(&mut seen) {
                    seen.extend(watch.ready().unwrap());
                }
            }
            Round::List => {
                lists.push([0, 1].map(|kind| store.snapshot_across_namespaces(KindId(kind))));
            }
            Round::Restart => {
                let before = [0, 1].map(|kind| contents(&store.snapshot_across_namespaces(KindId(kind))));
                store.close().await.unwrap();
                drop(watches);
                store = bed.open().await;
                let after = [0, 1].map(|kind| contents(&store.snapshot_across_namespaces(KindId(kind))));
                assert_eq!(before, after, "a restart changes nothing");
                // The watcher goes on from what it saw last, as a client does.
                watches = watch(&store, &seen);
            }
        }
    }
    for (kind, (watch, seen)) in watches.iter_mut().zip(&mut seen).enumerate() {
        seen.extend(watch.ready().unwrap());
        assert_eq!(watch.revision(), store.revision());
        let kind = KindId(kind);
        assert_eq!(replay(&*seen), contents(&store.snapshot_across_namespaces(kind)), "replay leads to the state");
        for revision in 0..=store.revision() {
            let past = store.snapshot_at_across_namespaces(kind, revision).unwrap();
            let events = seen.iter().filter(|event| event.revision <= revision);
            assert_eq!(contents(&past), replay(events), "the state at {revision}");
        }
        for list in &lists {
            let list = &list[kind.0];
            let again = store.snapshot_at_across_namespaces(kind, list.revision).unwrap();
            assert_eq!(contents(&again), contents(list), "a list can be had again");
        }
    }
    let mut events = seen.concat();
    events.sort_by_key(|event| event.revision);
    explain(&attempts, &events);
}

/// How many histories are tried: more when somebody has the time (`make soak`).
fn cases(usual: u32) -> ProptestConfig {
    #[expect(clippy::disallowed_methods, reason = "the tests' settings come in through the environment")]
    let wanted = std::env::var("BERTH_SOAK_RUNS").ok().and_then(|text| text.parse().ok());
    ProptestConfig { cases: wanted.unwrap_or(usual).max(usual), failure_persistence: None, ..ProptestConfig::default() }
}

fn run(bed: Bed, rounds: Vec<Round>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(check(bed, rounds));
}

proptest! {
    #![proptest_config(cases(300))]
    #[test]
    fn one_order_explains_everything_in_memory(rounds in rounds()) {
        run(Bed::memory(), rounds);
    }
}

proptest! {
    #![proptest_config(cases(200))]
    #[test]
    fn one_order_explains_everything_in_sqlite(rounds in rounds()) {
        run(Bed::sqlite(), rounds);
    }
}

proptest! {
    // Each case makes a database: with so many it takes longer than any other test here.
    #![proptest_config(cases(200))]
    #[test]
    fn one_order_explains_everything_in_postgres(rounds in rounds()) {
        run(Bed::postgres(), rounds);
    }
}
