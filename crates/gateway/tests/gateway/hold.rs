//! Requests of a moving unit wait and are released; everything about it is bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dujiang_routing::{Mode, RoutingTable};
use dujiang_types::{Code, Epoch, Revision};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::{Act, Instance, PATIENCE, Raw, World, customer, dc, get, post, table, unit, until};

fn moving(version: u64, instances: &[std::net::SocketAddr], mode: Mode, epoch: u64) -> RoutingTable {
    let mut table = table(version, instances);
    (table.units[0].mode, table.units[0].epoch) = (mode, Epoch(epoch));
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_under_load_costs_no_request() {
    let (old, new) = (Instance::ok().await, Instance::ok().await);
    let world = World::start(moving(1, &[old.address], Mode::Forward, 1)).await;
    let stop = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for n in 0..16 {
        let (address, stop) = (world.clients(), stop.clone());
        clients.spawn(async move {
            let mut client = Raw::connect(address).await;
            let mut served = 0_usize;
            while stop.load(Ordering::Relaxed) == 0 {
                // Half of them without a key: they must not be repeated, and need not be.
                let key = (n % 2 == 0).then(|| format!("{n}-{served}"));
                let answer = client.ask(&post("/pay", &customer(true), key.as_deref(), "x")).await;
                assert_eq!(answer.status, 200, "{answer:?}");
                served += 1;
            }
            served
        });
    }
    for round in 0..5 {
        let version = 2 + round * 2;
        world.publish(moving(version, &[old.address], Mode::Hold, 1 + round)).await;
        until("the unit is drained", || {
            let drained = |r: &dujiang_types::report::GatewayReport| {
                r.table == Revision(version) && r.in_flight.get(&unit("unit-1")) == Some(&0)
            };
            world.control.reports().iter().any(drained)
        })
        .await;
        let before = old.seen().len() + new.seen().len();
        tokio::time::sleep(Duration::from_millis(20)).await; // a while in which something could slip through
        assert_eq!(old.seen().len() + new.seen().len(), before, "nothing is forwarded after the report");
        let home = if round % 2 == 0 { &new } else { &old };
        world.publish(moving(version + 1, &[home.address], Mode::Forward, 2 + round)).await;
        until("it serves again", || old.seen().len() + new.seen().len() > before + 16).await;
    }
    stop.store(1, Ordering::Relaxed);
    let mut served = 0;
    while let Some(count) = clients.join_next().await {
        served += count.unwrap();
    }
    assert_eq!(old.seen().len() + new.seen().len(), served, "each exactly once");
    let epochs: Vec<u64> =
        new.seen().iter().map(|seen| seen.header("dujiang-epoch").unwrap().parse().unwrap()).collect();
    assert!(epochs.iter().all(|epoch| [2, 4, 6].contains(epoch)), "the new home only sees its own epochs");
    assert!(world.metric("dujiang_gateway_hold_seconds_count").await >= 16.0);
    assert!(world.metric("dujiang_gateway_held_requests").await < 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_units_do_not_notice_a_move() {
    let instance = Instance::ok().await;
    let world = World::start(moving(1, &[instance.address], Mode::Hold, 1)).await;
    let mut held = Raw::connect(world.clients()).await;
    held.send(get("/x", &customer(true))).await;
    world.metric_reaches("dujiang_gateway_held_requests", 1.0).await;
    let mut other = Raw::connect(world.clients()).await;
    for _ in 0..50 {
        assert_eq!(other.ask(&get("/x", &customer(false))).await.status, 200);
    }
    world.publish(moving(2, &[instance.address], Mode::Forward, 1)).await;
    assert_eq!(held.answer(false).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_is_bounded_in_time_and_number() {
    let instance = Instance::ok().await;
    let world = World::start_with(moving(1, &[instance.address], Mode::Hold, 1), |options| {
        options.limits.hold_max = Duration::from_millis(400);
        options.limits.held_per_unit_max = 3;
    })
    .await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut client = Raw::connect(world.clients()).await;
        client.send(post("/x", &customer(true), None, "x")).await;
        waiting.push(client);
    }
    world.metric_reaches("dujiang_gateway_held_requests", 3.0).await;
    let mut client = Raw::connect(world.clients()).await;
    let answer = client.ask(&get("/x", &customer(true))).await;
    assert_eq!((answer.code(), answer.header("retry-after")), (Some(Code::Overloaded), Some("1")));
    for client in &mut waiting {
        let answer = client.answer(false).await.unwrap();
        assert_eq!((answer.code(), answer.header("retry-after")), (Some(Code::UnitUnavailable), Some("1")));
    }
    assert!(instance.seen().is_empty());
    assert!(world.metric("dujiang_gateway_held_requests").await < 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_gives_up_its_place() {
    let instance = Instance::ok().await;
    let world = World::start(moving(1, &[instance.address], Mode::Hold, 1)).await;
    let mut client = Raw::connect(world.clients()).await;
    client.send(post("/x", &customer(true), Some("k"), "x")).await;
    world.metric_reaches("dujiang_gateway_held_requests", 1.0).await;
    drop(client);
    let deadline = Instant::now() + PATIENCE;
    while world.metric("dujiang_gateway_held_requests").await > 0.0 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.publish(moving(2, &[instance.address], Mode::Forward, 1)).await;
    let mut next = Raw::connect(world.clients()).await;
    assert_eq!(next.ask(&get("/next", &customer(true))).await.status, 200);
    assert_eq!(instance.seen().len(), 1, "what its client gave up is not executed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nothing_was_done_is_kept_from_the_client() {
    // The application notices the move before the gateway does; it refuses three times.
    let instance = Instance::start(|_, before| match before {
        0 => Act::Problem(Code::UnitMoved),
        1 => Act::Problem(Code::UnitUnavailable),
        2 => Act::Problem(Code::Overloaded),
        _ => Act::Ok("paid"),
    })
    .await;
    let world = World::start(table(1, &[instance.address])).await;
    let mut client = Raw::connect(world.clients()).await;
    let answer = client.ask(&post("/pay", "c1", None, "body")).await;
    assert_eq!((answer.status, answer.text()), (200, "paid"));
    assert_eq!(instance.seen().iter().map(|seen| &seen.body[..]).collect::<Vec<_>>(), [b"body"; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_problems_pass_as_they_are() {
    for code in [Code::InsufficientFunds, Code::IdempotencyInProgress, Code::OutcomeUnknown, Code::Internal] {
        let instance = Instance::start(move |_, _| Act::Problem(code)).await;
        let world = World::start(table(1, &[instance.address])).await;
        let mut client = Raw::connect(world.clients()).await;
        assert_eq!(client.ask(&post("/pay", "c1", None, "x")).await.code(), Some(code));
        assert_eq!(instance.seen().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_is_not_up_yet_is_waited_for() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let world = World::start(table(1, &[address])).await;
    let mut client = Raw::connect(world.clients()).await;
    client.send(post("/pay", &customer(true), None, "x")).await;
    world.metric_reaches("dujiang_gateway_held_requests", 1.0).await;
    let instance = Instance::start_at(address, |_, _| Act::Ok("up")).await;
    assert_eq!(client.answer(false).await.unwrap().text(), "up");
    assert_eq!(instance.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_home_is_waited_out_until_another_takes_over() {
    // The home's gateway is gone: connections to it are refused.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let instance = Instance::ok().await;
    let mut away = table(1, &[instance.address]);
    away.units[0].home = dc("b");
    away.mesh.insert(dc("b"), gone);
    let world = World::start(away.clone()).await;
    let mut client = Raw::connect(world.clients()).await;
    client.send(post("/pay", &customer(true), None, "x")).await;
    world.metric_reaches("dujiang_gateway_held_requests", 1.0).await;
    let mut electing = away.clone();
    (electing.version, electing.units[0].mode, electing.units[0].epoch) = (Revision(2), Mode::Hold, Epoch(2));
    world.publish(electing).await;
    let mut elected = away;
    (elected.version, elected.units[0].home, elected.units[0].epoch) = (Revision(3), dc("a"), Epoch(2));
    world.publish(elected).await;
    assert_eq!(client.answer(false).await.unwrap().status, 200);
    assert_eq!(instance.last().header("dujiang-epoch"), Some("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_home_is_given_up_when_the_unit_has_another_one() {
    let gate = Arc::new(Semaphore::new(0));
    let frozen = Instance::start_as_gateway(move |_, _| Act::Wait(gate.clone())).await;
    let instance = Instance::ok().await;
    let mut away = table(1, &[instance.address]);
    away.units[0].home = dc("b");
    away.mesh.insert(dc("b"), frozen.address);
    let world = World::start_with(away.clone(), |o| o.limits.first_byte_max = Duration::from_secs(3)).await;
    let (mut keyed, mut unkeyed) = (Raw::connect(world.clients()).await, Raw::connect(world.clients()).await);
    keyed.send(post("/keyed", &customer(true), Some("k"), "x")).await;
    unkeyed.send(post("/unkeyed", &customer(true), None, "x")).await;
    until("both are sent", || frozen.seen().len() == 2).await;
    let mut elected = away;
    (elected.version, elected.units[0].home, elected.units[0].epoch) = (Revision(2), dc("a"), Epoch(2));
    world.publish(elected).await;
    assert_eq!(keyed.answer(false).await.unwrap().status, 200);
    assert_eq!(unkeyed.answer(false).await.unwrap().code(), Some(Code::OutcomeUnknown));
    assert_eq!(
        instance.seen().iter().map(|seen| seen.line().to_owned()).collect::<Vec<_>>(),
        ["POST /keyed HTTP/1.1"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_unit_under_way_are_bounded() {
    let gate = Arc::new(Semaphore::new(0));
    let opener = gate.clone();
    let instance = Instance::start(move |_, _| Act::Wait(gate.clone())).await;
    let world = World::start_with(table(1, &[instance.address]), |options| {
        options.threads = 1;
        options.limits.in_flight_per_unit_max = 2;
    })
    .await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = Raw::connect(world.clients()).await;
        client.send(get("/x", &customer(true))).await;
        clients.push(client);
    }
    world.metric_reaches("dujiang_gateway_held_requests", 3.0).await;
    assert_eq!(instance.seen().len(), 2);
    opener.add_permits(5);
    for client in &mut clients {
        assert_eq!(client.answer(false).await.unwrap().status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_gateway_finishes_what_is_under_way() {
    let gate = Arc::new(Semaphore::new(0));
    let opener = gate.clone();
    let instance = Instance::start(move |_, _| Act::Wait(gate.clone())).await;
    let mut world = World::start(table(1, &[instance.address])).await;
    let mut idle = Raw::connect(world.clients()).await;
    idle.send(get("/warm", "c1")).await;
    opener.add_permits(1);
    idle.answer(false).await.unwrap();
    let mut client = Raw::connect(world.clients()).await;
    client.send(post("/pay", "c1", None, "x")).await;
    until("it is under way", || instance.seen().len() == 2).await;
    let gateway = world.gateway.take().unwrap();
    let stopping = tokio::task::spawn_blocking(move || gateway.stop());
    assert!(idle.is_closed().await);
    opener.add_permits(1);
    let answer = client.answer(false).await.unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    stopping.await.unwrap();
}
