//! The identity provider whose tokens `berth server` takes: options under the names that kube-apiserver gives them.

use std::path::PathBuf;

use clap::Args;

/// Only together with an issuer.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Identity provider (OpenID Connect)")]
pub(crate) struct Oidc {
    /// Address of the provider, as it stands in its tokens; none are taken otherwise
    #[arg(long, value_name = "URL", requires = "oidc_client_id")]
    pub(crate) oidc_issuer_url: Option<String>,
    /// What tokens must be made for
    #[arg(long, value_name = "ID", requires = "oidc_issuer_url")]
    pub(crate) oidc_client_id: Option<String>,
    /// The claim that is the user's name
    #[arg(long, value_name = "CLAIM", default_value = "sub", requires = "oidc_issuer_url")]
    pub(crate) oidc_username_claim: String,
    /// What stands before each user's name; `-` for nothing [default: the issuer and `#`, or nothing if the claim is email]
    #[arg(long, value_name = "PREFIX", requires = "oidc_issuer_url")]
    pub(crate) oidc_username_prefix: Option<String>,
    /// The claim with the user's groups; none are taken otherwise
    #[arg(long, value_name = "CLAIM", requires = "oidc_issuer_url")]
    pub(crate) oidc_groups_claim: Option<String>,
    /// What stands before each group
    #[arg(long, value_name = "PREFIX", default_value = "oidc:", requires = "oidc_issuer_url")]
    pub(crate) oidc_groups_prefix: String,
    /// A claim that must be there with that value; can be repeated
    #[arg(long, value_name = "CLAIM=VALUE", requires = "oidc_issuer_url", value_parser = pair)]
    pub(crate) oidc_required_claim: Vec<(String, String)>,
    /// Certificates of the authorities by which the provider is known, PEM; the system's otherwise
    #[arg(long, value_name = "FILE", requires = "oidc_issuer_url")]
    pub(crate) oidc_ca_file: Option<PathBuf>,
    /// How tokens may be signed: RS256, RS384, RS512, ES256, ES384, PS256, PS384 or PS512, separated by commas
    #[arg(
        long,
        value_name = "ALGORITHMS",
        default_value = "RS256",
        value_delimiter = ',',
        requires = "oidc_issuer_url"
    )]
    pub(crate) oidc_signing_algs: Vec<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((claim, value)) if !claim.is_empty() => Ok((claim.to_owned(), value.to_owned())),
        _ => Err("must be CLAIM=VALUE".to_owned()),
    }
}
