//! The lists against a real PostgreSQL: what they answer, and that clients beside each other fit one order.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Instant;

use dujiang_history::{Anomaly, Outcome, Step, Transaction, check};
use dujiang_lists::{Lists, Plant};
use dujiang_sdk::testing::{Postgres, gateway_client, instance_identity, secret, until};
use dujiang_sdk::{Options, Server};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Clients beside each other.
const CLIENTS: u64 = 8;
/// Transactions of each.
const EACH: u64 = 12;

struct Instance {
    url: String,
    http: reqwest::Client,
    _folder: TempDir,
    _postgres: Postgres,
}

impl Instance {
    async fn start(plants: &[Plant]) -> Self {
        let postgres = Postgres::start(env!("CARGO_TARGET_TMPDIR"), "unit-1", false).await;
        let folder = tempfile::tempdir().unwrap();
        let units = folder.path().join("units.json");
        let file = json!({"dc": "a", "mesh": "https://127.0.0.1:9", "units": [{
            "unit": "unit-1", "application": "lists", "host": "127.0.0.1", "port": postgres.port(),
            "database": "bank", "role": "bank", "slots": ["0-16383"]}]});
        std::fs::write(&units, file.to_string()).unwrap();
        secret(folder.path());
        let identity = instance_identity(folder.path(), "bank");
        let secret = folder.path().join("secret");
        let options = Options { listen: "127.0.0.1:0".parse().unwrap(), units, secret, identity };
        let server = Server::bind(Lists::with(plants), &options).await.unwrap();
        let url = format!("https://{}/v1/lists", server.address().unwrap());
        tokio::spawn(server.run(std::future::pending()));
        Self { url, http: gateway_client(), _folder: folder, _postgres: postgres }
    }

    /// Sends until the unit is available and whoever is in the way is gone.
    async fn call(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let request = request.header("dujiang-unit", "unit-1").header("dujiang-epoch", 1);
        until("an answer", || async {
            let answer = request.try_clone().unwrap().send().await.unwrap();
            let status = answer.status().as_u16();
            let body = answer.json().await.unwrap();
            (status != 503).then_some((status, body))
        })
        .await
    }

    async fn transact(&self, key: &str, steps: Value) -> (u16, Value) {
        let request = self.http.post(format!("{}/o/transactions", self.url)).header("idempotency-key", key);
        self.call(request.json(&json!({ "steps": steps }))).await
    }

    async fn read(&self, path: &str) -> (u16, Value) {
        self.call(self.http.get(format!("{}{path}", self.url))).await
    }

    /// Clients that read and append beside each other, and what they saw.
    async fn history(&self) -> Vec<Transaction> {
        let began = Instant::now();
        let now_us = || u64::try_from(began.elapsed().as_micros()).unwrap();
        let clients = (0..CLIENTS).map(|client| async move {
            let mut history = Vec::new();
            for number in 0..EACH {
                let (list, other) = if (client + number) % 2 == 0 { (10, 11) } else { (11, 10) };
                let element = client * EACH + number;
                let began_us = now_us();
                let steps = json!([{"do": "read", "list": other}, {"do": "append", "list": list, "element": element},
                    {"do": "read", "list": list}]);
                let (status, answer) = self.transact(&element.to_string(), steps).await;
                assert_eq!(status, 200, "{answer}");
                let seen = |at: usize| serde_json::from_value(answer["lists"][at].clone()).unwrap();
                let steps = vec![
                    Step::Read { list: other, seen: Some(seen(0)) },
                    Step::Append { list, element },
                    Step::Read { list, seen: Some(seen(1)) },
                ];
                let (name, outcome, ended_us) = (element.to_string(), Outcome::Done, now_us());
                history.push(Transaction { name, steps, outcome, began_us, ended_us });
            }
            history
        });
        join_all(clients).await.concat()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_appended_to_once_and_read_in_one_snapshot() {
    let lists = Instance::start(&[]).await;
    let steps = json!([{"do": "append", "list": 1, "element": 5}, {"do": "read", "list": 1}, {"do": "read", "list": 2}]);
    let first = lists.transact("k", steps.clone()).await;
    assert_eq!(first, (200, json!({"lists": [[5], []]})));
    assert_eq!(lists.transact("k", steps).await, first, "the same key does nothing again");
    assert_eq!(lists.read("/o?of=1,2").await, (200, json!({"lists": [[5], []]})));
    for path in ["/o?of=", "/o?of=1,,2", "/o?of=-1", "/o"] {
        assert_eq!(lists.read(path).await.0, 400, "{path}");
    }
    for steps in
        [json!([]), json!([{"do": "append", "list": -1, "element": 1}]), json!([{"do": "forget", "list": 1}])]
    {
        assert_eq!(lists.transact("bad", steps).await.0, 400);
    }
    let history = lists.history().await;
    let report = check(&history).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
    assert_eq!(report.done, history.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_that_are_not_locked_lose_updates_and_that_is_found() {
    let lists = Instance::start(&[Plant::LostUpdate]).await;
    let report = check(&lists.history().await).unwrap();
    let kinds: Vec<_> = report.findings.iter().map(|finding| finding.anomaly).collect();
    let lost = [Anomaly::LostUpdate, Anomaly::LostAppend, Anomaly::IncompatibleOrder];
    assert!(lost.iter().any(|kind| kinds.contains(kind)), "{kinds:?}");
}
