//! What a person does with an application. Each is a change of the resource and nothing else, and returns it.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use crds::{Application, DEPLOY_ANNOTATION, RESTART_ANNOTATION, Release};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Web;
use super::caller::{Caller, unseen};
use crate::gateway::error::Refused;

type At = Path<(String, String)>;
type Answer = Result<Json<Application>, Refused>;

/// Builds and rolls out anew, though nothing has changed.
pub(super) async fn deploy(State(web): State<Web>, caller: Caller, Path(at): At) -> Answer {
    let now = web.gateway.clock().now().to_string();
    change(&caller.0, &at, json!({ "metadata": { "annotations": { DEPLOY_ANNOTATION: now } } })).await
}

/// Replaces the instances by new ones of the same release, one after the other.
pub(super) async fn restart(State(web): State<Web>, caller: Caller, Path(at): At) -> Answer {
    let now = web.gateway.clock().now().to_string();
    change(&caller.0, &at, json!({ "metadata": { "annotations": { RESTART_ANNOTATION: now } } })).await
}

/// Takes it out of service; it is kept and not billed.
pub(super) async fn stop(caller: Caller, Path(at): At) -> Answer {
    change(&caller.0, &at, json!({ "spec": { "running": false } })).await
}

/// Puts it back into service.
pub(super) async fn start(caller: Caller, Path(at): At) -> Answer {
    change(&caller.0, &at, json!({ "spec": { "running": true } })).await
}

/// To which release, by name; `null` ends the stay on one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    release: Option<String>,
}

/// Goes back to an earlier release, and stays on it.
pub(super) async fn rollback(caller: Caller, Path(at): At, body: Result<Json<Rollback>, JsonRejection>) -> Answer {
    let Json(Rollback { release }) = body.map_err(|rejection| Refused::bad_request(rejection.body_text()))?;
    if let Some(name) = &release {
        let releases: Api<Release> = Api::namespaced(caller.0.clone(), &at.0);
        let theirs =
            releases.get_opt(name).await.map_err(unseen)?.is_some_and(|release| release.spec.application == at.1);
        if !theirs {
            return Err(Refused::not_found(format!("the application {} has no release {name:?}", at.1)));
        }
    }
    change(&caller.0, &at, json!({ "spec": { "release": release } })).await
}

/// To how many instances.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scale {
    instances: i32,
}

/// Changes how many instances run.
pub(super) async fn scale(caller: Caller, Path(at): At, body: Result<Json<Scale>, JsonRejection>) -> Answer {
    let Json(Scale { instances }) = body.map_err(|rejection| Refused::bad_request(rejection.body_text()))?;
    change(&caller.0, &at, json!({ "spec": { "instances": instances } })).await
}

async fn change(client: &Client, (namespace, name): &(String, String), patch: Value) -> Answer {
    let applications: Api<Application> = Api::namespaced(client.clone(), namespace);
    let parameters = PatchParams { field_manager: Some("berth".to_owned()), ..PatchParams::default() };
    match applications.patch(name, &parameters, &Patch::Merge(patch)).await {
        Ok(application) => Ok(Json(application)),
        Err(error) => {
            // Who may not even see it is not told that it is there.
            applications.get(name).await.map_err(unseen)?;
            Err(error.into())
        }
    }
}
