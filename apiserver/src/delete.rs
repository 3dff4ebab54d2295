//! Delete and deletecollection, and the marks that finalizers leave.

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use crate::admission::{self, Operation};
use crate::auth::Identity;
use crate::error::Error;
use crate::kind::{FieldError, FieldErrorReason, Kind};
use crate::objects::{self, Call};
use crate::path::Target;
use crate::query::{self, ListOptions, Query};
use crate::respond::{self, encode};
use crate::server::State;
use crate::store::{self, Key, Object, Write};
use crate::write::Tries;
use crate::{audit, decode, list, namespaces, protobuf};

/// The finalizer of an owner that waits for its dependents.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an owner whose dependents are to be let go.
pub(crate) const ORPHAN: &str = "orphan";

/// What happens to dependents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// They are collected after the owner is gone.
    #[default]
    Background,
    /// The owner waits for them.
    Foreground,
    /// They stay, without the owner.
    Orphan,
}

/// `DeleteOptions`, from the body or the query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) propagation: Option<Propagation>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) dry_run: bool,
}

fn refuse(field: &str, reason: FieldErrorReason, message: impl Into<String>) -> Error {
    let cause = FieldError { field: field.into(), reason, message: message.into() };
    Error::invalid_kind("meta.k8s.io", "DeleteOptions", "", &[cause])
}

impl Options {
    /// A body, if there is one, stands above the query.
    fn read(call: &Call, body: &Bytes) -> Result<Self, Error> {
        if body.is_empty() {
            return Self::from_query(&call.query);
        }
        let decoded = decode::decode(body, call.content_type(), Some(protobuf::delete_options))?;
        Self::from_body(&decoded.value)
    }

    fn from_query(query: &Query) -> Result<Self, Error> {
        let mut dry_run = false;
        for value in query.all("dryRun").filter(|value| !value.is_empty()) {
            query::check_dry_run(value, "DeleteOptions")?;
            dry_run = true;
        }
        let orphan = query.maybe_switch("orphanDependents");
        Ok(Self {
            propagation: propagation(query.get("propagationPolicy"), orphan)?,
            uid: None,
            resource_version: None,
            dry_run,
        })
    }

    fn from_body(body: &Value) -> Result<Self, Error> {
        match body.get("kind").and_then(Value::as_str) {
            None | Some("" | "DeleteOptions") => {}
            Some(other) => {
                return Err(Error::bad_request(format!("the body of a deletion is DeleteOptions, not {other}")));
            }
        }
        let mut dry_run = false;
        for value in body.get("dryRun").and_then(Value::as_array).into_iter().flatten() {
            query::check_dry_run(value.as_str().unwrap_or_default(), "DeleteOptions")?;
            dry_run = true;
        }
        let precondition = |field: &str| {
            let value = body.get("preconditions").and_then(|p| p.get(field)).and_then(Value::as_str);
            value.filter(|value| !value.is_empty()).map(str::to_owned)
        };
        Ok(Self {
            propagation: propagation(
                body.get("propagationPolicy").and_then(Value::as_str),
                body.get("orphanDependents").and_then(Value::as_bool),
            )?,
            uid: precondition("uid"),
            resource_version: precondition("resourceVersion"),
            dry_run,
        })
    }
}

fn propagation(policy: Option<&str>, orphan: Option<bool>) -> Result<Option<Propagation>, Error> {
    match (policy.filter(|policy| !policy.is_empty()), orphan) {
        (Some(_), Some(_)) => Err(refuse(
            "propagationPolicy",
            FieldErrorReason::Invalid,
            "Invalid value: orphanDependents and deletionPropagation cannot be both set",
        )),
        (Some("Background"), None) | (None, Some(false)) => Ok(Some(Propagation::Background)),
        (Some("Foreground"), None) => Ok(Some(Propagation::Foreground)),
        (Some("Orphan"), None) | (None, Some(true)) => Ok(Some(Propagation::Orphan)),
        (None, None) => Ok(None),
        (Some(other), None) => Err(refuse(
            "propagationPolicy",
            FieldErrorReason::NotSupported,
            format!("Unsupported value: \"{other}\": supported values: \"Background\", \"Foreground\", \"Orphan\""),
        )),
    }
}

/// What a deletion led to.
pub(crate) enum Deleted {
    /// It is gone.
    Gone(Arc<Object>),
    /// It waits for its finalizers; the object as it now is.
    Marked(Bytes),
}

/// DELETE on an object.
pub(crate) async fn one(state: &State, call: &Call, body: Bytes) -> Result<Response, Error> {
    let wish = call.wish()?.plain();
    let options = Options::read(call, &body)?;
    let kind = &call.target.kind;
    match delete(state, &call.target, &call.identity, &options).await? {
        Deleted::Gone(object) => {
            let mut details = json!({"name": call.target.name(), "kind": kind.plural, "uid": &*object.uid});
            if !kind.group.is_empty() {
                details["group"] = kind.group.as_str().into();
            }
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
            });
            wish.send_value(StatusCode::OK, &status).await
        }
        Deleted::Marked(body) => wish.send(StatusCode::OK, body).await,
    }
}

