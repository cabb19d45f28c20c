//! Messages between units: written with the effect that sends them, taken with the effect they have.

use axum::body::Body;
use axum::extract::State;
use dujiang_types::{Code, Problem, UnitId};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

use crate::application::Application;
use crate::body;
use crate::context::UnitContext;
use crate::failure::Failure;
use crate::idempotency::{self, INBOX, Outcome, Reply, RequestKey, key_of};
use crate::problem::Rejection;
use crate::transaction::{Transaction, Work};
use crate::units::Unit;

/// Header with the signature of a message's body.
pub const HEADER_SIGNATURE: &str = "dujiang-signature";
/// Longest destination: part of a path.
const DESTINATION_LEN_MAX: usize = 64;

const SEND: &str = "INSERT INTO dujiang_outbox (message, destination, kind, payload) VALUES ($1, $2, $3, $4)";

/// A message from one unit to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Unique for good; the key under which the other side records the outcome.
    pub id: Uuid,
    /// The unit that sends it.
    pub from: UnitId,
    /// Routing key of the receiver: for the bank an account number.
    pub to: String,
    /// What it asks for.
    pub kind: String,
    /// What the kind needs.
    pub payload: serde_json::Value,
}

/// What a message came to. There is no third: anything else is not known yet, and it is sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum MessageOutcome {
    /// Its effect is committed.
    Applied,
    /// It has no effect and never will have.
    Refused {
        /// Why, as a code.
        code: Code,
        /// Why, in words.
        detail: String,
    },
}

impl Transaction {
    /// Writes a message that is sent once this transaction is committed and durable.
    pub async fn send(
        &self,
        id: Uuid,
        to: &str,
        kind: &str,
        payload: &serde_json::Value,
    ) -> Result<(), Failure> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if to.is_empty() || to.len() > DESTINATION_LEN_MAX || !to.bytes().all(plain) {
            return Err(Failure::internal("a message's destination must be a plain path segment"));
        }
        self.query(SEND, &[&id, &to, &kind, &payload]).await?;
        self.wake_relay_after_commit();
        Ok(())
    }
}

/// How a refusal is recorded in the inbox: as an outcome, not as an HTTP error, so that the sender can tell the
/// application's refusal from any gateway's.
pub(crate) fn refused(problem: &Problem) -> Result<Outcome, Failure> {
    let outcome = MessageOutcome::Refused { code: problem.code, detail: problem.detail.clone() };
    Outcome::json(StatusCode::OK, &outcome)
}

struct Receive<'a, A> {
    app: &'a A,
    unit: &'a Unit,
    message: &'a Message,
}

impl<A: Application> Work for Receive<'_, A> {
    type Output = Outcome;
    async fn run(&self, tx: &Transaction) -> Result<Outcome, Failure> {
        self.app.receive(tx, self.unit, self.message).await?;
        Outcome::json(StatusCode::OK, &MessageOutcome::Applied)
    }
}

/// `POST /v1/messages/{to}`.
pub(crate) async fn receive<A: Application>(
    State(app): State<Arc<A>>,
    context: UnitContext,
    axum::extract::Path(to): axum::extract::Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Reply, Rejection> {
    let bytes = body::read(body).await?;
    let signature = headers.get(HEADER_SIGNATURE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !context.units.secret().verify(&bytes, signature) {
        return Err(Rejection::new(Code::RequestInvalid, "the message's signature is missing or wrong"));
    }
    let message: Message = serde_json::from_slice(&bytes)
        .map_err(|error| Rejection::new(Code::RequestInvalid, format!("the message: {error}")))?;
    let key = key_of(&headers)?;
    if key != message.id.to_string() || to != message.to {
        return Err(Rejection::new(Code::RequestInvalid, "path, key and message do not agree"));
    }
    let key = RequestKey::new(key, &[&bytes]);
    let work = Receive { app: &*app, unit: context.unit(), message: &message };
    let reply = idempotency::once(&context.unit, context.epoch, &context.metrics, &INBOX, &key, &work).await;
    Ok(context.count_unknown(reply)?)
}
