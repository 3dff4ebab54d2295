//! The connection to the gateway: joins, connects, connects again. Read this first.
//!
//! Both ways of talking, WebSocket and polling, say what `voice.rs` finds worth saying and hand what they hear to
//! [`Ears`]. The agent runs on without either.

mod dial;
mod identity;
mod poll;
mod register;
mod socket;
mod tls;
mod voice;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use node_protocol::{Down, Hello, PROTOCOL_VERSION, Up};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::agent::{Held, Request};
use voice::Kept;

pub(crate) use dial::{Dialer, Socket};
pub(crate) use identity::Identity;
pub(crate) use register::{JoinOptions, join};
pub(crate) use voice::Voice;

/// Version of the agent, as it is told to the gateway.
pub(crate) const AGENT_VERSION: &str = env!("CARGO_PKG_VERSION");
/// Upgrades that may fail in a row until polling begins.
const UPGRADES_MAX: u32 = 3;
/// The longest pause between two tries; the first is at most one second.
const PAUSE_SECONDS_MAX: u64 = 60;

/// Why a conversation with the gateway ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The gateway cannot be reached, or the connection broke.
    #[error("{0}")]
    Broken(String),
    /// The gateway does not accept this node.
    #[error("the gateway refuses this node: {0}")]
    Refused(String),
}

/// What is needed to talk to the gateway.
pub(crate) struct Session {
    dialer: Arc<Dialer>,
    server: Url,
    http: reqwest::Client,
}

impl Session {
    /// A session of a node that has joined.
    pub(crate) fn new(identity: Identity, server: &Url) -> anyhow::Result<Self> {
        let dialer = Dialer::new(identity, server)?;
        let http = tls::http_client(&dialer.tls)?;
        Ok(Self { dialer: Arc::new(dialer), server: server.clone(), http })
    }

    /// Talks to the gateway until it is told to stop.
    pub(crate) async fn run(self, mut voice: Voice, requests: mpsc::Sender<Request>, shutdown: CancellationToken) {
        let mut ears = Ears { requests, kept: Kept::default(), anew: false, dialer: Arc::clone(&self.dialer) };
        let mut failed_upgrades = 0;
        let mut failures = 0;
        while !shutdown.is_cancelled() {
            let ended = match self.upgrade(&shutdown).await {
                Ok(Some(socket)) => {
                    failed_upgrades = 0;
                    tracing::info!(server = %self.server, "connected to the gateway");
                    let began = tokio::time::Instant::now();
                    let ended = Box::pin(socket::talk(socket, &mut voice, &mut ears, &shutdown)).await;
                    // A connection that held for a while was a good one.
                    if began.elapsed() > Duration::from_secs(PAUSE_SECONDS_MAX) {
                        failures = 0;
                    }
                    ended
                }
                Ok(None) => return,
                Err(error) => {
                    failed_upgrades += 1;
                    if failed_upgrades >= UPGRADES_MAX {
                        tracing::debug!(%error, "no WebSocket; polls");
                        poll::talk(&self, &mut voice, &mut ears, &shutdown).await.map(|()| failures = 0)
                    } else {
                        Err(error)
                    }
                }
            };
            if ears.requests.is_closed() {
                return;
            }
            if let Err(error) = ended {
                let pause = pause(failures);
                failures += 1;
                tracing::warn!(%error, pause_ms = pause.as_millis(), "not connected to the gateway");
                shutdown.run_until_cancelled(tokio::time::sleep(pause)).await;
            }
        }
    }

    async fn upgrade(&self, shutdown: &CancellationToken) -> Result<Option<Socket>, Error> {
        match shutdown.run_until_cancelled(Box::pin(self.dialer.connection())).await {
            Some(connected) => connected.map(Some),
            None => Ok(None),
        }
    }
}

/// A pause before the next try: anything up to 1, 2, 4 … 60 s, so that a thousand agents do not come at once.
fn pause(failures: u32) -> Duration {
    let most = (1_u64 << failures.min(6)).min(PAUSE_SECONDS_MAX) * 1000;
    let mut bytes = [0; 8];
    // Without randomness the longest pause is the safe one.
    let part = if rand::fill(&mut bytes).is_ok() { u64::from_ne_bytes(bytes) % most } else { most };
    Duration::from_millis(part.max(20))
}

/// Who the agent is and what it has.
fn hello(held: &Held, all: bool) -> Hello {
    Hello {
        protocol: PROTOCOL_VERSION,
        agent_version: AGENT_VERSION.to_owned(),
        revision: held.revision.filter(|_| !all),
        digest: held.digest.clone().filter(|_| !all),
    }
}

/// Takes in what the gateway says.
pub(crate) struct Ears {
    requests: mpsc::Sender<Request>,
    kept: Kept,
    /// Whether everything is to be told anew.
    anew: bool,
    dialer: Arc<Dialer>,
}

impl Ears {
    /// Hands one message on.
    async fn hear(&mut self, message: Down) -> Result<(), Error> {
        let request = match message {
            Down::Assignment(update) => Request::Assign(update),
            Down::LogKept { build, bytes } => {
                self.kept.keep(build, bytes);
                return Ok(());
            }
            Down::Observe => {
                self.anew = true;
                return Ok(());
            }
            Down::OpenStream(open) => Request::Open(open, Arc::clone(&self.dialer)),
            Down::Unknown { message } => {
                tracing::debug!(message, "the gateway did not understand");
                return Ok(());
            }
        };
        self.requests.send(request).await.map_err(|gone| Error::Broken(format!("the agent stops: {gone}")))
    }

    /// Reads a frame's text and hands it on; what is unknown is answered and ends nothing.
    async fn hear_text(&mut self, text: &str) -> Result<Option<Up>, Error> {
        match serde_json::from_str::<Down>(text) {
            Ok(message) => self.hear(message).await.map(|()| None),
            Err(error) => Ok(Some(Up::Unknown { message: error.to_string() })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_random_and_bounded() {
        let pauses: Vec<Duration> = (0..50).map(|_| pause(20)).collect();
        assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(PAUSE_SECONDS_MAX)));
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
        assert!((0..50).all(|_| pause(0) <= Duration::from_secs(1)));
    }
}
