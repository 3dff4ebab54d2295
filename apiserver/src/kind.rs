//! What the server knows about a kind of resource.
//!
//! The server has no kind of its own: whoever assembles it registers [`Kind`]s, most of them from a
//! `CustomResourceDefinition`. Everything generic (routes, discovery, OpenAPI, tables, validation, the store's
//! tables) is derived from this description.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

/// Whether objects of a kind live in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One set of names for the whole server.
    Cluster,
    /// One set of names for each namespace.
    Namespaced,
}

/// A column of `kubectl get`, evaluated by the server.
#[derive(Clone, Debug)]
pub struct Column {
    /// The heading.
    pub name: String,
    /// `string`, `integer`, `number`, `boolean` or `date` (shown as an age).
    pub type_: String,
    /// An OpenAPI format, or empty.
    pub format: String,
    /// What the column means.
    pub description: String,
    /// 0 is always shown, anything above only in `-o wide`.
    pub priority: i32,
    /// The simple JSONPath of the value, for example `.status.phase`.
    pub json_path: String,
    /// For cells no JSONPath can give (the number of a Secret's keys): the value from the whole object. Wins over
    /// `json_path`. Pure.
    pub cell: Option<fn(&Value) -> Value>,
}

/// Where the `scale` subresource finds its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// JSONPath of the wanted count, for example `.spec.instances`.
    pub spec_replicas_path: String,
    /// JSONPath of the observed count.
    pub status_replicas_path: String,
    /// JSONPath of a serialised label selector, if there is one.
    pub label_selector_path: Option<String>,
}

/// One thing that is wrong with one field of an object; becomes a `StatusCause`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field's path, for example `spec.env[2].name`.
    pub field: String,
    /// The machine-readable reason.
    pub reason: FieldErrorReason,
    /// What is wrong, with the value and what is allowed, as Kubernetes words it, for example
    /// `Invalid value: -1: should be greater than or equal to 0`.
    pub message: String,
}

/// Kubernetes' reasons for a wrong field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorReason {
    /// The value breaks a rule.
    Invalid,
    /// The value must be given.
    Required,
    /// A value that must be unique stands twice.
    Duplicate,
    /// The value is not one of a closed set.
    NotSupported,
    /// The field may not be set or changed here.
    Forbidden,
    /// The value is longer than allowed.
    TooLong,
    /// There are more items or properties than allowed.
    TooMany,
    /// The value has the wrong JSON type.
    TypeInvalid,
}

impl FieldErrorReason {
    /// The reason as Kubernetes spells it in `details.causes[].reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "FieldValueInvalid",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }
}

/// Checks what a schema cannot express. Gets the new object and, on update, the old one. Pure.
pub type Validate = Arc<dyn Fn(&Value, Option<&Value>) -> Vec<FieldError> + Send + Sync>;

/// Turns the `raw` part of a Kubernetes protobuf envelope into the object's JSON.
pub type DecodeProtobuf = fn(&[u8]) -> Result<Value, String>;

/// Brings an object about to be written into the shape that is stored (a Secret's `stringData` folded into `data`).
/// Runs after decoding and naming, before defaults, pruning and validation. Pure.
pub type Prepare = fn(&mut Value);

/// Which names objects of a kind may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameRule {
    /// An RFC 1123 subdomain of at most 253 characters: what most kinds take.
    #[default]
    Subdomain,
    /// An RFC 1123 label of at most 63 characters: Namespaces.
    Label,
    /// Anything that fits into one segment of a path: RBAC's kinds.
    PathSegment,
}

