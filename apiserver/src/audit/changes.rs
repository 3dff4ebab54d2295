//! What a write changed, field by field, with everything masked that could be a secret. Pure.

use serde::Serialize;
use serde_json::{Map, Value};

/// Fields of one record: an application has some fifty.
const CHANGES_MAX: usize = 100;
/// A value is cut here: enough for an image, an address or a command.
const VALUE_CHARS_MAX: usize = 256;
/// Deeper parts are shown as one value.
const DEPTH_MAX: usize = 12;
/// What stands in the place of a value that is not shown.
const MASK: &str = "***";

/// Metadata that the server writes with every change.
const NOISE: [&str; 6] =
    ["resourceVersion", "managedFields", "generation", "uid", "creationTimestamp", "deletionGracePeriodSeconds"];
/// Words in the names of fields and keys whose values are not shown: in lower case, and of letters and digits alone.
const SECRET_WORDS: [&str; 6] = ["password", "passwd", "secret", "token", "credential", "lastappliedconfiguration"];
/// What the name of a key to something ends with: `apiKey`, `ENCRYPTION_KEY`, `AWS_ACCESS_KEY_ID`, but not `key` alone, which
/// says where in a Secret to look.
const KEY_ENDS: [&str; 2] = ["key", "keyid"];
/// Keys that everybody may know.
const PLAIN_KEYS: [&str; 2] = ["publickey", "topologykey"];
/// Fields that only name where a secret is.
const REFERENCES: [&str; 5] = ["secretName", "secretKeyRef", "serviceAccountToken", "connectionSecret", "secrets"];

/// One field that is different; `from` is missing if it was not there, `to` if it is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Changed {
    pub(crate) path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<Value>,
}

/// What is different between two states, and whether there was more than is told. Of a `sensitive` kind no value outside
/// of the metadata is shown.
pub(crate) fn between(old: Option<&Value>, new: Option<&Value>, sensitive: bool) -> (Vec<Changed>, bool) {
    let mut walk = Walk { found: Vec::new(), more: false, sensitive };
    walk.compare("", old, new, false, 0);
    (walk.found, walk.more)
}

struct Walk {
    found: Vec<Changed>,
    more: bool,
    sensitive: bool,
}

impl Walk {
    fn compare(&mut self, path: &str, old: Option<&Value>, new: Option<&Value>, masked: bool, depth: usize) {
        if old == new || self.more {
            return;
        }
        match (old, new) {
            (Some(Value::Object(_)) | None, Some(Value::Object(_)) | None) | (Some(Value::Object(_)), None)
                if depth < DEPTH_MAX && !(is_empty(old) && is_empty(new)) =>
            {
                self.fields(path, object(old), object(new), masked, depth);
            }
            (Some(Value::Array(a)), Some(Value::Array(b))) if depth < DEPTH_MAX => {
                for position in 0..a.len().max(b.len()) {
                    let path = format!("{path}[{position}]");
                    self.compare(&path, a.get(position), b.get(position), masked, depth + 1);
                }
            }
            _ => {
                if self.found.len() == CHANGES_MAX {
                    self.more = true;
                    return;
                }
                let shown = |value: &Value| show(value, masked, depth);
                self.found.push(Changed { path: path.to_owned(), from: old.map(shown), to: new.map(shown) });
            }
        }
    }

    fn fields(
        &mut self,
        path: &str,
        old: Option<&Map<String, Value>>,
        new: Option<&Map<String, Value>>,
        masked: bool,
        depth: usize,
    ) {
        let has = |field: &str| [old, new].into_iter().flatten().any(|map| map.contains_key(field));
        // Environment variables and arguments of builds: a name tells nothing of how secret its value is.
        let pair = has("name") && has("value");
        let empty = Map::new();
        let (before, after) = (old.unwrap_or(&empty), new.unwrap_or(&empty));
        let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            if (path == "metadata" && NOISE.contains(&name.as_str()))
                || (path.is_empty() && matches!(name.as_str(), "apiVersion" | "kind"))
            {
                continue;
            }
            // The name of a Secret is none, whatever it is a part of; in a Secret everything is.
            let refers = !self.sensitive && REFERENCES.contains(&name.as_str());
            let masked = (masked && !refers)
                || (self.sensitive && path.is_empty() && name != "metadata" && name != "type")
                || (pair && name == "value")
                || is_secret(name);
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            self.compare(&path, before.get(name), after.get(name), masked, depth + 1);
        }
    }
}

