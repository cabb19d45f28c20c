//! Sends a unit's messages until their outcome is known.
//!
//! A message is sent only after a commit of ours that came after the message's own: the outbox row may be visible
//! and yet be local only (a wait for the sync set cut short), and the other side must never act on an effect that a
//! failover can still take back here. The claim of a batch is that commit.

use std::sync::Arc;
use std::time::Duration;

use dujiang_identity::{Expect, Identity, Role};
use dujiang_types::api::HEADER_IDEMPOTENCY_KEY;
use dujiang_types::{DcId, Epoch, UnitId};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use tokio::task::JoinSet;
use tokio_postgres::Row;

use crate::application::Application;
use crate::failure::Failure;
use crate::message::{HEADER_SIGNATURE, Message, MessageOutcome};
use crate::metrics::{DeliveryLabels, Metrics, UnitLabels};
use crate::server::StartError;
use crate::session::Session;
use crate::transaction::{self, Mode, Transaction, Work};
use crate::units::{Unit, Units};

/// Messages of a unit under way at once; below the pool's size, since each settles in a transaction.
const IN_FLIGHT_MAX: usize = 12;
/// How often it looks for messages nobody told it about: those of other instances, and those to be sent again.
const POLL: Duration = Duration::from_millis(250);
/// How long the other side may take: more than its own bounds on work and commit.
const ANSWER_MAX: Duration = Duration::from_secs(20);
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Answers are some hundred bytes; more is not an answer of ours.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;
/// How often old outcomes are cleared away.
const CLEARING_PAUSE: Duration = Duration::from_secs(600);

/// A claimed message is not claimed again before its attempt is over (25 s is more than `ANSWER_MAX`).
const CLAIM: &str = "
    UPDATE dujiang_outbox SET attempts = attempts + 1, next_attempt = now() + interval '25 seconds'
    WHERE message IN (
        SELECT message FROM dujiang_outbox WHERE state = 'pending' AND next_attempt <= now()
        ORDER BY next_attempt LIMIT $1
    )
    RETURNING message, destination, kind, payload";
/// After a takeover nothing is under way.
const RELEASE: &str =
    "UPDATE dujiang_outbox SET next_attempt = now() WHERE state = 'pending' AND next_attempt > now()";
/// 200 ms, doubled with every attempt, at most about 6 s: the usual cause is a unit that is moving.
const POSTPONE: &str = "
    UPDATE dujiang_outbox SET next_attempt = now() + interval '100 milliseconds' * 2 ^ least(attempts, 6)
    WHERE message = $1 AND state = 'pending'";
const SETTLE: &str = "
    UPDATE dujiang_outbox SET state = 'done', outcome = $2 WHERE message = $1 AND state = 'pending'
    RETURNING message";
/// 30 days: longer than anybody retries. The inbox is kept for good.
const CLEAR_OUTCOMES: &str = "
    DELETE FROM dujiang_idempotency WHERE key IN (
        SELECT key FROM dujiang_idempotency WHERE created_at < now() - interval '30 days' LIMIT 1000)";
const CLEAR_OUTBOX: &str = "
    DELETE FROM dujiang_outbox WHERE message IN (
        SELECT message FROM dujiang_outbox
        WHERE created_at < now() - interval '30 days' AND state = 'done' LIMIT 1000)";

/// Relay of one unit under one epoch.
pub(crate) struct Relay<A> {
    pub(crate) app: Arc<A>,
    pub(crate) unit: Arc<Unit>,
    pub(crate) epoch: Epoch,
    pub(crate) units: Units,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) http: reqwest::Client,
}

/// The relay's HTTP client: one for all units of the process. It talks to the gateway of its own data center only.
pub(crate) fn http_client(identity: &Identity, dc: &DcId) -> Result<reqwest::Client, StartError> {
    let client = dujiang_identity::http_client(identity, Expect::roles(&[Role::Gateway]).within(dc))?;
    Ok(client.connect_timeout(CONNECT_MAX).timeout(ANSWER_MAX).build()?)
}

