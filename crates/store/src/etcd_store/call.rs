//! Calls to etcd: bounded in time, repeated where that is safe.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

use crate::Error;

/// Longest a call may take with all its attempts: an election of etcd's (one to two seconds) passes within it.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// gRPC's numbers of its status codes.
const INVALID_ARGUMENT: i32 = 3;
const NOT_FOUND: i32 = 5;
const PERMISSION_DENIED: i32 = 7;
const RESOURCE_EXHAUSTED: i32 = 8;
const FAILED_PRECONDITION: i32 = 9;
const OUT_OF_RANGE: i32 = 11;
const UNAUTHENTICATED: i32 = 16;

/// When a call may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// A repetition does no harm.
    Always,
    /// Only if it is certain that nothing was sent.
    IfNotSent,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// etcd, or the way to it.
    #[error("etcd: {error}")]
    Etcd { doing: &'static str, error: etcd_client::Error },
    /// No answer.
    #[error("no answer within {} s", CALL_TIMEOUT.as_secs())]
    TimedOut { doing: &'static str },
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Etcd { doing, error } => Error::unavailable(doing, error),
            Failure::TimedOut { doing } => Error::unavailable(doing, failure),
        }
    }
}

/// Makes the call, each time with a clone of the client and the request given, until it succeeds, must not be repeated or the time is up.
pub(super) async fn call<G: Clone, T, F>(
    doing: &'static str,
    again: Again,
    given: G,
    attempt: impl Fn(G) -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, etcd_client::Error>>,
{
    let deadline = Instant::now() + CALL_TIMEOUT;
    loop {
        let Ok(outcome) = timeout_at(deadline, attempt(given.clone())).await else {
            return Err(Failure::TimedOut { doing });
        };
        match outcome {
            Ok(answer) => return Ok(answer),
            Err(error) if may_repeat(again, &error) && Instant::now() + RETRY_PAUSE < deadline => {
                debug!(doing, error = %error, "etcd failed; trying again");
                sleep(RETRY_PAUSE).await;
            }
            Err(error) => return Err(Failure::Etcd { doing, error }),
        }
    }
}

fn may_repeat(again: Again, error: &etcd_client::Error) -> bool {
    match again {
        Again::Always => !is_final(error),
        Again::IfNotSent => was_not_sent(error),
    }
}

/// True if a repetition would fail the same way.
fn is_final(error: &etcd_client::Error) -> bool {
    match error {
        etcd_client::Error::GRpcStatus(status) => matches!(
            status.code() as i32,
            INVALID_ARGUMENT
                | NOT_FOUND
                | PERMISSION_DENIED
                | RESOURCE_EXHAUSTED
                | FAILED_PRECONDITION
                | OUT_OF_RANGE
                | UNAUTHENTICATED
        ),
        etcd_client::Error::TransportError(_) | etcd_client::Error::IoError(_) => false,
        _ => true,
    }
}

/// True if there was no connection to send the request over.
fn was_not_sent(error: &etcd_client::Error) -> bool {
    let etcd_client::Error::GRpcStatus(status) = error else { return false };
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// True if the revision asked for was compacted.
pub(super) fn is_compacted(failure: &Failure) -> bool {
    says(failure, OUT_OF_RANGE, "compacted")
}

/// True if the revision asked for lies in the future.
pub(super) fn is_future(failure: &Failure) -> bool {
    says(failure, OUT_OF_RANGE, "future")
}

/// True if the lease does not exist. (A key that does not exist is no failure.)
pub(super) fn is_not_found(failure: &Failure) -> bool {
    says(failure, NOT_FOUND, "lease")
}

/// True if a message was larger than we take.
pub(super) fn is_too_large(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if status.code() as i32 == OUT_OF_RANGE)
}

fn says(failure: &Failure, code: i32, word: &str) -> bool {
    let Failure::Etcd { error: etcd_client::Error::GRpcStatus(status), .. } = failure else { return false };
    status.code() as i32 == code && status.message().contains(word)
}
