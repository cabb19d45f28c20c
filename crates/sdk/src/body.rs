//! Reading request bodies within bounds.

use std::error::Error;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use dujiang_types::Code;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;

use crate::problem::Rejection;

/// Largest body taken. The largest of the bank's has some hundred bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// How long a body may take to arrive. It comes from a gateway nearby, which has it already.
const BODY_TIME_MAX: Duration = Duration::from_secs(5);

/// Reads a whole body.
pub(crate) async fn read(body: Body) -> Result<Bytes, Rejection> {
    match tokio::time::timeout(BODY_TIME_MAX, to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_large(&error) => {
            Err(Rejection::new(Code::RequestTooLarge, format!("at most {BODY_BYTES_MAX} bytes")))
        }
        Ok(Err(_)) => Err(Rejection::new(Code::RequestIncomplete, "the body broke off")),
        Err(_) => Err(Rejection::new(Code::RequestIncomplete, "the body took too long to arrive")),
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if error.is::<LengthLimitError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Reads a JSON body; a missing one reads as `{}`.
pub(crate) async fn json<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, Rejection> {
    let bytes = read(body).await?;
    if bytes.is_empty() {
        return parse(b"{}");
    }
    let media_type =
        headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("application/json");
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Rejection::new(Code::RequestInvalid, "the body must be application/json"));
    }
    parse(&bytes)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Rejection> {
    serde_json::from_slice(bytes)
        .map_err(|error| Rejection::new(Code::RequestInvalid, format!("the body: {error}")))
}
