//! The certificate authority that all servers of one database share: a Secret in the system's namespace, made once.
//!
//! The files in the data folder are what the rest of the server reads; here they are made the same everywhere. A server
//! that starts with an empty folder takes the Secret's; the first server of all gives its own.

use std::path::Path;

use anyhow::Context;
use apiserver::Kinds;
use apiserver::clock::Clock;
use apiserver::store::{Error, Key, Object, Store, Write};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::up::write_private;

/// The Secret's name in the system's namespace.
const SECRET: &str = "berth-authority";
/// The files of the authority and the keys of the Secret: the same names.
const CERTIFICATE: &str = "ca.crt";
const KEY: &str = "ca.key";

/// Makes the authority in `folder` the one that all servers of this store have.
pub(crate) async fn share(store: &Store, kinds: &Kinds, folder: &Path, clock: &Clock) -> anyhow::Result<()> {
    store.refresh().await.context("the database does not answer")?;
    let (secrets, _) = kinds.find("", "v1", "secrets").context("there are no Secrets")?;
    let key = Key::new(kinds.store_id(secrets), crds::SYSTEM_NAMESPACE, SECRET);
    if let Some(shared) = store.get(&key) {
        return take(&shared, folder);
    }
    // What it has already, agents and kubeconfigs rely on.
    apiserver::pki::load_or_create(folder, &[], clock).context("cannot make the certificate authority")?;
    let read = |name: &str| std::fs::read(folder.join(name)).map(|bytes| STANDARD.encode(bytes));
    let data = json!({CERTIFICATE: read(CERTIFICATE)?, KEY: read(KEY)?});
    apiserver::ensure_namespace(store, kinds, clock, crds::SYSTEM_NAMESPACE).await?;
    let metadata = json!({
        "name": SECRET,
        "namespace": crds::SYSTEM_NAMESPACE,
        "uid": uuid::Uuid::new_v4().to_string(),
        "creationTimestamp": clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    });
    let body = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "berth.dev/authority", "data": data,
    });
    match store.write(Write::Create { key, body }).await {
        Ok(_) => Ok(()),
        // Another server was faster.
        Err(Error::Exists { current }) => take(&current, folder),
        Err(error) => Err(error).context("cannot share the certificate authority"),
    }
}

/// Writes the shared authority to the folder, where another one may be.
fn take(shared: &Object, folder: &Path) -> anyhow::Result<()> {
    let secret: Value = shared.value();
    let field = |name: &str| {
        let text = secret.get("data").and_then(|data| data.get(name)).and_then(Value::as_str);
        let bytes = text.and_then(|text| STANDARD.decode(text).ok());
        bytes.with_context(|| format!("the Secret {}/{SECRET} has no {name}", crds::SYSTEM_NAMESPACE))
    };
    let (certificate, key) = (field(CERTIFICATE)?, field(KEY)?);
    if std::fs::read(folder.join(CERTIFICATE)).is_ok_and(|present| present == certificate) {
        return Ok(());
    }
    apiserver::file::make_folder(folder)?;
    // A certificate of another authority would be of no use.
    for name in ["server.crt", "server.key"] {
        match std::fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    write_private(&folder.join(KEY), &key)?;
    write_private(&folder.join(CERTIFICATE), &certificate)
}
