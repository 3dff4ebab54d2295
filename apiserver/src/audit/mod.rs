//! The audit log: who changed what, from where, and what was refused. Never a secret.
//!
//! A record has the shape of an `Event` of `audit.k8s.io/v1` as far as that fits, with what changed in `changes`. It is
//! made where a write is about to be handed to the store, and committed with it; see
//! `docs/decisions/0008-audit.md`.

mod changes;
mod query;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::admission;
use crate::auth::Identity;
use crate::error::Error;
use crate::kind::Kind;
use crate::path::{Subresource, Target};
use crate::server::State;
use crate::store::AuditLine;

pub(crate) use self::query::{list, row};

/// A message in a record is cut here.
const MESSAGE_CHARS_MAX: usize = 512;
/// Of a refusal so many fields are named: who sends more wrong ones corrects these first.
const CAUSES_MAX: usize = 20;

/// Whether a write of this kind of thing is noted. Left out is what tells nothing of a person's doing: events, which are a
/// log themselves, renewals of leases, and what this server's own parts observe.
fn is_wanted(kind: &Kind, part: Option<Subresource>, verb: &str, identity: &Identity) -> bool {
    let own = identity.origin.is_none();
    let lease = kind.group == "coordination.k8s.io";
    kind.retention_seconds.is_none()
        && !(lease && (own || matches!(verb, "update" | "patch")))
        && !(own && part == Some(Subresource::Status))
}

/// A write that is about to be committed: what it was asked as, and the states before and after.
#[derive(Clone, Copy)]
pub(crate) struct Write<'a> {
    pub(crate) target: &'a Target,
    pub(crate) identity: &'a Identity,
    pub(crate) verb: &'static str,
    pub(crate) code: u16,
    pub(crate) name: &'a str,
    pub(crate) old: Option<&'a Value>,
    pub(crate) new: Option<&'a Value>,
}

/// The line that is committed with a write; `None` if it is not noted.
pub(crate) fn line(state: &State, write: Write<'_>) -> Option<AuditLine> {
    let Write { target, identity, verb, code, name, old, new } = write;
    if !is_wanted(&target.kind, target.subresource, verb, identity) {
        return None;
    }
    let mut record = begin(state.clock.now(), identity, verb, code);
    record["objectRef"] = reference(target, name, new.or(old));
    let (changes, more) = changes::between(old, new, target.kind.sensitive);
    record["changes"] = json!(changes);
    if more {
        record["moreChanges"] = true.into();
    }
    Some(finish(state.clock.now(), identity, verb, target, &record))
}

/// Notes that a mutation was refused.
pub(crate) fn note_refusal(state: &State, target: &Target, identity: &Identity, verb: &'static str, error: &Error) {
    if !is_wanted(&target.kind, target.subresource, verb, identity) {
        return;
    }
    let mut record = begin(state.clock.now(), identity, verb, error.code());
    record["objectRef"] = reference(target, target.name(), None);
    tell(&mut record, error);
    state.store.note(finish(state.clock.now(), identity, verb, target, &record));
}

/// Why something was refused. Only the words of who may not are the server's own: what is wrong with a value often quotes it.
fn tell(record: &mut Value, error: &Error) {
    record["responseStatus"]["reason"] = error.reason().into();
    if error.code() == 403 {
        let message: String = error.to_string().chars().take(MESSAGE_CHARS_MAX).collect();
        record["responseStatus"]["message"] = message.into();
    }
    let causes: Vec<Value> =
        error.causes().take(CAUSES_MAX).map(|(field, reason)| json!({"field": field, "reason": reason})).collect();
    if !causes.is_empty() {
        record["responseStatus"]["details"] = json!({"causes": causes});
    }
}

/// Notes what somebody was given: it is in the log before they have it, or they do not get it.
pub(crate) async fn must_note(
    state: &State,
    target: &Target,
    identity: &Identity,
    verb: &'static str,
    code: u16,
) -> Result<(), Error> {
    let mut record = begin(state.clock.now(), identity, verb, code);
    record["objectRef"] = reference(target, target.name(), None);
    Ok(state.store.must_note(finish(state.clock.now(), identity, verb, target, &record)).await?)
}

