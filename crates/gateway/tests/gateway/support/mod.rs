//! A world around a gateway: a control server that speaks the watch protocol, scripted instances, raw clients.

pub(crate) mod control;
pub(crate) mod instance;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use dujiang_gateway::{Gateway, Options};
use dujiang_identity::testing::TestAuthority;
use dujiang_identity::{Connector, Expect, Role, http_client};
use dujiang_routing::table::ApplicationRoute;
use dujiang_routing::{Mode, RoutingTable, UnitRoute, slot_of};
use dujiang_types::platform::{KeyForm, KeySource, RouteRule};
use dujiang_types::{AppId, Code, DcId, Epoch, Problem, Revision, UnitId};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) use control::Control;
pub(crate) use instance::{Act, Instance};

/// Longest time anything here may take; reaching it is a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The authority of everybody in these tests.
pub(crate) fn authority() -> &'static TestAuthority {
    static AUTHORITY: OnceLock<TestAuthority> = OnceLock::new();
    AUTHORITY.get_or_init(TestAuthority::default)
}

/// Who looks at health and metrics.
pub(crate) fn admin_client() -> reqwest::Client {
    let operator = authority().identity("operator/zhang");
    http_client(&operator, Expect::roles(&[Role::Gateway])).unwrap().build().unwrap()
}

pub(crate) fn dc(name: &str) -> DcId {
    DcId::new(name).unwrap()
}

pub(crate) fn unit(name: &str) -> UnitId {
    UnitId::new(name).unwrap()
}

/// A table for the application `bank` with units `unit-1` (lower half of the slots) and `unit-2`, both at home
/// in `a` under epoch 1.
pub(crate) fn table(version: u64, instances: &[SocketAddr]) -> RoutingTable {
    let header = |prefix: &str, name: &str| RouteRule {
        prefix: prefix.to_owned(),
        key: KeySource::Header { name: name.to_owned(), form: KeyForm::Hash },
    };
    let segment =
        |prefix: &str, form| RouteRule { prefix: prefix.to_owned(), key: KeySource::Segment { form } };
    let routes = vec![
        segment("/customers/", KeyForm::Hash),
        segment("/accounts/", KeyForm::Account),
        RouteRule { prefix: "/open/".to_owned(), key: KeySource::None },
        header("/", "x-customer"),
    ];
    let route = |name: &str, slots: &str| UnitRoute {
        unit: unit(name),
        application: AppId::new("bank").unwrap(),
        epoch: Epoch(1),
        home: dc("a"),
        mode: Mode::Forward,
        slots: vec![slots.parse().unwrap()],
    };
    let here = BTreeMap::from([(dc("a"), instances.to_vec())]);
    RoutingTable {
        version: Revision(version),
        units: vec![route("unit-1", "0-8191"), route("unit-2", "8192-16383")],
        mesh: BTreeMap::new(),
        dns: None,
        applications: BTreeMap::from([(
            AppId::new("bank").unwrap(),
            ApplicationRoute { routes, instances: here },
        )]),
    }
}

/// A customer of `unit-1` (`true`) or `unit-2`.
pub(crate) fn customer(of_unit_1: bool) -> String {
    (0..100).map(|n| format!("c{n}")).find(|key| (slot_of(key.as_bytes()).get() < 8192) == of_unit_1).unwrap()
}

/// Waits until the condition holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A gateway of data center `a` with its control server.
pub(crate) struct World {
    pub(crate) gateway: Option<Gateway>,
    pub(crate) control: Control,
    pub(crate) options: Options,
    _folder: tempfile::TempDir,
}

impl World {
    /// Starts a gateway and waits until it follows the table.
    pub(crate) async fn start(table: RoutingTable) -> Self {
        Self::start_with(table, |_| ()).await
    }

    pub(crate) async fn start_with(table: RoutingTable, change: impl FnOnce(&mut Options)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let control = Control::start(table.clone()).await;
        let mut options =
            Options::new(dc("a"), authority().identity("dc/a/gateway"), folder.path().join("routing.json"));
        options.control = vec![control.url()];
        options.threads = 2;
        change(&mut options);
        let gateway = Gateway::start(options.clone()).unwrap();
        let world = Self { gateway: Some(gateway), control, options, _folder: folder };
        world.follows(table.version).await;
        world
    }

