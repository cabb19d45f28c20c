//! HTTP itself: bodies, lengths, connections, and both ends leaving at any moment.

use std::sync::Arc;
use std::time::Duration;

use dujiang_types::Code;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

use dujiang_identity::{Acceptor, Expect, Role};

use crate::support::{Act, Instance, PATIENCE, Raw, World, authority, get, post, table, until};

const HEAD: &str = "HTTP/1.1 200 OK\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn answers_pass_whatever_their_form() {
    let instance = Instance::start(|seen, _| match seen.line().split(' ').nth(1).unwrap() {
        "/length" => Act::bytes("HTTP/1.1 201 Made\r\ncontent-length: 5\r\netag: \"1\"\r\n\r\nhello"),
        "/chunked" => Act::bytes("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n3;e=1\r\nabc\r\n4\r\ndefg\r\n0\r\nx: y\r\n\r\n"),
        "/none" => Act::bytes("HTTP/1.1 204 No Content\r\n\r\n"),
        "/same" => Act::bytes("HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\ncontent-length: 9\r\n\r\n"),
        "/head" => Act::bytes("HTTP/1.1 200 OK\r\ncontent-length: 123\r\n\r\n"),
        "/early" => Act::bytes("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
        "/empty" => Act::bytes("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive, x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n\r\n"),
        other => panic!("{other}"),
    })
    .await;
    let world = World::start(table(1, &[instance.address])).await;
    let mut client = Raw::connect(world.clients()).await;
    let answer = client.ask(&get("/length", "c1")).await;
    assert_eq!((answer.status, answer.text(), answer.header("etag")), (201, "hello", Some("\"1\"")));
    let answer = client.ask(&get("/chunked", "c1")).await;
    assert_eq!(
        (answer.text(), answer.header("transfer-encoding"), answer.header("trailer")),
        ("abcdefg", Some("chunked"), None)
    );
    assert_eq!(client.ask(&get("/none", "c1")).await.status, 204);
    let answer = client.ask(&get("/same", "c1")).await;
    assert_eq!((answer.status, answer.header("etag")), (304, Some("\"1\"")));
    let answer = client.ask(&get("/head", "c1").replace("GET", "HEAD")).await;
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("123")));
    assert_eq!(client.ask(&get("/early", "c1")).await.text(), "ok");
    let answer = client.ask(&get("/empty", "c1")).await;
    assert_eq!((answer.header("x-hop"), answer.header("keep-alive"), answer.text()), (None, None, ""));
    // The gateway's own refusal has no body either, or the next answer would be out of step.
    let refused = client.ask("HEAD /x HTTP/1.1\r\nhost: b\r\n\r\n").await;
    assert_eq!((refused.status, refused.header("content-type")), (400, Some("application/problem+json")));
    assert_eq!(client.ask(&get("/none", "c1")).await.status, 204);
    assert_eq!(instance.connections(), 1, "all over one kept connection");
    assert_eq!(instance.seen().len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_on_both_sides_and_pipelining_works() {
    let instance = Instance::start(|seen, _| {
        Act::Bytes(format!("{HEAD}content-length: {}\r\n\r\n{}", seen.line().len(), seen.line()).into_bytes())
    })
    .await;
    let world = World::start(table(1, &[instance.address])).await;
    let mut client = Raw::connect(world.clients()).await;
    let all: String = (0..50)
        .map(|n| {
            if n % 3 == 0 { post(&format!("/{n}"), "c1", None, "body") } else { get(&format!("/{n}"), "c1") }
        })
        .collect();
    client.send(all).await;
    for n in 0..50 {
        let answer = client.answer(false).await.unwrap();
        assert!(answer.text().ends_with(&format!(" /{n} HTTP/1.1")), "{}", answer.text());
    }
    assert_eq!(instance.connections(), 1);
    // HTTP/1.0 and "connection: close" end it.
    let answer = client.ask(&get("/x", "c1").replace("host", "connection: close\r\nhost")).await;
    assert_eq!(answer.status, 200);
    assert!(client.is_closed().await);
    let mut client = Raw::connect(world.clients()).await;
    assert_eq!(client.ask("GET /x HTTP/1.0\r\nx-customer: c1\r\n\r\n").await.status, 200);
    assert!(client.is_closed().await);
    assert_eq!(instance.last().line(), "GET /x HTTP/1.1");
    assert_eq!(instance.last().header("host"), Some(""));
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_reach_the_instance_whole() {
    let instance = Instance::ok().await;
    let world = World::start(table(1, &[instance.address])).await;
    for size in [0, 1, 100, 16 << 10, (64 << 10) - 1, 64 << 10, (64 << 10) + 1, 1 << 20, 8 << 20] {
        let body: String = (0..size).map(|n| char::from(b'a' + u8::try_from(n % 23).unwrap())).collect();
        let mut client = Raw::connect(world.clients()).await;
        assert_eq!(client.ask(&post("/sized", "c1", None, &body)).await.status, 200, "{size}");
        let seen = instance.last();
        assert!(
            seen.body == body.as_bytes() && seen.header("content-length") == Some(&size.to_string()),
            "{size}"
        );
        // The same in chunks of odd sizes.
        client
            .send("POST /chunked HTTP/1.1\r\nhost: b\r\nx-customer: c1\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        for chunk in body.as_bytes().chunks(70_001) {
            client.send([format!("{:X}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat()).await;
        }
        client.send("0\r\ntrailer: dropped\r\n\r\n").await;
        assert_eq!(client.answer(false).await.unwrap().status, 200, "{size}");
        let seen = instance.last();
        assert!(seen.line().contains("/chunked") && seen.body == body.as_bytes(), "{size}");
        let streamed = size > 64 << 10;
        assert_eq!(seen.header("transfer-encoding"), streamed.then_some("chunked"), "{size}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_pass_whole_to_slow_readers() {
    let body: Arc<Vec<u8>> = Arc::new((0..20 << 20).map(|n: u32| n.to_le_bytes()[1]).collect());
    let sent = body.clone();
    let instance = Instance::start(move |seen, _| {
        let mut bytes = HEAD.as_bytes().to_vec();
        if seen.line().contains("chunked") {
            bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
            for chunk in sent.chunks(100_003) {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        } else {
            bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", sent.len()).as_bytes());
            bytes.extend_from_slice(&sent);
        }
        Act::Bytes(bytes)
    })
    .await;
    let world = World::start(table(1, &[instance.address])).await;
    for path in ["/sized", "/chunked"] {
        let mut client = Raw::connect(world.clients()).await;
        client.send(get(path, "c1")).await;
        tokio::time::sleep(Duration::from_millis(100)).await; // the way is clogged meanwhile
        let answer = client.answer(false).await.unwrap();
        assert!(answer.body == *body, "{path}");
        assert_eq!(client.ask(&get(path, "c1")).await.body.len(), body.len(), "the connection is in step");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_cut_short_is_never_taken_for_a_whole_one() {
    let cut = [
        format!("{HEAD}content-length: 100\r\n\r\nonly a part"),
        format!("{HEAD}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        format!("{HEAD}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"),
        format!("{HEAD}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense\r\n"),
    ];
    for bytes in cut {
        let act = Act::BytesThenClose(bytes.clone().into_bytes());
        let instance = Instance::start(move |_, _| act.clone()).await;
        let world = World::start(table(1, &[instance.address])).await;
        let mut client = Raw::connect(world.clients()).await;
        client.send(get("/x", "c1")).await;
        assert_eq!(client.answer(false).await, None, "{bytes}");
        // A client of the old protocol tells the end of an answer only by the end of the connection: it is reset.
        let mut client = Raw::connect(world.clients()).await;
        client.send("GET /x HTTP/1.0\r\nx-customer: c1\r\n\r\n").await;
        let mut all = Vec::new();
        let read = tokio::time::timeout(PATIENCE, client.stream.read_to_end(&mut all)).await.unwrap();
        let claims_length = String::from_utf8_lossy(&all).contains("content-length: 100");
        assert!(read.is_err() || claims_length, "{bytes}: {:?}", String::from_utf8_lossy(&all));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn continue_is_said_when_the_body_is_wanted_and_only_then() {
    let instance = Instance::ok().await;
    let world =
        World::start_with(table(1, &[instance.address]), |options| options.limits.body_bytes_max = 1000)
            .await;
    let head = |length: usize| {
        post("/x", "c1", None, "")
            .replace("content-length: 0", &format!("content-length: {length}\r\nexpect: 100-continue"))
    };
    let mut client = Raw::connect(world.clients()).await;
    client.send(head(4)).await;
    assert_eq!(client.answer(true).await.unwrap().status, 100);
    client.send("body").await;
    assert_eq!(client.answer(false).await.unwrap().status, 200);
    assert_eq!((instance.last().header("expect"), &instance.last().body[..]), (None, &b"body"[..]));
    let answer = client.ask(&head(1001)).await;
    assert_eq!((answer.status, answer.code()), (413, Some(Code::RequestTooLarge)));
    let mut client = Raw::connect(world.clients()).await;
    assert_eq!(
        client.ask(&head(4).replace("x-customer", "x-nobody")).await.code(),
        Some(Code::RoutingKeyMissing)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_before_the_end_of_the_body_passes() {
    // The instance refuses after the head, without reading the body.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let identity = authority().identity("dc/a/application/bank");
    let acceptor = Acceptor::new(&identity, Expect::roles(&[Role::Gateway])).unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let (mut stream, _) = acceptor.accept(stream).await.unwrap();
                let mut buffer = vec![0; 1024];
                let _ = stream.read(&mut buffer).await;
                let ready = buffer.starts_with(b"GET /readyz");
                let answer: &[u8] = if ready {
                    b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
                } else {
                    b"HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno"
                };
                let _ = stream.write_all(answer).await;
                let _ = stream.flush().await;
                tokio::time::sleep(PATIENCE).await;
            });
        }
    });
    let world = World::start(table(1, &[address])).await;
    let mut client = Raw::connect(world.clients()).await;
    client.send(post("/x", "c1", None, "").replace("content-length: 0", "content-length: 8000000")).await;
    client.send(vec![b'x'; 100_000]).await;
    let answer = client.answer(false).await.unwrap();
    assert_eq!((answer.status, answer.text()), (403, "no"));
    assert!(client.is_closed().await, "it is not in step any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_takes_its_request_along() {
    let gate = Arc::new(Semaphore::new(0));
    let instance = Instance::start(move |_, _| Act::Wait(gate.clone())).await;
    let world = World::start(table(1, &[instance.address])).await;
    // In the middle of a small body: the instance never hears of it.
    let mut client = Raw::connect(world.clients()).await;
    client.send(post("/half", "c1", None, "").replace("content-length: 0", "content-length: 10")).await;
    client.send("12345").await;
    drop(client);
    // In the middle of a large one: the instance sees it broken off, never as a whole.
    let mut client = Raw::connect(world.clients()).await;
    client.send(post("/large", "c1", None, "").replace("content-length: 0", "content-length: 1000000")).await;
    client.send(vec![b'x'; 500_000]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(client);
    until("it is broken off", || instance.broken_off() == 1).await;
    assert!(instance.seen().is_empty());
    // While waiting for the answer.
    let mut client = Raw::connect(world.clients()).await;
    client.send(get("/x", "c1")).await;
    until("it is under way", || instance.seen().len() == 1).await;
    drop(client);
    let deadline = std::time::Instant::now() + PATIENCE;
    while world.metric("dujiang_gateway_in_flight_requests").await > 0.0 {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_is_not_made_but_the_request_is_served() {
    let instance = Instance::ok().await;
    let world = World::start(table(1, &[instance.address])).await;
    let mut client = Raw::connect(world.clients()).await;
    let request =
        get("/x", "c1").replace("host", "connection: upgrade\r\nupgrade: h2c\r\nhttp2-settings: AAA\r\nhost");
    assert_eq!(client.ask(&request).await.status, 200);
    assert_eq!((instance.last().header("upgrade"), instance.last().header("connection")), (None, None));
    assert_eq!(client.ask(&get("/y", "c1")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_has_a_line_for_each_request() {
    let instance = Instance::ok().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log/access.log");
    let mut world = World::start_with(table(1, &[instance.address]), |options| {
        options.access_log = dujiang_gateway::AccessLog::File(path.clone());
    })
    .await;
    let mut client = Raw::connect(world.clients()).await;
    client.ask(&get("/x?secret=1", "c1")).await;
    client.ask("GET /x HTTP/1.1\r\nhost: b\r\n\r\n").await;
    world.gateway.take().unwrap().stop();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        (&lines[0]["status"], &lines[0]["path"], &lines[0]["attempts"]),
        (&200.into(), &"/x".into(), &1.into())
    );
    assert_eq!((&lines[1]["status"], &lines[1]["unit"]), (&400.into(), &serde_json::Value::Null));
}
