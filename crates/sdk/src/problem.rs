//! Problems as HTTP answers.

use axum::response::{IntoResponse, Response};
use dujiang_types::error::PROBLEM_MEDIA_TYPE;
use dujiang_types::{Code, Problem};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};

use crate::failure::Failure;

/// A problem as the answer of a handler.
#[derive(Debug)]
pub struct Rejection(pub Problem);

impl Rejection {
    /// A problem of that code with what was wrong and what to do.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Problem::new(code, detail))
    }
}

impl From<Problem> for Rejection {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<Failure> for Rejection {
    /// Logs what a client does not get to see, once.
    fn from(failure: Failure) -> Self {
        match &failure {
            Failure::Internal { .. } => {
                tracing::error!(error = &failure as &dyn std::error::Error, "defect");
            }
            Failure::Unknown { .. } => {
                tracing::warn!(error = &failure as &dyn std::error::Error, "outcome unknown");
            }
            Failure::NotDone { .. } | Failure::Repeat(_) | Failure::Locked(_) => {
                tracing::debug!(error = &failure as &dyn std::error::Error, "nothing done");
            }
            Failure::Refused(_) => {}
        }
        Self(failure.into_problem())
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = self.0.retry_after;
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (status, [(CONTENT_TYPE, PROBLEM_MEDIA_TYPE)], body).into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
