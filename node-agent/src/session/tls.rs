//! Whom the agent trusts: the platform's own CA, known by its fingerprint, and nobody else.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// How long a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);

/// TLS that accepts only servers whose certificate this CA signed.
pub(super) fn trusting(ca_pem: &str) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate.context("the platform's CA is no PEM")?).context("the platform's CA cannot be used")?;
    }
    anyhow::ensure!(!roots.is_empty(), "the platform's CA has no certificate in it");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("no version of TLS can be used")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

/// An HTTP client with that TLS. It follows no redirects: the gateway sends none.
pub(super) fn http_client(tls: &ClientConfig) -> anyhow::Result<reqwest::Client> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_WITHIN)
        .no_proxy()
        .build()
        .context("cannot make an HTTP client")
}

/// An HTTP client that believes any server: only to fetch what is then checked by its fingerprint.
pub(super) fn believing_client() -> anyhow::Result<reqwest::Client> {
    reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_WITHIN)
        .timeout(CONNECT_WITHIN)
        .no_proxy()
        .build()
        .context("cannot make an HTTP client")
}

/// The one certificate of a PEM that has this SHA-256, as a PEM of its own; `None` if there is none.
pub(super) fn with_fingerprint(pem: &str, sha256: &str) -> Option<String> {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let wanted = hex::decode(sha256).ok()?;
    let found = CertificateDer::pem_slice_iter(pem.as_bytes())
        .flatten()
        .find(|certificate| digest::digest(&digest::SHA256, certificate).as_ref() == wanted)?;
    let body = STANDARD.encode(&found);
    let lines: Vec<&str> = (0..body.len()).step_by(64).map(|at| &body[at..body.len().min(at + 64)]).collect();
    Some(format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n")))
}
