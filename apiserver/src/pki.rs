//! The server's own certificate authority and certificate, kept as files in the data folder.
//!
//! The authority lives ten years and is what kubeconfigs and agents pin; the server's certificate is short-lived and
//! made anew when a third of its life is left or the names it must answer to have changed.

pub mod client;

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::clock::Clock;

/// Ten years: replacing it means handing every agent and kubeconfig a new one.
const AUTHORITY_LIFE_DAYS: i64 = 3650;
/// 398 days is the longest that Apple's and Go-based clients take for a server certificate.
const SERVER_LIFE_DAYS: i64 = 397;

/// Why the certificates could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the folder.
    #[error("{path}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A certificate could not be made.
    #[error("certificate could not be generated")]
    Generate(#[from] rcgen::Error),
    /// A stored certificate or key cannot be read.
    #[error("{0} is damaged; move it away to have it made anew (clients must then be given the new CA)")]
    Damaged(PathBuf),
    /// A name that no certificate can hold.
    #[error("{0:?} cannot be a name: 1 to 64 characters, none of them a control character")]
    Name(String),
    /// A life that is too short or too long.
    #[error("a certificate is valid for 1 to {max} days, not {0}", max = client::DAYS_MAX)]
    Days(u32),
    /// The authority cannot verify clients.
    #[error("clients cannot be verified with this authority")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// The TLS library refuses certificate and key.
    #[error("certificate and key do not make a TLS server")]
    Tls(#[from] rustls::Error),
}

/// The certificates a server needs.
pub struct Pki {
    /// The authority's certificate, to be given to clients.
    pub ca_pem: String,
    /// The server's certificate.
    pub certificate: CertificateDer<'static>,
    /// The server's private key.
    key: PrivateKeyDer<'static>,
    authority: CertificateDer<'static>,
}

impl Pki {
    /// SHA-256 of the authority's DER, in lower-case hex: what a person compares and an agent pins.
    pub fn ca_fingerprint(&self) -> String {
        hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.authority))
    }

    /// A TLS server for HTTP/2 and HTTP/1.1. Clients may show a certificate of the authority, and need not.
    pub fn server_config(&self) -> Result<rustls::ServerConfig, Error> {
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.clone())?;
        let roots = std::sync::Arc::new(roots);
        let clients =
            rustls::server::WebPkiClientVerifier::builder_with_provider(roots, std::sync::Arc::clone(&provider))
                .allow_unauthenticated()
                .build()?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![self.certificate.clone(), self.authority.clone()], self.key.clone_key())?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// Reads the certificates of `dir`, or makes what is missing or due. `hosts` are the DNS names and IP addresses that
/// clients use.
pub fn load_or_create(dir: &Path, hosts: &[String], clock: &Clock) -> Result<Pki, Error> {
    crate::file::make_folder(dir).map_err(|source| Error::File { path: dir.into(), source })?;
    let now = clock.now();
    let (ca_path, ca_key_path) = (dir.join("ca.crt"), dir.join("ca.key"));
    let (path, key_path) = (dir.join("server.crt"), dir.join("server.key"));

    let (ca_pem, ca_key) = match (read(&ca_path)?, read(&ca_key_path)?) {
        (Some(pem), Some(key)) => (pem, KeyPair::from_pem(&key).map_err(|_unreadable| Error::Damaged(ca_key_path))?),
        (None, None) => {
            let key = KeyPair::generate()?;
            let pem = authority(&key, now)?.pem();
            // The certificate last: a crash in between leaves a key without a certificate, which is told, not guessed.
            write(&ca_key_path, &key.serialize_pem())?;
            write(&ca_path, &pem)?;
            (pem, key)
        }
        (None, Some(key)) => {
            let key = KeyPair::from_pem(&key).map_err(|_unreadable| Error::Damaged(ca_key_path))?;
            let pem = authority(&key, now)?.pem();
            write(&ca_path, &pem)?;
            (pem, key)
        }
        (Some(_), None) => return Err(Error::Damaged(ca_key_path)),
    };
    let damaged = |_unreadable| Error::Damaged(ca_path.clone());
    let authority = CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(damaged)?;

    let stored = match (read(&path)?, read(&key_path)?) {
        (Some(certificate), Some(key)) => usable(&certificate, &key, &authority, hosts, now),
        _ => None,
    };
    let (certificate, key) = if let Some(stored) = stored {
        stored
    } else {
        let issuer = Issuer::from_ca_cert_der(&authority, ca_key)?;
        let key = KeyPair::generate()?;
        let made = server(hosts, &key, &issuer, now)?;
        write(&key_path, &key.serialize_pem())?;
        write(&path, &made.pem())?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|_unreadable| Error::Damaged(key_path))?;
        (made.der().clone(), key)
    };
    Ok(Pki { ca_pem, certificate, key, authority })
}

