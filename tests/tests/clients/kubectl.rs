//! kubectl: a morning of somebody who runs a shop on Berth, with every verb there is something to do with.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, ensure};
use e2e::{Database, Server, Tool, root, until, within};
use tokio::io::{AsyncBufReadExt, BufReader};

/// An application that is switched off: nothing happens to it but what the story does.
const SHOP: &str = "apiVersion: berth.dev/v1alpha1
kind: Application
metadata: {name: shop, labels: {tier: front}}
spec:
  source: {image: {reference: 'example.test/shop:1'}}
  plan: small
  instances: 2
  running: false
  start: {port: 8080}
  env: [{name: COLOUR, value: green}]
";
const SETTINGS: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: settings, labels: {tier: front}}
data: {greeting: hello}
";

pub(crate) async fn story(database: Database) -> anyhow::Result<()> {
    let server = Server::start(database, &[]).await?;
    let kubectl = server.kubectl();
    let told = async {
        looks_around(&kubectl).await?;
        sets_up(&kubectl).await?;
        applies(&kubectl).await?;
        reads(&kubectl).await?;
        reads_services(&kubectl).await?;
        changes(&kubectl).await?;
        shares_fields(&kubectl).await?;
        waits_and_watches(&kubectl).await?;
        prunes(&kubectl).await?;
        is_somebody(&kubectl).await?;
        asks_for_what_is_not_there(&kubectl).await?;
        cleans_up(&kubectl).await
    };
    told.await.with_context(|| format!("--- server\n{}", server.log()))?;
    assert!(!server.log().contains("panicked"), "{}", server.log());
    server.stop().await
}

async fn looks_around(kubectl: &Tool) -> anyhow::Result<()> {
    kubectl.says("version", &["Server Version: v1.35.0+berth"]).await?;
    kubectl.prints("get --raw /readyz", "ok").await?;
    kubectl.says("api-versions", &["berth.dev/v1alpha1", "coordination.k8s.io/v1", "v1"]).await?;
    let kinds =
        ["applications app berth.dev/v1alpha1 true Application", "runtimes rt berth.dev/v1alpha1 false Runtime"];
    kubectl.says("api-resources", &kinds).await?;
    let named = kubectl.run("api-resources --categories=berth -o name").await?;
    let expected = ["applications", "builds", "instances", "nodes", "plans", "releases", "runtimes", "users"];
    ensure!(named == expected.map(|kind| format!("{kind}.berth.dev\n")).concat(), "{named}");
    kubectl.says("explain app", &["KIND: Application", "spec <Object> -required-"]).await?;
    kubectl.says("explain application.spec.env", &["FIELD: env <[]Object>", "Its environment variables."]).await?;
    let inside =
        ["rollout <Object>", "maxSurge <integer>", "secretKeyRef <Object> -required-", "conditions <[]Object>"];
    kubectl.says("explain applications --recursive", &inside).await?;
    let price = ["pricePerHour <string>", "currency <string>"];
    kubectl.says("explain plan.spec --recursive --output=plaintext-openapiv2", &price).await
}

async fn sets_up(kubectl: &Tool) -> anyhow::Result<()> {
    kubectl.prints("create namespace story", "namespace/story created").await?;
    kubectl.run("config set-context --current --namespace=story").await?;
    // What a new installation starts with.
    let manifests = root().join("manifests");
    kubectl.says(&format!("create -f {}", manifests.display()), &["plan.berth.dev/small created"]).await?;
    kubectl.says(&format!("apply -f {}", manifests.display()), &["plan.berth.dev/small configured"]).await?;
    kubectl.says("get plans", &["NAME", "small"]).await?;
    kubectl.says("get rt -o name", &["runtime.berth.dev/nodejs-20"]).await?;
    kubectl.run("create secret generic payment --from-literal=key=s3cret").await?;
    kubectl.prints("get secret payment -o jsonpath={.data.key}", "czNjcmV0").await?;
    let dry = "create secret generic other --from-literal=a=b --dry-run=server -o jsonpath={.data.a}";
    kubectl.prints(dry, "Yg==").await?;
    kubectl.refuses("get secret other", &["(NotFound)"]).await
}

