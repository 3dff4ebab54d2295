//! Garbage collection: dependents follow their owners, owners wait for their dependents, namespaces are emptied.
//!
//! Level-triggered: an event only says where to look; what is done follows from what is. At the start, and after it was
//! too slow to follow, everything is looked at. Nothing is remembered that a restart would miss.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{self, BoxStream, SelectAll};
use futures::{StreamExt as _, future};
use serde_json::Value;
use tokio::time::Instant;

use crate::admission;
use crate::auth::Identity;
use crate::delete::{self, FOREGROUND, ORPHAN, Options, Propagation};
use crate::error::Error;
use crate::kind::Scope;
use crate::namespaces;
use crate::path::Target;
use crate::server::State;
use crate::store::{self, Change, Event, Key, KindId, Object, Owner, Write};

/// Deletions at a time: enough to fill a group commit, few enough not to crowd out the callers in the writer's queue.
const CONCURRENT_MAX: usize = 32;
/// After a failure (the database, usually) it looks again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Rewrites of one object against others' writes before it is left to the retry.
const ATTEMPTS_MAX: usize = 5;

/// Somewhere to look. A set of these is bounded by the number of objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    /// An object that names owners: are they there?
    Dependent(Key),
    /// An object that waits for its dependents, or wants to let them go.
    Owner(Key),
    /// A namespace that is going.
    Namespace(String),
    /// An object whose namespace may have gone while it was created.
    Stray(Key),
}

type Batch = Result<Vec<Arc<Event>>, KindId>;

/// Collects until shutdown.
pub(crate) async fn run(state: &Arc<State>) {
    let identity = Identity::system("garbage-collector");
    let mut events: SelectAll<BoxStream<'static, Batch>> = SelectAll::new();
    let mut work = BTreeSet::new();
    for (index, _) in state.kinds.stored() {
        let kind = state.kinds.store_id(index);
        events.push(follow(state, kind));
        scan(state, kind, &mut work);
    }
    let mut retry_at = None::<Instant>;
    loop {
        let failed = Mutex::new(BTreeSet::new());
        let due = retry_at.is_none_or(|at| at <= Instant::now());
        if due && !work.is_empty() {
            let batch = std::mem::take(&mut work);
            let all = stream::iter(batch).for_each_concurrent(CONCURRENT_MAX, |item| async {
                if let Err(error) = look(state, &identity, &item).await {
                    tracing::warn!(%error, ?item, "garbage could not be collected; it is tried again");
                    failed.lock().unwrap_or_else(PoisonError::into_inner).insert(item);
                }
            });
            tokio::select! {
                () = state.shutdown.cancelled() => return,
                () = all => {}
            }
            work = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
            retry_at = (!work.is_empty()).then(|| Instant::now() + RETRY_AFTER);
        }
        let wait = async {
            match retry_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            () = state.shutdown.cancelled() => return,
            () = wait => retry_at = None,
            batch = events.next() => match batch {
                Some(Ok(batch)) => {
                    for event in &batch {
                        note(state, event, &mut work);
                    }
                }
                Some(Err(kind)) => {
                    events.push(follow(state, kind));
                    scan(state, kind, &mut work);
                }
                // The server has no kinds: there is nothing to collect.
                None => return state.shutdown.cancelled().await,
            },
        }
    }
}

/// The changes of a kind from now on; ends with `Err(kind)` when it was too slow.
fn follow(state: &State, kind: KindId) -> BoxStream<'static, Batch> {
    let watch = state.store.watch_across_namespaces(kind, state.store.revision()).ok();
    stream::unfold((watch, false), move |(watch, ended)| async move {
        match (watch, ended) {
            (Some(mut watch), false) => match watch.next().await {
                Ok(events) => Some((Ok(events), (Some(watch), false))),
                Err(_evicted) => Some((Err(kind), (None, true))),
            },
            (None, false) => Some((Err(kind), (None, true))),
            (_, true) => None,
        }
    })
    .boxed()
}

