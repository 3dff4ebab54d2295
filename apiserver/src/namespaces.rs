//! What is special about namespaces: they begin with a finalizer of their own, nothing new goes into one that is going,
//! and one that is going is emptied first.

use serde_json::{Value, json};

use crate::admission;
use crate::clock::Clock;
use crate::error::Error;
use crate::kind::{Kind, Scope};
use crate::kinds::Kinds;
use crate::path::Subresource;
use crate::server::{self, State};
use crate::store::{self, Key, KindId, Object, Store, Write};

/// The namespaces that every server has: the one of who names none, and that of its own keys.
pub(crate) const ALWAYS: [&str; 2] = ["default", crate::service_accounts::SYSTEM_NAMESPACE];

pub(crate) fn is_namespace(kind: &Kind) -> bool {
    kind.group.is_empty() && kind.plural == "namespaces"
}

/// A new namespace: active, with our finalizer and the label that selectors use.
pub(crate) fn begin(object: &mut Value) -> Result<(), Error> {
    let name = admission::text(object, "name").to_owned();
    let metadata = admission::metadata(object)?;
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    if let Value::Object(labels) = labels {
        labels.insert("kubernetes.io/metadata.name".into(), name.into());
    }
    if let Value::Object(map) = object {
        map.insert("spec".into(), json!({"finalizers": ["kubernetes"]}));
        map.insert("status".into(), json!({"phase": "Active"}));
    }
    Ok(())
}

/// Puts back what only `finalize` may change: a namespace must not lose its finalizer before it is empty.
pub(crate) fn keep(old: &Value, new: &mut Value, part: Option<Subresource>) {
    let fields: &[&str] = if part == Some(Subresource::Status) { &["spec"] } else { &["spec", "status"] };
    for &field in fields {
        if let (Some(kept), Value::Object(map)) = (old.get(field), &mut *new) {
            map.insert(field.into(), kept.clone());
        }
    }
}

/// 403 for a namespace that must not go.
pub(crate) fn check_deletable(state: &State, kind: &Kind, name: &str) -> Result<(), Error> {
    if is_namespace(kind) && state.namespaces.iter().any(|always| always == name) {
        return Err(Error::forbidden(&kind.group, &kind.plural, name, "this namespace may not be deleted"));
    }
    Ok(())
}

/// Whether somebody still has to clean up in it, besides `metadata.finalizers`.
pub(crate) fn has_finalizers(object: &Value) -> bool {
    object.pointer("/spec/finalizers").and_then(Value::as_array).is_some_and(|list| !list.is_empty())
}

/// Marks it as going.
pub(crate) fn terminate(object: &mut Value) {
    object["status"]["phase"] = "Terminating".into();
}

fn key(kind: KindId, name: &str) -> Key {
    Key::new(kind, "", name)
}

/// 404 if the namespace of a new object is missing, 403 if it is going. Without a kind for namespaces any will do.
pub(crate) fn check_open(state: &State, kind: &Kind, name: &str, namespace: &str) -> Result<(), Error> {
    let Some(index) = state.kinds.namespaces() else { return Ok(()) };
    match state.store.get(&key(state.kinds.store_id(index), namespace)) {
        None => Err(Error::namespace_not_found(namespace)),
        Some(object) if object.meta.deletion_timestamp.is_some() => {
            Err(Error::namespace_terminating(kind, name, namespace))
        }
        Some(_) => Ok(()),
    }
}

/// Makes the namespaces that are always there if they are missing.
pub(crate) async fn ensure_defaults(state: &State) -> Result<(), server::Error> {
    for name in &state.namespaces {
        ensure(&state.store, &state.kinds, &state.clock, name).await?;
    }
    Ok(())
}

/// Makes a namespace if it is missing, for what has to be stored before there is a server.
pub async fn ensure(store: &Store, kinds: &Kinds, clock: &Clock, name: &str) -> Result<(), store::Error> {
    let Some(index) = kinds.namespaces() else { return Ok(()) };
    let key = key(kinds.store_id(index), name);
    if store.get(&key).is_some() {
        return Ok(());
    }
    let mut object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": name,
        "uid": uuid::Uuid::new_v4().to_string(),
        "creationTimestamp": admission::timestamp(clock.now()),
    }});
    begin(&mut object).map_err(|error| store::Error::Invalid { message: error.to_string() })?;
    match store.write(Write::Create { key, body: object }).await {
        Ok(_) | Err(store::Error::Exists { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The objects in a namespace, of every kind.
pub(crate) fn content(state: &State, namespace: &str) -> Vec<(usize, std::sync::Arc<Object>)> {
    let namespaced = state.kinds.stored().filter(|(_, kind)| kind.scope == Scope::Namespaced);
    namespaced
        .flat_map(|(index, _)| {
            let snapshot = state.store.snapshot(state.kinds.store_id(index), namespace);
            snapshot.iter().map(|object| (index, std::sync::Arc::clone(object))).collect::<Vec<_>>()
        })
        .collect()
}
