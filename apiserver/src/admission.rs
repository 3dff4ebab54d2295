//! What happens to an object between the request and the store: identity filled in, parts that a caller may not write
//! put back, defaults, pruning, validation. Pure; plus the hooks by which other crates refuse what only they can judge.

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::auth::Identity;
use crate::error::Error;
use crate::kind::{FieldError, FieldErrorReason, Kind, Scope};
use crate::path::Subresource;
use crate::query::FieldValidation;
use crate::schema::{self, Schema};

/// What is being done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is new.
    Create,
    /// It changes.
    Update,
    /// It is asked to go.
    Delete,
}

/// A write as hooks see it.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The kind.
    pub kind: &'a Kind,
    /// The operation.
    pub operation: Operation,
    /// The part of the object that is written; `None` for the object itself.
    pub subresource: Option<Subresource>,
    /// Empty for cluster-scoped kinds.
    pub namespace: &'a str,
    /// The object's name.
    pub name: &'a str,
    /// The state before; `None` on create.
    pub old: Option<&'a Value>,
    /// The state after; `None` on delete.
    pub new: Option<&'a Value>,
    /// Who asks.
    pub identity: &'a Identity,
    /// Nothing will be stored.
    pub dry_run: bool,
}

/// A judgement of writes that needs more than the object itself.
pub trait Admission: Send + Sync {
    /// Changes a new state before it is validated. Must be idempotent: its own output goes through it again on update.
    fn mutate(&self, request: &Request<'_>, new: &mut Value) {
        let _ = (request, new);
    }

    /// Why the caller may not do this, though the verb is allowed; 403. Asked before anything is validated.
    fn forbid<'a>(&'a self, request: Request<'a>) -> BoxFuture<'a, Option<String>> {
        let _ = request;
        Box::pin(std::future::ready(None))
    }

    /// What is wrong with the write; empty means nothing. On delete, one error refuses the deletion with 403.
    fn validate<'a>(&'a self, request: Request<'a>) -> BoxFuture<'a, Vec<FieldError>>;
}

/// The longest object after admission, as JSON: Kubernetes' bound for what its store takes.
pub const OBJECT_BYTES_MAX: usize = 1_572_864;

/// The metadata, as a map; made when it is missing.
pub fn metadata(object: &mut Value) -> Result<&mut Map<String, Value>, Error> {
    let Value::Object(map) = object else { return Err(Error::bad_request("the body is not an object")) };
    match map
        .entry("metadata")
        .and_modify(|m| {
            if m.is_null() {
                *m = Value::Object(Map::new());
            }
        })
        .or_insert_with(|| Value::Object(Map::new()))
    {
        Value::Object(metadata) => Ok(metadata),
        _ => Err(Error::bad_request("metadata is not an object")),
    }
}

/// A text of the metadata; absent and empty are the same.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get("metadata").and_then(|m| m.get(field)).and_then(Value::as_str).unwrap_or("")
}

/// The names in `metadata.finalizers`.
pub fn finalizers(object: &Value) -> Vec<String> {
    let list = object.get("metadata").and_then(|m| m.get("finalizers")).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|f| f.as_str().map(str::to_owned)).collect()
}

/// Puts `finalizers` in place of what is there; none at all removes the field.
pub fn set_finalizers(object: &mut Value, finalizers: Vec<String>) -> Result<(), Error> {
    let metadata = metadata(object)?;
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), finalizers.into());
    }
    Ok(())
}

/// Whether it waits for its finalizers.
pub fn is_being_deleted(object: &Value) -> bool {
    !text(object, "deletionTimestamp").is_empty()
}

