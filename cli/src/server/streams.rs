//! The way from the API to the programs on nodes: what the API server asks for, in the gateway's words.

use std::sync::{PoisonError, RwLock};

use apiserver::error::Error;
use apiserver::streams::{Exec, Log, Open, Pipe, Streams};
use controller::gateway::Gateway;
use controller::gateway::error::Refused;
use crds::Instance;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::StatusCode;
use node_protocol::{ExecWanted, LogWanted, StreamPurpose};
use serde_json::Value;

/// Leads through the gateway while there is one: it is a client of the API, and belongs to whichever server leads.
/// Requests that need it are led to that server before they come here.
#[derive(Default)]
pub(crate) struct ThroughTheGateway(RwLock<Option<Gateway>>);

impl ThroughTheGateway {
    /// Says which gateway, if any.
    pub(crate) fn lead_to(&self, gateway: Option<Gateway>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = gateway;
    }

    async fn lead(&self, object: &Value, what: Open) -> Result<Pipe, Error> {
        let gateway = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let gateway = gateway.ok_or_else(|| Error::unavailable("this server leads to no nodes at the moment"))?;
        let instance: Instance =
            serde_json::from_value(object.clone()).map_err(|error| Error::internal(error.to_string()))?;
        let controller::gateway::Pipe { to, from } =
            gateway.open_stream(&instance, purpose(what)).await.map_err(|error| refused(&error))?;
        // Both sides have the same frames.
        Ok(Pipe { to, from })
    }
}

impl Streams for ThroughTheGateway {
    fn open<'a>(&'a self, object: &'a Value, what: Open) -> BoxFuture<'a, Result<Pipe, Error>> {
        self.lead(object, what).boxed()
    }
}

fn purpose(what: Open) -> StreamPurpose {
    match what {
        Open::Log(Log { follow, tail_lines, since_seconds, since, timestamps, previous, stdout, stderr }) => {
            let since = since.map(|since| since.to_string());
            StreamPurpose::Log(LogWanted {
                follow,
                tail_lines,
                since_seconds,
                since,
                timestamps,
                previous,
                stdout,
                stderr,
            })
        }
        Open::Exec(Exec { command, stdin, stdout, stderr, tty }) => {
            StreamPurpose::Exec(ExecWanted { command, stdin, stdout, stderr, tty })
        }
        // Nobody is let into the program itself: containers have no open input, and a reader of Docker's own attach who
        // stops reading would stop the program. Its log from now on has all that it says.
        Open::Attach { stdout, stderr } => {
            StreamPurpose::Log(LogWanted { follow: true, tail_lines: Some(0), stdout, stderr, ..LogWanted::default() })
        }
        Open::Forward { port } => StreamPurpose::Forward { port },
    }
}

fn refused(refused: &Refused) -> Error {
    match refused.code() {
        StatusCode::BAD_REQUEST => Error::bad_request(refused.to_string()),
        StatusCode::TOO_MANY_REQUESTS => Error::too_many(refused.to_string(), 5),
        _ => Error::unavailable(refused.to_string()),
    }
}
