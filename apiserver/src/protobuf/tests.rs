//! Bodies a real kubectl sent, and messages written by hand for what kubectl does not send.

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[track_caller]
fn check(body: &[u8], decoder: DecodeProtobuf, expected: &Value) {
    assert_eq!(decode(body, decoder).as_ref(), Ok(expected));
}

#[test]
fn what_kubectl_sends_is_understood() {
    check(
        include_bytes!("recorded/namespace.bin"),
        namespace,
        &json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "acme", "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration":
                    "{\"kind\":\"Namespace\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"acme\"},\"spec\":{},\"status\":{}}\n",
            }},
        }),
    );
    check(
        include_bytes!("recorded/secret.bin"),
        secret,
        &json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shop", "namespace": "acme"},
            "type": "example.com/login", "data": {"user": "YWRtaW4=", "password": "czNjcjN0IQ=="},
        }),
    );
    check(
        include_bytes!("recorded/config_map.bin"),
        config_map,
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf", "namespace": "acme"}, "data": {"mode": "fast"}}),
    );
    check(
        include_bytes!("recorded/service_account.bin"),
        service_account,
        &json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "bot", "namespace": "acme"}}),
    );
    check(
        include_bytes!("recorded/self_subject_review.bin"),
        self_subject_review,
        &json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}),
    );
    check(
        include_bytes!("recorded/self_subject_access_review.bin"),
        self_subject_access_review,
        &json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"namespace": "acme", "verb": "list", "resource": "pods"}},
        }),
    );
    check(
        include_bytes!("recorded/self_subject_rules_review.bin"),
        self_subject_rules_review,
        &json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": "acme"}}),
    );
}

fn number(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let byte = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        out.push(if value == 0 { byte } else { byte | 0x80 });
        if value == 0 {
            return out;
        }
    }
}

fn varint_field(field: u64, value: i64) -> Vec<u8> {
    [number(field << 3), number(value.cast_unsigned())].concat()
}

fn bytes_field(field: u64, bytes: &[u8]) -> Vec<u8> {
    [number(field << 3 | 2), number(bytes.len() as u64), bytes.to_vec()].concat()
}

fn time_field(field: u64, seconds: i64, nanos: i64) -> Vec<u8> {
    bytes_field(field, &[varint_field(1, seconds), varint_field(2, nanos)].concat())
}

#[test]
fn zero_counts_only_where_a_pointer_holds_it() {
    let options = [
        varint_field(1, 0),
        bytes_field(2, &bytes_field(1, b"some-uid")),
        bytes_field(4, b"Background"),
        bytes_field(5, b"All"),
    ]
    .concat();
    assert_eq!(
        delete_options(&options),
        Ok(
            json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "some-uid"}, "propagationPolicy": "Background", "dryRun": ["All"]})
        ),
    );
    assert_eq!(core_event(&varint_field(8, 0)), Ok(json!({})));
    assert_eq!(secret(&varint_field(5, 0)), Ok(json!({"immutable": false})));
}

#[test]
fn times_have_the_digits_of_their_kind() {
    let lease = [
        bytes_field(1, &[bytes_field(1, b"leader"), time_field(8, 1_767_225_600, 123_456_789)].concat()),
        bytes_field(
            2,
            &[bytes_field(1, b"me"), varint_field(2, 15), time_field(4, 1_767_225_600, 123_456_789)].concat(),
        ),
    ]
    .concat();
    assert_eq!(
        super::lease(&lease),
        Ok(json!({
            "metadata": {"name": "leader", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"holderIdentity": "me", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.123456Z"},
        })),
    );
    // The zero time of a field held by value is no time.
    assert_eq!(core_event(&time_field(6, -62_135_596_800, 0)), Ok(json!({})));
}

#[test]
fn an_event_is_read_whole() {
    let event = [
        bytes_field(1, &[bytes_field(1, b"web.1"), bytes_field(3, b"acme")].concat()),
        bytes_field(2, &[bytes_field(1, b"Application"), bytes_field(3, b"web")].concat()),
        bytes_field(3, b"Started"),
        bytes_field(5, &bytes_field(1, b"controller")),
        varint_field(8, 3),
        bytes_field(11, &[varint_field(1, 4), time_field(2, 1_767_225_600, 0)].concat()),
        // A field of a later version.
        varint_field(99, 1),
    ]
    .concat();
    assert_eq!(
        core_event(&event),
        Ok(json!({
            "metadata": {"name": "web.1", "namespace": "acme"},
            "involvedObject": {"kind": "Application", "name": "web"},
            "reason": "Started", "source": {"component": "controller"}, "count": 3,
            "series": {"count": 4, "lastObservedTime": "2026-01-01T00:00:00.000000Z"},
        })),
    );
}

#[test]
fn what_is_no_protobuf_is_refused() {
    let refused = |body: &[u8], why: &str| {
        let error = decode(body, secret).unwrap_err();
        assert!(error.contains(why), "{error}");
    };
    refused(b"", "does not begin");
    refused(b"{\"kind\":\"Secret\"}", "does not begin");
    refused(b"k8s\0\x12\x7f", "ends early");
    refused(&[b"k8s\0".as_slice(), &bytes_field(2, &varint_field(1, 1))].concat(), "unexpected wire type");
    refused(&[b"k8s\0".as_slice(), &bytes_field(3, b"gzip")].concat(), "content encoding");
    refused(b"k8s\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "too long");
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let body = [b"k8s\0".as_slice(), &bytes].concat();
        for decoder in [namespace, secret, config_map, core_event, event, lease, delete_options, subject_access_review, token_review] {
            prop_assert!(matches!(decode(&body, decoder), Ok(Value::Object(_)) | Err(_)));
            prop_assert!(matches!(decoder(&bytes), Ok(Value::Object(_)) | Err(_)));
        }
    }

    #[test]
    fn a_changed_byte_makes_no_decoder_panic(at in 4_usize..105, byte: u8) {
        let mut body = include_bytes!("recorded/secret.bin").to_vec();
        let last = body.len() - 1;
        body[at.min(last)] = byte;
        prop_assert!(matches!(decode(&body, secret), Ok(Value::Object(_)) | Err(_)));
    }
}
