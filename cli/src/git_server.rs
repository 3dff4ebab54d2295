//! `berth git serve`: bare repositories of a folder, read-only, over HTTP, for a machine that has no forge yet.
//!
//! The protocol is Git's own: each request is handed to `git http-backend` as a CGI program, with its arguments in
//! the environment and never on a command line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;

/// A fetch's request lists what the client has; 16 MiB is a hundred thousand commits.
const REQUEST_BYTES_MAX: usize = 16 << 20;
/// Each fetch packs objects on a processor of this machine.
const FETCHES_MAX: usize = 8;
/// The backend's own headers are few and short.
const HEADERS_MAX: usize = 32;

struct Repositories {
    root: PathBuf,
    fetches: Semaphore,
}

/// Serves until the shutdown.
pub(crate) async fn serve(root: &Path, listen: SocketAddr, shutdown: CancellationToken) -> anyhow::Result<()> {
    let root = root.canonicalize().with_context(|| format!("cannot use {}", root.display()))?;
    let listener = tokio::net::TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    crate::print::note(&format!("Serving {} at http://{}", root.display(), listener.local_addr()?));
    let state = Arc::new(Repositories { root, fetches: Semaphore::new(FETCHES_MAX) });
    let router = Router::new().fallback(handle).layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX)).with_state(state);
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await.context("the server failed")
}

async fn handle(
    State(repositories): State<Arc<Repositories>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !is_fetch(&method, uri.path(), uri.query()) {
        return (StatusCode::FORBIDDEN, "only fetching from a repository is served here\n").into_response();
    }
    let Ok(_place) = repositories.fetches.acquire().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    match backend(&repositories.root, &method, &uri, &headers, &body).await {
        Ok(response) => response,
        Err(error) => {
            tracing::warn!("git http-backend failed: {error:#}");
            (StatusCode::INTERNAL_SERVER_ERROR, "the repository cannot be read\n").into_response()
        }
    }
}

/// The three requests of a fetch, on a path without tricks.
fn is_fetch(method: &Method, path: &str, query: Option<&str>) -> bool {
    let plain = path.split('/').skip(1).all(|part| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    });
    let info = *method == Method::GET && path.ends_with("/info/refs") && query == Some("service=git-upload-pack");
    let pack = *method == Method::POST && path.ends_with("/git-upload-pack") && query.is_none();
    plain && (info || pack)
}

async fn backend(
    root: &Path,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &Bytes,
) -> anyhow::Result<Response> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let mut child = Command::new("git")
        // The folder belongs to whoever set it up, which Git would refuse to read as another user.
        .args(["-c", "safe.directory=*", "http-backend"])
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", method.as_str())
        .env("PATH_INFO", uri.path())
        .env("QUERY_STRING", uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("cannot run git")?;
    let mut input = child.stdin.take().context("git has no standard input")?;
    // An early answer closes the pipe; the answer then says what was wrong.
    if let Err(error) = input.write_all(body).await {
        tracing::debug!("git http-backend did not read the whole request: {error}");
    }
    drop(input);
    let mut output = BufReader::new(child.stdout.take().context("git has no standard output")?);
    let mut response = Response::builder().status(StatusCode::OK);
    for _ in 0..HEADERS_MAX {
        let mut line = String::new();
        if output.read_line(&mut line).await? == 0 {
            anyhow::bail!("git ended before its answer");
        }
        let line = line.trim_end();
        let Some((name, value)) = line.split_once(':') else { break };
        if name.eq_ignore_ascii_case("status") {
            let code = value.trim().split(' ').next().and_then(|code| code.parse::<u16>().ok());
            response = response.status(code.unwrap_or(500));
        } else {
            let name: HeaderName = name.parse().context("git wrote a header that is none")?;
            response = response.header(name, HeaderValue::from_str(value.trim())?);
        }
    }
    // The child lives in the stream: when the client goes away, both end.
    let stream = futures::StreamExt::map(ReaderStream::new(output), move |chunk| {
        let _alive = &child;
        chunk
    });
    Ok(response.body(Body::from_stream(stream))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fetches_from_plain_paths() {
        let info = Some("service=git-upload-pack");
        assert!(is_fetch(&Method::GET, "/shop.git/info/refs", info));
        assert!(is_fetch(&Method::POST, "/shop.git/git-upload-pack", None));
        for (method, path, query) in [
            (Method::GET, "/shop.git/info/refs", Some("service=git-receive-pack")),
            (Method::POST, "/shop.git/git-receive-pack", None),
            (Method::GET, "/../etc/info/refs", info),
            (Method::GET, "/a/.git/info/refs", info),
            (Method::GET, "/shop.git/config", None),
            (Method::GET, "/a%2e/info/refs", info),
        ] {
            assert!(!is_fetch(&method, path, query), "{method} {path}");
        }
    }
}
