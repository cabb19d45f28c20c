//! The agent's own server: promises for its peers, health, metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use dujiang_types::api::PromiseRequest;
use dujiang_types::error::PROBLEM_MEDIA_TYPE;
use dujiang_types::{Code, Problem};
use prometheus_client::encoding::text::encode;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;

use super::Shared;
use super::known::Known;

/// A promise is asked for in less than two hundred bytes.
const BODY_BYTES_MAX: usize = 4096;
/// Pause before a taken address is tried again.
const BIND_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
struct App {
    shared: Arc<Shared>,
    known: watch::Receiver<Known>,
}

/// Serves for ever. The address may still be held by an agent that is just ending.
pub(super) async fn serve(shared: Arc<Shared>, known: watch::Receiver<Known>, address: SocketAddr) {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .route("/v1/promises", post(promise))
        .fallback(|| async {
            refuse(Problem::new(Code::RouteUnknown, "there are /v1/promises, /healthz and /metrics"))
        })
        .method_not_allowed_fallback(|| async { refuse(Problem::new(Code::MethodNotAllowed, "")) })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(App { shared, known });
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                tracing::info!(%address, "serving");
                if let Err(error) = axum::serve(listener, router.clone()).await {
                    tracing::error!(%error, "the server has ended");
                }
            }
            Err(error) => tracing::error!(%address, %error, "cannot listen"),
        }
        sleep(BIND_PAUSE).await;
    }
}

async fn promise(State(app): State<App>, ask: Result<Json<PromiseRequest>, JsonRejection>) -> Response {
    let ask = match ask {
        Ok(Json(ask)) => ask,
        Err(wrong) if wrong.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            return refuse(Problem::new(Code::RequestTooLarge, wrong.body_text()));
        }
        Err(wrong) => return refuse(Problem::new(Code::RequestInvalid, wrong.body_text())),
    };
    let known = app.known.borrow().clone();
    match app.shared.handles().get(&ask.unit) {
        Some(handle) => Json(handle.promise(&known, &ask)).into_response(),
        None => refuse(Problem::new(Code::NotFound, format!("no replica of {} here", ask.unit))),
    }
}

async fn metrics(State(app): State<App>) -> Response {
    app.shared.metrics.take(&app.shared.handles(), &app.known.borrow().clone());
    let mut text = String::new();
    match encode(&mut text, &app.shared.metrics.registry) {
        Ok(()) => {
            ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
                .into_response()
        }
        Err(error) => refuse(Problem::new(Code::Internal, error.to_string())),
    }
}

fn refuse(problem: Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, PROBLEM_MEDIA_TYPE)], Json(problem)).into_response()
}