fn authority(key: &KeyPair, now: Timestamp) -> Result<Certificate, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    // The moment keeps two authorities of one machine apart in a trust store.
    params.distinguished_name.push(DnType::CommonName, format!("berth-ca@{}", now.as_second()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    live(&mut params, now, AUTHORITY_LIFE_DAYS);
    params.self_signed(key)
}

fn server(
    hosts: &[String],
    key: &KeyPair,
    issuer: &Issuer<'_, KeyPair>,
    now: Timestamp,
) -> Result<Certificate, rcgen::Error> {
    let mut params = CertificateParams::new(hosts.to_vec())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "berth-apiserver");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    live(&mut params, now, SERVER_LIFE_DAYS);
    params.signed_by(key, issuer)
}

/// From yesterday's midnight on, so that a client whose clock is behind takes the certificate at once.
fn live(params: &mut CertificateParams, now: Timestamp, days: i64) {
    let date = |days: i64| {
        let at = now + SignedDuration::from_hours(24 * days);
        let date = at.to_zoned(jiff::tz::TimeZone::UTC).date();
        rcgen::date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.not_before = date(-1);
    params.not_after = date(days);
}

/// The stored server certificate, if it is ours, has enough life left and names every host.
fn usable(
    certificate: &str,
    key: &str,
    authority: &CertificateDer<'_>,
    hosts: &[String],
    now: Timestamp,
) -> Option<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).ok()?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).ok()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).ok()?;
    let (_, ca) = x509_parser::parse_x509_certificate(authority).ok()?;
    if parsed.issuer() != ca.subject() {
        return None;
    }
    let (from, until) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
    let left = until - now.as_second();
    if now.as_second() < from || left * 3 < until - from {
        return None;
    }
    let names = parsed.subject_alternative_name().ok()??;
    let named: Vec<String> = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            x509_parser::extensions::GeneralName::DNSName(name) => Some((*name).to_owned()),
            x509_parser::extensions::GeneralName::IPAddress(bytes) => match bytes.len() {
                4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| std::net::Ipv4Addr::from(b).to_string()),
                16 => <[u8; 16]>::try_from(*bytes).ok().map(|b| std::net::Ipv6Addr::from(b).to_string()),
                _ => None,
            },
            _ => None,
        })
        .collect();
    hosts.iter().all(|host| named.contains(host)).then(|| (der.clone(), key))
}

fn read(path: &Path) -> Result<Option<String>, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File { path: path.into(), source }),
    }
}

/// Replaces a file atomically, readable by its owner only.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    crate::file::write(path, text.as_bytes()).map_err(|source| Error::File { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use super::*;

    fn hosts(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn certificates_are_kept_until_they_are_due_and_the_authority_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::settable("2026-01-31T12:00:00Z".parse().unwrap());
        let names = hosts(&["berth.example", "10.0.0.1", "::1"]);
        let first = load_or_create(dir.path(), &names, &clock).unwrap();
        let again = load_or_create(dir.path(), &names, &clock).unwrap();
        assert_eq!(first.certificate, again.certificate);
        assert_eq!(first.ca_fingerprint().len(), 64);

        clock.advance(Duration::from_hours(24 * 250));
        assert_eq!(load_or_create(dir.path(), &names, &clock).unwrap().certificate, first.certificate);
        clock.advance(Duration::from_hours(24 * 20));
        let renewed = load_or_create(dir.path(), &names, &clock).unwrap();
        assert_ne!(renewed.certificate, first.certificate, "a third of its life is left");
        assert_eq!(renewed.ca_fingerprint(), first.ca_fingerprint());

        let fewer = load_or_create(dir.path(), &hosts(&["::1"]), &clock).unwrap();
        assert_eq!(fewer.certificate, renewed.certificate, "it names more than is needed");
        let more = load_or_create(dir.path(), &hosts(&["::1", "other.example"]), &clock).unwrap();
        assert_ne!(more.certificate, renewed.certificate);
        more.server_config().unwrap();
    }

    #[test]
    fn files_are_for_their_owner_only_and_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::settable("2026-01-31T12:00:00Z".parse().unwrap());
        let names = hosts(&["localhost"]);
        load_or_create(dir.path(), &names, &clock).unwrap();
        for name in ["ca.crt", "ca.key", "server.crt", "server.key"] {
            let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        std::fs::write(dir.path().join("server.crt"), "nonsense").unwrap();
        load_or_create(dir.path(), &names, &clock).unwrap();
        std::fs::write(dir.path().join("ca.key"), "nonsense").unwrap();
        assert!(matches!(load_or_create(dir.path(), &names, &clock), Err(Error::Damaged(_))));
        std::fs::remove_file(dir.path().join("ca.key")).unwrap();
        assert!(
            matches!(load_or_create(dir.path(), &names, &clock), Err(Error::Damaged(_))),
            "never a new key by itself"
        );
    }
}
