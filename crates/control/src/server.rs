//! Connections: accepted, bounded, and ended in time.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use dujiang_identity::{Acceptor, Peer};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::api::Hangup;
use crate::state::Shared;

/// Connections at once: every agent and gateway with a few each, people and pipelines. Further ones wait in the
/// kernel's queue.
const CONNECTIONS_MAX: usize = 1024;
/// How long a request's head may take, and how long a connection may idle between requests.
const HEAD_TIME_MAX: Duration = Duration::from_secs(30);
/// Most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// How long requests under way may take to end when the server is shut down.
const GRACE: Duration = Duration::from_secs(1);
/// After a failed accept (usually: no file descriptors left), so that the loop does not spin.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Serves until [`Shared::closing`] says so; then lets requests end and cuts what remains.
pub(crate) async fn serve(listener: TcpListener, acceptor: Acceptor, router: Router, shared: Arc<Shared>) {
    let mut closing = shared.closing.subscribe();
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.wait_for(|closing| *closing) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, shared, closing) = (router.clone(), Arc::clone(&shared), closing.clone());
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    shared.metrics.connections.inc();
                    secured(stream, &acceptor, router, closing).await;
                    shared.metrics.connections.dec();
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, ended).await.is_err() {
        connections.shutdown().await;
    }
}

/// Serves only who shows an identity of the platform.
async fn secured(stream: TcpStream, acceptor: &Acceptor, router: Router, mut closing: watch::Receiver<bool>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY cannot be set");
    }
    let accepted = tokio::select! {
        accepted = acceptor.accept(stream) => accepted,
        _ = closing.wait_for(|closing| *closing) => return,
    };
    match accepted {
        Ok((stream, peer)) => connection(stream, peer, router, closing).await,
        Err(error) => tracing::debug!(%error, "a connection is refused"),
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    router: Router,
    mut closing: watch::Receiver<bool>,
) {
    // Whoever may go on has a newer certificate by then, and connects again with it.
    let expired = tokio::time::sleep(peer.remaining());
    let hangup = Hangup::default();
    let cut = hangup.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (router, hangup, peer) = (router.clone(), hangup.clone(), peer.clone());
        async move {
            let mut request: Request = request.map(Body::new);
            request.extensions_mut().insert(hangup);
            request.extensions_mut().insert(peer);
            router.oneshot(request).await as Result<Response, Infallible>
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX).max_buf_size(HEAD_BYTES_MAX);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => {
            if let Err(error) = result {
                tracing::debug!(%error, "a connection broke");
            }
            return;
        }
        () = cut.0.notified() => return,
        () = expired => {}
        _ = closing.wait_for(|closing| *closing) => {}
    }
    connection.as_mut().graceful_shutdown();
    // A watch goes on until it is cut.
    drop(tokio::time::timeout(GRACE, connection).await);
}
