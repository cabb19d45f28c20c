//! Answers the gateway gives itself.

use bytes::Bytes;
use dujiang_routing::Refusal;
use dujiang_types::error::PROBLEM_MEDIA_TYPE;
use dujiang_types::{Code, Problem};
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};

use crate::body::AnswerBody;

/// Seconds after which a client should try again what was not done: held requests are released within this.
const RETRY_AFTER_S: u32 = 1;

/// A refusal as a problem.
pub(crate) fn from_refusal(refusal: Refusal) -> Problem {
    let problem = Problem::new(refusal.code, refusal.detail);
    if problem.nothing_done() { retryable(problem) } else { problem }
}

/// Nothing was done because the unit is not served at the moment.
pub(crate) fn unavailable(detail: &str) -> Problem {
    retryable(Problem::new(Code::UnitUnavailable, detail))
}

/// Nothing was done because the unit is at home elsewhere.
pub(crate) fn moved(detail: &str) -> Problem {
    retryable(Problem::new(Code::UnitMoved, detail))
}

/// Nothing was done because a bound is reached.
pub(crate) fn overloaded(detail: &str) -> Problem {
    retryable(Problem::new(Code::Overloaded, detail))
}

/// Something may have been done.
pub(crate) fn unknown(detail: &str) -> Problem {
    Problem::new(Code::OutcomeUnknown, detail)
}

fn retryable(mut problem: Problem) -> Problem {
    problem.retry_after = Some(RETRY_AFTER_S);
    problem
}

/// The problem as a document.
pub(crate) fn document(problem: &Problem) -> Bytes {
    serde_json::to_vec(problem).map(Bytes::from).unwrap_or_default()
}

/// The problem as an answer.
pub(crate) fn response(problem: &Problem) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::whole(document(problem)));
    *response.status_mut() =
        StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_MEDIA_TYPE));
    if let Some(seconds) = problem.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The problem as the bytes of a whole answer that ends the connection: for when no HTTP server can write it.
pub(crate) fn raw(problem: &Problem) -> Vec<u8> {
    let body = document(problem);
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::BAD_REQUEST);
    let reason = status.canonical_reason().unwrap_or_default();
    let length = body.len();
    let mut bytes = format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: {PROBLEM_MEDIA_TYPE}\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n",
        status.as_u16()
    )
    .into_bytes();
    bytes.extend_from_slice(&body);
    bytes
}
