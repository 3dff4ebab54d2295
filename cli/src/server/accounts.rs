//! Who the people are that sign in: Berth's Users, with their passwords among its own Secrets, and those whom an identity
//! provider knows.

use std::sync::Arc;

use apiserver::accounts::Settings;
use apiserver::clock::Clock;
use apiserver::oidc::{self, Oidc};

use super::roles;
use crate::args;
use crate::failure::{Exit, fail};

/// As the API server is told of Users.
pub(crate) fn settings() -> Settings {
    Settings {
        group: crds::GROUP.to_owned(),
        version: crds::VERSION.to_owned(),
        plural: "users".to_owned(),
        namespace: crds::SYSTEM_NAMESPACE.to_owned(),
        secret_type: crds::user::PASSWORD_TYPE.to_owned(),
        secret_name: crds::user::password_name,
        acting: roles::acting(),
    }
}

/// Who reads the tokens of the identity provider, if there is one.
pub(crate) fn provider(options: &args::Oidc, clock: &Clock) -> anyhow::Result<Option<Arc<Oidc>>> {
    let Some(settings) = provider_settings(options)? else { return Ok(None) };
    let provider =
        Oidc::new(settings, clock.clone()).map_err(|error| fail(Exit::Usage, format!("--oidc-…: {error}")))?;
    Ok(Some(Arc::new(provider)))
}

fn provider_settings(options: &args::Oidc) -> anyhow::Result<Option<oidc::Settings>> {
    let (Some(issuer), Some(client)) = (&options.issuer_url, &options.client_id) else { return Ok(None) };
    let ca_pem = options.ca_file.as_ref().map(std::fs::read).transpose();
    let ca_pem = ca_pem.map_err(|error| fail(Exit::Usage, format!("cannot read --oidc-ca-file: {error}")))?;
    let mut algorithms = Vec::new();
    for name in &options.signing_algs {
        let known = oidc::ALGORITHMS.iter().find(|(known, _)| known == name);
        let (_, algorithm) = known.ok_or_else(|| {
            let all: Vec<&str> = oidc::ALGORITHMS.iter().map(|(name, _)| *name).collect();
            fail(Exit::Usage, format!("--oidc-signing-algs {name:?} is none of {}", all.join(", ")))
        })?;
        algorithms.push(*algorithm);
    }
    Ok(Some(oidc::Settings {
        issuer_url: issuer.clone(),
        client_id: client.clone(),
        username_claim: options.username_claim.clone(),
        username_prefix: username_prefix(options, issuer),
        groups_claim: options.groups_claim.clone(),
        groups_prefix: options.groups_prefix.clone(),
        required_claims: options.required_claim.clone(),
        ca_pem,
        algorithms,
    }))
}

/// As kube-apiserver does: what a provider calls its users is its own affair, but for their addresses.
fn username_prefix(options: &args::Oidc, issuer: &str) -> String {
    match options.username_prefix.as_deref() {
        Some("-") => String::new(),
        Some(prefix) => prefix.to_owned(),
        None if options.username_claim == "email" => String::new(),
        None => format!("{issuer}#"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(change: impl FnOnce(&mut args::Oidc)) -> args::Oidc {
        let mut options = args::Oidc {
            issuer_url: Some("https://id.example.com".to_owned()),
            client_id: Some("berth".to_owned()),
            username_claim: "sub".to_owned(),
            signing_algs: vec!["RS256".to_owned(), "ES256".to_owned()],
            ..args::Oidc::default()
        };
        change(&mut options);
        options
    }

    #[test]
    fn prefixes_are_those_of_kubernetes() {
        let prefix =
            |change: fn(&mut args::Oidc)| provider_settings(&options(change)).unwrap().unwrap().username_prefix;
        assert_eq!(prefix(|_| {}), "https://id.example.com#");
        assert_eq!(prefix(|options| options.username_claim = "email".to_owned()), "");
        assert_eq!(prefix(|options| options.username_prefix = Some("-".to_owned())), "");
        assert_eq!(prefix(|options| options.username_prefix = Some("x:".to_owned())), "x:");
    }

    #[test]
    fn what_cannot_be_believed_is_refused_at_the_start() {
        let refused = |change: fn(&mut args::Oidc)| {
            let error = provider(&options(change), &Clock::system()).unwrap_err();
            assert_eq!(crate::failure::exit_of(&error), Exit::Usage);
            error.to_string()
        };
        for algorithm in ["none", "HS256", "rs256", ""] {
            let mut options = options(|_| {});
            options.signing_algs = vec![algorithm.to_owned()];
            assert!(provider(&options, &Clock::system()).is_err(), "{algorithm}");
        }
        assert!(refused(|options| options.issuer_url = Some("http://id.example.com".into())).contains("https://"));
        assert!(refused(|options| options.username_prefix = Some("system:".into())).contains("reserved"));
        assert!(refused(|options| options.groups_prefix = "system:x".into()).contains("reserved"));
        assert!(refused(|options| options.ca_file = Some("/nonexistent".into())).contains("--oidc-ca-file"));
        assert!(provider(&args::Oidc::default(), &Clock::system()).unwrap().is_none());
    }
}
