//! Bearer tokens: who may call the API without a certificate.
//!
//! Only the SHA-256 of a token is stored. A token is 32 random bytes, so there is nothing to guess and no need for a
//! slow hash; and a lookup by hash leaks no timing that would help to find one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::digest;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use tokio::sync::oneshot;

use super::error::Error;
use super::writer::Request;
use super::{Shared, Store};

/// The SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// The hash of a token as it stands in an `Authorization` header.
    pub fn of(secret: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref());
        Self(hash)
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// A name for it that is no secret.
    pub id: String,
    /// The hash of the secret.
    pub hash: TokenHash,
    /// The user it stands for.
    pub user: String,
    /// The groups the user is in when it is used.
    pub groups: Vec<String>,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it is no longer valid.
    pub expires: Option<Timestamp>,
    /// What it is for.
    pub description: String,
    /// Since when it is no longer valid.
    pub revoked: Option<Timestamp>,
}

impl Token {
    /// Whether it opens anything at `now`.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|expires| now < expires)
    }
}

/// A token to be made.
#[derive(Clone, Debug, Default)]
pub struct NewToken {
    /// The user it stands for.
    pub user: String,
    /// The groups the user is in when it is used.
    pub groups: Vec<String>,
    /// From when on it is no longer valid.
    pub expires: Option<Timestamp>,
    /// What it is for.
    pub description: String,
}

/// Every token, by its hash.
#[derive(Debug, Default)]
pub(super) struct TokenCache(RwLock<BTreeMap<TokenHash, Arc<Token>>>);

impl TokenCache {
    pub(super) fn put(&self, token: Arc<Token>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(token.hash, token);
    }

    pub(super) fn replace(&self, tokens: Vec<Token>) {
        let tokens = tokens.into_iter().map(|token| (token.hash, Arc::new(token))).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = tokens;
    }
}

/// The tokens of a store.
#[derive(Clone, Debug)]
pub struct Tokens {
    store: Store,
}

impl Store {
    /// The bearer tokens.
    pub fn tokens(&self) -> Tokens {
        Tokens { store: self.clone() }
    }
}

impl Tokens {
    /// Makes a token and returns its secret, which is shown this once.
    pub async fn create(&self, new: NewToken) -> Result<(String, Arc<Token>), Error> {
        let mut bytes = [0_u8; 32];
        SystemRandom::new().fill(&mut bytes).map_err(|error| Error::invalid(format!("no random bytes: {error}")))?;
        let secret = URL_SAFE_NO_PAD.encode(bytes);
        let token = self.create_with_secret(&secret, new).await?;
        Ok((secret, token))
    }

    /// Makes a token of a secret that was agreed on elsewhere, for example in a file that both sides read.
    pub async fn create_with_secret(&self, secret: &str, new: NewToken) -> Result<Arc<Token>, Error> {
        let token = Token {
            id: uuid::Uuid::new_v4().to_string(),
            hash: TokenHash::of(secret),
            user: new.user,
            groups: new.groups,
            created: self.shared().clock.now(),
            expires: new.expires,
            description: new.description,
            revoked: None,
        };
        if self.by_hash(&token.hash).is_some() {
            return Err(Error::invalid("there is a token with this secret already"));
        }
        self.save(token).await
    }

    /// The token with this secret, if it is valid now.
    pub fn find(&self, secret: &str) -> Option<Arc<Token>> {
        self.by_hash(&TokenHash::of(secret)).filter(|token| token.is_valid(self.shared().clock.now()))
    }

    /// The token with this secret, if it is valid now, also if another server has made it a moment ago.
    pub async fn look_up(&self, secret: &str) -> Option<Arc<Token>> {
        if let Some(found) = self.find(secret) {
            return Some(found);
        }
        // Whether or not the database answers: what is known afterwards decides.
        self.store.refresh().await.ok();
        self.find(secret)
    }

    /// All tokens, the oldest first.
    pub fn list(&self) -> Vec<Arc<Token>> {
        let tokens = self.shared().tokens.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = tokens.values().map(Arc::clone).collect();
        all.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        all
    }

    /// Makes a token invalid for ever. Revoking it again changes nothing.
    pub async fn revoke(&self, id: &str) -> Result<Arc<Token>, Error> {
        let token = self.list().into_iter().find(|token| token.id == id).ok_or(Error::NotFound)?;
        if token.revoked.is_some() {
            return Ok(token);
        }
        self.save(Token { revoked: Some(self.shared().clock.now()), ..Token::clone(&token) }).await
    }

    async fn save(&self, token: Token) -> Result<Arc<Token>, Error> {
        let (answer, saved) = oneshot::channel();
        let token = Arc::new(token);
        self.store.send(Request::SaveToken { token: Arc::clone(&token), answer }).await?;
        saved.await.map_err(|_closed| Error::Closed)??;
        Ok(token)
    }

    fn by_hash(&self, hash: &TokenHash) -> Option<Arc<Token>> {
        self.shared().tokens.0.read().unwrap_or_else(PoisonError::into_inner).get(hash).map(Arc::clone)
    }

    fn shared(&self) -> &Shared {
        &self.store.shared
    }
}
