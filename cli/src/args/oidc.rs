//! The identity provider whose tokens `berth server` takes: options under the names that kube-apiserver gives them.

use std::path::PathBuf;

use clap::Args;

/// Only together with an issuer.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Identity provider (OpenID Connect)")]
pub(crate) struct Oidc {
    /// Address of the provider, as it stands in its tokens; none are taken otherwise
    #[arg(long = "oidc-issuer-url", value_name = "URL", requires = "client_id")]
    pub(crate) issuer_url: Option<String>,
    /// What tokens must be made for
    #[arg(long = "oidc-client-id", value_name = "ID", requires = "issuer_url")]
    pub(crate) client_id: Option<String>,
    /// The claim that is the user's name
    #[arg(long = "oidc-username-claim", value_name = "CLAIM", default_value = "sub", requires = "issuer_url")]
    pub(crate) username_claim: String,
    /// What stands before each user's name; `-` for nothing [default: the issuer and `#`, or nothing if the claim is email]
    #[arg(long = "oidc-username-prefix", value_name = "PREFIX", requires = "issuer_url")]
    pub(crate) username_prefix: Option<String>,
    /// The claim with the user's groups; none are taken otherwise
    #[arg(long = "oidc-groups-claim", value_name = "CLAIM", requires = "issuer_url")]
    pub(crate) groups_claim: Option<String>,
    /// What stands before each group
    #[arg(long = "oidc-groups-prefix", value_name = "PREFIX", default_value = "oidc:", requires = "issuer_url")]
    pub(crate) groups_prefix: String,
    /// A claim that must be there with that value; can be repeated
    #[arg(long = "oidc-required-claim", value_name = "CLAIM=VALUE", requires = "issuer_url", value_parser = pair)]
    pub(crate) required_claim: Vec<(String, String)>,
    /// Certificates of the authorities by which the provider is known, PEM; the system's otherwise
    #[arg(long = "oidc-ca-file", value_name = "FILE", requires = "issuer_url")]
    pub(crate) ca_file: Option<PathBuf>,
    /// How tokens may be signed: RS256, RS384, RS512, ES256, ES384, PS256, PS384 or PS512, separated by commas
    #[arg(
        long = "oidc-signing-algs",
        value_name = "ALGORITHMS",
        default_value = "RS256",
        value_delimiter = ',',
        requires = "issuer_url"
    )]
    pub(crate) signing_algs: Vec<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((claim, value)) if !claim.is_empty() => Ok((claim.to_owned(), value.to_owned())),
        _ => Err("must be CLAIM=VALUE".to_owned()),
    }
}
