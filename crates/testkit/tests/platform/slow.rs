//! Clients that never finish what they have begun to say.

use dujiang_types::api::{HEADER_EPOCH, HEADER_IDEMPOTENCY_KEY, HEADER_UNIT};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::garbage::{ANSWER_TIMEOUT, assert_refused};
use crate::ports::{Port, Server};

/// Clients of each kind for each port.
const CLIENTS: usize = 16;
/// Length of a body that does not come as a whole.
const LENGTH: usize = 100;

/// Where the client stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stops {
    InHead,
    InBody,
}

/// A connection with a client that says nothing more.
pub(crate) struct Slow {
    port: Port,
    stops: Stops,
    stream: TcpStream,
}

impl Slow {
    async fn open(port: Port, stops: Stops, number: usize) -> Self {
        let mut stream = TcpStream::connect(port.at).await.unwrap();
        let head = head(&port, LENGTH);
        let said = match stops {
            Stops::InHead => head[..head.len() - 2 - 5 * number].to_owned(),
            Stops::InBody => format!("{head}\r\n{}", &"{\"name\": \"slow\"}"[..number]),
        };
        stream.write_all(said.as_bytes()).await.unwrap();
        Self { port, stops, stream }
    }

    /// A bank keeps connections longer than gateways do, whose pools they are, and unfinished heads with them: longer
    /// than anybody wants to wait here.
    fn is_kept(&self) -> bool {
        self.port.server == Server::Bank && self.stops == Stops::InHead
    }

    /// Waits until the server hangs up.
    async fn shown_out(mut self) {
        let mut answer = Vec::new();
        // It may also reset the connection.
        let closed = timeout(ANSWER_TIMEOUT, self.stream.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "{:?} waits for ever for a client that stops {:?}", self.port, self.stops);
        assert_refused(&self.port, "an unfinished request", &answer);
    }
}

/// The head of a request with a body that the server would take, without the empty line at its end.
pub(crate) fn head(port: &Port, length: usize) -> String {
    let line = match port.server {
        Server::Agent => "POST /v1/promises",
        _ => "PUT /v1/customers/slow",
    };
    format!(
        "{line} HTTP/1.1\r\nhost: x\r\n{HEADER_UNIT}: unit-1\r\n{HEADER_EPOCH}: 1\r\n\
         {HEADER_IDEMPOTENCY_KEY}: slow\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n"
    )
}

/// Clients of every kind at every port that speaks HTTP.
pub(crate) async fn open(ports: &[Port]) -> Vec<Slow> {
    let kinds = [Stops::InHead, Stops::InBody];
    let http = ports.iter().filter(|port| port.is_http());
    let each = http.flat_map(|port| kinds.map(|stops| (*port, stops)));
    let clients = each.flat_map(|(port, stops)| (0..CLIENTS).map(move |n| Slow::open(port, stops, n)));
    join_all(clients).await
}

/// Waits until every server has hung up on them.
pub(crate) async fn shown_out(slow: Vec<Slow>) {
    let (kept, awaited): (Vec<_>, Vec<_>) = slow.into_iter().partition(Slow::is_kept);
    join_all(awaited.into_iter().map(Slow::shown_out)).await;
    drop(kept);
}
