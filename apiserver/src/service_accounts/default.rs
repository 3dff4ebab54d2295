//! What every namespace has: the account `default`, and the certificate by which programs know this server.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::admission;
use crate::server::State;
use crate::store::{self, Key, KindId, Write};

const ACCOUNT: &str = "default";
const CERTIFICATE: &str = "kube-root-ca.crt";
/// After a failure (the database, usually) it looks again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Writes at a time, when a server starts that has thousands of namespaces without their account.
const TOGETHER_MAX: usize = 64;

/// The kinds involved.
#[derive(Clone, Copy)]
struct Tables {
    namespaces: KindId,
    accounts: KindId,
    config_maps: KindId,
}

/// Makes what is missing, until shutdown. Level-triggered: a change of a namespace or an account only wakes it.
pub(crate) async fn follow(state: &Arc<State>) {
    let id = |plural: &str| state.kinds.find("", "v1", plural).map(|(index, _)| state.kinds.store_id(index));
    let tables = match (id("namespaces"), id("serviceaccounts"), id("configmaps")) {
        (Some(namespaces), Some(accounts), Some(config_maps)) => Tables { namespaces, accounts, config_maps },
        _ => return,
    };
    loop {
        let revision = state.store.revision();
        let failed = match complete(state, tables).await {
            Ok(()) => false,
            Err(error) => {
                tracing::warn!(%error, "namespaces could not be given their accounts; it is tried again");
                true
            }
        };
        let changed = async {
            let watch = |kind| state.store.watch_across_namespaces(kind, revision);
            let watches = (watch(tables.namespaces), watch(tables.accounts));
            if let (Ok(mut namespaces), Ok(mut accounts)) = watches {
                tokio::select! {
                    _ = namespaces.next() => {}
                    _ = accounts.next() => {}
                }
            }
        };
        let pause = async {
            if failed {
                tokio::time::sleep(RETRY_AFTER).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = state.shutdown.cancelled() => return,
            () = changed => {}
            () = pause => {}
        }
    }
}

async fn complete(state: &State, tables: Tables) -> Result<(), store::Error> {
    let mut missing = Vec::new();
    for namespace in state.store.snapshot_across_namespaces(tables.namespaces).iter() {
        if namespace.meta.deletion_timestamp.is_some() {
            continue;
        }
        let mut wanted = vec![(Key::new(tables.accounts, &*namespace.name, ACCOUNT), "ServiceAccount", Value::Null)];
        if let Some(certificate) = &state.ca {
            let key = Key::new(tables.config_maps, &*namespace.name, CERTIFICATE);
            wanted.push((key, "ConfigMap", json!({"ca.crt": certificate})));
        }
        missing.extend(wanted.into_iter().filter(|(key, ..)| state.store.get(key).is_none()));
    }
    for together in missing.chunks(TOGETHER_MAX) {
        let writes = together.iter().map(|(key, kind, data)| make(state, key, kind, data));
        futures::future::try_join_all(writes).await?;
    }
    Ok(())
}

async fn make(state: &State, key: &Key, kind: &str, data: &Value) -> Result<(), store::Error> {
    let mut object = json!({
        "apiVersion": "v1", "kind": kind,
        "metadata": {
            "name": key.name, "namespace": key.namespace, "uid": uuid::Uuid::now_v7().to_string(),
            "creationTimestamp": admission::timestamp(state.clock.now()),
        },
    });
    if !data.is_null() {
        object["data"] = data.clone();
    }
    match state.store.write(Write::Create { key: key.clone(), body: object }).await {
        // If the namespace has gone meanwhile, garbage collection finds the stray.
        Ok(_) | Err(store::Error::Exists { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
