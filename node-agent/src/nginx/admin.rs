//! The agent's door to its Nginx: a server on a socket in the file system, which tells what is live and takes tables.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long Nginx may take to answer. It has no work but to copy a table into memory.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longer than any answer of ours.
const ANSWER_BYTES_MAX: usize = 4096;

/// What Nginx says is live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    /// Name of the configuration.
    pub(super) config: String,
    /// Number of the table; `None` before there was one.
    pub(super) generation: Option<u64>,
}

/// A change of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The whole table.
    Whole(String),
    /// Lines that lead from a generation to the next one.
    From(u64, String),
}

/// Why there is no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdminError {
    /// Nobody listens on the socket.
    #[error("Nginx does not answer: {0}")]
    Silent(String),
    /// Nginx refused.
    #[error("Nginx refused the routes: {0}")]
    Refused(String),
}

/// Asks what is live, over a connection of its own: it meets the newest configuration.
pub(super) async fn status(socket: &Path) -> Result<Status, AdminError> {
    let text = call(socket, Method::GET, "/", String::new()).await?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    match (field("config "), field("generation ")) {
        (Some(config), Some(generation)) => {
            Ok(Status { config: config.to_owned(), generation: generation.parse().ok() })
        }
        _ => Err(AdminError::Refused(format!("an answer that says nothing: {text:?}"))),
    }
}

/// Makes a table live. When this returns, every request that arrives is led by it.
pub(super) async fn change(socket: &Path, change: Change, generation: u64) -> Result<(), AdminError> {
    let (method, path, body) = match change {
        Change::Whole(lines) => (Method::PUT, format!("/?generation={generation}"), lines),
        Change::From(base, lines) => (Method::PATCH, format!("/?generation={generation}&base={base}"), lines),
    };
    call(socket, method, &path, body).await.map(drop)
}

async fn call(socket: &Path, method: Method, path: &str, body: String) -> Result<String, AdminError> {
    let silent = |problem: &dyn std::fmt::Display| AdminError::Silent(problem.to_string());
    let exchange = async {
        let stream = UnixStream::connect(socket).await.map_err(|e| silent(&e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| silent(&e))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "berth")
            .header("connection", "close")
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| silent(&e))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|e| silent(&e))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|e| silent(&e))?;
            let text = String::from_utf8_lossy(&body.to_bytes()).trim().to_owned();
            if status.is_success() { Ok(text) } else { Err(AdminError::Refused(text)) }
        };
        // The connection does its work beside the answer; how it ends after that is of no interest.
        tokio::pin!(answer);
        tokio::pin!(connection);
        tokio::select! {
            answer = &mut answer => answer,
            ended = &mut connection => match ended {
                Ok(()) => answer.await,
                Err(problem) => Err(silent(&problem)),
            },
        }
    };
    timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err(AdminError::Silent(format!("no answer in {PATIENCE:?}"))))
}
