//! What a decision costs with many bindings: `cargo run --release -p apiserver --example rbac_bench`.

use std::hint::black_box;

use apiserver::auth::rbac::Rbac;
use apiserver::auth::{Attributes, Identity};
use apiserver::store::{Key, KindId, Settings, Store, Write};
use apiserver::{Kinds, core_kinds};
use serde_json::json;

/// Decisions that are timed.
const DECISIONS: u32 = 1_000_000;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "it prints what it measured")]
async fn main() -> anyhow::Result<()> {
    for projects in [10, 100, 1_000, 10_000] {
        let kinds = Kinds::new(core_kinds::all())?;
        let store = Store::open_in_memory(kinds.tables(), Settings::default()).await?;
        let table = |name: &str| store.kind(name).ok_or_else(|| anyhow::anyhow!("no table {name}"));
        let rules = json!([
            {"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["configmaps", "events", "namespaces"]},
            {"verbs": ["get", "list", "watch"], "apiGroups": ["berth.dev"], "resources": ["applications", "builds", "releases"]},
        ]);
        put(&store, table("core_clusterroles")?, "", "view", json!({"rules": rules})).await?;
        for project in 0..projects {
            for user in 0..3 {
                let body = json!({
                    "subjects": [{"kind": "User", "name": format!("user-{project}-{user}")}],
                    "roleRef": {"kind": "ClusterRole", "name": "view"},
                });
                put(&store, table("core_rolebindings")?, &format!("p{project}"), &format!("b{user}"), body).await?;
            }
        }
        let rbac = Rbac::new(store.clone(), &kinds).ok_or_else(|| anyhow::anyhow!("no kinds of roles"))?;
        let identity = Identity::new("user-5-1", ["customers".to_owned()]);
        let allowed = Attributes {
            verb: "list".into(),
            group: "berth.dev".into(),
            resource: "applications".into(),
            namespace: "p5".into(),
            ..Attributes::default()
        };
        let refused = Attributes { namespace: "p6".into(), ..allowed.clone() };
        let first = time(1, || rbac.decides(&identity, &allowed));
        println!(
            "{:>6} bindings: the first decision (which reads them) {first:>10.0} ns, allowed {:>5.0} ns, refused {:>5.0} ns",
            projects * 3,
            time(DECISIONS, || rbac.decides(&identity, &allowed)),
            time(DECISIONS, || rbac.decides(&identity, &refused)),
        );
    }
    Ok(())
}

async fn put(
    store: &Store,
    kind: KindId,
    namespace: &str,
    name: &str,
    mut body: serde_json::Value,
) -> anyhow::Result<()> {
    body["apiVersion"] = "rbac.authorization.k8s.io/v1".into();
    body["kind"] = "OneOfTwo".into();
    body["metadata"] = json!({"name": name, "uid": format!("{}-{namespace}-{name}", kind.0)});
    if !namespace.is_empty() {
        body["metadata"]["namespace"] = namespace.into();
    }
    store.write(Write::Create { key: Key::new(kind, namespace, name), body }).await?;
    Ok(())
}

/// Nanoseconds for each of `count` calls.
fn time(count: u32, call: impl Fn() -> bool) -> f64 {
    let started = tokio::time::Instant::now();
    for _ in 0..count {
        black_box(call());
    }
    started.elapsed().as_secs_f64() * 1e9 / f64::from(count)
}
