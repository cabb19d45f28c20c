//! Reading request bodies: bounded in size and time, and with the place of a mistake named.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header;
use dujiang_types::Code;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::error::{ApiError, ApiResult};

/// Largest body. A resource has some 10 KiB, an agent's report of a hundred units some 100 KiB.
pub(crate) const BODY_BYTES_MAX: usize = 1024 * 1024;
/// How long a body may take to arrive: a slow sender must not hold its connection for ever.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);

/// A JSON body as it came; see [`RawJson::parse`].
pub(crate) struct RawJson(Bytes);

/// A JSON body.
pub(crate) struct Json<T>(pub(crate) T);

impl RawJson {
    /// Reads it as a `T`; the error says which field is wrong and how.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> ApiResult<T> {
        let mut json = serde_json::Deserializer::from_slice(&self.0);
        let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            let place = if path == "." { String::new() } else { format!("{path}: ") };
            ApiError::invalid(format!("{place}{}", error.into_inner()))
        })?;
        json.end().map_err(|error| ApiError::invalid(format!("after the document: {error}")))?;
        Ok(value)
    }
}

impl<S: Send + Sync> FromRequest<S> for RawJson {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> ApiResult<Self> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        // Also keeps other sites' pages in a browser from posting here: they cannot send this type unasked.
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(ApiError::invalid("the body must be sent with Content-Type: application/json"));
        }
        let body = Limited::new(request.into_body(), BODY_BYTES_MAX);
        match tokio::time::timeout(BODY_TIME_MAX, body.collect()).await {
            Ok(Ok(body)) => Ok(Self(body.to_bytes())),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::new(
                Code::RequestTooLarge,
                format!("a body has at most {BODY_BYTES_MAX} bytes"),
            )),
            Ok(Err(_)) => {
                Err(ApiError::new(Code::RequestIncomplete, "the body ended before it was complete"))
            }
            Err(_) => Err(ApiError::new(
                Code::RequestIncomplete,
                format!("the body did not arrive within {} s", BODY_TIME_MAX.as_secs()),
            )),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> ApiResult<Self> {
        RawJson::from_request(request, state).await?.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dujiang_types::operation::OperationSpec;

    #[test]
    fn the_place_of_a_mistake_is_named() {
        let detail = |text: &'static str| {
            RawJson(Bytes::from_static(text.as_bytes())).parse::<OperationSpec>().unwrap_err().0.detail
        };
        let wrong = detail(r#"{"work":{"name":"move","unit":"unit-1","to":"UP"},"asked_by":"a"}"#);
        assert!(wrong.contains("work") && wrong.contains("\"UP\" is not a name"), "{wrong}");
        assert!(
            detail(r#"{"work":{"name":"move","unit":"unit-1","to":"b"},"asked_by":7}"#)
                .starts_with("asked_by:")
        );
        assert!(detail(r#"{"asked_by":"a"}"#).contains("missing field `work`"));
        assert!(detail(r#"{"work":{"name":"move","unit":"u","to":"b"},"asked_by":"a"} x"#).contains("after"));
    }
}
