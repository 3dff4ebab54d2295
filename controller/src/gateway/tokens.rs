//! Join tokens: what lets a machine become a node. Kept as Secrets that hold only a hash.

use std::collections::BTreeMap;

use aws_lc_rs::{constant_time, digest, rand};
use crds::{SYSTEM_NAMESPACE, names};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions};
use kube::{Client, ResourceExt};
use node_protocol::JoinToken;

use super::error::Refused;

/// The type of the Secrets that hold join tokens.
pub const SECRET_TYPE: &str = "berth.dev/node-token";
/// What stands before a token's id in its Secret's name.
pub const SECRET_PREFIX: &str = "berth-node-token-";
/// A token is for the next hours; a machine image that holds one for good would be a key lying about.
pub const TTL_SECONDS_MAX: i64 = 30 * 24 * 3600;
/// A fleet is joined with one token; more than this many machines are several fleets.
pub const USES_MAX: u32 = 1_000;

/// What a token is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Region of the nodes that join with it.
    pub region: String,
    /// When it ends.
    pub expires: Timestamp,
    /// How many nodes may still join with it.
    pub uses: u32,
}

/// The keys of a token's Secret. The hash is of the secret's text, as it stands in the token.
mod field {
    pub(super) const SHA256: &str = "sha256";
    pub(super) const REGION: &str = "region";
    pub(super) const EXPIRES: &str = "expires";
    pub(super) const USES: &str = "uses";
}

/// Makes a token and the Secret by which it is recognised. The token itself is kept nowhere.
pub fn make(terms: &Terms, ca_sha256: &str) -> (JoinToken, Secret) {
    let token = JoinToken { id: random::<5>(), secret: random::<32>(), ca_sha256: ca_sha256.to_owned() };
    let data = [
        (field::SHA256, hash(&token.secret)),
        (field::REGION, terms.region.clone()),
        (field::EXPIRES, terms.expires.to_string()),
        (field::USES, terms.uses.to_string()),
    ];
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(format!("{SECRET_PREFIX}{}", token.id)),
            namespace: Some(SYSTEM_NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some(SECRET_TYPE.to_owned()),
        data: Some(data.map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes()))).into()),
        ..Secret::default()
    };
    (token, secret)
}

/// Checks what an administrator asks for.
pub fn terms(region: &str, ttl_seconds: i64, uses: u32, now: Timestamp) -> Result<Terms, Refused> {
    if !names::is_label(region) {
        return Err(Refused::bad_request("region: must be a name of a-z, 0-9 and -, at most 63"));
    }
    if !(60..=TTL_SECONDS_MAX).contains(&ttl_seconds) {
        return Err(Refused::bad_request("ttlSeconds: must be between 60 and 2592000 (30 days)"));
    }
    if !(1..=USES_MAX).contains(&uses) {
        return Err(Refused::bad_request("uses: must be between 1 and 1000"));
    }
    let expires = Timestamp::from_second(now.as_second() + ttl_seconds)
        .or(Err(Refused::bad_request("ttlSeconds: ends beyond the end of time")))?;
    Ok(Terms { region: region.to_owned(), expires, uses })
}

/// Makes a token and keeps its hash through the API, as whoever `client` is.
pub async fn create(client: &Client, terms: &Terms, ca_sha256: &str) -> Result<JoinToken, Refused> {
    let namespace = Namespace {
        metadata: ObjectMeta { name: Some(SYSTEM_NAMESPACE.to_owned()), ..ObjectMeta::default() },
        ..Namespace::default()
    };
    let (token, secret) = make(terms, ca_sha256);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(_) => return Ok(token),
        // A platform that nobody has used yet has no namespace of its own.
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(error.into()),
    }
    match Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        created => drop(created?),
    }
    secrets.create(&PostParams::default(), &secret).await?;
    Ok(token)
}

/// The tokens that there are, by id.
pub async fn list(client: &Client) -> Result<BTreeMap<String, Terms>, Refused> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let listed = secrets.list(&ListParams::default()).await?;
    let tokens =
        listed.items.iter().filter(|secret| secret.type_.as_deref() == Some(SECRET_TYPE)).filter_map(|secret| {
            let id = secret.name_any().strip_prefix(SECRET_PREFIX)?.to_owned();
            Some((id, read(secret)?))
        });
    Ok(tokens.collect())
}

/// Takes a token back.
pub async fn revoke(client: &Client, id: &str) -> Result<(), Refused> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let name = secret_name(id).ok_or_else(|| Refused::not_found("there is no such token"))?;
    secrets.delete(&name, &DeleteParams::default()).await?;
    Ok(())
}

