//! The registered kinds as read-only `CustomResourceDefinition`s: some clients list and watch them to learn what there is.
//!
//! They are ordinary stored objects, so that get, list, watch and tables need nothing of their own; the server writes
//! them when it starts, and refuses everybody else's writes.

use std::collections::BTreeSet;

use futures::future::try_join_all;
use serde_json::{Value, json};

use crate::admission;
use crate::kind::{Column, Kind, NameRule, Scope};
use crate::kinds::Kinds;
use crate::server::{self, State};
use crate::store::{Key, Store, Write};

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";

/// The kind of definitions, to be registered by whoever wants them served.
pub fn kind() -> Kind {
    let text = |text: &str| text.to_owned();
    Kind {
        group: text(GROUP),
        version: text("v1"),
        kind: text("CustomResourceDefinition"),
        list_kind: text("CustomResourceDefinitionList"),
        plural: text(PLURAL),
        singular: text("customresourcedefinition"),
        short_names: vec![text("crd"), text("crds")],
        categories: Vec::new(),
        scope: Scope::Cluster,
        table: text("core_definitions"),
        schema: json!({
            "type": "object",
            "description": "A kind that this server serves. Read-only.",
            "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}},
        }),
        status: false,
        scale: None,
        columns: vec![Column {
            name: text("Created At"),
            type_: text("string"),
            format: String::new(),
            description: text("When the kind was first served."),
            priority: 0,
            json_path: text(".metadata.creationTimestamp"),
            cell: None,
        }],
        selectable_fields: Vec::new(),
        strategic_merge: false,
        replace_names_revision: false,
        name_rule: NameRule::Subdomain,
        prepare: None,
        validate: None,
        decode_protobuf: None,
        retention_seconds: None,
        sensitive: false,
        sealed: false,
        streams: false,
        view_of: None,
    }
}

/// Whether nobody but the server writes objects of this kind.
pub(crate) fn is_definition(kind: &Kind) -> bool {
    kind.group == GROUP && kind.plural == PLURAL
}

/// Whether there are any: they are the last of what is made at the first start of all. That those of this very version are
/// there is not asked, since of several servers one of another version may lead.
pub fn are_published(store: &Store, kinds: &Kinds) -> impl Fn() -> bool + Send + Sync + use<> {
    let table = kinds.find(GROUP, "v1", PLURAL).map(|(index, _)| kinds.store_id(index));
    let store = store.clone();
    move || table.is_none_or(|table| store.snapshot_across_namespaces(table).iter().next().is_some())
}

/// Brings the stored definitions to what is registered, if they are served at all.
pub(crate) async fn publish(state: &State) -> Result<(), server::Error> {
    let Some((index, _)) = state.kinds.find(GROUP, "v1", PLURAL) else { return Ok(()) };
    let table = state.kinds.store_id(index);
    let (mut wanted, mut writes) = (BTreeSet::new(), Vec::new());
    for kind in state.kinds.all().iter().filter(|kind| !kind.strategic_merge && !is_definition(kind)) {
        let name = kind.qualified_plural();
        let key = Key::new(table, "", name.as_str());
        wanted.insert(name);
        let current = state.store.get(&key);
        let old = current.as_ref().map(|object| object.value());
        let now = admission::timestamp(state.clock.now());
        let kept = |field: &str, fresh: String| {
            let known = old.as_ref().map(|old| admission::text(old, field).to_owned());
            known.filter(|known| !known.is_empty()).unwrap_or(fresh)
        };
        let metadata = json!({
            "name": key.name,
            "uid": kept("uid", uuid::Uuid::new_v4().to_string()),
            "creationTimestamp": kept("creationTimestamp", now.clone()),
            "generation": 1,
        });
        let since = kept("creationTimestamp", now);
        let body = definition(kind, &metadata, &since);
        let write = match (current, old) {
            (Some(_), Some(old)) if admission::unchanged(&old, &body) => continue,
            (Some(current), _) => Write::Replace { key, expected_revision: current.revision, body },
            (None, _) => Write::Create { key, body },
        };
        writes.push(write);
    }
    for object in state.store.snapshot_across_namespaces(table).iter() {
        if !wanted.contains(&*object.name) {
            let (key, expected_revision) = (object.key(table), object.revision);
            writes.push(Write::Remove { key, expected_revision, body: None });
        }
    }
    // In one transaction, as far as it takes them.
    try_join_all(writes.into_iter().map(|write| state.store.write(write))).await?;
    Ok(())
}

fn definition(kind: &Kind, metadata: &Value, since: &str) -> Value {
    let names = json!({
        "plural": kind.plural, "singular": kind.singular, "kind": kind.kind, "listKind": kind.list_kind,
        "shortNames": kind.short_names, "categories": kind.categories,
    });
    let mut version = json!({
        "name": kind.version, "served": true, "storage": true, "schema": {"openAPIV3Schema": kind.schema},
    });
    let mut subresources = serde_json::Map::new();
    if kind.status {
        subresources.insert("status".into(), json!({}));
    }
    if let Some(scale) = &kind.scale {
        let mut paths = json!({
            "specReplicasPath": scale.spec_replicas_path, "statusReplicasPath": scale.status_replicas_path,
        });
        if let Some(path) = &scale.label_selector_path {
            paths["labelSelectorPath"] = path.as_str().into();
        }
        subresources.insert("scale".into(), paths);
    }
    if !subresources.is_empty() {
        version["subresources"] = subresources.into();
    }
    let columns: Vec<Value> = kind
        .columns
        .iter()
        .filter(|column| column.cell.is_none())
        .map(|column| {
            json!({"name": column.name, "type": column.type_, "jsonPath": column.json_path,
                   "priority": column.priority, "description": column.description})
        })
        .collect();
    if !columns.is_empty() {
        version["additionalPrinterColumns"] = columns.into();
    }
    let fields: Vec<Value> =
        kind.selectable_fields.iter().map(|field| json!({"jsonPath": format!(".{field}")})).collect();
    if !fields.is_empty() {
        version["selectableFields"] = fields.into();
    }
    let condition = |type_: &str, reason: &str| json!({"type": type_, "status": "True", "reason": reason, "message": "", "lastTransitionTime": since});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {
            "group": kind.group,
            "names": names,
            "scope": if kind.scope == Scope::Cluster { "Cluster" } else { "Namespaced" },
            "conversion": {"strategy": "None"},
            "versions": [version],
        },
        "status": {
            "acceptedNames": names,
            "storedVersions": [kind.version],
            "conditions": [condition("NamesAccepted", "NoConflicts"), condition("Established", "InitialNamesAccepted")],
        },
    })
}
