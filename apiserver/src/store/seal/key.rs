//! Master keys, and what is done with them: each body has a data key of its own, which a master key wraps.
//!
//! A sealed body is text: `sealed:1:<id of the master key>:<wrapped data key>:<nonce, ciphertext and tag>`, in base64. The
//! body is encrypted with AES-256-GCM under its data key, with the row that it stands in as additional data, so that it
//! cannot be passed off as another one's. The data key is wrapped with AES-256-KW (RFC 3394), which needs no nonce: there
//! is no number of writes after which a master key is used up.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest;
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bytes::Bytes;
use zeroize::Zeroizing;

/// What every sealed body begins with. JSON does not.
const MARK: &str = "sealed:1:";
/// 256 bits.
const KEY_BYTES: usize = 32;
/// A wrapped key is 64 bits longer.
const WRAPPED_BYTES: usize = KEY_BYTES + 8;

/// Why something cannot be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The text is no master key. It is not repeated.
    #[error(
        "this is no master key: it must be 32 bytes in base64 (44 characters), as `openssl rand -base64 32` makes them"
    )]
    NotAKey,
    /// There must be at least one.
    #[error("there is no master key")]
    NoKey,
    /// The store is sealed with a key that was not given.
    #[error("the store is sealed with the master key {wanted}, which was not given ({given})")]
    Missing {
        /// The id of the key.
        wanted: String,
        /// What was given instead.
        given: String,
    },
    /// It was changed, or stands where another one should.
    #[error("{0} is not what was sealed: it was changed, or belongs elsewhere")]
    Forged(String),
    /// Another server has noted its key first.
    #[error(
        "another server has begun to use this database at the same moment, with the master key {0}: give this server the \
         same key"
    )]
    Overtaken(String),
    /// The keys that were given lack one that something may be sealed with.
    #[error("the master key {0} is still needed, and not there")]
    Needed(String),
    /// The first key is another one than at the beginning.
    #[error("the master keys were replaced while everything was brought to the first of them: rotate again")]
    Replaced,
    /// A body that must be sealed is not.
    #[error("{0} is not sealed, though everything has been")]
    Plain(String),
    /// The system has no random numbers.
    #[error("no random bytes could be had")]
    Random,
}

/// A key that wraps data keys.
#[derive(Clone)]
pub struct MasterKey {
    id: Arc<str>,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl MasterKey {
    /// A new one.
    pub fn generate() -> Result<Self, SealError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        SystemRandom::new().fill(&mut *bytes).map_err(|_unspecified| SealError::Random)?;
        Ok(Self::new(bytes))
    }

    /// Reads 32 bytes in base64.
    pub fn parse(text: &str) -> Result<Self, SealError> {
        let decoded = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_secret| SealError::NotAKey)?);
        let bytes = <[u8; KEY_BYTES]>::try_from(decoded.as_slice()).map_err(|_length| SealError::NotAKey)?;
        Ok(Self::new(Zeroizing::new(bytes)))
    }

    /// Reads one key a line, the one to seal with first; lines that are empty or begin with `#` do not count. Commas
    /// separate keys as well.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, SealError> {
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        let keys = lines.flat_map(|line| line.split(',')).map(str::trim).filter(|key| !key.is_empty());
        let keys = keys.map(Self::parse).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(SealError::NoKey) } else { Ok(keys) }
    }

    /// The text that [`MasterKey::parse`] reads.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(*self.bytes))
    }

    fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"berth master key\0");
        context.update(&*bytes);
        let id = hex::encode(context.finish().as_ref().get(..8).unwrap_or_default());
        Self { id: id.into(), bytes }
    }

    /// What it is called where it must not be shown: 16 hexadecimal digits that follow from it.
    pub fn id(&self) -> &str {
        &self.id
    }

    fn wrap(&self, key: &[u8; KEY_BYTES]) -> Result<[u8; WRAPPED_BYTES], SealError> {
        let mut wrapped = [0; WRAPPED_BYTES];
        self.kek()?.wrap(key, &mut wrapped).map_err(|_unspecified| SealError::NotAKey)?;
        Ok(wrapped)
    }

    fn unwrap(&self, wrapped: &[u8], place: &Place<'_>) -> Result<Zeroizing<[u8; KEY_BYTES]>, SealError> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        if wrapped.len() != WRAPPED_BYTES {
            return Err(place.forged());
        }
        self.kek()?.unwrap(wrapped, &mut *key).map_err(|_unspecified| place.forged())?;
        Ok(key)
    }

    fn kek(&self) -> Result<AesKek, SealError> {
        AesKek::new(&AES_256, &*self.bytes).map_err(|_unspecified| SealError::NotAKey)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MasterKey").field(&self.id).finish()
    }
}

/// The row that a body stands in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) table: &'a str,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
}

impl<'a> Place<'a> {
    /// Of a file: no table has such a name.
    fn of_file(name: &'a str) -> Self {
        Self { table: "file:", namespace: "", name }
    }