fn scan(state: &State, kind: KindId, work: &mut BTreeSet<Work>) {
    for object in state.store.snapshot_across_namespaces(kind).iter() {
        let key = object.key(kind);
        if !object.meta.owners.is_empty() {
            work.insert(Work::Dependent(key.clone()));
        }
        if !object.namespace.is_empty() {
            work.insert(Work::Stray(key.clone()));
        }
        if object.meta.deletion_timestamp.is_some() {
            note_deleting(state, key, object, work);
        }
    }
}

fn note_deleting(state: &State, key: Key, object: &Object, work: &mut BTreeSet<Work>) {
    if object.meta.finalizers.iter().any(|f| matches!(&**f, FOREGROUND | ORPHAN)) {
        work.insert(Work::Owner(key.clone()));
    }
    if is_namespace(state, key.kind) {
        work.insert(Work::Namespace(key.name));
    }
}

/// Where an event says to look.
fn note(state: &State, event: &Event, work: &mut BTreeSet<Work>) {
    let key = event.object.key(event.kind);
    if event.change == Change::Deleted {
        work.extend(state.store.dependents(&event.object.uid).into_iter().map(|(key, _)| Work::Dependent(key)));
        note_waiting(state, &event.object, work);
        if is_going(state, &key.namespace) {
            work.insert(Work::Namespace(key.namespace));
        }
        return;
    }
    let owners_before = event.previous.as_ref().map_or(&[][..], |previous| &previous.meta.owners[..]);
    if event.object.meta.owners[..] != *owners_before {
        work.insert(Work::Dependent(key.clone()));
        if let Some(previous) = &event.previous {
            note_waiting(state, previous, work);
        }
    }
    if event.change == Change::Created && !key.namespace.is_empty() {
        work.insert(Work::Stray(key.clone()));
    }
    if event.object.meta.deletion_timestamp.is_some() {
        note_deleting(state, key, &event.object, work);
    }
}

/// Owners that may have waited for this object.
fn note_waiting(state: &State, object: &Object, work: &mut BTreeSet<Work>) {
    for owner in &object.meta.owners {
        if let Some(key) = owner_key(state, owner, &object.namespace) {
            work.insert(Work::Owner(key));
        }
    }
}

fn is_namespace(state: &State, kind: KindId) -> bool {
    state.kinds.of_store(kind).is_some_and(|(_, kind)| namespaces::is_namespace(kind))
}

fn namespace_object(state: &State, name: &str) -> Option<(Key, Option<Arc<Object>>)> {
    let kind = state.kinds.store_id(state.kinds.namespaces()?);
    let key = Key::new(kind, "", name);
    let object = state.store.get(&key);
    Some((key, object))
}

fn is_going(state: &State, namespace: &str) -> bool {
    !namespace.is_empty()
        && namespace_object(state, namespace)
            .and_then(|(_, object)| object)
            .is_some_and(|object| object.meta.deletion_timestamp.is_some())
}

async fn look(state: &State, identity: &Identity, work: &Work) -> Result<(), Error> {
    match work {
        Work::Dependent(key) => dependent(state, identity, key).await,
        Work::Owner(key) => owner(state, identity, key).await,
        Work::Namespace(name) => namespace(state, identity, name).await,
        Work::Stray(key) => match namespace_object(state, &key.namespace) {
            Some((_, None)) => remove(state, identity, key, None).await,
            Some((_, Some(object))) if object.meta.deletion_timestamp.is_some() => {
                remove(state, identity, key, None).await
            }
            _ => Ok(()),
        },
    }
}

/// How an owner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It is there, or nobody here can tell.
    There,
    /// It waits for its dependents to go first.
    Waiting,
    /// It is gone.
    Gone,
}

