//! ClusterRoles that gather the rules of others: what is gathered is written into them, so that people can read it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::super::Rule;
use super::Tables;
use super::object::{Aggregation, LabelSelector, Requirement, Role};
use crate::server::State;
use crate::store::{self, Object, Pairs, Snapshot, Write};

/// After a failure (the database, usually) it looks again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Rewrites of one role against others' writes before the next change is waited for.
const ATTEMPTS_MAX: usize = 5;

/// Keeps gathered roles up to date until shutdown.
pub(crate) async fn follow(state: &Arc<State>) {
    let Some(tables) = Tables::of(&state.kinds) else { return };
    let kind = tables.cluster_roles;
    loop {
        let revision = state.store.revision();
        let mut retry = None;
        if let Err(error) = gather(state, tables).await {
            tracing::warn!(%error, "roles could not be gathered; it is tried again");
            retry = Some(RETRY_AFTER);
        }
        let changed = async {
            match state.store.watch_across_namespaces(kind, revision) {
                // What this round wrote itself wakes it once more, which finds nothing to do.
                Ok(mut watch) => drop(watch.next().await),
                Err(_expired) => {}
            }
        };
        tokio::select! {
            () = state.shutdown.cancelled() => return,
            () = changed => {}
            () = async { match retry { Some(pause) => tokio::time::sleep(pause).await, None => std::future::pending().await } } => {}
        }
    }
}

/// Writes every gathered role whose sources say something else. Roles that gather gathered roles settle in rounds.
pub(crate) async fn gather(state: &State, tables: Tables) -> Result<(), store::Error> {
    let kind = tables.cluster_roles;
    let snapshot = state.store.snapshot_across_namespaces(kind);
    for object in snapshot.iter() {
        let Some(aggregation) = Role::read(object).aggregation_rule else { continue };
        let rules = gathered(&aggregation, object, &snapshot);
        for _ in 0..ATTEMPTS_MAX {
            let Some(current) = state.store.get(&object.key(kind)) else { break };
            if Role::read(&current).rules() == rules {
                break;
            }
            let mut body = current.value();
            if let (Value::Object(map), Ok(rules)) = (&mut body, serde_json::to_value(&rules)) {
                map.insert("rules".into(), rules);
            }
            let write = Write::Replace { key: object.key(kind), expected_revision: current.revision, body };
            match state.store.write(write).await {
                Ok(_) | Err(store::Error::NotFound) => break,
                Err(store::Error::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// The rules of the selected roles in the order of their names, each once.
fn gathered(aggregation: &Aggregation, own: &Object, all: &Snapshot) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    let selected = all.iter().filter(|object| {
        object.name != own.name
            && aggregation.cluster_role_selectors.iter().any(|selector| selects(selector, &object.meta.labels))
    });
    for rule in selected.flat_map(|object| Role::read(object).rules()) {
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    rules
}

/// Whether labels fit; an empty selector selects everything, as in Kubernetes.
fn selects(selector: &LabelSelector, labels: &Pairs) -> bool {
    let fits = |requirement: &Requirement| {
        let value = labels.get(&requirement.key);
        let listed = value.is_some_and(|value| requirement.values.iter().any(|wanted| wanted == value));
        match requirement.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    };
    selector.match_labels.iter().all(|(key, wanted)| labels.get(key).is_some_and(|value| value == wanted))
        && selector.match_expressions.iter().all(fits)
}
