//! Quotas: how much a namespace may hold of what.
//!
//! A `v1 ResourceQuota` limits the number of objects of any kind (`count/RESOURCE.GROUP`), and whatever else somebody
//! has registered an [`Evaluator`] for. Nothing is counted along: before a write, what is stored is added up, and with it
//! what others are about to store ([`ledger`]). So a deletion, in whatever way it happens, frees what it held at once,
//! and nothing can drift.
//!
//! The limit holds exactly among all writes of one server. Of several servers on one database, each knows of the others'
//! writes some milliseconds later: in that time they can together exceed a limit by what they write at once.

mod amount;
mod ledger;
mod limits;
mod status;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

pub use self::amount::Amount;
pub(crate) use self::ledger::{Claim, Ledger};
pub(crate) use self::status::run;

use self::limits::{Limit, Quota};
use crate::error::Error;
use crate::kind::{FieldError, FieldErrorReason, Kind, Scope};
use crate::path::Target;
use crate::server::State;
use crate::store::{Key, KindId};

/// What an object uses of what is limited, by name: `count/widgets.example.dev`, `cpu`.
pub type Usage = BTreeMap<String, Amount>;

/// Finds another object that the usage of one depends on: group, plural, namespace (empty for cluster-scoped kinds),
/// name.
pub type Find<'a> = &'a dyn Fn(&str, &str, &str, &str) -> Option<Value>;

/// Says how much an object of a kind uses of what is not simply counted.
pub trait Evaluator: Send + Sync {
    /// Group and plural of the kind.
    fn kind(&self) -> (&str, &str);

    /// The names of what it measures, for example `cpu`. Others may measure the same in other kinds.
    fn names(&self) -> &[&str];

    /// What an object uses: asked once for each state of an object. `None` if that cannot be said yet, because another
    /// object is missing; then it uses nothing, and is asked again.
    fn usage(&self, object: &Value, find: Find<'_>) -> Option<Usage>;
}

/// The name under which objects of a kind are counted.
fn count_name(kind: &Kind) -> String {
    format!("count/{}", kind.qualified_plural())
}

fn quotas_kind(state: &State) -> Option<KindId> {
    state.kinds.find("", "v1", "resourcequotas").map(|(index, _)| state.kinds.store_id(index))
}

pub(crate) fn is_quota(kind: &Kind) -> bool {
    kind.group.is_empty() && kind.plural == "resourcequotas"
}

/// The quotas of a namespace.
fn quotas(state: &State, namespace: &str) -> Vec<Quota> {
    let Some(kind) = quotas_kind(state) else { return Vec::new() };
    let snapshot = state.store.snapshot(kind, namespace);
    snapshot.iter().map(|object| Quota::read(&object.name, &object.value())).collect()
}

/// Makes room for an object that is about to be stored, in place of `old` if it is there already. The room is held until
/// the claim is dropped, which must be after the write: from then on the object itself is counted. 403 if there is none.
pub(crate) fn claim(
    state: &State,
    target: &Target,
    name: &str,
    old: Option<&Value>,
    new: &Value,
) -> Result<Option<Claim>, Error> {
    let (kind, namespace) = (&target.kind, target.namespace());
    if is_quota(kind) {
        check_names(state, kind, name, new)?;
    }
    if namespace.is_empty() {
        return Ok(None);
    }
    let quotas = quotas(state, namespace);
    if quotas.is_empty() {
        return Ok(None);
    }
    let id = state.kinds.store_id(target.index);
    let key = Key::new(id, namespace, name);
    let usage = state.ledger.usage(state, id, new).unwrap_or_default();
    let before = old.map(|old| state.ledger.usage(state, id, old).unwrap_or_default()).unwrap_or_default();
    state
        .ledger
        .claim(state, &quotas, key, usage, &before)
        .map_err(|exceeded| Error::forbidden(&kind.group, &kind.plural, name, &exceeded.to_string()))
}

/// 422 for a quota that limits something nobody measures: it would never hold.
fn check_names(state: &State, kind: &Kind, name: &str, quota: &Value) -> Result<(), Error> {
    let errors: Vec<FieldError> = Quota::read(name, quota)
        .limits
        .iter()
        .filter(|limit| !state.ledger.measures(state, &limit.measured))
        .map(|limit| FieldError {
            field: format!("spec.hard[{}]", limit.name),
            reason: FieldErrorReason::NotSupported,
            message: format!(
                "Unsupported value: \"{}\": supported values: \"count/RESOURCE.GROUP\" of a kind that is served, {}",
                limit.name,
                state.ledger.names().iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", "),
            ),
        })
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(Error::invalid(kind, name, &errors)) }
}

/// The kinds whose objects count for one of these limits.
fn relevant<'a>(state: &'a State, limits: &[&'a Limit]) -> Vec<(KindId, &'a Arc<Kind>)> {
    let stored = state.kinds.stored().map(|(index, kind)| (state.kinds.store_id(index), kind));
    stored
        .filter(|(_, kind)| kind.scope == Scope::Namespaced)
        .filter(|(_, kind)| {
            let measured = state.ledger.names_of(kind);
            limits.iter().any(|limit| measured.contains(&limit.measured))
        })
        .collect()
}
