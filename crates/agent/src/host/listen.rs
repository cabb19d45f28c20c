//! Connections to the agent: accepted, bounded, and ended in time.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use dujiang_identity::{Acceptor, Peer};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;

/// Most bytes of a request's head, the least hyper takes: a peer's has some 150.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// How long the last request of an aged connection may take: longer than a body may.
const GRACE: Duration = Duration::from_secs(5);
/// After a failed accept (usually: no file descriptors left), so that the loop does not spin.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// How much is taken from clients.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Connections at once. Further ones wait in the kernel's queue.
    pub(super) connections: usize,
    /// How long a request's head may take, and how long a connection may idle between requests.
    pub(super) head: Duration,
    /// After so long a connection takes no further request. Nothing else ends who asks and does not read answers.
    pub(super) age: Duration,
}

/// Serves for ever. Connections end with it.
pub(super) async fn serve(listener: TcpListener, acceptor: Acceptor, router: Router, bounds: Bounds) {
    let permits = Arc::new(Semaphore::new(bounds.connections));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (router, acceptor) = (router.clone(), acceptor.clone());
                connections.spawn(async move {
                    secured(stream, &acceptor, router, bounds).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
}

/// Serves only who shows an identity of the platform, and soon.
async fn secured(stream: TcpStream, acceptor: &Acceptor, router: Router, bounds: Bounds) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY cannot be set");
    }
    match timeout(bounds.head, acceptor.accept(stream)).await {
        Ok(Ok((stream, peer))) => connection(stream, peer, router, bounds).await,
        Ok(Err(error)) => tracing::debug!(%error, "a connection is refused"),
        Err(_) => tracing::debug!("a connection is cut: its client does not show who it is"),
    }
}

async fn connection(stream: TlsStream<TcpStream>, peer: Peer, router: Router, bounds: Bounds) {
    let service = service_fn(|request: Request<Incoming>| {
        let router = router.clone();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
        async { router.oneshot(request).await as Result<Response, Infallible> }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(bounds.head).max_buf_size(HEAD_BYTES_MAX);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let mut served = timeout(bounds.age, connection.as_mut()).await;
    if served.is_err() {
        connection.as_mut().graceful_shutdown();
        served = timeout(GRACE, connection).await;
    }
    match served {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection broke"),
        Err(_) => tracing::debug!("a connection was cut: its client takes no answer"),
    }
}
