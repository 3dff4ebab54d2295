//! Client certificates: the common name is the user, the organisations are the groups.
//!
//! The TLS layer has checked the chain and the time of the handshake; a connection may live longer than the certificate,
//! so the time is checked again with each request. There is no revocation list: they are issued for a short time.

use futures::future::BoxFuture;
use http::request::Parts;
use jiff::Timestamp;

use super::authenticate::Authenticator;
use super::identity::Identity;
use crate::clock::Clock;

/// What the certificate of a connection says, as a request extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Whom it names.
    pub identity: Identity,
    /// From when on.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
}

impl ClientCertificate {
    /// Reads a certificate; `None` if it names no user, or cannot be read.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        let subject = certificate.subject();
        let user = subject.iter_common_name().next()?.as_str().ok().filter(|name| !name.is_empty())?.to_owned();
        let groups = subject.iter_organization().filter_map(|name| name.as_str().ok().map(str::to_owned));
        let time = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
        Some(Self {
            identity: Identity::new(user, groups.collect::<Vec<_>>()),
            not_before: time(certificate.validity().not_before)?,
            not_after: time(certificate.validity().not_after)?,
        })
    }

    /// Whether it counts at that time: a connection may outlive its certificate.
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

/// Believes the certificates of connections.
pub(crate) struct Certificates(pub(crate) Clock);

impl Authenticator for Certificates {
    fn authenticate<'a>(&'a self, parts: &'a Parts) -> BoxFuture<'a, Option<Identity>> {
        let now = self.0.now();
        let shown = parts.extensions.get::<ClientCertificate>().filter(|shown| shown.is_valid_at(now));
        let identity = shown.map(|shown| shown.identity.clone());
        Box::pin(async move { identity })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_certificate_counts_for_its_time_however_long_its_connection_lives() {
        let clock = Clock::settable("2026-01-31T11:59:59Z".parse().unwrap());
        let certificates = Certificates(clock.clone());
        let (mut parts, ()) = http::Request::new(()).into_parts();
        assert_eq!(certificates.authenticate(&parts).await, None, "none was shown");
        let identity = Identity::new("ann", ["acme-dev".to_owned()]);
        let (not_before, not_after) =
            ("2026-01-31T12:00:00Z".parse().unwrap(), "2026-01-31T13:00:00Z".parse().unwrap());
        parts.extensions.insert(ClientCertificate { identity: identity.clone(), not_before, not_after });
        assert_eq!(certificates.authenticate(&parts).await, None, "not yet");
        clock.advance(Duration::from_secs(1));
        assert_eq!(certificates.authenticate(&parts).await.as_ref(), Some(&identity));
        clock.advance(Duration::from_hours(1));
        assert_eq!(certificates.authenticate(&parts).await, Some(identity), "to its last second");
        clock.advance(Duration::from_secs(1));
        assert_eq!(certificates.authenticate(&parts).await, None, "no more");
    }
}
