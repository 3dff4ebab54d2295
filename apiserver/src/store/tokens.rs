//! Bearer tokens: who may call the API without a certificate. Some are the platform's own, the others are sessions and
//! tokens of users, about whom the rest of the crate decides.
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

use super::audit::AuditLine;
use super::backend::Backend;
use super::error::{BackendError, Error};
use super::writer::Request;
use super::{Shared, Store};
use crate::auth::Scope;

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

/// What a token is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// The platform's own: its groups stand in it.
    #[default]
    Standing,
    /// Of somebody who has signed in: it ends by itself when it is not used.
    Session,
    /// Of a user's program.
    Token,
}

impl Purpose {
    /// As it stands in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standing => "standing",
            Self::Session => "session",
            Self::Token => "token",
        }
    }

    /// From how it stands in the database.
    pub(super) fn parse(text: &str) -> Result<Self, BackendError> {
        let all = [Self::Standing, Self::Session, Self::Token];
        let found = all.into_iter().find(|purpose| purpose.as_str() == text);
        found.ok_or_else(|| BackendError::Damaged(format!("a token's purpose is {text:?}")))
    }
}

/// The user that a token was made for, as long as it is the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bond {
    /// The user's uid, so that it opens nothing for a later one of the same name.
    pub uid: String,
    /// Which of the user's passwords it was made under: another one ends it.
    pub epoch: String,
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
    /// What it is.
    pub purpose: Purpose,
    /// What it hangs on, if it is a user's.
    pub bond: Bond,
    /// What it is good for, if for less than its user may do.
    pub scope: Option<Arc<Scope>>,
    /// When it was used, as far as that was noted.
    pub last_used: Option<Timestamp>,
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
    /// What it is.
    pub purpose: Purpose,
    /// What it hangs on, if it is a user's.
    pub bond: Bond,
    /// What it is good for, if for less than its user may do.
    pub scope: Option<Scope>,
}

/// Tokens that ended before some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Any that did so before then.
    pub before: Timestamp,
    /// And sessions before then: nobody asks for them again.
    pub sessions_before: Timestamp,
}

impl Ended {
    /// Whether a token is one of them.
    pub fn has(self, token: &Token) -> bool {
        let before = match token.purpose {
            Purpose::Session => self.sessions_before.max(self.before),
            Purpose::Standing | Purpose::Token => self.before,
        };
        token.revoked.is_some_and(|at| at < before) || token.expires.is_some_and(|at| at < before)
    }
}

/// A change of the tokens, for the writer.
#[derive(Clone, Debug)]
pub(super) enum TokenChange {
    /// Makes or changes one, and notes that in the audit log.
    Save(Arc<Token>, Option<Arc<AuditLine>>),
    /// Notes that one was used. Does nothing else to it, and nothing to one that was revoked meanwhile.
    Touch { hash: TokenHash, at: Timestamp },
    /// Forgets those that ended before some time.
    Forget(Ended),
}

/// Performs a change, first in the database.
pub(super) async fn apply<B: Backend>(backend: &mut B, shared: &Shared, change: TokenChange) -> Result<(), Error> {
    match change {
        TokenChange::Save(token, line) => {
            backend.save_token(&token, line.as_ref()).await?;
            shared.tokens.put(token);
        }
        TokenChange::Touch { hash, at } => {
            let Some(token) = shared.tokens.get(&hash) else { return Ok(()) };
            backend.touch_token(&token.id, at).await?;
            shared.tokens.put(Arc::new(Token { last_used: Some(at), ..Token::clone(&token) }));
        }
        TokenChange::Forget(ended) => {
            if shared.tokens.has_any(ended) {
                backend.remove_tokens(ended).await?;
                shared.tokens.forget(ended);
            }
        }
    }
    Ok(())
}

/// Every token, by its hash.
#[derive(Debug, Default)]
pub(super) struct TokenCache(RwLock<BTreeMap<TokenHash, Arc<Token>>>);