    fn aad(&self) -> Aad<Vec<u8>> {
        // None of them can have a control character.
        Aad::from([self.table, self.namespace, self.name].join("\0").into_bytes())
    }

    pub(super) fn forged(&self) -> SealError {
        SealError::Forged(self.to_string())
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.table, self.namespace, self.name)
    }
}

/// The master keys of a server: it seals with the first and opens with any. They can be replaced while it runs.
#[derive(Debug)]
pub struct KeyRing(RwLock<Arc<[MasterKey]>>);

impl KeyRing {
    /// The keys, the one to seal with first.
    pub fn new(keys: Vec<MasterKey>) -> Result<Self, SealError> {
        if keys.is_empty() { Err(SealError::NoKey) } else { Ok(Self(RwLock::new(keys.into()))) }
    }

    /// Goes on with these keys. The first has to be noted before: see `Sealed::adopt`.
    pub(super) fn replace(&self, keys: Vec<MasterKey>) -> Result<(), SealError> {
        if keys.is_empty() {
            return Err(SealError::NoKey);
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = keys.into();
        Ok(())
    }

    /// The ids of the keys, the one that seals first.
    pub fn ids(&self) -> Vec<String> {
        self.keys().iter().map(|key| key.id().to_owned()).collect()
    }

    fn keys(&self) -> Arc<[MasterKey]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn primary(&self) -> Result<MasterKey, SealError> {
        self.keys().first().cloned().ok_or(SealError::NoKey)
    }

    fn key(&self, id: &str) -> Result<MasterKey, SealError> {
        self.keys().iter().find(|key| key.id() == id).cloned().ok_or_else(|| self.missing(id))
    }

    pub(super) fn missing(&self, id: &str) -> SealError {
        SealError::Missing { wanted: id.to_owned(), given: format!("given: {}", self.ids().join(", ")) }
    }

    pub(super) fn seal(&self, place: &Place<'_>, body: &[u8]) -> Result<String, SealError> {
        let primary = self.primary()?;
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        SystemRandom::new().fill(&mut *key).map_err(|_unspecified| SealError::Random)?;
        let wrapped = primary.wrap(&key)?;
        let mut sealed = body.to_vec();
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, &*key).map_err(|_unspecified| SealError::NotAKey)?;
        let nonce =
            cipher.seal_in_place_append_tag(place.aad(), &mut sealed).map_err(|_unspecified| SealError::Random)?;
        sealed.splice(0..0, nonce.as_ref().iter().copied());
        Ok(Parts { id: primary.id(), wrapped: &STANDARD_NO_PAD.encode(wrapped), body: &STANDARD_NO_PAD.encode(sealed) }
            .text())
    }

    pub(super) fn open(&self, place: &Place<'_>, text: &str) -> Result<Bytes, SealError> {
        let parts = Parts::of(text).ok_or_else(|| place.forged())?;
        let decode = |text: &str| STANDARD_NO_PAD.decode(text).map_err(|_damaged| place.forged());
        let key = self.key(parts.id)?.unwrap(&decode(parts.wrapped)?, place)?;
        let mut sealed = decode(parts.body)?;
        let (nonce, rest) = sealed.split_first_chunk_mut::<NONCE_LEN>().ok_or_else(|| place.forged())?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, &*key).map_err(|_unspecified| SealError::NotAKey)?;
        let opened = cipher.open_in_place(nonce, place.aad(), rest).map_err(|_unspecified| place.forged())?;
        let length = opened.len();
        Ok(Bytes::from(sealed).slice(NONCE_LEN..NONCE_LEN + length))
    }

    /// Seals a file that is kept outside of the store, under its name.
    pub fn seal_file(&self, name: &str, content: &[u8]) -> Result<String, SealError> {
        self.seal(&Place::of_file(name), content)
    }

    /// What [`KeyRing::seal_file`] sealed under that name.
    pub fn open_file(&self, name: &str, text: &str) -> Result<Bytes, SealError> {
        self.open(&Place::of_file(name), text)
    }

    /// The same body with its data key wrapped by the first master key, or nothing if it is already.
    pub(super) fn rewrap(&self, place: &Place<'_>, text: &str) -> Result<Option<String>, SealError> {
        let parts = Parts::of(text).ok_or_else(|| place.forged())?;
        let primary = self.primary()?;
        if parts.id == primary.id() {
            return Ok(None);
        }
        let wrapped = STANDARD_NO_PAD.decode(parts.wrapped).map_err(|_damaged| place.forged())?;
        let key = self.key(parts.id)?.unwrap(&wrapped, place)?;
        let wrapped = STANDARD_NO_PAD.encode(primary.wrap(&key)?);
        Ok(Some(Parts { id: primary.id(), wrapped: &wrapped, body: parts.body }.text()))
    }
}

