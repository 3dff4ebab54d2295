//! Reading requests and writing answers of this module's routes.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use super::Accounts;
use crate::auth::Identity;
use crate::error::Error;
use crate::kind::{FieldError, FieldErrorReason};
use crate::server::State;

/// People, or 404 where the server has none.
pub(super) fn accounts(state: &State) -> Result<&Arc<Accounts>, Error> {
    state.accounts.as_ref().ok_or_else(Error::no_such_path)
}

/// What was sent. A body that cannot be read is told without its content, which may be a password.
pub(super) fn body<T>(body: Result<axum::Json<T>, JsonRejection>) -> Result<T, Error> {
    match body {
        Ok(axum::Json(body)) => Ok(body),
        Err(JsonRejection::MissingJsonContentType(_)) => Err(Error::unsupported_media_type(&["application/json"])),
        Err(JsonRejection::JsonDataError(_)) => Err(Error::bad_request("the body has not the fields of this request")),
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(Error::too_large("the body is too large"))
        }
        Err(_) => Err(Error::bad_request("the body is no JSON")),
    }
}

/// An answer that no cache keeps: there may be a secret in it.
pub(super) fn send(status: StatusCode, value: &impl Serialize) -> Response {
    let mut response = (status, axum::Json(value)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// 422 for one field of a request.
pub(super) fn invalid(what: &str, field: &str, message: impl Into<String>) -> Error {
    let cause = FieldError { field: field.into(), reason: FieldErrorReason::Invalid, message: message.into() };
    Error::invalid_kind("", what, "", &[cause])
}

/// Where a request came from.
pub(super) fn address(identity: &Identity) -> Option<IpAddr> {
    identity.origin.as_ref().and_then(|origin| origin.address)
}