/// A time as metadata has it: seconds, UTC.
pub fn timestamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Checks `apiVersion` and `kind` against the address and fills them in where they are missing (typed clients of other
/// languages leave them out).
pub fn check_type(kind: &Kind, object: &mut Value) -> Result<(), Error> {
    let Value::Object(map) = object else {
        return Err(Error::bad_request(format!("the body is not a {} object", kind.kind)));
    };
    let wanted = [("apiVersion", kind.api_version()), ("kind", kind.kind.clone())];
    for (field, wanted) in wanted {
        match map.get(field) {
            None | Some(Value::Null) => {}
            Some(Value::String(given)) if given.is_empty() || *given == wanted => {}
            Some(given) => {
                let given = given.as_str().map_or_else(|| given.to_string(), str::to_owned);
                return Err(Error::bad_request(format!(
                    "the {field} in the data ({given}) does not match the expected {field} ({wanted})"
                )));
            }
        }
        map.insert(field.into(), wanted.into());
    }
    Ok(())
}

/// Checks name and namespace of the body against the address, and fills them in.
pub fn check_address(kind: &Kind, namespace: &str, name: Option<&str>, object: &mut Value) -> Result<(), Error> {
    let metadata = metadata(object)?;
    for field in ["name", "namespace", "generateName", "resourceVersion", "uid"] {
        if let Some(other) = metadata.get(field).filter(|value| !value.is_string() && !value.is_null()) {
            return Err(Error::bad_request(format!("metadata.{field} must be a string, not {other}")));
        }
    }
    match metadata.get("namespace").and_then(Value::as_str).unwrap_or("") {
        "" => {}
        // Tools that do not know a kind set it on everything; below it is taken away.
        _ if kind.scope == Scope::Cluster => {}
        given if given != namespace => {
            return Err(Error::bad_request(format!(
                "the namespace of the provided object does not match the namespace sent on the request: {given:?} is not {namespace:?}"
            )));
        }
        _ => {}
    }
    if kind.scope == Scope::Cluster {
        metadata.remove("namespace");
    } else {
        metadata.insert("namespace".into(), namespace.into());
    }
    if let Some(name) = name {
        match metadata.get("name").and_then(Value::as_str).unwrap_or("") {
            "" => {
                metadata.insert("name".into(), name.into());
            }
            given if given != name => {
                return Err(Error::bad_request(format!(
                    "the name of the object ({given}) does not match the name on the URL ({name})"
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Fills in what the server decides about a new object. `uid` and `suffix` are fresh random texts; the suffix becomes
/// the end of a generated name.
pub fn begin(kind: &Kind, object: &mut Value, now: Timestamp, uid: &str, suffix: &str) -> Result<(), Error> {
    if !text(object, "resourceVersion").is_empty() {
        return Err(Error::bad_request("resourceVersion should not be set on objects to be created"));
    }
    if kind.status
        && let Value::Object(map) = object
    {
        map.remove("status");
    }
    let metadata = metadata(object)?;
    for server_owned in
        ["resourceVersion", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields"]
    {
        metadata.remove(server_owned);
    }
    let has_name = metadata.get("name").and_then(Value::as_str).is_some_and(|n| !n.is_empty());
    if !has_name && let Some(prefix) = metadata.get("generateName").and_then(Value::as_str).filter(|p| !p.is_empty()) {
        // 63 in all, as in Kubernetes: generated names are used as labels.
        let kept: String = prefix.chars().take(63 - suffix.len()).collect();
        metadata.insert("name".into(), format!("{kept}{suffix}").into());
    }
    metadata.insert("uid".into(), uid.into());
    metadata.insert("creationTimestamp".into(), timestamp(now).into());
    if kind.strategic_merge {
        metadata.remove("generation");
    } else {
        metadata.insert("generation".into(), 1.into());
    }
    tidy(metadata);
    Ok(())
}

/// Drops nulls and empty collections of the metadata, which a typed server would not keep either.
fn tidy(metadata: &mut Map<String, Value>) {
    metadata.retain(|key, value| match value {
        Value::Null => false,
        Value::Object(map) => !(map.is_empty() && matches!(key.as_str(), "labels" | "annotations")),
        Value::Array(list) => !(list.is_empty() && matches!(key.as_str(), "finalizers" | "ownerReferences")),
        Value::String(text) => !(text.is_empty() && key != "name"),
        _ => true,
    });
    if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
        annotations.retain(|_, value| !value.is_null());
    }
    if let Some(Value::Object(labels)) = metadata.get_mut("labels") {
        labels.retain(|_, value| !value.is_null());
    }
}

/// Puts back what an update of `part` may not change. Nothing in `new` is trusted.
pub fn keep(kind: &Kind, old: &Value, new: &mut Value, part: Option<Subresource>) -> Result<(), Error> {
    match part {
        // Streams write nothing.
        Some(part) if part.is_stream() => {}
        None | Some(_) if part != Some(Subresource::Status) => {
            if kind.status
                && let (Value::Object(new), Value::Object(old)) = (&mut *new, old)
            {
                match old.get("status") {
                    Some(status) => new.insert("status".into(), status.clone()),
                    None => new.remove("status"),
                };
            }
        }
        _ => {
            let mut kept = old.clone();
            if let (Value::Object(kept), Value::Object(new)) = (&mut kept, &mut *new) {
                match new.remove("status") {
                    Some(status) if !status.is_null() => kept.insert("status".into(), status),
                    _ => kept.remove("status"),
                };
            }
            *new = kept;
        }
    }
    let metadata = metadata(new)?;
    for field in [
        "uid",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generateName",
        "managedFields",
        "resourceVersion",
    ] {
        match old.get("metadata").and_then(|m| m.get(field)) {
            Some(value) => metadata.insert(field.into(), value.clone()),
            None => metadata.remove(field),
        };
    }
    metadata.remove("selfLink");
    tidy(metadata);
    Ok(())
}

/// Raises the generation if something other than metadata and (where it is a subresource) status has changed.
pub fn count_generation(kind: &Kind, old: &Value, new: &mut Value) {
    let (Value::Object(old_map), Value::Object(new_map)) = (old, &*new) else { return };
    let counts = |key: &str| !(key == "metadata" || (key == "status" && kind.status));
    let same = old_map.iter().filter(|(k, _)| counts(k)).all(|(k, v)| new_map.get(k) == Some(v))
        && new_map.keys().filter(|k| counts(k)).all(|k| old_map.contains_key(k));
    if !same {
        raise_generation(new);
    }
}

/// Adds one to the generation, where there is one.
pub fn raise_generation(object: &mut Value) {
    if let Some(generation) = object.pointer_mut("/metadata/generation")
        && let Some(number) = generation.as_i64()
    {
        *generation = (number + 1).into();
    }
}

/// Whether two states are the same for a client: nothing would be written.
pub fn unchanged(old: &Value, new: &Value) -> bool {
    fn content(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
        object.as_object().into_iter().flatten().filter(|(key, _)| *key != "metadata")
    }
    fn about(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
        let metadata = object.get("metadata").and_then(Value::as_object);
        metadata.into_iter().flatten().filter(|(key, _)| *key != "resourceVersion")
    }
    content(old).eq(content(new)) && about(old).eq(about(new))
        || (same(content(old).collect(), content(new).collect()) && same(about(old).collect(), about(new).collect()))
}

/// Equality of members whatever their order.
fn same(mut left: Vec<(&String, &Value)>, mut right: Vec<(&String, &Value)>) -> bool {
    left.sort_by_key(|(key, _)| *key);
    right.sort_by_key(|(key, _)| *key);
    left == right
}

/// Prepares, defaults and prunes; returns the unknown fields.
pub fn shape(kind: &Kind, schema: &Schema, object: &mut Value) -> Vec<String> {
    if let Some(prepare) = kind.prepare {
        prepare(object);
    }
    let unknown = schema.prune(object);
    schema.default(object);
    unknown
}

/// Prepares and prunes what is applied to an object; returns the unknown fields. Defaults are the object's, not its.
pub fn shape_configuration(kind: &Kind, schema: &Schema, configuration: &mut Value) -> Vec<String> {
    if let Some(prepare) = kind.prepare {
        prepare(configuration);
    }
    schema.prune(configuration)
}

/// Everything that can be said against a new state by looking at it and its predecessor.
pub fn validate(kind: &Kind, schema: &Schema, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = schema::metadata::validate(kind, new, old);
    errors.extend(schema.validate(new, old));
    // A rule of the kind may rely on the schema: it is asked only about what the schema has passed.
    if errors.is_empty()
        && let Some(validate) = &kind.validate
    {
        errors.extend(validate(new, old));
    }
    let length = length(new);
    if length > OBJECT_BYTES_MAX {
        errors.push(FieldError {
            field: String::new(),
            reason: FieldErrorReason::TooLong,
            message: format!("Too long: the object has {length} bytes, and may have {OBJECT_BYTES_MAX}"),
        });
    }
    errors
}

/// How long an object is as JSON, without making it.
fn length(object: &Value) -> usize {
    struct Length(usize);
    impl std::io::Write for Length {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut length = Length(0);
    // Counting cannot fail, and a tree has nothing that JSON cannot say.
    serde_json::to_writer(&mut length, object).ok();
    length.0
}

/// Takes away owner references that stand twice, as they are. The answer is a warning, in Kubernetes' words.
pub fn forget_repeated_owners(object: &mut Value) -> Option<String> {
    let owners = object.get_mut("metadata")?.get_mut("ownerReferences")?.as_array_mut()?;
    if owners.len() < 2 {
        return None;
    }
    let mut repeated: Vec<String> = Vec::new();
    let mut seen: Vec<Value> = Vec::new();
    owners.retain(|owner| {
        let first = !seen.contains(owner);
        if first {
            seen.push(owner.clone());
        } else if let Some(uid) = owner.get("uid").and_then(Value::as_str) {
            repeated.push(uid.to_owned());
        }
        first
    });
    (!repeated.is_empty()).then(|| {
        format!(
            ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may \
             reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            repeated.join(", ")
        )
    })
}

/// What to do about unknown and duplicate fields: an error for strict requests, else the warnings to send.
pub fn meet_unknown(
    kind: &Kind,
    unknown: &[String],
    problems: Vec<String>,
    validation: FieldValidation,
    patch: Option<(&str, &str)>,
) -> Result<Vec<String>, Error> {
    let mut all: Vec<String> = unknown.iter().map(|path| format!("unknown field \"{path}\"")).collect();
    all.extend(problems);
    if all.is_empty() {
        return Ok(Vec::new());
    }
    match (validation, patch) {
        (FieldValidation::Ignore, _) => Ok(Vec::new()),
        (FieldValidation::Warn, _) => Ok(all),
        (FieldValidation::Strict, None) => Err(Error::bad_request(format!(
            "{name} in version {:?} cannot be handled as a {name}: strict decoding error: {}",
            kind.version,
            all.join(", "),
            name = kind.kind,
        ))),
        (FieldValidation::Strict, Some((name, patch))) => {
            let cause = FieldError {
                field: "patch".into(),
                reason: FieldErrorReason::Invalid,
                message: format!("Invalid value: {patch:?}: strict decoding error: {}", all.join(", ")),
            };
            Err(Error::invalid(kind, name, &[cause]))
        }
    }
}
