//! Whatever is sent: a clear refusal, no panic, and the next request is served.

use std::time::Duration;

use dujiang_types::Code;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::plane::{DEADLINE, Plane, data_center, problem, unit};

/// Documents that are wrong for every endpoint that takes one.
fn bodies() -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = [
        "",
        " ",
        "{",
        "}",
        "null",
        "true",
        "0",
        "-1",
        "1e999",
        "\"\"",
        "[]",
        "[[[[",
        "{}",
        "{\"spec\":null}",
        "{\"spec\":{}}",
        "{\"spec\":[]}",
        "{\"spec\":{\"port\":-1}}",
        "{\"spec\":{\"port\":65536}}",
        "{\"a\":1,\"a\":2}",
        "{\"work\":{\"name\":\"move\"},\"asked_by\":\"x\"}",
        "{\"work\":{\"name\":\"explode\"},\"asked_by\":\"x\"}",
        "{\"dc\":\"a\",\"session\":1}",
        "{\"report\":{\"table\":-1,\"in_flight\":{},\"held\":{}}}",
        "{\"to\":\"../../etc\",\"asked_by\":\"x\"}",
        "{\"\\ud800\":1}",
        "{\"labels\":{\"a\":1},\"spec\":{}}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    bodies.push(vec![0xFF, 0xFE, 0x00]);
    bodies.push(vec![b'['; 100_000]);
    bodies.push("{\"spec\":".repeat(50_000).into_bytes());
    bodies
}

#[tokio::test]
async fn wrong_documents_are_refused_everywhere() {
    let plane = Plane::with_platform().await;
    let targets = [
        (Method::PUT, "/v1/datacenters/x"),
        (Method::PUT, "/v1/applications/x"),
        (Method::PUT, "/v1/units/x"),
        (Method::POST, "/v1/operations"),
        (Method::POST, "/v1/operations/move-1/approve"),
        (Method::POST, "/v1/agents/a/report"),
        (Method::POST, "/v1/gateways/a/report"),
    ];
    for (method, path) in &targets {
        for body in bodies() {
            let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
            let request = plane.request(method.clone(), path).header("content-type", "application/json");
            let problem = problem(request.body(body).send().await.unwrap()).await;
            assert!(
                [Code::RequestInvalid, Code::NotFound].contains(&problem.code),
                "{path} {shown}: {problem}"
            );
            assert!(problem.detail.len() < 2_000, "{path} {shown}");
        }
    }
    assert_eq!(plane.get("/v1/units").await["items"], json!([]));
}

#[tokio::test]
async fn reports_are_taken_only_from_data_centers_that_exist_and_about_themselves() {
    let plane = Plane::with_platform().await;
    let report = |dc: &str, session: &str| json!({"dc": dc, "session": session, "sequence": 1, "units": {}, "instances": {}, "renew": {"unit-1": 1}});
    let post =
        async |path: &str, body: &Value| plane.request(Method::POST, path).json(body).send().await.unwrap();
    assert_eq!(problem(post("/v1/agents/z/report", &report("z", "s")).await).await.code, Code::NotFound);
    assert_eq!(
        problem(post("/v1/agents/a/report", &report("b", "s")).await).await.code,
        Code::RequestInvalid
    );
    assert_eq!(problem(post("/v1/agents/a/report", &report("a", "")).await).await.code, Code::RequestInvalid);
    let reply: Value = post("/v1/agents/a/report", &report("a", "s")).await.json().await.unwrap();
    assert_eq!(reply["leases"], json!({}), "there is no such unit");

    plane.put("/v1/units/unit-1", &unit("0-9", 5401, "zero")).await;
    // The follower learns of the unit a moment later; from then on its home is granted what it asks for.
    let granted = async {
        for sequence in 2.. {
            let mut body = report("a", "s");
            body["sequence"] = json!(sequence);
            let reply: Value = post("/v1/agents/a/report", &body).await.json().await.unwrap();
            if reply["leases"]["unit-1"]["epoch"] == 1 {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, granted).await.unwrap();
    let overtaken: Value = post("/v1/agents/a/report", &report("a", "s")).await.json().await.unwrap();
    assert_eq!(overtaken["leases"], json!({}), "an overtaken report is granted nothing");
    let other: Value = post("/v1/agents/b/report", &report("b", "s")).await.json().await.unwrap();
    assert_eq!(other["leases"], json!({}), "it is not the home");
}

#[tokio::test]
async fn bodies_are_bounded_and_typed() {
    let plane = Plane::start().await;
    let put = || plane.request(Method::PUT, "/v1/datacenters/a");
    let json = |body: Vec<u8>| put().header("content-type", "application/json").body(body);
    let large = problem(json(vec![b' '; 1024 * 1024 + 1]).send().await.unwrap()).await;
    assert_eq!(large.code, Code::RequestTooLarge);
    let untyped = problem(put().body(data_center(11).to_string()).send().await.unwrap()).await;
    assert!(untyped.detail.contains("application/json"), "{untyped}");
    let mut padded = data_center(11).to_string().into_bytes();
    padded.resize(1024 * 1024, b' ');
    assert_eq!(json(padded).send().await.unwrap().status(), 201, "up to the limit is taken");
}

/// Sends bytes and returns all that comes back until the server closes or the time is over.
async fn raw(plane: &Plane, bytes: &[u8]) -> String {
    let mut stream = plane.connect().await;
    // The server may answer and close before it has taken everything.
    drop(stream.write_all(bytes).await);
    let mut answer = Vec::new();
    drop(tokio::time::timeout(Duration::from_millis(500), stream.read_to_end(&mut answer)).await);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn malformed_http_is_refused_and_the_server_serves_on() {
    let plane = Plane::start().await;
    let huge_header = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(200_000));
    let many_headers = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{}\r\n", "a: b\r\n".repeat(500));
    let long_path = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000));
    let corpus: Vec<&[u8]> = vec![
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        b"POST /v1/operations HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/operations HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /v1/operations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        huge_header.as_bytes(),
        many_headers.as_bytes(),
        long_path.as_bytes(),
    ];
    for bytes in corpus {
        let answer = raw(&plane, bytes).await;
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{shown:?}: {answer}");
        assert_eq!(
            plane.request(Method::GET, "/healthz").send().await.unwrap().status(),
            200,
            "after {shown:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stalls_is_cut_off() {
    let plane = Plane::start().await;
    let mut body = data_center(11);
    // Large enough that a few changes fill the buffers of the connection.
    body["labels"] = (0..60).map(|n| (format!("{n}{}", "k".repeat(200)), json!("v".repeat(250)))).collect();
    plane.put("/v1/datacenters/a", &body).await;
    let mut stalled = plane.connect().await;
    stalled.write_all(b"GET /v1/watch HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let metric = async |name: &str| -> u64 {
        let text = plane.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let cut = async {
        while metric("dujiang_control_watches").await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for round in 0.. {
            body["spec"]["gateway"]["threads"] = json!(1 + round % 2);
            plane.put("/v1/datacenters/a", &body).await;
            if metric("dujiang_control_watches").await == 0 {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, cut).await.expect("cut before the deadline");
}
