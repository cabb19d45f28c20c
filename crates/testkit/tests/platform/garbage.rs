//! Garbage to every port: a clear answer or a closed connection, bounded memory, and a platform that goes on.

use std::net::SocketAddr;
use std::time::Duration;

use dujiang_testkit::cluster::Cluster;
use dujiang_testkit::journal::Outcome;
use dujiang_testkit::load::{Load, Mix};
use dujiang_testkit::processes::{self, Kind};
use dujiang_types::Problem;
use dujiang_types::error::PROBLEM_MEDIA_TYPE;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{RATE, assert_clean, cluster};

/// A server that neither answers nor closes within this has no bound.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
/// More than any process of ours may hold on to after being fed megabytes of garbage.
const PSS_KIB_MAX: u64 = 120 * 1024;
/// Connections that send their request byte by byte.
const SLOW_CLIENTS: usize = 64;

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

/// Every TCP port processes of the platform listen on.
fn ports(cluster: &Cluster) -> Vec<SocketAddr> {
    let net = cluster.host(0).split('.').nth(1).unwrap().to_owned();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let listening = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let (address, port) = fields[1].split_once(':')?;
        let address = u32::from_str_radix(address, 16).ok()?;
        let port = u16::from_str_radix(port, 16).ok()?;
        (fields[3] == "0A").then(|| SocketAddr::from((address.to_ne_bytes(), port)))
    });
    let mut ports: Vec<_> =
        listening.filter(|at| at.ip().to_string().starts_with(&format!("127.{net}."))).collect();
    ports.sort_unstable();
    ports.dedup();
    // The one that claims the network is our own.
    ports.retain(|at| !at.ip().to_string().ends_with(".0.1"));
    ports
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_refused_everywhere_and_nothing_is_lost() {
    let cluster = cluster().await;
    let load = cluster.load(RATE, Mix::default(), 9).await.unwrap();
    let ports = ports(&cluster);
    // Control plane; per data center agent, gateway, mesh, admin, bank and three databases.
    assert!(ports.len() > 3 * 8, "{ports:?}");
    for (what, bytes) in malformed() {
        for at in &ports {
            let answer = exchange(*at, &bytes, true).await;
            let text = String::from_utf8_lossy(&answer);
            let taken = text.starts_with("HTTP/1.1 2") || text.starts_with("HTTP/1.0 2");
            assert!(!taken, "{at} takes {what}: {text}");
            if text.starts_with("HTTP/") && at.port() == 8080 {
                assert!(text.contains(PROBLEM_MEDIA_TYPE), "{at} answers {what} without a problem: {text}");
            }
        }
    }
    slow_clients(&ports).await;
    wrong_requests(&cluster, &load).await;
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

/// Many clients that never finish their requests: everybody else is served meanwhile.
async fn slow_clients(ports: &[SocketAddr]) {
    let gateways: Vec<_> = ports.iter().filter(|at| at.port() == 8080).collect();
    let mut streams = Vec::new();
    for number in 0..SLOW_CLIENTS {
        let mut stream = TcpStream::connect(gateways[number % gateways.len()]).await.unwrap();
        let head =
            "PUT /v1/customers/slow HTTP/1.1\r\nhost: x\r\nidempotency-key: slow\r\ncontent-length: 100\r\n";
        stream.write_all(&head.as_bytes()[..head.len() - number % 40]).await.unwrap();
        streams.push(stream);
    }
    for at in gateways {
        let request = b"GET /v1/customers/nobody HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let answer = exchange(*at, request, false).await;
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 404"), "{text}");
    }
}

/// A request that is HTTP but not what the bank takes: what to send, and the code that must come back.
struct Wrong {
    path: String,
    body: Value,
    code: &'static str,
}

async fn wrong_requests(cluster: &Cluster, load: &Load) {
    let accounts = accounts(cluster, load);
    let (from, to) = (&accounts[0], &accounts[1]);
    let mut mistyped = from.clone();
    let last = mistyped.pop().unwrap().to_digit(10).unwrap();
    mistyped.push(char::from_digit((last + 1) % 10, 10).unwrap());
    let transfer = |path: &str, body: Value, code: &'static str| Wrong {
        path: format!("/v1/accounts/{path}/transfers"),
        body,
        code,
    };
    let amount =
        |minor: Value, currency: &str| json!({"to": to, "amount": {"minor": minor, "currency": currency}});
    let one = || json!({"minor": 1, "currency": "CNY"});
    let wrong = [
        transfer(from, json!("no object"), "request.invalid"),
        transfer(from, json!({"to": to}), "request.invalid"),
        transfer(from, json!({"to": to, "amount": one(), "bonus": 1}), "request.invalid"),
        transfer(from, amount(json!(1.5), "CNY"), "money.amount_invalid"),
        transfer(from, amount(json!("1"), "CNY"), "request.invalid"),
        transfer(from, amount(json!(0), "CNY"), "money.amount_invalid"),
        transfer(from, amount(json!(-5), "CNY"), "money.amount_invalid"),
        transfer(from, amount(json!(i64::MAX), "CNY"), "money.amount_invalid"),
        transfer(from, amount(json!(1), "XXX"), "money.currency_unknown"),
        transfer(from, amount(json!(1), "JPY"), "money.currency_mismatch"),
        transfer(from, json!({"to": mistyped, "amount": one()}), "account.number_invalid"),
        transfer(&mistyped, json!({"to": to, "amount": one()}), "account.number_invalid"),
        transfer("hello", json!({"to": to, "amount": one()}), "account.number_invalid"),
        transfer(&unknown(from), json!({"to": to, "amount": one()}), "account.not_found"),
        Wrong { path: "/v1/nothing".into(), body: json!({}), code: "route.unknown" },
    ];
    let http = reqwest::Client::builder().no_proxy().timeout(ANSWER_TIMEOUT).build().unwrap();
    let mut misjudged = Vec::new();
    for gateway in &cluster.platform().unwrap().gateways {
        for (number, wrong) in wrong.iter().enumerate() {
            let url = format!("{}{}", gateway.url, wrong.path);
            let key = format!("garbage-{}-{number}", gateway.dc);
            let answer =
                http.post(&url).header("idempotency-key", &key).json(&wrong.body).send().await.unwrap();
            misjudged.extend(judge(answer, wrong.code, &format!("{url} {}", wrong.body)).await);
        }
        let url = format!("{}/v1/accounts/{from}/transfers", gateway.url);
        let answer = http.post(&url).json(&json!({"to": to, "amount": one()})).send().await.unwrap();
        misjudged.extend(judge(answer, "idempotency.key_missing", "no key").await);
        let half = http.post(&url).header("content-type", "application/json").body("{");
        let answer = half.header("idempotency-key", "k").send().await.unwrap();
        misjudged.extend(judge(answer, "request.invalid", "half a body").await);
    }
    misjudged.extend(reused_key(cluster, &http, from, to).await);
    assert!(misjudged.is_empty(), "{misjudged:#?}");
}

