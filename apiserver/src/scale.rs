//! The `scale` subresource: an `autoscaling/v1 Scale` in front of two fields of an object.

use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::kind::{FieldError, FieldErrorReason, Kind, Scale};
use crate::objects::{self, Call};
use crate::respond::{self, Wish};
use crate::server::State;
use crate::write::{Proposal, Written, warn};

fn paths(kind: &Kind) -> Result<&Scale, Error> {
    kind.scale.as_ref().ok_or_else(Error::no_such_path)
}

/// `.spec.instances` as the steps `spec`, `instances`: the only paths that CRDs may give.
fn steps(path: &str) -> impl Iterator<Item = &str> {
    path.split('.').filter(|step| !step.is_empty())
}

fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    steps(path).try_fold(object, |value, step| value.get(step))
}

/// The `Scale` of an object.
pub(crate) fn of(kind: &Kind, object: &Value) -> Result<Value, Error> {
    let paths = paths(kind)?;
    let mut metadata = Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.get("metadata").and_then(|m| m.get(field)) {
            metadata.insert(field.into(), value.clone());
        }
    }
    let number = |path: &str| at(object, path).and_then(Value::as_i64).unwrap_or(0);
    let mut status = json!({"replicas": number(&paths.status_replicas_path)});
    if let Some(selector) = paths.label_selector_path.as_deref().and_then(|path| at(object, path)) {
        status["selector"] = selector.clone();
    }
    Ok(json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": number(&paths.spec_replicas_path)},
        "status": status,
    }))
}

/// The object with the count that `scale` asks for.
pub(crate) fn put(kind: &Kind, object: &Value, scale: &Value) -> Result<Proposal, Error> {
    let refuse = |message: String, reason| {
        let cause = FieldError { field: "spec.replicas".into(), reason, message };
        Error::invalid_kind("autoscaling", "Scale", crate::admission::text(object, "name"), &[cause])
    };
    if let Some(given) = scale.get("kind").and_then(Value::as_str)
        && given != "Scale"
        && !given.is_empty()
    {
        return Err(Error::bad_request(format!("the kind of the scale subresource is Scale, not {given}")));
    }
    let replicas = match scale.get("spec").and_then(|spec| spec.get("replicas")) {
        None | Some(Value::Null) => 0,
        Some(value) => value.as_i64().ok_or_else(|| {
            refuse(format!("Invalid value: {value}: must be an integer"), FieldErrorReason::TypeInvalid)
        })?,
    };
    if replicas < 0 {
        let message = format!("Invalid value: {replicas}: should be greater than or equal to 0");
        return Err(refuse(message, FieldErrorReason::Invalid));
    }
    let mut object = object.clone();
    let mut place = &mut object;
    for step in steps(&paths(kind)?.spec_replicas_path) {
        let Value::Object(map) = place else {
            return Err(Error::internal(format!("{step} of the scale path is not in an object")));
        };
        place = map.entry(step).or_insert_with(|| Value::Object(Map::new()));
    }
    *place = replicas.into();
    // The revision and uid that the caller saw are preconditions, as on the object itself. Who names no revision does not
    // mind what others have written meanwhile.
    for field in ["resourceVersion", "uid"] {
        let seen = scale.pointer(&format!("/metadata/{field}")).filter(|seen| seen.is_string());
        object["metadata"][field] = seen.cloned().unwrap_or(Value::Null);
    }
    Ok(Proposal::of(object))
}

/// What applying `scale` asks of the object: the count alone, if it has one.
pub(crate) fn configuration(kind: &Kind, address: Value, scale: &Value) -> Result<Value, Error> {
    match scale.pointer("/spec/replicas") {
        None | Some(Value::Null) => Ok(address),
        Some(_) => Ok(put(kind, &address, scale)?.object),
    }
}

/// GET.
pub(crate) async fn get(state: &State, call: &Call) -> Result<Response, Error> {
    let wish = call.wish()?.plain();
    let object = objects::find(state, &call.target)?;
    wish.send_value(StatusCode::OK, &of(&call.target.kind, &object.value())?).await
}

/// The scale of what was written.
pub(crate) async fn send(call: &Call, wish: Wish, written: Written) -> Result<Response, Error> {
    let scale = of(&call.target.kind, &respond::parse(&written.body)?)?;
    let mut response = wish.plain().send_value(written.status, &scale).await?;
    warn(&mut response, &written.warnings);
    Ok(response)
}
