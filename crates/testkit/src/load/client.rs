//! A client that writes down all it does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dujiang_types::api::{HEADER_IDEMPOTENCY_KEY, HEADER_IDEMPOTENCY_REPLAYED};
use dujiang_types::error::chain;
use dujiang_types::{Code, DcId, Problem, UnitId};
use jiff::Timestamp;
use serde_json::Value;

use crate::journal::{Ended, JournalError, JournalWriter, Line, Outcome, Receipt, Sent, is_transient};
use crate::load::{Gateway, LoadError, Patience, UnitSlots};
use crate::request::Request;

/// A gateway that does not take a connection within this is treated as dead: all addresses are near.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// First pause before sending the same operation again; doubles each time.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause between attempts: short beside the times a failover is allowed.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Answers of the bank to these requests are a few hundred bytes; more is not an answer of the bank.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Sends operations and journals every attempt. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    gateways: Arc<[Gateway]>,
    units: Arc<[UnitSlots]>,
    journal: Arc<JournalWriter>,
    patience: Patience,
}

/// What one exchange with a gateway brought.
struct Exchange {
    gateway: Option<DcId>,
    passed_over: Vec<DcId>,
    outcome: Outcome,
}

impl Client {
    /// A client of these gateways.
    pub fn new(
        gateways: Vec<Gateway>,
        units: Vec<UnitSlots>,
        journal: Arc<JournalWriter>,
        patience: Patience,
    ) -> Result<Self, LoadError> {
        if gateways.is_empty() || units.is_empty() {
            return Err(LoadError::Options("at least one gateway and one unit are needed".to_owned()));
        }
        let http = dujiang_identity::plain_http_client()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(patience.answer)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(LoadError::Http)?;
        Ok(Self { http, gateways: gateways.into(), units: units.into(), journal, patience })
    }

    /// The same for customers who reach these gateways; its connections are made by whoever uses it first.
    pub fn elsewhere(&self, gateways: Vec<Gateway>, patience: Patience) -> Result<Self, LoadError> {
        Self::new(gateways, self.units.to_vec(), Arc::clone(&self.journal), patience)
    }

    /// Carries out one operation under one key: sends it, and sends it again while its outcome is not settled and
    /// patience lasts. `near` chooses the gateway tried first.
    pub async fn perform(&self, key: &str, near: usize, request: &Request) -> Result<Outcome, JournalError> {
        let mut seen = BTreeMap::new();
        let mut pause = PAUSE_MIN;
        for attempt in 1..=self.patience.attempts.max(1) {
            if attempt > 1 {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            // An attempt that told nothing may have met a gateway that is frozen: try another one.
            let offset = near + seen.len();
            let outcome = self.attempt(key, attempt, offset, request).await?;
            match &outcome {
                Outcome::Refused { code } if is_transient(*code) => {}
                Outcome::Unknown { why } => {
                    seen.insert(attempt, why.clone());
                }
                _ => return Ok(outcome),
            }
            if attempt == self.patience.attempts.max(1) {
                return Ok(match seen.into_values().last() {
                    Some(why) => Outcome::Unknown { why },
                    None => outcome,
                });
            }
        }
        Ok(Outcome::Unknown { why: "not sent".to_owned() })
    }

    /// Sends an operation once.
    async fn attempt(
        &self,
        key: &str,
        attempt: u32,
        near: usize,
        request: &Request,
    ) -> Result<Outcome, JournalError> {
        let unit = self.unit_of(request);
        let sent_us = self.journal.now_us();
        self.journal.write(&Line::Sent(Sent {
            key: key.to_owned(),
            attempt,
            request: request.clone(),
            unit: unit.clone(),
            at: Timestamp::now(),
            at_us: sent_us,
        }))?;
        let exchange = self.exchange(key, near, request).await;
        self.journal.write(&Line::Ended(Ended {
            key: key.to_owned(),
            attempt,
            gateway: exchange.gateway,
            passed_over: exchange.passed_over,
            unit,
            at: Timestamp::now(),
            sent_us,
            at_us: self.journal.now_us(),
            outcome: exchange.outcome.clone(),
        }))?;
        Ok(exchange.outcome)
    }

    /// Sends to the first gateway that takes the connection.
    async fn exchange(&self, key: &str, near: usize, request: &Request) -> Exchange {
        let mut passed_over = Vec::new();
        for step in 0..self.gateways.len() {
            let gateway = &self.gateways[(near + step) % self.gateways.len()];
            match self.send(gateway, key, request).await {
                // No connection, so no byte was sent: as a name server would, go on to the next address.
                Err(error) if error.is_connect() => passed_over.push(gateway.dc.clone()),
                Err(error) => {
                    let outcome = Outcome::Unknown { why: chain(&error) };
                    return Exchange { gateway: Some(gateway.dc.clone()), passed_over, outcome };
                }
                Ok(outcome) => return Exchange { gateway: Some(gateway.dc.clone()), passed_over, outcome },
            }
        }
        let why = "no gateway takes connections".to_owned();
        Exchange { gateway: None, passed_over, outcome: Outcome::Unknown { why } }
    }

    async fn send(&self, gateway: &Gateway, key: &str, request: &Request) -> Result<Outcome, reqwest::Error> {
        let mut builder = self.http.request(request.method(), format!("{}{}", gateway.url, request.path()));
        if request.is_write() {
            builder = builder.header(HEADER_IDEMPOTENCY_KEY, key);
        }
        if let Some(body) = request.body() {
            builder = builder.json(&body);
        }
        let mut response = builder.send().await?;
        let status = response.status();
        let replayed = response.headers().contains_key(HEADER_IDEMPOTENCY_REPLAYED);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_BYTES_MAX {
                return Ok(Outcome::Unknown { why: format!("{status} with an endless body") });
            }
        }
        Ok(outcome_of(status.as_u16(), replayed, &body, request))
    }