fn object(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

fn is_empty(value: Option<&Value>) -> bool {
    object(value).is_none_or(Map::is_empty)
}

fn is_secret(name: &str) -> bool {
    if REFERENCES.contains(&name) {
        return false;
    }
    let lower: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    SECRET_WORDS.iter().any(|word| lower.contains(word))
        || KEY_ENDS.iter().any(|end| lower.len() > end.len() && lower.ends_with(end) && !PLAIN_KEYS.contains(&&*lower))
}

fn show(value: &Value, masked: bool, depth: usize) -> Value {
    match value {
        Value::Null | Value::Bool(_) if !masked => value.clone(),
        _ if masked => MASK.into(),
        Value::Number(_) => value.clone(),
        Value::String(text) => without_password(text).chars().take(VALUE_CHARS_MAX).collect::<String>().into(),
        // A whole part that came or went: field by field, so that what is in it is masked too.
        Value::Array(items) if depth < DEPTH_MAX => {
            items.iter().take(CHANGES_MAX).map(|item| show(item, false, depth + 1)).collect()
        }
        Value::Object(map) if depth < DEPTH_MAX => {
            let pair = map.contains_key("name") && map.contains_key("value");
            let field = |(name, value): (&String, &Value)| {
                (name.clone(), show(value, is_secret(name) || (pair && name == "value"), depth + 1))
            };
            map.iter().take(CHANGES_MAX).map(field).collect()
        }
        _ => "…".into(),
    }
}

/// A text whose addresses have nothing between `://` and `@`.
fn without_password(text: &str) -> String {
    let mut parts = text.split("://");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for rest in parts {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        shown.push_str("://");
        match authority.rsplit_once('@') {
            Some((user, _)) => {
                shown.push_str(MASK);
                shown.push_str(&rest[user.len()..]);
            }
            None => shown.push_str(rest),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn lines(old: &Value, new: &Value, sensitive: bool) -> Vec<String> {
        let option = |value: &'_ Value| (!value.is_null()).then(|| value.clone());
        let (old, new) = (option(old), option(new));
        let (found, _) = between(old.as_ref(), new.as_ref(), sensitive);
        let text = |value: &Option<Value>| value.as_ref().map_or("-".to_owned(), Value::to_string);
        found.iter().map(|change| format!("{} {} {}", change.path, text(&change.from), text(&change.to))).collect()
    }

    #[test]
    fn what_changed_is_told_field_by_field() {
        let old = json!({"kind": "A", "metadata": {"name": "a", "resourceVersion": "1"}, "spec": {"n": 1, "list": [1, 2], "gone": true}});
        let new = json!({"kind": "A", "metadata": {"name": "a", "resourceVersion": "2", "labels": {"x": "y"}}, "spec": {"n": 2, "list": [1]}});
        assert_eq!(
            lines(&old, &new, false),
            ["metadata.labels.x - \"y\"", "spec.gone true -", "spec.list[1] 2 -", "spec.n 1 2"]
        );
        assert_eq!(lines(&Value::Null, &json!({"spec": {"a": {"b": 1}}}), false), ["spec.a.b - 1"]);
        assert!(lines(&old, &old, false).is_empty());
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret =
            json!({"metadata": {"name": "s", "labels": {"a": "b"}}, "type": "Opaque", "data": {"key": "aHVudGVyMg=="}});
        assert_eq!(
            lines(&Value::Null, &secret, true),
            ["data.key - \"***\"", "metadata.labels.a - \"b\"", "metadata.name - \"s\"", "type - \"Opaque\""]
        );
        let application = |value: &str| {
            json!({"spec": {
                "env": [{"name": "KEY", "value": value}, {"name": "REF", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                "url": format!("https://me:{value}@git.example/x?y"),
                "dbPassword": value,
                "credentials": {"secretName": "deploy"},
            }, "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": value}}})
        };
        let all = lines(&application("hunter2"), &application("hunter3"), false).join("\n");
        assert!(!all.contains("hunter"), "{all}");
        assert!(all.contains("spec.env[0].value \"***\" \"***\""), "{all}");
        let made = lines(&Value::Null, &application("hunter2"), false).join("\n");
        assert!(!made.contains("hunter"), "{made}");
        assert!(made.contains("https://***@git.example/x?y") && made.contains("deploy"), "{made}");
        // A part that changes its form is shown as a whole, and masked inside.
        let whole = lines(
            &json!({"spec": {"env": "x"}}),
            &json!({"spec": {"env": [{"name": "A", "value": "hunter2"}]}}),
            false,
        );
        assert!(!whole.join("").contains("hunter"), "{whole:?}");
    }

    #[test]
    fn a_record_is_bounded() {
        let many: Map<String, Value> = (0..1_000).map(|n| (format!("k{n}"), "v".repeat(10_000).into())).collect();
        let (found, more) = between(None, Some(&json!({"data": many})), false);
        assert!(more && found.len() == CHANGES_MAX);
        assert!(serde_json::to_string(&found).unwrap().len() < CHANGES_MAX * (VALUE_CHARS_MAX + 64));
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(json!("hunter2")), Just(json!(7)), Just(Value::Null), Just(json!("https://a:hunter2@b"))];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let name = prop::sample::select(vec!["name", "value", "password", "x", "apiToken", "env"]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
                prop::collection::vec((name, inner), 0..4)
                    .prop_map(|list| Value::Object(list.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
            ]
        })
    }

    proptest! {
        /// Of a sensitive kind nothing but metadata is ever shown, whatever its form.
        #[test]
        fn a_sensitive_kind_shows_no_value(old in tree(), new in tree()) {
            let wrap = |data: Value| json!({"metadata": {"name": "s"}, "data": data});
            let (found, _) = between(Some(&wrap(old)), Some(&wrap(new)), true);
            prop_assert!(!serde_json::to_string(&found).unwrap().contains("hunter2"));
        }
    }
}
