//! The operations of a kind, path by path.

use serde_json::{Map, Value, json};

use super::common::{DELETE_OPTIONS, PATCH, SCALE, STATUS};
use crate::kind::{Kind, Scope};

/// Adds all paths of `kind`, whose schema is at `object` and whose list's at `list`.
pub(super) fn add(paths: &mut Map<String, Value>, kind: &Kind, object: &str, list: &str) {
    let root = if kind.group.is_empty() {
        format!("/api/{}", kind.version)
    } else {
        format!("/apis/{}/{}", kind.group, kind.version)
    };
    let gvk = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
    let all = format!("{root}/{}", kind.plural);
    let collection = match kind.scope {
        Scope::Cluster => all.clone(),
        Scope::Namespaced => format!("{root}/namespaces/{{namespace}}/{}", kind.plural),
    };
    let namespaced = kind.scope == Scope::Namespaced;
    let about = About { kind, gvk: &gvk, namespaced };
    if namespaced {
        let mut path =
            json!({"get": about.operation("list", "list", "ForAllNamespaces", &list_parameters(), None, list)});
        path["parameters"] = json!([]);
        paths.insert(all, path);
    }
    let mut path = json!({
        "get": about.operation("list", "list", "", &list_parameters(), None, list),
        "post": about.operation("post", "create", "", &write_parameters(), Some(object), object),
        "delete": about.operation("deletecollection", "deleteCollection", "", &list_parameters(), Some(DELETE_OPTIONS), STATUS),
    });
    path["parameters"] = about.path_parameters(false);
    paths.insert(collection.clone(), path);
    let mut path = json!({
        "get": about.operation("get", "read", "", &[], None, object),
        "put": about.operation("put", "replace", "", &write_parameters(), Some(object), object),
        "patch": about.operation("patch", "patch", "", &patch_parameters(), Some(PATCH), object),
        "delete": about.operation("delete", "delete", "", &delete_parameters(), Some(DELETE_OPTIONS), STATUS),
    });
    path["parameters"] = about.path_parameters(true);
    paths.insert(format!("{collection}/{{name}}"), path);
    if kind.status {
        paths.insert(format!("{collection}/{{name}}/status"), about.subresource("Status", object));
    }
    if kind.scale.is_some() {
        let gvk = json!({"group": "autoscaling", "version": "v1", "kind": "Scale"});
        let about = About { gvk: &gvk, ..about };
        paths.insert(format!("{collection}/{{name}}/scale"), about.subresource("Scale", SCALE));
    }
}

#[derive(Clone, Copy)]
struct About<'a> {
    kind: &'a Kind,
    gvk: &'a Value,
    namespaced: bool,
}

impl About<'_> {
    fn subresource(&self, name: &str, object: &str) -> Value {
        let mut path = json!({
            "get": self.operation("get", "read", name, &[], None, object),
            "put": self.operation("put", "replace", name, &write_parameters(), Some(object), object),
            "patch": self.operation("patch", "patch", name, &patch_parameters(), Some(PATCH), object),
        });
        path["parameters"] = self.path_parameters(true);
        path
    }

    fn operation(
        &self,
        action: &str,
        verb: &str,
        suffix: &str,
        parameters: &[Value],
        body: Option<&str>,
        answer: &str,
    ) -> Value {
        let scope = if self.namespaced && suffix != "ForAllNamespaces" { "Namespaced" } else { "" };
        let group: String = self.kind.group.split('.').map(capital).collect();
        let id = format!("{verb}{group}{}{scope}{}{suffix}", capital(&self.kind.version), self.kind.kind);
        let content =
            json!({"application/json": {"schema": {"$ref": answer}}, "application/yaml": {"schema": {"$ref": answer}}});
        let mut operation = json!({
            "operationId": id,
            "parameters": parameters,
            "responses": {"200": {"description": "OK", "content": content}, "401": {"description": "Unauthorized"}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": self.gvk,
        });
        if let Some(body) = body {
            let mut types = vec!["application/json", "application/yaml"];
            if action == "patch" {
                types =
                    vec!["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];
                if self.kind.strategic_merge {
                    types.push("application/strategic-merge-patch+json");
                }
            }
            let content: Map<String, Value> =
                types.into_iter().map(|t| (t.to_owned(), json!({"schema": {"$ref": body}}))).collect();
            operation["requestBody"] = json!({"content": content, "required": !action.starts_with("delete")});
        }
        operation
    }

    fn path_parameters(&self, name: bool) -> Value {
        let parameter =
            |name: &str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
        let mut parameters = Vec::new();
        if name {
            parameters.push(parameter("name"));
        }
        if self.namespaced {
            parameters.push(parameter("namespace"));
        }
        Value::Array(parameters)
    }
}

fn query(name: &str, type_: &str, description: &str) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": {"type": type_, "uniqueItems": true}})
}

fn write_parameters() -> Vec<Value> {
    vec![
        query("dryRun", "string", "All: check, and change nothing."),
        query("fieldManager", "string", "Who writes."),
        query("fieldValidation", "string", "What happens to unknown and duplicate fields: Ignore, Warn or Strict."),
    ]
}

fn patch_parameters() -> Vec<Value> {
    let mut parameters = write_parameters();
    parameters.push(query("force", "boolean", "For apply: take over fields others own."));
    parameters
}

fn delete_parameters() -> Vec<Value> {
    vec![
        query("dryRun", "string", "All: check, and change nothing."),
        query("gracePeriodSeconds", "integer", "How long the object may take to go."),
        query("propagationPolicy", "string", "Orphan, Background or Foreground."),
    ]
}

fn list_parameters() -> Vec<Value> {
    vec![
        query("labelSelector", "string", "Selects by labels."),
        query("fieldSelector", "string", "Selects by fields."),
        query("limit", "integer", "The most items on a page."),
        query("continue", "string", "Asks for the next page."),
        query("resourceVersion", "string", "Which revision is wanted."),
        query("resourceVersionMatch", "string", "How resourceVersion is meant."),
        query("watch", "boolean", "Watch for changes instead of listing."),
        query("allowWatchBookmarks", "boolean", "Whether the watch may send bookmarks."),
        query("sendInitialEvents", "boolean", "Whether the watch begins with what is there."),
        query("timeoutSeconds", "integer", "When the watch ends."),
    ]
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
