//! The TLS listener: HTTP/1.1 and HTTP/2 by ALPN, upgrades, bounds, and a clean end.

mod draining;
mod unread;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures::future;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use self::draining::Draining;
use self::unread::Unread;
use crate::auth::ClientCertificate;

/// A handshake is two round trips; ten seconds allow for a very bad line and no more for somebody who only connects.
const HANDSHAKE_SECONDS_MAX: u64 = 10;
/// How long a client may take to send later headers, and an HTTP/1.1 connection may idle between requests: longer than
/// the 90 s that Go's clients keep an idle connection, so that they close first.
const HEADER_SECONDS_MAX: u64 = 100;
/// Kubernetes' own number, so that a client's many watches fit on one connection.
const STREAMS_MAX: u32 = 250;

/// How many connections there may be and how long they are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Connections at a time; who comes later waits in the kernel's queue. One costs a file descriptor and some
    /// 100 KiB; 4096 stays below the usual limit of both.
    pub connections: usize,
    /// How long a write may wait for a client that does not read before the connection is cut.
    pub write: Duration,
    /// What running requests get when the server stops; watches are ended at once.
    pub drain: Duration,
    /// How long a client may take from the handshake until its first request is complete: who opens connections and
    /// trickles into them holds each for no longer than that.
    pub first_request: Duration,
    /// How long the rest of a request that is answered already is read and thrown away.
    pub unread: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connections: 4096,
            write: Duration::from_mins(1),
            drain: Duration::from_secs(10),
            first_request: Duration::from_secs(20),
            // The longest body on a line of 10 Mbit/s.
            unread: Duration::from_secs(3),
        }
    }
}

/// Where a request came from, as a request extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Serves with the usual [`Patience`]: see [`serve_with`].
pub async fn serve(
    listener: TcpListener,
    tls: rustls::ServerConfig,
    router: Router,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    serve_with(listener, tls, router, shutdown, Patience::default()).await
}

/// Serves until `shutdown`; then stops accepting, lets running requests end and returns.
///
/// Watches end because their handlers see the same token; see `Server::builder`.
pub async fn serve_with(
    listener: TcpListener,
    tls: rustls::ServerConfig,
    router: Router,
    shutdown: CancellationToken,
    patience: Patience,
) -> std::io::Result<()> {
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let permits = Arc::new(Semaphore::new(patience.connections));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        // A full house waits in the kernel's queue instead of in our memory.
        let permit = tokio::select! {
            () = shutdown.cancelled() => break,
            permit = Arc::clone(&permits).acquire_owned() => permit.map_err(std::io::Error::other)?,
        };
        let (stream, peer) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Usually "too many open files": others must end first, and looping at once would burn a core.
                    tracing::warn!(%error, "connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        while let Some(ended) = connections.try_join_next() {
            report(ended);
        }
        let (acceptor, router, watcher) = (acceptor.clone(), router.clone(), graceful.watcher());
        connections.spawn(async move {
            let _permit = permit;
            connection(acceptor, stream, peer, router, watcher, patience).await;
        });
    }
    drop(listener);
    let drained = tokio::time::timeout(patience.drain, graceful.shutdown()).await;
    if drained.is_err() {
        tracing::warn!(
            seconds = patience.drain.as_secs(),
            "connections still busy at the end of the drain time are cut"
        );
    }
    connections.shutdown().await;
    Ok(())
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection task panicked");
    }
}

async fn connection(
    acceptor: tokio_rustls::TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
    patience: Patience,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "no delay could not be set");
    }
    let handshake = tokio::time::timeout(Duration::from_secs(HANDSHAKE_SECONDS_MAX), acceptor.accept(stream));
    let stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, %peer, "TLS handshake failed"),
        Err(_elapsed) => return tracing::debug!(%peer, "TLS handshake took too long"),
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certificate = certificate.and_then(|der| ClientCertificate::read(der));
    let spoken = CancellationToken::new();
    let speaks = spoken.clone();
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        speaks.cancel();
        let mut request = match request.version() {
            http::Version::HTTP_2 => request.map(|body| Unread::new(body, patience.unread)).map(axum::body::Body::new),
            // HTTP/1.1 has one request at a time, whose end hyper sees to.
            _ => request.map(axum::body::Body::new),
        };
        request.extensions_mut().insert(Peer(peer));
        if let Some(certificate) = &certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        router.clone().oneshot(request)
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(HEADER_SECONDS_MAX))
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        // A dead peer under a silent watch is noticed by pings, as Kubernetes does it.
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(15));
    let stream = TokioIo::new(Draining::new(stream, patience.write));
    let serving = watcher.watch(builder.serve_connection_with_upgrades(stream, service).into_owned());
    let first_is_late = async {
        let first = tokio::time::timeout(patience.first_request, spoken.cancelled()).await;
        if first.is_ok() {
            future::pending::<()>().await;
        }
    };
    tokio::select! {
        served = serving => {
            if let Err(error) = served {
                tracing::debug!(%error, %peer, "connection ended with an error");
            }
        }
        () = first_is_late => tracing::debug!(%peer, "no request came in time"),
    }
}
