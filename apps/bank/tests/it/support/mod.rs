//! Real parts for the tests.

pub(crate) mod bank;
pub(crate) mod books;
pub(crate) mod gateway;

use serde_json::Value;
use tempfile::TempDir;

pub(crate) use bank::Bank;
pub(crate) use dujiang_sdk::testing::{Postgres, free_port, until};
pub(crate) use gateway::Gateway;

/// An answer as a client sees it.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) replayed: bool,
    pub(crate) media_type: String,
}

impl Answer {
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// True if it says what the request came to: done, or refused for good.
    pub(crate) fn is_outcome(&self) -> bool {
        self.status < 500 && self.code() != "idempotency.in_progress"
    }

    /// The status and, if it is a problem, its code.
    pub(crate) fn brief(&self) -> (u16, &str) {
        (self.status, self.code())
    }

    pub(crate) fn text(&self, field: &str) -> String {
        self.body[field].as_str().unwrap_or_else(|| panic!("no {field} in {self:?}")).to_owned()
    }
}

/// Platform of the tests: a folder, a gateway, and per unit a PostgreSQL and a bank.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) gateway: Gateway,
    pub(crate) units: Vec<Site>,
}

/// A unit's database and the bank instance beside it.
pub(crate) struct Site {
    pub(crate) postgres: Postgres,
    pub(crate) bank: Bank,
}

impl World {
    /// `units` units that share the slots evenly.
    pub(crate) async fn new(units: usize) -> Self {
        Self::with(units, false).await
    }

    /// One unit whose primary waits for a standby.
    pub(crate) async fn durable() -> Self {
        Self::with(1, true).await
    }

    async fn with(count: usize, standby: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), "a secret of the tests\n").unwrap();
        let gateway = Gateway::start().await;
        let mut units = Vec::new();
        for number in 0..count {
            let name = format!("unit-{}", number + 1);
            let width = 16_384 / count;
            let slots = format!("{}-{}", number * width, (number + 1) * width - 1);
            let postgres = Postgres::start(env!("CARGO_TARGET_TMPDIR"), &name, standby).await;
            let bank = Bank::new(folder.path(), &name, &slots, &gateway.mesh(), postgres.port());
            gateway.route(&name, &slots, bank.address());
            units.push(Site { postgres, bank });
        }
        for site in &mut units {
            site.bank.start().await;
        }
        Self { folder, gateway, units }
    }

    /// Sends until there is an outcome, as a client does.
    pub(crate) async fn post(&self, path: &str, key: &str, body: Value) -> Answer {
        until("an outcome", || async {
            let answer = self.gateway.call("POST", path, Some(key), Some(body.to_string())).await;
            answer.is_outcome().then_some(answer)
        })
        .await
    }

    /// Sends once.
    pub(crate) async fn post_once(&self, path: &str, key: &str, body: Value) -> Answer {
        self.gateway.call("POST", path, Some(key), Some(body.to_string())).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        until("an answer", || async {
            let answer = self.gateway.call("GET", path, None, None).await;
            (answer.status < 500).then_some(answer)
        })
        .await
    }

    /// A customer of the n-th unit with an account, and that much in it.
    pub(crate) async fn account(&self, unit: usize, minor: i64, limit_minor: i64) -> String {
        let customer = self.gateway.customer_of(&format!("unit-{}", unit + 1));
        let path = format!("/v1/customers/{customer}");
        let body = serde_json::json!({"name": "Li Bing"}).to_string();
        // The schema may still be on its way.
        until("customer opened", || async {
            let answer = self.gateway.call("PUT", &path, Some(&fresh_key()), Some(body.clone())).await;
            (answer.status == 201).then_some(())
        })
        .await;
        let body = serde_json::json!({"currency": "CNY", "limit_minor": limit_minor});
        let opened = self.post(&format!("{path}/accounts"), &fresh_key(), body).await;
        assert_eq!(opened.status, 201, "{opened:?}");
        let account = opened.text("account");
        if minor > 0 {
            let body = serde_json::json!({"amount": amount(minor)});
            let paid = self.post(&format!("/v1/accounts/{account}/deposits"), &fresh_key(), body).await;
            assert_eq!(paid.status, 201, "{paid:?}");
        }
        account
    }

    pub(crate) async fn transfer(&self, key: &str, from: &str, to: &str, minor: i64) -> Answer {
        let body = serde_json::json!({"to": to, "amount": amount(minor)});
        self.post(&format!("/v1/accounts/{from}/transfers"), key, body).await
    }

    /// Sends once.
    pub(crate) async fn transfer_once(&self, key: &str, from: &str, to: &str, minor: i64) -> Answer {
        let body = serde_json::json!({"to": to, "amount": amount(minor)});
        self.post_once(&format!("/v1/accounts/{from}/transfers"), key, body).await
    }

    pub(crate) async fn balance(&self, account: &str) -> i64 {
        let answer = self.get(&format!("/v1/accounts/{account}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["balance"]["minor"].as_i64().unwrap()
    }

    /// Waits until the posting is in the state.
    pub(crate) async fn await_state(&self, account: &str, posting: &str, state: &str) -> Answer {
        until(&format!("{posting} {state}"), || async {
            let answer = self.get(&format!("/v1/accounts/{account}/postings/{posting}")).await;
            (answer.body["state"] == state).then_some(answer)
        })
        .await
    }
}

pub(crate) fn amount(minor: i64) -> Value {
    serde_json::json!({"minor": minor, "currency": "CNY"})
}

pub(crate) fn fresh_key() -> String {
    uuid::Uuid::new_v4().to_string()
}
