//! The first payment: proof that the platform does what it is for.

use std::time::{Duration, Instant};

use dujiang_routing::slot_of;
use dujiang_types::api::HEADER_IDEMPOTENCY_KEY;
use dujiang_types::{AppId, Currency, Money, Problem};
use reqwest::{Method, RequestBuilder};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::failure::Failure;
use crate::manifest::Manifest;

/// A held or just elected unit answers within its hold limit; this is well beyond.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request that certainly was not carried out is repeated.
const RETRY_MAX: Duration = Duration::from_secs(15);
/// Between two tries.
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// The application that takes payments.
const BANK: &str = "bank";
/// Who pays. The second one is chosen so that both belong to the same unit.
const PAYER: &str = "first-light";
/// What is paid in and then paid over, in minor units.
const DEPOSIT_MINOR: i64 = 10_000;
const AMOUNT_MINOR: i64 = 100;

/// A payment that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// Account it was paid from.
    pub from: String,
    /// Account it was paid to.
    pub to: String,
    /// How much.
    pub amount: Money,
    /// The posting.
    pub posting: String,
    /// Milliseconds from request to answer.
    pub took_ms: u64,
}

/// Makes a payment between two customers of one unit through a gateway. `None` if the platform has no bank.
pub async fn first(manifest: &Manifest, gateway: &str) -> Result<Option<Payment>, Failure> {
    let bank = AppId::new(BANK).ok().filter(|bank| manifest.applications.contains_key(bank));
    let (Some(_), Ok(currency)) = (bank, Currency::try_from("CNY".to_owned())) else { return Ok(None) };
    let http = dujiang_identity::plain_http_client().timeout(ANSWER_TIMEOUT).build();
    let http = http.map_err(|e| Failure::because("cannot make an HTTP client", &e))?;
    let bank = Bank { http, gateway: gateway.to_owned(), currency };
    let from = bank.open(PAYER).await?;
    let to = bank.open(&neighbour(manifest)).await?;
    let deposit = json!({ "amount": Money::new(DEPOSIT_MINOR, currency), "text": "first light" });
    let _: Receipt =
        bank.write(&format!("/v1/accounts/{from}/deposits"), &Uuid::new_v4().to_string(), &deposit).await?;
    let amount = Money::new(AMOUNT_MINOR, currency);
    let transfer = json!({ "to": to, "amount": amount, "text": "first light" });
    let began = Instant::now();
    let receipt: Receipt =
        bank.write(&format!("/v1/accounts/{from}/transfers"), &Uuid::new_v4().to_string(), &transfer).await?;
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Some(Payment { from, to, amount, posting: receipt.posting, took_ms }))
}

/// A customer whose slot belongs to the same unit as the payer's.
fn neighbour(manifest: &Manifest) -> String {
    let slot = slot_of(PAYER.as_bytes());
    let unit = manifest.units.values().find(|unit| unit.owns(slot));
    let names = (1..=u16::MAX).map(|n| format!("{PAYER}-{n}"));
    let found = unit.and_then(|unit| names.into_iter().find(|name| unit.owns(slot_of(name.as_bytes()))));
    found.unwrap_or_else(|| format!("{PAYER}-1"))
}

struct Bank {
    http: reqwest::Client,
    gateway: String,
    currency: Currency,
}

#[derive(Deserialize)]
struct Account {
    account: String,
}

#[derive(Deserialize)]
struct Receipt {
    posting: String,
}

impl Bank {
    /// The customer's account; opened with the same key every time, so that there is one however often this runs.
    async fn open(&self, customer: &str) -> Result<String, Failure> {
        let path = format!("/v1/customers/{customer}");
        let name = json!({ "name": customer });
        let _: serde_json::Value = self.call(Method::PUT, &path, &Uuid::new_v4().to_string(), &name).await?;
        let currency = json!({ "currency": self.currency });
        let account: Account =
            self.write(&format!("{path}/accounts"), &format!("{customer}-account"), &currency).await?;
        Ok(account.account)
    }

    async fn write<T: DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.call(Method::POST, path, key, body).await
    }

    /// Repeats under the same key what was not carried out or whose outcome is unknown.
    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        key: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + RETRY_MAX;
        loop {
            let request = self.http.request(method.clone(), format!("{}{path}", self.gateway));
            let failed = match answer(request.header(HEADER_IDEMPOTENCY_KEY, key).json(body)).await {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            if !failed.again || Instant::now() > deadline {
                return Err(Failure::failed(format!(
                    "the first payment failed at {method} {path}: {}",
                    failed.why
                ))
                .hint("the platform runs: `dujiang status` and `dujiang logs` tell more"));
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }
}

/// Why there is no answer of use, and whether to try again.
struct Failed {
    why: String,
    again: bool,
}

async fn answer<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, Failed> {
    let response = request.send().await.map_err(|e| Failed { why: e.to_string(), again: true })?;
    let status = response.status();
    if status.is_success() {
        return response.json().await.map_err(|e| Failed { why: e.to_string(), again: false });
    }
    let again = status.is_server_error();
    match response.json::<Problem>().await {
        Ok(problem) => Err(Failed { why: problem.to_string(), again }),
        Err(_) => Err(Failed { why: status.to_string(), again }),
    }
}
