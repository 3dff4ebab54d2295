//! What the core kinds do with what they are given.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::schema::Schema;

#[test]
fn every_schema_is_structural_and_every_table_distinct_but_for_views() {
    let kinds = all();
    let mut tables: Vec<&str> = kinds.iter().filter(|k| k.view_of.is_none()).map(|k| k.table.as_str()).collect();
    for kind in &kinds {
        assert!(Schema::compile(&kind.schema).is_ok(), "{}: {:?}", kind.kind, Schema::compile(&kind.schema).err());
        if let Some(view) = &kind.view_of {
            assert!(kinds.iter().any(|k| k.view_of.is_none() && k.group == view.group && k.plural == view.plural));
        }
    }
    tables.sort_unstable();
    tables.dedup();
    assert_eq!(tables.len(), kinds.iter().filter(|k| k.view_of.is_none()).count());
}

fn prepared(kind: &Kind, mut object: Value) -> Value {
    kind.prepare.unwrap()(&mut object);
    Schema::compile(&kind.schema).unwrap().default(&mut object);
    object
}

#[test]
fn plain_text_is_folded_into_the_data_of_a_secret() {
    let secret = secret();
    assert_eq!(
        prepared(&secret, json!({"stringData": {"a": "plain", "b": ""}, "data": {"a": "b2xk", "c": "Yw=="}})),
        json!({"type": "Opaque", "data": {"a": "cGxhaW4=", "b": "", "c": "Yw=="}}),
    );
    assert_eq!(prepared(&secret, json!({"stringData": null, "type": "x"})), json!({"type": "x"}));
    assert_eq!(
        prepared(&secret, json!({"stringData": {"a": "x"}, "data": null, "type": ""})),
        json!({"type": "Opaque", "data": {"a": "eA=="}})
    );
    // What is no text stays for the schema to refuse.
    let wrong = prepared(&secret, json!({"stringData": {"a": 1}}));
    assert_eq!(Schema::compile(&secret.schema).unwrap().validate(&wrong, None)[0].field, "stringData.a");
}

#[test]
fn a_namespace_has_a_label_and_a_phase() {
    let labels = json!({"kubernetes.io/metadata.name": "acme"});
    assert_eq!(
        prepared(&namespace(), json!({"metadata": {"name": "acme"}})),
        json!({"metadata": {"name": "acme", "labels": labels}, "status": {"phase": "Active"}}),
    );
    let given = json!({"metadata": {"name": "acme", "labels": {"a": "b", "kubernetes.io/metadata.name": "other"}}});
    assert_eq!(
        prepared(&namespace(), given)["metadata"]["labels"],
        json!({"a": "b", "kubernetes.io/metadata.name": "acme"})
    );
    assert_eq!(prepared(&namespace(), json!({"metadata": {}}))["metadata"], json!({}));
}

#[track_caller]
fn refused(kind: &Kind, object: &Value, old: Option<&Value>, expected: &[&str]) {
    let errors = kind.validate.as_ref().unwrap()(object, old);
    let errors: Vec<String> = errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect();
    assert_eq!(errors.len(), expected.len(), "{errors:?}");
    for (error, expected) in errors.iter().zip(expected) {
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn secrets_and_config_maps_are_validated() {
    let secret = secret();
    refused(&secret, &json!({"type": "Opaque", "data": {"a.b-c_D": "eA=="}}), None, &[]);
    refused(
        &secret,
        &json!({"data": {"a/b": "", "..": ""}}),
        None,
        &["data[..]: Invalid value", "data[a/b]: Invalid value: \"a/b\": a valid config key"],
    );
    refused(
        &secret,
        &json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}),
        None,
        &["data[tls.key]: Required value"],
    );
    refused(
        &secret,
        &json!({"data": {"a": "A".repeat(1_500_000)}}),
        None,
        &["data: Too long: may not be more than 1048576 bytes"],
    );
    let old = json!({"type": "Opaque", "immutable": true, "data": {"a": "eA=="}});
    refused(
        &secret,
        &json!({"type": "Opaque", "immutable": true, "data": {"a": "eA=="}, "metadata": {"labels": {}}}),
        Some(&old),
        &[],
    );
    refused(
        &secret,
        &json!({"type": "other", "data": {}}),
        Some(&old),
        &["type: Invalid value: \"other\": field is immutable", "immutable: Forbidden", "data: Forbidden"],
    );
    let map = config_map();
    refused(
        &map,
        &json!({"data": {"a": "1"}, "binaryData": {"a": "eA=="}}),
        None,
        &["data[a]: Invalid value: \"a\": duplicate of key"],
    );
    refused(
        &map,
        &json!({"data": {"a": "2"}, "immutable": true}),
        Some(&json!({"data": {"a": "1"}, "immutable": true})),
        &["data: Forbidden"],
    );
}

#[test]
fn an_event_lives_beside_its_object() {
    let event =
        |namespace: &str, of: &str| json!({"metadata": {"namespace": namespace}, "involvedObject": {"namespace": of}});
    refused(&core_event(), &event("acme", "acme"), None, &[]);
    refused(&core_event(), &event("default", ""), None, &[]);
    refused(
        &core_event(),
        &event("acme", "other"),
        None,
        &["involvedObject.namespace: Invalid value: \"other\": does not match event.namespace"],
    );
    let newer = json!({"metadata": {"namespace": "acme"}, "regarding": {"namespace": ""}});
    refused(&super::event(), &newer, None, &["regarding.namespace: Invalid value"]);
}

#[test]
fn the_faces_of_an_event_differ_in_names_only() {
    let view = event().view_of.unwrap();
    let stored = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "web.1"}, "involvedObject": {"name": "web"}, "message": "m",
        "reason": "r", "source": {"component": "c"}, "reportingComponent": "rc", "count": 2, "series": {"count": 3},
        "firstTimestamp": null, "lastTimestamp": "2026-01-01T00:00:00Z", "eventTime": null,
    });
    let shown = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "web.1"}, "regarding": {"name": "web"}, "note": "m",
        "reason": "r", "deprecatedSource": {"component": "c"}, "reportingController": "rc", "deprecatedCount": 2, "series": {"count": 3},
        "deprecatedFirstTimestamp": null, "deprecatedLastTimestamp": "2026-01-01T00:00:00Z", "eventTime": null,
    });
    assert_eq!((view.from_stored)(stored.clone()), shown);
    assert_eq!((view.to_stored.unwrap())(shown), stored);
}

proptest! {
    #[test]
    fn an_event_comes_back_through_its_other_face(fields in proptest::collection::btree_set(
        proptest::sample::select(vec!["involvedObject", "message", "reportingComponent", "source", "firstTimestamp", "lastTimestamp", "count", "reason", "type"]), 0..9
    )) {
        let view = event().view_of.unwrap();
        let mut stored = json!({"apiVersion": "v1", "kind": "Event"});
        for (index, field) in fields.into_iter().enumerate() {
            stored[field] = json!(index);
        }
        let shown = (view.from_stored)(stored.clone());
        prop_assert_eq!(shown.as_object().unwrap().len(), stored.as_object().unwrap().len());
        prop_assert_eq!((view.to_stored.unwrap())(shown), stored);
    }
}
