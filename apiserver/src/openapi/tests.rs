//! What kubectl needs of the documents.

use std::collections::BTreeSet;

use super::*;
use crate::core_kinds;

fn documents() -> Vec<(String, Value)> {
    let mut kinds = core_kinds::all();
    let mut custom = core_kinds::namespace();
    custom.group = "berth.dev".to_owned();
    custom.scope = crate::kind::Scope::Namespaced;
    custom.scale = Some(crate::kind::Scale {
        spec_replicas_path: ".spec.a".to_owned(),
        status_replicas_path: ".status.b".to_owned(),
        label_selector_path: None,
    });
    kinds.push(custom);
    let openapi = OpenApi::new(Kinds::new(kinds).unwrap());
    let index: Value = serde_json::from_slice(openapi.index()).unwrap();
    let paths = index["paths"].as_object().unwrap();
    let read = |(path, entry): (&String, &Value)| {
        let document = openapi.document(path).unwrap();
        let url = entry["serverRelativeURL"].as_str().unwrap();
        assert_eq!(url, format!("/openapi/v3/{path}?hash={}", document.hash));
        (path.clone(), serde_json::from_slice(&document.body).unwrap())
    };
    paths.iter().map(read).collect()
}

fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("$ref").and_then(Value::as_str));
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn there_is_a_document_for_each_group_and_version() {
    let paths: Vec<String> = documents().into_iter().map(|(path, _)| path).collect();
    let expected = [
        "api/v1",
        "apis/berth.dev/v1",
        "apis/coordination.k8s.io/v1",
        "apis/events.k8s.io/v1",
        "apis/rbac.authorization.k8s.io/v1",
    ];
    assert_eq!(paths, expected);
}

#[test]
fn every_reference_leads_somewhere_in_its_document() {
    for (path, document) in documents() {
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 5, "{path} has hardly any reference");
        for reference in found {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{path}: {reference} leads nowhere");
        }
    }
}

#[test]
fn every_write_takes_field_validation_and_says_what_it_writes() {
    for (path, document) in documents() {
        let mut writes = 0;
        for (url, operations) in document["paths"].as_object().unwrap() {
            for verb in ["post", "put", "patch"] {
                let Some(operation) = operations.get(verb) else { continue };
                writes += 1;
                let names: Vec<&str> =
                    operation["parameters"].as_array().unwrap().iter().filter_map(|p| p["name"].as_str()).collect();
                for wanted in ["dryRun", "fieldManager", "fieldValidation"] {
                    assert!(names.contains(&wanted), "{path}: {verb} {url} has no {wanted}");
                }
                assert_eq!(operation["x-kubernetes-action"], verb);
                assert!(operation["x-kubernetes-group-version-kind"]["kind"].is_string());
            }
        }
        assert!(writes >= 3, "{path}");
    }
}

#[test]
fn every_operation_has_its_own_id() {
    for (path, document) in documents() {
        let mut seen = BTreeSet::new();
        for operations in document["paths"].as_object().unwrap().values() {
            for operation in operations.as_object().unwrap().values().filter(|o| o.is_object()) {
                let id = operation["operationId"].as_str().unwrap();
                assert!(seen.insert(id), "{path}: {id} stands twice");
            }
        }
    }
}

#[test]
fn the_paths_of_a_kind() {
    let documents = documents();
    let (_, document) = documents.iter().find(|(path, _)| path == "apis/berth.dev/v1").unwrap();
    let lines: Vec<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(url, path)| {
            let verbs: Vec<&str> =
                path.as_object().unwrap().keys().map(String::as_str).filter(|k| *k != "parameters").collect();
            format!("{url} {}", verbs.join(","))
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    /apis/berth.dev/v1/namespaces get
    /apis/berth.dev/v1/namespaces/{namespace}/namespaces delete,get,post
    /apis/berth.dev/v1/namespaces/{namespace}/namespaces/{name} delete,get,patch,put
    /apis/berth.dev/v1/namespaces/{namespace}/namespaces/{name}/scale get,patch,put
    /apis/berth.dev/v1/namespaces/{namespace}/namespaces/{name}/status get,patch,put
    ");
    let names: Vec<&String> = document["components"]["schemas"].as_object().unwrap().keys().collect();
    assert!(names.contains(&&"dev.berth.v1.Namespace".to_owned()), "{names:?}");
}

#[test]
fn documents_are_the_same_every_time() {
    let kinds = || Kinds::new(core_kinds::all()).unwrap();
    let hash = || OpenApi::new(kinds()).document("api/v1").unwrap().hash.clone();
    assert_eq!(hash(), hash());
}

fn old_document() -> Value {
    let documents: Vec<Value> = documents().into_iter().map(|(_, document)| document).collect();
    v2::document(&documents)
}

#[test]
fn nothing_in_the_old_document_breaks_those_who_read_it() {
    let document = old_document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 10, "{found:?}");
    for reference in found {
        assert!(reference.starts_with("#/definitions/"), "{reference}");
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
    }
    for (name, definition) in document["definitions"].as_object().unwrap() {
        // One such name is enough for Argo CD to give up on everything.
        assert!(!name.contains('/'), "{name}");
        for word in ["anyOf", "oneOf", "nullable", "allOf"] {
            assert!(
                !definition.to_string().contains(&format!("\"{word}\":")),
                "{name} has {word}, which Swagger has not"
            );
        }
    }
}

#[test]
fn a_shared_definition_names_all_versions_it_is_used_in() {
    let options = &old_document()["definitions"]["io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"];
    let versions = options["x-kubernetes-group-version-kind"].as_array().unwrap();
    for (group, version) in [("", "v1"), ("berth.dev", "v1"), ("coordination.k8s.io", "v1")] {
        let wanted = json!({"group": group, "version": version, "kind": "DeleteOptions"});
        assert_eq!(versions.iter().filter(|known| **known == wanted).count(), 1, "{versions:?}");
    }
}

#[test]
fn parameters_and_bodies_stand_where_swagger_has_them() {
    let document = old_document();
    let path = &document["paths"]["/apis/berth.dev/v1/namespaces/{namespace}/namespaces/{name}"];
    let patch = &path["patch"];
    let parameters = patch["parameters"].as_array().unwrap();
    let body = json!({"name": "body", "in": "body", "required": true,
        "schema": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.Patch"}});
    assert_eq!(parameters[0], body);
    let dry = parameters.iter().find(|parameter| parameter["name"] == "fieldValidation").unwrap();
    assert_eq!((&dry["in"], &dry["type"]), (&json!("query"), &json!("string")));
    assert_eq!(path["parameters"][0]["type"], "string");
    assert!(patch["consumes"].as_array().unwrap().contains(&json!("application/merge-patch+json")));
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Namespace");
    assert_eq!(patch["responses"]["200"]["schema"]["$ref"].as_str().unwrap().rsplit('.').next(), Some("Namespace"));
}
