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
    without_what_a_view_lacks(kind, &mut path, &[("post", "create"), ("delete", "deletecollection")]);
    paths.insert(collection.clone(), path);
    let mut path = json!({
        "get": about.operation("get", "read", "", &[], None, object),
        "put": about.operation("put", "replace", "", &write_parameters(), Some(object), object),
        "patch": about.operation("patch", "patch", "", &patch_parameters(), Some(PATCH), object),
        "delete": about.operation("delete", "delete", "", &delete_parameters(), Some(DELETE_OPTIONS), STATUS),
    });
    path["parameters"] = about.path_parameters(true);
    without_what_a_view_lacks(kind, &mut path, &[("put", "update"), ("patch", "patch"), ("delete", "delete")]);
    paths.insert(format!("{collection}/{{name}}"), path);
    if kind.streams {
        for (name, methods) in [
            ("attach", &["get", "post"][..]),
            ("exec", &["get", "post"]),
            ("log", &["get"]),
            ("portforward", &["get", "post"]),
        ] {
            paths.insert(format!("{collection}/{{name}}/{name}"), about.stream(name, methods));
        }
    }
    if kind.status {
        paths.insert(format!("{collection}/{{name}}/status"), about.subresource("Status", object));
    }
    if kind.scale.is_some() {
        let gvk = json!({"group": "autoscaling", "version": "v1", "kind": "Scale"});
        let about = About { gvk: &gvk, ..about };
        paths.insert(format!("{collection}/{{name}}/scale"), about.subresource("Scale", SCALE));
    }
}

fn without_what_a_view_lacks(kind: &Kind, path: &mut Value, operations: &[(&str, &str)]) {
    for (operation, verb) in operations {
        if !kind.verbs().contains(verb)
            && let Some(path) = path.as_object_mut()
        {
            path.remove(*operation);
        }
    }
}

#[derive(Clone, Copy)]
struct About<'a> {
    kind: &'a Kind,
    gvk: &'a Value,
    namespaced: bool,
}

impl About<'_> {
    /// A way into a running program: an answer without a schema.
    fn stream(&self, name: &str, methods: &[&str]) -> Value {
        let is_log = name == "log";
        let parameters = if is_log { log_parameters() } else { stream_parameters(name) };
        let mut path = json!({"parameters": self.path_parameters(true)});
        for method in methods {
            let verb = if is_log { "read".to_owned() } else { format!("connect{}", capital(method)) };
            let id = format!("{verb}{}Namespaced{}{}", capital(&self.kind.version), self.kind.kind, capital(name));
            let responses = if is_log {
                json!({"200": {"description": "OK", "content": {"text/plain": {"schema": {"type": "string"}}}}})
            } else {
                json!({"101": {"description": "Switching Protocols"}, "400": {"description": "Bad Request"}})
            };
            path[*method] = json!({
                "operationId": id,
                "parameters": parameters,
                "responses": responses,
                "x-kubernetes-action": if is_log { "get" } else { "connect" },
                "x-kubernetes-group-version-kind": self.gvk,
            });
        }
        path
    }

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

fn log_parameters() -> Vec<Value> {
    vec![
        query("container", "string", "Which container; may be left out if there is one."),
        query("follow", "boolean", "Go on with what is written from now on."),
        query("tailLines", "integer", "Begin with so many of the last lines."),
        query("sinceSeconds", "integer", "Only what was written in the last so many seconds."),
        query("sinceTime", "string", "Only what was written since this time, RFC 3339."),
        query("timestamps", "boolean", "Begin each line with its time."),
        query("previous", "boolean", "What the container wrote before it was last started."),
        query("limitBytes", "integer", "End after so many bytes."),
        query("stream", "string", "All, Stdout or Stderr."),
    ]
}

fn stream_parameters(name: &str) -> Vec<Value> {
    if name == "portforward" {
        return vec![query("ports", "string", "The ports, for clients that name them here.")];
    }
    let mut parameters = vec![
        query("container", "string", "Which container; may be left out if there is one."),
        query("stdin", "boolean", "Whether input is sent."),
        query("stdout", "boolean", "Whether standard output is wanted."),
        query("stderr", "boolean", "Whether standard error is wanted."),
        query("tty", "boolean", "Whether it gets a terminal."),
    ];
    if name == "exec" {
        parameters.push(query("command", "string", "The program and its arguments, one parameter each."));
    }
    parameters
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
