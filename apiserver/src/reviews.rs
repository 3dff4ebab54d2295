//! Reviews: who am I, may I, what may I. Nothing is stored.

use axum::extract::Request;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use crate::auth::{Attributes, Identity, Rule};
use crate::decode;
use crate::discovery::Resource;
use crate::error::Error;
use crate::kind::{DecodeProtobuf, Scope};
use crate::objects;
use crate::protobuf;
use crate::query::Query;
use crate::respond::Wish;
use crate::server::State;

/// Which question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Review {
    /// `kubectl auth whoami`
    SelfSubject,
    /// `kubectl auth can-i`
    Access,
    /// `kubectl auth can-i --list`
    Rules,
}

impl Review {
    fn group(self) -> &'static str {
        match self {
            Self::SelfSubject => "authentication.k8s.io",
            Self::Access | Self::Rules => "authorization.k8s.io",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::SelfSubject => "SelfSubjectReview",
            Self::Access => "SelfSubjectAccessReview",
            Self::Rules => "SelfSubjectRulesReview",
        }
    }

    fn decoder(self) -> DecodeProtobuf {
        match self {
            Self::SelfSubject => protobuf::self_subject_review,
            Self::Access => protobuf::self_subject_access_review,
            Self::Rules => protobuf::self_subject_rules_review,
        }
    }
}

/// The rows of discovery.
pub(crate) fn rows() -> Vec<Resource> {
    [Review::SelfSubject, Review::Access, Review::Rules]
        .into_iter()
        .map(|review| Resource {
            group: review.group().into(),
            version: "v1".into(),
            kind: review.kind().into(),
            plural: format!("{}s", review.kind().to_lowercase()),
            singular: review.kind().to_lowercase(),
            scope: Scope::Cluster,
            verbs: vec!["create".into()],
            short_names: Vec::new(),
            categories: Vec::new(),
            subresources: Vec::new(),
        })
        .collect()
}

/// POST of a review. Everybody with a credential may ask about themselves.
pub(crate) async fn answer(state: &State, review: Review, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let identity = parts.extensions.get::<Identity>().cloned().ok_or_else(Error::unauthorized)?;
    let wish = Wish::read(&parts.headers, &Query::parse(parts.uri.query()))?.plain();
    let body = objects::read(body).await?;
    let content_type = parts.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let mut object = decode::decode(&body, content_type, Some(review.decoder()))?.value;
    let Value::Object(map) = &mut object else { return Err(Error::bad_request("the body is not an object")) };
    map.insert("apiVersion".into(), format!("{}/v1", review.group()).into());
    map.insert("kind".into(), review.kind().into());
    let metadata = json!({"creationTimestamp": crate::admission::timestamp(state.clock.now())});
    map.insert("metadata".into(), metadata);
    let status = match review {
        Review::SelfSubject => json!({"userInfo": {"username": identity.user, "groups": identity.groups}}),
        Review::Access => {
            let attributes = attributes(map.get("spec").unwrap_or(&Value::Null))?;
            let allowed = state.authorizer.allows(&identity, &attributes).await;
            if allowed { json!({"allowed": true}) } else { json!({"allowed": false, "reason": "no rule allows it"}) }
        }
        Review::Rules => {
            let namespace = map.get("spec").and_then(|spec| spec.get("namespace")).and_then(Value::as_str);
            let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) else {
                return Err(Error::bad_request("no namespace on request"));
            };
            rules(&state.authorizer.rules(&identity, namespace).await)
        }
    };
    map.insert("status".into(), status);
    wish.send_value(StatusCode::CREATED, &object).await
}

fn attributes(spec: &Value) -> Result<Attributes, Error> {
    let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
    let given = |field: &str| spec.get(field).filter(|value| value.is_object());
    match (given("resourceAttributes"), given("nonResourceAttributes")) {
        (Some(of), None) => Ok(Attributes {
            verb: text(of, "verb"),
            group: text(of, "group"),
            version: text(of, "version"),
            resource: text(of, "resource"),
            subresource: text(of, "subresource"),
            namespace: text(of, "namespace"),
            name: text(of, "name"),
            path: String::new(),
        }),
        (None, Some(of)) => Ok(Attributes { verb: text(of, "verb"), path: text(of, "path"), ..Attributes::default() }),
        _ => Err(Error::bad_request(
            "spec: exactly one of resourceAttributes or nonResourceAttributes must be specified",
        )),
    }
}

fn rules(rules: &[Rule]) -> Value {
    let (paths, resources): (Vec<&Rule>, Vec<&Rule>) = rules.iter().partition(|rule| !rule.paths.is_empty());
    let resources: Vec<Value> = resources
        .iter()
        .map(|rule| {
            let mut value = json!({"verbs": rule.verbs, "apiGroups": rule.groups, "resources": rule.resources});
            if !rule.names.is_empty() {
                value["resourceNames"] = json!(rule.names);
            }
            value
        })
        .collect();
    let paths: Vec<Value> =
        paths.iter().map(|rule| json!({"verbs": rule.verbs, "nonResourceURLs": rule.paths})).collect();
    json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false})
}
