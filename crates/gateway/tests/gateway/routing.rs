//! Where requests go, with real sockets: units, epochs, other data centers, and life without control.

use std::collections::BTreeMap;

use crate::support::{Act, Control, Instance, Raw, World, customer, dc, get, post, table, unit, until};
use dujiang_routing::Mode;
use dujiang_types::{Code, Epoch, Revision};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_reaches_an_instance_with_its_unit_and_epoch() {
    let instance = Instance::ok().await;
    let world = World::start(table(1, &[instance.address])).await;
    let mut client = Raw::connect(world.clients()).await;
    let (one, two) = (customer(true), customer(false));
    for (path, key, name) in [("/pay", &one, "unit-1"), ("/pay?x=1", &two, "unit-2")] {
        let forged = "dujiang-unit: forged\r\ndujiang-epoch: 99\r\ndujiang-hop: 1\r\nconnection: x-secret\r\nx-secret: 1\r\n";
        let request = get(path, key).replace("\r\n\r\n", &format!("\r\n{forged}\r\n"));
        let answer = client.ask(&request).await;
        assert_eq!((answer.status, answer.text()), (200, "ok"));
        let seen = instance.last();
        assert_eq!(seen.line(), format!("GET {path} HTTP/1.1"));
        assert_eq!(seen.header("dujiang-unit"), Some(name));
        assert_eq!(seen.header("dujiang-epoch"), Some("1"));
        assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(seen.header("host"), Some("bank"));
        for gone in ["dujiang-hop", "x-secret", "connection"] {
            assert_eq!(seen.header(gone), None, "{gone}");
        }
        assert_eq!(seen.header("traceparent").unwrap().len(), 55);
    }
    assert_eq!(client.ask(&format!("GET /customers/{two}/x HTTP/1.1\r\nhost: b\r\n\r\n")).await.status, 200);
    assert_eq!(instance.last().header("dujiang-unit"), Some("unit-2"));
    assert_eq!(client.ask("GET /open/x HTTP/1.1\r\nhost: b\r\n\r\n").await.status, 200);
    assert_eq!(instance.last().header("dujiang-unit"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leads_nowhere_is_refused_with_a_problem() {
    let instance = Instance::ok().await;
    let mut table = table(1, &[instance.address]);
    table.units.pop();
    let world = World::start(table).await;
    let mut client = Raw::connect(world.clients()).await;
    let mut code = async |text: &str| client.ask(text).await.code();
    assert_eq!(code("GET /x HTTP/1.1\r\nhost: b\r\n\r\n").await, Some(Code::RoutingKeyMissing));
    assert_eq!(code(&get("/x", "")).await, Some(Code::RoutingKeyMissing));
    assert_eq!(
        code(
            &get("/x\r\nx-customer: 1\r\na:", "2")
                .replace("/x\r\nx-customer: 1\r\na:", "/x")
                .replace("host: bank", "host: bank\r\nx-customer: 3")
        )
        .await,
        Some(Code::RequestInvalid)
    );
    assert_eq!(code(&get("/x", &customer(false))).await, Some(Code::SlotUnowned));
    assert_eq!(
        code("GET /accounts/123456789012345678 HTTP/1.1\r\nhost: b\r\n\r\n").await,
        Some(Code::AccountNumberInvalid)
    );
    assert_eq!(code("GET /customers/../x HTTP/1.1\r\nhost: b\r\n\r\n").await, Some(Code::RequestInvalid));
    assert_eq!(code("TRACE / HTTP/1.1\r\nhost: b\r\n\r\n").await, Some(Code::MethodNotAllowed));
    assert_eq!(instance.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_spread_over_instances_and_avoid_those_that_are_down() {
    let (one, two) = (Instance::ok().await, Instance::ok().await);
    let world = World::start(table(1, &[one.address, two.address])).await;
    let mut client = Raw::connect(world.clients()).await;
    for _ in 0..10 {
        client.ask(&get("/x", "c1")).await;
    }
    assert_eq!((one.seen().len(), two.seen().len()), (5, 5));
    // Not ready: found by probing.
    two.set_ready(false);
    world.metric_reaches("dujiang_gateway_instance_ready", 2.0).await;
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    while world.metric("dujiang_gateway_instance_ready").await > 1.0 {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    for _ in 0..10 {
        assert_eq!(client.ask(&get("/x", "c1")).await.status, 200);
    }
    assert_eq!((one.seen().len(), two.seen().len()), (15, 5));
    two.set_ready(true);
    world.metric_reaches("dujiang_gateway_instance_ready", 2.0).await;
    // Dead: found by the refused connection, and no client notices.
    one.die().await;
    for number in 0..10 {
        let key = format!("k{number}");
        assert_eq!(client.ask(&post("/x", "c1", Some(&key), "pay")).await.status, 200);
    }
    assert_eq!(two.seen().len(), 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_at_home_elsewhere_is_reached_through_its_gateway_and_never_further() {
    // Two gateways, `a` and `b`; each with its own instance.
    let (here, there) = (Instance::ok().await, Instance::ok().await);
    let mut at_b = table(1, &[]);
    at_b.applications.values_mut().next().unwrap().instances =
        BTreeMap::from([(dc("b"), vec![there.address])]);
    for unit in &mut at_b.units {
        unit.home = dc("b");
    }
    let b = World::start_with(at_b.clone(), |options| options.dc = dc("b")).await;
    let mut at_a = at_b.clone();
    at_a.applications.values_mut().next().unwrap().instances.insert(dc("a"), vec![here.address]);
    at_a.mesh.insert(dc("b"), b.gateway().addresses().mesh);
    let a = World::start(at_a.clone()).await;

    let mut client = Raw::connect(a.clients()).await;
    let request = post("/pay", &customer(true), Some("k"), "hello")
        .replace("host: bank", "host: bank\r\nx-forwarded-for: 9.9.9.9");
    assert_eq!(client.ask(&request).await.status, 200);
    let seen = there.last();
    assert_eq!(
        (seen.header("dujiang-unit"), seen.header("dujiang-hop"), &seen.body[..]),
        (Some("unit-1"), None, &b"hello"[..])
    );
    assert_eq!(seen.header("x-forwarded-for"), Some("9.9.9.9, 127.0.0.1"));
    assert!(here.seen().is_empty());

    // `b` believes that `a` is the home, `a` believes that it is `b`: the request goes there, and no further.
    let mut confused = at_b;
    confused.version = Revision(2);
    confused.units.iter_mut().for_each(|unit| unit.home = dc("a"));
    confused.mesh.insert(dc("a"), a.gateway().addresses().mesh);
    b.publish(confused.clone()).await;
    let mut mesh = Raw::connect_mesh(b.gateway().addresses().mesh).await;
    let hop = get("/x", &customer(true)).replace("host:", "dujiang-hop: 1\r\nhost:");
    let answer = mesh.ask(&hop).await;
    assert_eq!((answer.code(), answer.header("retry-after")), (Some(Code::UnitMoved), Some("1")));
    // Without the hop header it is no different on this listener.
    assert_eq!(mesh.ask(&get("/x", &customer(true))).await.code(), Some(Code::UnitMoved));
    // A client of `a` is held meanwhile, and served as soon as `a` learns better.
    client.send(get("/late", &customer(true))).await;
    a.metric_reaches("dujiang_gateway_held_requests", 1.0).await;
    let mut better = at_a.clone();
    better.version = Revision(2);
    for unit in &mut better.units {
        (unit.home, unit.epoch) = (dc("a"), Epoch(2));
    }
    a.publish(better).await;
    assert_eq!(client.answer(false).await.unwrap().status, 200);
    assert_eq!((here.last().line(), here.last().header("dujiang-epoch")), ("GET /late HTTP/1.1", Some("2")));
    // A unit that is held is refused at once on the mesh listener: the first gateway does the waiting.
    confused.version = Revision(3);
    confused.units.iter_mut().for_each(|unit| (unit.home, unit.mode) = (dc("b"), Mode::Hold));
    b.publish(confused).await;
    assert_eq!(mesh.ask(&hop).await.code(), Some(Code::UnitUnavailable));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_on_when_control_dies_and_starts_from_its_cache() {
    let instance = Instance::ok().await;
    let mut world = World::start_with(table(5, &[instance.address]), |options| {
        // A fixed port, so that the restarted gateway is the same to its clients.
        options.listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    })
    .await;
    until("the cache is written", || world.options.cache.exists()).await;
    let control = world.control.address();
    world.control.die().await;
    let mut client = Raw::connect(world.clients()).await;
    for _ in 0..20 {
        assert_eq!(client.ask(&get("/x", "c1")).await.status, 200);
    }
    world.restart();
    let mut client = Raw::connect(world.clients()).await;
    world.follows(Revision(5)).await;
    assert_eq!(client.ask(&get("/x", "c1")).await.status, 200);
    let ready = crate::support::admin_client()
        .get(format!("https://{}/readyz", world.gateway().addresses().admin))
        .send()
        .await
        .unwrap();
    assert_eq!(ready.status(), 200);
    // Control is back with something new; an older table than ours would be ignored.
    let back = Control::start_at(control, table(4, &[])).await;
    until("the gateway reports", || !back.reports().is_empty()).await;
    assert_eq!(back.reports()[0].table, Revision(5));
    assert_eq!(client.ask(&get("/x", "c1")).await.status, 200);
    let mut newer = table(6, &[instance.address]);
    newer.units[0].epoch = Epoch(9);
    back.publish(newer);
    world.follows(Revision(6)).await;
    client.ask(&get("/x", &customer(true))).await;
    assert_eq!(instance.last().header("dujiang-epoch"), Some("9"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_table_it_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = dujiang_gateway::Options::new(
        dc("a"),
        crate::support::authority().identity("dc/a/gateway"),
        folder.path().join("routing.json"),
    );
    options.control = vec!["https://127.0.0.1:9".to_owned()];
    let gateway = dujiang_gateway::Gateway::start(options).unwrap();
    let mut client = Raw::connect(gateway.addresses().clients).await;
    assert_eq!(client.ask(&get("/x", "c1")).await.code(), Some(Code::UnitUnavailable));
    let admin = gateway.addresses().admin;
    assert_eq!(
        crate::support::admin_client().get(format!("https://{admin}/healthz")).send().await.unwrap().status(),
        200
    );
    assert_eq!(
        crate::support::admin_client().get(format!("https://{admin}/readyz")).send().await.unwrap().status(),
        503
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_cache_it_serves_without_ever_having_heard_of_control() {
    let instance = Instance::ok().await;
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("routing.json");
    std::fs::write(&cache, serde_json::to_vec(&table(3, &[instance.address])).unwrap()).unwrap();
    let gateway = dujiang_gateway::Gateway::start(dujiang_gateway::Options::new(
        dc("a"),
        crate::support::authority().identity("dc/a/gateway"),
        cache,
    ))
    .unwrap();
    until("it follows the cache", || gateway.table_version() == Revision(3)).await;
    let mut client = Raw::connect(gateway.addresses().clients).await;
    for _ in 0..10 {
        assert_eq!(client.ask(&get("/x", "c1")).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_control_server_takes_over() {
    let instance = Instance::ok().await;
    let mut second = None;
    let mut world = World::start_with(table(1, &[instance.address]), |options| {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        options.control.push(format!("https://{port}/"));
        second = Some(port);
    })
    .await;
    let second = Control::start_at(second.unwrap(), table(2, &[instance.address])).await;
    world.control.die().await;
    world.follows(Revision(2)).await;
    until("it reports to the second one", || {
        second.reports().iter().any(|report| report.table == Revision(2))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_say_what_a_held_unit_still_does() {
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let opener = gate.clone();
    let instance = Instance::start(move |_, _| Act::Wait(gate.clone())).await;
    let world = World::start(table(1, &[instance.address])).await;
    let mut clients = Vec::new();
    for n in 0..4 {
        let mut client = Raw::connect(world.clients()).await;
        client.send(post("/pay", &customer(true), Some(&format!("k{n}")), "x")).await;
        clients.push(client);
    }
    until("all are under way", || instance.seen().len() == 4).await;
    let mut moving = table(2, &[instance.address]);
    moving.units[0].mode = Mode::Hold;
    world.publish(moving).await;
    let reported = |count| {
        let reports = world.control.reports();
        reports.iter().any(|report| {
            report.table == Revision(2) && report.in_flight.get(&unit("unit-1")) == Some(&count)
        })
    };
    until("four are reported", || reported(4)).await;
    let reports = world.control.reports();
    assert!(
        reports.iter().all(|report| report.table < Revision(2) || report.in_flight[&unit("unit-1")] == 4)
    );
    let mut held = Raw::connect(world.clients()).await;
    held.send(post("/pay", &customer(true), None, "later")).await;
    until("one is held", || world.control.reports().last().unwrap().held.get(&unit("unit-1")) == Some(&1))
        .await;
    opener.add_permits(4);
    until("none is left under way", || reported(0)).await;
    for client in &mut clients {
        assert_eq!(client.answer(false).await.unwrap().status, 200);
    }
    assert_eq!(instance.seen().len(), 4, "what came later is held");
}
