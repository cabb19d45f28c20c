//! Garbage to every port: a clear answer or a closed connection, bounded memory, and a platform that goes on.

use std::net::SocketAddr;
use std::time::Duration;

use dujiang_testkit::load::Mix;
use dujiang_testkit::processes::{self, Kind};
use dujiang_types::error::PROBLEM_MEDIA_TYPE;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::ports::{self, Port, Server};
use crate::{RATE, assert_clean, cluster, slow, wrong};

/// A server that neither answers nor closes within this has no bound.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
/// More than any process of ours may hold on to after being fed megabytes of garbage.
const PSS_KIB_MAX: u64 = 120 * 1024;

/// Bytes that are no HTTP request, or one that must not be taken.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let head = "POST /v1/accounts/1/transfers HTTP/1.1\r\nhost: x\r\n";
    let many = "x-many: y\r\n".repeat(20_000);
    vec![
        ("noise", (0..=255).cycle().take(4096).collect()),
        ("a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(40)),
        ("no version", b"GET /\r\n\r\n".to_vec()),
        ("a space in a header's name", format!("{head}content-length : 2\r\n\r\n{{}}").into_bytes()),
        ("two lengths", format!("{head}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}").into_bytes()),
        ("a negative length", format!("{head}content-length: -2\r\n\r\n").into_bytes()),
        (
            "length and chunks",
            format!("{head}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n").into_bytes(),
        ),
        ("chunks of no size", format!("{head}transfer-encoding: chunked\r\n\r\nzz\r\n").into_bytes()),
        ("a huge header", format!("{head}x: {}\r\n\r\n", "y".repeat(4 << 20)).into_bytes()),
        ("many headers", format!("{head}{many}\r\n").into_bytes()),
        ("a huge path", format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "y".repeat(4 << 20)).into_bytes()),
        ("a huge length", format!("{head}content-length: 99999999999\r\n\r\n").into_bytes()),
    ]
}

/// Documents that are no JSON, or not what anybody takes.
fn wrong_json() -> Vec<String> {
    let deep = "[".repeat(2_000);
    ["", "{", "[]", "7", "\"text\"", "{\"name\": }", "{\"name\": 1e999}", "\0", &deep]
        .map(str::to_owned)
        .into()
}

/// Sends bytes and gives back what the server says until it closes. A client that has said all it has to say may
/// say so by closing its half; a server may take that as its leaving.
async fn exchange(at: SocketAddr, bytes: &[u8], half_close: bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(at).await.unwrap();
    // A server may close before it has read everything: that is its right.
    let _ = stream.write_all(bytes).await;
    if half_close {
        let _ = stream.shutdown().await;
    }
    let mut answer = Vec::new();
    let read = tokio::time::timeout(ANSWER_TIMEOUT, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "{at} neither answers nor closes");
    answer
}

/// What was said must not be taken: there is no answer at all, or one that refuses in a form programs can read.
#[track_caller]
pub(crate) fn assert_refused(port: &Port, what: &str, answer: &[u8]) {
    let text = String::from_utf8_lossy(answer);
    if answer.is_empty() || !port.is_http() {
        return;
    }
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0_u16);
    assert!((400..600).contains(&status), "{port:?} takes {what}: {text}");
    // What hyper itself refuses gets a status and no body; the gateway puts a problem in its place.
    let bare = body.is_empty() && !matches!(port.server, Server::Gateway | Server::Mesh);
    assert!(bare || head.contains(PROBLEM_MEDIA_TYPE), "{port:?} answers {what} without a problem: {text}");
}

async fn malformed_bytes(ports: &[Port]) {
    for (what, bytes) in malformed() {
        let answers = join_all(ports.iter().map(|port| exchange(port.at, &bytes, true))).await;
        for (port, answer) in ports.iter().zip(answers) {
            assert_refused(port, what, &answer);
        }
    }
}

async fn malformed_documents(ports: &[Port]) {
    for document in wrong_json() {
        for port in ports.iter().filter(|port| port.is_http()) {
            let request = format!("{}connection: close\r\n\r\n{document}", slow::head(port, document.len()));
            let answer = exchange(port.at, request.as_bytes(), false).await;
            assert!(!answer.is_empty(), "{port:?} does not answer to {document:.20}");
            assert_refused(port, &document, &answer);
        }
    }
}

/// Everybody else is served.
async fn serves(ports: &[Port]) {
    for gateway in ports.iter().filter(|port| port.server == Server::Gateway) {
        let request = b"GET /v1/customers/nobody HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let answer = exchange(gateway.at, request, false).await;
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 404") && text.contains("customer.not_found"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_refused_everywhere_and_nothing_is_lost() {
    let cluster = cluster().await;
    let load = cluster.load(RATE, Mix::default(), 9).await.unwrap();
    let ports = ports::of(&cluster);
    let slow = slow::open(&ports).await;
    serves(&ports).await;
    malformed_bytes(&ports).await;
    malformed_documents(&ports).await;
    wrong::requests(&cluster, &load).await;
    slow::shown_out(slow).await;
    serves(&ports).await;
    for kind in [Kind::Control, Kind::Agent, Kind::Guard, Kind::Gateway, Kind::Application] {
        for process in cluster.processes(&kind, None).unwrap() {
            let pss = process.pss_kib().unwrap();
            assert!(pss < PSS_KIB_MAX, "{kind:?} in {:?} holds {pss} KiB", process.dc);
        }
    }
    cluster.whole().await.unwrap();
    let summary = load.stop().await.unwrap();
    assert_eq!(summary.total.unknown, 0, "{summary:#?}");
    assert_eq!(summary.total.failed_requests, 0, "{summary:#?}");
    let postings = cluster.verify().await.unwrap();
    assert_clean(&postings, 100);
    assert!(!processes::find(cluster.data(), None).unwrap().is_empty());
}
