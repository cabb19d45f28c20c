//! A control plane over a store in a temporary folder, and everything around it played by the test.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dujiang_control::{Control, Signing, Trust};
use dujiang_evidence::{Signer, Suite};
use dujiang_identity::testing::TestAuthority;
use dujiang_identity::{Connector, Expect, Role, http_client};
use dujiang_store::Store;
use dujiang_types::Problem;
use dujiang_unit::Timing;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Far more than anything here takes, even on a machine that is busy with other things.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Short enough for tests to end soon; the fresh time long enough for a busy machine.
pub(crate) fn timing() -> Timing {
    Timing {
        lease_ms: 1_500,
        renew_ms: 100,
        margin_ms: 200,
        fresh_ms: 1_500,
        drain_ms_max: 5_000,
        seal_ms_max: 8_000,
        promote_ms_max: 8_000,
        home_grace_ms: 500,
        member_lost_ms: 1_000,
        ..Timing::default()
    }
}

fn signing() -> Signing {
    Signing { key: Signer::generate(Suite::International), platform: "test".to_owned() }
}

pub(crate) struct Plane {
    control: Option<Control>,
    store: String,
    /// Holds the store's file, if it is one.
    _folder: Option<tempfile::TempDir>,
    pub(crate) ca: TestAuthority,
    store_ca: TestAuthority,
    /// An operator's.
    pub(crate) client: reqwest::Client,
    /// Others' by their paths.
    clients: Arc<Mutex<BTreeMap<String, reqwest::Client>>>,
}

