//! Bodies as people and programs send them, and bodies nobody should.

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[track_caller]
fn check(decoded: Result<Decoded, DecodeError>, value: &Value, problems: &[&str]) {
    let decoded = decoded.unwrap();
    assert_eq!(&decoded.value, value);
    assert_eq!(decoded.problems, problems);
}

#[track_caller]
fn refused(decoded: &Result<Decoded, DecodeError>, why: &str) {
    match decoded {
        Err(DecodeError::Malformed(message)) => assert!(message.contains(why), "{message}"),
        other => panic!("expected {why:?}, got {other:?}"),
    }
}

#[test]
fn duplicates_are_named_and_the_last_counts() {
    check(
        json(br#"{"spec":{"a":1,"a":2,"env":[{"name":"x"},{"name":"y","name":"z"}]},"spec":{"b":3}}"#),
        &json!({"spec": {"b": 3}}),
        &["duplicate field \"spec.a\"", "duplicate field \"spec.env[1].name\"", "duplicate field \"spec\""],
    );
    check(yaml(b"spec:\n  a: 1\n  a: 2\n"), &json!({"spec": {"a": 2}}), &["duplicate field \"spec.a\""]);
}

#[test]
fn integers_stay_integers() {
    check(
        json(br#"{"big":9223372036854775807,"small":-9223372036854775808,"float":1.5,"huge":18446744073709551615}"#),
        &json!({"big": i64::MAX, "small": i64::MIN, "float": 1.5, "huge": 18_446_744_073_709_551_615_f64}),
        &[],
    );
    check(yaml(b"big: 9223372036854775807\nfloat: 1.5\n"), &json!({"big": i64::MAX, "float": 1.5}), &[]);
}

#[test]
fn yaml_is_read_as_kubectl_reads_it() {
    check(
        yaml(b"on: yes\nversion: 012\nport: 8080\ntext: \"yes\"\nunder: 1_000\n1: one\nnone: ~\ndate: 2026-01-01\n"),
        &json!({"on": true, "version": "012", "port": 8080, "text": "yes", "under": "1_000", "1": "one", "none": null, "date": "2026-01-01"}),
        &[],
    );
    check(
        yaml(b"base: &a {x: 1}\ncopy: *a\nmerged: {<<: *a, y: 2}\n"),
        &json!({"base": {"x": 1}, "copy": {"x": 1}, "merged": {"x": 1, "y": 2}}),
        &[],
    );
    refused(&yaml(b"a: 1\n---\nb: 2\n"), "multiple");
    refused(&yaml(b"a: [1\n"), "");
    refused(&yaml(b"a: .nan\n"), "non-finite");
    refused(&yaml(&[0xff, 0xfe]), "utf-8");
}

#[test]
fn bombs_do_not_go_off() {
    let deep = |open: &str, n: usize| open.repeat(n);
    refused(&json(deep("[", 5000).as_bytes()), "exceeded max depth");
    refused(&json(deep("{\"a\":", 5000).as_bytes()), "exceeded max depth");
    refused(&yaml(deep("[", 5000).as_bytes()), "");
    refused(&yaml((0..5000).map(|n| " ".repeat(n) + "a:\n").collect::<Vec<_>>().concat().as_bytes()), "");
    refused(&yaml("- ".repeat(5000).as_bytes()), "");
    check(yaml("- ".repeat(20).as_bytes()), &(0..20).fold(Value::Null, |inner, _| json!([inner])), &[]);
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..10 {
        let aliases = vec![format!("*a{}", n - 1); 10].join(", ");
        laughs = format!("{laughs}a{n}: &a{n} [{aliases}]\n");
    }
    refused(&yaml(laughs.as_bytes()), "");
    // A key the JSON library uses internally is just a key.
    check(
        json(br#"{"$serde_json::private::RawValue":"[1]","$serde_json::private::Number":"1"}"#),
        &json!({"$serde_json::private::RawValue": "[1]", "$serde_json::private::Number": "1"}),
        &[],
    );
}

#[test]
fn the_content_type_decides() {
    let object = json!({"a": 1});
    check(decode(b"{\"a\":1}", None, None), &object, &[]);
    check(decode(b"{\"a\":1}", Some("application/json; charset=utf-8"), None), &object, &[]);
    check(decode(b"a: 1", Some("application/yaml"), None), &object, &[]);
    let unknown = decode(b"", Some("application/vnd.kubernetes.protobuf"), None).unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml",
    );
    let unknown = decode(b"", Some("text/plain"), Some(crate::protobuf::secret)).unwrap_err();
    assert!(unknown.to_string().ends_with("application/yaml, application/vnd.kubernetes.protobuf"), "{unknown}");
    refused(
        &decode(b"{}", Some("application/vnd.kubernetes.protobuf"), Some(crate::protobuf::secret)),
        "does not begin",
    );
    refused(&decode(b"", None, None), "EOF");
    refused(&decode(b"{} {}", None, None), "trailing");
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "(yes|no|on|off|~|null|1e3|0x1f|012|1_0|true|- a|#x|a: b|<<|\\.nan)".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            proptest::collection::btree_map("[a-z<.$/-]{1,6}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn json_is_read_as_it_was_written(value in value()) {
        prop_assert_eq!(json(value.to_string().as_bytes()), Ok(Decoded { value, problems: Vec::new() }));
    }

    #[test]
    fn yaml_is_read_as_it_was_written(value in value()) {
        // The writer is the one that prints manifests for people.
        let text = serde_saphyr::to_string(&json!({ "object": value })).unwrap();
        prop_assert_eq!(yaml(text.as_bytes()).map(|d| d.value), Ok(json!({ "object": value })), "{}", text);
    }

    #[test]
    fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), text in "[-a:{}\\[\\]\", \\n*&!|>#0-9.]{0,60}") {
        for body in [bytes.as_slice(), text.as_bytes()] {
            for decoded in [json(body), yaml(body)].into_iter().flatten() {
                prop_assert_eq!(json(decoded.value.to_string().as_bytes()).map(|d| d.value), Ok(decoded.value));
            }
        }
    }
}
