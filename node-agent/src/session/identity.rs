//! Who this node is: its key, and what the platform calls it.

use std::fmt;
use std::path::Path;

use anyhow::Context;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use node_protocol::{Claims, TOKEN_AUDIENCE};
use serde::{Deserialize, Serialize};

use crate::{clock, files};

/// How long a signed token is good: for one connection's beginning, and a clock that is a little off.
const TOKEN_SECONDS: i64 = 300;

/// A node that has joined.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Uid of the Node.
    pub(crate) uid: String,
    /// Its name.
    pub(crate) name: String,
    /// Its region.
    pub(crate) region: String,
    /// The private key, PKCS #8, base64.
    key: String,
    /// The platform's CA.
    pub(crate) ca_pem: String,
}

impl fmt::Debug for Identity {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("uid", &self.uid).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Identity {
    /// What an earlier process saved; `None` before the node has joined.
    pub(crate) fn load(data_dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = data_dir.join("identity.json");
        let Some(content) = files::read(&path).with_context(|| format!("cannot read {}", path.display()))? else {
            return Ok(None);
        };
        let identity =
            serde_json::from_slice(&content).with_context(|| format!("cannot understand {}", path.display()))?;
        Ok(Some(identity))
    }

    /// Keeps what the platform answered.
    pub(crate) fn save(
        data_dir: &Path,
        key: &Key,
        uid: &str,
        name: &str,
        region: &str,
        ca_pem: &str,
    ) -> anyhow::Result<Self> {
        let identity = Self {
            uid: uid.to_owned(),
            name: name.to_owned(),
            region: region.to_owned(),
            key: STANDARD.encode(&key.pkcs8),
            ca_pem: ca_pem.to_owned(),
        };
        let path = data_dir.join("identity.json");
        files::replace(&path, &serde_json::to_vec_pretty(&identity)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(identity)
    }

    /// A token that says who this is, for a few minutes.
    pub(crate) fn token(&self) -> anyhow::Result<String> {
        let key = STANDARD.decode(&self.key).context("the node's key is not base64")?;
        let now = clock::now().as_second();
        let claims =
            Claims { sub: self.uid.clone(), aud: TOKEN_AUDIENCE.to_owned(), iat: now, exp: now + TOKEN_SECONDS };
        let header = Header::new(Algorithm::EdDSA);
        jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ed_der(&key)).context("cannot sign a token")
    }
}

/// An Ed25519 key.
pub(crate) struct Key {
    pkcs8: Vec<u8>,
    /// Its public half, base64.
    pub(crate) public: String,
}

impl Key {
    /// The node's key: made and saved before it is first shown to anybody, so that joining can be tried again with it.
    pub(crate) fn load_or_make(data_dir: &Path) -> anyhow::Result<Self> {
        let path = data_dir.join("key.pkcs8");
        let known = files::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let pkcs8 = if let Some(pkcs8) = known {
            pkcs8
        } else {
            let pair = Ed25519KeyPair::generate().context("cannot make a key")?;
            let pkcs8 = pair.to_pkcs8v1().context("cannot write a key")?.as_ref().to_vec();
            files::replace(&path, &pkcs8).with_context(|| format!("cannot write {}", path.display()))?;
            pkcs8
        };
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8)
            .map_err(|error| anyhow::anyhow!("the key in {} is broken: {error}", path.display()))?;
        Ok(Self { public: STANDARD.encode(pair.public_key().as_ref()), pkcs8 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{DecodingKey, Validation};

    #[test]
    fn a_token_is_signed_by_the_key_that_was_registered() {
        let folder = tempfile::tempdir().unwrap();
        let key = Key::load_or_make(folder.path()).unwrap();
        let again = Key::load_or_make(folder.path()).unwrap();
        assert_eq!(key.public, again.public);
        let identity = Identity::save(folder.path(), &key, "uid", "node", "eu-1", "pem").unwrap();
        let loaded = Identity::load(folder.path()).unwrap().unwrap();
        assert_eq!((loaded.uid.as_str(), loaded.region.as_str()), ("uid", "eu-1"));
        assert!(!format!("{identity:?}").contains(&identity.key));

        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[TOKEN_AUDIENCE]);
        let public = DecodingKey::from_ed_der(&STANDARD.decode(&key.public).unwrap());
        let claims = jsonwebtoken::decode::<Claims>(loaded.token().unwrap(), &public, &validation).unwrap().claims;
        assert_eq!((claims.sub.as_str(), claims.exp - claims.iat), ("uid", TOKEN_SECONDS));
    }
}
