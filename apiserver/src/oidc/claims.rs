//! What a token says, and whether it is believed: OpenID Connect Core 1.0, section 3.1.3.7, and RFC 7515 and 7519 behind it.
//! Pure.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};

use super::{RESERVED_PREFIX, Settings};
use crate::auth::Identity;

/// Clocks of machines differ by some seconds.
const SKEW_SECONDS: f64 = 30.0;
/// Longer names are nobody's.
const NAME_CHARS_MAX: usize = 512;
/// People are in some dozens of groups; directories hand out some hundreds.
const GROUPS_MAX: usize = 1_024;

type Claims = Map<String, Value>;

/// What the head of a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
}

/// Reads the head of a token, and whether it claims to be for here: nothing of it is proved yet.
pub(super) fn header(token: &str, settings: &Settings) -> Result<Header, String> {
    let [head, body, _] = token.split('.').collect::<Vec<_>>()[..] else { return Err("it has not three parts".into()) };
    let head = object(head)?;
    let text = |name: &str| head.get(name).and_then(Value::as_str);
    let algorithm = text("alg").unwrap_or_default();
    let known = super::ALGORITHMS.iter().find(|(name, _)| *name == algorithm).map(|(_, algorithm)| *algorithm);
    let algorithm = known.filter(|algorithm| settings.algorithms.contains(algorithm)).ok_or("its algorithm")?;
    if head.contains_key("crit") {
        return Err("it has critical parts that are not understood".into());
    }
    // Other kinds of tokens are signed by the same key: for another API, or to end a session.
    if head.contains_key("typ") && !text("typ").is_some_and(|typ| typ.eq_ignore_ascii_case("JWT")) {
        return Err("it is another kind of token".into());
    }
    let kid = match head.get("kid") {
        None => None,
        Some(Value::String(kid)) if !kid.is_empty() => Some(kid.clone()),
        Some(_) => return Err("its key's name is none".into()),
    };
    is_meant(&object(body)?, settings)?;
    Ok(Header { algorithm, kid })
}

fn object(part: &str) -> Result<Claims, String> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

/// Whether it is of this provider, for this client.
fn is_meant(claims: &Claims, settings: &Settings) -> Result<(), String> {
    if claims.get("iss").and_then(Value::as_str) != Some(&settings.issuer_url) {
        return Err("it is of another issuer".into());
    }
    let audiences: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let client = settings.client_id.as_str();
    if !audiences.contains(&client) {
        return Err("it is for others".into());
    }
    match claims.get("azp") {
        None if audiences.len() == 1 => Ok(()),
        Some(Value::String(party)) if party == client => Ok(()),
        _ => Err("it was given to another party".into()),
    }
}

/// What a token says, if one of the keys has signed it.
pub(super) fn verified(token: &str, header: &Header, keys: &[DecodingKey]) -> Result<Claims, String> {
    let mut validation = Validation::new(header.algorithm);
    // Time is asked of our own clock, and the rest is judged below.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let mut reason = "there is no key of that name".to_owned();
    for key in keys {
        match jsonwebtoken::decode::<Claims>(token, key, &validation) {
            Ok(decoded) => return Ok(decoded.claims),
            Err(error) => reason = error.to_string(),
        }
    }
    Err(reason)
}

/// Who it is.
pub(super) fn identity(claims: &Claims, settings: &Settings, now: Timestamp) -> Result<Identity, String> {
    is_meant(claims, settings)?;
    is_in_time(claims, now)?;
    for (name, value) in &settings.required_claims {
        if claims.get(name).and_then(Value::as_str) != Some(value) {
            return Err(format!("its claim {name} is not what is required"));
        }
    }
    // A token that says a session has ended is signed by the same key.
    if claims.contains_key("events") {
        return Err("it is another kind of token".into());
    }
    let name = claims.get(&settings.username_claim).and_then(Value::as_str).unwrap_or_default();
    let user = acceptable(&settings.username_prefix, name).ok_or("it names no user")?;
    // An address that nobody has shown to be theirs is anybody's.
    if settings.username_claim == "email" && claims.get("email_verified").is_some_and(|verified| *verified != true) {
        return Err("its e-mail address is not verified".into());
    }
    let groups = match settings.groups_claim.as_ref().and_then(|claim| claims.get(claim)) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(several)) => {
            let texts: Option<Vec<&str>> = several.iter().map(Value::as_str).collect();
            texts.ok_or("its groups are no texts")?
        }
        Some(_) => return Err("its groups are no texts".into()),
    };
    if groups.len() > GROUPS_MAX {
        return Err(format!("it has more than {GROUPS_MAX} groups"));
    }
    // A group that is none to us is left out: the others are the person's nevertheless.
    let groups = groups.into_iter().filter_map(|group| acceptable(&settings.groups_prefix, group));
    let mut identity = Identity::new(user, groups);
    if let Some(id) = claims.get("jti").and_then(Value::as_str).filter(|id| id.len() <= NAME_CHARS_MAX) {
        let credential = format!("JTI={id}");
        identity.extra.insert("authentication.kubernetes.io/credential-id".into(), vec![credential]);
    }
    Ok(identity)
}

/// A name behind its prefix, unless it is none, or one that no provider speaks for.
fn acceptable(prefix: &str, name: &str) -> Option<String> {
    let full = format!("{prefix}{name}");
    let sound = !name.is_empty() && full.chars().count() <= NAME_CHARS_MAX && !full.chars().any(char::is_control);
    (sound && !full.starts_with(RESERVED_PREFIX)).then_some(full)
}

fn is_in_time(claims: &Claims, now: Timestamp) -> Result<(), String> {
    let now = now.as_duration().as_secs_f64();
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or(format!("its {name} is no time")),
    };
    let expires = time("exp")?.ok_or("it has no end")?;
    if now >= expires + SKEW_SECONDS {
        return Err("it has expired".into());
    }
    for name in ["nbf", "iat"] {
        if time(name)?.is_some_and(|begins| now < begins - SKEW_SECONDS) {
            return Err("it is not valid yet".into());
        }
    }
    Ok(())
}
