//! A provider of the tests, and what is made of its tokens, of forged ones above all.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};
use aws_lc_rs::{hmac, rsa};
use axum::Router;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Algorithm, Error, Oidc, Settings};
use crate::auth::{Authenticator as _, Identity};
use crate::clock::Clock;

const NOW: i64 = 1_800_000_000;

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Keys that sign.
struct Signer {
    ec: EcdsaKeyPair,
    rsa: RsaKeyPair,
}

impl Signer {
    fn new() -> Self {
        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { ec, rsa: rsa::KeyPair::generate(KeySize::Rsa2048).unwrap() }
    }

    /// The public halves, as a provider publishes them.
    fn keys(&self, ec: &str, rsa: &str) -> Value {
        let point = self.ec.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        let public = self.rsa.public_key();
        let (n, e) = (public.modulus(), public.exponent());
        json!([
            {"kty": "oct", "kid": "shared", "k": encode("secret")},
            {"kty": "new", "kid": "of tomorrow"},
            {"kty": "EC", "kid": ec, "use": "sig", "alg": "ES256", "crv": "P-256", "x": encode(x), "y": encode(y)},
            {"kty": "RSA", "kid": rsa, "n": encode(n.big_endian_without_leading_zero()), "e": encode(e.big_endian_without_leading_zero())},
            {"kty": "EC", "kid": "enc", "use": "enc", "crv": "P-256", "x": encode(x), "y": encode(y)},
        ])
    }

    fn sign(&self, head: &Value, claims: &Value) -> String {
        self.sign_text(head["alg"].as_str().unwrap_or_default(), &head.to_string(), &claims.to_string())
    }

    fn sign_text(&self, algorithm: &str, head: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encode(head), encode(claims));
        let random = SystemRandom::new();
        let rsa = |padding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(padding, &random, signed.as_bytes(), &mut signature).unwrap();
            signature
        };
        let signature = match algorithm {
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "PS256" => rsa(&RSA_PSS_SHA256),
            _ => self.ec.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
        };
        format!("{signed}.{}", encode(signature))
    }
}

