//! A token's form: a JSON Web Token (RFC 7519), signed with HMAC-SHA-256 (RFC 7515). One algorithm, one header, compared
//! byte by byte: there is nothing for a forger to choose. Pure.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// `{"alg":"HS256","typ":"JWT"}`
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

/// What a token says, in the words of Kubernetes' tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    /// What it is for.
    pub(super) aud: Vec<String>,
    /// From when on it is no longer valid; seconds since 1970, as the other times.
    pub(super) exp: i64,
    /// When it was made.
    pub(super) iat: i64,
    /// Who made it.
    pub(super) iss: String,
    /// Its own name, which is no secret.
    pub(super) jti: String,
    /// From when on it is valid.
    pub(super) nbf: i64,
    /// The account's user name.
    pub(super) sub: String,
    /// What it is bound to.
    #[serde(rename = "kubernetes.io")]
    pub(super) bound: Bound,
}

/// The objects that must be there for the token to be valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bound {
    pub(super) namespace: String,
    pub(super) serviceaccount: Reference,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) secret: Option<Reference>,
}

/// One object, and no later one of its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reference {
    pub(super) name: String,
    pub(super) uid: String,
}

/// The token's text.
pub(super) fn sign(key: &hmac::Key, claims: &Claims) -> Result<String, serde_json::Error> {
    let signed = format!("{HEADER}.{}", URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims)?));
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(key, signed.as_bytes()));
    Ok(format!("{signed}.{signature}"))
}

/// What a text says, if it was signed with this key. The times are for the caller to judge.
pub(super) fn verify(key: &hmac::Key, text: &str) -> Option<Claims> {
    let (signed, signature) = text.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    if header != HEADER {
        return None;
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    hmac::verify(key, signed.as_bytes(), &signature).ok()?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}
