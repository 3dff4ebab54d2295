//! Every YAML that is shipped is what its kind says: it is read whole, it is valid, and nothing in it is ignored.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The YAML files directly in a folder.
fn yaml_in(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

fn shipped() -> Vec<PathBuf> {
    let mut files = yaml_in(&root().join("manifests"));
    for folder in std::fs::read_dir(root().join("examples")).unwrap() {
        let folder = folder.unwrap().path();
        if folder.is_dir() {
            files.extend(yaml_in(&folder));
        }
    }
    files
}

/// The document as the type writes it again.
fn again<K: DeserializeOwned + Serialize>(document: &Value) -> Result<Value, String> {
    let typed: K = serde_path_to_error::deserialize(document.clone()).map_err(|error| error.to_string())?;
    serde_json::to_value(typed).map_err(|error| error.to_string())
}

fn through_its_type(document: &Value) -> Result<Value, String> {
    match document["kind"].as_str().unwrap_or_default() {
        "Plan" => again::<crds::Plan>(document),
        "Runtime" => again::<crds::Runtime>(document),
        "User" => again::<crds::User>(document),
        "Node" => again::<crds::Node>(document),
        "Application" => again::<crds::Application>(document),
        "Build" => again::<crds::Build>(document),
        "Release" => again::<crds::Release>(document),
        "Instance" => again::<crds::Instance>(document),
        other => Err(format!("{other} is no kind of ours")),
    }
}

/// Paths of fields that stand in `document` and not in `known`.
fn ignored(document: &Value, known: &Value, path: &str, found: &mut Vec<String>) {
    match (document, known) {
        (Value::Object(document), Value::Object(known)) => {
            for (key, value) in document {
                let path = format!("{path}.{key}");
                match known.get(key) {
                    Some(known) => ignored(value, known, &path, found),
                    None => found.push(path),
                }
            }
        }
        (Value::Array(document), Value::Array(known)) => {
            for (index, value) in document.iter().enumerate() {
                ignored(value, known.get(index).unwrap_or(&Value::Null), &format!("{path}[{index}]"), found);
            }
        }
        (document, known) if document != known => found.push(format!("{path}: {document} became {known}")),
        _ => {}
    }
}

#[test]
fn shipped_yaml_is_valid_and_nothing_in_it_is_ignored() {
    let files = shipped();
    let mut kinds = std::collections::BTreeSet::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        for document in documents.into_iter().filter(|document| !document.is_null()) {
            let shown = format!("{} {}", file.display(), document["metadata"]["name"]);
            assert_eq!(document["apiVersion"], "berth.dev/v1alpha1", "{shown}");
            let known = through_its_type(&document).unwrap_or_else(|error| panic!("{shown}: {error}"));
            let mut found = Vec::new();
            ignored(&document, &known, "", &mut found);
            assert_eq!(found, Vec::<String>::new(), "{shown}: fields that the type does not have");
            let noun = document["kind"].as_str().unwrap().to_lowercase();
            let entry = crds::KINDS.iter().find(|entry| entry.noun == noun).unwrap();
            assert_eq!((entry.validate)(&document), [], "{shown}");
            kinds.insert(noun);
        }
    }
    assert!(files.len() >= 15, "the examples, the kinds and the manifests were found: {files:?}");
    assert_eq!(kinds.len(), crds::KINDS.len(), "there is an example of every kind: {kinds:?}");
}

#[test]
fn a_misspelt_field_would_be_found() {
    let document = serde_json::json!({"apiVersion": "berth.dev/v1alpha1", "kind": "Plan", "metadata": {"name": "a"},
        "spec": {"cpu": "1", "memory": "1Gi", "disk": "1Gi", "pricePerHour": "1", "runtime": ["nodejs-20"]}});
    let mut found = Vec::new();
    ignored(&document, &through_its_type(&document).unwrap(), "", &mut found);
    assert_eq!(found, [".spec.runtime"]);
}
