//! What a write changed, field by field, with everything masked that could be a secret. Pure.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::{Serialize, Serializer};
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
#[derive(Debug, Serialize)]
pub(super) struct Changed<'a> {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Shown<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Shown<'a>>,
}

impl<'a> Changed<'a> {
    /// What there is to say of something that is no field.
    pub(super) fn told(path: &str, told: &'a Value) -> Self {
        Self { path: path.to_owned(), from: None, to: Some(Shown { value: told, masked: false, depth: 0 }) }
    }
}

/// A value as it is written into a record: masked where it could be a secret, and cut where it is long or deep.
#[derive(Clone, Copy, Debug)]
struct Shown<'a> {
    value: &'a Value,
    masked: bool,
    depth: usize,
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Shown { value, masked, depth } = *self;
        let inside = |value, masked| Shown { value, masked, depth: depth + 1 };
        match value {
            _ if masked => serializer.serialize_str(MASK),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.serialize(serializer),
            Value::String(text) => serializer.serialize_str(cut(&without_password(text))),
            // A whole part that came or went: field by field, so that what is in it is masked too.
            Value::Array(items) if depth < DEPTH_MAX => {
                serializer.collect_seq(items.iter().take(CHANGES_MAX).map(|item| inside(item, false)))
            }
            Value::Object(map) if depth < DEPTH_MAX => {
                let pair = map.contains_key("name") && map.contains_key("value");
                let masked = |name: &str| is_secret(name) || (pair && name == "value");
                let fields = map.iter().take(CHANGES_MAX);
                serializer.collect_map(fields.map(|(name, value)| (name, inside(value, masked(name)))))
            }
            Value::Array(_) | Value::Object(_) => serializer.serialize_str("…"),
        }
    }
}

/// What is different between two states, and whether there was more than is told. Of a `sensitive` kind no value outside
/// of the metadata is shown.
pub(super) fn between<'a>(old: Option<&'a Value>, new: Option<&'a Value>, sensitive: bool) -> (Vec<Changed<'a>>, bool) {
    let mut walk = Walk { found: Vec::new(), more: false, sensitive };
    walk.compare("", old, new, false, 0);
    (walk.found, walk.more)
}

struct Walk<'a> {
    found: Vec<Changed<'a>>,
    more: bool,
    sensitive: bool,
}

impl<'a> Walk<'a> {
    fn compare(&mut self, path: &str, old: Option<&'a Value>, new: Option<&'a Value>, masked: bool, depth: usize) {
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
                let shown = |value| Shown { value, masked, depth };
                self.found.push(Changed { path: path.to_owned(), from: old.map(shown), to: new.map(shown) });
            }
        }
    }

    fn fields(
        &mut self,
        path: &str,
        old: Option<&'a Map<String, Value>>,
        new: Option<&'a Map<String, Value>>,
        masked: bool,
        depth: usize,
    ) {
        let has = |field: &str| [old, new].into_iter().flatten().any(|map| map.contains_key(field));
        // Environment variables and arguments of builds: a name tells nothing of how secret its value is.
        let pair = has("name") && has("value");
        let names = [old, new].into_iter().flatten().flat_map(Map::keys).collect::<BTreeSet<_>>();
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
            self.compare(&path, field(old, name), field(new, name), masked, depth + 1);
        }
    }
}

fn field<'a>(map: Option<&'a Map<String, Value>>, name: &str) -> Option<&'a Value> {
    map.and_then(|map| map.get(name))
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

fn cut(text: &str) -> &str {
    text.char_indices().nth(VALUE_CHARS_MAX).map_or(text, |(end, _)| &text[..end])
}

/// A text whose addresses have nothing between `://` and `@`.
fn without_password(text: &str) -> Cow<'_, str> {
    if !text.contains("://") {
        return text.into();
    }
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
    shown.into()
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
        let text =
            |shown: &Option<Shown<'_>>| shown.map_or("-".to_owned(), |shown| serde_json::to_string(&shown).unwrap());
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
        let many = json!({"data": many});
        let (found, more) = between(None, Some(&many), false);
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
            let (old, new) = (wrap(old), wrap(new));
            let (found, _) = between(Some(&old), Some(&new), true);
            prop_assert!(!serde_json::to_string(&found).unwrap().contains("hunter2"));
        }
    }
}
