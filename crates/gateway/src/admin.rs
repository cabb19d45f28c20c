//! The admin listener: health checks and metrics.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use dujiang_identity::Acceptor;
use dujiang_types::error::PROBLEM_MEDIA_TYPE;
use dujiang_types::{Code, Problem};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::limits::{ADMIN_CONNECTIONS_MAX, HEADER_READ_MAX, TICK};
use crate::metrics::{self, Metrics};
use crate::problem;

const METRICS_MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT_MEDIA_TYPE: &str = "text/plain; charset=utf-8";

/// Serves for as long as the gateway runs.
pub(crate) async fn serve(listener: TcpListener, acceptor: Acceptor, metrics: Arc<Metrics>) {
    let room = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept an admin connection");
                tokio::time::sleep(TICK).await;
                continue;
            }
        };
        let (metrics, acceptor) = (metrics.clone(), acceptor.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let stream = match acceptor.accept(stream).await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "an admin connection is refused");
                    return;
                }
            };
            let service = service_fn(|request| {
                let response = answer(&request, &metrics);
                async { Ok::<_, Infallible>(response) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_READ_MAX)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "admin connection ended with an error");
            }
        });
    }
}

fn answer(request: &Request<Incoming>, metrics: &Arc<Metrics>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return refuse(&Problem::new(Code::MethodNotAllowed, "Only GET is served here."));
    }
    match request.uri().path() {
        "/healthz" => reply(StatusCode::OK, TEXT_MEDIA_TYPE, "ok\n"),
        "/readyz" if metrics.table.borrow().is_some() => reply(StatusCode::OK, TEXT_MEDIA_TYPE, "ok\n"),
        "/readyz" => refuse(&problem::unavailable("There is no routing table yet.")),
        "/metrics" => match metrics::text(metrics) {
            Ok(text) => reply(StatusCode::OK, METRICS_MEDIA_TYPE, text),
            Err(error) => {
                tracing::error!(%error, "cannot write the metrics");
                refuse(&Problem::new(Code::Internal, "The metrics cannot be written."))
            }
        },
        _ => refuse(&Problem::new(Code::RouteUnknown, "There are /healthz, /readyz and /metrics.")),
    }
}

fn refuse(problem: &Problem) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply(status, PROBLEM_MEDIA_TYPE, problem::document(problem))
}

fn reply(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