    fn unit_of(&self, request: &Request) -> UnitId {
        let owner = request.slot().and_then(|slot| {
            self.units.iter().find(|unit| unit.slots.iter().any(|range| range.contains(slot)))
        });
        // A request with no valid key concerns no unit; it is booked on the first one, which refuses it.
        owner.unwrap_or(&self.units[0]).unit.clone()
    }
}

/// Reads an answer of the bank, or of a gateway in its place.
fn outcome_of(status: u16, replayed: bool, body: &[u8], request: &Request) -> Outcome {
    if (200..300).contains(&status) {
        return receipt(status, replayed, body, request)
            .map_or_else(|why| Outcome::Unknown { why }, Outcome::Acknowledged);
    }
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => match problem.code {
            // The request was, or is being, executed; or the bank itself does not know.
            Code::OutcomeUnknown | Code::IdempotencyInProgress | Code::Internal => {
                Outcome::Unknown { why: problem.to_string() }
            }
            code => Outcome::Refused { code },
        },
        Err(_) => Outcome::Unknown { why: format!("{status} without a problem document") },
    }
}

fn receipt(status: u16, replayed: bool, body: &[u8], request: &Request) -> Result<Receipt, String> {
    let answer: Value =
        serde_json::from_slice(body).map_err(|e| format!("{status} with a body that is not JSON: {e}"))?;
    let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
    let receipt = Receipt {
        posting: if request.moves_money() { text("posting") } else { None },
        account: if matches!(request, Request::OpenAccount { .. }) { text("account") } else { None },
        in_transit: status == 202,
        replayed,
        lists: request.reads().and_then(|_| serde_json::from_value(answer.get("lists")?.clone()).ok()),
    };
    let complete = match request {
        Request::OpenAccount { .. } => receipt.account.is_some(),
        _ if request.reads().is_some() => receipt.lists.as_ref().map(Vec::len) == request.reads(),
        _ => !request.moves_money() || receipt.posting.is_some(),
    };
    if complete { Ok(receipt) } else { Err(format!("{status} without what was asked for: {answer}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dujiang_types::{Currency, Money};

    fn transfer() -> Request {
        Request::Transfer { from: "1".into(), to: "2".into(), amount: Money::new(1, Currency::CNY) }
    }

    #[test]
    fn an_answer_has_every_list_that_was_asked_for() {
        let asked = Request::ReadLists { owner: "o".into(), lists: vec![1, 2] };
        let Outcome::Acknowledged(receipt) = outcome_of(200, false, br#"{"lists":[[5],[]]}"#, &asked) else {
            panic!("both lists are there")
        };
        assert_eq!(receipt.lists, Some(vec![vec![5], vec![]]));
        for body in ["{}", r#"{"lists":[[5]]}"#, r#"{"lists":[["5"],[]]}"#] {
            let outcome = outcome_of(200, false, body.as_bytes(), &asked);
            assert!(matches!(outcome, Outcome::Unknown { .. }), "{body}");
        }
    }

    #[test]
    fn only_what_is_certain_counts_as_acknowledged_or_refused() {
        let of = |status, body: &str| outcome_of(status, false, body.as_bytes(), &transfer());
        let problem = |code| serde_json::to_string(&Problem::new(code, "")).unwrap();
        let acknowledged = of(202, r#"{"posting":"p-1"}"#);
        let Outcome::Acknowledged(receipt) = acknowledged else { panic!("{acknowledged:?}") };
        assert_eq!((receipt.posting.as_deref(), receipt.in_transit), (Some("p-1"), true));
        assert_eq!(
            of(422, &problem(Code::InsufficientFunds)),
            Outcome::Refused { code: Code::InsufficientFunds }
        );
        for (status, body) in [
            (200, String::new()),
            (201, "{}".to_owned()),
            (502, "<html>".to_owned()),
            (504, problem(Code::OutcomeUnknown)),
            (500, problem(Code::Internal)),
            (409, problem(Code::IdempotencyInProgress)),
        ] {
            assert!(matches!(of(status, &body), Outcome::Unknown { .. }), "{status} {body}");
        }
    }
}
