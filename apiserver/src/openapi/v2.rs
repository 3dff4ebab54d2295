//! `/openapi/v2`: one Swagger 2.0 document of everything, made from the documents of version 3.
//!
//! Argo CD reads it, and kubectl before 1.29. Both fail altogether on a reference that leads nowhere, so the references
//! are those of version 3 and nothing is left out that one of them names. What Swagger cannot say is dropped, as
//! Kubernetes does for custom resources: alternatives, defaults, what may be null, rules in CEL.

use serde_json::{Map, Value, json};

/// Members of a schema that both versions have.
const SHARED: [&str; 19] = [
    "description",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "pattern",
    "required",
    "title",
    "type",
    "uniqueItems",
];

/// The document of all `documents` together.
pub(super) fn document(documents: &[Value]) -> Value {
    let mut definitions = Map::new();
    let mut paths = Map::new();
    for document in documents {
        for (name, shape) in members(&document["components"]["schemas"]) {
            let shape = schema(shape);
            match definitions.get_mut(name) {
                None => {
                    definitions.insert(name.clone(), shape);
                }
                // A shared one: each document names the versions it is used in.
                Some(known) => merge_versions(known, &shape),
            }
        }
        for (path, item) in members(&document["paths"]) {
            paths.insert(path.clone(), path_item(item));
        }
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Berth", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "definitions": definitions,
    })
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn merge_versions(known: &mut Value, other: &Value) {
    const NAME: &str = "x-kubernetes-group-version-kind";
    let Some(versions) = known.get_mut(NAME).and_then(Value::as_array_mut) else { return };
    for version in other.get(NAME).and_then(Value::as_array).into_iter().flatten() {
        if !versions.contains(version) {
            versions.push(version.clone());
        }
    }
}

/// A schema as Swagger has it.
fn schema(old: &Value) -> Value {
    // A reference with something to say beside it is written as the only one of `allOf` in version 3.
    if let Some([only]) = old.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
        let mut new = schema(only);
        if let Some(description) = old.get("description") {
            new["description"] = description.clone();
        }
        return new;
    }
    if let Some(reference) = old.get("$ref").and_then(Value::as_str) {
        return json!({"$ref": reference.replacen("#/components/schemas/", "#/definitions/", 1)});
    }
    let is = |mark: &str| old.get(mark) == Some(&Value::Bool(true));
    // Clients refuse what a schema does not have, and know no other way of saying "or something else".
    let open = is("x-kubernetes-preserve-unknown-fields") || is("x-kubernetes-int-or-string") || is("nullable");
    let mut new = Map::new();
    for (name, value) in members(old) {
        match name.as_str() {
            "description" => {
                new.insert(name.clone(), value.clone());
            }
            "x-kubernetes-validations" => {}
            name if name.starts_with("x-") => {
                new.insert(name.to_owned(), value.clone());
            }
            _ if open => {}
            "properties" => {
                let properties: Map<String, Value> = members(value).map(|(n, v)| (n.clone(), schema(v))).collect();
                new.insert(name.clone(), properties.into());
            }
            "items" | "additionalProperties" if value.is_object() => {
                new.insert(name.clone(), schema(value));
            }
            name if SHARED.contains(&name) => {
                new.insert(name.to_owned(), value.clone());
            }
            _ => {}
        }
    }
    new.into()
}

fn path_item(old: &Value) -> Value {
    let new = members(old).map(|(name, value)| {
        let value = if name == "parameters" { parameters(value).into() } else { operation(value) };
        (name.clone(), value)
    });
    Value::Object(new.collect())
}

fn parameters(old: &Value) -> Vec<Value> {
    let parameter = |old: &Value| {
        let mut new = old.clone();
        let shape = new.as_object_mut().and_then(|map| map.remove("schema"));
        for (name, value) in shape.as_ref().into_iter().flat_map(members) {
            new[name] = value.clone();
        }
        new
    };
    old.as_array().into_iter().flatten().map(parameter).collect()
}

fn operation(old: &Value) -> Value {
    let types = |content: &Value| members(content).map(|(media_type, _)| media_type.clone()).collect::<Vec<_>>();
    let shape = |content: &Value| members(content).next().map(|(_, content)| schema(&content["schema"]));
    let mut all = parameters(&old["parameters"]);
    let body = &old["requestBody"];
    if let Some(shape) = shape(&body["content"]) {
        all.insert(0, json!({"name": "body", "in": "body", "required": body["required"] == true, "schema": shape}));
    }
    let responses: Map<String, Value> = members(&old["responses"])
        .map(|(code, response)| {
            let mut new = json!({"description": response["description"]});
            if let Some(shape) = shape(&response["content"]) {
                new["schema"] = shape;
            }
            (code.clone(), new)
        })
        .collect();
    let mut new = json!({
        "operationId": old["operationId"],
        "parameters": all,
        "produces": types(&old["responses"]["200"]["content"]),
        "responses": responses,
        "schemes": ["https"],
    });
    let consumes = types(&body["content"]);
    if !consumes.is_empty() {
        new["consumes"] = json!(consumes);
    }
    for (name, value) in members(old).filter(|(name, _)| name.starts_with("x-")) {
        new[name] = value.clone();
    }
    new
}