/// The name of a token's Secret, if its id could be one.
fn secret_name(id: &str) -> Option<String> {
    (id.len() <= 32 && names::is_label(id)).then(|| format!("{SECRET_PREFIX}{id}"))
}

/// What became of a token that was shown.
pub(super) enum Burn {
    /// One use of it was taken; the node may join on these terms.
    Burnt(Terms),
    /// There is none of that id any more.
    Gone,
    /// It is wrong or has expired.
    Refused,
}

/// Takes one use of a token. Whoever deletes the Secret, or counts it down, from the version that was read has that
/// use, so of any number who try at once as many succeed as it has uses.
pub(super) async fn burn(client: &Client, id: &str, secret_text: &str, now: Timestamp) -> Result<Burn, Refused> {
    let Some(name) = secret_name(id) else {
        return Ok(Burn::Refused);
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    // Each lost race means that another node has joined, so this many are lost only by a stampede.
    for _ in 0..20 {
        let Some(mut secret) = secrets.get_opt(&name).await? else {
            return Ok(Burn::Gone);
        };
        if secret.metadata.deletion_timestamp.is_some() {
            return Ok(Burn::Gone);
        }
        let Some(terms) = check(&secret, secret_text, now) else {
            return Ok(Burn::Refused);
        };
        let taken = if terms.uses <= 1 {
            let preconditions = Preconditions { uid: secret.uid(), resource_version: secret.resource_version() };
            let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            secrets.delete(&name, &parameters).await.map(drop)
        } else {
            let uses = ByteString((terms.uses - 1).to_string().into_bytes());
            secret.data.get_or_insert_default().insert(field::USES.to_owned(), uses);
            secrets.replace(&name, &PostParams::default(), &secret).await.map(drop)
        };
        match taken {
            Ok(()) => return Ok(Burn::Burnt(terms)),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refused::unavailable("too many nodes join at once"))
}

fn check(secret: &Secret, secret_text: &str, now: Timestamp) -> Option<Terms> {
    let expected = text(secret, field::SHA256)?;
    let given = hash(secret_text);
    let same = constant_time::verify_slices_are_equal(expected.as_bytes(), given.as_bytes()).is_ok();
    let terms = read(secret)?;
    (same && secret.type_.as_deref() == Some(SECRET_TYPE) && terms.expires > now && terms.uses > 0).then_some(terms)
}

fn read(secret: &Secret) -> Option<Terms> {
    Some(Terms {
        region: text(secret, field::REGION)?.to_owned(),
        expires: text(secret, field::EXPIRES)?.parse().ok()?,
        uses: text(secret, field::USES)?.parse().ok()?,
    })
}

fn text<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    std::str::from_utf8(&secret.data.as_ref()?.get(key)?.0).ok()
}

fn hash(secret: &str) -> String {
    hex::encode(digest::digest(&digest::SHA256, secret.as_bytes()))
}

fn random<const BYTES: usize>() -> String {
    let mut bytes = [0; BYTES];
    rand::fill(&mut bytes).expect("the operating system has randomness");
    hex::encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_knows_its_token_and_no_other() {
        let now = Timestamp::from_second(1_900_000_000).unwrap();
        let terms = terms("eu-1", 3600, 2, now).unwrap();
        let (token, secret) = make(&terms, "ca");
        assert_eq!(check(&secret, &token.secret, now), Some(terms.clone()));
        assert_eq!(check(&secret, &token.secret[1..], now), None);
        assert_eq!(check(&secret, "", now), None);
        assert_eq!(check(&secret, &token.secret, terms.expires), None, "expired");
        let other = Secret { type_: Some("Opaque".to_owned()), ..secret.clone() };
        assert_eq!(check(&other, &token.secret, now), None, "somebody's own Secret is no token");
        assert!(!serde_json::to_string(&secret).unwrap().contains(&token.secret));
        assert_eq!(token.secret.len(), 64);
    }

    #[test]
    fn terms_are_bounded() {
        let now = Timestamp::UNIX_EPOCH;
        for (region, ttl, uses) in
            [("", 3600, 1), ("EU", 3600, 1), ("eu", 59, 1), ("eu", i64::MAX, 1), ("eu", 3600, 0), ("eu", 3600, 1001)]
        {
            assert!(terms(region, ttl, uses, now).is_err(), "{region} {ttl} {uses}");
        }
        assert_eq!(secret_name("../x"), None);
    }
}
