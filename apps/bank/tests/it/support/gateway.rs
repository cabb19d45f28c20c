//! Stand-in for the gateway: routes by slot, sets unit and epoch, and misbehaves on demand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, RwLock};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use dujiang_identity::{Acceptor, Expect, Role};
use dujiang_routing::{AccountNumber, slot_of};
use dujiang_types::{Slot, SlotRange};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;

use super::Answer;

#[derive(Clone)]
struct Route {
    slots: SlotRange,
    epoch: u64,
    address: SocketAddr,
}

#[derive(Default)]
struct Shared {
    routes: RwLock<BTreeMap<String, Route>>,
    customers: AtomicU32,
    /// Of a hundred messages: how many answers are lost after the message was delivered, how many messages are
    /// lost before, and how many are delivered twice.
    faults: RwLock<Faults>,
    count: AtomicU32,
    messages: AtomicU32,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) lose_answer: u32,
    pub(crate) lose_message: u32,
    pub(crate) double: u32,
}

pub(crate) struct Gateway {
    caller: Caller,
    mesh: SocketAddr,
    shared: Arc<Shared>,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

/// The port for applications.
struct Mesh {
    listener: TcpListener,
    acceptor: Acceptor,
}

impl Listener for Mesh {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, peer) = self.listener.accept().await.unwrap();
            if let Ok((stream, _)) = self.acceptor.accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A client of the gateway. Cheap to clone, for requests that run beside the test.
#[derive(Clone)]
pub(crate) struct Caller {
    address: SocketAddr,
    http: reqwest::Client,
}

impl Deref for Gateway {
    type Target = Caller;
    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Gateway {
    pub(crate) fn caller(&self) -> Caller {
        self.caller.clone()
    }

    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let own = dujiang_sdk::testing::authority().identity("dc/a/gateway");
        let acceptor = Acceptor::new(&own, Expect::roles(&[Role::Application])).unwrap();
        let secured = Mesh { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), acceptor };
        let mesh = secured.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let http = dujiang_identity::plain_http_client().build().unwrap();
        let router = Router::new()
            .fallback(forward)
            .with_state((Arc::clone(&shared), dujiang_sdk::testing::gateway_client()));
        let same = router.clone();
        let tasks = [
            tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }),
            tokio::spawn(async move { axum::serve(secured, same).await.unwrap() }),
        ];
        Self { caller: Caller { address, http }, mesh, shared, tasks }
    }

    /// Where applications reach it.
    pub(crate) fn mesh(&self) -> String {
        format!("https://{}", self.mesh)
    }

    pub(crate) fn route(&self, unit: &str, slots: &str, address: SocketAddr) {
        let route = Route { slots: slots.parse().unwrap(), epoch: 1, address };
        self.shared.routes.write().unwrap().insert(unit.to_owned(), route);
    }

    pub(crate) fn set_epoch(&self, unit: &str, epoch: u64) {
        self.shared.routes.write().unwrap().get_mut(unit).unwrap().epoch = epoch;
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        *self.shared.faults.write().unwrap() = faults;
    }

    /// How many messages between units came by.
    pub(crate) fn messages(&self) -> u32 {
        self.shared.messages.load(Ordering::Relaxed)
    }

    /// A customer number not used before, at home in the unit.
    pub(crate) fn customer_of(&self, unit: &str) -> String {
        let slots = self.shared.routes.read().unwrap()[unit].slots;
        loop {
            let customer = format!("c-{}", self.shared.customers.fetch_add(1, Ordering::Relaxed));
            if slots.contains(slot_of(customer.as_bytes())) {
                return customer;
            }
        }
    }

    /// A well-formed account number of the unit nobody has.
    pub(crate) fn missing_account_of(&self, unit: &str) -> String {
        let slots = self.shared.routes.read().unwrap()[unit].slots;
        AccountNumber::new(slots.first, 999_999_999_999).unwrap().to_string()
    }
}

impl Caller {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sends a request and gives the answer, whatever it is.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: Option<String>,
    ) -> Answer {
        let mut headers = vec![];
        headers.extend(key.map(|key| ("idempotency-key", key)));
        self.call_with(method, path, &headers, body).await
    }

    pub(crate) async fn call_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Answer {
        let mut request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.url()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let replayed = header("idempotency-replayed").is_some_and(|value| value == "true");
        let media_type = header("content-type").unwrap_or_default();
        let body = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or(Value::Null);
        Answer { status, body, replayed, media_type }
    }
}

fn slot(path: &str) -> Option<Slot> {
    let mut segments = path.trim_start_matches('/').split('/');
    let (_v1, kind, key) = (segments.next()?, segments.next()?, segments.next()?);
    match kind {
        "customers" => Some(slot_of(key.as_bytes())),
        "accounts" | "messages" => key.parse().ok().map(AccountNumber::slot),
        _ => None,
    }
}

async fn forward(State((shared, http)): State<(Arc<Shared>, reqwest::Client)>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().unwrap().as_str().to_owned();
    let (unit, route) = {
        let routes = shared.routes.read().unwrap();
        let by_slot = slot(parts.uri.path());
        let owner = routes.iter().find(|(_, route)| by_slot.is_some_and(|slot| route.slots.contains(slot)));
        // Without a key any instance will do.
        let (unit, route) = owner.or_else(|| routes.iter().next()).unwrap();
        (unit.clone(), route.clone())
    };
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let send = || {
        let mut request = http.request(parts.method.clone(), format!("https://{}{path}", route.address));
        for (name, value) in &parts.headers {
            if name != "host" && name != "content-length" {
                request = request.header(name, value);
            }
        }
        request.header("dujiang-unit", &unit).header("dujiang-epoch", route.epoch).body(body.clone()).send()
    };
    let lost = || StatusCode::BAD_GATEWAY.into_response();
    let faults = *shared.faults.read().unwrap();
    let draw = if path.starts_with("/v1/messages/") {
        shared.messages.fetch_add(1, Ordering::Relaxed);
        // Spread evenly, the same in every run.
        shared.count.fetch_add(1, Ordering::Relaxed) * 37 % 100
    } else {
        100
    };
    if draw < faults.lose_message {
        return lost();
    }
    if draw >= 100 - faults.double.min(100) && draw < 100 {
        let (_, second) = tokio::join!(send(), send());
        return answer(second).await;
    }
    let first = send().await;
    if draw < faults.lose_message + faults.lose_answer {
        return lost();
    }
    answer(first).await
}

async fn answer(response: reqwest::Result<reqwest::Response>) -> Response {
    let Ok(response) = response else { return StatusCode::BAD_GATEWAY.into_response() };
    let mut answer = Response::builder().status(response.status());
    for (name, value) in response.headers() {
        answer = answer.header(name, value);
    }
    match response.bytes().await {
        Ok(bytes) => answer.body(Body::from(bytes)).unwrap(),
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}
