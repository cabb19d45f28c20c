//! An instance that does as it is told and remembers every byte it was sent.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use dujiang_identity::{Acceptor, Expect, Identity, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.head.lines().skip(1).filter_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key == name).then(|| value.trim())
        });
        let value = values.next();
        assert_eq!(values.next(), None, "{name} twice");
        value
    }
}

/// What to do with a request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// 200 with this body.
    Ok(&'static str),
    /// Exactly these bytes.
    Bytes(Vec<u8>),
    /// These bytes, then the end of the connection.
    BytesThenClose(Vec<u8>),
    /// Nothing but the end of the connection.
    Close,
    /// Nothing until the gate is opened, then 200.
    Wait(Arc<Semaphore>),
    /// The problem of this code.
    Problem(dujiang_types::Code),
}

impl Act {
    pub(crate) fn bytes(text: &str) -> Self {
        Self::Bytes(text.as_bytes().to_vec())
    }
}

pub(crate) struct Instance {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

type Script = dyn Fn(&Seen, usize) -> Act + Send + Sync;

struct State {
    seen: Mutex<Vec<Seen>>,
    act: Box<Script>,
    ready: AtomicBool,
    connections: AtomicUsize,
    broken_off: AtomicUsize,
}

impl Instance {
    /// `act` gets the request and how many were executed before.
    pub(crate) async fn start(act: impl Fn(&Seen, usize) -> Act + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), act).await
    }

    /// Somebody else in its place.
    pub(crate) async fn start_as(identity: &Identity) -> Self {
        Self::launch("127.0.0.1:0".parse().unwrap(), identity, |_, _| Act::Ok("ok")).await
    }

    /// In the place of the gateway of data center `b`.
    pub(crate) async fn start_as_gateway(act: impl Fn(&Seen, usize) -> Act + Send + Sync + 'static) -> Self {
        let identity = super::authority().identity("dc/b/gateway");
        Self::launch("127.0.0.1:0".parse().unwrap(), &identity, act).await
    }

    pub(crate) async fn start_at(
        address: SocketAddr,
        act: impl Fn(&Seen, usize) -> Act + Send + Sync + 'static,
    ) -> Self {
        let identity = super::authority().identity("dc/a/application/bank");
        Self::launch(address, &identity, act).await
    }

    async fn launch(
        address: SocketAddr,
        identity: &Identity,
        act: impl Fn(&Seen, usize) -> Act + Send + Sync + 'static,
    ) -> Self {
        let acceptor = Acceptor::new(identity, Expect::roles(&[Role::Gateway])).unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        let state = Arc::new(State {
            seen: Mutex::default(),
            act: Box::new(act),
            ready: AtomicBool::new(true),
            connections: AtomicUsize::new(0),
            broken_off: AtomicUsize::new(0),
        });
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(serve(listener, acceptor, state.clone()));
        Self { address, state, task }
    }

    /// Answers 200 `ok` to everything.
    pub(crate) async fn ok() -> Self {
        Self::start(|_, _| Act::Ok("ok")).await
    }

    /// Requests executed, in order; readiness probes are not among them.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("a request")
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.state.ready.store(ready, Ordering::Relaxed);
    }

    /// Connections that carried a request, so far.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// Requests that ended in the middle.
    pub(crate) fn broken_off(&self) -> usize {
        self.state.broken_off.load(Ordering::Relaxed)
    }

    /// Dies with all its connections.
    pub(crate) async fn die(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

async fn serve(listener: TcpListener, acceptor: Acceptor, state: Arc<State>) {
    let mut connections = JoinSet::new(); // ended with this task
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, state) = (acceptor.clone(), state.clone());
        connections.spawn(async move {
            if let Ok((stream, _)) = acceptor.accept(stream).await {
                connection(stream, state).await;
            }
        });
    }
}

async fn connection(mut stream: TlsStream<TcpStream>, state: Arc<State>) {
    let (mut rest, mut first) = (Vec::new(), true);
    loop {
        let Some((head, body)) = request(&mut stream, &mut rest).await else {
            if !rest.is_empty() {
                state.broken_off.fetch_add(1, Ordering::Relaxed);
            }
            return;
        };
        if head.starts_with("GET /readyz ") {
            let status = if state.ready.load(Ordering::Relaxed) { "200 OK" } else { "503 No" };
            let _ =
                stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await;
            continue;
        }
        if std::mem::take(&mut first) {
            state.connections.fetch_add(1, Ordering::Relaxed);
        }
        let seen = Seen { head, body };
        let count = {
            let mut all = state.seen.lock().unwrap();
            all.push(seen.clone());
            all.len() - 1
        };
        let (bytes, close) = match (state.act)(&seen, count) {
            Act::Ok(body) => (ok(body), false),
            Act::Bytes(bytes) => (bytes, false),
            Act::BytesThenClose(bytes) => (bytes, true),
            Act::Close => (Vec::new(), true),
            Act::Wait(gate) => {
                gate.acquire().await.unwrap().forget();
                (ok("waited"), false)
            }
            Act::Problem(code) => {
                let problem = serde_json::to_string(&dujiang_types::Problem::new(code, "")).unwrap();
                let head =
                    format!("HTTP/1.1 {} X\r\ncontent-type: application/problem+json\r\n", code.status());
                (format!("{head}content-length: {}\r\n\r\n{problem}", problem.len()).into_bytes(), false)
            }
        };
        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() || close {
            let _ = stream.shutdown().await;
            return;
        }
    }
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Reads one request, as strictly as a server should.
async fn request(stream: &mut TlsStream<TcpStream>, rest: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    let end = loop {
        if let Some(at) = rest.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        more(stream, rest).await?;
    };
    let head = String::from_utf8_lossy(&rest[..end]).into_owned();
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let (length, coding) = (header("content-length"), header("transfer-encoding"));
    assert!(length.is_none() || coding.is_none(), "two framings reached the instance: {head}");
    if coding.is_some() {
        let mut body = Vec::new();
        let mut at = end;
        loop {
            let line_end = loop {
                if let Some(found) = rest[at..].windows(2).position(|w| w == b"\r\n") {
                    break at + found;
                }
                more(stream, rest).await?;
            };
            let size = usize::from_str_radix(std::str::from_utf8(&rest[at..line_end]).unwrap(), 16).unwrap();
            let data_end = line_end + 2 + size;
            while rest.len() < data_end + 2 {
                more(stream, rest).await?;
            }
            body.extend_from_slice(&rest[line_end + 2..data_end]);
            at = data_end + 2;
            if size == 0 {
                rest.drain(..at);
                return Some((head, body));
            }
        }
    }
    let length = length.map_or(0, |length| length.parse().unwrap());
    while rest.len() < end + length {
        more(stream, rest).await?;
    }
    let body = rest[end..end + length].to_vec();
    rest.drain(..end + length);
    Some((head, body))
}

async fn more(stream: &mut TlsStream<TcpStream>, rest: &mut Vec<u8>) -> Option<()> {
    let mut buffer = vec![0; 64 << 10];
    match stream.read(&mut buffer).await {
        Ok(0) | Err(_) => None,
        Ok(read) => {
            rest.extend_from_slice(&buffer[..read]);
            Some(())
        }
    }
}