fn owner_key(state: &State, owner: &Owner, namespace: &str) -> Option<Key> {
    let (index, kind) = state.kinds.find_by_kind(&owner.api_version, &owner.kind)?;
    let namespace = match kind.scope {
        Scope::Cluster => "",
        // A cluster-scoped object cannot be owned from inside a namespace: such a reference leads nowhere.
        Scope::Namespaced if namespace.is_empty() => return None,
        Scope::Namespaced => namespace,
    };
    Some(Key::new(state.kinds.store_id(index), namespace, &*owner.name))
}

fn standing(state: &State, owner: &Owner, namespace: &str) -> Standing {
    let Some(key) = owner_key(state, owner, namespace) else { return Standing::There };
    match state.store.get(&key).filter(|object| object.uid == owner.uid) {
        None => Standing::Gone,
        Some(object) if waits_for_dependents(&object) => Standing::Waiting,
        Some(_) => Standing::There,
    }
}

fn waits_for_dependents(object: &Object) -> bool {
    object.meta.deletion_timestamp.is_some() && object.meta.finalizers.iter().any(|f| **f == *FOREGROUND)
}

async fn dependent(state: &State, identity: &Identity, key: &Key) -> Result<(), Error> {
    let Some(object) = state.store.get(key) else { return Ok(()) };
    if object.meta.owners.is_empty() {
        return Ok(());
    }
    let standings: Vec<(&Owner, Standing)> =
        object.meta.owners.iter().map(|owner| (owner, standing(state, owner, &object.namespace))).collect();
    let lost: Vec<Arc<str>> =
        standings.iter().filter(|(_, s)| *s != Standing::There).map(|(owner, _)| Arc::clone(&owner.uid)).collect();
    if lost.is_empty() {
        return Ok(());
    }
    if lost.len() < standings.len() {
        // Somebody still owns it: only the references that lead nowhere go.
        return rewrite(state, key, |object| disown(object, &lost)).await;
    }
    if object.meta.deletion_timestamp.is_some() {
        return Ok(());
    }
    let waited_for = standings.iter().any(|(_, standing)| *standing == Standing::Waiting);
    let dependents = state.store.dependents(&object.uid);
    let propagation = if waited_for && !dependents.is_empty() {
        // What an owner waits for waits for its own dependents in turn.
        Some(Propagation::Foreground)
    } else {
        None
    };
    if propagation.is_some() && dependents.iter().any(|(_, dependent)| waits_for_dependents(dependent)) {
        // An owner may be a dependent of its dependent: so that they do not wait for each other, it is not waited for.
        rewrite(state, key, unblock).await?;
    }
    remove(state, identity, key, propagation).await
}

/// Lets owners go without waiting.
fn unblock(object: &mut Value) -> Result<(), Error> {
    let owners = admission::metadata(object)?.get_mut("ownerReferences").and_then(Value::as_array_mut);
    for owner in owners.into_iter().flatten().filter_map(Value::as_object_mut) {
        owner.insert("blockOwnerDeletion".into(), false.into());
    }
    Ok(())
}

/// Takes owner references away.
fn disown(object: &mut Value, uids: &[Arc<str>]) -> Result<(), Error> {
    let metadata = admission::metadata(object)?;
    if let Some(Value::Array(owners)) = metadata.get_mut("ownerReferences") {
        owners.retain(|owner| !uids.iter().any(|uid| owner.get("uid").and_then(Value::as_str) == Some(uid)));
        if owners.is_empty() {
            metadata.remove("ownerReferences");
        }
    }
    Ok(())
}

async fn owner(state: &State, identity: &Identity, key: &Key) -> Result<(), Error> {
    let Some(object) = state.store.get(key).filter(|object| object.meta.deletion_timestamp.is_some()) else {
        return Ok(());
    };
    let has = |finalizer: &str| object.meta.finalizers.iter().any(|f| **f == *finalizer);
    if has(ORPHAN) {
        let uid = [Arc::clone(&object.uid)];
        for (dependent, _) in state.store.dependents(&object.uid) {
            rewrite(state, &dependent, |object| disown(object, &uid)).await?;
        }
        rewrite(state, key, |object| drop_finalizer(object, ORPHAN)).await?;
    }
    if has(FOREGROUND) {
        for (key, found) in state.store.dependents(&object.uid) {
            if found.meta.deletion_timestamp.is_none() {
                dependent(state, identity, &key).await?;
            }
        }
        let blocked = state.store.dependents(&object.uid).iter().any(|(_, dependent)| {
            dependent.meta.owners.iter().any(|owner| owner.uid == object.uid && owner.block_owner_deletion)
        });
        if !blocked {
            rewrite(state, key, |object| drop_finalizer(object, FOREGROUND)).await?;
        }
    }
    Ok(())
}