/// Whether a column's value is a sealed body.
pub(super) fn is_sealed(text: &str) -> bool {
    text.starts_with(MARK)
}

/// A sealed body, taken apart.
struct Parts<'a> {
    id: &'a str,
    wrapped: &'a str,
    body: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (id, rest) = text.strip_prefix(MARK)?.split_once(':')?;
        let (wrapped, body) = rest.split_once(':')?;
        Some(Self { id, wrapped, body })
    }

    fn text(&self) -> String {
        format!("{MARK}{}:{}:{}", self.id, self.wrapped, self.body)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLACE: Place<'static> = Place { table: "core_secrets", namespace: "shop", name: "keys" };

    fn ring(keys: &[&MasterKey]) -> KeyRing {
        KeyRing::new(keys.iter().map(|key| (*key).clone()).collect()).unwrap()
    }

    #[test]
    fn keys_are_read_and_never_shown() {
        let key = MasterKey::generate().unwrap();
        let text = key.to_text();
        assert_eq!(MasterKey::parse(&text).unwrap().id(), key.id());
        assert!(!format!("{key:?}").contains(&*text));
        for wrong in ["", "c2hvcnQ=", "hunter2 hunter2", &text[1..]] {
            assert_eq!(MasterKey::parse(wrong).unwrap_err(), SealError::NotAKey, "{wrong}");
        }
        let other = MasterKey::generate().unwrap();
        let file = format!("# made today\n{}\n\n{}\n", &*text, &*other.to_text());
        let ids: Vec<_> = MasterKey::parse_all(&file).unwrap().iter().map(|key| key.id().to_owned()).collect();
        assert_eq!(ids, [key.id(), other.id()]);
        assert_eq!(MasterKey::parse_all("# nothing\n").unwrap_err(), SealError::NoKey);
    }

    #[test]
    fn a_body_belongs_to_its_row_and_its_key() {
        let (one, two) = (MasterKey::generate().unwrap(), MasterKey::generate().unwrap());
        let sealed = ring(&[&one]).seal(&PLACE, br#"{"data":"hunter2"}"#).unwrap();
        assert!(!sealed.contains("hunter2"));
        assert!(is_sealed(&sealed));
        for other in [
            Place { table: "core_configmaps", ..PLACE },
            Place { namespace: "other", ..PLACE },
            Place { name: "key", ..PLACE },
            Place { namespace: "sho", name: "p\0keys", ..PLACE },
        ] {
            assert_eq!(ring(&[&one]).open(&other, &sealed).unwrap_err(), other.forged());
        }
        let missing = ring(&[&two]).open(&PLACE, &sealed).unwrap_err();
        assert!(matches!(missing, SealError::Missing { wanted, .. } if wanted == one.id()));
        // A name that says another key does not make it the right one.
        let renamed = sealed.replace(one.id(), two.id());
        assert_eq!(ring(&[&two]).open(&PLACE, &renamed).unwrap_err(), PLACE.forged());
    }

    #[test]
    fn a_new_key_takes_over_without_the_body_being_read() {
        let (old, new) = (MasterKey::generate().unwrap(), MasterKey::generate().unwrap());
        let sealed = ring(&[&old]).seal(&PLACE, b"{}").unwrap();
        let both = ring(&[&new, &old]);
        let moved = both.rewrap(&PLACE, &sealed).unwrap().unwrap();
        assert_eq!(sealed.rsplit(':').next(), moved.rsplit(':').next(), "the ciphertext is the same");
        assert_eq!(both.rewrap(&PLACE, &moved).unwrap(), None);
        assert_eq!(&*ring(&[&new]).open(&PLACE, &moved).unwrap(), b"{}");
        assert!(ring(&[&old]).open(&PLACE, &moved).is_err());
    }

    #[test]
    fn the_same_body_never_looks_the_same() {
        let ring = ring(&[&MasterKey::generate().unwrap()]);
        let all: std::collections::BTreeSet<_> = (0..1_000).map(|_| ring.seal(&PLACE, b"{}").unwrap()).collect();
        assert_eq!(all.len(), 1_000);
    }

    proptest! {
        #[test]
        fn what_was_sealed_is_opened_and_what_was_changed_is_not(body: Vec<u8>, at: proptest::sample::Index, to in "[A-Za-z0-9+/:]") {
            let ring = ring(&[&MasterKey::generate().unwrap()]);
            let sealed = ring.seal(&PLACE, &body).unwrap();
            prop_assert_eq!(&*ring.open(&PLACE, &sealed).unwrap(), body.as_slice());
            let at = at.index(sealed.len());
            let mut changed = sealed.clone();
            changed.replace_range(at..=at, &to);
            prop_assert!(changed == sealed || ring.open(&PLACE, &changed).is_err(), "{} became {}", sealed, changed);
            prop_assert!(ring.open(&PLACE, &sealed[..at]).is_err());
        }
    }
}
