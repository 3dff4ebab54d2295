//! What a Secret holds to sign in to a repository with: read here for whoever looks at a branch and for whoever clones it,
//! so that what one can read the other can too.

use k8s_openapi::api::core::v1::Secret;

/// No key or token is longer; a list of known hosts may be.
const BYTES_MAX: usize = 64 << 10;

/// What signs in to a repository: the keys of the Secret that [`crds::git::GitCredentials`] names.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// User name for https.
    pub(crate) username: Option<String>,
    /// Password or token for https.
    pub(crate) password: Option<String>,
    /// Private key for ssh.
    pub(crate) ssh_private_key: Option<String>,
    /// Known hosts for ssh.
    pub(crate) known_hosts: Option<String>,
}

impl Credentials {
    /// What a Secret holds of it.
    pub(crate) fn of(secret: &Secret) -> Self {
        let text = |key: &str| text(secret, key);
        Self {
            username: text("username"),
            password: text("password").or_else(|| text("token")),
            ssh_private_key: text("ssh-privatekey"),
            known_hosts: text("known_hosts"),
        }
    }
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    let bytes = &secret.data.as_ref()?.get(key)?.0;
    let text = str::from_utf8(bytes).ok().filter(|text| !text.contains('\0') && text.len() <= BYTES_MAX)?;
    // A line end that an editor put there is no part of a password.
    Some(text.trim_end_matches(['\n', '\r']).to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn line_ends_are_no_part_of_what_signs_in() {
        let long = "x".repeat(BYTES_MAX + 1);
        let data = [("username", "ada\r\n"), ("token", "secret\n"), ("ssh-privatekey", "a\0b"), ("known_hosts", &long)];
        let data = data.map(|(key, text)| (key.to_owned(), ByteString(text.as_bytes().to_vec())));
        let credentials = Credentials::of(&Secret { data: Some(data.into()), ..Secret::default() });
        assert_eq!((credentials.username.as_deref(), credentials.password.as_deref()), (Some("ada"), Some("secret")));
        assert!(credentials.ssh_private_key.is_none() && credentials.known_hosts.is_none());
    }
}
