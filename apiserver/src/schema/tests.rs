//! Schemas by example: what is filled in, what is removed, and what is refused in which words.

use serde_json::{Value, json};

use super::Schema;
use crate::kind::FieldErrorReason::{self, Forbidden, Invalid, Required, TooLong};

fn schema(spec: &Value) -> Schema {
    Schema::compile(&json!({"type": "object", "properties": {"spec": spec}})).unwrap()
}

fn properties(properties: &Value) -> Schema {
    schema(&json!({"type": "object", "properties": properties}))
}

/// Checks `spec` as a new object's and compares the errors, one `field: message` a line.
#[track_caller]
fn refused(schema: &Schema, spec: &Value, expected: &[&str]) {
    changed(schema, None, spec, expected);
}

#[track_caller]
fn changed(schema: &Schema, old: Option<&Value>, spec: &Value, expected: &[&str]) {
    let old = old.map(|old| json!({ "spec": old }));
    let errors = schema.validate(&json!({ "spec": spec }), old.as_ref());
    let errors: Vec<String> = errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect();
    assert_eq!(errors, expected);
}

#[test]
fn types_are_named() {
    let all = properties(&json!({
        "s": {"type": "string"}, "i": {"type": "integer"}, "n": {"type": "number"}, "b": {"type": "boolean"},
        "o": {"type": "object"}, "a": {"type": "array", "items": {"type": "string"}},
        "x": {"x-kubernetes-int-or-string": true}, "z": {"type": "string", "nullable": true},
    }));
    refused(&all, &json!({"s": "", "i": 1, "n": 1.5, "b": true, "o": {}, "a": ["x"], "x": "50%", "z": null}), &[]);
    refused(&all, &json!({"i": 2.0, "x": 3}), &[]);
    refused(
        &all,
        &json!({"s": 1, "i": "1", "n": "x", "b": 0, "o": [], "a": {}, "x": true, "z": false}),
        &[
            r#"spec.a: Invalid value: "object": spec.a in body must be of type array: "object""#,
            r#"spec.b: Invalid value: "integer": spec.b in body must be of type boolean: "integer""#,
            r#"spec.i: Invalid value: "string": spec.i in body must be of type integer: "string""#,
            r#"spec.n: Invalid value: "string": spec.n in body must be of type number: "string""#,
            r#"spec.o: Invalid value: "array": spec.o in body must be of type object: "array""#,
            r#"spec.s: Invalid value: "integer": spec.s in body must be of type string: "integer""#,
            r#"spec.x: Invalid value: "boolean": spec.x in body must be of type integer,string: "boolean""#,
            r#"spec.z: Invalid value: "boolean": spec.z in body must be of type string: "boolean""#,
        ],
    );
    refused(
        &all,
        &json!({"a": ["x", null, 1.5]}),
        &[
            r#"spec.a[1]: Invalid value: "null": spec.a[1] in body must be of type string: "null""#,
            r#"spec.a[2]: Invalid value: "number": spec.a[2] in body must be of type string: "number""#,
        ],
    );
}

