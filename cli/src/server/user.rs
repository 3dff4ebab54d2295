//! `berth user certificate`: a kubeconfig for somebody, made where the authority's key is.

use anyhow::Context;
use apiserver::clock::Clock;
use apiserver::pki::client;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::admin;
use crate::args::Certificate;
use crate::failure::{Exit, fail};
use crate::print;
use crate::up::write_private;

/// Makes the certificate. What its user may do is said by bindings, before or after.
pub(crate) fn certificate(options: &Certificate) -> anyhow::Result<()> {
    let Certificate { name, group, days, data, server, namespace, out } = options;
    let pki = data.join("pki");
    let ca_pem = std::fs::read_to_string(pki.join("ca.crt"))
        .with_context(|| format!("{} is no folder of a berth server that you may read", data.display()))?;
    let url = match server {
        Some(url) => url.as_str().trim_end_matches('/').to_owned(),
        None => admin::server_of(data).ok_or_else(|| {
            fail(Exit::Usage, format!("{} has no admin.kubeconfig: name the server with --server", data.display()))
        })?,
    };
    let issued = client::issue(&pki, name, group.as_deref(), *days, &Clock::system()).map_err(|error| match error {
        apiserver::pki::Error::Name(_) => fail(Exit::Usage, error.to_string()),
        other => other.into(),
    })?;
    let user = json!({
        "client-certificate-data": STANDARD.encode(issued.certificate_pem),
        "client-key-data": STANDARD.encode(issued.key_pem),
    });
    let text = serde_saphyr::to_string(&admin::kubeconfig(&url, &ca_pem, name, &user, namespace))?;
    match out {
        Some(file) => write_private(file, text.as_bytes())?,
        None => print::text(&text),
    }
    print::note(&format!(
        "{name} may do nothing yet that no binding says, for example:\n  kubectl create rolebinding {} --clusterrole=edit --user={name} -n {namespace}",
        role_name(name)
    ));
    Ok(())
}

/// A binding's name for a user's: what does not fit becomes a dash.
fn role_name(user: &str) -> String {
    let name: String = user.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    name.trim_matches('-').to_owned()
}
