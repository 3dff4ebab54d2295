//! What goes wrong when somebody asks this half of the API, as the Kubernetes `Status` that clients know.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

/// A refusal, with the words that the asker gets.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    code: StatusCode,
    reason: &'static str,
    message: String,
    retry_after_seconds: Option<u32>,
}

impl Refused {
    /// 400: the request itself is wrong.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// 401: nobody knows who asks.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", message)
    }

    /// 403: who asks may not.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    /// 404: there is none, or none that the asker may see.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// 409: something stands in the way.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "Conflict", message)
    }

    /// 429: too many at once.
    pub fn too_many(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let refused = Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message);
        Self { retry_after_seconds: Some(retry_after_seconds), ..refused }
    }

    /// 503: not now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        let refused = Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message);
        Self { retry_after_seconds: Some(1), ..refused }
    }

    /// The answer's HTTP status.
    pub fn code(&self) -> StatusCode {
        self.code
    }

    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), retry_after_seconds: None }
    }
}

impl From<kube::Error> for Refused {
    /// What the API server refused is passed on; that it could not be asked is not the asker's business in detail.
    fn from(error: kube::Error) -> Self {
        if let kube::Error::Api(status) = &error
            && let Ok(code) = StatusCode::from_u16(status.code)
            && code.is_client_error()
        {
            let reason = match code {
                StatusCode::UNAUTHORIZED => "Unauthorized",
                StatusCode::FORBIDDEN => "Forbidden",
                StatusCode::NOT_FOUND => "NotFound",
                StatusCode::CONFLICT => "Conflict",
                StatusCode::UNPROCESSABLE_ENTITY => "Invalid",
                StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
                _ => "BadRequest",
            };
            return Self::new(code, reason, status.message.clone());
        }
        tracing::warn!(error = &error as &dyn std::error::Error, "the API server could not be asked");
        Self::unavailable("the API server cannot be asked just now")
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let details = self.retry_after_seconds.map(|seconds| json!({ "retryAfterSeconds": seconds }));
        let mut body = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code.as_u16(),
        });
        if let Some(details) = details {
            body["details"] = details;
        }
        let mut response = (self.code, Json(body)).into_response();
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
