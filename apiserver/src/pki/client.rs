//! Certificates for people and programs: the common name is the user, the organisation is the group.
//!
//! One made here has one group at most, because the library writes one organisation; those made elsewhere with the
//! authority's key may have more, and all of them count.
//!
//! They are made on the server's machine by whoever can read the authority's key. There is no revocation: they are valid
//! for days, and what their user may do can be taken away at any time.

use std::path::Path;
use std::time::Duration;

use jiff::SignedDuration;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::{Error, read};
use crate::clock::Clock;

/// A year and a month, as for the server's own.
pub const DAYS_MAX: u32 = 397;
/// A client whose clock is behind takes it at once.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// A certificate and its key, in PEM.
pub struct Issued {
    /// The certificate.
    pub certificate_pem: String,
    /// The private key, which is kept nowhere else.
    pub key_pem: String,
}

/// Makes a certificate for `user`, in `group` if there is one, signed by the authority in `dir`, valid for `days` (1 to [`DAYS_MAX`]).
pub fn issue(dir: &Path, user: &str, group: Option<&str>, days: u32, clock: &Clock) -> Result<Issued, Error> {
    let usable = |name: &str| !name.is_empty() && name.chars().count() <= 64 && !name.chars().any(char::is_control);
    if let Some(name) = std::iter::once(user).chain(group).find(|name| !usable(name)) {
        return Err(Error::Name(name.to_owned()));
    }
    if !(1..=DAYS_MAX).contains(&days) {
        return Err(Error::Days(days));
    }
    let (ca_path, key_path) = (dir.join("ca.crt"), dir.join("ca.key"));
    let missing = |path: &Path| Error::File { path: path.into(), source: std::io::ErrorKind::NotFound.into() };
    let ca = read(&ca_path)?.ok_or_else(|| missing(&ca_path))?;
    let ca_key = read(&key_path)?.ok_or_else(|| missing(&key_path))?;
    let authority =
        CertificateDer::from_pem_slice(ca.as_bytes()).map_err(|_unreadable| Error::Damaged(ca_path.clone()))?;
    let ca_key = KeyPair::from_pem(&ca_key).map_err(|_unreadable| Error::Damaged(key_path.clone()))?;
    let issuer = Issuer::from_ca_cert_der(&authority, ca_key)?;

    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.distinguished_name.push(DnType::CommonName, user);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let now = clock.now();
    let at = |time: jiff::Timestamp| {
        let seconds = u64::try_from(time.as_second()).unwrap_or_default();
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
    };
    params.not_before = at(now - SKEW);
    params.not_after = at(now + SignedDuration::from_hours(24 * i64::from(days)));
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Issued { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
}
