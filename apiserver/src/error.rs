//! The one mapping from our errors to Kubernetes `Status`.
//!
//! Handlers return [`Error`]; nothing else in the crate writes an error body. The wording follows
//! `k8s.io/apimachinery/pkg/api/errors`, because people and clients match on it.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::apply::{Conflict, Conflicts};
use crate::decode::DecodeError;
use crate::kind::{FieldError, Kind};
use crate::patch::PatchError;
use crate::store;

/// A refused or failed request, ready to be sent.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    code: u16,
    reason: &'static str,
    message: String,
    details: Option<Value>,
    continue_token: Option<String>,
    retry_after_seconds: Option<u32>,
}

impl Error {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, continue_token: None, retry_after_seconds: None }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        let mut details = serde_json::Map::new();
        for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
            if !value.is_empty() {
                details.insert(key.into(), value.into());
            }
        }
        self.details = Some(Value::Object(details));
        self
    }

    /// The HTTP status code.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The machine-readable reason, for example `NotFound`.
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// The fields that are wrong, each with its reason, and without their values.
    pub(crate) fn causes(&self) -> impl Iterator<Item = (&str, &str)> {
        let causes = self.details.iter().filter_map(|details| details["causes"].as_array()).flatten();
        causes.filter_map(|cause| Some((cause["field"].as_str()?, cause["reason"].as_str()?)))
    }

    /// 400: the request makes no sense, whatever is stored.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401: nobody known is asking.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 401 for somebody who is not who they say. It does not tell why.
    pub fn wrong_password() -> Self {
        Self::new(401, "Unauthorized", "the name or the password is wrong, or the user is locked out")
    }

    /// 404 for a user's token.
    pub fn no_such_token(id: &str) -> Self {
        Self::new(404, "NotFound", format!("there is no token {id:?}"))
    }

    /// 403 for a caller who may not do this; `message` is the whole sentence.
    pub fn forbidden(group: &str, plural: &str, name: &str, message: &str) -> Self {
        let qualified = if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") };
        let text = if name.is_empty() {
            format!("{qualified} is forbidden: {message}")
        } else {
            format!("{qualified} \"{name}\" is forbidden: {message}")
        };
        Self::new(403, "Forbidden", text).about(group, plural, name)
    }

    /// 403 for a path that is no resource.
    pub fn forbidden_path(user: &str, verb: &str, path: &str) -> Self {
        let message = format!("forbidden: User \"{user}\" cannot {verb} path \"{path}\"");
        let mut error = Self::new(403, "Forbidden", message);
        error.details = Some(json!({}));
        error
    }

    /// 403 with cause `NamespaceTerminating`.
    pub fn namespace_terminating(kind: &Kind, name: &str, namespace: &str) -> Self {
        let message = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut error = Self::forbidden(&kind.group, &kind.plural, name, &message);
        if let Some(Value::Object(details)) = &mut error.details {
            details.insert(
                "causes".into(),
                json!([{"reason": "NamespaceTerminating", "message": format!("namespace {namespace} is being terminated"), "field": "metadata.namespace"}]),
            );
        }
        error
    }

    /// 404 for an object.
    pub fn not_found(kind: &Kind, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} \"{name}\" not found", kind.qualified_plural())).about(
            &kind.group,
            &kind.plural,
            name,
        )
    }

    /// 404 for a namespace that a new object should go into.
    pub fn namespace_not_found(namespace: &str) -> Self {
        Self::new(404, "NotFound", format!("namespaces \"{namespace}\" not found")).about("", "namespaces", namespace)
    }

    /// 404 for a path that leads nowhere.
    pub fn no_such_path() -> Self {
        let mut error = Self::new(404, "NotFound", "the server could not find the requested resource");
        error.details = Some(json!({}));
        error
    }

    /// 405: the path exists and does not do this.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        let mut error = Self::new(405, "MethodNotAllowed", message);
        error.details = Some(json!({}));
        error
    }

    /// 405 for a kind that only shows what another kind stores.
    pub fn only_a_view(kind: &Kind, verb: &str, stored: &str) -> Self {
        let view = kind.qualified_plural();
        let message = format!("{view} are a view of {stored}, which does not support {verb}: change {stored} instead");
        Self::new(405, "MethodNotAllowed", message).about(&kind.group, &kind.plural, "")
    }

    /// 406: the client takes nothing that we can write.
    pub fn not_acceptable() -> Self {
        let message = "only the following media types are accepted: application/json, application/json;as=Table;v=v1;g=meta.k8s.io, application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io, application/yaml";
        Self::new(406, "NotAcceptable", message)
    }

    /// 409 for a name that is taken.
    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} \"{name}\" already exists", kind.qualified_plural())).about(
            &kind.group,
            &kind.plural,
            name,
        )
    }

    /// 409 for a write on top of something the caller has not seen.
    pub fn conflict(kind: &Kind, name: &str) -> Self {
        Self::conflict_because(
            kind,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 409 with a cause of its own, for example a failed precondition.
    pub fn conflict_because(kind: &Kind, name: &str, because: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {because}", kind.qualified_plural());
        Self::new(409, "Conflict", message).about(&kind.group, &kind.plural, name)
    }

    /// 409 for an apply that would change what others own, each field as a cause.
    pub fn apply_conflict(conflicts: &Conflicts) -> Self {
        let cause = |conflict: &Conflict| {
            json!({
                "reason": "FieldManagerConflict",
                "message": format!("conflict with {}", conflict.owner),
                "field": conflict.path.to_string(),
            })
        };
        let mut error = Self::new(409, "Conflict", conflicts.to_string());
        error.details = Some(json!({"causes": conflicts.0.iter().map(cause).collect::<Vec<_>>()}));
        error
    }

    /// 410 for a revision that is no longer kept; a list may go on with `continue_token`.
    pub fn expired(message: impl Into<String>, continue_token: Option<String>) -> Self {
        let mut error = Self::new(410, "Expired", message);
        error.continue_token = continue_token;
        error
    }

    /// 413: the body, or the object it makes, is too large.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 415 with the list of what would be accepted.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        Self::new(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: {}",
                accepted.join(", ")
            ),
        )
    }

    /// 422: the object is understood and not allowed.
    pub fn invalid(kind: &Kind, name: &str, causes: &[FieldError]) -> Self {
        Self::invalid_kind(&kind.group, &kind.kind, name, causes)
    }

    /// 422 for something that is no registered kind, for example `DeleteOptions`.
    pub fn invalid_kind(group: &str, kind: &str, name: &str, causes: &[FieldError]) -> Self {
        let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let texts: Vec<String> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
        let what = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut error =
            Self::new(422, "Invalid", format!("{qualified} \"{name}\" is invalid: {what}")).about(group, kind, name);
        if let Some(Value::Object(details)) = &mut error.details {
            let causes: Vec<Value> = causes
                .iter()
                .map(|c| json!({"reason": c.reason.as_str(), "message": c.message, "field": c.field}))
                .collect();
            details.insert("causes".into(), causes.into());
        }
        error
    }

    /// 422 for a patch that cannot be carried out on this object.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(422, "Invalid", message)
    }

    /// 429: come back later.
    pub fn too_many(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut error = Self::new(429, "TooManyRequests", message);
        error.retry_after_seconds = Some(retry_after_seconds);
        error.details = Some(json!({"retryAfterSeconds": retry_after_seconds}));
        error
    }

    /// 500: our fault. The cause is logged, not sent: it may name things the caller may not see.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {}", message.into()))
    }

    /// 503: nobody's fault, and soon over.
    pub fn unavailable(message: impl Into<String>) -> Self {
        let mut error = Self::new(503, "ServiceUnavailable", message);
        error.retry_after_seconds = Some(1);
        error
    }

    /// 504 for a revision that this server has not seen within the waiting time.
    pub fn too_large_resource_version(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let mut error = Self::new(504, "Timeout", message);
        error.details = Some(json!({
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        }));
        error.retry_after_seconds = Some(1);
        error
    }

    /// 504: the request took longer than a request may.
    pub fn timeout() -> Self {
        let message = "Timeout: request did not complete within the allotted time";
        let mut error = Self::new(504, "Timeout", message);
        error.details = Some(json!({}));
        error
    }

    /// The `v1 Status` object.
    pub fn status(&self) -> Value {
        let mut metadata = serde_json::Map::new();
        if let Some(token) = &self.continue_token {
            metadata.insert("continue".into(), token.as_str().into());
        }
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata,
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        });
        if let Value::Object(map) = &mut status {
            if let Some(details) = &self.details {
                map.insert("details".into(), details.clone());
            }
            map.insert("code".into(), self.code.into());
        }
        status
    }
}

