//! Carries out steps. Nothing is decided here: a step says all.

use http::header::CONTENT_TYPE;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Request;
use serde_json::Value;

use crate::error::Error;
use crate::hub::{Hub, Reacts};
use crate::step::{Object, Step, Target, of_noun};
use crate::world::Key;

/// Takes one step. `Emit` is left to the caller, who knows the object it is about.
pub(crate) async fn execute(hub: &Hub, step: &Step) -> Result<(), Error> {
    match step {
        Step::Create(Object::Build(object)) => create(hub, &**object).await,
        Step::Create(Object::Release(object)) => create(hub, &**object).await,
        Step::Create(Object::Instance(object)) => create(hub, &**object).await,
        Step::Patch { of, patch } => of_noun!(of.noun, K => merge::<K>(hub, of, None, patch.clone()).await),
        Step::PatchStatus { of, patch } => {
            let patch = serde_json::json!({ "status": patch });
            of_noun!(of.noun, K => merge::<K>(hub, of, Some("status"), patch).await)
        }
        Step::Delete(of) => of_noun!(of.noun, K => delete::<K>(hub, of).await),
        Step::Emit(_) => Ok(()),
    }
}

async fn create<K: Reacts>(hub: &Hub, object: &K) -> Result<(), Error> {
    let key = Key::of(object);
    let deed = || format!("create {} {key}", K::KIND);
    let epoch = K::cache(&hub.world).epoch();
    let body = serde_json::to_vec(object).map_err(|error| refused(deed(), kube::Error::SerdeError(error)))?;
    let request = Request::new(K::url_path(&(), key.namespace()))
        .create(&PostParams::default(), body)
        .map_err(|error| refused(deed(), kube::Error::BuildRequest(error)))?;
    match hub.client.request::<K>(request).await {
        Ok(created) => {
            hub.absorb(created, epoch);
            Ok(())
        }
        // Its name follows from what it is for, so it is the one that was wanted: an earlier run made it, and the
        // watch will tell.
        Err(kube::Error::Api(answer)) if answer.reason == "AlreadyExists" => Ok(()),
        Err(error) => Err(refused(deed(), error)),
    }
}

/// Applies a merge patch to an object or its subresource, if it is still in the state of `of`.
pub(crate) async fn merge<K: Reacts>(
    hub: &Hub,
    of: &Target,
    subresource: Option<&str>,
    mut patch: Value,
) -> Result<(), Error> {
    let deed = || format!("change {} {}", K::KIND, of.key);
    if let Some(version) = &of.resource_version {
        patch["metadata"]["resourceVersion"] = Value::String(version.clone());
    }
    // The same name may belong to another object by now.
    patch["metadata"]["uid"] = Value::String(of.uid.clone());
    let epoch = K::cache(&hub.world).epoch();
    let path = Request::new(K::url_path(&(), of.key.namespace()));
    let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
    let request = match subresource {
        Some(subresource) => path.patch_subresource(subresource, &of.key.name, &parameters, &patch),
        None => path.patch(&of.key.name, &parameters, &patch),
    };
    let request = request.map_err(|error| refused(deed(), kube::Error::BuildRequest(error)))?;
    debug_assert!(request.headers().contains_key(CONTENT_TYPE), "a patch says of which type it is");
    match hub.client.request::<K>(request).await {
        Ok(changed) => {
            hub.absorb(changed, epoch);
            Ok(())
        }
        Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => {
            Err(Error::Changed(format!("{} {}", K::KIND, of.key)))
        }
        Err(error) => Err(refused(deed(), error)),
    }
}

async fn delete<K: Reacts>(hub: &Hub, of: &Target) -> Result<(), Error> {
    let deed = || format!("delete {} {}", K::KIND, of.key);
    let parameters = DeleteParams {
        preconditions: Some(Preconditions { uid: Some(of.uid.clone()), resource_version: of.resource_version.clone() }),
        ..DeleteParams::background()
    };
    let epoch = K::cache(&hub.world).epoch();
    let request = Request::new(K::url_path(&(), of.key.namespace()))
        .delete(&of.key.name, &parameters)
        .map_err(|error| refused(deed(), kube::Error::BuildRequest(error)))?;
    match hub.client.request_status::<K>(request).await {
        Ok(answer) => {
            if let Some(changed) = answer.left() {
                hub.absorb(changed, epoch);
            }
            Ok(())
        }
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        Err(kube::Error::Api(answer)) if answer.code == 409 => Err(Error::Changed(format!("{} {}", K::KIND, of.key))),
        Err(error) => Err(refused(deed(), error)),
    }
}

fn refused(deed: String, answer: kube::Error) -> Error {
    Error::Refused { deed, answer }
}
