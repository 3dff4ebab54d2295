//! What leads requests to instances: hosts, the addresses that answer for them, and what is live.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use node_protocol::PartState;

/// A DNS host name as it may stand in a configuration file: lower case letters, digits, dots and hyphens, nothing else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host(String);

impl Host {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no host name")]
pub struct NotAHost(pub String);

impl FromStr for Host {
    type Err = NotAHost;

    fn from_str(text: &str) -> Result<Self, NotAHost> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // 253 is what DNS allows in text.
        if text.len() <= 253 && text.split('.').all(label) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAHost(text.to_owned()))
        }
    }
}

/// Where requests go, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    /// Port for http.
    pub http_port: u16,
    /// Port for https.
    pub https_port: u16,
    /// Sites by the uid of their application.
    pub sites: BTreeMap<String, Site>,
}

/// The hosts of one application and what answers for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The application's namespace.
    pub namespace: String,
    /// Its name.
    pub application: String,
    /// Its hosts.
    pub hosts: Vec<Host>,
    /// Addresses of its healthy instances; none = 503.
    pub backends: Vec<SocketAddr>,
}

/// What is live after [`Router::apply`] has returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Sites that are not as asked, by the application's uid, and why. All others are live, and no process serves an
    /// older configuration to new connections.
    pub failed: BTreeMap<String, String>,
}

/// Why no route changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RouterError(pub String);

/// What leads requests to instances.
pub trait Router: Send + Sync + 'static {
    /// Makes these routes live, and returns when they are: the new generation answers. What was live before stays so
    /// on an error. Applying what is live already is cheap. Calls never overlap.
    fn apply(&self, routes: &Routes) -> impl Future<Output = Result<Live, RouterError>> + Send;
    /// Its version, if it is there.
    fn version(&self) -> impl Future<Output = Option<String>> + Send;
    /// Whether it runs; looks anew, for it is asked before every heartbeat.
    fn state(&self) -> impl Future<Output = PartState> + Send;
}
