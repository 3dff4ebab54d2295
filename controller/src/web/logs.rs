//! Logs as text: of an application's instances from their nodes, of a build from what is kept.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use crds::duration::Span;
use crds::{APPLICATION_LABEL, Application, Build, Instance};
use futures::stream::{self, BoxStream, SelectAll};
use futures::{Stream, StreamExt};
use http::header;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use node_protocol::{END, ERRORS, LogWanted, OUTPUT, StreamEnd, StreamPurpose};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_stream::wrappers::ReceiverStream;

use super::Web;
use super::caller::{Caller, unseen};
use super::lines::Lines;
use crate::gateway::error::Refused;
use crate::gateway::{Gateway, Pipe};
use crate::world::Key;

/// Pieces that wait for the reader's connection; further ones wait in the stream, which is bounded too.
const WAITING: usize = 8;
/// Whoever reads for long is asked again whether they may.
const ASK_AGAIN: Duration = Duration::from_mins(1);
/// The last of a build's log may come after the word that it has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What of a log is wanted.
#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[derive(Default)]
pub(super) struct Wanted {
    follow: Option<String>,
    tail: Option<u32>,
    since: Option<String>,
    timestamps: Option<String>,
    previous: Option<String>,
    instance: Option<String>,
}

/// `?follow`, `?follow=` and `?follow=true` all switch on.
fn is_on(value: Option<&String>) -> bool {
    value.is_some_and(|value| matches!(value.as_str(), "" | "true" | "1"))
}

impl Wanted {
    fn log(&self) -> Result<LogWanted, Refused> {
        let since = self.since.as_deref().filter(|text| !text.is_empty()).map(|text| {
            let span = text.parse::<u64>().ok().or_else(|| Some(text.parse::<Span>().ok()?.get().as_secs()));
            span.ok_or_else(|| Refused::bad_request(format!("since: {text:?} must be seconds, or as in 10m or 1h30m")))
        });
        Ok(LogWanted {
            follow: is_on(self.follow.as_ref()),
            tail_lines: self.tail,
            since_seconds: since.transpose()?,
            timestamps: is_on(self.timestamps.as_ref()),
            previous: is_on(self.previous.as_ref()),
            ..LogWanted::default()
        })
    }
}

/// `GET applications/{namespace}/{name}/logs`.
pub(super) async fn application(
    State(web): State<Web>,
    caller: Caller,
    Path((namespace, name)): Path<(String, String)>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Refused> {
    let Query(wanted) = wanted.map_err(|rejection| Refused::bad_request(rejection.body_text()))?;
    let log = wanted.log()?;
    let applications: Api<Application> = Api::namespaced(caller.0.clone(), &namespace);
    let uid = applications.get(&name).await.map_err(unseen)?.uid();
    let listed = ListParams::default().labels(&format!("{APPLICATION_LABEL}={name}"));
    let mut instances = Api::<Instance>::namespaced(caller.0, &namespace).list(&listed).await?.items;
    instances.retain(|instance| wanted.instance.as_ref().is_none_or(|only| *only == instance.name_any()));
    if instances.is_empty() {
        return Err(match wanted.instance {
            Some(instance) => Refused::not_found(format!("the application {name} has no instance {instance:?}")),
            None => Refused::conflict(format!("the application {name} has no instances, and so no log")),
        });
    }
    instances.sort_by_key(ResourceExt::name_any);
    let texts = open(&web.gateway, &instances, &log).await?;
    let still = move || {
        let (applications, name, uid) = (applications.clone(), name.clone(), uid.clone());
        async move { matches!(applications.get(&name).await, Ok(found) if found.uid() == uid) }
    };
    Ok(text(while_allowed(texts, still)))
}

/// The logs of all instances that can be read, as they come. Fails only if there is none.
async fn open(
    gateway: &Gateway,
    instances: &[Instance],
    log: &LogWanted,
) -> Result<SelectAll<BoxStream<'static, Bytes>>, Refused> {
    let several = instances.len() > 1;
    let mut texts = SelectAll::new();
    let mut refusals = Vec::new();
    let opening = instances.iter().map(|instance| gateway.open_stream(instance, StreamPurpose::Log(log.clone())));
    for (instance, opened) in instances.iter().zip(futures::future::join_all(opening).await) {
        let mut lines = Lines::new(several.then(|| format!("[{}] ", instance.name_any())));
        match opened {
            Ok(pipe) => texts.push(read(pipe, lines)),
            Err(refused) => refusals.push((lines.remark(&refused.to_string()), refused)),
        }
    }
    if texts.is_empty()
        && let Some((_, refused)) = refusals.pop()
    {
        return Err(refused);
    }
    for (remark, _) in refusals {
        texts.push(stream::iter([remark.into()]).boxed());
    }
    Ok(texts)
}

/// One instance's log as text.
fn read(pipe: Pipe, lines: Lines) -> BoxStream<'static, Bytes> {
    stream::unfold((Some(pipe), lines), next).boxed()
}

