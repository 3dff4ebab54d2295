//! Reviews: who am I, may I, what may I, may they, whose token is this. Nothing is stored.

use axum::extract::Request;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use crate::auth::{Attributes, Identity, Rule, allows, bearer};
use crate::decode;
use crate::discovery::Resource;
use crate::error::Error;
use crate::kind::{DecodeProtobuf, FieldError, FieldErrorReason, Scope};
use crate::objects;
use crate::protobuf;
use crate::query::Query;
use crate::respond::Wish;
use crate::server::State;
use crate::service_accounts::AUDIENCE;

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// Which question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Review {
    /// `kubectl auth whoami`, under the version that the client knows.
    SelfSubject(&'static str),
    /// `kubectl auth can-i`
    SelfAccess,
    /// `kubectl auth can-i --list`
    SelfRules,
    /// May somebody else?
    Access,
    /// May somebody else, in a namespace? Asked by who may ask in that namespace only.
    LocalAccess,
    /// Whose token is this?
    Token,
}

/// All of them.
pub(crate) const ALL: [Review; 8] = [
    Review::SelfSubject("v1"),
    Review::SelfSubject("v1beta1"),
    Review::SelfSubject("v1alpha1"),
    Review::Token,
    Review::SelfAccess,
    Review::SelfRules,
    Review::Access,
    Review::LocalAccess,
];

impl Review {
    fn group(self) -> &'static str {
        match self {
            Self::SelfSubject(_) | Self::Token => AUTHENTICATION,
            _ => AUTHORIZATION,
        }
    }

    fn version(self) -> &'static str {
        if let Self::SelfSubject(version) = self { version } else { "v1" }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::SelfSubject(_) => "SelfSubjectReview",
            Self::SelfAccess => "SelfSubjectAccessReview",
            Self::SelfRules => "SelfSubjectRulesReview",
            Self::Access => "SubjectAccessReview",
            Self::LocalAccess => "LocalSubjectAccessReview",
            Self::Token => "TokenReview",
        }
    }

    fn plural(self) -> String {
        format!("{}s", self.kind().to_lowercase())
    }

    fn decoder(self) -> DecodeProtobuf {
        match self {
            Self::SelfSubject(_) => protobuf::self_subject_review,
            Self::SelfAccess => protobuf::self_subject_access_review,
            Self::SelfRules => protobuf::self_subject_rules_review,
            Self::Access | Self::LocalAccess => protobuf::subject_access_review,
            Self::Token => protobuf::token_review,
        }
    }

    /// Where it is asked; `{namespace}` for a namespace.
    pub(crate) fn path(self) -> String {
        let namespace = if self == Self::LocalAccess { "namespaces/{namespace}/" } else { "" };
        format!("/apis/{}/{}/{namespace}{}", self.group(), self.version(), self.plural())
    }

    fn invalid(self, field: &str, message: &str) -> Error {
        let cause = FieldError { field: field.into(), reason: FieldErrorReason::Invalid, message: message.into() };
        Error::invalid_kind(self.group(), self.kind(), "", &[cause])
    }
}

/// The rows of discovery.
pub(crate) fn rows() -> Vec<Resource> {
    let row = |review: Review| {
        let scope = if review == Review::LocalAccess { Scope::Namespaced } else { Scope::Cluster };
        Resource::review(review.group(), review.version(), review.kind(), &review.plural(), scope)
    };
    ALL.into_iter().map(row).collect()
}

/// POST of a review, in `namespace` if it is a local one.
pub(crate) async fn answer(
    state: &State,
    review: Review,
    namespace: Option<String>,
    request: Request,
) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let identity = parts.extensions.get::<Identity>().cloned().ok_or_else(Error::unauthorized)?;
    let namespace = namespace.unwrap_or_default();
    let wish = Wish::read(&parts.headers, &Query::parse(parts.uri.query()))?.plain();
    let body = objects::read(body).await?;
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let decoded = decode::decode(&body, content_type, Some(review.decoder()));
    // Who may not ask is told that, and not what is wrong with the question.
    let own_token =
        decoded.as_ref().is_ok_and(|question| review == Review::Token && is_own_token(&parts, &question.value));
    if !own_token {
        authorise(state, &identity, review, &namespace).await?;
    }
    let mut object = decoded?.value;
    let Value::Object(map) = &mut object else { return Err(Error::bad_request("the body is not an object")) };
    map.insert("apiVersion".into(), format!("{}/{}", review.group(), review.version()).into());
    map.insert("kind".into(), review.kind().into());
    let metadata = json!({"creationTimestamp": crate::admission::timestamp(state.clock.now())});
    map.insert("metadata".into(), metadata);
    let spec = map.get("spec").cloned().unwrap_or(Value::Null);
    let status = match review {
        Review::SelfSubject(_) => json!({"userInfo": user_info(&identity)}),
        Review::SelfAccess => access(state, &identity, &attributes(review, &spec)?).await,
        Review::SelfRules => {
            let Some(namespace) = spec["namespace"].as_str().filter(|namespace| !namespace.is_empty()) else {
                return Err(Error::bad_request("no namespace on request"));
            };
            let found = state.authorizer.rules(&identity, namespace).await;
            // What a scope cuts off cannot be said in rules.
            rules(&found, identity.scope.is_some())
        }
        Review::Access => access(state, &subject(review, &spec)?, &attributes(review, &spec)?).await,
        Review::LocalAccess => {
            let attributes = attributes(review, &spec)?;
            if attributes.is_path() || attributes.namespace != namespace {
                let message = format!("Invalid value: {:?}: must match metadata.namespace", attributes.namespace);
                return Err(review.invalid("spec.resourceAttributes.namespace", &message));
            }
            access(state, &subject(review, &spec)?, &attributes).await
        }
        Review::Token => token(state, &identity, &spec).await,
    };
    map.insert("status".into(), status);
    wish.send_value(StatusCode::CREATED, &object).await
}

