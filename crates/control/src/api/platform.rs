//! Health, metrics, status and the API's own description.

use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use dujiang_types::{Code, Problem};

use super::App;
use crate::error::{ApiError, ApiResult, out_of_touch};
use crate::status::Status;
use crate::{metrics, status};

/// A store that does not answer within this is of no use to anyone who asks.
const READY_TIME_MAX: Duration = Duration::from_secs(1);

/// A key that need not exist: what counts is that the store can be read.
const READY_KEY: &str = "readyz";

/// The process lives.
#[utoipa::path(get, path = "/healthz", tag = "platform", responses((status = 200, body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The store answers.
#[utoipa::path(get, path = "/readyz", tag = "platform",
    responses((status = 200, body = String), (status = 503, body = Problem)))]
pub(super) async fn readyz(State(app): State<App>) -> ApiResult<&'static str> {
    match tokio::time::timeout(READY_TIME_MAX, app.shared.store().get(READY_KEY)).await {
        Ok(answer) => answer.map(|_| "ready\n").map_err(ApiError::from),
        Err(_) => Err(ApiError::new(Code::StoreUnavailable, "the store does not answer")),
    }
}

/// Prometheus metrics.
#[utoipa::path(get, path = "/metrics", tag = "platform",
    responses((status = 200, body = String, content_type = "application/openmetrics-text")))]
pub(super) async fn metrics(State(app): State<App>) -> ApiResult<Response> {
    let text = metrics::render(&app.shared).map_err(|e| ApiError::new(Code::Internal, e.to_string()))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "platform",
    responses((status = 200, body = Object, content_type = "application/json")))]
pub(super) async fn openapi(State(app): State<App>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], app.document.to_string()).into_response()
}

/// Everything that is known, in one document. Not by a server whose store does not answer: what it knows of the
/// records, and of who leads, may be long past, and another server may know better.
#[utoipa::path(get, path = "/v1/status", tag = "platform",
    responses((status = 200, body = Status), (status = 503, body = Problem)))]
pub(super) async fn status(State(app): State<App>) -> ApiResult<axum::Json<Status>> {
    if !app.shared.leader.is_in_touch() {
        return Err(out_of_touch());
    }
    Ok(axum::Json(status::status(&app.shared)))
}