async fn next((pipe, mut lines): (Option<Pipe>, Lines)) -> Option<(Bytes, (Option<Pipe>, Lines))> {
    let mut pipe = pipe?;
    let end = loop {
        match pipe.from.recv().await {
            None => break StreamEnd::because("the connection to the node was lost"),
            Some(frame) => match frame.first() {
                Some(&(OUTPUT | ERRORS)) => return Some((lines.add(&frame[1..]).into(), (Some(pipe), lines))),
                Some(&END) => break serde_json::from_slice(&frame[1..]).unwrap_or_default(),
                _ => {}
            },
        }
    };
    let shown = match end.error {
        None => lines.end(),
        Some(why) => lines.remark(&format!("the log ends here: {why}")),
    };
    Some((shown.into(), (None, lines)))
}

/// Passes texts on as long as the reader is there and still may read.
fn while_allowed<F>(
    mut texts: impl Stream<Item = Bytes> + Send + Unpin + 'static,
    allowed: impl Fn() -> F + Send + 'static,
) -> ReceiverStream<Bytes>
where
    F: Future<Output = bool> + Send,
{
    let (reader, body) = mpsc::channel(WAITING);
    // It ends when the reader goes or the texts end.
    drop(crate::task::spawn("log-reader", async move {
        let mut ask = interval_at(Instant::now() + ASK_AGAIN, ASK_AGAIN);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                text = texts.next() => match text {
                    Some(text) if text.is_empty() => {}
                    Some(text) => if reader.send(text).await.is_err() { return },
                    None => return,
                },
                _ = ask.tick() => if !allowed().await { return },
                () = reader.closed() => return,
            }
        }
    }));
    ReceiverStream::new(body)
}

/// `GET builds/{namespace}/{name}/logs`.
pub(super) async fn build(
    State(web): State<Web>,
    caller: Caller,
    Path((namespace, name)): Path<(String, String)>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Refused> {
    let Query(wanted) = wanted.map_err(|rejection| Refused::bad_request(rejection.body_text()))?;
    let follow = is_on(wanted.follow.as_ref());
    let builds: Api<Build> = Api::namespaced(caller.0, &namespace);
    let uid = builds.get(&name).await.map_err(unseen)?.uid().unwrap_or_default();
    let kept =
        Kept { gateway: web.gateway, uid: uid.clone(), key: Key::new(namespace, &*name), from: 0, follow, done: false };
    let texts = Box::pin(stream::unfold(kept, Kept::part));
    let still = move || {
        let (builds, name, uid) = (builds.clone(), name.clone(), uid.clone());
        async move { matches!(builds.get(&name).await, Ok(found) if found.uid().as_deref() == Some(&uid)) }
    };
    Ok(text(while_allowed(texts, still)))
}

/// The log of a build, from what is kept.
struct Kept {
    gateway: Gateway,
    uid: String,
    key: Key,
    from: u64,
    follow: bool,
    done: bool,
}

impl Kept {
    async fn part(mut self) -> Option<(Bytes, Self)> {
        Some((self.next().await?.into(), self))
    }

    /// The next part; `None` at the end, which for one who follows is when the build has ended.
    async fn next(&mut self) -> Option<String> {
        let mut more = self.gateway.series().follow_build_log(&self.uid);
        let mut world = self.gateway.hub().world.changed();
        while !self.done {
            more.borrow_and_update();
            let ended = self.has_ended();
            let part = match self.gateway.series().read_build_log(&self.uid, self.from).await {
                Ok(part) => part,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a build's log cannot be read");
                    self.done = true;
                    return Some("--- the log cannot be read just now\n".to_owned());
                }
            };
            if !part.text.is_empty() {
                self.from = part.next;
                let mut shown = String::from_utf8_lossy(&part.text).into_owned();
                if part.left_out > 0 {
                    use std::fmt::Write;
                    write!(shown, "\n--- the log is too long: {} bytes are left out\n", part.left_out).ok()?;
                }
                return Some(shown);
            }
            if !self.follow {
                return None;
            }
            if ended {
                // Nothing for a while after the end: that was all.
                if timeout(LAST_WORDS, more.changed()).await.is_err() {
                    self.follow = false;
                }
                continue;
            }
            loop {
                tokio::select! {
                    changed = more.changed() => {
                        self.done = changed.is_err();
                        break;
                    }
                    changed = world.changed() => if changed.is_err() || self.has_ended() { break },
                }
            }
        }
        None
    }

    fn has_ended(&self) -> bool {
        let build = self.gateway.hub().world.builds.get(&self.key);
        build.filter(|build| build.uid().as_deref() == Some(&self.uid)).is_none_or(|build| {
            build.metadata.deletion_timestamp.is_some()
                || build.status.as_ref().is_some_and(|status| status.phase.is_final())
        })
    }
}

fn text(parts: ReceiverStream<Bytes>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, Body::from_stream(parts.map(Ok::<_, Infallible>))).into_response()
}