#[test]
fn bounds_are_named() {
    let check = |rule: Value, value: Value, expected: &[&str]| {
        refused(&properties(&json!({ "f": rule })), &json!({ "f": value }), expected);
    };
    check(
        json!({"type": "integer", "minimum": 0}),
        json!(-1),
        &["spec.f: Invalid value: -1: spec.f in body should be greater than or equal to 0"],
    );
    check(json!({"type": "integer", "minimum": 0}), json!(0), &[]);
    check(
        json!({"type": "number", "maximum": 1, "exclusiveMaximum": true}),
        json!(1),
        &["spec.f: Invalid value: 1: spec.f in body should be less than 1"],
    );
    check(
        json!({"type": "integer", "multipleOf": 5}),
        json!(7),
        &["spec.f: Invalid value: 7: spec.f in body should be a multiple of 5"],
    );
    check(
        json!({"type": "integer", "format": "int32"}),
        json!(1_i64 << 40),
        &["spec.f: Invalid value: 1099511627776: spec.f in body must be of type int32: 1099511627776"],
    );
    check(
        json!({"type": "string", "maxLength": 2}),
        json!("äöü"),
        &["spec.f: Too long: may not be more than 2 characters"],
    );
    check(json!({"type": "string", "maxLength": 3}), json!("äöü"), &[]);
    check(
        json!({"type": "string", "minLength": 1}),
        json!(""),
        &[r#"spec.f: Invalid value: "": spec.f in body should be at least 1 chars long"#],
    );
    check(
        json!({"type": "string", "pattern": "^a+$"}),
        json!("ab"),
        &[r#"spec.f: Invalid value: "ab": spec.f in body should match '^a+$'"#],
    );
    check(
        json!({"type": "string", "enum": ["b", "a"]}),
        json!("c"),
        &[r#"spec.f: Unsupported value: "c": supported values: "a", "b""#],
    );
    check(
        json!({"type": "array", "items": {"type": "integer"}, "maxItems": 1}),
        json!([1, 2]),
        &["spec.f: Too many: 2: must have at most 1 items"],
    );
    check(
        json!({"type": "array", "items": {"type": "integer"}, "minItems": 1}),
        json!([]),
        &["spec.f: Invalid value: []: spec.f in body should have at least 1 items"],
    );
    check(
        json!({"type": "array", "items": {"type": "integer"}, "uniqueItems": true}),
        json!([1, 1]),
        &["spec.f: Invalid value: [1,1]: spec.f in body shouldn't contain duplicates"],
    );
    check(
        json!({"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 1}),
        json!({"a": "", "b": ""}),
        &["spec.f: Too many: 2: must have at most 1 items"],
    );
    check(
        json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}),
        json!({}),
        &["spec.f.a: Required value"],
    );
    check(
        json!({"type": "object", "additionalProperties": {"type": "string"}}),
        json!({"k": 1}),
        &[r#"spec.f.k: Invalid value: "integer": spec.f.k in body must be of type string: "integer""#],
    );
}

#[test]
fn lists_that_are_sets_or_maps_have_no_duplicates() {
    let set =
        properties(&json!({"l": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}}));
    refused(&set, &json!({"l": ["a", "b", "a"]}), &[r#"spec.l[2]: Duplicate value: "a""#]);
    let map = properties(&json!({"l": {
        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
        "items": {"type": "object", "properties": {"name": {"type": "string"}, "value": {"type": "string"}}},
    }}));
    refused(
        &map,
        &json!({"l": [{"name": "a"}, {"name": "b"}, {"name": "a", "value": "x"}]}),
        &[r#"spec.l[2]: Duplicate value: {"name":"a"}"#],
    );
}

#[test]
fn formats_are_checked_and_secrets_not_repeated() {
    let check = |format: &str, good: &[&str], bad: &[&str]| {
        let schema = properties(&json!({"f": {"type": "string", "format": format}}));
        for text in good {
            refused(&schema, &json!({ "f": text }), &[]);
        }
        for text in bad {
            refused(
                &schema,
                &json!({ "f": text }),
                &[&format!("spec.f: Invalid value: {text:?}: spec.f in body must be of type {format}: {text:?}")],
            );
        }
    };
    check("date-time", &["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.123456+02:00"], &["2026-01-01", "yesterday"]);
    check("date", &["2026-01-31"], &["2026-02-31"]);
    check("duration", &["15m", "1h30m", "0", "1.5s"], &["15", "1 h", "m"]);
    check("ipv4", &["10.0.0.1"], &["10.0.0", "::1"]);
    check("ipv6", &["::1"], &["10.0.0.1"]);
    check("cidr", &["10.0.0.0/8", "fd00::/64"], &["10.0.0.0", "10.0.0.0/33"]);
    check("uuid", &["123e4567-e89b-12d3-a456-426614174000"], &["123"]);
    check("hostname", &["a.example.com"], &["-a", "a..b"]);
    check("email", &["a@example.com"], &["a"]);
    check("uri", &["https://example.com/a?b=c", "/path"], &["no uri"]);
    check("never-heard-of", &["anything"], &[]);
    let secret = properties(&json!({"f": {"type": "string", "format": "byte"}}));
    refused(&secret, &json!({"f": "aGk="}), &[]);
    refused(
        &secret,
        &json!({"f": "hunter2!"}),
        &[r#"spec.f: Invalid value: "": spec.f in body must be of type byte: """#],
    );
}

#[test]
fn alternatives_are_checked() {
    let source = schema(&json!({
        "type": "object",
        "properties": {"git": {"type": "string"}, "image": {"type": "string"}},
        "oneOf": [{"required": ["git"]}, {"required": ["image"]}],
    }));
    refused(&source, &json!({"git": "x"}), &[]);
    refused(
        &source,
        &json!({}),
        &[
            "spec.git: Required value",
            r#"spec: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found none valid"#,
        ],
    );
    refused(
        &source,
        &json!({"git": "x", "image": "y"}),
        &[
            r#"spec: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
        ],
    );
    let other = schema(&json!({
        "type": "object", "properties": {"n": {"type": "integer"}},
        "not": {"properties": {"n": {"enum": [3]}}, "required": ["n"]},
        "anyOf": [{"properties": {"n": {"minimum": 10}}}, {"properties": {"n": {"maximum": 5}}}],
        "allOf": [{"properties": {"n": {"multipleOf": 1}}}],
    }));
    refused(&other, &json!({"n": 4}), &[]);
    refused(&other, &json!({"n": 3}), &[r#"spec: Invalid value: "": "spec" must not validate the schema (not)"#]);
    refused(
        &other,
        &json!({"n": 7}),
        &[
            "spec.n: Invalid value: 7: spec.n in body should be greater than or equal to 10",
            r#"spec: Invalid value: "": "spec" must validate at least one schema (anyOf)"#,
        ],
    );
}

#[test]
fn rules_are_evaluated_where_they_stand() {
    let spec = schema(&json!({
        "type": "object",
        "x-kubernetes-validations": [
            {"rule": "self.min <= self.max", "message": "min must not be above max", "fieldPath": ".min"},
            {"rule": "self.max < 100", "messageExpression": "'max is ' + string(self.max) + ', at most 99'"},
            {"rule": "self.max != 13", "reason": "FieldValueForbidden", "message": "unlucky"},
            {"rule": "!has(self.list) || self.list[0] == 'a'"},
        ],
        "properties": {
            "min": {"type": "integer", "default": 0}, "max": {"type": "integer", "default": 10},
            "list": {"type": "array", "items": {"type": "string"}},
            "name": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "cannot be changed"}]},
        },
    }));
    refused(&spec, &json!({"min": 1, "max": 2}), &[]);
    refused(&spec, &json!({"min": 3, "max": 2}), &[r#"spec.min: Invalid value: "object": min must not be above max"#]);
    refused(&spec, &json!({"min": 3, "max": 200}), &[r#"spec: Invalid value: "object": max is 200, at most 99"#]);
    refused(&spec, &json!({"min": 3, "max": 13}), &["spec: Forbidden: unlucky"]);
    refused(
        &spec,
        &json!({"min": 1, "max": 2, "list": ["b"]}),
        &[r#"spec: Invalid value: "object": failed rule: !has(self.list) || self.list[0] == 'a'"#],
    );
    let errors = spec.validate(&json!({"spec": {"min": 1, "max": 2, "list": []}}), None);
    assert!(errors[0].message.contains("evaluating rule: !has(self.list) || self.list[0] == 'a'"), "{errors:?}");
    // A wrong type is complained about once, not by every rule that relies on it.
    refused(
        &spec,
        &json!({"min": "x", "max": 2}),
        &[r#"spec.min: Invalid value: "string": spec.min in body must be of type integer: "string""#],
    );
    let old = json!({"min": 1, "max": 2, "name": "a"});
    changed(&spec, Some(&old), &json!({"min": 0, "max": 2, "name": "a"}), &[]);
    changed(
        &spec,
        Some(&old),
        &json!({"min": 0, "max": 2, "name": "b"}),
        &[r#"spec.name: Invalid value: "string": cannot be changed"#],
    );
    // Without an old value there is nothing to compare with.
    changed(&spec, Some(&json!({"min": 1, "max": 2})), &json!({"min": 0, "max": 2, "name": "b"}), &[]);
}

#[test]
fn items_of_list_maps_are_compared_by_key() {
    let spec = properties(&json!({"l": {
        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
        "items": {
            "type": "object", "properties": {"name": {"type": "string"}, "size": {"type": "integer"}},
            "x-kubernetes-validations": [{"rule": "self.size >= oldSelf.size", "message": "cannot shrink"}],
        },
    }}));
    let old = json!({"l": [{"name": "a", "size": 1}, {"name": "b", "size": 5}]});
    changed(&spec, Some(&old), &json!({"l": [{"name": "b", "size": 5}, {"name": "a", "size": 2}]}), &[]);
    changed(
        &spec,
        Some(&old),
        &json!({"l": [{"name": "b", "size": 4}]}),
        &[r#"spec.l[0]: Invalid value: "object": cannot shrink"#],
    );
}

#[test]
fn what_was_stored_before_a_schema_became_stricter_can_still_be_written() {
    let spec =
        properties(&json!({"old": {"type": "string", "maxLength": 1}, "new": {"type": "string", "maxLength": 1}}));
    let stored = json!({"old": "long"});
    changed(&spec, Some(&stored), &json!({"old": "long", "new": "x"}), &[]);
    changed(
        &spec,
        Some(&stored),
        &json!({"old": "longer"}),
        &["spec.old: Too long: may not be more than 1 characters"],
    );
}

#[test]
fn costly_rules_come_to_an_end() {
    let spec = schema(&json!({
        "type": "object",
        "properties": {"l": {"type": "array", "items": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}, "x-kubernetes-validations": [{"rule": "true"}]}, "x-kubernetes-validations": [{"rule": "true"}]}, "x-kubernetes-validations": [{"rule": "true"}]}},
        "x-kubernetes-validations": [{"rule": "true"}],
    }));
    let huge = json!({"l": vec![vec![vec![1; 100]; 100]; 60]});
    let errors = spec.validate(&json!({ "spec": huge }), None);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].message.contains("running out of cost budget"), "{errors:?}");
}

#[test]
fn defaults_are_filled_in_and_nulls_make_way() {
    let spec = properties(&json!({
        "text": {"type": "string", "default": "x"},
        "none": {"type": "string"},
        "nullable": {"type": "string", "nullable": true, "default": "y"},
        "nested": {"type": "object", "default": {}, "properties": {"deep": {"type": "integer", "default": 3}}},
        "items": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "integer", "default": 1}}}},
        "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {"type": "integer", "default": 2}}}},
    }));
    let check = |object: Value, expected: Value| {
        let mut object = json!({ "spec": object });
        spec.default(&mut object);
        assert_eq!(object, json!({ "spec": expected }));
        let once = object.clone();
        spec.default(&mut object);
        assert_eq!(object, once, "defaulting twice changes nothing");
    };
    check(json!({}), json!({"text": "x", "nullable": "y", "nested": {"deep": 3}}));
    check(
        json!({"text": null, "none": null, "nullable": null, "nested": {"deep": null}, "items": [{}, {"a": 5}], "map": {"k": {}, "gone": null}}),
        json!({"text": "x", "nullable": null, "nested": {"deep": 3}, "items": [{"a": 1}, {"a": 5}], "map": {"k": {"a": 2}}}),
    );
}

#[test]
fn unknown_fields_are_removed_and_named() {
    let spec = properties(&json!({
        "known": {"type": "string"},
        "env": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
        "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"strict": {"type": "object"}}},
        "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {"type": "string"}}}},
    }));
    let mut object = json!({
        "apiVersion": "v1", "kind": "X", "extra": 1,
        "metadata": {"name": "x", "labels": {"any": "thing"}, "lables": {}, "ownerReferences": [{"uid": "1", "colour": "red"}]},
        "spec": {
            "known": "", "foo": 1, "env": [{"name": "a", "bar": 2}],
            "open": {"anything": {"goes": 1}, "strict": {"no": 1}}, "map": {"k": {"a": "", "b": ""}},
        },
    });
    let mut wrong_type =
        json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "x"}, "spec": {"env": {"A": "b"}}});
    assert!(spec.prune(&mut wrong_type).is_empty(), "a map in place of a list is a wrong type, not an unknown field");
    let mut removed = spec.prune(&mut object);
    removed.sort();
    assert_eq!(
        removed,
        [
            "extra",
            "metadata.lables",
            "metadata.ownerReferences[0].colour",
            "spec.env[0].bar",
            "spec.foo",
            "spec.map.k.b",
            "spec.open.strict.no",
        ],
    );
    assert_eq!(
        object,
        json!({
            "apiVersion": "v1", "kind": "X",
            "metadata": {"name": "x", "labels": {"any": "thing"}, "ownerReferences": [{"uid": "1"}]},
            "spec": {"known": "", "env": [{"name": "a"}], "open": {"anything": {"goes": 1}, "strict": {}}, "map": {"k": {"a": ""}}},
        })
    );
}

#[test]
fn what_is_not_structural_is_refused_with_its_place() {
    let check = |spec: Value, why: &str| {
        let error = Schema::compile(&json!({"type": "object", "properties": {"spec": spec}})).unwrap_err();
        assert!(error.starts_with("spec") && error.contains(why), "{error}");
    };
    check(json!({"properties": {}}), "type: Required value");
    check(json!({"$ref": "#/x"}), "$ref is not allowed");
    check(json!({"type": "text"}), "unknown type");
    check(json!({"type": "string", "pattern": "("}), "is not valid");
    check(json!({"type": "array", "items": {}}), "type: Required value");
    check(
        json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "map"}),
        "x-kubernetes-list-map-keys",
    );
    check(json!({"type": "object", "x-kubernetes-validations": [{"rule": "self +"}]}), "x-kubernetes-validations");
    check(
        json!({"type": "object", "x-kubernetes-validations": [{"rule": "true", "messageExpression": "'"}]}),
        "messageExpression",
    );
}