/// Everything the server knows about one kind.
#[expect(clippy::struct_excessive_bools, reason = "a description: none depends on another")]
#[derive(Clone)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: String,
    /// API version, for example `v1alpha1`.
    pub version: String,
    /// For example `Application`.
    pub kind: String,
    /// For example `ApplicationList`.
    pub list_kind: String,
    /// For example `applications`: the name in URLs.
    pub plural: String,
    /// For example `application`.
    pub singular: String,
    /// For example `app`.
    pub short_names: Vec<String>,
    /// For example `berth`, so that `kubectl get berth` lists it.
    pub categories: Vec<String>,
    /// Cluster or namespaced.
    pub scope: Scope,
    /// The kind's SQL table, for example `paas_applications`.
    pub table: String,
    /// The structural OpenAPI v3 schema of the whole object (an `object` with `spec`, `status`, …).
    pub schema: Value,
    /// Whether `status` is a subresource.
    pub status: bool,
    /// Whether and where `scale` is a subresource.
    pub scale: Option<Scale>,
    /// The server-side columns between NAME and AGE; empty means NAME and AGE only.
    pub columns: Vec<Column>,
    /// Dotted paths that field selectors may name besides `metadata.name` and `metadata.namespace`.
    pub selectable_fields: Vec<String>,
    /// Core kinds take strategic merge patches; custom ones answer 415 as Kubernetes does.
    pub strategic_merge: bool,
    /// Whether a PUT has to say which state it replaces: custom kinds and Leases, as in Kubernetes.
    pub replace_names_revision: bool,
    /// Which names are allowed.
    pub name_rule: NameRule,
    /// What is folded together before an object is written; `None` for most kinds.
    pub prepare: Option<Prepare>,
    /// What the schema cannot say.
    pub validate: Option<Validate>,
    /// How clients' protobuf bodies are read; `None` means the kind is JSON and YAML only.
    pub decode_protobuf: Option<DecodeProtobuf>,
    /// Objects older than this are removed (Events); `None` keeps them for ever.
    pub retention_seconds: Option<u32>,
    /// Names of fields whose values are never logged, compared in errors or shown in audit records.
    pub sensitive: bool,
    /// Whether its objects are sealed in the database.
    pub sealed: bool,
    /// Whether its objects are running programs with `log`, `exec`, `attach` and `portforward`, which
    /// [`Builder::streams`](crate::Builder::streams) leads to.
    pub streams: bool,
    /// Several kinds may show the same stored objects (core and `events.k8s.io` Events): the `(group, plural)`
    /// whose store they share and the pure functions that translate.
    pub view_of: Option<View>,
}

/// A second face of stored objects.
#[derive(Clone)]
pub struct View {
    /// Group of the stored kind.
    pub group: String,
    /// Plural of the stored kind.
    pub plural: String,
    /// From the stored shape to this face.
    pub from_stored: fn(Value) -> Value,
    /// From this face to the stored shape; `None` for a view that only shows.
    pub to_stored: Option<fn(Value) -> Value>,
    /// What can be done with it.
    pub verbs: &'static [&'static str],
    /// Which stored objects it shows; `None` shows all.
    pub shows: Option<fn(&Value) -> bool>,
    /// Sets what depends on when an answer is given, in a get and a list. Such a view should not be watched.
    pub timed: Option<fn(&mut Value, Timestamp)>,
    /// Selectable fields of this face that are a selectable field of the stored kind, with that field: the store keeps
    /// their values, so that a selection reads no bodies.
    pub fields: &'static [(&'static str, &'static str)],
    /// Labels of this face that are a label of the stored object under another name, with that name.
    pub labels: &'static [(&'static str, &'static str)],
}

/// What can be done with a kind of the server's own store.
pub const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// The same without deleting many at once.
const VERBS_ONE_BY_ONE: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];

impl Kind {
    /// What can be done with its objects.
    pub fn verbs(&self) -> &'static [&'static str] {
        match &self.view_of {
            Some(view) => view.verbs,
            // With one request too much would be gone.
            None if crate::namespaces::is_namespace(self) => VERBS_ONE_BY_ONE,
            None => VERBS,
        }
    }

    /// `group/version`, or just the version in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `plural.group` as error messages name it, or just the plural in the core group.
    pub fn qualified_plural(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `Kind.group` as validation messages name it, or just the kind in the core group.
    pub fn qualified_kind(&self) -> String {
        if self.group.is_empty() { self.kind.clone() } else { format!("{}.{}", self.kind, self.group) }
    }
}
