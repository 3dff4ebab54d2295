//! From a `CustomResourceDefinition` to the server's own description of a kind.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as api;
use serde_json::{Value, json};

use crate::kind::{Column, Kind, NameRule, Scale, Scope};

impl Kind {
    /// Describes the served version of `crd`, whose objects are kept in the SQL table `table`.
    ///
    /// Fails if the definition serves no version, or none with a schema, or a scope nobody knows. The schema itself is
    /// checked by [`crate::schema::Schema::compile`].
    pub fn from_crd(crd: &api::CustomResourceDefinition, table: &str) -> Result<Self, String> {
        let spec = &crd.spec;
        let names = &spec.names;
        let version = spec
            .versions
            .iter()
            .find(|v| v.served && v.storage)
            .or_else(|| spec.versions.iter().find(|v| v.served))
            .ok_or_else(|| format!("{}.{} serves no version", names.plural, spec.group))?;
        let scope = match spec.scope.as_str() {
            "Namespaced" => Scope::Namespaced,
            "Cluster" => Scope::Cluster,
            other => return Err(format!("{}.{}: unknown scope {other:?}", names.plural, spec.group)),
        };
        let schema = version
            .schema
            .as_ref()
            .and_then(|s| s.open_api_v3_schema.as_ref())
            .ok_or_else(|| format!("{}.{}: version {} has no schema", names.plural, spec.group, version.name))?;
        let mut schema = serde_json::to_value(schema).map_err(|error| error.to_string())?;
        complete(&mut schema);
        let subresources = version.subresources.as_ref();
        Ok(Self {
            group: spec.group.clone(),
            version: version.name.clone(),
            kind: names.kind.clone(),
            list_kind: names.list_kind.clone().unwrap_or_else(|| format!("{}List", names.kind)),
            plural: names.plural.clone(),
            singular: names.singular.clone().unwrap_or_else(|| names.kind.to_lowercase()),
            short_names: names.short_names.clone().unwrap_or_default(),
            categories: names.categories.clone().unwrap_or_default(),
            scope,
            table: table.to_owned(),
            schema,
            status: subresources.is_some_and(|s| s.status.is_some()),
            scale: subresources.and_then(|s| s.scale.as_ref()).map(|s| Scale {
                spec_replicas_path: s.spec_replicas_path.clone(),
                status_replicas_path: s.status_replicas_path.clone(),
                label_selector_path: s.label_selector_path.clone(),
            }),
            columns: version.additional_printer_columns.iter().flatten().map(column).collect(),
            selectable_fields: version
                .selectable_fields
                .iter()
                .flatten()
                .map(|f| f.json_path.trim_start_matches('.').to_owned())
                .collect(),
            strategic_merge: false,
            replace_names_revision: true,
            name_rule: NameRule::Subdomain,
            prepare: None,
            validate: None,
            decode_protobuf: None,
            retention_seconds: None,
            sensitive: false,
            sealed: false,
            streams: false,
            view_of: None,
        })
    }
}

fn column(column: &api::CustomResourceColumnDefinition) -> Column {
    Column {
        name: column.name.clone(),
        type_: column.type_.clone(),
        format: column.format.clone().unwrap_or_default(),
        description: column.description.clone().unwrap_or_default(),
        priority: column.priority.unwrap_or_default(),
        json_path: column.json_path.clone(),
        cell: None,
    }
}

/// A definition need not mention what every object has; the server's schema does.
fn complete(schema: &mut Value) {
    let Some(root) = schema.as_object_mut() else { return };
    root.entry("type").or_insert_with(|| json!("object"));
    let properties = root.entry("properties").or_insert_with(|| json!({}));
    let Some(properties) = properties.as_object_mut() else { return };
    properties.entry("apiVersion").or_insert_with(|| json!({"type": "string"}));
    properties.entry("kind").or_insert_with(|| json!({"type": "string"}));
    properties.entry("metadata").or_insert_with(|| json!({"type": "object"}));
}