/// Notes that a path which is no resource was refused.
pub(crate) fn note_path(state: &State, identity: &Identity, method: &str, path: &str, code: u16) {
    let path: String = path.chars().take(MESSAGE_CHARS_MAX).collect();
    let now = state.clock.now();
    let mut record = begin(now, identity, method, code);
    record["requestURI"] = path.as_str().into();
    state.store.note(AuditLine {
        time: now,
        user: identity.user.clone(),
        namespace: String::new(),
        resource: path,
        verb: method.into(),
        record: record.to_string(),
    });
}

/// The line about something that was done with a part of an object which is no field of it, such as a password. `told` is
/// what there is to say of it, with no secret in it.
pub(crate) fn part(
    state: &State,
    identity: &Identity,
    verb: &'static str,
    target: &Target,
    part: &str,
    code: u16,
    told: Option<Value>,
) -> AuditLine {
    let mut record = begin(state.clock.now(), identity, verb, code);
    record["objectRef"] = reference(target, target.name(), None);
    record["objectRef"]["subresource"] = part.into();
    if let Some(told) = told {
        record["changes"] = json!([{"path": part, "to": told}]);
    }
    finish(state.clock.now(), identity, verb, target, &record)
}

/// Notes that such a thing was refused.
pub(crate) fn note_part(
    state: &State,
    identity: &Identity,
    verb: &'static str,
    target: &Target,
    part: &str,
    error: &Error,
) {
    let mut record = begin(state.clock.now(), identity, verb, error.code());
    record["objectRef"] = reference(target, target.name(), None);
    record["objectRef"]["subresource"] = part.into();
    tell(&mut record, error);
    state.store.note(finish(state.clock.now(), identity, verb, target, &record));
}

fn finish(time: Timestamp, identity: &Identity, verb: &str, target: &Target, record: &Value) -> AuditLine {
    AuditLine {
        time,
        user: acting(identity).0.to_owned(),
        namespace: namespace_of(target),
        resource: target.kind.qualified_plural(),
        verb: verb.into(),
        record: record.to_string(),
    }
}

/// The project that a record is shown in: a Namespace is part of itself.
fn namespace_of(target: &Target) -> String {
    let own = crate::namespaces::is_namespace(&target.kind);
    if own { target.name() } else { target.namespace() }.to_owned()
}

/// Who really did it.
fn acting(identity: &Identity) -> (&str, &[String], &str) {
    match identity.origin.as_ref().and_then(|origin| origin.impersonator.as_ref()) {
        Some(impersonator) => (&impersonator.user, &impersonator.groups, &impersonator.uid),
        None => (&identity.user, &identity.groups, &identity.uid),
    }
}

fn begin(now: Timestamp, identity: &Identity, verb: &str, code: u16) -> Value {
    let person = |(user, groups, uid): (&str, &[String], &str)| {
        let mut person = json!({"username": user, "groups": groups});
        if !uid.is_empty() {
            person["uid"] = uid.into();
        }
        person
    };
    let mut record = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Request", "stage": "ResponseComplete",
        "requestReceivedTimestamp": format!("{now:.6}"),
        "verb": verb,
        "user": person(acting(identity)),
        "responseStatus": {"code": code},
    });
    let Some(origin) = &identity.origin else { return record };
    record["auditID"] = origin.request.as_str().into();
    record["userAgent"] = origin.user_agent.as_str().into();
    if let Some(address) = origin.address {
        record["sourceIPs"] = json!([address]);
    }
    if origin.impersonator.is_some() {
        record["impersonatedUser"] = person((&identity.user, &identity.groups, &identity.uid));
    }
    record
}

fn reference(target: &Target, name: &str, object: Option<&Value>) -> Value {
    let kind = &target.kind;
    let mut reference = json!({"resource": kind.plural, "apiVersion": kind.version, "name": name});
    let uid = object.map_or("", |object| admission::text(object, "uid"));
    for (field, value) in [
        ("apiGroup", kind.group.as_str()),
        ("namespace", target.namespace()),
        ("subresource", target.subresource.map_or("", Subresource::as_str)),
        ("uid", uid),
    ] {
        if !value.is_empty() {
            reference[field] = value.into();
        }
    }
    reference
}
