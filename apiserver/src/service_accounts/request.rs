//! `POST …/serviceaccounts/{name}/token`: a `TokenRequest` of `authentication.k8s.io/v1`. Nothing is stored.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::AUDIENCE;
use super::token::{Bound, Claims, Reference};
use crate::auth::Identity;
use crate::error::Error;
use crate::kind::{FieldError, FieldErrorReason};
use crate::objects::{self, Call};
use crate::server::State;
use crate::store::Key;
use crate::{admission, audit, decode, protobuf};

const GROUP: &str = "authentication.k8s.io";
/// What who names no duration gets, as in Kubernetes.
const SECONDS_DEFAULT: i64 = 3600;
/// Kubernetes' shortest.
const SECONDS_MIN: i64 = 600;
/// Longer wishes are cut to a year: a pipeline that is looked after once a year must come by, and a token that was lost
/// does not work for ever.
const SECONDS_MAX: i64 = 365 * 24 * 3600;
/// Clocks of machines differ by some seconds.
const SKEW_SECONDS: i64 = 10;
/// Audiences of one token: each stands in every request's header.
const AUDIENCES_MAX: usize = 16;

fn invalid(name: &str, field: &str, reason: FieldErrorReason, message: impl Into<String>) -> Error {
    let cause = FieldError { field: field.into(), reason, message: message.into() };
    Error::invalid_kind(GROUP, "TokenRequest", name, &[cause])
}

/// Makes a token for the account that the call names.
pub(crate) async fn create(state: &State, call: &Call, body: Bytes) -> Result<Response, Error> {
    let wish = call.wish()?.plain();
    let tokens = state.account_tokens.as_ref().ok_or_else(Error::no_such_path)?;
    let account = objects::find(state, &call.target)?;
    let (namespace, name) = (call.target.namespace(), call.target.name());
    if account.meta.deletion_timestamp.is_some() {
        return Err(Error::conflict_because(&call.target.kind, name, "the account is being deleted"));
    }
    let mut request = if body.is_empty() {
        json!({})
    } else {
        decode::decode(&body, call.content_type(), Some(protobuf::token_request))?.value
    };
    let spec = request.get("spec").cloned().unwrap_or_else(|| json!({}));
    let audiences = audiences(name, &spec)?;
    let seconds = seconds(name, &spec)?;
    let secret = bound_secret(state, namespace, name, &spec)?;
    let now = state.clock.now();
    let expires = now + SignedDuration::from_secs(seconds);
    let bound_to = secret
        .as_ref()
        .map(|secret| json!({"kind": "Secret", "apiVersion": "v1", "name": secret.name, "uid": secret.uid}));
    let claims = Claims {
        aud: audiences.clone(),
        exp: expires.as_second(),
        iat: now.as_second(),
        iss: AUDIENCE.into(),
        jti: uuid::Uuid::new_v4().to_string(),
        nbf: now.as_second() - SKEW_SECONDS,
        sub: Identity::service_account(namespace, name, "").user,
        bound: Bound {
            namespace: namespace.into(),
            serviceaccount: Reference { name: name.into(), uid: (*account.uid).into() },
            secret,
        },
    };
    let token = tokens.issue(&claims).await?;
    audit::must_note(state, &call.target, &call.identity, "create", StatusCode::CREATED.as_u16()).await?;
    if let Value::Object(map) = &mut request {
        map.insert("apiVersion".into(), format!("{GROUP}/v1").into());
        map.insert("kind".into(), "TokenRequest".into());
        map.insert(
            "metadata".into(),
            json!({"name": name, "namespace": namespace, "creationTimestamp": admission::timestamp(now)}),
        );
        map.insert(
            "spec".into(),
            json!({"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": bound_to}),
        );
        map.insert("status".into(), json!({"token": token, "expirationTimestamp": time(expires)}));
    }
    wish.send_value(StatusCode::CREATED, &request).await
}

fn time(at: Timestamp) -> String {
    admission::timestamp(at)
}

fn audiences(name: &str, spec: &Value) -> Result<Vec<String>, Error> {
    let given: Vec<String> = spec["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|audience| audience.as_str().filter(|text| !text.is_empty()).map(str::to_owned))
        .collect();
    if given.len() > AUDIENCES_MAX {
        let message = format!("Too many: {}: must have at most {AUDIENCES_MAX} items", given.len());
        return Err(invalid(name, "spec.audiences", FieldErrorReason::TooMany, message));
    }
    Ok(if given.is_empty() { vec![AUDIENCE.to_owned()] } else { given })
}

fn seconds(name: &str, spec: &Value) -> Result<i64, Error> {
    let Some(wanted) = spec.get("expirationSeconds").filter(|value| !value.is_null()) else {
        return Ok(SECONDS_DEFAULT);
    };
    match wanted.as_i64() {
        Some(seconds) if seconds >= SECONDS_MIN => Ok(seconds.min(SECONDS_MAX)),
        _ => {
            let message = format!("Invalid value: {wanted}: may not specify a duration less than 10 minutes");
            Err(invalid(name, "spec.expirationSeconds", FieldErrorReason::Invalid, message))
        }
    }
}

/// The Secret that a token is bound to besides its account: when it goes, the token goes.
fn bound_secret(state: &State, namespace: &str, name: &str, spec: &Value) -> Result<Option<Reference>, Error> {
    let Some(wanted) = spec.get("boundObjectRef").filter(|reference| reference.is_object()) else { return Ok(None) };
    let text = |field: &str| wanted[field].as_str().unwrap_or_default();
    if text("kind") != "Secret" {
        let message = format!("Unsupported value: {:?}: supported values: \"Secret\"", text("kind"));
        return Err(invalid(name, "spec.boundObjectRef.kind", FieldErrorReason::NotSupported, message));
    }
    let Some((index, kind)) = state.kinds.find("", "v1", "secrets") else { return Err(Error::no_such_path()) };
    let key = Key::new(state.kinds.store_id(index), namespace, text("name"));
    let secret = state.store.get(&key).ok_or_else(|| Error::not_found(kind, text("name")))?;
    let uid = text("uid");
    if !uid.is_empty() && *secret.uid != *uid {
        let because =
            format!("the UID in the bound object reference ({uid}) does not match the UID in record ({})", secret.uid);
        return Err(Error::conflict_because(kind, text("name"), &because));
    }
    Ok(Some(Reference { name: text("name").into(), uid: (*secret.uid).into() }))
}