impl<A: Application> Relay<A> {
    /// Runs until the database goes away or the epoch ends. `lock` is the session that holds the unit's relay lock.
    pub(crate) async fn run(self: Arc<Self>, lock: &Session) -> Result<(), Failure> {
        self.write(&Statement(RELEASE)).await?;
        let mut under_way = JoinSet::new();
        let mut due = true;
        let mut cleared = tokio::time::Instant::now();
        let pending =
            self.metrics.pending.get_or_create_owned(&UnitLabels { unit: self.unit.name().to_string() });
        while !lock.is_closed() {
            let free = IN_FLIGHT_MAX - under_way.len();
            if due && free > 0 {
                let claimed = self.write(&Claim { limit: free, from: self.unit.name() }).await?;
                // A full batch means that there may be more.
                due = claimed.len() == free;
                for message in claimed {
                    under_way.spawn(Arc::clone(&self).deliver(message));
                }
            }
            pending.set(i64::try_from(under_way.len()).unwrap_or_default());
            tokio::select! {
                Some(_) = under_way.join_next() => {}
                () = self.unit.wake.notified() => due = true,
                () = tokio::time::sleep(POLL) => due = true,
            }
            if cleared.elapsed() > CLEARING_PAUSE {
                cleared = tokio::time::Instant::now();
                self.write(&Statement(CLEAR_OUTCOMES)).await?;
                self.write(&Statement(CLEAR_OUTBOX)).await?;
            }
        }
        Ok(())
    }

    async fn write<W: Work>(&self, work: &W) -> Result<W::Output, Failure> {
        transaction::run(&self.unit, self.epoch, Mode::Write, &self.metrics, work).await
    }

    /// One attempt: send, and settle if the outcome is known.
    async fn deliver(self: Arc<Self>, message: Message) {
        let label = match self.attempt(&message).await {
            Ok(MessageOutcome::Applied) => "applied",
            Ok(MessageOutcome::Refused { .. }) => "refused",
            Err(error) => {
                tracing::debug!(message = %message.id, to = message.to, %error, "message has to be sent again");
                // If this fails as well, the claim runs out.
                if let Err(error) = self.write(&Postpone(message.id)).await {
                    tracing::debug!(message = %message.id, %error, "message not postponed");
                }
                "unknown"
            }
        };
        let labels = DeliveryLabels { unit: self.unit.name().to_string(), outcome: label };
        self.metrics.deliveries.get_or_create(&labels).inc();
    }

    async fn attempt(&self, message: &Message) -> Result<MessageOutcome, DeliveryError> {
        let outcome = self.post(message).await?;
        self.write(&Settle { app: &*self.app, message, outcome: &outcome }).await.inspect_err(|error| {
            if matches!(error, Failure::Internal { .. } | Failure::Refused(_)) {
                tracing::error!(message = %message.id, error = error as &dyn std::error::Error, "cannot settle");
            }
        })?;
        Ok(outcome)
    }

    async fn post(&self, message: &Message) -> Result<MessageOutcome, DeliveryError> {
        let body = serde_json::to_vec(message)?;
        let signature = self.units.secret().sign(&body);
        let url = format!("{}/v1/messages/{}", self.units.mesh().trim_end_matches('/'), message.to);
        let request = self.http.post(url).header(CONTENT_TYPE, "application/json");
        let request = request.header(HEADER_IDEMPOTENCY_KEY, message.id.to_string());
        let response = request.header(HEADER_SIGNATURE, signature).body(body).send().await?;
        let status = response.status();
        // Everything but the receiver's own word is "not known", refusals by gateways on the way included.
        if status != StatusCode::OK || response.content_length().is_none_or(|n| n > ANSWER_BYTES_MAX) {
            return Err(DeliveryError::Status(status));
        }
        Ok(serde_json::from_slice(&response.bytes().await?)?)
    }
}

