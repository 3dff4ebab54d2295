//! Query parameters of the verbs. Pure; unknown parameters are ignored, as Kubernetes does.

mod page_token;

pub use page_token::PageToken;

use crate::error::Error;
use crate::kind::{FieldError, FieldErrorReason};

/// The decoded `name=value` pairs of a query, empty parts left out (`?&limit=5` and a bare `?` are sent by clients).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a URI's query part.
    pub fn parse(query: Option<&str>) -> Self {
        let pairs = query
            .unwrap_or("")
            .split('&')
            .filter(|part| !part.is_empty())
            .map(|part| part.split_once('=').unwrap_or((part, "")))
            .map(|(name, value)| (decode(name), decode(value)))
            .collect();
        Self(pairs)
    }

    /// The first value of a parameter, if it is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next().filter(|value| !value.is_empty())
    }

    /// Every value of a parameter.
    pub fn all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// A switch: `true`, `1` and the bare name are on, as Go's conversion has it.
    pub fn switch(&self, name: &str) -> bool {
        self.maybe_switch(name).unwrap_or(false)
    }

    /// A switch that may also be absent.
    pub fn maybe_switch(&self, name: &str) -> Option<bool> {
        self.all(name).next().map(|value| !matches!(value, "false" | "0" | "False" | "FALSE" | "f" | "F"))
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Error> {
        self.get(name)
            .map(|value| {
                value.parse().map_err(|_unsigned| {
                    Error::bad_request(format!(
                        "invalid value {value:?} of the parameter {name:?}: must be a number that is not negative"
                    ))
                })
            })
            .transpose()
    }
}

/// Percent and plus decoding; what is no valid escape stays as it stands, as browsers do.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|h| std::str::from_utf8(h).ok())
            .and_then(|h| u8::from_str_radix(h, 16).ok());
        match (hex, bytes[at]) {
            (Some(byte), _) => {
                out.push(byte);
                at += 2;
            }
            (None, b'+') => out.push(b' '),
            (None, byte) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// How unknown and duplicate fields are met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Dropped in silence.
    Ignore,
    /// Dropped, and said in `Warning` headers.
    #[default]
    Warn,
    /// Refused.
    Strict,
}

/// The parameters of create, replace and patch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Do everything but storing.
    pub dry_run: bool,
    /// What to do about fields that the schema does not know.
    pub field_validation: FieldValidation,
    /// Who writes, for field ownership.
    pub field_manager: Option<String>,
    /// Take fields over from other managers (server-side apply only).
    pub force: Option<bool>,
}

/// Which revision a list should show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// The newest.
    Latest,
    /// At least this one; waits for it.
    NotOlderThan(u64),
    /// Exactly this one, or 410.
    Exact(u64),
}

/// The parameters of list and watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListOptions {
    /// Unparsed label selector.
    pub label_selector: String,
    /// Unparsed field selector.
    pub field_selector: String,
    /// At most so many items; `None` means all.
    pub limit: Option<usize>,
    /// The token of the previous page.
    pub continue_token: Option<String>,
    /// `resourceVersion`; `None` when it was not given.
    pub resource_version: Option<u64>,
    /// `resourceVersionMatch` as given.
    pub resource_version_match: Option<String>,
    /// Watch instead of list.
    pub watch: bool,
    /// Send bookmarks.
    pub bookmarks: bool,
    /// `sendInitialEvents`.
    pub send_initial_events: Option<bool>,
    /// When to end the watch.
    pub timeout_seconds: Option<u64>,
}

fn refuse(kind: &str, field: &str, reason: FieldErrorReason, message: String) -> Error {
    Error::invalid_kind("meta.k8s.io", kind, "", &[FieldError { field: field.into(), reason, message }])
}

impl WriteOptions {
    /// `options_kind` is the name in error messages, for example `CreateOptions`.
    pub fn parse(query: &Query, options_kind: &str) -> Result<Self, Error> {
        let mut dry_run = false;
        for value in query.all("dryRun").filter(|v| !v.is_empty()) {
            check_dry_run(value, options_kind)?;
            dry_run = true;
        }
        let field_validation = match query.get("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                let message =
                    format!("Unsupported value: \"{other}\": supported values: \"Ignore\", \"Warn\", \"Strict\"");
                return Err(refuse(options_kind, "fieldValidation", FieldErrorReason::NotSupported, message));
            }
        };
        let field_manager = query.get("fieldManager").map(str::to_owned);
        if let Some(manager) = &field_manager {
            // 128 is Kubernetes' own limit: the name is copied into every object.
            if manager.chars().count() > 128 {
                let message = "Too long: may not be more than 128 bytes".to_owned();
                return Err(refuse(options_kind, "fieldManager", FieldErrorReason::TooLong, message));
            }
            if manager.chars().any(char::is_control) {
                let message = format!("Invalid value: {manager:?}: should only contain printable characters");
                return Err(refuse(options_kind, "fieldManager", FieldErrorReason::Invalid, message));
            }
        }
        Ok(Self { dry_run, field_validation, field_manager, force: query.maybe_switch("force") })
    }
}

/// 422 for any `dryRun` but `All`.
pub fn check_dry_run(value: &str, options_kind: &str) -> Result<(), Error> {
    if value == "All" {
        return Ok(());
    }
    let message = format!("Unsupported value: \"{value}\": supported values: \"All\"");
    Err(refuse(options_kind, "dryRun", FieldErrorReason::NotSupported, message))
}

