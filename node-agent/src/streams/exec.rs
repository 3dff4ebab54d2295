//! Another program in a container: as the container's own user, with no more rights than its own program has.

use std::pin::Pin;
use std::time::Duration;

use futures::StreamExt;
use node_protocol::{CLOSED, ERRORS, ExecWanted, INPUT, OUTPUT, SIZE, StreamEnd, TerminalSize};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::line::{Inlet, Outlet, gone};
use super::opened;
use crate::machine::{Container, Containers, ExecSpec, Process};

/// Docker notes an exit code moments after the output has ended.
const EXIT_CODE_WITHIN: Duration = Duration::from_secs(5);
/// How often it is asked for one.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// What a terminal's keyboard would send: interrupt, and the end of input.
const HANG_UP: &[u8] = &[3, 4];

type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// Runs a program to its end, or for as long as somebody is there.
pub(super) async fn run<C: Containers>(
    containers: &C,
    container: &Container,
    wanted: &ExecWanted,
    outlet: &Outlet,
    inlet: Inlet,
) -> Result<StreamEnd, StreamEnd> {
    let spec = ExecSpec {
        command: wanted.command.clone(),
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
        tty: wanted.tty,
    };
    let because = |error: crate::machine::Error| StreamEnd::because(error.to_string());
    let Process { id, mut output, input } = containers.exec(&container.id, &spec).await.map_err(because)?;
    opened(outlet).await?;
    let showing = async {
        while let Some(piece) = output.next().await {
            let piece = piece.map_err(because)?;
            outlet.send(if piece.errors { ERRORS } else { OUTPUT }, &piece.bytes).await?;
        }
        Ok(())
    };
    let mut input = Some(input).filter(|_| wanted.stdin);
    let shown = tokio::select! {
        shown = showing => shown,
        () = feed(containers, &id, &mut input, inlet) => Err(gone()),
    };
    if let Err(end) = shown {
        // Without its terminal a program has nobody to end it: Docker leaves it running.
        if let Some(mut input) = input.filter(|_| wanted.tty) {
            let hung_up = tokio::time::timeout(ASK_EVERY, input.write_all(HANG_UP)).await;
            tracing::debug!(done = matches!(hung_up, Ok(Ok(()))), "a terminal was hung up");
        }
        return Err(end);
    }
    exit_code(containers, &id).await
}

/// Passes on what comes for the program. Returns when nobody is there any more.
async fn feed<C: Containers>(containers: &C, id: &str, input: &mut Option<Input>, mut inlet: Inlet) {
    while let Some(frame) = inlet.next().await {
        match (frame[0], &frame[1..]) {
            (INPUT, data) => {
                if let Some(open) = input {
                    let written = async {
                        open.write_all(data).await?;
                        open.flush().await
                    };
                    if written.await.is_err() {
                        // It takes no more input; it may still have something to say.
                        *input = None;
                    }
                }
            }
            (CLOSED, [INPUT]) => {
                if let Some(mut open) = input.take()
                    && let Err(error) = open.shutdown().await
                {
                    tracing::debug!(%error, "a program's input cannot be closed");
                }
            }
            (SIZE, size) => {
                if let Ok(TerminalSize { width, height }) = serde_json::from_slice(size)
                    && let Err(error) = containers.resize(id, width, height).await
                {
                    tracing::debug!(%error, "a terminal cannot be resized");
                }
            }
            _ => {}
        }
    }
}

async fn exit_code<C: Containers>(containers: &C, id: &str) -> Result<StreamEnd, StreamEnd> {
    let asking = async {
        loop {
            match containers.exit_code(id).await {
                Ok(Some(code)) => return Ok(StreamEnd { exit_code: Some(code), error: None }),
                Ok(None) => tokio::time::sleep(ASK_EVERY).await,
                Err(error) => return Err(StreamEnd::because(error.to_string())),
            }
        }
    };
    tokio::time::timeout(EXIT_CODE_WITHIN, asking)
        .await
        .unwrap_or_else(|_late| Err(StreamEnd::because("the program's output has ended, and it runs on")))
}
