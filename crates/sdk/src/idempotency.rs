//! Writes that take effect once however often they are sent.
//!
//! The outcome is recorded in the transaction of the effect, so there is never one without the other. A
//! repetition is answered from the record, after a commit that waits for the same replicas as the first one did:
//! the record may be local only (the first commit's wait may have been cut short), and an answer about a row that
//! a failover can still take back would be a lie.

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use dujiang_types::api::{HEADER_IDEMPOTENCY_KEY, HEADER_IDEMPOTENCY_REPLAYED};
use dujiang_types::error::PROBLEM_MEDIA_TYPE;
use dujiang_types::{Code, Epoch, Problem};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::body;
use crate::failure::Failure;
use crate::metrics::Metrics;
use crate::problem::Rejection;
use crate::session::Call;
use crate::transaction::{Mode, Transaction, Work, in_time, repeated};
use crate::units::Unit;

/// Longest `Idempotency-Key`: enough for any usual identifier with a prefix.
pub const KEY_LEN_MAX: usize = 128;

/// A write's key and what it was asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    key: String,
    hash: [u8; 32],
}

impl RequestKey {
    /// `parts` are what the request is: the same key with other parts is refused.
    pub fn new(key: impl Into<String>, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            // With its length, so that ("ab", "c") and ("a", "bc") differ.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self { key: key.into(), hash: hash.finalize().into() }
    }

    /// The client's `Idempotency-Key`.
    pub fn as_str(&self) -> &str {
        &self.key
    }
}

/// What a write came to; recorded under its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    status: u16,
    body: String,
}

impl Outcome {
    /// An outcome with a JSON body.
    pub fn json(status: StatusCode, body: &impl Serialize) -> Result<Self, Failure> {
        let body = serde_json::to_string(body).map_err(|error| Failure::internal(error.to_string()))?;
        Ok(Self { status: status.as_u16(), body })
    }

    /// HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// JSON text.
    pub fn body(&self) -> &str {
        &self.body
    }

    fn refusal(problem: &Problem) -> Result<Self, Failure> {
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::json(status, problem)
    }
}