/// A provider that listens.
struct Provider {
    issuer: String,
    ca_pem: String,
    signer: Signer,
    keys: Arc<Mutex<Value>>,
    asked: Arc<AtomicUsize>,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Provider {
    async fn new() -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let folder = tempfile::tempdir().unwrap();
        let pki = crate::pki::load_or_create(folder.path(), &["127.0.0.1".to_owned()], &Clock::system()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("https://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let signer = Signer::new();
        let keys = Arc::new(Mutex::new(signer.keys("ec", "rsa")));
        let asked = Arc::new(AtomicUsize::new(0));
        let discovery = json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")});
        let (counted, published) = (Arc::clone(&asked), Arc::clone(&keys));
        let routes =
            Router::new().route("/.well-known/openid-configuration", get(async move || axum::Json(discovery))).route(
                "/keys",
                get(async move || {
                    counted.fetch_add(1, Ordering::SeqCst);
                    let keys = published.lock().unwrap().clone();
                    axum::Json(json!({"keys": keys}))
                }),
            );
        let stop = CancellationToken::new();
        let (tls, until) = (pki.server_config().unwrap(), stop.clone());
        crate::task::spawn("provider", async move { crate::serve(listener, tls, routes, until).await.unwrap() });
        Self { issuer, ca_pem: pki.ca_pem, signer, keys, asked, stop, _folder: folder }
    }

    fn settings(&self) -> Settings {
        Settings {
            issuer_url: self.issuer.clone(),
            client_id: "berth".into(),
            username_claim: "sub".into(),
            username_prefix: "oidc:".into(),
            groups_claim: Some("groups".into()),
            groups_prefix: "oidc:".into(),
            required_claims: Vec::new(),
            ca_pem: Some(self.ca_pem.clone().into_bytes()),
            algorithms: vec![Algorithm::RS256, Algorithm::ES256],
        }
    }

    fn reader(&self, change: impl FnOnce(&mut Settings)) -> Oidc {
        let mut settings = self.settings();
        change(&mut settings);
        Oidc::new(settings, Clock::settable(Timestamp::from_second(NOW).unwrap())).unwrap()
    }

    /// Claims that are believed.
    fn claims(&self) -> Value {
        json!({
            "iss": self.issuer, "aud": "berth", "sub": "ann", "exp": NOW + 600, "iat": NOW, "nbf": NOW,
            "groups": ["dev", "ops"], "jti": "one", "email": "ann@example.com", "email_verified": true,
        })
    }

    fn with(&self, change: &Value) -> Value {
        let mut claims = self.claims();
        for (name, value) in change.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        claims
    }

    fn token(&self, change: &Value) -> String {
        self.signer.sign(&json!({"alg": "ES256", "kid": "ec", "typ": "JWT"}), &self.with(change))
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn read(oidc: &Oidc, token: &str) -> Option<Identity> {
    let request = http::Request::builder().header("authorization", format!("Bearer {token}")).body(()).unwrap();
    oidc.authenticate(&request.into_parts().0).await
}

#[tokio::test]
async fn a_token_says_who_it_is() {
    let provider = Provider::new().await;
    let oidc = provider.reader(|settings| settings.algorithms.push(Algorithm::PS256));
    assert_eq!(provider.asked.load(Ordering::SeqCst), 0, "nobody is asked before it is needed");
    let me = read(&oidc, &provider.token(&json!({}))).await.unwrap();
    assert_eq!((me.user.as_str(), me.groups.join(" ")), ("oidc:ann", "oidc:dev oidc:ops system:authenticated".into()));
    assert_eq!(me.extra["authentication.kubernetes.io/credential-id"], ["JTI=one"]);
    for head in [
        json!({"alg": "RS256", "kid": "rsa"}),
        json!({"alg": "PS256", "kid": "rsa", "typ": "jwt"}),
        json!({"alg": "RS256"}),
        json!({"alg": "ES256"}),
    ] {
        assert!(read(&oidc, &provider.signer.sign(&head, &provider.claims())).await.is_some(), "{head}");
    }
    for change in [
        json!({"aud": ["berth"]}),
        json!({"aud": ["other", "berth"], "azp": "berth"}),
        json!({"azp": "berth"}),
        json!({"nbf": null, "iat": null, "jti": null}),
        json!({"exp": NOW - 10}),
        json!({"nbf": NOW + 10, "iat": NOW + 10}),
        json!({"exp": 1_800_000_100.5}),
        json!({"groups": null}),
        json!({"groups": "dev"}),
    ] {
        assert!(read(&oidc, &provider.token(&change)).await.is_some(), "{change}");
    }
    assert_eq!(provider.asked.load(Ordering::SeqCst), 1, "and then once");
}

#[tokio::test]
async fn what_is_not_proved_opens_nothing() {
    let provider = Provider::new().await;
    let oidc = provider.reader(|settings| settings.required_claims = vec![("tenant".into(), "acme".into())]);
    let ok = json!({"tenant": "acme"});
    let good = provider.token(&ok);
    assert!(read(&oidc, &good).await.is_some());
    let claims = provider.with(&ok).to_string();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (head, body) = signed.split_once('.').unwrap();
    let stranger = Signer::new();
    let es = json!({"alg": "ES256", "kid": "ec"});
    let signed_as = |head: &Value| provider.signer.sign(head, &provider.with(&ok));
    let claimed = |change: Value| {
        let mut claims = ok.clone();
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        provider.token(&claims)
    };
    let with_head = |head: &str, algorithm: &str| provider.signer.sign_text(algorithm, head, &claims);
    // The classic: the public key, which everybody has, as the secret of a symmetric algorithm.
    let symmetric = |secret: &[u8]| {
        let signed = format!("{}.{}", encode(r#"{"alg":"HS256","kid":"rsa"}"#), encode(&claims));
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        format!("{signed}.{}", encode(hmac::sign(&key, signed.as_bytes())))
    };
    let public = provider.keys.lock().unwrap()[3]["n"].as_str().unwrap().to_owned();
    let mut flipped = URL_SAFE_NO_PAD.decode(signature).unwrap();
    flipped[10] ^= 1;
    let other_body = encode(claims.replace("\"ann\"", "\"eve\""));
    let bad = [
        ("nothing", String::new()),
        ("one part", head.to_owned()),
        ("two parts", signed.to_owned()),
        ("no signature", format!("{signed}.")),
        ("four parts", format!("{good}.x")),
        ("five parts, as encrypted tokens have", format!("{good}.x.y")),
        ("a truncated signature", good[..good.len() - 4].to_owned()),
        ("a flipped bit", format!("{signed}.{}", encode(&flipped))),
        ("a signature of zeros", format!("{signed}.{}", encode([0; 64]))),
        ("an empty body", format!("{head}..{signature}")),
        ("another body", format!("{head}.{other_body}.{signature}")),
        ("no base64", format!("{head}.{body}!.{signature}")),
        ("padded base64", format!("{head}.{body}==.{signature}")),
        ("a head that is no JSON", with_head("{", "ES256")),
        ("a body that is no JSON", provider.signer.sign_text("ES256", &es.to_string(), "ann")),
        ("a body that is a list", provider.signer.sign_text("ES256", &es.to_string(), "[1]")),
        ("no algorithm", format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(&claims))),
        ("no algorithm, written otherwise", format!("{}.{}.", encode(r#"{"alg":"NoNe"}"#), encode(&claims))),
        ("an algorithm that is missing", with_head(r#"{"kid":"ec"}"#, "ES256")),
        ("HS256 with the public key", symmetric(public.as_bytes())),
        ("HS256 with the public key's bytes", symmetric(&URL_SAFE_NO_PAD.decode(&public).unwrap())),
        ("HS256 with nothing", symmetric(b"")),
        ("an algorithm that is not wanted", signed_as(&json!({"alg": "PS256", "kid": "rsa"}))),
        ("an algorithm that the key is not for", with_head(r#"{"alg":"RS256","kid":"ec"}"#, "ES256")),
        ("a key that is for encryption", signed_as(&json!({"alg": "ES256", "kid": "enc"}))),
        ("an unknown key", signed_as(&json!({"alg": "ES256", "kid": "other"}))),
        ("a key's name that is a number", signed_as(&json!({"alg": "ES256", "kid": 1}))),
        ("a critical part", signed_as(&json!({"alg": "ES256", "kid": "ec", "crit": ["b64"], "b64": false}))),
        ("a token for an API", signed_as(&json!({"alg": "ES256", "kid": "ec", "typ": "at+jwt"}))),
        ("a token that ends a session", signed_as(&json!({"alg": "ES256", "kid": "ec", "typ": "logout+jwt"}))),
        (
            "a key that it brings along",
            stranger.sign(&json!({"alg": "ES256", "jwk": stranger.keys("a", "b")[2]}), &provider.with(&ok)),
        ),
        ("a stranger's key of the same name", stranger.sign(&es, &provider.with(&ok))),
        ("another issuer", claimed(json!({"iss": "https://id.example.com"}))),
        ("the issuer with a slash", claimed(json!({"iss": format!("{}/", provider.issuer)}))),
        ("no issuer", claimed(json!({"iss": ""}))),
        ("another client", claimed(json!({"aud": "other"}))),
        ("no client", claimed(json!({"aud": []}))),
        ("a client that is a number", claimed(json!({"aud": 1}))),
        ("given to another party", claimed(json!({"azp": "other"}))),
        ("several clients, and none of them it", claimed(json!({"aud": ["berth", "other"]}))),
        ("expired", claimed(json!({"exp": NOW - 31}))),
        ("expired long ago", claimed(json!({"exp": 0}))),
        ("an end that is a text", claimed(json!({"exp": (NOW + 600).to_string()}))),
        ("not valid yet", claimed(json!({"nbf": NOW + 31}))),
        ("of the future", claimed(json!({"iat": NOW + 3600}))),
        ("an empty name", claimed(json!({"sub": ""}))),
        ("a name that is a number", claimed(json!({"sub": 7}))),
        ("a name with a line break", claimed(json!({"sub": "ann\nX"}))),
        ("a name of a thousand letters", claimed(json!({"sub": "a".repeat(1_000)}))),
        ("groups that are numbers", claimed(json!({"groups": [1]}))),
        ("groups that are an object", claimed(json!({"groups": {"dev": true}}))),
        ("another tenant", claimed(json!({"tenant": "bolt"}))),
        ("no tenant", provider.token(&json!({}))),
        ("an event", claimed(json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}))),
    ];
    let mut seen = BTreeSet::new();
    for (what, token) in &bad {
        assert!(seen.insert(token), "{what}: it is another's");
        assert_eq!(read(&oidc, token).await, None, "{what}");
    }
    let no_end = provider.signer.sign(&es, &provider.with(&json!({"tenant": "acme", "exp": null})));
    assert_eq!(read(&oidc, &no_end).await, None, "no end");
    assert!(bad.len() > 50);
    assert!(read(&oidc, &good).await.is_some(), "it is still good");
}

#[tokio::test]
async fn no_provider_speaks_for_kubernetes_own_names() {
    let provider = Provider::new().await;
    for (prefix, name) in
        [("", "system:admin"), ("sys", "tem:admin"), ("", "system:serviceaccount:kube-system:default")]
    {
        let oidc = provider.reader(|settings| settings.username_prefix = prefix.into());
        assert_eq!(read(&oidc, &provider.token(&json!({"sub": name}))).await, None, "{prefix}{name}");
    }
    let oidc = provider.reader(|settings| settings.groups_prefix = String::new());
    let groups = json!({"groups": ["system:masters", "dev", "", "a\nb", "system:"]});
    let me = read(&oidc, &provider.token(&groups)).await.unwrap();
    assert_eq!(me.groups, ["dev", "system:authenticated"]);
    assert!(!me.is_admin());
    let refused = |change: fn(&mut Settings)| {
        let mut settings = provider.settings();
        change(&mut settings);
        Oidc::new(settings, Clock::system()).unwrap_err()
    };
    assert!(matches!(refused(|settings| settings.username_prefix = "system:x".into()), Error::Prefix(_)));
    assert!(matches!(refused(|settings| settings.groups_prefix = "system:".into()), Error::Prefix(_)));
    for issuer in ["http://id.example.com", "id.example.com", "https://id.example.com?x=1", "https://", ""] {
        let mut settings = provider.settings();
        settings.issuer_url = issuer.into();
        assert!(matches!(Oidc::new(settings, Clock::system()), Err(Error::Issuer(_))), "{issuer}");
    }
    assert!(matches!(refused(|settings| settings.client_id = String::new()), Error::Missing(_)));
    assert!(matches!(refused(|settings| settings.ca_pem = Some(b"no certificate".to_vec())), Error::Client(_)));
}

#[tokio::test]
async fn an_address_is_its_owners() {
    let provider = Provider::new().await;
    let oidc = provider.reader(|settings| {
        settings.username_claim = "email".into();
        settings.username_prefix = String::new();
    });
    let me = read(&oidc, &provider.token(&json!({}))).await.unwrap();
    assert_eq!(me.user, "ann@example.com");
    assert!(read(&oidc, &provider.token(&json!({"email_verified": null}))).await.is_some(), "as Kubernetes has it");
    for unverified in [json!(false), json!("true"), json!(1)] {
        assert_eq!(read(&oidc, &provider.token(&json!({"email_verified": unverified}))).await, None);
    }
}

#[tokio::test]
async fn a_provider_is_asked_seldom_and_may_change_its_keys() {
    let provider = Provider::new().await;
    let oidc = provider.reader(|_| {});
    let (old, asked) = (provider.token(&json!({})), || provider.asked.load(Ordering::SeqCst));
    // Many who come at once are one question.
    let all = futures::future::join_all((0..20).map(|_| read(&oidc, &old))).await;
    assert!(all.iter().all(Option::is_some));
    assert_eq!(asked(), 1);
    // However long it takes to make keys and to sign: until here nothing more comes from the provider.
    tokio::time::pause();
    let new = Signer::new();
    let next = new.sign(&json!({"alg": "ES256", "kid": "next"}), &provider.claims());
    for n in 0..20 {
        let unknown = provider.signer.sign(&json!({"alg": "ES256", "kid": n.to_string()}), &provider.claims());
        assert_eq!(read(&oidc, &unknown).await, None);
    }
    assert_eq!(asked(), 1, "the pause is not over");
    *provider.keys.lock().unwrap() = new.keys("next", "rsa2");
    assert_eq!(read(&oidc, &next).await, None);
    tokio::time::resume();
    oidc.keys.after_the_pause().await;
    assert!(read(&oidc, &next).await.is_some());
    assert_eq!(read(&oidc, &old).await, None, "a key that was taken back proves nothing");
    assert_eq!(asked(), 2);
    // What is not meant for here makes nobody ask.
    oidc.keys.after_the_pause().await;
    for token in
        ["a.b.c".to_owned(), new.sign(&json!({"alg": "ES256", "kid": "x"}), &provider.with(&json!({"aud": "other"})))]
    {
        assert_eq!(read(&oidc, &token).await, None);
    }
    assert_eq!(asked(), 2);
    // The provider is away: the keys that are known still count.
    provider.stop.cancel();
    oidc.keys.after_the_pause().await;
    let unknown = new.sign(&json!({"alg": "ES256", "kid": "x"}), &provider.claims());
    assert_eq!(read(&oidc, &unknown).await, None);
    assert!(read(&oidc, &next).await.is_some());
}

#[tokio::test]
async fn who_is_not_the_provider_is_not_believed() {
    let provider = Provider::new().await;
    let token = provider.token(&json!({}));
    // Another authority, and an address of which another issuer's document is served.
    let other = Provider::new().await;
    let oidc = provider.reader(|settings| settings.ca_pem = Some(other.ca_pem.clone().into_bytes()));
    assert_eq!(read(&oidc, &token).await, None);
    let issuer = format!("{}/", provider.issuer);
    let oidc = provider.reader(|settings| settings.issuer_url.clone_from(&issuer));
    assert_eq!(read(&oidc, &provider.token(&json!({"iss": issuer}))).await, None);
    assert_eq!(provider.asked.load(Ordering::SeqCst), 0);
}
