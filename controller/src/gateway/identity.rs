//! Who an agent is: a node, by a short-lived token that it signs with its own key.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use crds::Node;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use node_protocol::{Claims, TOKEN_AUDIENCE};

/// The longest that a token may be good for. Agents sign a new one for each connection.
const LIFETIME_SECONDS_MAX: i64 = 600;
/// How far the clocks of a node and the platform may differ.
const SKEW_SECONDS_MAX: i64 = 60;
/// The length of an Ed25519 public key.
const KEY_BYTES: usize = 32;

/// Why a token proves nothing. The agent is told only that it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// There is no token, or none in the right form.
    #[error("no bearer token")]
    Missing,
    /// The node is unknown, or its key was taken away.
    #[error("no such node, or its key was revoked")]
    Revoked,
    /// The signature, the algorithm, the audience or the subject is not the node's.
    #[error("the token is not this node's")]
    Forged,
    /// It is good for no time that includes now, or for too long.
    #[error("the token has expired, is from the future, or is good for too long")]
    Expired,
}

/// Reads a public key as it stands in `spec.publicKey`: base64 of 32 bytes, with or without padding.
pub(super) fn public_key(text: &str) -> Option<Vec<u8>> {
    let key = STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).ok()?;
    (key.len() == KEY_BYTES).then_some(key)
}

/// Checks that a token was signed by the node of this uid.
pub(super) fn verify(token: &str, uid: &str, node: Option<&Node>, now: Timestamp) -> Result<(), Error> {
    let key = node.and_then(|node| node.spec.public_key.as_deref()).and_then(public_key).ok_or(Error::Revoked)?;
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_audience(&[TOKEN_AUDIENCE]);
    validation.set_required_spec_claims(&["exp", "aud", "sub"]);
    validation.sub = Some(uid.to_owned());
    // The time is the caller's, below, and not the library's.
    validation.validate_exp = false;
    let claims = jsonwebtoken::decode::<Claims>(token, &DecodingKey::from_ed_der(&key), &validation)
        .or(Err(Error::Forged))?
        .claims;
    let now = now.as_second();
    let lasts = claims.exp.saturating_sub(claims.iat);
    let good = claims.exp > now && claims.iat <= now.saturating_add(SKEW_SECONDS_MAX);
    if good && (0..=LIFETIME_SECONDS_MAX).contains(&lasts) { Ok(()) } else { Err(Error::Expired) }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use crds::node::NodeSpec;
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1_900_000_000;

    /// A key pair, and the same as PKCS#8.
    struct Agent(Ed25519KeyPair, Vec<u8>);

    impl Agent {
        fn new() -> Self {
            let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
            Self(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap(), document.as_ref().to_vec())
        }

        fn node(&self) -> Node {
            let key = STANDARD.encode(self.0.public_key().as_ref());
            let spec: NodeSpec = serde_json::from_value(json!({ "publicKey": key })).unwrap();
            Node::new("a", spec)
        }

        fn sign(&self, claims: &Value) -> String {
            let key = EncodingKey::from_ed_der(&self.1);
            jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), claims, &key).unwrap()
        }
    }

    fn claims() -> Value {
        json!({ "sub": "uid-a", "aud": TOKEN_AUDIENCE, "iat": NOW, "exp": NOW + 300 })
    }

    fn with(change: impl FnOnce(&mut Value)) -> Value {
        let mut value = claims();
        change(&mut value);
        value
    }

    fn check(token: &str, node: Option<&Node>) -> Result<(), Error> {
        verify(token, "uid-a", node, Timestamp::from_second(NOW).unwrap())
    }

    #[test]
    fn the_nodes_own_token_is_taken_and_no_other() {
        let (agent, other) = (Agent::new(), Agent::new());
        let node = agent.node();
        assert_eq!(check(&agent.sign(&claims()), Some(&node)), Ok(()));
        assert_eq!(check(&other.sign(&claims()), Some(&node)), Err(Error::Forged), "another node's key");
        assert_eq!(check(&agent.sign(&claims()), None), Err(Error::Revoked), "no such node");
        let mut revoked = node.clone();
        revoked.spec.public_key = None;
        assert_eq!(check(&agent.sign(&claims()), Some(&revoked)), Err(Error::Revoked));
        for wrong in [
            with(|c| c["aud"] = json!("berth-api")),
            with(|c| c["sub"] = json!("uid-b")),
            with(|c| drop(c.as_object_mut().unwrap().remove("aud"))),
            with(|c| drop(c.as_object_mut().unwrap().remove("sub"))),
            with(|c| drop(c.as_object_mut().unwrap().remove("exp"))),
        ] {
            assert_eq!(check(&agent.sign(&wrong), Some(&node)), Err(Error::Forged), "{wrong}");
        }
    }

    #[test]
    fn a_token_is_good_for_minutes() {
        let agent = Agent::new();
        let node = agent.node();
        let lasts = |iat: i64, exp: i64| {
            let token = agent.sign(&with(|c| {
                c["iat"] = json!(NOW + iat);
                c["exp"] = json!(NOW + exp);
            }));
            check(&token, Some(&node))
        };
        assert_eq!(lasts(-299, 1), Ok(()));
        assert_eq!(lasts(30, 330), Ok(()), "the node's clock is half a minute ahead");
        assert_eq!(lasts(-300, 0), Err(Error::Expired));
        assert_eq!(lasts(120, 300), Err(Error::Expired), "from the future");
        assert_eq!(lasts(0, 601), Err(Error::Expired), "too long");
        assert_eq!(lasts(30, 20), Err(Error::Expired), "ends before it begins");
        assert_eq!(lasts(i64::MIN + NOW, 100), Err(Error::Expired));
    }

    #[test]
    fn only_one_algorithm_is_taken() {
        let agent = Agent::new();
        let node = agent.node();
        let body = URL_SAFE_NO_PAD.encode(claims().to_string());
        let genuine = agent.sign(&claims());
        let signature = genuine.rsplit_once('.').unwrap().1;
        for (header, end) in [
            (json!({"alg":"none"}), ""),
            (json!({"alg":"none"}), signature),
            (json!({"alg":"None","typ":"JWT"}), ""),
            (json!({"alg":"HS256"}), signature),
            (json!({"alg":"RS256"}), signature),
            (json!({"alg":"EdDSA"}), ""),
        ] {
            let token = format!("{}.{body}.{end}", URL_SAFE_NO_PAD.encode(header.to_string()));
            assert_eq!(check(&token, Some(&node)), Err(Error::Forged), "{header}");
        }
        // Signed with the public key as if it were a shared secret.
        let key = EncodingKey::from_secret(agent.0.public_key().as_ref());
        let swapped = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(), &key).unwrap();
        assert_eq!(check(&swapped, Some(&node)), Err(Error::Forged));
        for junk in ["", ".", "..", "a.b.c", &genuine[1..], &genuine[..genuine.len() - 2]] {
            assert_eq!(check(junk, Some(&node)), Err(Error::Forged), "{junk}");
        }
    }

    #[test]
    fn keys_are_32_bytes() {
        assert!(public_key(&STANDARD.encode([7; 32])).is_some());
        assert!(public_key(&STANDARD_NO_PAD.encode([7; 32])).is_some());
        for bad in ["", "!", &STANDARD.encode([7; 31]), &STANDARD.encode([7; 33])] {
            assert_eq!(public_key(bad), None, "{bad}");
        }
    }
}
