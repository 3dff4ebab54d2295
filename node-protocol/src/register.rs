//! How a node joins and proves who it is.
//!
//! A join token carries the address and the fingerprint of the platform's CA, so that a new node trusts exactly that
//! platform. The node makes an Ed25519 key, registers its public half against the token, and from then on signs
//! short-lived JWTs with it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// The audience of the JWTs that agents sign.
pub const TOKEN_AUDIENCE: &str = "berth-gateway";

/// What `berth node token` prints: `bnt1.` and this, as base64url JSON.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinToken {
    /// Names the token, no secret.
    pub id: String,
    /// 256 random bits, hexadecimal; the platform keeps only their SHA-256.
    pub secret: String,
    /// SHA-256 of the CA certificate's DER, hexadecimal.
    pub ca_sha256: String,
}

impl JoinToken {
    /// The token as text.
    pub fn encode(&self) -> String {
        let json = serde_json::to_vec(self).expect("three strings serialise");
        format!("bnt1.{}", URL_SAFE_NO_PAD.encode(json))
    }

    /// Reads a token; `None` for anything else.
    pub fn decode(text: &str) -> Option<Self> {
        let json = URL_SAFE_NO_PAD.decode(text.trim().strip_prefix("bnt1.")?).ok()?;
        serde_json::from_slice(&json).ok()
    }
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinToken({})", self.id)
    }
}

/// Body of `POST /api/internal/paas/nodes/register`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    /// The token's id.
    pub token_id: String,
    /// The token's secret.
    pub token_secret: String,
    /// The name the node wishes, usually its host name; a taken one is refused.
    pub name: String,
    /// The public half of its Ed25519 key, base64.
    pub public_key: String,
    /// Version of the agent.
    pub agent_version: String,
}

/// Its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistrationAnswer {
    /// Name of the Node.
    pub name: String,
    /// Uid of the Node: the `{id}` of all further paths and the `sub` of its JWTs.
    pub uid: String,
    /// Region of the Node, from the token.
    pub region: String,
}

/// What an agent signs, with `EdDSA` and for a few minutes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Uid of the Node.
    pub sub: String,
    /// [`TOKEN_AUDIENCE`].
    pub aud: String,
    /// When it was signed, in seconds since 1970.
    pub iat: i64,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_being_text() {
        let token = JoinToken { id: "a1".to_owned(), secret: "5e".repeat(32), ca_sha256: "ca".repeat(32) };
        assert_eq!(JoinToken::decode(&format!(" {}\n", token.encode())), Some(token.clone()));
        assert!(!format!("{token:?}").contains(&token.secret));
        for bad in ["", "bnt1.", "bnt1.e30", "bnt2.e30", "x"] {
            assert_eq!(JoinToken::decode(bad), None, "{bad}");
        }
    }
}
