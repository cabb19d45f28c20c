//! Errors: of the server as a whole, and of one request.

use std::net::SocketAddr;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dujiang_types::error::PROBLEM_MEDIA_TYPE;
pub(crate) use dujiang_types::error::chain;
use dujiang_types::{Code, Problem};

/// Why the control plane could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}; is another control plane running there?")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The store cannot be used.
    #[error("the store cannot be used")]
    Store(#[from] dujiang_store::Error),
    /// The server's identity cannot be used.
    #[error("the identity cannot be used")]
    Identity(#[from] dujiang_identity::Error),
    /// The process cannot be told to end by a signal.
    #[error("signals cannot be received")]
    Signal(#[source] std::io::Error),
    /// A task that must run as long as the process has ended: a defect of ours.
    #[error("the {task} task has ended")]
    Ended {
        /// Which one.
        task: &'static str,
    },
}

/// What a request is refused with.
#[derive(Debug)]
pub(crate) struct ApiError(pub(crate) Problem);

pub(crate) type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Problem::new(code, detail))
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Code::RequestInvalid, detail)
    }

    /// A write that failed: unlike a read it may have happened.
    pub(crate) fn of_write(error: &dujiang_store::Error) -> Self {
        match error {
            dujiang_store::Error::Unavailable { .. } | dujiang_store::Error::Closed => {
                tracing::error!(error = chain(error), "a write has an unknown outcome");
                Self::new(Code::OutcomeUnknown, "the store did not say whether it was written; read to learn")
            }
            other => Self::of_read(other),
        }
    }

    fn of_read(error: &dujiang_store::Error) -> Self {
        use dujiang_store::Error as E;
        match error {
            E::Compacted { oldest } => {
                Self::new(Code::Compacted, format!("the oldest revision kept is {oldest}"))
            }
            E::TooLarge { .. } => Self::new(Code::RequestTooLarge, error.to_string()),
            E::Invalid { .. } => Self::invalid(error.to_string()),
            E::Unavailable { .. } | E::Closed | E::Locked { .. } => {
                tracing::error!(error = chain(error), "the store is not available");
                let mut problem = Problem::new(Code::StoreUnavailable, "try again");
                problem.retry_after = Some(1);
                Self(problem)
            }
            E::Fenced => not_leading(),
            E::Corrupt { .. } | E::LeaseNotFound(_) | E::UrlInvalid { .. } => {
                tracing::error!(error = chain(error), "what is stored cannot be used");
                Self::new(Code::Internal, error.to_string())
            }
        }
    }
}

/// What a server answers that only listens, for the client to ask another one.
pub(crate) fn not_leading() -> ApiError {
    let mut problem = Problem::new(Code::NotLeading, "ask the other control servers");
    problem.retry_after = Some(1);
    ApiError(problem)
}

/// What a server answers whose store has not answered for a while.
pub(crate) fn out_of_touch() -> ApiError {
    let detail = "the store of this control server does not answer; ask another one";
    let mut problem = Problem::new(Code::StoreUnavailable, detail);
    problem.retry_after = Some(1);
    ApiError(problem)
}

impl From<dujiang_store::Error> for ApiError {
    fn from(error: dujiang_store::Error) -> Self {
        Self::of_read(&error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_MEDIA_TYPE)], body).into_response();
        if let Some(seconds) = self.0.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
