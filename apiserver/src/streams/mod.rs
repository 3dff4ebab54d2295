//! The ways into running programs: `log`, `exec`, `attach` and `portforward`.
//!
//! Here are the protocols that Kubernetes' clients speak. What they lead to is behind [`Streams`], given by whoever puts
//! the server together: this crate knows neither where the programs run nor how they are reached.

mod forward;
mod log;
mod process;
mod socket;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use http::Method;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::audit;
use crate::auth::Identity;
use crate::error::Error;
use crate::objects::{self, Call};
use crate::path::{Subresource, Target};
use crate::respond;
use crate::server::State;

/// All streams of a server together. Each costs two buffers of [`FRAMES`] frames, some 512 KiB when both ends are slow.
pub(crate) const STREAMS_MAX: usize = 1024;
/// Frames that wait in each direction of a [`Pipe`]: enough to keep both sides busy, and no more than 256 KiB.
pub const FRAMES: usize = 8;
/// The longest data of a frame.
pub const FRAME_BYTES_MAX: usize = 32 << 10;
/// Whoever stays for long is asked again whether they may.
const ASK_AGAIN: Duration = Duration::from_mins(1);

/// The program's input, to it.
pub const INPUT: u8 = 0;
/// The program's output, from it.
pub const OUTPUT: u8 = 1;
/// The program's error output, from it.
pub const ERRORS: u8 = 2;
/// The last frame from it: how it ended, an [`End`] as JSON.
pub const END: u8 = 3;
/// The size of its terminal, to it: `{"Width":80,"Height":24}`.
pub const SIZE: u8 = 4;
/// There is no more on a channel, whose number follows.
pub const CLOSED: u8 = 255;

/// A way into a program: frames in both directions. The first byte of a frame is its channel, as in Kubernetes'
/// `v5.channel.k8s.io`, the rest its data.
///
/// What cannot be passed on waits, and with it the other side: nothing is lost. Dropping a pipe ends the stream.
#[derive(Debug)]
pub struct Pipe {
    /// To the program.
    pub to: mpsc::Sender<Bytes>,
    /// From the program; its first frame may be empty and says that it was reached.
    pub from: mpsc::Receiver<Bytes>,
}

/// How a stream ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// The exit code of a program that was run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// Why the stream ended, if not because there is no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What is wanted of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Open {
    /// What it has written.
    Log(Log),
    /// To run another program beside it.
    Exec(Exec),
    /// What it writes from now on.
    Attach {
        /// Whether standard output is wanted.
        stdout: bool,
        /// Whether standard error is wanted.
        stderr: bool,
    },
    /// A connection to one of its ports.
    Forward {
        /// The port.
        port: u16,
    },
}

/// Which part of a log.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the protocol's own")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Whether it goes on with what is written from now on.
    pub follow: bool,
    /// With how many of the last lines it begins.
    pub tail_lines: Option<u32>,
    /// Only what was written in the last so many seconds.
    pub since_seconds: Option<u64>,
    /// Only what was written since then.
    pub since: Option<Timestamp>,
    /// Whether lines begin with their time.
    pub timestamps: bool,
    /// What was written before the program was last started.
    pub previous: bool,
    /// Whether standard output is wanted.
    pub stdout: bool,
    /// Whether standard error is wanted.
    pub stderr: bool,
}

/// A program to run beside another.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the protocol's own")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Whether it gets input.
    pub stdin: bool,
    /// Whether its standard output is wanted.
    pub stdout: bool,
    /// Whether its standard error is wanted.
    pub stderr: bool,
    /// Whether it gets a terminal.
    pub tty: bool,
}

/// Leads to the programs behind objects.
pub trait Streams: Send + Sync {
    /// Opens a way into the program behind a stored object. The error's words are for whoever asked.
    fn open<'a>(&'a self, object: &'a Value, what: Open) -> BoxFuture<'a, Result<Pipe, Error>>;
}

/// A frame of a channel.
pub fn frame(channel: u8, data: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(data.len() + 1);
    frame.put_u8(channel);
    frame.put_slice(data);
    frame.freeze()
}

