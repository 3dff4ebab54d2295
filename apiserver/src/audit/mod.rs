//! The audit log: who changed what, from where, and what was refused. Never a secret.
//!
//! A record has the shape of an `Event` of `audit.k8s.io/v1` as far as that fits, with what changed in `changes`. It is
//! made where a write is about to be handed to the store, and committed with it; see
//! `docs/decisions/0008-audit.md`.

mod changes;
mod query;
mod record;

use jiff::Timestamp;
use serde_json::Value;

use self::changes::Changed;
use self::record::{MESSAGE_CHARS_MAX, Record, Reference, Status};
use crate::auth::Identity;
use crate::error::Error;
use crate::kind::Kind;
use crate::path::{Subresource, Target};
use crate::server::State;
use crate::store::AuditLine;

pub(crate) use self::query::{list, row};

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
    let now = state.clock.now();
    let (changes, more_changes) = changes::between(old, new, target.kind.sensitive);
    let record = Record {
        object_ref: Some(Reference::new(target, name, new.or(old))),
        changes: Some(changes),
        more_changes,
        ..Record::new(now, identity, verb, code)
    };
    Some(finish(now, target, &record))
}

/// Notes that a mutation was refused.
pub(crate) fn note_refusal(state: &State, target: &Target, identity: &Identity, verb: &'static str, error: &Error) {
    if !is_wanted(&target.kind, target.subresource, verb, identity) {
        return;
    }
    let now = state.clock.now();
    let record = Record {
        object_ref: Some(Reference::new(target, target.name(), None)),
        response_status: Status::of(error),
        ..Record::new(now, identity, verb, error.code())
    };
    state.store.note(finish(now, target, &record));
}

/// Notes what somebody was given: it is in the log before they have it, or they do not get it.
pub(crate) async fn must_note(
    state: &State,
    target: &Target,
    identity: &Identity,
    verb: &'static str,
    code: u16,
) -> Result<(), Error> {
    let now = state.clock.now();
    let object_ref = Some(Reference::new(target, target.name(), None));
    let record = Record { object_ref, ..Record::new(now, identity, verb, code) };
    let line = finish(now, target, &record);
    Ok(state.store.must_note(line).await?)
}

/// Notes that a path which is no resource was refused.
pub(crate) fn note_path(state: &State, identity: &Identity, method: &str, path: &str, code: u16) {
    let path: String = path.chars().take(MESSAGE_CHARS_MAX).collect();
    let now = state.clock.now();
    let record = Record { path: Some(&path), ..Record::new(now, identity, method, code) };
    let record = record.text();
    state.store.note(AuditLine {
        time: now,
        user: identity.user.clone(),
        namespace: String::new(),
        resource: path,
        verb: method.into(),
        record,
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
    told: Option<&Value>,
) -> AuditLine {
    let now = state.clock.now();
    let object_ref = Some(Reference { subresource: part, ..Reference::new(target, target.name(), None) });
    let changes = told.map(|told| vec![Changed::told(part, told)]);
    finish(now, target, &Record { object_ref, changes, ..Record::new(now, identity, verb, code) })
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
    let now = state.clock.now();
    let record = Record {
        object_ref: Some(Reference { subresource: part, ..Reference::new(target, target.name(), None) }),
        response_status: Status::of(error),
        ..Record::new(now, identity, verb, error.code())
    };
    state.store.note(finish(now, target, &record));
}

fn finish(time: Timestamp, target: &Target, record: &Record<'_>) -> AuditLine {
    AuditLine {
        time,
        user: record.user.username.to_owned(),
        namespace: namespace_of(target),
        resource: target.kind.qualified_plural(),
        verb: record.verb.into(),
        record: record.text(),
    }
}

/// The project that a record is shown in: a Namespace is part of itself.
fn namespace_of(target: &Target) -> String {
    let own = crate::namespaces::is_namespace(&target.kind);
    if own { target.name() } else { target.namespace() }.to_owned()
}
