//! How an instance is probed, and how versions are exchanged.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Span;
use crate::invalid::Invalid;

/// How the agent finds out whether an instance can serve. It asks over the container's network: nothing needs to be
/// installed in the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Path of a GET that answers 200 to 399 when the instance is well. Without one, an open port is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^/[!-~]*$"))]
    pub path: Option<String>,
    /// Time between two probes.
    #[serde(default = "interval")]
    pub interval: Span,
    /// How long an answer may take.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// How many probes in a row must fail before the instance gets no more requests.
    #[serde(default = "failures")]
    #[schemars(range(min = 1, max = 100))]
    pub failures: i32,
    /// How long a new instance may take until its first good answer.
    #[serde(default = "grace")]
    pub grace: Span,
}

fn interval() -> Span {
    Span::seconds(5)
}

fn timeout() -> Span {
    Span::seconds(2)
}

fn failures() -> i32 {
    3
}

fn grace() -> Span {
    Span::seconds(30)
}

impl Default for Health {
    fn default() -> Self {
        Self { path: None, interval: interval(), timeout: timeout(), failures: failures(), grace: grace() }
    }
}

/// How the instances of one release give way to those of the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// How many instances there may be beyond the wanted number.
    #[serde(default = "max_surge")]
    #[schemars(range(min = 0, max = 100))]
    pub max_surge: i32,
    /// How many of the wanted number may be missing.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub max_unavailable: i32,
    /// How long requests in flight may take after an instance gets no new ones.
    #[serde(default = "drain")]
    pub drain: Span,
}

fn max_surge() -> i32 {
    1
}

fn drain() -> Span {
    Span::seconds(10)
}

impl Default for Rollout {
    fn default() -> Self {
        Self { max_surge: max_surge(), max_unavailable: 0, drain: drain() }
    }
}

/// What is wrong with a probe, if anything.
pub fn validate(health: &Health, field: &str) -> Vec<Invalid> {
    let mut wrong = Vec::new();
    let mut bound = |name: &str, span: Span, least: Span, most: Span| {
        if span < least || span > most {
            let allowed = format!("must be between {least} and {most}");
            wrong.push(Invalid::value(format!("{field}.{name}"), span.to_string(), allowed));
        }
    };
    bound("interval", health.interval, Span::seconds(1), Span::seconds(300));
    bound("timeout", health.timeout, Span::milliseconds(100), Span::seconds(60));
    bound("grace", health.grace, Span::seconds(1), Span::seconds(1800));
    if let Some(path) = &health.path
        && !(path.starts_with('/') && path.len() <= 1024 && path.bytes().all(|b| b.is_ascii_graphic()))
    {
        wrong.push(Invalid::value(format!("{field}.path"), path, "must be a path such as /healthz"));
    }
    wrong
}
