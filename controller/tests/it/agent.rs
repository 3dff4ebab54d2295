//! An agent that pretends: what is placed on its node runs, unless its image is called `broken`; what is to go is gone;
//! what runs is routed; what is to be built is built.

use std::collections::BTreeMap;
use std::time::Duration;

use crds::{Application, Build, Instance};
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// How often it looks. It polls, so that no test depends on the watch being in order.
const LOOK: Duration = Duration::from_millis(5);

pub(crate) fn node_status() -> Value {
    json!({
        "capacity": { "cpu": "2", "memory": "4Gi", "disk": "40Gi" },
        "usage": { "cpu": "100m", "memory": "1Gi", "disk": "4Gi" },
        "docker": { "healthy": true },
        "ingress": { "healthy": true },
        "lastHeartbeat": controller::clock::Clock::system().now().to_string(),
    })
}

pub(crate) async fn run(client: Client, node: String, shutdown: CancellationToken) {
    while shutdown.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
        // What is changed by others meanwhile is seen again the next time.
        let _seen_again = look(&client, &node).await;
    }
}

async fn look(client: &Client, node: &str) -> Result<(), kube::Error> {
    let instances: Api<Instance> = Api::all(client.clone());
    let mut routed: BTreeMap<String, bool> = BTreeMap::new();
    for instance in instances.list(&ListParams::default()).await?.items {
        if instance.spec.node_name.as_deref() != Some(node) {
            continue;
        }
        let status = wanted(&instance);
        if status["routed"] == json!(true) {
            routed.insert(instance.spec.application.clone(), true);
        }
        let present = serde_json::to_value(&instance.status).unwrap_or_default();
        if ["phase", "ready", "routed"].iter().any(|field| present[field] != status[field]) {
            let api: Api<Instance> = Api::namespaced(client.clone(), &instance.namespace().unwrap_or_default());
            let patch = Patch::Merge(json!({ "status": status }));
            api.patch_status(&instance.name_any(), &PatchParams::default(), &patch).await?;
        }
    }
    let applications: Api<Application> = Api::default_namespaced(client.clone());
    for application in applications.list(&ListParams::default()).await?.items {
        let ready = routed.contains_key(&application.name_any());
        let host = controller::Settings { platform_domain: "apps.example.com".to_owned(), public_port: None }
            .host("default", &application.name_any());
        let route = json!({ "ready": ready, "hosts": if ready { vec![host] } else { vec![] } });
        let present = application.status.as_ref().and_then(|status| status.routes.get(node));
        if present.is_some_and(|route| route.ready) != ready {
            let patch = Patch::Merge(json!({ "status": { "routes": { node: route } } }));
            applications.patch_status(&application.name_any(), &PatchParams::default(), &patch).await?;
        }
    }
    let builds: Api<Build> = Api::default_namespaced(client.clone());
    for build in builds.list(&ListParams::default()).await?.items {
        let status = build.status.clone().unwrap_or_default();
        if status.phase.is_final() || status.node.as_deref() != Some(node) {
            continue;
        }
        let outcome = if build.spec.source.git.branch == "broken" {
            json!({ "phase": "Failed", "failure": {
                "reason": "CommandFailed", "message": "npm ended with 1", "hint": "see the log" } })
        } else {
            let sha = build.spec.commit.clone().unwrap_or_default();
            json!({ "phase": "Succeeded", "image": format!("berth/{}", build.name_any()), "digest": format!("sha256:{sha}"),
                "startCommand": "node server.js", "port": 3000 })
        };
        let patch = Patch::Merge(json!({ "status": outcome }));
        builds.patch_status(&build.name_any(), &PatchParams::default(), &patch).await?;
    }
    Ok(())
}

fn wanted(instance: &Instance) -> Value {
    if instance.metadata.deletion_timestamp.is_some() {
        return json!({ "phase": "Stopped", "ready": false, "routed": false });
    }
    if instance.spec.template.image.contains("broken") {
        return json!({ "phase": "Failed", "ready": false, "routed": false, "reason": "CrashLoop",
            "message": "it ended 3 times", "lastExit": { "code": 1, "log": "Error: no such module" } });
    }
    json!({ "phase": "Running", "ready": true, "routed": true })
}