/// DELETE on a collection: object by object, not as one.
pub(crate) async fn collection(state: &State, call: &Call, body: Bytes) -> Result<Response, Error> {
    let wish = call.wish()?;
    let options = Options::read(call, &body)?;
    let page = list::page(state, &call.target, &ListOptions::parse(&call.query)?).await?;
    for object in &page.objects {
        let target = Target { name: Some((*object.name).to_owned()), ..call.target.clone() };
        match delete(state, &target, &call.identity, &options).await {
            Ok(_) => {}
            // Somebody else was faster.
            Err(error) if error.code() == 404 => {}
            Err(error) => return Err(error),
        }
    }
    list::send(state, call, wish, page).await
}

/// Deletes an object, or marks it when something has to happen first. Doing it again changes nothing.
pub(crate) async fn delete(
    state: &State,
    target: &Target,
    identity: &Identity,
    options: &Options,
) -> Result<Deleted, Error> {
    let kind = &target.kind;
    let mut tries = Tries::new();
    loop {
        let current = objects::find(state, target)?;
        check_preconditions(kind, &current, options)?;
        let old = respond::tree(kind, &current.body)?;
        judge(state, target, identity, &old, options.dry_run).await?;
        let mut new = respond::parse(&current.body)?;
        mark(state, kind, &mut new, options)?;
        let waits = !admission::finalizers(&new).is_empty()
            || (namespaces::is_namespace(kind) && namespaces::has_finalizers(&new));
        if !waits && options.dry_run {
            return Ok(Deleted::Gone(current));
        }
        if waits && (options.dry_run || admission::unchanged(&respond::parse(&current.body)?, &new)) {
            return Ok(Deleted::Marked(respond::translate(kind, &encode(&new)?)?));
        }
        let key = Key::new(state.kinds.store_id(target.index), target.namespace(), target.name());
        tracing::debug!(kind = kind.kind, %key, user = identity.user, waits, "delete");
        let noted = audit::Write {
            target,
            identity,
            verb: "delete",
            code: 200,
            name: target.name(),
            old: Some(&old),
            new: waits.then_some(&new),
        };
        let line = audit::line(state, noted);
        let write = if waits {
            Write::Replace { key, expected_revision: current.revision, body: new }
        } else {
            Write::Remove { key, expected_revision: current.revision, body: None }
        };
        match state.store.write_audited(write, line).await {
            Ok(stored) if waits => return Ok(Deleted::Marked(respond::face(kind, &stored)?)),
            Ok(_) => return Ok(Deleted::Gone(current)),
            Err(store::Error::Conflict { .. }) if tries.again().await => {}
            Err(error) => return Err(Error::from_store(error, kind, target.name())),
        }
    }
}

fn check_preconditions(kind: &Kind, current: &Object, options: &Options) -> Result<(), Error> {
    if let Some(uid) = &options.uid
        && **uid != *current.uid
    {
        let because = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", current.uid);
        return Err(Error::conflict_because(kind, &current.name, &because));
    }
    if let Some(revision) = &options.resource_version
        && *revision != current.revision.to_string()
    {
        let because = format!(
            "Precondition failed: ResourceVersion in precondition: {revision}, ResourceVersion in object meta: {}",
            current.revision
        );
        return Err(Error::conflict_because(kind, &current.name, &because));
    }
    Ok(())
}

async fn judge(state: &State, target: &Target, identity: &Identity, old: &Value, dry_run: bool) -> Result<(), Error> {
    let request = admission::Request {
        kind: &target.kind,
        operation: Operation::Delete,
        subresource: None,
        namespace: target.namespace(),
        name: target.name(),
        old: Some(old),
        new: None,
        identity,
        dry_run,
    };
    namespaces::check_deletable(state, &target.kind, target.name())?;
    for hook in &state.admission {
        let errors = hook.validate(request).await;
        if let Some(first) = errors.first() {
            return Err(Error::forbidden(&target.kind.group, &target.kind.plural, target.name(), &first.message));
        }
    }
    Ok(())
}

/// Sets the finalizers that the propagation asks for and, once, the time of deletion.
fn mark(state: &State, kind: &Kind, object: &mut Value, options: &Options) -> Result<(), Error> {
    let mut finalizers = admission::finalizers(object);
    if let Some(propagation) = options.propagation {
        finalizers.retain(|finalizer| finalizer != FOREGROUND && finalizer != ORPHAN);
        match propagation {
            Propagation::Background => {}
            Propagation::Foreground => finalizers.push(FOREGROUND.into()),
            Propagation::Orphan => finalizers.push(ORPHAN.into()),
        }
    }
    admission::set_finalizers(object, finalizers)?;
    if admission::is_being_deleted(object) {
        return Ok(());
    }
    let metadata = admission::metadata(object)?;
    metadata.insert("deletionTimestamp".into(), admission::timestamp(state.clock.now()).into());
    metadata.insert("deletionGracePeriodSeconds".into(), 0.into());
    admission::raise_generation(object);
    if namespaces::is_namespace(kind) {
        namespaces::terminate(object);
    }
    Ok(())
}
