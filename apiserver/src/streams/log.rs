//! `log`: text, as it was written, for as long as somebody reads. A slow reader slows the reading down and loses nothing.

use std::io;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, header};
use jiff::Timestamp;

use super::{END, ERRORS, End, Guard, Log, OUTPUT, Open, Pipe, Program};
use crate::error::Error;
use crate::query::Query;

/// What is asked for by the query, and after how many bytes it ends.
pub(super) fn options(query: &Query) -> Result<(Log, u64), Error> {
    let number = |name: &str| -> Result<Option<u64>, Error> {
        let wrong = |value: &str| {
            Error::bad_request(format!("invalid value {value:?} of the parameter {name:?}: must be a number from 0"))
        };
        query.get(name).map(|value| value.parse().map_err(|_not_one| wrong(value))).transpose()
    };
    let since_seconds = number("sinceSeconds")?;
    let since = query.get("sinceTime").map(|value| {
        value.parse::<Timestamp>().map_err(|_no_time| {
            Error::bad_request(format!(
                "invalid value {value:?} of the parameter \"sinceTime\": must be as in RFC 3339"
            ))
        })
    });
    let since = since.transpose()?;
    if since.is_some() && since_seconds.is_some() {
        return Err(Error::bad_request("at most one of sinceTime or sinceSeconds may be specified"));
    }
    let (stdout, stderr) = match query.get("stream") {
        None | Some("All") => (true, true),
        Some("Stdout") => (true, false),
        Some("Stderr") => (false, true),
        Some(other) => return Err(Error::bad_request(format!("stream: {other:?} must be All, Stdout or Stderr"))),
    };
    let log = Log {
        follow: query.switch("follow"),
        tail_lines: number("tailLines")?.map(|lines| u32::try_from(lines).unwrap_or(u32::MAX)),
        since_seconds,
        since,
        timestamps: query.switch("timestamps"),
        previous: query.switch("previous"),
        stdout,
        stderr,
    };
    let limit = number("limitBytes")?;
    if limit == Some(0) {
        return Err(Error::bad_request("limitBytes: must be greater than 0"));
    }
    Ok((log, limit.unwrap_or(u64::MAX)))
}

pub(super) async fn answer(program: &Program, query: &Query, guard: Guard) -> Result<Response, Error> {
    let (log, limit) = options(query)?;
    let pipe = program.open(Open::Log(log)).await?;
    let text = Text { pipe, guard, limit };
    let body = Body::from_stream(stream::unfold(text, |mut text| async move {
        let piece = text.next().await?;
        Some((piece, text))
    }));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

struct Text {
    pipe: Pipe,
    guard: Guard,
    /// Bytes that may still be sent.
    limit: u64,
}

impl Text {
    /// The next piece; an error breaks the response off, so that nobody takes a part for the whole.
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        while self.limit > 0 {
            let frame = tokio::select! {
                frame = self.pipe.from.recv() => frame,
                () = self.guard.revoked() => return None,
            };
            let Some(frame) = frame else {
                return Some(Err(io::Error::other("the way to the program was lost")));
            };
            match frame.first() {
                Some(&(OUTPUT | ERRORS)) if frame.len() > 1 => {
                    let length = frame.len() - 1;
                    let shown = usize::try_from(self.limit).map_or(length, |limit| length.min(limit));
                    self.limit -= shown as u64;
                    return Some(Ok(frame.slice(1..=shown)));
                }
                Some(&END) => {
                    let end: End = serde_json::from_slice(&frame[1..]).unwrap_or_default();
                    return end.error.map(|error| Err(io::Error::other(error)));
                }
                _ => {}
            }
        }
        None
    }
}