/// The program that a request is about.
#[derive(Clone)]
struct Program {
    streams: Arc<dyn Streams>,
    /// As it is stored.
    object: Arc<Value>,
}

impl Program {
    async fn open(&self, what: Open) -> Result<Pipe, Error> {
        self.streams.open(&self.object, what).await
    }
}

/// Answers a request for one of the ways.
pub(crate) async fn serve(state: &Arc<State>, call: Call, part: Subresource) -> Result<Response, Error> {
    if part == Subresource::Log {
        return lead(state, call, part).await;
    }
    let (target, identity) = (call.target.clone(), call.identity.clone());
    let by_get = call.parts.method == Method::GET;
    let answer = async {
        if by_get {
            // A WebSocket begins with a GET, and does what `create` allows: as Kubernetes since 1.35.
            objects::authorise_target(state, &target, &identity, "create").await?;
        }
        lead(state, call, part).await
    };
    let answer = answer.await;
    // Whoever is let into a program may change what is in it. A refused POST is noted as every refused mutation is.
    match &answer {
        Ok(response) => audit::must_note(state, &target, &identity, "create", response.status().as_u16()).await?,
        Err(error) if by_get => audit::note_refusal(state, &target, &identity, "create", error),
        Err(_) => {}
    }
    answer
}

async fn lead(state: &Arc<State>, mut call: Call, part: Subresource) -> Result<Response, Error> {
    let Some(streams) = state.streams.clone() else {
        return Err(Error::unavailable("this server leads to no running programs"));
    };
    let object = objects::find(state, &call.target)?;
    let shown = respond::tree(&call.target.kind, &object.body)?;
    let program = Program { streams, object: Arc::new(object.value()) };
    let permit = Arc::clone(&state.open_streams)
        .try_acquire_owned()
        .map_err(|_full| Error::too_many("this server has as many streams as it may; try again later", 5))?;
    if part != Subresource::PortForward {
        check_container(&shown, &call)?;
    }
    let (target, identity) = (call.target.clone(), call.identity.clone());
    let ask_at = Instant::now() + ASK_AGAIN;
    let guard = Guard { state: Arc::clone(state), target, identity, ask_at, _permit: permit };
    match part {
        Subresource::Log => log::answer(&program, &call.query, guard).await,
        Subresource::Exec => {
            let what = process::exec(&call.query, &shown, call.target.name())?;
            process::answer(program, what, &mut call.parts, guard).await
        }
        Subresource::Attach => process::answer(program, process::attach(&call.query)?, &mut call.parts, guard).await,
        _ => forward::answer(program, &call.query, &mut call.parts, guard).await,
    }
}

/// A program has one container here; who names another is told so.
fn check_container(shown: &Value, call: &Call) -> Result<(), Error> {
    let Some(asked) = call.query.get("container") else { return Ok(()) };
    let mut names = shown["spec"]["containers"].as_array().into_iter().flatten().map(|container| &container["name"]);
    if names.any(|name| name == asked) {
        return Ok(());
    }
    let message = format!("container {asked} is not valid for {} {}", call.target.kind.singular, call.target.name());
    Err(Error::bad_request(message))
}

/// What is held while a stream is open.
struct Guard {
    state: Arc<State>,
    target: Target,
    identity: Identity,
    ask_at: Instant,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

impl Guard {
    /// Returns when the stream must end: the server stops, or whoever opened it may no longer. May be given up and
    /// called again.
    async fn revoked(&mut self) {
        let verb = if self.target.subresource == Some(Subresource::Log) { "get" } else { "create" };
        loop {
            tokio::select! {
                () = self.state.shutdown.cancelled() => return,
                () = sleep_until(self.ask_at) => {}
            }
            self.ask_at = Instant::now() + ASK_AGAIN;
            if self.state.accounts.as_ref().is_some_and(|accounts| !accounts.goes_on(&self.identity)) {
                return;
            }
            if objects::authorise_target(&self.state, &self.target, &self.identity, verb).await.is_err() {
                return;
            }
        }
    }
}
