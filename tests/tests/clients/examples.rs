//! schemathesis: requests made from the OpenAPI documents, sensible ones and nonsense.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use e2e::{Database, Server, root, setting};
use serde_json::Value;
use tokio::process::Command;

/// The same requests at each run, so that a failure can be seen again.
const SEED: &str = "20261125";
const PATIENCE: Duration = Duration::from_secs(560);

/// Something of each kind that is not in `examples/kinds`, for requests that would else find nothing.
const OTHERS: &str = r#"
{apiVersion: v1, kind: Namespace, metadata: {name: example-namespace}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: example-configmap}, data: {a: b}}
---
{apiVersion: v1, kind: Secret, metadata: {name: example-secret}, stringData: {a: b}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: example-serviceaccount}}
---
{apiVersion: v1, kind: ResourceQuota, metadata: {name: example-resourcequota}, spec: {hard: {secrets: "1000"}}}
---
apiVersion: v1
kind: Event
metadata: {name: example-event}
involvedObject: {apiVersion: v1, kind: ConfigMap, name: example-configmap, namespace: default}
---
{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: example-lease}, spec: {holderIdentity: me}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: example-role}
rules: [{verbs: [get], apiGroups: [""], resources: [configmaps]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: example-rolebinding}
subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: ann}]
roleRef: {kind: Role, apiGroup: rbac.authorization.k8s.io, name: example-role}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: example-clusterrole}
rules: [{verbs: [get], apiGroups: [""], resources: [configmaps]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: example-clusterrolebinding}
subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: ann}]
roleRef: {kind: ClusterRole, apiGroup: rbac.authorization.k8s.io, name: example-clusterrole}
"#;

/// There are some two hundred operations: four requests for each take a minute on a slow machine.
#[tokio::test]
async fn no_request_made_from_the_openapi_makes_the_server_fail() -> anyhow::Result<()> {
    requests(Database::Sqlite, 4).await
}

/// The same way up to the store, so fewer of them.
#[tokio::test]
async fn nor_does_it_with_postgres() -> anyhow::Result<()> {
    requests(Database::Postgres, 2).await
}

async fn requests(database: Database, examples: usize) -> anyhow::Result<()> {
    let server = Server::start(database, &[]).await?;
    send(&server, examples).await.with_context(|| format!("--- server\n{}", server.log()))?;
    let log = server.log();
    ensure!(!log.contains("panicked"), "{log}");
    server.stop().await
}

/// Sends what is made of every document that the server has.
async fn send(server: &Server, examples: usize) -> anyhow::Result<()> {
    let kubectl = server.kubectl();
    kubectl.write("others.yaml", OTHERS)?;
    kubectl.run(&format!("apply -f {} -f others.yaml", root().join("examples/kinds").display())).await?;
    let index: Value = serde_json::from_str(&kubectl.run("get --raw /openapi/v3").await?)?;
    let documents: Vec<&String> = index["paths"].as_object().context("it is an index")?.keys().collect();
    ensure!(documents.iter().any(|name| *name == "apis/berth.dev/v1alpha1") && documents.len() > 5, "{documents:?}");
    for document in documents {
        let output = Command::new(PathBuf::from(setting("BERTH_PYTHON_CLIENTS")).join("bin/st"))
            .arg("run")
            .arg(server.url(&format!("/openapi/v3/{document}")))
            .args(["--header", &format!("Authorization: Bearer {}", server.token()?)])
            .args(["--tls-verify", "false"])
            .args(["--checks", "not_a_server_error"])
            .args(["--phases", "fuzzing"])
            .args(["--max-examples", &examples.to_string(), "--seed", SEED])
            .args(["--suppress-health-check", "all"])
            .args(["--request-timeout", "30"])
            .env("SCHEMATHESIS_HOOKS", "schemathesis_hooks")
            .env("PYTHONPATH", root().join("tests/clients/python"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("HOME", server.folder())
            .current_dir(server.folder())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE, output).await.context("schemathesis takes too long")??;
        let out = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("{document}: {}\n{out}{}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        // A run that tested nothing must not pass.
        ensure!(out.contains("Fuzzing") && out.contains(" passed"), "{document}: {out}");
    }
    Ok(())
}
