//! The provider's keys: where they are stands in its discovery document; both are fetched when a key is needed that is not
//! known, and now and then because keys are taken back too.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::claims::Header;

/// A provider on the same continent answers within a second.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// A document has some kilobytes.
const BYTES_MAX: usize = 1 << 20;
/// A provider has a handful of keys; a token without a key's name is tried with each that could be it.
const KEYS_MAX: usize = 64;
/// Asked for again this often at most, whatever tokens name: the cost of unknown names is bounded for both sides.
const PAUSE: Duration = Duration::from_secs(10);
/// Known keys are asked for anew after this long, so that one that was taken back ends.
const FRESH: Duration = Duration::from_hours(1);
/// If that does not succeed they are believed for so long: a provider may be away for a night.
const BELIEVED: Duration = Duration::from_hours(24);

/// The keys of one provider.
#[derive(Debug)]
pub(super) struct Keys {
    issuer: String,
    http: reqwest::Client,
    known: RwLock<Option<Arc<Known>>>,
    /// When it was last tried. Whoever holds it asks; the others wait for what comes of it.
    asking: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Known {
    keys: Vec<Jwk>,
    at: Instant,
}

impl Known {
    /// The keys that may have signed a token with that head.
    fn matching(&self, header: &Header) -> Vec<DecodingKey> {
        let fits = |key: &&Jwk| header.kid.is_none() || key.common.key_id == header.kid;
        let keys = self.keys.iter().filter(fits).filter(|key| is_for(key, header.algorithm));
        keys.filter_map(|key| DecodingKey::from_jwk(key).ok()).collect()
    }
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Keys {
    pub(super) fn new(issuer: &str, ca_pem: Option<&[u8]>) -> Result<Self, String> {
        let mut http = reqwest::Client::builder()
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(ANSWER_MAX)
            .timeout(ANSWER_MAX)
            // One connection now and then.
            .pool_max_idle_per_host(0);
        if let Some(pem) = ca_pem {
            let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(|error| told(&error))?;
            if certificates.is_empty() {
                return Err("there is no certificate in the file of authorities".into());
            }
            http = http.tls_certs_only(certificates);
        }
        let http = http.build().map_err(|error| told(&error))?;
        Ok(Self { issuer: issuer.to_owned(), http, known: RwLock::default(), asking: Mutex::default() })
    }

    /// The keys that may have signed a token with that head.
    pub(super) async fn find(self: &Arc<Self>, header: &Header) -> Result<Vec<DecodingKey>, String> {
        if let Some(known) = self.believed() {
            let keys = known.matching(header);
            if !keys.is_empty() {
                // Nobody waits for a provider that is away while what it said last still counts.
                if known.at.elapsed() >= FRESH && self.asking.try_lock().is_ok() {
                    let keys = Arc::clone(self);
                    crate::task::spawn("oidc-keys", async move { keys.ask().await });
                }
                return Ok(keys);
            }
        }
        self.ask().await;
        Ok(self.believed().ok_or("the provider's keys are not known")?.matching(header))
    }

    fn believed(&self) -> Option<Arc<Known>> {
        self.known().filter(|known| known.at.elapsed() < BELIEVED)
    }

    fn known(&self) -> Option<Arc<Known>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets the next token that names an unknown key ask again.
    #[cfg(test)]
    pub(super) async fn after_the_pause(&self) {
        *self.asking.lock().await = None;
    }

    /// Asks the provider, unless that was done just now.
    async fn ask(&self) {
        let mut asked = self.asking.lock().await;
        if asked.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        let result = self.fetch().await;
        *asked = Some(Instant::now());
        match result {
            Ok(keys) => {
                tracing::info!(issuer = %self.issuer, keys = keys.len(), "the identity provider's keys are known");
                let known = Arc::new(Known { keys, at: Instant::now() });
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
            }
            Err(error) => tracing::warn!(
                issuer = %self.issuer,
                %error,
                "the identity provider's keys cannot be had: its tokens are refused unless their keys are known already"
            ),
        }
    }

    async fn fetch(&self) -> Result<Vec<Jwk>, String> {
        let address = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let discovery: Discovery = self.get(&address).await?;
        if discovery.issuer != self.issuer {
            return Err(format!("{address} is of the issuer {:?}", discovery.issuer));
        }
        let set: Value = self.get(&discovery.jwks_uri).await?;
        // Keys of a form that is not known here are no reason to do without the others.
        let all = set.get("keys").and_then(Value::as_array).ok_or("the set of keys is none")?;
        let keys = all.iter().take(KEYS_MAX).filter_map(|key| serde_json::from_value::<Jwk>(key.clone()).ok());
        Ok(keys.collect())
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, address: &str) -> Result<T, String> {
        let mut response = self.http.get(address).send().await.map_err(|error| told(&error))?;
        if response.status() != http::StatusCode::OK {
            return Err(format!("{address} answered with {}", response.status().as_u16()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| told(&error))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > BYTES_MAX {
                return Err(format!("{address} is longer than {BYTES_MAX} bytes"));
            }
        }
        serde_json::from_slice(&bytes).map_err(|error| format!("{address}: {error}"))
    }
}

/// Whether a key is for signatures of that kind. What it says of itself must agree with what a token says of it.
fn is_for(key: &Jwk, algorithm: Algorithm) -> bool {
    use Algorithm::{ES256, ES384, PS256, PS384, PS512, RS256, RS384, RS512};
    let form = match &key.algorithm {
        AlgorithmParameters::RSA(_) => matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512),
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => algorithm == ES256,
            EllipticCurve::P384 => algorithm == ES384,
            _ => false,
        },
        _ => false,
    };
    let named = key.common.key_algorithm.is_none_or(|named| named == KeyAlgorithm::from(algorithm));
    let signs = key.common.public_key_use.as_ref().is_none_or(|wanted| *wanted == PublicKeyUse::Signature);
    form && named && signs
}

/// An error with its causes.
fn told(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
