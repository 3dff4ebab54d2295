//! Service accounts: the ones that every namespace has, and the tokens of all of them.

mod default;
mod request;
#[cfg(test)]
mod tests;
mod token;

use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use http::request::Parts;
use serde_json::json;

use crate::admission;
use crate::auth::{Authenticator, Identity, bearer};
use crate::clock::Clock;
use crate::error::Error;
use crate::kinds::Kinds;
use crate::store::{self, Key, KindId, Store, Write};

pub(crate) use self::default::follow as keep_defaults;
pub(crate) use self::request::create as token;
use self::token::{Claims, Reference};

/// What tokens without other audiences are for: this API. Kubernetes' own name for it, which clients may ask for.
pub(crate) const AUDIENCE: &str = "https://kubernetes.default.svc";

/// Where the platform's own Secrets are, as in Kubernetes.
pub(crate) const SYSTEM_NAMESPACE: &str = "kube-system";
const KEY_NAME: &str = "service-account-key";
const KEY_BYTES: usize = 32;

/// Makes and reads the tokens of service accounts. They are signed with a key in a Secret, so that all servers on one
/// store know them; whoever deletes the Secret makes every token invalid.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    store: Store,
    clock: Clock,
    accounts: KindId,
    secrets: KindId,
    /// The key, and the revision of the Secret that it was read from.
    key: Arc<RwLock<Option<(u64, hmac::Key)>>>,
}

/// A token that is valid now.
pub(crate) struct Valid {
    pub(crate) identity: Identity,
    pub(crate) audiences: Vec<String>,
}

impl Tokens {
    /// Over a store; `None` if accounts or Secrets are not registered.
    pub(crate) fn new(store: Store, kinds: &Kinds, clock: Clock) -> Option<Self> {
        let id = |plural: &str| kinds.find("", "v1", plural).map(|(index, _)| kinds.store_id(index));
        Some(Self { store, clock, accounts: id("serviceaccounts")?, secrets: id("secrets")?, key: Arc::default() })
    }

    /// Reads a token: whose it is, if it is ours, in time, and the account (and what else it is bound to) still there.
    pub(crate) fn read(&self, text: &str) -> Option<Valid> {
        // Nobody's other tokens have dots in them: they are not even hashed.
        if text.split('.').count() != 3 {
            return None;
        }
        let claims = token::verify(&self.key()?, text)?;
        let now = self.clock.now().as_second();
        if now < claims.nbf || now >= claims.exp {
            return None;
        }
        let bound = &claims.bound;
        if !self.is_there(self.accounts, &bound.namespace, &bound.serviceaccount) {
            return None;
        }
        if bound.secret.as_ref().is_some_and(|secret| !self.is_there(self.secrets, &bound.namespace, secret)) {
            return None;
        }
        let account = &bound.serviceaccount;
        let mut identity = Identity::service_account(&bound.namespace, &account.name, &account.uid);
        let credential = format!("JTI={}", claims.jti);
        identity.extra.insert("authentication.kubernetes.io/credential-id".into(), vec![credential]);
        Some(Valid { identity, audiences: claims.aud })
    }

    /// Whether it is there, is the one of that uid, and is not going.
    fn is_there(&self, kind: KindId, namespace: &str, wanted: &Reference) -> bool {
        let object = self.store.get(&Key::new(kind, namespace, &*wanted.name));
        object.is_some_and(|object| *object.uid == *wanted.uid && object.meta.deletion_timestamp.is_none())
    }

    /// Makes a token.
    async fn issue(&self, claims: &Claims) -> Result<String, Error> {
        let key = match self.key() {
            Some(key) => key,
            None => self.make_key().await?,
        };
        token::sign(&key, claims).map_err(|error| Error::internal(error.to_string()))
    }

    fn key_address(&self) -> Key {
        Key::new(self.secrets, SYSTEM_NAMESPACE, KEY_NAME)
    }

    /// The key as the Secret has it now.
    fn key(&self) -> Option<hmac::Key> {
        let secret = self.store.get(&self.key_address())?;
        let known = self.key.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, key)) = known.filter(|(revision, _)| *revision == secret.revision) {
            return Some(key);
        }
        let object = secret.value();
        let bytes = STANDARD.decode(object["data"]["key"].as_str()?).ok().filter(|bytes| bytes.len() >= KEY_BYTES)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = Some((secret.revision, key.clone()));
        Some(key)
    }

    /// Makes the Secret, or finds that another server just has.
    async fn make_key(&self) -> Result<hmac::Key, Error> {
        let mut bytes = [0_u8; KEY_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|error| Error::internal(error.to_string()))?;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-key", "immutable": true,
            "metadata": {
                "name": KEY_NAME, "namespace": SYSTEM_NAMESPACE, "uid": uuid::Uuid::now_v7().to_string(),
                "creationTimestamp": admission::timestamp(self.clock.now()),
            },
            "data": {"key": STANDARD.encode(bytes)},
        });
        match self.store.write(Write::Create { key: self.key_address(), body: secret }).await {
            Ok(_) | Err(store::Error::Exists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        self.key().ok_or_else(|| {
            Error::internal(format!(
                "the Secret {SYSTEM_NAMESPACE}/{KEY_NAME} holds no key: delete it to have one made"
            ))
        })
    }
}

impl Authenticator for Tokens {
    fn authenticate<'a>(&'a self, parts: &'a Parts) -> BoxFuture<'a, Option<Identity>> {
        let valid = bearer(&parts.headers).and_then(|text| self.read(&text));
        let here = valid.filter(|valid| valid.audiences.iter().any(|audience| audience == AUDIENCE));
        Box::pin(std::future::ready(here.map(|valid| valid.identity)))
    }
}