async fn applies(kubectl: &Tool) -> anyhow::Result<()> {
    kubectl.write("shop.yaml", SHOP)?;
    kubectl.prints("create -f shop.yaml --dry-run=server -o jsonpath={.spec.rollout.maxSurge}", "1").await?;
    kubectl.refuses("get app shop", &[r#"applications.berth.dev "shop" not found"#]).await?;
    kubectl.prints("apply -f shop.yaml", "application.berth.dev/shop created").await?;
    kubectl.prints("apply -f shop.yaml", "application.berth.dev/shop unchanged").await?;
    let changed = SHOP.replace("instances: 2", "instances: 4");
    kubectl.write("changed.yaml", &changed)?;
    let differs = kubectl.output(&["diff", "-f", "changed.yaml"], "").await?;
    let text = String::from_utf8_lossy(&differs.stdout);
    ensure!(differs.status.code() == Some(1), "{differs:?}");
    ensure!(text.contains("-  instances: 2") && text.contains("+  instances: 4"), "{text}");
    kubectl
        .prints("apply -f changed.yaml --dry-run=server", "application.berth.dev/shop configured (server dry run)")
        .await?;
    kubectl.prints("get app shop -o jsonpath={.spec.instances}", "2").await?;
    kubectl.prints("apply -f changed.yaml", "application.berth.dev/shop configured").await?;
    kubectl.prints("diff -f changed.yaml", "").await?;
    kubectl.says("apply view-last-applied app/shop", &["instances: 4"]).await?;
    for (mistake, named) in [
        (changed.replace("instances: 4", "instances: -1"), "spec.instances: Invalid value: -1"),
        (changed.replace("instances: 4", "instance: 4"), r#"unknown field "spec.instance""#),
        (changed.replace("name: shop,", "name: sh.op,"), "the name of an application must be 1 to 40 of a-z"),
        (
            changed.replace("start:", "rollout: {maxSurge: 0}\n  start:"),
            "maxSurge and maxUnavailable must not both be 0",
        ),
    ] {
        kubectl.write("mistake.yaml", &mistake)?;
        kubectl.refuses("apply -f mistake.yaml", &[named]).await?;
    }
    Ok(())
}

async fn reads(kubectl: &Tool) -> anyhow::Result<()> {
    kubectl.says("get berth", &["application.berth.dev/shop", "plan.berth.dev/small"]).await?;
    kubectl.says("get all", &["application.berth.dev/shop", "service/shop ClusterIP None <none> 8080/TCP"]).await?;
    kubectl
        .says("get app -A --show-labels", &["NAMESPACE NAME READY STATUS INSTANCES OF", "story shop", "tier=front"])
        .await?;
    kubectl.says("get app -o wide", &["URL PLAN RUNTIME BUILD AGE", "small"]).await?;
    kubectl.says("get app shop -o yaml", &["instances: 4", "drain: 10s", "uid: "]).await?;
    kubectl.prints("get app -l tier=front -o name", "application.berth.dev/shop").await?;
    kubectl.prints("get app --field-selector spec.plan=large -o name", "").await?;
    kubectl.prints("get app -o custom-columns=A:.spec.plan --no-headers", "small").await?;
    kubectl.says("get app shop --show-managed-fields -o yaml", &["manager: kubectl-client-side-apply"]).await?;
    let stopped =
        "wait app/shop --for=jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}=Stopped --timeout=60s";
    kubectl.says(stopped, &["condition met"]).await?;
    // Events are written behind the status that they tell of.
    until("the events", within(60), async || {
        kubectl.says("events --for app/shop", &["Stopped Application/shop"]).await?;
        kubectl.says("get events", &["application/shop"]).await?;
        kubectl.says("describe app shop", &["Kind: Application", "Max Surge: 1", "berth.dev/controller"]).await
    })
    .await
}

/// The Services that its Applications are.
async fn reads_services(kubectl: &Tool) -> anyhow::Result<()> {
    kubectl.says("api-resources --categories=all", &["services svc v1 true Service"]).await?;
    let row = "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE SELECTOR shop ClusterIP None <none> 8080/TCP";
    kubectl.says("get svc -o wide", &[row, "berth.dev/application=shop"]).await?;
    kubectl.prints("get svc -A -l tier=front -o name", "service/shop").await?;
    kubectl.prints("get svc --field-selector spec.type=LoadBalancer -o name", "").await?;
    let described = ["Selector: berth.dev/application=shop", "Type: ClusterIP", "IP: None", "Port: http 8080/TCP"];
    kubectl.says("describe svc shop", &described).await?;
    kubectl.says("explain svc", &["KIND: Service"]).await?;
    // It looks for the addresses of a cluster's own services before it prints that of the API.
    kubectl.says("cluster-info", &["Kubernetes control plane", "is running at"]).await?;
    let elsewhere = "change applications.berth.dev instead";
    for line in ["delete svc shop", "label svc shop a=b", "create service clusterip other --tcp=80"] {
        kubectl.refuses(line, &[elsewhere]).await?;
    }
    kubectl.prints("get app shop -o name", "application.berth.dev/shop").await
}

async fn changes(kubectl: &Tool) -> anyhow::Result<()> {
    kubectl.write("editor", "#!/usr/bin/env -S sed -i -f\ns/instances: 4/instances: 5/\n")?;
    let editor = kubectl.folder().join("editor");
    std::fs::set_permissions(editor, std::fs::Permissions::from_mode(0o755))?;
    kubectl.prints("edit app shop", "application.berth.dev/shop edited").await?;
    kubectl.prints("get app shop -o jsonpath={.spec.instances}", "5").await?;
    kubectl.prints("scale app shop --current-replicas=5 --replicas=6", "application.berth.dev/shop scaled").await?;
    kubectl.refuses("scale app shop --current-replicas=5 --replicas=1", &["Expected replicas to be 5, was 6"]).await?;
    kubectl.prints("label app shop team=red", "application.berth.dev/shop labeled").await?;
    kubectl.refuses("label app shop team=blue", &["already has a value"]).await?;
    kubectl.prints("label app shop team-", "application.berth.dev/shop unlabeled").await?;
    kubectl.prints("annotate app shop note=read", "application.berth.dev/shop annotated").await?;
    kubectl.run(r#"patch app shop --type=merge -p {"spec":{"plan":"medium"}}"#).await?;
    kubectl.run(r#"patch app shop --type=json -p [{"op":"test","path":"/spec/plan","value":"medium"},{"op":"replace","path":"/spec/env/0/value","value":"red"}]"#).await?;
    let strategic = r#"patch app shop -p {"spec":{"plan":"small"}}"#;
    kubectl.refuses(strategic, &["strategic-merge-patch+json is not supported", "merge-patch+json"]).await?;
    kubectl.run(r#"patch secret payment -p {"stringData":{"more":"x"}}"#).await?;
    kubectl.run("patch app shop --subresource=status --type=merge -p {\"status\":{\"restarts\":7}}").await?;
    let shown =
        "get app shop -o jsonpath={.spec.instances}{.spec.plan}{.spec.env[0].value}{.metadata.annotations.note}";
    kubectl.prints(shown, "6mediumredread").await?;
    settles(kubectl).await?;
    kubectl.prints("replace -f shop.yaml", "application.berth.dev/shop replaced").await?;
    kubectl.prints(shown, "2smallgreen").await
}

/// Waits until the controller has said what it says of the application: commands that read and then write or compare would
/// find its answer between the two.
async fn settles(kubectl: &Tool) -> anyhow::Result<()> {
    until("the controller has seen the application", within(60), async || {
        let shown = "get app shop -o jsonpath={.metadata.generation}/{.status.observedGeneration}/{.status.restarts}";
        let shown = kubectl.run(shown).await?;
        let parts: Vec<&str> = shown.split('/').collect();
        ensure!(parts.len() == 3 && parts[0] == parts[1] && parts[2] != "7", "{shown}");
        Ok(())
    })
    .await
}

/// Server-side apply, after the same object was applied by the client.
async fn shares_fields(kubectl: &Tool) -> anyhow::Result<()> {
    // One that nobody else has changed.
    kubectl.run("delete app shop --timeout=60s").await?;
    kubectl.run("apply -f shop.yaml").await?;
    kubectl.prints("apply --server-side -f shop.yaml", "application.berth.dev/shop serverside-applied").await?;
    kubectl.write("three.yaml", &SHOP.replace("instances: 2", "instances: 3"))?;
    let conflict = [r#"conflict with "kubectl""#, ".spec.instances"];
    kubectl.refuses("apply --server-side --field-manager=pipeline -f three.yaml", &conflict).await?;
    kubectl.prints("get app shop -o jsonpath={.spec.instances}", "2").await?;
    kubectl.run("apply --server-side --field-manager=pipeline --force-conflicts -f three.yaml").await?;
    let owner = "get app shop --show-managed-fields -o jsonpath={.metadata.managedFields[?(@.manager==\"pipeline\")].operation}";
    kubectl.prints(owner, "Apply").await?;
    kubectl.refuses("apply --server-side -f shop.yaml", &[r#"conflict with "pipeline""#]).await?;
    settles(kubectl).await?;
    kubectl.prints("diff --server-side --field-manager=pipeline -f three.yaml", "").await?;
    // A field that its only owner applies no longer is gone.
    kubectl.run("apply --server-side --force-conflicts -f three.yaml").await?;
    kubectl.write("plain.yaml", &SHOP.replace("  env: [{name: COLOUR, value: green}]\n", ""))?;
    kubectl.run("apply --server-side --field-manager=pipeline --force-conflicts -f plain.yaml").await?;
    kubectl.prints("get app shop -o jsonpath={.spec.env[*].name}", "COLOUR").await?;
    kubectl.run("apply --server-side -f plain.yaml").await?;
    kubectl.prints("get app shop -o jsonpath={.spec.env[*].name}", "").await
}

async fn waits_and_watches(kubectl: &Tool) -> anyhow::Result<()> {
    let mut watch =
        kubectl.command(["get", "app", "-w", "-o", "custom-columns=N:.metadata.name,I:.spec.instances"]).spawn()?;
    let mut lines = BufReader::new(watch.stdout.take().context("kubectl writes")?).lines();
    let mut sees = async |wanted: &str| -> anyhow::Result<()> {
        let found = async {
            while let Some(line) = lines.next_line().await? {
                if line.split_whitespace().collect::<Vec<_>>().join(" ") == wanted {
                    return Ok(());
                }
            }
            anyhow::bail!("the watch ended")
        };
        tokio::time::timeout(within(60), found).await.with_context(|| format!("the watch does not show {wanted}"))?
    };
    sees("shop 2").await?;
    let nine = kubectl.run("wait app/shop --for=jsonpath={.spec.instances}=9 --timeout=60s");
    let (waited, scaled) = tokio::join!(nine, kubectl.run("scale app shop --replicas=9"));
    scaled?;
    ensure!(waited?.contains("condition met"));
    sees("shop 9").await?;
    // A plan stays while an application uses it, and goes with the last.
    kubectl.says("delete plan small --wait=false", &["deleted"]).await?;
    kubectl.prints("get plan small -o jsonpath={.metadata.finalizers[*]}", "berth.dev/in-use").await?;
    kubectl.refuses("wait plan/small --for=delete --timeout=1s", &["timed out"]).await?;
    let gone = kubectl.run("wait plan/small --for=delete --timeout=60s");
    let (waited, deleted) = tokio::join!(gone, kubectl.run("delete app shop --timeout=60s"));
    deleted?;
    // It says nothing of a plan that was gone before it looked.
    let waited = waited?;
    ensure!(waited.is_empty() || waited.contains("condition met"), "{waited}");
    kubectl.refuses("get plan small", &["(NotFound)"]).await?;
    Ok(watch.kill().await?)
}

/// What was in the folder and is no longer goes away, by a label or by a set that remembers its members.
async fn prunes(kubectl: &Tool) -> anyhow::Result<()> {
    kubectl.write("set/shop.yaml", SHOP)?;
    kubectl.write("set/settings.yaml", SETTINGS)?;
    let settings = kubectl.folder().join("set/settings.yaml");
    let by_label = "apply -f set --prune -l tier=front --prune-allowlist=berth.dev/v1alpha1/Application \
        --prune-allowlist=core/v1/ConfigMap";
    kubectl.says(by_label, &["shop created", "settings created"]).await?;
    std::fs::remove_file(&settings)?;
    kubectl.says(by_label, &["shop unchanged", "configmap/settings pruned"]).await?;
    kubectl.run("delete -f set --timeout=60s").await?;

    let set = ["apply", "-n", "story", "-f", "set", "--prune", "--applyset=members"];
    kubectl.write("set/settings.yaml", SETTINGS)?;
    for (remaining, said) in [(true, "configmap/settings created"), (false, "configmap/settings pruned")] {
        if !remaining {
            std::fs::remove_file(&settings)?;
        }
        let applied = kubectl.command(set).env("KUBECTL_APPLYSET", "true").output().await?;
        let text = String::from_utf8_lossy(&applied.stdout);
        ensure!(applied.status.success() && text.contains(said), "{applied:?}");
    }
    kubectl.prints("get app,configmap -l tier=front -o name", "application.berth.dev/shop").await
}

async fn is_somebody(kubectl: &Tool) -> anyhow::Result<()> {
    kubectl.says("auth whoami", &["Username admin", "system:masters"]).await?;
    kubectl.prints("auth can-i delete app", "yes").await?;
    kubectl.says("auth can-i --list", &["*.* [] [] [*]"]).await?;
    kubectl.run("create rolebinding ann --clusterrole=edit --user=ann").await?;
    kubectl.prints("auth can-i create applications --as ann", "yes").await?;
    kubectl.refuses("auth can-i delete plans --as ann", &["no"]).await?;
    kubectl
        .refuses("delete plan medium --as ann", &["(Forbidden)", r#"User "ann" cannot delete resource "plans""#])
        .await?;
    kubectl.prints("create serviceaccount robot", "serviceaccount/robot created").await?;
    let token = kubectl.run("create token robot --duration=10m").await?;
    let robot = "system:serviceaccount:story:robot";
    kubectl.says(&format!("auth whoami --token={}", token.trim()), &[robot]).await?;
    kubectl.refuses(&format!("get app --token={}", token.trim()), &["(Forbidden)", robot]).await?;
    kubectl.refuses("get app --token=wrong", &["Unauthorized"]).await
}

async fn asks_for_what_is_not_there(kubectl: &Tool) -> anyhow::Result<()> {
    let missing = r#"pods "shop-0" not found"#;
    for line in ["logs shop-0", "exec shop-0 -- ls", "attach shop-0", "port-forward shop-0 8080", "delete pod shop-0"] {
        kubectl.refuses(line, &[missing]).await?;
    }
    kubectl.refuses("get deployments", &[r#"the server doesn't have a resource type "deployments""#]).await?;
    kubectl.refuses("run web --image=example.test/web", &["change instances.berth.dev instead"]).await?;
    kubectl.refuses("delete namespace berth-system", &["this namespace may not be deleted"]).await?;
    kubectl.refuses("create -n nowhere -f shop.yaml", &[r#"namespaces "nowhere" not found"#]).await
}

async fn cleans_up(kubectl: &Tool) -> anyhow::Result<()> {
    kubectl.says("delete app shop --dry-run=server", &["(server dry run)"]).await?;
    kubectl.prints("get app -o name", "application.berth.dev/shop").await?;
    let undeletable = ["services are a view of applications.berth.dev, which does not support delete"];
    kubectl.refuses("delete all --all --timeout=60s", &undeletable).await?;
    // What was refused ends the command, which then waits for nothing of the rest.
    kubectl.run("wait app/shop --for=delete --timeout=60s").await?;
    kubectl.prints("get app -o name", "").await?;
    kubectl.says("delete namespace story --timeout=60s", &[r#"namespace "story" deleted"#]).await?;
    kubectl.refuses("get namespace story", &["(NotFound)"]).await?;
    kubectl.prints("get app -A -o name", "").await
}
