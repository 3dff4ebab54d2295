//! `/livez`, `/readyz` and `/healthz`, as probes and `kubectl get --raw` ask for them.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::query::Query;

type Probe = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// One condition of readiness.
pub(crate) struct Check {
    name: &'static str,
    probe: Probe,
}

impl Check {
    pub(crate) fn new(name: &'static str, probe: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self { name, probe: Box::new(probe) }
    }
}

/// All conditions.
pub(crate) struct Health {
    checks: Vec<Check>,
}

impl Health {
    pub(crate) fn new(checks: Vec<Check>) -> Self {
        Self { checks }
    }

    /// `path` is `livez`, `readyz` or `healthz`; `one` names a single check. A live server is one that answers.
    pub(crate) fn answer(&self, path: &str, one: Option<&str>, query: &Query) -> Response {
        let excluded: Vec<&str> = query.all("exclude").collect();
        let always = [("ping", Ok(()))].into_iter();
        let registered = self.checks.iter().filter(|_| path != "livez").map(|check| (check.name, (check.probe)()));
        let mut results: Vec<(&str, Result<(), String>)> =
            always.chain(registered).filter(|(name, _)| !excluded.contains(name)).collect();
        if let Some(one) = one {
            results.retain(|(name, _)| *name == one);
            if results.is_empty() {
                return crate::error::Error::no_such_path().into_response();
            }
        }
        let healthy = results.iter().all(|(_, result)| result.is_ok());
        let status = if healthy { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
        let verbose = query.all("verbose").next().is_some();
        let text = if healthy && !verbose {
            "ok".to_owned()
        } else {
            let mut lines: Vec<String> = results
                .iter()
                .map(|(name, result)| match result {
                    Ok(()) => format!("[+]{name} ok\n"),
                    Err(why) => format!("[-]{name} failed: {why}\n"),
                })
                .collect();
            lines.push(format!("{path} check {}\n", if healthy { "passed" } else { "failed" }));
            lines.concat()
        };
        let mut response = (status, text).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    }
}
