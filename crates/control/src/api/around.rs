//! What surrounds every handler: access log, metrics, time limit, and errors in one form.

use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use dujiang_types::Code;
use dujiang_types::error::PROBLEM_MEDIA_TYPE;

use super::App;
use crate::error::{ApiError, not_leading};
use crate::metrics::RequestLabels;

/// Longest a request may take before its sender is told that the outcome is not known: a body's ten seconds and as
/// much for the store.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(20);
/// Longest explanation taken over from the framework.
const DETAIL_BYTES_MAX: usize = 1024;

/// Counts the request and writes it to the access log. Reports and health checks come several times a second, so
/// they are logged only when something is wrong with them.
pub(super) async fn account(State(app): State<App>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let seconds = began.elapsed().as_secs_f64();
    let ms = began.elapsed().as_millis();
    let frequent = route.ends_with("/report")
        || route == "/v1/identities"
        || !route.starts_with("/v1/")
        || route == "/v1/status";
    if frequent && response.status().is_success() {
        tracing::debug!(%method, path, status, ms, "request");
    } else {
        tracing::info!(%method, path, status, ms, "request");
    }
    let labels = RequestLabels { method: method_label(&method), route, status };
    app.shared.metrics.requests.get_or_create(&labels).inc();
    app.shared.metrics.request_seconds.observe(seconds);
    response
}

/// Methods are the client's to invent; labels are not.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// Only the server that leads takes what changes something. Reports are for all of them, and certificates are written
/// nowhere.
pub(super) async fn leader_writes(State(app): State<App>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    // Making room has to work while the store takes no writes, and then nobody leads.
    let everywhere = ["/v1/identities", super::store::COMPACT_PATH].contains(&path);
    let reads = request.method().is_safe() || path.ends_with("/report") || everywhere;
    if reads || app.shared.leader.leads().is_some() {
        next.run(request).await
    } else {
        not_leading().into_response()
    }
}

/// Runs the handler to its end even if the client hangs up: a write that has begun must not leave its lock before
/// it is done. Answers after [`REQUEST_TIME_MAX`] at the latest, and also if the handler panics.
pub(super) async fn to_the_end(request: Request, next: Next) -> Response {
    let handler = tokio::spawn(next.run(request));
    match tokio::time::timeout(REQUEST_TIME_MAX, handler).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            tracing::error!(%error, "a handler panicked");
            ApiError::new(Code::Internal, "the request met a defect of ours; it is logged").into_response()
        }
        Err(_) => {
            let detail = format!("not done within {} s", REQUEST_TIME_MAX.as_secs());
            ApiError::new(Code::OutcomeUnknown, detail).into_response()
        }
    }
}

/// Turns refusals of the framework (a query that cannot be read, a path that is no UTF-8) into problems.
pub(super) async fn as_problem(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let is_problem = response.headers().get(header::CONTENT_TYPE).is_some_and(|v| v == PROBLEM_MEDIA_TYPE);
    if is_problem || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let body = axum::body::to_bytes(response.into_body(), DETAIL_BYTES_MAX).await.unwrap_or_default();
    let detail = String::from_utf8_lossy(&body).into_owned();
    let code = match status {
        StatusCode::NOT_FOUND => Code::RouteUnknown,
        StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
        StatusCode::PAYLOAD_TOO_LARGE => Code::RequestTooLarge,
        _ if status.is_client_error() => Code::RequestInvalid,
        _ => Code::Internal,
    };
    ApiError::new(code, detail).into_response()
}

pub(super) async fn not_found(request: Request) -> ApiError {
    ApiError::new(Code::RouteUnknown, format!("{} is described in /openapi.json", request.uri().path()))
}

pub(super) async fn method_not_allowed(request: Request) -> ApiError {
    ApiError::new(Code::MethodNotAllowed, format!("{} {}", request.method(), request.uri().path()))
}