impl Plane {
    /// Over a store in a file.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = format!("redb:{}", folder.path().join("store.redb").display());
        Self::over(store, Some(folder), TestAuthority::default()).await
    }

    /// Over any store, whose authority is that one.
    pub(crate) async fn over(
        store: String,
        folder: Option<tempfile::TempDir>,
        store_ca: TestAuthority,
    ) -> Self {
        let ca = TestAuthority::default();
        let client = client_as(&ca, "operator/tester");
        let clients = Arc::default();
        let mut plane = Self { control: None, store, _folder: folder, ca, store_ca, client, clients };
        plane.revive().await;
        plane
    }

    /// A control plane that knows three data centers and the bank.
    pub(crate) async fn with_platform() -> Self {
        let plane = Self::start().await;
        plane.make_platform().await;
        plane
    }

    pub(crate) async fn make_platform(&self) {
        for (name, number) in [("a", 11), ("b", 12), ("c", 13)] {
            self.put(&format!("/v1/datacenters/{name}"), &data_center(number)).await;
        }
        self.put("/v1/applications/bank", &application()).await;
        // What is derived from the store follows a moment after the write.
        let began = Instant::now();
        while self.get("/v1/routing").await["applications"]["bank"].is_null() {
            assert!(began.elapsed() < DEADLINE, "the routing table does not follow");
        }
    }

    /// Ends the control plane as a crash would: whatever it is doing is not done any further.
    pub(crate) fn kill(&mut self) {
        drop(self.control.take());
    }

    /// Opens the store. The control plane before may need a moment to let go of it.
    pub(crate) async fn open_store(&self) -> Arc<dyn Store> {
        let began = Instant::now();
        loop {
            match dujiang_store::open(&self.store, &self.store_ca.identity("control")).await {
                Ok(store) => return store,
                Err(dujiang_store::Error::Locked { .. }) if began.elapsed() < DEADLINE => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Starts it over the same store, and waits until it decides.
    pub(crate) async fn revive(&mut self) {
        self.start_beside("control").await;
        self.until_it_leads().await;
    }

    /// Starts it over a store that another one may be deciding over.
    async fn start_beside(&mut self, name: &str) {
        let listen = "127.0.0.1:0".parse().unwrap();
        let store = self.open_store().await;
        let (authority, store_authority) = (self.ca.authority(), self.store_ca.authority());
        let trust = Trust { identity: self.ca.identity("control"), authority, store_authority };
        let started = Control::start(store, name.to_owned(), listen, timing(), signing(), trust).await;
        self.control = Some(started.unwrap());
    }

    /// Another control plane over the same store.
    pub(crate) async fn another(&self, name: &str) -> Self {
        let (store, ca, client) = (self.store.clone(), self.ca.clone(), self.client.clone());
        let (clients, store_ca) = (Arc::clone(&self.clients), self.store_ca.clone());
        let mut plane = Self { control: None, store, _folder: None, ca, store_ca, client, clients };
        plane.start_beside(name).await;
        plane
    }

    pub(crate) async fn leads(&self) -> bool {
        let text = self.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
        text.lines().any(|line| line == "dujiang_control_leads 1")
    }

    pub(crate) async fn until_it_leads(&self) {
        let began = Instant::now();
        while !self.leads().await {
            assert!(began.elapsed() < DEADLINE, "it does not come to lead");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn shutdown(mut self) {
        self.control.take().unwrap().shutdown().await;
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.control.as_ref().unwrap().address()
    }

    /// A connection of an operator, to say on it whatever a test likes.
    pub(crate) async fn connect(&self) -> TlsStream<TcpStream> {
        let identity = self.ca.identity("operator/tester");
        let connector = Connector::new(&identity, Expect::roles(&[Role::Control])).unwrap();
        let stream = TcpStream::connect(self.address()).await.unwrap();
        connector.connect(self.address().ip(), stream).await.unwrap()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address())
    }

    /// A request of whoever it is for: agents and gateways report for themselves, the rest is an operator's.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let words: Vec<&str> = path.split('/').collect();
        match words.as_slice() {
            ["", "v1", "agents", dc, "report"] => self.request_as(&format!("dc/{dc}/agent"), method, path),
            ["", "v1", "gateways", dc, "report"] => {
                self.request_as(&format!("dc/{dc}/gateway"), method, path)
            }
            ["", "v1", "identities"] => self.request_as("dc/a/agent", method, path),
            ["", "v1", "join"] => self.request_as("dc/a/joiner/t-1", method, path),
            _ => self.client.request(method, self.url(path)),
        }
    }

    /// A request of somebody.
    pub(crate) fn request_as(&self, who: &str, method: Method, path: &str) -> RequestBuilder {
        let mut clients = self.clients.lock().unwrap();
        let client = clients.entry(who.to_owned()).or_insert_with(|| client_as(&self.ca, who));
        client.request(method, self.url(path))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let response = self.request(Method::GET, path).send().await.unwrap();
        let status = response.status();
        let body = response.text().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    pub(crate) async fn try_put(&self, path: &str, body: &Value) -> Response {
        self.request(Method::PUT, path).json(body).send().await.unwrap()
    }

    /// Puts and returns the resource.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> Value {
        let response = self.try_put(path, body).await;
        let status = response.status();
        let body: Value = response.json().await.unwrap();
        assert!(status.is_success(), "{path}: {body}");
        body
    }
}

/// A client of the control plane with an identity.
pub(crate) fn client_as(ca: &TestAuthority, who: &str) -> reqwest::Client {
    let client = http_client(&ca.identity(who), Expect::roles(&[Role::Control])).unwrap();
    client.timeout(DEADLINE).build().unwrap()
}

/// The problem in a response, after checking that it is one in every respect.
pub(crate) async fn problem(response: Response) -> Problem {
    let status = response.status();
    let kind = response.headers().get("content-type").map(|v| v.to_str().unwrap().to_owned());
    let body = response.text().await.unwrap();
    assert_eq!(kind.as_deref(), Some("application/problem+json"), "{status} {body}");
    let problem: Problem = serde_json::from_str(&body).unwrap();
    assert_eq!(problem.status, status.as_u16(), "{body}");
    problem
}

pub(crate) fn data_center(number: u8) -> Value {
    json!({"spec": {"region": "r", "network": format!("127.0.{number}.0/24"),
        "gateway": {"port": 8080, "threads": 1}}})
}

pub(crate) fn application() -> Value {
    json!({"spec": {"program": "dujiang-bank", "data_centers": ["a", "b", "c"], "instances": 1, "port": 9000,
        "routes": [{"prefix": "/v1/accounts/", "key": {"in": "segment", "form": "account"}}]}})
}

pub(crate) fn unit(slots: &str, port: u16, durability: &str) -> Value {
    json!({"spec": {"application": "bank", "home": "a", "replicas": ["a", "b", "c"], "slots": [slots],
        "durability": durability, "port": port}})
}
