//! What is repeated and what is not, counted where it is executed.

use std::sync::Arc;
use std::time::Duration;

use dujiang_types::Code;
use tokio::sync::Semaphore;

use crate::support::{Act, Instance, Raw, World, customer, dc, get, post, table, until};

/// Breaks the first exchange, then behaves.
async fn breaks_once(first: Act) -> Instance {
    Instance::start(move |_, before| if before == 0 { first.clone() } else { Act::Ok("again") }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_exchange_is_repeated_if_it_reads_or_has_a_key() {
    let cut = [
        Act::Close,
        Act::BytesThenClose(b"HTTP/1.1 200 OK\r\ncontent-le".to_vec()),
        Act::bytes("NOT HTTP\r\n\r\n"),
        Act::bytes("HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        Act::BytesThenClose(b"HTTP/1.1 200 OK\r\n\r\nends with the connection".to_vec()),
    ];
    for act in cut {
        for request in [get("/read", "c1"), post("/pay", "c1", Some("k1"), "pay")] {
            let instance = breaks_once(act.clone()).await;
            let world = World::start(table(1, &[instance.address])).await;
            let answer = Raw::connect(world.clients()).await.ask(&request).await;
            assert_eq!((answer.status, answer.text()), (200, "again"), "{act:?}");
            let seen = instance.seen();
            assert_eq!((seen.len(), &seen[0].body), (2, &seen[1].body));
            assert_eq!(seen[0].header("idempotency-key"), seen[1].header("idempotency-key"));
        }
        let instance = breaks_once(act.clone()).await;
        let world = World::start(table(1, &[instance.address])).await;
        let answer = Raw::connect(world.clients()).await.ask(&post("/pay", "c1", None, "pay")).await;
        assert_eq!(answer.code(), Some(Code::OutcomeUnknown), "{act:?}");
        assert_eq!(instance.seen().len(), 1, "a write without a key is sent once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_over_a_connection_that_was_closed_meanwhile_is_executed_once() {
    // The instance ends every connection after its answer without saying so.
    let instance = Instance::start(|_, _| {
        Act::BytesThenClose(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec())
    })
    .await;
    let world = World::start(table(1, &[instance.address])).await;
    let mut client = Raw::connect(world.clients()).await;
    let (mut served, mut unknown) = (0, 0);
    for n in 0..100 {
        let key = format!("k{n}");
        let answer = client.ask(&post("/pay", "c1", (n % 2 == 0).then_some(&key[..]), "x")).await;
        match (answer.status, answer.code()) {
            (200, _) => served += 1,
            // The close crossed the request; nothing can be known, and nothing may be repeated.
            (504, Some(Code::OutcomeUnknown)) if n % 2 == 1 => unknown += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(served >= 90, "{served} served, {unknown} unknown");
    let bodies = instance.seen().len();
    assert!(
        bodies >= served && bodies <= served + unknown,
        "{bodies} executed, {served} served, {unknown} unknown"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn once_something_may_have_been_done_nobody_says_that_nothing_was() {
    // The first attempt breaks; afterwards the unit is not served any more.
    let instance =
        Instance::start(
            |_, before| if before == 0 { Act::Close } else { Act::Problem(Code::UnitUnavailable) },
        )
        .await;
    let world =
        World::start_with(table(1, &[instance.address]), |o| o.limits.hold_max = Duration::from_millis(300))
            .await;
    let mut client = Raw::connect(world.clients()).await;
    let answer = client.ask(&post("/pay", "c1", Some("k"), "x")).await;
    assert_eq!((answer.status, answer.code()), (504, Some(Code::OutcomeUnknown)));
    assert!(instance.seen().len() > 2);
    // About a read everything is known.
    let instance = Instance::start(|_, _| Act::Close).await;
    let world =
        World::start_with(table(1, &[instance.address]), |o| o.limits.hold_max = Duration::from_millis(300))
            .await;
    let mut client = Raw::connect(world.clients()).await;
    assert_eq!(client.ask(&get("/x", "c1")).await.code(), Some(Code::UnitUnavailable));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_waits_for_the_first_attempt_to_end() {
    // The first attempt goes on after its connection broke; the second one finds it at work.
    let instance = Instance::start(|_, before| match before {
        0 => Act::Close,
        1 | 2 => Act::Problem(Code::IdempotencyInProgress),
        3 => Act::Problem(Code::OutcomeUnknown),
        _ => Act::Ok("first outcome"),
    })
    .await;
    let world = World::start(table(1, &[instance.address])).await;
    let mut client = Raw::connect(world.clients()).await;
    assert_eq!(client.ask(&post("/pay", "c1", Some("k"), "x")).await.text(), "first outcome");
    assert_eq!(instance.seen().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_says_nothing_is_given_up() {
    let gate = Arc::new(Semaphore::new(0));
    let instance = Instance::start(move |_, _| Act::Wait(gate.clone())).await;
    let world = World::start_with(table(1, &[instance.address]), |options| {
        options.limits.first_byte_max = Duration::from_millis(300);
        options.limits.hold_max = Duration::from_millis(300);
    })
    .await;
    let mut client = Raw::connect(world.clients()).await;
    let answer = client.ask(&post("/pay", "c1", None, "x")).await;
    assert_eq!((answer.status, answer.code()), (504, Some(Code::OutcomeUnknown)));
    assert_eq!(instance.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_is_streamed_and_never_repeated() {
    let body = "x".repeat(200 << 10);
    let instance = breaks_once(Act::Close).await;
    let world = World::start(table(1, &[instance.address])).await;
    let mut client = Raw::connect(world.clients()).await;
    let answer = client.ask(&post("/pay", "c1", Some("k"), &body)).await;
    assert_eq!(answer.code(), Some(Code::OutcomeUnknown));
    assert_eq!(instance.seen().len(), 1);
    // But as long as nothing of it was sent, another instance may have it.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let instance = Instance::ok().await;
    let world = World::start(table(1, &[gone, instance.address])).await;
    for _ in 0..4 {
        let mut client = Raw::connect(world.clients()).await;
        assert_eq!(client.ask(&post("/pay", "c1", None, &body)).await.status, 200);
    }
    assert!(instance.seen().iter().all(|seen| seen.body == body.as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_behind_another_gateway_is_repeated_by_the_first_one() {
    let instance = breaks_once(Act::Close).await;
    let mut at_b = table(1, &[]);
    let application = at_b.applications.values_mut().next().unwrap();
    application.instances = [(dc("b"), vec![instance.address])].into();
    at_b.units.iter_mut().for_each(|unit| unit.home = dc("b"));
    let b = World::start_with(at_b.clone(), |options| options.dc = dc("b")).await;
    let mut at_a = at_b;
    at_a.mesh.insert(dc("b"), b.gateway().addresses().mesh);
    let a = World::start(at_a).await;
    let mut client = Raw::connect(a.clients()).await;
    assert_eq!(client.ask(&post("/pay", &customer(true), Some("k"), "x")).await.text(), "again");
    assert_eq!(instance.seen().len(), 2);
    // The gateway at home itself does not repeat: it says what it knows at once.
    let instance_2 = Instance::start(|_, _| Act::Close).await;
    let mut second = table(2, &[]);
    second.applications.values_mut().next().unwrap().instances = [(dc("b"), vec![instance_2.address])].into();
    second.units.iter_mut().for_each(|unit| unit.home = dc("b"));
    b.publish(second).await;
    let mut mesh = Raw::connect_mesh(b.gateway().addresses().mesh).await;
    assert_eq!(
        mesh.ask(&post("/pay", &customer(true), Some("k"), "x")).await.code(),
        Some(Code::OutcomeUnknown)
    );
    assert_eq!(instance_2.seen().len(), 1);
    until("nothing follows", || instance_2.seen().len() == 1).await;
}
