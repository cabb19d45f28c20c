//! Clients that mean harm: smuggling, garbage, slowness, size.

use std::time::Duration;

use dujiang_types::Code;
use tokio::io::AsyncWriteExt;

use crate::support::{Instance, Raw, World, get, post, table, until};

/// What is refused with 400 and a problem, and must never reach an instance.
const AMBIGUOUS: &[(&str, &str)] = &[
    (
        "two lengths that differ",
        "POST /x HTTP/1.1\r\nHost: b\r\nx-customer: c1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    ),
    ("length list", "POST /x HTTP/1.1\r\nHost: b\r\nx-customer: c1\r\nContent-Length: 3, 3\r\n\r\nabc"),
    ("signed length", "POST /x HTTP/1.1\r\nHost: b\r\nx-customer: c1\r\nContent-Length: +3\r\n\r\nabc"),
    ("negative length", "POST /x HTTP/1.1\r\nHost: b\r\nx-customer: c1\r\nContent-Length: -3\r\n\r\nabc"),
    ("hexadecimal length", "POST /x HTTP/1.1\r\nHost: b\r\nx-customer: c1\r\nContent-Length: 0x3\r\n\r\nabc"),
    (
        "endless length",
        "POST /x HTTP/1.1\r\nHost: b\r\nx-customer: c1\r\nContent-Length: 99999999999999999999999\r\n\r\nabc",
    ),
    ("empty length", "POST /x HTTP/1.1\r\nHost: b\r\nx-customer: c1\r\nContent-Length: \r\n\r\nabc"),
    (
        "unknown coding",
        "POST /x HTTP/1.1\r\nHost: b\r\nx-customer: c1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "two codings",
        "POST /x HTTP/1.1\r\nHost: b\r\nx-customer: c1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "coding twice",
        "POST /x HTTP/1.1\r\nHost: b\r\nx-customer: c1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "coding, then identity",
        "POST /x HTTP/1.1\r\nHost: b\r\nx-customer: c1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    ),
    (
        "coding with a tab",
        "POST /x HTTP/1.1\r\nHost: b\r\nx-customer: c1\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "coding in HTTP/1.0",
        "POST /x HTTP/1.0\r\nHost: b\r\nx-customer: c1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "space before a colon",
        "POST /x HTTP/1.1\r\nHost: b\r\nx-customer: c1\r\nContent-Length : 3\r\n\r\nabc",
    ),
    ("space before a name", "GET /x HTTP/1.1\r\nHost: b\r\n x-customer: c1\r\n\r\n"),
    ("folded line", "GET /x HTTP/1.1\r\nHost: b\r\nx-customer: c1\r\n c2\r\n\r\n"),
    (
        "folded coding",
        "POST /x HTTP/1.1\r\nHost: b\r\nx-customer: c1\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    ),
    ("bare carriage return", "GET /x HTTP/1.1\r\nHost: b\r\nx-customer: c1\rX: y\r\n\r\n"),
    ("zero byte", "GET /x HTTP/1.1\r\nHost: b\r\nx-customer: c\x001\r\n\r\n"),
    ("zero byte in a name", "GET /x HTTP/1.1\r\nHost: b\r\nx-cust\x00omer: c1\r\n\r\n"),
    ("empty name", "GET /x HTTP/1.1\r\nHost: b\r\nx-customer: c1\r\n: x\r\n\r\n"),
    ("line without a colon", "GET /x HTTP/1.1\r\nHost: b\r\nx-customer: c1\r\nnonsense\r\n\r\n"),
    ("no host", "GET /x HTTP/1.1\r\nx-customer: c1\r\n\r\n"),
    ("two hosts", "GET /x HTTP/1.1\r\nHost: b\r\nHost: evil\r\nx-customer: c1\r\n\r\n"),
    ("host with a path", "GET /x HTTP/1.1\r\nHost: b/../evil\r\nx-customer: c1\r\n\r\n"),
    ("another host in the target", "GET http://evil/x HTTP/1.1\r\nHost: b\r\nx-customer: c1\r\n\r\n"),
    ("spaces in the target", "GET /x y HTTP/1.1\r\nHost: b\r\nx-customer: c1\r\n\r\n"),
    ("asterisk", "OPTIONS * HTTP/1.1\r\nHost: b\r\nx-customer: c1\r\n\r\n"),
    ("authority as target", "GET evil:80 HTTP/1.1\r\nHost: b\r\nx-customer: c1\r\n\r\n"),
    ("two customers", "GET /x HTTP/1.1\r\nHost: b\r\nx-customer: c1\r\nX-Customer: c2\r\n\r\n"),
    ("unknown version", "GET /x HTTP/3.0\r\nHost: b\r\nx-customer: c1\r\n\r\n"),
    ("HTTP/0.9", "GET /x\r\n\r\n"),
    ("TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\x7f\x03\x03"),
    ("garbage", "\u{fffd}\u{fffd}\u{1}\u{2}\r\n\r\n"),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_could_be_read_in_two_ways_is_refused_and_reaches_nobody() {
    let instance = Instance::ok().await;
    let world = World::start(table(1, &[instance.address])).await;
    for (name, bytes) in AMBIGUOUS {
        let mut client = Raw::connect(world.clients()).await;
        client.send(bytes).await;
        let answer = client.answer(false).await.unwrap_or_else(|| panic!("{name}: no answer"));
        let code = answer.code();
        assert!(
            matches!((answer.status, code), (400, Some(Code::RequestInvalid | Code::RoutingKeyMissing))),
            "{name}: {answer:?}"
        );
        assert_eq!(instance.seen().len(), 0, "{name}");
    }
    // To a client of HTTP/2 hyper says nothing, since it would not understand.
    let mut client = Raw::connect(world.clients()).await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(client.is_closed().await);
    let mut client = Raw::connect(world.clients()).await;
    assert_eq!(client.ask(&get("/x", "c1")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_chunks_are_refused_and_reach_nobody() {
    let instance = Instance::ok().await;
    let world = World::start(table(1, &[instance.address])).await;
    for body in [
        "x\r\n",
        "-1\r\nabc\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
        "FFFFFFFFFFFFFFFFF\r\nabc",
        "3 \rx\nabc",
        "0\r\nbad trailer\0\r\n\r\n",
    ] {
        let mut client = Raw::connect(world.clients()).await;
        client
            .send("POST /x HTTP/1.1\r\nhost: b\r\nx-customer: c1\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        client.send(body).await;
        // hyper ends some of these connections without a word, which is as good a refusal.
        if let Some(answer) = client.answer(false).await {
            assert_eq!(answer.code(), Some(Code::RequestInvalid), "{body:?}: {answer:?}");
        }
        assert_eq!(instance.seen().len(), 0, "{body:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_beside_a_coding_never_splits_a_request() {
    let instance = Instance::ok().await;
    let world = World::start(table(1, &[instance.address])).await;
    let smuggled = get("/smuggled", "c1");
    for order in
        ["content-length: 6\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 6"]
    {
        let mut client = Raw::connect(world.clients()).await;
        client
            .send(format!(
                "POST /x HTTP/1.1\r\nhost: b\r\nx-customer: c1\r\n{order}\r\n\r\n0\r\n\r\n{smuggled}"
            ))
            .await;
        let answer = client.answer(false).await;
        // By the standard the coding counts, and the connection ends so that nothing behind it is believed.
        assert!(
            answer.is_none_or(|answer| answer.status == 200 || answer.code() == Some(Code::RequestInvalid))
        );
        assert!(client.is_closed().await);
    }
    assert!(instance.seen().iter().all(|seen| seen.line() == "POST /x HTTP/1.1" && seen.body.is_empty()));
    assert!(instance.seen().iter().all(|seen| seen.header("transfer-encoding").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_request_behind_a_good_one_is_refused_alone() {
    let instance = Instance::ok().await;
    let world = World::start(table(1, &[instance.address])).await;
    let mut client = Raw::connect(world.clients()).await;
    client.send(format!("{}GARBAGE\r\n\r\n", get("/x", "c1"))).await;
    assert_eq!(client.answer(false).await.unwrap().status, 200);
    let answer = client.answer(false).await.unwrap();
    assert_eq!((answer.code(), answer.header("connection")), (Some(Code::RequestInvalid), Some("close")));
    assert!(client.is_closed().await);
    world.metric_reaches("dujiang_gateway_malformed_requests_total", 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn huge_heads_and_bodies_are_refused_with_a_problem() {
    let instance = Instance::ok().await;
    let world = World::start(table(1, &[instance.address])).await;
    let long = "a".repeat(100 << 10);
    let many = "x: y\r\n".repeat(1000);
    for (request, statuses) in [
        (get("/x", "c1").replace("host", &format!("x-long: {long}\r\nhost")), &[431][..]),
        (get("/x", "c1").replace("host", &format!("{many}host")), &[431]),
        (get(&format!("/{long}"), "c1"), &[431, 414]),
        (long.clone(), &[431, 400]),
    ] {
        let mut client = Raw::connect(world.clients()).await;
        client.send(&request).await;
        let answer = client.answer(false).await.expect("a refusal");
        assert!(statuses.contains(&answer.status), "{answer:?}");
        assert!(answer.code().is_some());
    }
    let mut client = Raw::connect(world.clients()).await;
    client.send(post("/x", "c1", None, "").replace("content-length: 0", "content-length: 9000000")).await;
    client.send(vec![b'x'; 300_000]).await;
    assert_eq!(client.answer(false).await.unwrap().code(), Some(Code::RequestTooLarge));
    // Without a length it shows while it comes.
    let mut client = Raw::connect(world.clients()).await;
    client.send("POST /x HTTP/1.1\r\nhost: b\r\nx-customer: c1\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let (mut reader, mut writer) = tokio::io::split(client.stream);
    let endless = tokio::spawn(async move {
        let chunk = [b"10000\r\n".as_slice(), &vec![b'x'; 0x10000], b"\r\n"].concat();
        while writer.write_all(&chunk).await.is_ok() {}
    });
    let mut text = String::new();
    let _ = tokio::time::timeout(
        crate::support::PATIENCE,
        tokio::io::AsyncReadExt::read_to_string(&mut reader, &mut text),
    )
    .await
    .unwrap();
    assert!(text.contains("request.too_large"), "{text}");
    endless.await.unwrap();
    assert!(instance.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_shown_out_and_others_do_not_suffer() {
    let instance = Instance::ok().await;
    let world = World::start_with(table(1, &[instance.address]), |options| {
        options.limits.header_read_max = Duration::from_millis(500);
        options.limits.body_read_max = Duration::from_millis(500);
        options.limits.idle_max = Duration::from_secs(2);
        options.limits.stall_max = Duration::from_millis(700);
        options.limits.connections_max = 400;
    })
    .await;
    // Half a head, dripping.
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut client = Raw::connect(world.clients()).await;
        client.send("GET /x HTTP/1.1\r\nhost: b\r\nx-cust").await;
        slow.push(client);
    }
    // Half a body.
    let mut half = Raw::connect(world.clients()).await;
    half.send(post("/x", "c1", None, "").replace("content-length: 0", "content-length: 5")).await;
    half.send("12").await;
    // Half a large body, which is on its way to the instance already.
    let mut large = Raw::connect(world.clients()).await;
    large.send(post("/x", "c1", None, "").replace("content-length: 0", "content-length: 100000")).await;
    large.send("12").await;
    // Nothing at all.
    let mut silent = Raw::connect(world.clients()).await;
    let mut good = Raw::connect(world.clients()).await;
    for _ in 0..20 {
        assert_eq!(good.ask(&get("/x", "c1")).await.status, 200);
    }
    for client in &mut slow {
        let answer = client.answer(false).await.expect("a word of goodbye");
        assert_eq!((answer.status, answer.code()), (408, Some(Code::RequestIncomplete)));
        assert!(client.is_closed().await);
    }
    let answer = half.answer(false).await.unwrap();
    assert_eq!((answer.status, answer.code()), (408, Some(Code::RequestIncomplete)));
    if let Some(answer) = large.answer(false).await {
        assert!(answer.code().is_some(), "{answer:?}");
    }
    assert!(silent.answer(false).await.is_none_or(|answer| answer.status == 408));
    assert_eq!(good.ask(&get("/x", "c1")).await.status, 200, "who is only idle may stay longer");
    assert!(good.is_closed().await, "but not for ever");
    assert!(instance.seen().iter().all(|seen| seen.line().starts_with("GET")));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded_and_idlers_make_room() {
    let instance = Instance::ok().await;
    let world = World::start_with(table(1, &[instance.address]), |options| {
        options.threads = 1;
        options.limits.connections_max = 10;
    })
    .await;
    let mut idlers = Vec::new();
    for _ in 0..10 {
        let mut client = Raw::connect(world.clients()).await;
        assert_eq!(client.ask(&get("/x", "c1")).await.status, 200);
        idlers.push(client);
    }
    for _ in 0..10 {
        let mut client = Raw::connect(world.clients()).await;
        assert_eq!(client.ask(&get("/x", "c1")).await.status, 200);
        idlers.push(client);
    }
    world.metric_reaches("dujiang_gateway_client_connections_accepted_total", 20.0).await;
    assert!(world.metric("dujiang_gateway_client_connections").await <= 10.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_bounded_under_a_thousand_slow_clients() {
    let instance = Instance::ok().await;
    let world = World::start(table(1, &[instance.address])).await;
    let before = resident_bytes();
    let mut slow = Vec::new();
    let padding = "x".repeat(15 << 10);
    for n in 0..1000 {
        let mut client = Raw::connect(world.clients()).await;
        if n % 2 == 0 {
            client.send(format!("GET /x HTTP/1.1\r\nhost: b\r\nx-padding: {padding}")).await;
        } else {
            client
                .send(post("/x", "c1", None, "").replace("content-length: 0", "content-length: 60000"))
                .await;
            client.send(vec![b'x'; 50_000]).await;
        }
        slow.push(client);
    }
    world.metric_reaches("dujiang_gateway_client_connections", 1000.0).await;
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 200 << 20, "{} MiB for 1000 slow clients", grown >> 20);
    let mut good = Raw::connect(world.clients()).await;
    assert_eq!(good.ask(&get("/x", "c1")).await.status, 200);
    drop(slow);
    until("they are gone", || instance.seen().len() == 1).await;
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_listener_takes_garbage_too() {
    let world = World::start(table(1, &[])).await;
    let admin = world.gateway().addresses().admin;
    for bytes in [
        "GARBAGE\r\n\r\n",
        "\x16\x03\x01",
        "GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST /metrics HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        let mut client = Raw::connect(admin).await;
        client.send(bytes).await;
        client.stream.shutdown().await.unwrap();
        if let Some(answer) = client.answer(false).await {
            assert!(answer.status >= 400);
        }
    }
    let ready = crate::support::admin_client().get(format!("https://{admin}/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 200);
}