impl TokenCache {
    fn get(&self, hash: &TokenHash) -> Option<Arc<Token>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(hash).map(Arc::clone)
    }

    /// What was revoked once stays so, whatever was on its way at the time.
    fn put(&self, token: Arc<Token>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let revoked = all.get(&token.hash).and_then(|known| known.revoked);
        let token = match revoked {
            Some(_) if token.revoked.is_none() => Arc::new(Token { revoked, ..Token::clone(&token) }),
            _ => token,
        };
        all.insert(token.hash, token);
    }

    fn has_any(&self, ended: Ended) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().any(|token| ended.has(token))
    }

    fn forget(&self, ended: Ended) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, token| !ended.has(token));
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

    /// Makes a token whose secret begins with something by which it is recognised where it should not be, and notes that in
    /// the audit log.
    pub async fn issue(&self, prefix: &str, new: NewToken, line: AuditLine) -> Result<(String, Arc<Token>), Error> {
        let mut bytes = [0_u8; 32];
        SystemRandom::new().fill(&mut bytes).map_err(|error| Error::invalid(format!("no random bytes: {error}")))?;
        let secret = format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes));
        let token = self.save(self.draft(&secret, new), Some(line)).await?;
        Ok((secret, token))
    }

    /// Makes a token of a secret that was agreed on elsewhere, for example in a file that both sides read.
    pub async fn create_with_secret(&self, secret: &str, new: NewToken) -> Result<Arc<Token>, Error> {
        let token = self.draft(secret, new);
        if self.by_hash(&token.hash).is_some() {
            return Err(Error::invalid("there is a token with this secret already"));
        }
        self.save(token, None).await
    }

    fn draft(&self, secret: &str, new: NewToken) -> Token {
        Token {
            id: uuid::Uuid::new_v4().to_string(),
            hash: TokenHash::of(secret),
            user: new.user,
            groups: new.groups,
            created: self.shared().clock.now(),
            expires: new.expires,
            description: new.description,
            revoked: None,
            purpose: new.purpose,
            bond: new.bond,
            scope: new.scope.map(Arc::new),
            last_used: None,
        }
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

    /// The token of that id, whether or not it is valid.
    pub fn by_id(&self, id: &str) -> Option<Arc<Token>> {
        let tokens = self.shared().tokens.0.read().unwrap_or_else(PoisonError::into_inner);
        tokens.values().find(|token| token.id == id).map(Arc::clone)
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
        self.revoke_audited(id, None).await
    }

    /// The same, noted in the audit log.
    pub async fn revoke_audited(&self, id: &str, line: Option<AuditLine>) -> Result<Arc<Token>, Error> {
        let token = self.by_id(id).ok_or(Error::NotFound)?;
        if token.revoked.is_some() {
            return Ok(token);
        }
        self.save(Token { revoked: Some(self.shared().clock.now()), ..Token::clone(&token) }, line).await
    }

    /// Notes that a token is used now. Nobody waits for it: it is not noted when the writer has no time.
    pub(crate) fn touch(&self, token: &Token) {
        let change = TokenChange::Touch { hash: token.hash, at: self.shared().clock.now() };
        let (answer, _nobody) = oneshot::channel();
        self.store.requests.try_send(Request::Token { change, answer }).ok();
    }

    /// Forgets tokens that have ended.
    pub(crate) async fn forget(&self, ended: Ended) -> Result<(), Error> {
        self.change(TokenChange::Forget(ended)).await
    }

    async fn save(&self, token: Token, line: Option<AuditLine>) -> Result<Arc<Token>, Error> {
        let token = Arc::new(token);
        self.change(TokenChange::Save(Arc::clone(&token), line.map(Arc::new))).await?;
        Ok(token)
    }

    async fn change(&self, change: TokenChange) -> Result<(), Error> {
        self.store.ask(|answer| Request::Token { change, answer }).await
    }

    fn by_hash(&self, hash: &TokenHash) -> Option<Arc<Token>> {
        self.shared().tokens.get(hash)
    }

    fn shared(&self) -> &Shared {
        &self.store.shared
    }
}
