//! Keeps `status.used` of every quota at what is stored: what `kubectl describe quota` shows.
//!
//! Admission does not read it: it adds up for itself. So it may be late, and says nothing wrong for long.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream, SelectAll};
use serde_json::{Map, Value, json};

use super::limits::Quota;
use super::{quotas, quotas_kind};
use crate::admission;
use crate::kind::Scope;
use crate::server::State;
use crate::store::{self, KindId, Object, Write};

/// Changes are gathered for this long before they are written: a burst of a thousand objects is then a few writes.
const GATHER: Duration = Duration::from_millis(200);
/// Writes of one quota against others' before it is left to the next look.
const ATTEMPTS_MAX: usize = 5;

/// The namespaces that something happened in; all of them where it is not known which.
enum News {
    In(Vec<String>),
    Missed(KindId),
}

/// Writes until shutdown.
pub(crate) async fn run(state: &State) {
    let Some(quotas) = quotas_kind(state) else { return };
    let mut news: SelectAll<BoxStream<'static, News>> = SelectAll::new();
    for (index, kind) in state.kinds.stored() {
        if kind.scope == Scope::Namespaced {
            news.push(follow(state, state.kinds.store_id(index)));
        }
    }
    let mut dirty = everywhere(state, quotas);
    loop {
        for namespace in std::mem::take(&mut dirty) {
            if let Err(error) = write(state, quotas, &namespace).await {
                tracing::warn!(%error, namespace, "the usage of a quota could not be written; it is tried again");
                dirty.insert(namespace);
            }
        }
        let gathered = tokio::time::sleep(GATHER);
        tokio::pin!(gathered);
        let mut gathering = !dirty.is_empty();
        loop {
            tokio::select! {
                () = state.shutdown.cancelled() => return,
                () = &mut gathered, if gathering => break,
                some = news.next() => match some {
                    Some(News::In(namespaces)) => {
                        dirty.extend(namespaces.into_iter().filter(|namespace| !super::quotas(state, namespace).is_empty()));
                    }
                    Some(News::Missed(kind)) => {
                        news.push(follow(state, kind));
                        dirty.extend(everywhere(state, quotas));
                    }
                    None => return state.shutdown.cancelled().await,
                },
            }
            if !gathering && !dirty.is_empty() {
                gathering = true;
                gathered.as_mut().reset(tokio::time::Instant::now() + GATHER);
            }
        }
    }
}

/// The namespaces of a kind's changes from now on; ends when it was too slow.
fn follow(state: &State, kind: KindId) -> BoxStream<'static, News> {
    let watch = state.store.watch_across_namespaces(kind, state.store.revision()).ok();
    stream::unfold(Some(watch), move |watch| async move {
        match watch? {
            Some(mut watch) => match watch.next().await {
                Ok(events) => {
                    let namespaces: BTreeSet<&str> = events.iter().map(|event| &*event.object.namespace).collect();
                    let namespaces = namespaces.into_iter().map(str::to_owned).collect();
                    Some((News::In(namespaces), Some(Some(watch))))
                }
                Err(_evicted) => Some((News::Missed(kind), None)),
            },
            None => Some((News::Missed(kind), None)),
        }
    })
    .boxed()
}

fn everywhere(state: &State, kind: KindId) -> BTreeSet<String> {
    let all = state.store.snapshot_across_namespaces(kind);
    all.iter().map(|object| object.namespace.to_string()).collect()
}

/// Writes what is used into the quotas of a namespace, where it is not there already.
async fn write(state: &State, kind: KindId, namespace: &str) -> Result<(), store::Error> {
    let mut attempts = ATTEMPTS_MAX;
    loop {
        attempts -= 1;
        let used = state.ledger.used(state, namespace, &quotas(state, namespace));
        let objects: Vec<_> = state.store.snapshot(kind, namespace).iter().cloned().collect();
        if objects.is_empty() {
            state.ledger.forget(namespace);
        }
        let mut raced = false;
        for object in objects {
            let Some(body) = with_status(&object, &used) else { continue };
            let (key, expected_revision) = (object.key(kind), object.revision);
            match state.store.write(Write::Replace { key, expected_revision, body }).await {
                Ok(_) | Err(store::Error::NotFound) => {}
                Err(store::Error::Conflict { .. }) => raced = true,
                Err(error) => return Err(error),
            }
        }
        if !raced || attempts == 0 {
            return Ok(());
        }
    }
}

/// The quota with another status; `None` if it is right as it is.
fn with_status(object: &Object, used: &super::Usage) -> Option<Value> {
    let old = object.value();
    let quota = Quota::read(&object.name, &old);
    let mut hard = Map::new();
    let mut shown = Map::new();
    for limit in &quota.limits {
        let amount = used.get(&limit.measured).copied().unwrap_or_default();
        hard.insert(limit.name.clone(), limit.text.as_str().into());
        shown.insert(limit.name.clone(), amount.shown_like(&limit.text).into());
    }
    let mut new = old.clone();
    new["status"] = json!({"hard": hard, "used": shown});
    (!admission::unchanged(&old, &new)).then_some(new)
}