#[test]
fn metadata_is_checked() {
    let kind = crate::core_kinds::secret();
    let check = |metadata: Value, old: Option<Value>, expected: &[(&str, FieldErrorReason, &str)]| {
        let old = old.map(|old| json!({ "metadata": old }));
        let errors = super::metadata::validate(&kind, &json!({ "metadata": metadata }), old.as_ref());
        assert_eq!(errors.len(), expected.len(), "{errors:?}");
        for (error, (field, reason, message)) in errors.iter().zip(expected) {
            assert_eq!((error.field.as_str(), error.reason), (*field, *reason));
            assert!(error.message.contains(message), "{}", error.message);
        }
    };
    check(
        json!({"name": "a.b-c", "namespace": "acme", "labels": {"a.b/c": "D_e"}, "annotations": {"Upper.Case/x": "any thing"}}),
        None,
        &[],
    );
    check(
        json!({}),
        None,
        &[("metadata.name", Required, "name or generateName is required"), ("metadata.namespace", Required, "")],
    );
    check(
        json!({"name": "Web", "namespace": "a.b"}),
        None,
        &[
            ("metadata.name", Invalid, "Invalid value: \"Web\": a lowercase RFC 1123 subdomain"),
            ("metadata.namespace", Invalid, "a lowercase RFC 1123 label"),
        ],
    );
    check(
        json!({"name": "x".repeat(254), "namespace": "a"}),
        None,
        &[("metadata.name", Invalid, "must be no more than 253 characters")],
    );
    check(
        json!({"name": "a", "namespace": "a", "labels": {"a b": "c d"}}),
        None,
        &[
            ("metadata.labels", Invalid, "name part must consist of"),
            ("metadata.labels", Invalid, "Invalid value: \"c d\": a valid label"),
        ],
    );
    check(
        json!({"name": "a", "namespace": "a", "annotations": {"a": "x".repeat(256 * 1024)}}),
        None,
        &[("metadata.annotations", TooLong, "262144 bytes")],
    );
    check(
        json!({"name": "a", "namespace": "a", "generateName": "A-"}),
        None,
        &[("metadata.generateName", Invalid, "")],
    );
    check(
        json!({"name": "a", "namespace": "a", "ownerReferences": [
            {"apiVersion": "v1", "kind": "X", "name": "x", "uid": "", "controller": true},
            {"apiVersion": "v1", "kind": "X", "name": "y", "uid": "2", "controller": true},
        ]}),
        None,
        &[
            ("metadata.ownerReferences[0].uid", Invalid, "must not be empty"),
            ("metadata.ownerReferences", Invalid, "only one reference"),
        ],
    );
    check(
        json!({"name": "a", "namespace": "a", "finalizers": ["not a name"]}),
        None,
        &[("metadata.finalizers[0]", Invalid, "name part")],
    );
    check(
        json!({"name": "b", "namespace": "a", "uid": "2", "finalizers": ["x/y"]}),
        Some(json!({"name": "a", "namespace": "a", "uid": "1", "deletionTimestamp": "2026-01-01T00:00:00Z"})),
        &[
            ("metadata.finalizers", Forbidden, "no new finalizers can be added"),
            ("metadata.name", Invalid, "field is immutable"),
            ("metadata.uid", Invalid, "field is immutable"),
        ],
    );
}

#[test]
fn what_a_definition_asks_of_metadata_is_asked_in_addition() {
    let schema = Schema::compile(&json!({
        "type": "object",
        "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 3}}}},
    }))
    .unwrap();
    let errors = schema.validate(&json!({"metadata": {"name": "long", "labels": {"a": 1}}}), None);
    let fields: Vec<&str> = errors.iter().map(|e| e.field.as_str()).collect();
    assert_eq!(fields, ["metadata.name", "metadata.labels.a"]);
}
