//! Joining: a token becomes an identity, once.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use node_protocol::{JoinToken, Registration, RegistrationAnswer};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::identity::{Identity, Key};
use super::{AGENT_VERSION, pause, tls};

/// The longest CA file that is read: a certificate has one or two kilobytes.
const CA_BYTES_MAX: usize = 64 << 10;
/// How long the platform may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What joining needs.
pub(crate) struct JoinOptions<'a> {
    /// Address of the platform.
    pub(crate) server: &'a Url,
    /// File with the join token; not needed once the node has joined.
    pub(crate) token_file: &'a Path,
    /// The agent's data folder.
    pub(crate) data_dir: &'a Path,
    /// The name the node wishes.
    pub(crate) name: &'a str,
}

/// Who this node is: as it was saved, or by joining. Waits for a platform that does not answer; `None` on shutdown.
pub(crate) async fn join(options: &JoinOptions<'_>, shutdown: &CancellationToken) -> anyhow::Result<Option<Identity>> {
    if let Some(identity) = Identity::load(options.data_dir)? {
        return Ok(Some(identity));
    }
    let text = std::fs::read_to_string(options.token_file)
        .with_context(|| format!("cannot read the join token in {}", options.token_file.display()))?;
    let Some(token) = JoinToken::decode(&text) else {
        bail!(
            "{} holds no join token: `berth node token` prints one, it begins with bnt1.",
            options.token_file.display()
        );
    };
    let key = Key::load_or_make(options.data_dir)?;
    let mut failures = 0;
    loop {
        match shutdown.run_until_cancelled(try_join(options, &token, &key)).await {
            None => return Ok(None),
            Some(Ok(identity)) => return Ok(Some(identity)),
            Some(Err(Trouble::Final(error))) => return Err(error),
            Some(Err(Trouble::Passing(error))) => {
                let pause = pause(failures);
                failures += 1;
                tracing::warn!(error = format!("{error:#}"), pause_ms = pause.as_millis(), "cannot join yet");
                shutdown.run_until_cancelled(tokio::time::sleep(pause)).await;
            }
        }
    }
}

/// Why joining did not work.
enum Trouble {
    /// Another try may work.
    Passing(anyhow::Error),
    /// No other try will.
    Final(anyhow::Error),
}

async fn try_join(options: &JoinOptions<'_>, token: &JoinToken, key: &Key) -> Result<Identity, Trouble> {
    let ca_pem = fetch_ca(options.server, &token.ca_sha256).await?;
    let http = tls::trusting(&ca_pem).and_then(|tls| tls::http_client(&tls)).map_err(Trouble::Final)?;
    let address = options
        .server
        .join("/api/internal/paas/nodes/register")
        .context("the server's address")
        .map_err(Trouble::Final)?;
    let registration = Registration {
        token_id: token.id.clone(),
        token_secret: token.secret.clone(),
        name: options.name.to_owned(),
        public_key: key.public.clone(),
        agent_version: AGENT_VERSION.to_owned(),
    };
    let answer = http
        .post(address)
        .timeout(ANSWER_WITHIN)
        .json(&registration)
        .send()
        .await
        .context("cannot register")
        .map_err(Trouble::Passing)?;
    let status = answer.status();
    if status.is_success() {
        let answer: RegistrationAnswer = answer
            .json()
            .await
            .context("the answer to the registration cannot be understood")
            .map_err(Trouble::Passing)?;
        return Identity::save(options.data_dir, key, &answer.uid, &answer.name, &answer.region, &ca_pem)
            .map_err(Trouble::Final);
    }
    let message = answer.text().await.unwrap_or_default();
    let error = anyhow::anyhow!("the platform refuses the registration ({status}): {}", message.trim());
    // Too many requests, and whatever is wrong on the other side, pass.
    if status.is_client_error() && status != reqwest::StatusCode::TOO_MANY_REQUESTS {
        Err(Trouble::Final(error.context("make a new token with `berth node token` if this one was used already")))
    } else {
        Err(Trouble::Passing(error))
    }
}

/// The platform's CA. Any server is believed, for what it sends is only taken if it has the token's fingerprint.
async fn fetch_ca(server: &Url, sha256: &str) -> Result<String, Trouble> {
    let http = tls::believing_client().map_err(Trouble::Final)?;
    let address = server.join("/api/internal/paas/ca").context("the server's address").map_err(Trouble::Final)?;
    let mut answer =
        http.get(address).send().await.context("cannot fetch the platform's CA").map_err(Trouble::Passing)?;
    if !answer.status().is_success() {
        return Err(Trouble::Passing(anyhow::anyhow!("the platform's CA was answered with {}", answer.status())));
    }
    let mut content = Vec::new();
    while let Some(piece) = answer.chunk().await.context("the platform's CA breaks off").map_err(Trouble::Passing)? {
        content.extend_from_slice(&piece);
        if content.len() > CA_BYTES_MAX {
            return Err(Trouble::Final(anyhow::anyhow!("the platform's CA is longer than {CA_BYTES_MAX} bytes")));
        }
    }
    tls::with_fingerprint(&String::from_utf8_lossy(&content), sha256).ok_or_else(|| {
        Trouble::Final(anyhow::anyhow!(
            "{server} is not the platform that made this token: its CA has another fingerprint"
        ))
    })
}
