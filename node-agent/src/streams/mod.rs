//! Streams: what a program has written, another program beside it, a connection to one of its ports.
//!
//! Each has a task and a WebSocket of its own, which the gateway has asked for: a slow reader slows its own stream down
//! and nothing else.

mod exec;
mod forward;
mod line;
mod log;

use std::sync::Arc;

use node_protocol::{OUTPUT, OpenStream, StreamEnd, StreamPurpose};
use tokio::task::JoinSet;

use crate::machine::{Container, Containers};
use crate::session::Dialer;
use line::{Inlet, Outlet};

/// Streams open at a time; each costs a connection to Docker or to a container, and one to the gateway.
const STREAMS_MAX: usize = 256;

/// The streams that are open.
#[derive(Debug, Default)]
pub(crate) struct Streams(JoinSet<()>);

impl Streams {
    /// Opens a stream to a container.
    pub(crate) fn open<C: Containers>(
        &mut self,
        containers: Arc<C>,
        asked: OpenStream,
        container: Option<Container>,
        dialer: Arc<Dialer>,
    ) {
        while self.0.try_join_next().is_some() {}
        let full = self.0.len() >= STREAMS_MAX;
        self.0.spawn(async move {
            let stream = asked.stream;
            let socket = match Box::pin(dialer.stream(stream)).await {
                Ok(socket) => socket,
                Err(error) => return tracing::warn!(stream, %error, "a stream cannot be opened"),
            };
            line::run(socket, async move |outlet: Outlet, inlet: Inlet| {
                let end = match container {
                    _ if full => StreamEnd::because(format!("this node has {STREAMS_MAX} streams open already")),
                    None => StreamEnd::because("the instance has no container on this node"),
                    Some(container) => talk(&*containers, &container, &asked.purpose, &outlet, inlet).await,
                };
                // If nobody is there to hear it, nobody needs it.
                outlet.end(&end).await;
            })
            .await;
        });
    }
}

async fn talk<C: Containers>(
    containers: &C,
    container: &Container,
    purpose: &StreamPurpose,
    outlet: &Outlet,
    inlet: Inlet,
) -> StreamEnd {
    let end = match purpose {
        StreamPurpose::Log(wanted) => log::follow(containers, container, wanted, outlet, inlet).await,
        StreamPurpose::Exec(wanted) => exec::run(containers, container, wanted, outlet, inlet).await,
        StreamPurpose::Forward { port } => forward::carry(container, *port, outlet, inlet).await,
    };
    end.unwrap_or_else(|end| end)
}

/// Says that the stream is open.
async fn opened(outlet: &Outlet) -> Result<(), StreamEnd> {
    outlet.send(OUTPUT, &[]).await
}
