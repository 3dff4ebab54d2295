//! From the person's options to a connection, as kubectl finds it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use futures::AsyncBufRead;
use http::Request;
use kube::Client;
use kube::client::ClientBuilder;
use kube::config::{Config, KubeConfigOptions, Kubeconfig, KubeconfigError};
use serde_json::Value;
use tokio::sync::OnceCell;
use tower::buffer::BufferLayer;
use tower::retry::RetryLayer;

use super::resource::Resource;
use super::retry::Retry;
use crate::args::Connection;
use crate::failure::{Exit, fail, of_request, text_of};
use crate::up;

/// A server on the same continent shakes hands in a second; after ten there is none.
const CONNECT: Duration = Duration::from_secs(10);
/// Requests that wait for their turn before the next one waits to be taken.
const REQUESTS_WAITING: usize = 64;
/// The largest list is answered in seconds. Logs and watches have no such limit.
const ANSWER: Duration = Duration::from_mins(1);

/// A server and the namespace in which the person works.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    /// Whether the person named the namespace for this command.
    pub(super) namespace_is_asked: bool,
    /// Its kinds, once they were asked for.
    pub(super) kinds: OnceCell<Vec<Resource>>,
    server: String,
}

impl Session {
    /// Connects as the options say.
    pub(crate) async fn open(options: &Connection) -> anyhow::Result<Self> {
        let mut session = match &options.kubeconfig {
            Some(file) => connect_with(file, options.context.as_deref()).await?,
            None => connect(&found()?, options.context.as_deref()).await?,
        };
        if let Some(namespace) = &options.namespace {
            session.namespace.clone_from(namespace);
            session.namespace_is_asked = true;
        }
        Ok(session)
    }

    /// Sends a request without a body.
    pub(crate) async fn send(&self, method: &str, path: &str, accept: &str) -> anyhow::Result<Value> {
        self.send_body(method, path, accept, "application/json", Vec::new()).await
    }

    /// Sends a request and reads the answer as JSON; an empty one is null.
    pub(crate) async fn send_body(
        &self,
        method: &str,
        path: &str,
        accept: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> anyhow::Result<Value> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("accept", accept)
            .header("content-type", content_type)
            .body(body)
            .context("the address is not one")?;
        let answer = tokio::time::timeout(ANSWER, self.client.request_text(request)).await.map_err(|_elapsed| {
            let message = format!("{} did not answer within {} s", self.server, ANSWER.as_secs());
            fail(Exit::Unreachable, message)
        })?;
        let text = answer.map_err(|error| anyhow::Error::from(of_request(&error, &self.server)))?;
        if text.is_empty() { Ok(Value::Null) } else { serde_json::from_str(&text).context("the answer is no JSON") }
    }

    /// Sends a request with a JSON body, or without one.
    pub(super) async fn act(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        self.send_body(method, path, "application/json", "application/json", body).await
    }

    /// Opens an answer that goes on for as long as there is something to say.
    pub(super) async fn stream(&self, path: &str, accept: &str) -> anyhow::Result<impl AsyncBufRead + use<>> {
        let request = Request::get(path)
            .header("accept", accept)
            // What is compressed is held back until there is enough of it.
            .header("accept-encoding", "identity")
            .body(Vec::new())
            .context("the address is not one")?;
        self.client.request_stream(request).await.map_err(|error| of_request(&error, &self.server).into())
    }
}

/// Connects by a kubeconfig file.
pub(crate) async fn connect_with(file: &Path, context: Option<&str>) -> anyhow::Result<Session> {
    connect(&[file.to_owned()], context).await
}

/// Connects by several kubeconfig files, of which the first to say something wins, as kubectl merges them.
async fn connect(files: &[PathBuf], context: Option<&str>) -> anyhow::Result<Session> {
    let shown = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ");
    let wrong = |error: KubeconfigError| {
        let text = text_of(&anyhow::Error::from(error));
        fail(Exit::Usage, format!("cannot use the kubeconfig {shown}: {text}"))
    };
    let mut merged = Kubeconfig::default();
    for file in files {
        // A kubeconfig is not so large, and whatever else is should not be read to its end.
        let is_file = std::fs::metadata(file).map(|metadata| metadata.is_file());
        match is_file {
            Ok(true) => merged = Kubeconfig::read_from(file).and_then(|read| merged.merge(read)).map_err(wrong)?,
            Ok(false) => return Err(fail(Exit::Usage, format!("the kubeconfig {} is no file", file.display()))),
            Err(error) => {
                return Err(fail(Exit::Usage, format!("cannot read the kubeconfig {}: {error}", file.display())));
            }
        }
    }
    check_context(&merged, context, &shown)?;
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(merged, &options).await.map_err(wrong)?;
    connect_by(config).with_context(|| format!("cannot use the kubeconfig {shown}"))
}

/// Connects as a configuration says.
pub(super) fn connect_by(mut config: Config) -> anyhow::Result<Session> {
    config.connect_timeout = Some(CONNECT);
    config.default_retry = false;
    let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    let namespace = config.default_namespace.clone();
    // What is sent again needs a copy of the way there, which a buffer gives.
    let client = ClientBuilder::try_from(config)?.with_layer(&BufferLayer::new(REQUESTS_WAITING));
    let client = client.with_layer(&RetryLayer::new(Retry::new())).build();
    Ok(Session { client, namespace, namespace_is_asked: false, kinds: OnceCell::new(), server })
}

/// Says which contexts there are if the one that is asked for is not.
fn check_context(config: &Kubeconfig, context: Option<&str>, shown: &str) -> anyhow::Result<()> {
    let there: Vec<&str> = config.contexts.iter().map(|named| named.name.as_str()).collect();
    let listed = if there.is_empty() { "it has none".to_owned() } else { format!("it has {}", there.join(", ")) };
    match context.or(config.current_context.as_deref()).filter(|name| !name.is_empty()) {
        Some(name) if there.contains(&name) => Ok(()),
        Some(name) => Err(fail(Exit::Usage, format!("there is no context {name:?} in {shown}: {listed}"))),
        None => Err(fail(Exit::Usage, format!("{shown} has no current context: name one with --context; {listed}"))),
    }
}

/// The kubeconfig files where none is named.
pub(super) fn found() -> anyhow::Result<Vec<PathBuf>> {
    let there = |paths: Vec<PathBuf>| -> Vec<PathBuf> { paths.into_iter().filter(|path| path.exists()).collect() };
    let listed = std::env::var_os("KUBECONFIG").map(|list| std::env::split_paths(&list).collect::<Vec<_>>());
    let listed: Vec<PathBuf> =
        listed.unwrap_or_default().into_iter().filter(|path| !path.as_os_str().is_empty()).collect();
    if !listed.is_empty() {
        let found = there(listed.clone());
        if found.is_empty() {
            let listed = listed.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
            return Err(fail(Exit::Usage, format!("KUBECONFIG names {listed}, which is not there")));
        }
        return Ok(found);
    }
    let data = std::env::var_os("BERTH_DATA").map_or_else(|| PathBuf::from(up::DEFAULT_DATA), PathBuf::from);
    let of_up = data.join("server").join("admin.kubeconfig");
    let of_home = std::env::home_dir().map(|home| home.join(".kube").join("config"));
    let found = there([of_up].into_iter().chain(of_home).take(2).collect());
    match found.into_iter().next() {
        Some(file) => Ok(vec![file]),
        None => Err(fail(
            Exit::Unreachable,
            "no kubeconfig: give --kubeconfig, set KUBECONFIG, or start Berth on this machine with `berth up`",
        )),
    }
}