/// What the store could not do for reasons of its own. Conflicts and missing objects have to be told with the kind and
/// name at hand: see [`Error::from_store`].
impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        if matches!(error, store::Error::Closed) {
            return Self::unavailable("the server is shutting down");
        }
        if let store::Error::Backend(cause) = &error {
            if cause.is_unavailable() {
                return Self::unavailable("the database does not answer; nothing was changed");
            }
            if matches!(**cause, store::BackendError::Unknown) {
                return Self::new(504, "Timeout", cause.to_string());
            }
        }
        tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
        Self::internal(error.to_string())
    }
}

impl Error {
    /// What the store said about an object.
    pub fn from_store(error: store::Error, kind: &Kind, name: &str) -> Self {
        match error {
            store::Error::Exists { current } if current.meta.deletion_timestamp.is_some() => {
                let mut error = Self::already_exists(kind, name);
                error.message.insert_str(0, "object is being deleted: ");
                error
            }
            store::Error::Exists { .. } => Self::already_exists(kind, name),
            store::Error::NotFound => Self::not_found(kind, name),
            store::Error::Conflict { .. } => Self::conflict(kind, name),
            other => other.into(),
        }
    }
}

impl From<PatchError> for Error {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::Syntax(message) => Self::bad_request(message),
            PatchError::TooLarge(message) => Self::too_large(message),
            PatchError::Failed(message) => Self::unprocessable(message),
        }
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::UnsupportedMediaType { accepted } => Self::unsupported_media_type(&accepted),
            DecodeError::Malformed(message) => Self::bad_request(message),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (code, axum::Json(self.status())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.code == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"kubernetes\""));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::FieldErrorReason;

    #[test]
    fn one_cause_is_said_plainly_and_several_as_a_list() {
        let cause = |field: &str| FieldError {
            field: field.into(),
            reason: FieldErrorReason::Invalid,
            message: "Invalid value: -1: should be greater than or equal to 0".into(),
        };
        let one = Error::invalid_kind("example.dev", "Widget", "x", &[cause("spec.size")]);
        assert_eq!(
            one.status()["message"],
            "Widget.example.dev \"x\" is invalid: spec.size: Invalid value: -1: should be greater than or equal to 0"
        );
        let two = Error::invalid_kind("", "Secret", "x", &[cause("a"), cause("b")]);
        assert!(two.status()["message"].as_str().unwrap().starts_with("Secret \"x\" is invalid: [a: Invalid"));
        assert_eq!(two.status()["details"]["causes"].as_array().unwrap().len(), 2);
    }
}
