//! Making the default roles and bindings, and adding to them what an upgrade brings, as Kubernetes does at its start.
//!
//! Who wants to change a default for good sets its annotation `rbac.authorization.kubernetes.io/autoupdate` to `false`.

use futures::future::try_join_all;
use serde_json::{Map, Value, json};

use super::defaults::{DefaultRole, label};
use super::escalation::uncovered;
use super::object::{Binding, Role};
use super::{GROUP, Tables};
use crate::admission;
use crate::server::State;
use crate::store::{self, Key, KindId, Write};

const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
/// Marks what came with the server.
const BOOTSTRAPPING: (&str, &str) = ("kubernetes.io/bootstrapping", "rbac-defaults");
/// Attempts against others' writes; at the start there is hardly anybody.
const ATTEMPTS_MAX: usize = 5;

/// Brings the default roles and bindings up to date.
pub(crate) async fn reconcile(state: &State, roles: &[DefaultRole]) -> Result<(), store::Error> {
    let Some(tables) = Tables::of(&state.kinds) else { return Ok(()) };
    // All at once, so that the first start waits for one transaction and not for each of fifty.
    try_join_all(roles.iter().map(async |role| {
        settle(state, tables.cluster_roles, &role.name, || cluster_role(role), |object| add_rules(object, role))
            .await?;
        if !role.groups.is_empty() {
            settle(state, tables.cluster_bindings, &role.name, || binding(role), |object| add_groups(object, role))
                .await?;
        }
        Ok::<_, store::Error>(())
    }))
    .await?;
    super::aggregate::gather(state, tables).await
}

/// Makes an object, or adds to it what `add` finds missing.
async fn settle(
    state: &State,
    kind: KindId,
    name: &str,
    new: impl Fn() -> Value,
    add: impl Fn(&mut Value),
) -> Result<(), store::Error> {
    let key = Key::new(kind, "", name);
    for _ in 0..ATTEMPTS_MAX {
        let write = match state.store.get(&key) {
            None => {
                let mut object = new();
                object["metadata"]["uid"] = uuid::Uuid::now_v7().to_string().into();
                object["metadata"]["creationTimestamp"] = admission::timestamp(state.clock.now()).into();
                Write::Create { key: key.clone(), body: object }
            }
            Some(current) => {
                let old = current.value();
                let updates = old.pointer("/metadata/annotations").and_then(|all| all.get(AUTO_UPDATE));
                if updates.is_some_and(|value| value == "false") {
                    return Ok(());
                }
                let mut object = old.clone();
                add(&mut object);
                if old == object {
                    return Ok(());
                }
                Write::Replace { key: key.clone(), expected_revision: current.revision, body: object }
            }
        };
        match state.store.write(write).await {
            Ok(_) => return Ok(()),
            Err(store::Error::Exists { .. } | store::Error::Conflict { .. } | store::Error::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    // Somebody else is at it; the next start looks again.
    Ok(())
}

fn metadata(name: &str, gathered_by: &[String]) -> Value {
    let mut labels = Map::new();
    labels.insert(BOOTSTRAPPING.0.into(), BOOTSTRAPPING.1.into());
    labels.extend(gathered_by.iter().map(|role| (label(role), "true".into())));
    json!({"name": name, "labels": labels, "annotations": {AUTO_UPDATE: "true"}})
}

fn cluster_role(role: &DefaultRole) -> Value {
    let mut object = json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "ClusterRole", "metadata": metadata(&role.name, &role.gathered_by),
    });
    add_rules(&mut object, role);
    object
}

fn add_rules(object: &mut Value, role: &DefaultRole) {
    if !role.gathered_by.is_empty()
        && let Some(labels) = labels(object)
    {
        for role in &role.gathered_by {
            labels.entry(label(role)).or_insert("true".into());
        }
    }
    if role.gathers {
        if object.get("aggregationRule").is_none() {
            let selector = json!({"matchLabels": {label(&role.name): "true"}});
            object["aggregationRule"] = json!({"clusterRoleSelectors": [selector]});
        }
        return;
    }
    let mut rules = Role::of(object).rules();
    // Rules that an administrator has added stay; what is covered already is not added again.
    let missing: Vec<_> =
        role.rules.iter().filter(|rule| !uncovered(&rules, std::slice::from_ref(*rule)).is_empty()).cloned().collect();
    if missing.is_empty() {
        return;
    }
    rules.extend(missing);
    object["rules"] = serde_json::to_value(rules).unwrap_or_default();
}

fn labels(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let metadata = object.get_mut("metadata")?.as_object_mut()?;
    metadata.entry("labels").or_insert_with(|| json!({})).as_object_mut()
}

fn binding(role: &DefaultRole) -> Value {
    let mut object = json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "ClusterRoleBinding", "metadata": metadata(&role.name, &[]),
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role.name},
    });
    add_groups(&mut object, role);
    object
}

fn add_groups(object: &mut Value, role: &DefaultRole) {
    let binding = Binding::of(object);
    let Some(map) = object.as_object_mut() else { return };
    let subjects = map.entry("subjects").or_insert_with(|| json!([]));
    let Some(subjects) = subjects.as_array_mut() else { return };
    for group in role.groups.iter().filter(|group| !binding.has_group(group)) {
        subjects.push(json!({"apiGroup": GROUP, "kind": "Group", "name": group}));
    }
}