/// The key of a payment that was made, with another body: refused, and nothing is paid.
async fn reused_key(cluster: &Cluster, http: &reqwest::Client, from: &str, to: &str) -> Option<String> {
    let journal = dujiang_testkit::journal::Journal::read(&cluster.journal()).unwrap();
    let deposit = journal.operations.iter().find(|(_, operation)| {
        let ours = matches!(&operation.request,
            dujiang_testkit::request::Request::Deposit { account, .. } if account == from);
        ours && matches!(operation.outcome(), Outcome::Acknowledged(_))
    });
    let key = deposit.unwrap().0;
    let url = format!("{}/v1/accounts/{from}/transfers", cluster.platform().unwrap().gateways[0].url);
    let body = json!({"to": to, "amount": {"minor": 1, "currency": "CNY"}});
    let answer = http.post(&url).header("idempotency-key", key).json(&body).send().await.unwrap();
    judge(answer, "idempotency.key_reused", "another body").await
}

/// What is wrong with an answer that should be a problem document with that code.
async fn judge(answer: reqwest::Response, code: &str, what: &str) -> Option<String> {
    let status = answer.status().as_u16();
    let media_type = answer.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
    let text = answer.text().await.unwrap();
    let right = media_type.as_deref() == Some(PROBLEM_MEDIA_TYPE)
        && serde_json::from_str::<Problem>(&text).is_ok_and(|problem| {
            problem.code.as_str() == code && problem.status == status && !problem.detail.is_empty()
        });
    (!right).then(|| format!("{what}: wanted {code}, got {status} {media_type:?} {text}"))
}

/// Two accounts of one unit that the load has opened.
fn accounts(cluster: &Cluster, load: &Load) -> Vec<String> {
    let journal = dujiang_testkit::journal::Journal::read(&cluster.journal()).unwrap();
    let unit = &crate::unit(1);
    let opened = journal
        .operations
        .iter()
        .filter(|(key, operation)| key.starts_with(load.run()) && operation.unit == *unit);
    let numbers = opened.filter_map(|(_, operation)| match operation.outcome() {
        Outcome::Acknowledged(receipt) => receipt.account,
        _ => None,
    });
    numbers.take(2).collect()
}

/// A well-formed number in the same slot that nobody has.
fn unknown(account: &str) -> String {
    let number: dujiang_routing::AccountNumber = account.parse().unwrap();
    dujiang_routing::AccountNumber::new(number.slot(), dujiang_routing::account::SERIAL_LIMIT - 1)
        .unwrap()
        .to_string()
}
