//! PATCH with `application/apply-patch+yaml`: server-side apply. What applying means is decided in [`crate::apply`].

use axum::response::Response;
use serde_json::{Value, json};

use crate::admission;
use crate::apply::{self, Refusal};
use crate::decode::{self, Decoded};
use crate::error::Error;
use crate::kind::{FieldError, FieldErrorReason, Kind};
use crate::objects::{self, Call};
use crate::ownership::{self, Owners};
use crate::path::Subresource;
use crate::query::{FieldValidation, WriteOptions};
use crate::scale;
use crate::server::State;
use crate::write::{self, Context, Proposal, Written};

/// The content type.
pub(crate) const MEDIA_TYPE: &str = "application/apply-patch+yaml";

/// How often an object may come and go between looking for it and writing it.
const ATTEMPTS_MAX: usize = 5;

/// Carries the request out.
pub(crate) async fn patch(state: &State, call: &Call, options: WriteOptions, body: &[u8]) -> Result<Response, Error> {
    let wish = call.wish()?;
    let target = &call.target;
    let kind = &target.kind;
    if options.field_manager.is_none() {
        let message = "Required value: is required for apply patch".to_owned();
        let cause = FieldError { field: "fieldManager".into(), reason: FieldErrorReason::Required, message };
        return Err(Error::invalid_kind("meta.k8s.io", "PatchOptions", "", &[cause]));
    }
    let force = options.force.unwrap_or(false);
    let context = Context { state, target, identity: &call.identity, options, reads_owners: true };
    let (configuration, problems) = configuration(&context, body)?;
    let api_version = kind.api_version();
    let writer = ownership::writer(&context, &api_version);
    let type_ = &state.types[target.index];
    let merge = |live: Option<&Value>, entries| {
        let applied = apply::apply(type_, live, entries, &configuration, &writer, force);
        let applied = applied.map_err(|refusal| refuse(kind, target.namespace(), target.name(), refusal))?;
        let mut object = applied.object;
        // What the caller has seen is a precondition, also where metadata cannot be written.
        for field in ["resourceVersion", "uid"] {
            if let Some(seen) = configuration.pointer(&format!("/metadata/{field}")).filter(|seen| seen.is_string()) {
                object["metadata"][field] = seen.clone();
            }
        }
        let owners = Owners::Decided(applied.managed_fields);
        Ok(Proposal { object, problems: problems.clone(), patch: None, owners })
    };
    let onto = |old: &Value| {
        let mut live = old.clone();
        let stored = apply::take(&mut live);
        merge(Some(&live), apply::entries(stored, None))
    };
    let mut attempts = ATTEMPTS_MAX;
    let written = loop {
        attempts -= 1;
        let missing = match write::change(&context, false, &onto).await {
            Err(error) if error.code() == 404 && target.subresource.is_none() => merge(None, Vec::new())?,
            result => break result?,
        };
        match create(&context, call, missing).await {
            Err(error) if error.reason() == "AlreadyExists" && attempts > 0 && !context.options.dry_run => {}
            result => break result?,
        }
    };
    if target.subresource == Some(Subresource::Scale) {
        return scale::send(call, wish, written).await;
    }
    write::send(state, call, wish, written).await
}

/// Applying what is not there makes it, for those who may.
async fn create(context: &Context<'_>, call: &Call, proposal: Proposal) -> Result<Written, Error> {
    objects::authorise(context.state, call, "create").await?;
    let Proposal { object, problems, owners, .. } = proposal;
    let uid = admission::text(&object, "uid");
    if !uid.is_empty() {
        let because =
            format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
        return Err(Error::conflict_because(&context.target.kind, context.target.name(), &because));
    }
    write::create_object(context, object, problems, &owners).await
}

/// Reads what is applied: fields that the schema knows, and complaints about the rest.
fn configuration(context: &Context<'_>, body: &[u8]) -> Result<(Value, Vec<String>), Error> {
    let (target, kind) = (context.target, &context.target.kind);
    let Decoded { mut value, problems } = read(body)?;
    if !problems.is_empty() && context.options.field_validation == FieldValidation::Strict {
        return Err(Error::bad_request(format!("error strict decoding YAML: {}", problems.join(", "))));
    }
    let is_scale = target.subresource == Some(Subresource::Scale);
    let api_version = kind.api_version();
    let (wanted_version, wanted_kind) =
        if is_scale { ("autoscaling/v1", "Scale") } else { (api_version.as_str(), kind.kind.as_str()) };
    let given = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or("");
    if (given("apiVersion"), given("kind")) != (wanted_version, wanted_kind) {
        let (group, version) = given("apiVersion").split_once('/').unwrap_or(("", given("apiVersion")));
        return Err(Error::bad_request(format!("invalid object type: {group}/{version}, Kind={}", given("kind"))));
    }
    if value.pointer("/metadata/managedFields").is_some_and(|fields| !fields.is_null()) {
        return Err(Error::bad_request("metadata.managedFields must be nil"));
    }
    apply::take(&mut value);
    admission::check_address(kind, target.namespace(), target.name.as_deref(), &mut value)?;
    if is_scale {
        let address = json!({"apiVersion": api_version, "kind": kind.kind, "metadata": value["metadata"]});
        return Ok((scale::configuration(kind, address, &value)?, problems));
    }
    let unknown = admission::shape_configuration(kind, &context.state.schemas[target.index], &mut value);
    if !unknown.is_empty() && context.options.field_validation == FieldValidation::Strict {
        let unknown = unknown.iter().map(|path| format!(".{path}: field not declared in schema")).collect();
        return Err(refuse(kind, target.namespace(), target.name(), Refusal::Impossible(unknown)));
    }
    let unknown = unknown.iter().map(|path| format!("unknown field \"{path}\""));
    Ok((value, problems.into_iter().chain(unknown).collect()))
}

/// The body is YAML, and nearly always JSON, which is read many times faster.
fn read(body: &[u8]) -> Result<Decoded, Error> {
    let json = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    let decoded = match decode::json(body) {
        Ok(decoded) if json => decoded,
        _ => decode::yaml(body).map_err(|error| Error::bad_request(format!("error decoding YAML: {error}")))?,
    };
    if decoded.value.is_object() {
        return Ok(decoded);
    }
    Err(Error::bad_request("error decoding YAML: the configuration must be an object"))
}

/// As Kubernetes words it. It answers 500 to what cannot be merged; here it is the caller's mistake.
fn refuse(kind: &Kind, namespace: &str, name: &str, refusal: Refusal) -> Error {
    match refusal {
        Refusal::Conflicts(conflicts) => Error::apply_conflict(&conflicts),
        Refusal::Impossible(problems) => {
            let problems = match problems.as_slice() {
                [one] => one.clone(),
                many => format!("errors:\n  {}", many.join("\n  ")),
            };
            let of = if namespace.is_empty() { format!("/{name}") } else { format!("{namespace}/{name}") };
            let type_ = format!("{}/{}, Kind={}", kind.group, kind.version, kind.kind);
            Error::bad_request(format!("failed to create typed patch object ({of}; {type_}): {problems}"))
        }
    }
}
