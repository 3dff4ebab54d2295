//! A container's log, for as long as somebody reads. Docker keeps it meanwhile, so a slow reader loses nothing but what
//! Docker has rotated away.

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use node_protocol::{ERRORS, LogWanted, OUTPUT, StreamEnd};

use super::line::{Inlet, Outlet, gone};
use super::opened;
use crate::clock;
use crate::machine::{Container, Containers, LogQuery};

/// Sends a log to its end.
pub(super) async fn follow<C: Containers>(
    containers: &C,
    container: &Container,
    wanted: &LogWanted,
    outlet: &Outlet,
    inlet: Inlet,
) -> Result<StreamEnd, StreamEnd> {
    opened(outlet).await?;
    let mut log = containers.logs(&container.id, &query(container, wanted));
    let sending = async {
        while let Some(piece) = log.next().await {
            let piece = piece.map_err(|error| StreamEnd::because(error.to_string()))?;
            outlet.send(if piece.errors { ERRORS } else { OUTPUT }, &piece.bytes).await?;
        }
        Ok(StreamEnd::default())
    };
    tokio::select! {
        ended = sending => ended,
        () = inlet.gone() => Err(gone()),
    }
}

fn query(container: &Container, wanted: &LogWanted) -> LogQuery {
    let seconds = wanted.since_seconds.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
    let ago = seconds.and_then(|seconds| clock::now().checked_sub(SignedDuration::from_secs(seconds)).ok());
    let since = wanted.since.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
    LogQuery {
        follow: wanted.follow && !wanted.previous,
        tail_lines: wanted.tail_lines,
        since: ago.max(since),
        // The same container is started again, so what was written before its last start is the one before.
        until: container.started_at.filter(|_| wanted.previous),
        timestamps: wanted.timestamps,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
    }
}