/// A resource version as clients send it: empty and absent are the same.
pub fn resource_version(text: Option<&str>) -> Result<Option<u64>, Error> {
    match text {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_not_ours| {
            Error::bad_request(format!("invalid resource version {text:?}: must be a decimal number of this server"))
        }),
    }
}

impl ListOptions {
    /// Reads and cross-checks the parameters.
    pub fn parse(query: &Query) -> Result<Self, Error> {
        let limit = query.number("limit")?.filter(|limit| *limit > 0);
        let options = Self {
            label_selector: query.get("labelSelector").unwrap_or("").into(),
            field_selector: query.get("fieldSelector").unwrap_or("").into(),
            limit: limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            continue_token: query.get("continue").map(str::to_owned),
            resource_version: resource_version(query.get("resourceVersion"))?,
            resource_version_match: query.get("resourceVersionMatch").map(str::to_owned),
            watch: query.switch("watch"),
            bookmarks: query.switch("allowWatchBookmarks"),
            send_initial_events: query.maybe_switch("sendInitialEvents"),
            timeout_seconds: query.number("timeoutSeconds")?.filter(|s| *s > 0),
        };
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Result<(), Error> {
        let forbid = |field: &str, why: &str| {
            Err(refuse("ListOptions", field, FieldErrorReason::Forbidden, format!("Forbidden: {why}")))
        };
        if let Some(matching) = self.resource_version_match.as_deref() {
            if self.watch && self.send_initial_events.is_none() {
                return forbid(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                );
            }
            if !self.watch && self.resource_version.is_none() {
                return forbid(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                );
            }
            if self.continue_token.is_some() {
                return forbid("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided");
            }
            let allowed: &[&str] = if self.watch { &["NotOlderThan"] } else { &["Exact", "NotOlderThan"] };
            if !allowed.contains(&matching) {
                let allowed: Vec<String> = allowed.iter().map(|a| format!("\"{a}\"")).collect();
                let message = format!("Unsupported value: \"{matching}\": supported values: {}", allowed.join(", "));
                return Err(refuse("ListOptions", "resourceVersionMatch", FieldErrorReason::NotSupported, message));
            }
            if matching == "Exact" && self.resource_version == Some(0) {
                return forbid(
                    "resourceVersionMatch",
                    "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
                );
            }
        }
        if self.send_initial_events.is_some() {
            if !self.watch {
                return forbid("sendInitialEvents", "sendInitialEvents is forbidden for list");
            }
            if self.resource_version_match.is_none() {
                return forbid(
                    "resourceVersionMatch",
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                );
            }
        }
        if self.continue_token.is_some() && self.resource_version.is_some_and(|rv| rv > 0) {
            return Err(Error::bad_request("specifying resource version is not allowed when using continue"));
        }
        Ok(())
    }

    /// Which revision a list shows.
    pub fn freshness(&self) -> Freshness {
        match (self.resource_version, self.resource_version_match.as_deref()) {
            (None | Some(0), _) => Freshness::Latest,
            (Some(revision), Some("Exact")) => Freshness::Exact(revision),
            (Some(revision), None) if self.limit.is_some() => Freshness::Exact(revision),
            (Some(revision), _) => Freshness::NotOlderThan(revision),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_parts_and_escapes_are_read() {
        let query = Query::parse(Some("&labelSelector=a%3Db%2Cc&x&limit=5&pct=%zz"));
        assert_eq!(query.get("labelSelector"), Some("a=b,c"));
        assert!(query.switch("x"));
        assert_eq!(query.get("pct"), Some("%zz"));
        assert_eq!(ListOptions::parse(&query).unwrap().limit, Some(5));
    }

    #[test]
    fn combinations_that_mean_nothing_are_refused() {
        let code = |query: &str| ListOptions::parse(&Query::parse(Some(query))).map_err(|e| e.code()).err();
        assert_eq!(code("resourceVersionMatch=Exact"), Some(422));
        assert_eq!(code("resourceVersion=0&resourceVersionMatch=Exact"), Some(422));
        assert_eq!(code("resourceVersion=5&resourceVersionMatch=Sometimes"), Some(422));
        assert_eq!(code("sendInitialEvents=true&resourceVersionMatch=NotOlderThan"), Some(422));
        assert_eq!(code("watch=1&sendInitialEvents=true"), Some(422));
        assert_eq!(code("continue=abc&resourceVersion=4"), Some(400));
        assert_eq!(code("resourceVersion=abc"), Some(400));
        assert_eq!(code("limit=-1"), Some(400));
        assert_eq!(code("watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=0"), None);
    }

    #[test]
    fn the_revision_of_a_list_follows_kubernetes() {
        let freshness = |query: &str| ListOptions::parse(&Query::parse(Some(query))).unwrap().freshness();
        assert_eq!(freshness(""), Freshness::Latest);
        assert_eq!(freshness("resourceVersion=0&limit=500"), Freshness::Latest);
        assert_eq!(freshness("resourceVersion=7"), Freshness::NotOlderThan(7));
        assert_eq!(freshness("resourceVersion=7&limit=3"), Freshness::Exact(7));
        assert_eq!(
            freshness("resourceVersion=7&limit=3&resourceVersionMatch=NotOlderThan"),
            Freshness::NotOlderThan(7)
        );
    }
}
