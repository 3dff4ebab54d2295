//! A TCP connection to a container: to its own address on its project's network, and to nothing else on this machine.

use std::time::Duration;

use node_protocol::{CLOSED, INPUT, OUTPUT, STREAM_DATA_BYTES_MAX, StreamEnd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::line::{Inlet, Outlet, gone};
use super::opened;
use crate::machine::{Container, ContainerState};

/// It is on this machine: an open port answers in microseconds, and a busy one's queue is given this long.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Carries bytes both ways until both are done, or one fails.
pub(super) async fn carry(
    container: &Container,
    port: u16,
    outlet: &Outlet,
    mut inlet: Inlet,
) -> Result<StreamEnd, StreamEnd> {
    let running = container.state == ContainerState::Running;
    let address = container.address.filter(|_| running).ok_or_else(|| StreamEnd::because("it does not run"))?;
    let failed = |why: &str| StreamEnd::because(format!("failed to connect to {address}:{port}: {why}"));
    let connected = timeout(CONNECT_WITHIN, TcpStream::connect((address, port))).await;
    let connection = connected.map_err(|_late| failed("timed out"))?.map_err(|error| failed(&error.to_string()))?;
    connection.set_nodelay(true).unwrap_or_else(|error| tracing::debug!(%error, "no delay could not be set"));
    opened(outlet).await?;
    let (mut reading, mut writing) = connection.into_split();
    let outward = async {
        let mut buffer = vec![0; STREAM_DATA_BYTES_MAX];
        loop {
            match reading.read(&mut buffer).await {
                Ok(0) => return outlet.send(CLOSED, &[OUTPUT]).await,
                Ok(length) => outlet.send(OUTPUT, &buffer[..length]).await?,
                Err(error) => return Err(StreamEnd::because(error.to_string())),
            }
        }
    };
    let inward = async {
        loop {
            let frame = inlet.next().await.ok_or_else(gone)?;
            let done = match (frame[0], &frame[1..]) {
                (INPUT, data) => writing.write_all(data).await,
                (CLOSED, [INPUT]) => {
                    // The other side may end first, which is no error.
                    writing.shutdown().await.unwrap_or_else(|error| tracing::trace!(%error, "closed already"));
                    break;
                }
                _ => Ok(()),
            };
            done.map_err(|error| StreamEnd::because(error.to_string()))?;
        }
        Ok(inlet)
    };
    tokio::pin!(outward, inward);
    tokio::select! {
        ended = &mut outward => {
            ended?;
            inward.await?;
        }
        inlet = &mut inward => {
            let inlet = inlet?;
            tokio::select! {
                ended = outward => ended?,
                () = inlet.gone() => return Err(gone()),
            }
        }
    }
    Ok(StreamEnd::default())
}