async fn authorise(state: &State, identity: &Identity, review: Review, namespace: &str) -> Result<(), Error> {
    let attributes = Attributes {
        verb: "create".into(),
        group: review.group().into(),
        version: review.version().into(),
        resource: review.plural(),
        namespace: namespace.into(),
        ..Attributes::default()
    };
    if allows(&*state.authorizer, identity, &attributes).await {
        return Ok(());
    }
    Err(Error::forbidden(&attributes.group, &attributes.resource, "", &attributes.refusal(identity)))
}

/// Clients that ask for their user by a review of their own token (kr8s does) learn nothing they did not bring.
fn is_own_token(parts: &Parts, question: &Value) -> bool {
    let asked = question.pointer("/spec/token").and_then(Value::as_str);
    asked.is_some() && asked == bearer(&parts.headers).as_deref()
}

async fn access(state: &State, identity: &Identity, attributes: &Attributes) -> Value {
    if allows(&*state.authorizer, identity, attributes).await {
        json!({"allowed": true})
    } else {
        json!({"allowed": false, "reason": "no rule allows it"})
    }
}

fn user_info(identity: &Identity) -> Value {
    let mut info = json!({"username": identity.user, "groups": identity.groups});
    if !identity.uid.is_empty() {
        info["uid"] = identity.uid.as_str().into();
    }
    if !identity.extra.is_empty() {
        info["extra"] = json!(identity.extra);
    }
    info
}

/// Whom a question is about.
fn subject(review: Review, spec: &Value) -> Result<Identity, Error> {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
    let (user, groups) = (text("user"), texts(&spec["groups"]));
    if user.is_empty() && groups.is_empty() {
        return Err(review.invalid("spec.user", "Invalid value: \"\": at least one of user or group must be specified"));
    }
    let extra = spec["extra"].as_object().into_iter().flatten().map(|(key, values)| (key.clone(), texts(values)));
    Ok(Identity { user, groups, uid: text("uid"), extra: extra.collect(), ..Identity::default() })
}

/// Whose a token is, whoever of the authenticators knows.
async fn token(state: &State, caller: &Identity, spec: &Value) -> Value {
    let nobody = |error: &str| json!({"user": {}, "authenticated": false, "error": error});
    let Some(text) = spec["token"].as_str().filter(|text| !text.is_empty()) else { return nobody("no token was sent") };
    let wanted: Vec<&str> = spec["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if let Some(valid) = state.account_tokens.as_ref().and_then(|tokens| tokens.read(text)) {
        let common: Vec<&String> = valid
            .audiences
            .iter()
            .filter(|has| if wanted.is_empty() { *has == AUDIENCE } else { wanted.contains(&has.as_str()) })
            .collect();
        if common.is_empty() {
            return nobody("the token is for other audiences");
        }
        return json!({"user": user_info(&valid.identity), "authenticated": true, "audiences": common});
    }
    // All other tokens are for this API alone.
    if !wanted.is_empty() && !wanted.contains(&AUDIENCE) {
        return nobody("the token is for other audiences");
    }
    let (mut parts, ()) = http::Request::new(()).into_parts();
    let Ok(value) = HeaderValue::from_str(&format!("Bearer {text}")) else { return nobody("this is no token") };
    parts.headers.insert(header::AUTHORIZATION, value);
    for authenticator in &state.authenticators {
        if let Some(identity) = authenticator.authenticate(&parts).await {
            // Whoever asks would take it for good for all that its user may do: the answer has no place for less.
            if identity.scope.is_some() && identity.credential != caller.credential {
                return nobody("the token is good for a part of what its user may do, and for this API alone");
            }
            return json!({"user": user_info(&identity), "authenticated": true, "audiences": [AUDIENCE]});
        }
    }
    nobody("the token is not valid")
}

fn attributes(review: Review, spec: &Value) -> Result<Attributes, Error> {
    let text =
        |value: &Map<String, Value>, field: &str| value.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
    let given = |field: &str| spec.get(field).and_then(Value::as_object);
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
        (None, Some(of)) => Ok(Attributes::of_path(&text(of, "verb"), &text(of, "path"))),
        _ => Err(review.invalid(
            "spec.resourceAttributes",
            "Invalid value: exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
    }
}

fn rules(rules: &[Rule], incomplete: bool) -> Value {
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
    json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": incomplete})
}