fn drop_finalizer(object: &mut Value, finalizer: &str) -> Result<(), Error> {
    let mut left = admission::finalizers(object);
    left.retain(|f| f != finalizer);
    admission::set_finalizers(object, left)
}

async fn namespace(state: &State, identity: &Identity, name: &str) -> Result<(), Error> {
    let Some((key, Some(object))) = namespace_object(state, name) else { return Ok(()) };
    if object.meta.deletion_timestamp.is_none() {
        return Ok(());
    }
    let content: Vec<Key> = namespaces::content(state, name)
        .into_iter()
        .filter(|(_, object)| object.meta.deletion_timestamp.is_none())
        .map(|(index, object)| object.key(state.kinds.store_id(index)))
        .collect();
    let results: Vec<Result<(), Error>> = stream::iter(content)
        .map(|key| async move { remove(state, identity, &key, None).await })
        .buffer_unordered(CONCURRENT_MAX)
        .collect()
        .await;
    results.into_iter().collect::<Result<(), _>>()?;
    if namespaces::content(state, name).is_empty() {
        rewrite(state, &key, |object| {
            if let Some(finalizers) = object.pointer_mut("/spec/finalizers") {
                *finalizers = Value::Array(Vec::new());
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn remove(state: &State, identity: &Identity, key: &Key, propagation: Option<Propagation>) -> Result<(), Error> {
    let Some((index, kind)) = state.kinds.of_store(key.kind) else { return Ok(()) };
    let Some(object) = state.store.get(key) else { return Ok(()) };
    let target = Target {
        index,
        kind: Arc::clone(kind),
        namespace: (!key.namespace.is_empty()).then(|| key.namespace.clone()),
        name: Some(key.name.clone()),
        subresource: None,
        watch: false,
    };
    // Somebody may have made another object of that name since it was looked at.
    let options = Options { propagation, uid: Some((*object.uid).to_owned()), ..Options::default() };
    match delete::delete(state, &target, identity, &options).await {
        // It is gone, or was made anew; whoever else changes it is no reason to leave it.
        Err(error) if error.code() == 404 => Ok(()),
        Err(error) if error.code() == 409 && state.store.get(key).is_none_or(|now| now.uid != object.uid) => Ok(()),
        result => result.map(drop),
    }
}

/// Changes an object, whoever else does; removes it if that was what it waited for.
async fn rewrite(state: &State, key: &Key, edit: impl Fn(&mut Value) -> Result<(), Error>) -> Result<(), Error> {
    let Some((_, kind)) = state.kinds.of_store(key.kind) else { return Ok(()) };
    for _ in 0..ATTEMPTS_MAX {
        let Some(current) = state.store.get(key) else { return Ok(()) };
        let mut object = current.value();
        edit(&mut object)?;
        let waits = !admission::finalizers(&object).is_empty()
            || (namespaces::is_namespace(kind) && namespaces::has_finalizers(&object));
        let expected_revision = current.revision;
        let key = key.clone();
        let write = if admission::is_being_deleted(&object) && !waits {
            Write::Remove { key, expected_revision, body: Some(object) }
        } else if admission::unchanged(&current.value(), &object) {
            return Ok(());
        } else {
            Write::Replace { key, expected_revision, body: object }
        };
        match state.store.write(write).await {
            Ok(_) | Err(store::Error::NotFound) => return Ok(()),
            Err(store::Error::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::conflict(kind, &key.name))
}