/// Why an attempt ended without a settled outcome.
#[derive(Debug, thiserror::Error)]
enum DeliveryError {
    #[error("no answer")]
    Http(#[from] reqwest::Error),
    #[error("answer {0}")]
    Status(StatusCode),
    #[error("not an answer of a receiver")]
    Malformed(#[from] serde_json::Error),
    #[error(transparent)]
    Database(#[from] Failure),
}

struct Statement(&'static str);

impl Work for Statement {
    type Output = ();
    async fn run(&self, tx: &Transaction) -> Result<(), Failure> {
        tx.query(self.0, &[]).await.map(drop)
    }
}

struct Claim<'a> {
    limit: usize,
    from: &'a UnitId,
}

impl Claim<'_> {
    fn message(&self, row: &Row) -> Result<Message, tokio_postgres::Error> {
        Ok(Message {
            id: row.try_get(0)?,
            from: self.from.clone(),
            to: row.try_get(1)?,
            kind: row.try_get(2)?,
            payload: row.try_get(3)?,
        })
    }
}

impl Work for Claim<'_> {
    type Output = Vec<Message>;
    async fn run(&self, tx: &Transaction) -> Result<Vec<Message>, Failure> {
        let limit = i64::try_from(self.limit).unwrap_or(i64::MAX);
        let rows = tx.query(CLAIM, &[&limit]).await?;
        Ok(rows.iter().map(|row| self.message(row)).collect::<Result<_, _>>()?)
    }
}

struct Postpone(uuid::Uuid);

impl Work for Postpone {
    type Output = ();
    async fn run(&self, tx: &Transaction) -> Result<(), Failure> {
        tx.query(POSTPONE, &[&self.0]).await.map(drop)
    }
}

struct Settle<'a, A> {
    app: &'a A,
    message: &'a Message,
    outcome: &'a MessageOutcome,
}

impl<A: Application> Work for Settle<'_, A> {
    type Output = ();
    async fn run(&self, tx: &Transaction) -> Result<(), Failure> {
        let outcome =
            serde_json::to_value(self.outcome).map_err(|error| Failure::internal(error.to_string()))?;
        let first = tx.query_opt(SETTLE, &[&self.message.id, &outcome]).await?.is_some();
        if first { self.app.settle(tx, self.message, self.outcome).await } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use dujiang_identity::Acceptor;
    use dujiang_identity::testing::TestAuthority;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request as that identity; says whether it was sent any.
    async fn asked(authority: &TestAuthority, who: &str, client: &reqwest::Client) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let acceptor = Acceptor::new(&authority.identity(who), Expect::anyone()).unwrap();
        let answering = tokio::spawn(async move {
            let Ok((mut stream, _)) = acceptor.accept(listener.accept().await.unwrap().0).await else {
                return false;
            };
            let heard = stream.read(&mut [0; 1024]).await.is_ok_and(|bytes| bytes > 0);
            // Whoever does not believe us does not wait for it.
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            let _ = stream.flush().await;
            heard
        });
        let answered = client.post(url).body("money").send().await.is_ok();
        assert_eq!(answering.await.unwrap(), answered, "{who}");
        answered
    }

    #[tokio::test]
    async fn messages_are_given_to_the_gateway_of_ones_own_data_center_and_to_nobody_else() {
        let authority = TestAuthority::default();
        let own = authority.identity("dc/a/application/bank");
        let client = http_client(&own, &DcId::new("a").unwrap()).unwrap();
        assert!(asked(&authority, "dc/a/gateway", &client).await);
        for other in ["dc/b/gateway", "dc/a/application/bank", "dc/a/agent", "control"] {
            assert!(!asked(&authority, other, &client).await, "{other} was sent a message");
        }
        assert!(!asked(&TestAuthority::default(), "dc/a/gateway", &client).await, "another authority");
        assert!(client.post("http://127.0.0.1:9").send().await.unwrap_err().is_builder(), "in plain text");
    }
}
