//! Tokens that open, and those that must not.

use std::time::Duration;

use super::*;
use crate::service_accounts::token::{Bound, sign, verify};
use crate::store::Settings;

fn claims() -> Claims {
    Claims {
        aud: vec![AUDIENCE.into()],
        exp: 2_000,
        iat: 1_000,
        iss: AUDIENCE.into(),
        jti: "j".into(),
        nbf: 990,
        sub: "system:serviceaccount:acme:bot".into(),
        bound: Bound {
            namespace: "acme".into(),
            serviceaccount: Reference { name: "bot".into(), uid: "u".into() },
            secret: None,
        },
    }
}

#[test]
fn only_what_was_signed_with_the_key_is_read() {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
    let text = sign(&key, &claims()).unwrap();
    assert_eq!(verify(&key, &text), Some(claims()));
    assert_eq!(verify(&hmac::Key::new(hmac::HMAC_SHA256, &[8; 32]), &text), None);
    let parts: Vec<&str> = text.split('.').collect();
    let none = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    for forged in [
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{}.{}.{}x", parts[0], parts[1], parts[2]),
        format!("{}.{}A.{}", parts[0], parts[1], parts[2]),
        format!("{text}.{}", parts[2]),
        String::new(),
        "..".to_owned(),
    ] {
        assert_eq!(verify(&key, &forged), None, "{forged}");
    }
    // Every single bit counts.
    for position in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[position] ^= 1;
        if let Ok(changed) = String::from_utf8(bytes) {
            assert_eq!(verify(&key, &changed), None, "{position}");
        }
    }
}

#[tokio::test]
async fn a_token_is_valid_between_its_times_and_for_the_same_account_only() {
    let clock = Clock::settable(jiff::Timestamp::from_second(1_000).unwrap());
    let kinds = Kinds::new(crate::core_kinds::all()).unwrap();
    let settings = Settings { clock: clock.clone(), ..Settings::default() };
    let store = Store::open_in_memory(kinds.tables(), settings).await.unwrap();
    let tokens = Tokens::new(store.clone(), &kinds, clock.clone()).unwrap();
    let text = tokens.issue(&claims()).await.unwrap();
    assert!(tokens.read(&text).is_none(), "there is no such account");
    let account = |uid: &str| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "bot", "namespace": "acme", "uid": uid}});
    let key = Key::new(tokens.accounts, "acme", "bot");
    let made = store.write(Write::Create { key: key.clone(), body: account("u") }).await.unwrap();
    let valid = tokens.read(&text).unwrap();
    assert_eq!((&*valid.identity.user, &*valid.identity.uid), ("system:serviceaccount:acme:bot", "u"));
    clock.advance(Duration::from_secs(999));
    assert!(tokens.read(&text).is_some());
    clock.advance(Duration::from_secs(1));
    assert!(tokens.read(&text).is_none(), "its time is over");
    clock.set(jiff::Timestamp::from_second(989).unwrap());
    assert!(tokens.read(&text).is_none(), "its time has not come");
    clock.set(jiff::Timestamp::from_second(1_500).unwrap());
    assert!(tokens.read(&text).is_some());

    // Another server on the same store knows the token; another store does not.
    let beside = Tokens::new(store.clone(), &kinds, clock.clone()).unwrap();
    assert!(beside.read(&text).is_some());
    let elsewhere = Store::open_in_memory(kinds.tables(), Settings::default()).await.unwrap();
    assert!(Tokens::new(elsewhere, &kinds, clock.clone()).unwrap().read(&text).is_none());

    let removal = Write::Remove { key: key.clone(), expected_revision: made.revision, body: None };
    store.write(removal).await.unwrap();
    store.write(Write::Create { key, body: account("other") }).await.unwrap();
    assert!(tokens.read(&text).is_none(), "an account of the same name is another account");
}