    pub(crate) fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().unwrap()
    }

    pub(crate) fn clients(&self) -> SocketAddr {
        self.gateway().addresses().clients
    }

    /// Publishes a table and waits until all threads follow it.
    pub(crate) async fn publish(&self, table: RoutingTable) {
        let version = table.version;
        self.control.publish(table);
        self.follows(version).await;
    }

    pub(crate) async fn follows(&self, version: Revision) {
        until("all threads follow the table", || self.gateway().table_version() == version).await;
    }

    /// The metric's value, summed over its labels.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = crate::support::admin_client()
            .get(format!("https://{}/metrics", self.gateway().addresses().admin))
            .send()
            .await
            .unwrap();
        let text = text.text().await.unwrap();
        let lines = text
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    pub(crate) async fn metric_reaches(&self, name: &str, value: f64) {
        let deadline = Instant::now() + PATIENCE;
        while self.metric(name).await < value {
            assert!(Instant::now() < deadline, "{name} does not reach {value}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops the gateway and starts it anew with the same cache.
    pub(crate) fn restart(&mut self) {
        self.gateway.take().unwrap().stop();
        self.gateway = Some(Gateway::start(self.options.clone()).unwrap());
    }
}

/// An answer as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The problem's code, if it is one.
    pub(crate) fn code(&self) -> Option<Code> {
        (self.header("content-type") == Some("application/problem+json")).then(|| {
            let problem: Problem = serde_json::from_slice(&self.body).unwrap();
            assert_eq!(problem.status, self.status);
            problem.code
        })
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Bytes to and fro, secured or not.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A client that speaks plain bytes.
pub(crate) struct Raw {
    pub(crate) stream: Box<dyn Stream>,
    rest: Vec<u8>,
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: Box::new(TcpStream::connect(address).await.unwrap()), rest: Vec::new() }
    }

    /// As the gateway of data center `b` connects to others.
    pub(crate) async fn connect_mesh(address: SocketAddr) -> Self {
        Self::connect_mesh_as("dc/b/gateway", address).await
    }

    /// As somebody connects to a gateway.
    pub(crate) async fn connect_mesh_as(who: &str, address: SocketAddr) -> Self {
        let connector = Connector::new(&authority().identity(who), Expect::roles(&[Role::Gateway])).unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let stream = connector.connect(address.ip(), stream).await.unwrap();
        Self { stream: Box::new(stream), rest: Vec::new() }
    }

    /// Sends bytes; a closed connection is no failure, the answer tells.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
        let _ = self.stream.flush().await;
    }

    /// One request and its answer.
    pub(crate) async fn ask(&mut self, request: &str) -> Answer {
        self.send(request).await;
        self.answer(request.starts_with("HEAD")).await.expect("an answer")
    }

    /// Reads one answer. `None` if the connection ends before it is complete.
    pub(crate) async fn answer(&mut self, head_only: bool) -> Option<Answer> {
        tokio::time::timeout(PATIENCE, self.read_answer(head_only)).await.expect("an answer or the end")
    }

    async fn read_answer(&mut self, head_only: bool) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.rest.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let head = String::from_utf8(self.rest.drain(..end).collect()).unwrap();
        let status = head[9..12].parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        if head_only || status == 204 || status == 304 || status < 200 {
            return Some(answer);
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let line = self.line().await?;
                let size = usize::from_str_radix(&line, 16).unwrap();
                let data = self.take(size + 2).await?;
                answer.body.extend_from_slice(&data[..size]);
                if size == 0 {
                    return Some(answer);
                }
            }
        }
        let length = answer.header("content-length").expect("a length").parse().unwrap();
        answer.body = self.take(length).await?;
        Some(answer)
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.rest.windows(2).position(|w| w == b"\r\n") {
                let line = self.rest.drain(..at + 2).collect::<Vec<_>>();
                return Some(String::from_utf8(line[..at].to_vec()).unwrap());
            }
            self.more().await?;
        }
    }

    async fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.rest.len() < count {
            self.more().await?;
        }
        Some(self.rest.drain(..count).collect())
    }

    async fn more(&mut self) -> Option<()> {
        let mut buffer = vec![0; 64 << 10];
        match self.stream.read(&mut buffer).await {
            Ok(0) | Err(_) => None,
            Ok(read) => {
                self.rest.extend_from_slice(&buffer[..read]);
                Some(())
            }
        }
    }

    /// True once the other end has closed the connection and nothing was left to read.
    pub(crate) async fn is_closed(&mut self) -> bool {
        assert_eq!(self.rest, b"");
        tokio::time::timeout(PATIENCE, self.more()).await.expect("the connection to end").is_none()
    }
}

/// A GET for a customer.
pub(crate) fn get(path: &str, customer: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: bank\r\nx-customer: {customer}\r\n\r\n")
}

/// A POST for a customer.
pub(crate) fn post(path: &str, customer: &str, key: Option<&str>, body: &str) -> String {
    let key = key.map(|key| format!("idempotency-key: {key}\r\n")).unwrap_or_default();
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: bank\r\nx-customer: {customer}\r\n{key}content-length: {length}\r\n\r\n{body}"
    )
}
