//! What a line of the audit log says: the form of an `Event` of `audit.k8s.io/v1`, with what changed in `changes`.
//!
//! Every write has one: it borrows what it tells of, and is written as text at once.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::changes::Changed;
use crate::admission;
use crate::auth::Identity;
use crate::error::Error;
use crate::path::{Subresource, Target};

/// A message in a record is cut here.
pub(super) const MESSAGE_CHARS_MAX: usize = 512;
/// Of a refusal so many fields are named: who sends more wrong ones corrects these first.
const CAUSES_MAX: usize = 20;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record<'a> {
    pub(super) kind: &'static str,
    pub(super) api_version: &'static str,
    pub(super) level: &'static str,
    pub(super) stage: &'static str,
    #[serde(rename = "auditID", skip_serializing_if = "Option::is_none")]
    pub(super) request: Option<&'a str>,
    pub(super) request_received_timestamp: String,
    #[serde(rename = "requestURI", skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<&'a str>,
    pub(super) verb: &'a str,
    pub(super) user: Person<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) impersonated_user: Option<Person<'a>>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "Option::is_none")]
    pub(super) addresses: Option<[IpAddr; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) object_ref: Option<Reference<'a>>,
    pub(super) response_status: Status<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) changes: Option<Vec<Changed<'a>>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) more_changes: bool,
}

/// A user's name, groups and uid.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Person<'a> {
    pub(super) username: &'a str,
    groups: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    uid: &'a str,
}

/// What was acted on.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reference<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) api_group: &'a str,
    pub(super) api_version: &'a str,
    pub(super) name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) namespace: &'a str,
    pub(super) resource: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) subresource: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) uid: &'a str,
}

/// How it was answered.
#[derive(Default, Serialize)]
pub(super) struct Status<'a> {
    code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details<'a>>,
}

#[derive(Serialize)]
struct Details<'a> {
    causes: Vec<Cause<'a>>,
}

#[derive(Serialize)]
struct Cause<'a> {
    field: &'a str,
    reason: &'a str,
}

impl<'a> Record<'a> {
    /// That somebody did something now.
    pub(super) fn new(now: Timestamp, identity: &'a Identity, verb: &'a str, code: u16) -> Self {
        let origin = identity.origin.as_ref();
        let impersonates = origin.is_some_and(|origin| origin.impersonator.is_some());
        Self {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: "Request",
            stage: "ResponseComplete",
            request: origin.map(|origin| &*origin.request),
            request_received_timestamp: format!("{now:.6}"),
            path: None,
            verb,
            user: Person::acting(identity),
            impersonated_user: impersonates.then(|| Person::of(identity)),
            addresses: origin.and_then(|origin| origin.address).map(|address| [address]),
            user_agent: origin.map(|origin| &*origin.user_agent),
            object_ref: None,
            response_status: Status { code, ..Status::default() },
            changes: None,
            more_changes: false,
        }
    }

    pub(super) fn text(&self) -> String {
        // Strings, numbers and lists of them: there is nothing in it that cannot be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl<'a> Person<'a> {
    /// Who really does it.
    fn acting(identity: &'a Identity) -> Self {
        match identity.origin.as_ref().and_then(|origin| origin.impersonator.as_ref()) {
            Some(real) => Self { username: &real.user, groups: &real.groups, uid: &real.uid },
            None => Self::of(identity),
        }
    }

    fn of(identity: &'a Identity) -> Self {
        Self { username: &identity.user, groups: &identity.groups, uid: &identity.uid }
    }
}

impl<'a> Reference<'a> {
    pub(super) fn new(target: &'a Target, name: &'a str, object: Option<&'a Value>) -> Self {
        Self {
            api_group: &target.kind.group,
            api_version: &target.kind.version,
            resource: &target.kind.plural,
            subresource: target.subresource.map_or("", Subresource::as_str),
            namespace: target.namespace(),
            name,
            uid: object.map_or("", |object| admission::text(object, "uid")),
        }
    }
}

impl<'a> Status<'a> {
    /// Why something was refused. Only the words of who may not are the server's own: what is wrong with a value often
    /// quotes it.
    pub(super) fn of(error: &'a Error) -> Self {
        let message = (error.code() == 403).then(|| error.to_string().chars().take(MESSAGE_CHARS_MAX).collect());
        let causes: Vec<_> = error.causes().take(CAUSES_MAX).map(|(field, reason)| Cause { field, reason }).collect();
        let details = (!causes.is_empty()).then_some(Details { causes });
        Self { code: error.code(), reason: Some(error.reason()), message, details }
    }
}