/// The answer to a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The first outcome.
    pub outcome: Outcome,
    /// True if this request was a repetition.
    pub replayed: bool,
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.outcome.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let media_type = if self.outcome.status >= 400 { PROBLEM_MEDIA_TYPE } else { "application/json" };
        let mut response = (status, [(CONTENT_TYPE, media_type)], self.outcome.body).into_response();
        if self.replayed {
            response.headers_mut().insert(HEADER_IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

/// A table of outcomes. Clients' keys and messages' ids are apart, so that neither can occupy the other's.
pub(crate) struct Register {
    lock: &'static str,
    find: &'static str,
    insert: &'static str,
    refusal: fn(&Problem) -> Result<Outcome, Failure>,
}

/// Outcomes of clients' writes.
pub(crate) const CLIENT: Register = Register {
    lock: "SELECT pg_advisory_xact_lock(1684826986, hashtext($1))",
    find: "SELECT request_hash, status, body FROM dujiang_idempotency WHERE key = $1",
    insert: "INSERT INTO dujiang_idempotency (key, request_hash, status, body) VALUES ($1, $2, $3, $4)",
    refusal: Outcome::refusal,
};

/// Outcomes of messages from other units.
pub(crate) const INBOX: Register = Register {
    lock: "SELECT pg_advisory_xact_lock(1684826987, hashtext($1))",
    find: "SELECT request_hash, status, body FROM dujiang_inbox WHERE key = $1",
    insert: "INSERT INTO dujiang_inbox (key, request_hash, status, body) VALUES ($1, $2, $3, $4)",
    refusal: crate::message::refused,
};

/// Business effects after this are undone by a refusal; the lock on the key, taken before it, is not.
const SAVEPOINT: &str = "SAVEPOINT work";
/// Gives a transaction that wrote nothing a commit record, and with it a wait for the sync set: its position in
/// the log is behind the first outcome's.
const MARK: &str = "SELECT pg_logical_emit_message(true, 'dujiang.replay', '')";

pub(crate) async fn once<W: Work<Output = Outcome>>(
    unit: &Unit,
    epoch: Epoch,
    metrics: &Metrics,
    register: &Register,
    key: &RequestKey,
    work: &W,
) -> Result<Reply, Failure> {
    repeated(metrics, || async {
        match in_time(attempt(unit, epoch, register, key, work)).await? {
            Attempt::First(tx, outcome) => {
                let (name, hash, status) = (key.as_str(), key.hash.as_slice(), i32::from(outcome.status));
                tx.commit(&[Call::new(register.insert, &[&name, &hash, &status, &outcome.body])]).await?;
                Ok(Reply { outcome, replayed: false })
            }
            Attempt::Again(tx, outcome) => {
                tx.commit(&[Call::new(MARK, &[])]).await?;
                metrics.replays.inc();
                Ok(Reply { outcome, replayed: true })
            }
        }
    })
    .await
}

/// What remains to be committed.
enum Attempt {
    First(Transaction, Outcome),
    Again(Transaction, Outcome),
}

async fn attempt<W: Work<Output = Outcome>>(
    unit: &Unit,
    epoch: Epoch,
    register: &Register,
    key: &RequestKey,
    work: &W,
) -> Result<Attempt, Failure> {
    let name = key.as_str();
    let named: [&(dyn ToSql + Sync); 1] = [&name];
    let opening =
        [Call::new(register.lock, &named), Call::new(register.find, &named), Call::new(SAVEPOINT, &[])];
    let (tx, rows) = match Transaction::begin(unit, epoch, Mode::Write, &opening).await {
        // The only lock asked for so far is the key's.
        Err(Failure::Locked(_)) => {
            let detail = "its outcome is not known yet; send it again a little later";
            return Err(Failure::Refused(Problem::new(Code::IdempotencyInProgress, detail)));
        }
        begun => begun?,
    };
    if let Some(first) = rows.get(1).and_then(|rows| rows.first()) {
        return again(tx, key, first).await;
    }
    match work.run(&tx).await {
        Ok(outcome) => Ok(Attempt::First(tx, outcome)),
        Err(Failure::Refused(problem)) => {
            tx.back_to_savepoint().await?;
            Ok(Attempt::First(tx, (register.refusal)(&problem)?))
        }
        Err(failure) => {
            tx.rollback().await;
            Err(failure)
        }
    }
}

async fn again(tx: Transaction, key: &RequestKey, first: &Row) -> Result<Attempt, Failure> {
    if first.try_get::<_, &[u8]>(0)? != key.hash {
        tx.rollback().await;
        let detail = "use a new key for a new request; the key's first request was another one";
        return Err(Failure::refused(Code::IdempotencyKeyReused, detail));
    }
    let status = u16::try_from(first.try_get::<_, i32>(1)?)
        .map_err(|_| Failure::internal("a recorded status is not one"))?;
    Ok(Attempt::Again(tx, Outcome { status, body: first.try_get(2)? }))
}

/// Extractor of a write: its key and its body.
///
/// A missing body reads as `{}`. The hash the key is bound to covers method, path and the body as it was
/// understood, so that white space and the order of fields do not matter.
pub struct Write<T> {
    /// Key and hash.
    pub key: RequestKey,
    /// The body.
    pub body: T,
}

impl<S: Sync, T: DeserializeOwned + Serialize> FromRequest<S> for Write<T> {
    type Rejection = Rejection;
    async fn from_request(request: Request, _: &S) -> Result<Self, Rejection> {
        let key = key_of(request.headers())?;
        let (parts, body) = request.into_parts();
        let body: T = body::json(&parts.headers, body).await?;
        let canonical = serde_json::to_vec(&body)
            .map_err(|error| Rejection::new(Code::RequestInvalid, error.to_string()))?;
        let path = parts.uri.path().as_bytes();
        let key = RequestKey::new(key, &[parts.method.as_str().as_bytes(), path, &canonical]);
        Ok(Self { key, body })
    }
}

/// The `Idempotency-Key` of a request.
pub(crate) fn key_of(headers: &HeaderMap) -> Result<String, Rejection> {
    let mut values = headers.get_all(HEADER_IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Err(Rejection::new(
            Code::IdempotencyKeyMissing,
            "send a fresh Idempotency-Key with every new write",
        ));
    };
    let text = value.to_str().unwrap_or_default();
    let fits = (1..=KEY_LEN_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits && values.next().is_none() {
        return Ok(text.to_owned());
    }
    let detail = format!("Idempotency-Key: once, 1 to {KEY_LEN_MAX} visible ASCII characters");
    Err(Rejection::new(Code::RequestInvalid, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_tells_requests_apart() {
        let key = |parts: &[&[u8]]| RequestKey::new("k", parts);
        assert_eq!(key(&[b"POST", b"/a", b"{}"]), key(&[b"POST", b"/a", b"{}"]));
        assert_ne!(key(&[b"POST", b"/a", b"{}"]), key(&[b"POST", b"/a{", b"}"]));
        assert_ne!(key(&[b"PUT", b"/a", b"{}"]), key(&[b"POST", b"/a", b"{}"]));
    }

    #[test]
    fn keys_are_bounded() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER_IDEMPOTENCY_KEY, HeaderValue::from_bytes(text.as_bytes()).unwrap());
            key_of(&headers).map_err(|rejection| rejection.0.code)
        };
        assert_eq!(of("3f2a-b").unwrap(), "3f2a-b");
        assert!(of(&"k".repeat(KEY_LEN_MAX)).is_ok());
        for bad in ["", "a b", "é", &"k".repeat(KEY_LEN_MAX + 1)] {
            assert_eq!(of(bad), Err(Code::RequestInvalid), "{bad}");
        }
        let missing = key_of(&HeaderMap::new()).unwrap_err();
        assert_eq!(missing.0.code, Code::IdempotencyKeyMissing);
        let mut twice = HeaderMap::new();
        twice.append(HEADER_IDEMPOTENCY_KEY, HeaderValue::from_static("a"));
        twice.append(HEADER_IDEMPOTENCY_KEY, HeaderValue::from_static("b"));
        assert!(key_of(&twice).is_err());
    }
}
