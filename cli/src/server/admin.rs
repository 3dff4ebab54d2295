//! The administrator's kubeconfig: made at the first start, kept as long as it works.

use std::path::Path;

use anyhow::Context;
use apiserver::auth::ADMINS;
use apiserver::store::{NewToken, Tokens};
use serde_json::{Value, json};

use crate::up::write_private;

/// Makes sure that `admin.kubeconfig` in the data folder opens this server.
pub(crate) async fn write_kubeconfig(data: &Path, url: &str, ca_pem: &str, tokens: &Tokens) -> anyhow::Result<()> {
    let file = data.join("admin.kubeconfig");
    let works = token_of(&file).filter(|token| tokens.find(token).is_some());
    let token = if let Some(token) = works {
        token
    } else {
        let new = NewToken {
            user: "admin".to_owned(),
            groups: vec![ADMINS.to_owned()],
            expires: None,
            description: "made for admin.kubeconfig".to_owned(),
            ..NewToken::default()
        };
        tokens.create(new).await.context("cannot make the administrator's token")?.0
    };
    let text = serde_saphyr::to_string(&kubeconfig(url, ca_pem, "admin", &json!({"token": token}), "default"))?;
    write_private(&file, text.as_bytes())
}

/// A kubeconfig with one server, one user (whose credential is `user`) and one context.
pub(crate) fn kubeconfig(url: &str, ca_pem: &str, name: &str, user: &Value, namespace: &str) -> Value {
    use base64::Engine;
    let ca = base64::engine::general_purpose::STANDARD.encode(ca_pem);
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "berth", "cluster": {"server": url, "certificate-authority-data": ca}}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "berth", "context": {"cluster": "berth", "user": name, "namespace": namespace}}],
        "current-context": "berth",
    })
}

/// The address of the server in the administrator's kubeconfig.
pub(crate) fn server_of(data: &Path) -> Option<String> {
    let text = std::fs::read_to_string(data.join("admin.kubeconfig")).ok()?;
    let config: Value = serde_saphyr::from_str(&text).ok()?;
    config.pointer("/clusters/0/cluster/server")?.as_str().map(str::to_owned)
}

fn token_of(file: &Path) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let config: Value = serde_saphyr::from_str(&text).ok()?;
    config.pointer("/users/0/user/token")?.as_str().map(str::to_owned)
}
