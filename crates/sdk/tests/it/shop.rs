//! A shop that counts items, badly on demand.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::Path;
use axum::routing::{get, post};
use dujiang_sdk::{
    Application, Code, Failure, Message, MessageOutcome, Migration, Options, Outcome, Rejection, Reply,
    Server, Transaction, Unit, UnitContext, Work, Write,
};
use http::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;

use dujiang_sdk::testing::{Postgres, until};

const FIRST: Migration = Migration {
    component: "shop",
    version: 1,
    sql: "CREATE TABLE items (item text PRIMARY KEY, count bigint NOT NULL CHECK (count >= 0));
        CREATE TABLE notes (item text NOT NULL REFERENCES items DEFERRABLE INITIALLY DEFERRED)",
};
const SECOND: Migration =
    Migration { component: "shop", version: 2, sql: "ALTER TABLE items ADD COLUMN colour text" };

/// The shop of one release.
pub(crate) struct Shop {
    pub(crate) release: usize,
}

impl Application for Shop {
    const NAME: &'static str = "shop";

    fn migrations(&self) -> &'static [Migration] {
        &[FIRST, SECOND][..self.release]
    }

    fn unit_routes(&self) -> Router {
        Router::new()
            .route("/v1/items/{item}", get(count))
            .route("/v1/items/{item}/{manner}", post(add))
            .route("/v1/panics", get(panics))
    }

    fn openapi(&self) -> utoipa::openapi::OpenApi {
        utoipa::openapi::OpenApi::default()
    }

    async fn receive(&self, _: &Transaction, _: &Unit, _: &Message) -> Result<(), Failure> {
        Err(Failure::refused(Code::NotFound, "the shop takes no messages"))
    }

    async fn settle(&self, _: &Transaction, _: &Message, _: &MessageOutcome) -> Result<(), Failure> {
        Ok(())
    }
}

struct Add {
    item: String,
    manner: String,
}

const ADD: &str = "INSERT INTO items VALUES ($1, 1) ON CONFLICT (item) DO UPDATE SET count = items.count + 1";

impl Work for Add {
    type Output = Outcome;
    async fn run(&self, tx: &Transaction) -> Result<Outcome, Failure> {
        tx.query(ADD, &[&self.item]).await?;
        match self.manner.as_str() {
            "refusing" => return Err(Failure::refused(Code::Refused, "after all, no")),
            // A statement fails and the failure is not passed on: COMMIT would answer success and roll back.
            "swallowing" => drop(tx.query("SELECT 1 / (SELECT 0)", &[]).await),
            // A statement that nobody waits for to the end.
            "abandoning" => {
                let slow = tx.query("SELECT pg_sleep(0.2)", &[]);
                let _ = tokio::time::timeout(std::time::Duration::from_millis(1), slow).await;
            }
            // A refusal after a failed statement must still be recorded.
            "failing-then-refusing" => {
                drop(tx.query("SELECT 1 / (SELECT 0)", &[]).await);
                return Err(Failure::refused(Code::Refused, "after all, no"));
            }
            // Fails at COMMIT itself.
            "deferred" => {
                tx.query("INSERT INTO notes VALUES ('nothing')", &[]).await?;
            }
            "panicking" => panic!("as asked for"),
            _ => {}
        }
        Outcome::json(StatusCode::CREATED, &json!({"item": self.item}))
    }
}

async fn add(
    context: UnitContext,
    Path((item, manner)): Path<(String, String)>,
    write: Write<Value>,
) -> Result<Reply, Rejection> {
    Ok(context.once(&write.key, &Add { item, manner }).await?)
}

struct Count(String);

impl Work for Count {
    type Output = i64;
    async fn run(&self, tx: &Transaction) -> Result<i64, Failure> {
        let row = tx.query_opt("SELECT count FROM items WHERE item = $1", &[&self.0]).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
    }
}

async fn count(context: UnitContext, Path(item): Path<String>) -> Result<String, Rejection> {
    Ok(context.read(&Count(item)).await?.to_string())
}

async fn panics() -> &'static str {
    panic!("as asked for")
}

/// An instance in this process.
pub(crate) struct Instance {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) ended: tokio::task::JoinHandle<()>,
    _folder: TempDir,
}

impl Instance {
    pub(crate) async fn start(release: usize, postgres: &Postgres) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let units = folder.path().join("units.json");
        let file = json!({"dc": "a", "mesh": "https://127.0.0.1:9", "units": [{
            "unit": "unit-1", "application": "shop", "host": "127.0.0.1", "port": postgres.port(),
            "database": "bank", "role": "bank", "slots": ["0-16383"]}]});
        std::fs::write(&units, file.to_string()).unwrap();
        dujiang_sdk::testing::secret(folder.path());
        let secret = folder.path().join("secret");
        let identity = dujiang_sdk::testing::instance_identity(folder.path(), "bank");
        let options = Options { listen: "127.0.0.1:0".parse().unwrap(), units, secret, identity };
        let server = Server::bind(Shop { release }, &options).await.unwrap();
        let address = server.address().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self { address, stop: Some(stop), ended, _folder: folder }
    }

    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Status and body; waits while the unit is not available.
    pub(crate) async fn call(&self, method: &str, path: &str, key: &str) -> (u16, bool, Value) {
        until("an answer", || async {
            let answer = self.call_once(method, path, key).await;
            (answer.0 != 503).then_some(answer)
        })
        .await
    }

    async fn call_once(&self, method: &str, path: &str, key: &str) -> (u16, bool, Value) {
        let http = dujiang_sdk::testing::gateway_client();
        let request = http.request(method.parse().unwrap(), format!("https://{}{path}", self.address));
        let request = request.header("dujiang-unit", "unit-1").header("dujiang-epoch", 1);
        let response = request.header("idempotency-key", key).send().await.unwrap();
        let replayed = response.headers().contains_key("idempotency-replayed");
        let status = response.status().as_u16();
        (status, replayed, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
    }

    pub(crate) async fn add(&self, item: &str, manner: &str, key: &str) -> (u16, bool, Value) {
        self.call("POST", &format!("/v1/items/{item}/{manner}"), key).await
    }

    pub(crate) async fn count(&self, item: &str) -> i64 {
        self.call("GET", &format!("/v1/items/{item}"), "-").await.2.as_i64().unwrap()
    }
}
