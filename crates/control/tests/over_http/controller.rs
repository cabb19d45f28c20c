//! The controller over real HTTP, with agents and gateways played by the test, and killed at every step.

use std::time::{Duration, Instant};

use dujiang_control::Status;
use dujiang_types::operation::{Operation, OperationState, Work};
use dujiang_types::unit::Phase;
use dujiang_types::{Code, Epoch, UnitId};
use reqwest::Method;
use serde_json::json;

use crate::plane::{DEADLINE, Plane, problem, timing};
use crate::world::{UNIT, World, ask_to_move, dc, operation, operations, serving};

fn names(operation: &Operation) -> Vec<&str> {
    operation.status.steps.iter().map(|step| step.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_forms_serves_and_moves() {
    let plane = Plane::with_platform().await;
    let mut world = serving(&plane).await;
    assert_eq!(world.leases.get(&dc("a")), Some(&Epoch(1)), "the primary holds a lease");
    assert_eq!(world.leases.len(), 1, "and nobody else");

    let name = ask_to_move(&plane, "b").await;
    let unit =
        world.until(&plane, "moved", |u| u.status.home == dc("b") && u.status.phase == Phase::Serving).await;
    assert_eq!(unit.status.epoch, Epoch(2));
    assert_eq!(unit.status.operation, None);
    let done = operation(&plane, &name).await;
    assert_eq!(done.status.state, OperationState::Succeeded);
    assert_eq!(
        names(&done),
        ["requested", "holding for b", "sealing for b", "promoting (from a)", "serving"]
    );
    assert_eq!(done.spec.asked_by, "tester");
    assert!(done.status.steps.iter().all(|step| !step.reason.is_empty()));

    let table = plane.get("/v1/routing").await;
    assert_eq!(
        (table["units"][0]["home"].as_str(), table["units"][0]["mode"].as_str()),
        (Some("b"), Some("forward"))
    );
    plane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_waits_for_requests_in_flight_and_is_called_off_when_they_do_not_end() {
    let plane = Plane::with_platform().await;
    let mut world = serving(&plane).await;
    world.in_flight = 3;
    let name = ask_to_move(&plane, "c").await;
    let holding = |u: &dujiang_types::unit::Unit| matches!(u.status.phase, Phase::Holding { .. });
    world.until(&plane, "holding", holding).await;

    let status: Status = serde_json::from_value(plane.get("/v1/status").await).unwrap();
    assert_eq!(status.operations.len(), 1);
    let unit = world.until(&plane, "called off", |u| u.status.phase == Phase::Serving).await;
    assert_eq!((unit.status.home, unit.status.epoch, unit.status.operation), (dc("a"), Epoch(1), None));
    let operation = operation(&plane, &name).await;
    assert_eq!(operation.status.state, OperationState::Failed);
    assert!(operation.status.steps.last().unwrap().reason.contains("in flight"), "{operation:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_falls_silent_is_replaced_after_its_lease_and_never_before() {
    let plane = Plane::with_platform().await;
    let mut world = serving(&plane).await;
    world.alive.remove(&dc("a"));
    let leased_at = world.leased_at.unwrap();
    let unit = world.until(&plane, "failed over", |u| u.status.home != dc("a")).await;
    // A lower bound is a promise, not a guess about speed: nobody is promoted inside the lease.
    assert!(leased_at.elapsed() > Duration::from_millis(timing().lease_ms), "{:?}", leased_at.elapsed());
    assert_eq!(unit.status.epoch, Epoch(2));
    let unit = world.until_served(&plane).await;
    assert!(world.leases.contains_key(&unit.status.home));
    let failovers = operations(&plane).await;
    assert_eq!(failovers.len(), 1);
    assert!(matches!(&failovers[0].spec.work, Work::Failover { from, .. } if *from == dc("a")));
    assert_eq!(failovers[0].status.state, OperationState::Succeeded);
    assert_eq!(failovers[0].spec.asked_by, "controller");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_primary_is_replaced_at_once() {
    let plane = Plane::with_platform().await;
    let mut world = serving(&plane).await;
    // Its agent lives and says that nothing runs; then it is gone for good.
    let body = json!({"dc": "a", "session": "session-1", "sequence": 1_000_000, "instances": {}, "renew": {},
        "units": {UNIT: {"revision": plane.get(&format!("/v1/units/{UNIT}")).await["revision"],
            "data": {"name": "present", "primary_epoch": 1}, "state": {"name": "stopped", "sealed": null},
            "position": null, "replayed": null, "promised_ms": 0, "note": "killed"}}});
    let response = plane.request(Method::POST, "/v1/agents/a/report").json(&body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    world.alive.remove(&dc("a"));
    let unit = world.until(&plane, "failed over", |u| u.status.home != dc("a")).await;
    assert_eq!(unit.status.epoch, Epoch(2));
    let failover = &operations(&plane).await[0];
    assert!(failover.status.steps[0].reason.contains("stopped (killed)"), "{failover:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_proven_waits_for_an_operator_who_is_on_record() {
    let plane = Plane::with_platform().await;
    let mut world = serving(&plane).await;
    // Whoever the request says has asked: what counts is the certificate.
    let ask = async |to: &str, by: &str| {
        let work = json!({"name": "force-promote", "unit": UNIT, "to": to});
        let spec = json!({"work": work, "asked_by": "somebody else"});
        let request = plane.request_as(&format!("operator/{by}"), Method::POST, "/v1/operations");
        request.json(&spec).send().await.unwrap()
    };
    let approve = async |name: &str, by: &str| {
        let path = format!("/v1/operations/{name}/approve");
        plane.request_as(&format!("operator/{by}"), Method::POST, &path).send().await.unwrap()
    };
    let refused = problem(ask("b", "li").await).await;
    assert_eq!(refused.code, Code::Refused, "the home serves");
    assert!(refused.detail.starts_with("one-home: a is heard"), "{refused}");

    // Two data centers at once: b alone cannot know whether c had more.
    world.alive = [dc("b")].into();
    let began = Instant::now();
    let status: Status = loop {
        world.tick(&plane).await;
        let status: Status = serde_json::from_value(plane.get("/v1/status").await).unwrap();
        if status.units[&UnitId::new(UNIT).unwrap()].waiting.contains("cannot be proven") {
            break status;
        }
        assert!(began.elapsed() < DEADLINE, "{status:#?}");
    };
    let view = &status.units[&UnitId::new(UNIT).unwrap()];
    assert!(!view.exposure.automatic && !view.exposure.reason.is_empty());
    assert!(!view.replicas[&dc("c")].known && view.replicas[&dc("b")].known);
    assert!(!status.agents[&dc("a")].known);

    let detail = problem(ask("c", "li").await).await.detail;
    assert!(detail.starts_with("target-ready: c is not heard"), "{detail}");
    let asked = ask("b", "li").await;
    assert_eq!(asked.status(), 201, "{}", asked.text().await.unwrap());
    let asked: Operation = asked.json().await.unwrap();
    let approval = asked.status.approval.as_ref().unwrap();
    assert_eq!((asked.status.state, &approval.missing.to), (OperationState::Awaiting, &dc("b")));
    assert!(approval.missing.reason.contains("may be missing"), "{approval:?}");
    world.tick(&plane).await;
    assert_eq!(problem(ask("b", "wang").await).await.code, Code::Refused, "one request at a time");
    let own = problem(approve(&asked.name, "li").await).await;
    assert!(own.detail.contains("another operator"), "{own}");
    let home = operations(&plane).await;
    assert!(home.iter().all(|o| o.status.state != OperationState::Running), "nothing has begun");
    world.tick(&plane).await;
    let approved = approve(&asked.name, "wang").await;
    assert_eq!(approved.status(), 200, "{}", approved.text().await.unwrap());
    assert_eq!(
        problem(approve(&asked.name, "zhao").await).await.code,
        Code::Refused,
        "it is approved already"
    );
    let unit = world.until(&plane, "forced", |u| u.status.home == dc("b")).await;
    assert_eq!(unit.status.forced, None, "the order is used up");
    let operation = operations(&plane).await.into_iter().find(|o| o.name == asked.name).unwrap();
    assert_eq!(
        (operation.spec.asked_by.as_str(), operation.status.approval.unwrap().by.as_deref()),
        ("li", Some("wang"))
    );
    let text = serde_json::to_string(&operation.status.steps).unwrap();
    assert!(text.contains("approved by wang") && text.contains("without proof"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn moves_that_break_a_rule_are_refused_with_the_rule() {
    let plane = Plane::with_platform().await;
    let mut world = serving(&plane).await;
    let ask = async |unit: &str, to: &str| {
        let body = json!({"work": {"name": "move", "unit": unit, "to": to}, "asked_by": "tester"});
        problem(plane.request(Method::POST, "/v1/operations").json(&body).send().await.unwrap()).await
    };
    assert_eq!(ask("unit-9", "b").await.code, Code::NotFound);
    let home = ask(UNIT, "a").await;
    assert!(home.code == Code::Refused && home.detail.contains("at home"), "{home}");
    assert!(ask(UNIT, "z").await.detail.contains("no replica"));

    world.in_flight = 1;
    let name = ask_to_move(&plane, "b").await;
    let second = ask(UNIT, "c").await;
    assert!(second.code == Code::Refused && second.detail.contains(&name), "{second}");
    let failover = json!({"work": {"name": "failover", "unit": UNIT, "from": "a"}, "asked_by": "tester"});
    let refused = plane.request(Method::POST, "/v1/operations").json(&failover).send().await.unwrap();
    assert_eq!(problem(refused).await.code, Code::Refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_again_with_the_same_key_returns_the_same_operation() {
    let plane = Plane::with_platform().await;
    let mut world = serving(&plane).await;
    let ask = async |key: &str, to: &str| {
        let body = json!({"work": {"name": "move", "unit": UNIT, "to": to}, "asked_by": "tester"});
        let request =
            plane.request(Method::POST, "/v1/operations").header("idempotency-key", key).json(&body);
        request.send().await.unwrap()
    };
    let first: Operation = ask("k-1", "b").await.json().await.unwrap();
    world.until(&plane, "moved", |u| u.status.home == dc("b") && u.status.phase == Phase::Serving).await;
    let again = ask("k-1", "b").await;
    assert_eq!(again.status(), 201);
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(again.json::<Operation>().await.unwrap().name, first.name);
    assert_eq!(problem(ask("k-1", "c").await).await.code, Code::IdempotencyKeyReused);
    assert_eq!(operations(&plane).await.len(), 1);
}

/// Whatever happened in between: no step twice, and the record and the operation say the same.
async fn assert_consistent(plane: &Plane, world: &mut World, name: &str) {
    let unit = world.until_served(plane).await;
    let operation = operation(plane, name).await;
    let mut seen = names(&operation);
    assert_eq!(unit.status.operation, None);
    match operation.status.state {
        OperationState::Succeeded => {
            assert_eq!(
                seen,
                ["requested", "holding for b", "sealing for b", "promoting (from a)", "serving"]
            );
        }
        OperationState::Failed => assert_eq!(seen.last(), Some(&"failed"), "{operation:?}"),
        other => panic!("{other:?}: {operation:?}"),
    }
    seen.sort_unstable();
    let all = seen.len();
    seen.dedup();
    assert_eq!(seen.len(), all, "a step was recorded twice: {operation:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_every_step_a_move_goes_on_where_it_was() {
    let mut plane = Plane::with_platform().await;
    let mut world = serving(&plane).await;
    let name = ask_to_move(&plane, "b").await;
    let began = Instant::now();
    let mut steps = 0;
    loop {
        world.tick(&plane).await;
        let now = operation(&plane, &name).await;
        if now.status.steps.len() > steps {
            steps = now.status.steps.len();
            plane.kill();
            plane.revive().await;
        }
        if matches!(now.status.state, OperationState::Succeeded | OperationState::Failed) {
            break;
        }
        assert!(began.elapsed() < DEADLINE, "{now:?}");
    }
    assert!(steps >= 2, "the move had begun when it was first killed");
    assert_consistent(&plane, &mut world, &name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_a_move_ends_and_every_step_is_recorded_once() {
    // Each round kills after another number of reports, so that over the rounds every place is hit.
    for after in [1, 2, 3, 5, 8] {
        let mut plane = Plane::with_platform().await;
        let mut world = serving(&plane).await;
        let name = ask_to_move(&plane, "b").await;
        let began = Instant::now();
        let mut ticks = 0;
        loop {
            world.tick(&plane).await;
            ticks += 1;
            if ticks % after == 0 && ticks < 12 * after {
                plane.kill();
                plane.revive().await;
            }
            let now = operation(&plane, &name).await;
            if matches!(now.status.state, OperationState::Succeeded | OperationState::Failed) {
                break;
            }
            assert!(began.elapsed() < DEADLINE, "killed every {after}: {now:?}");
        }
        assert_consistent(&plane, &mut world, &name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_during_a_failover_it_is_finished_by_the_next_one() {
    let mut plane = Plane::with_platform().await;
    let mut world = serving(&plane).await;
    world.alive.remove(&dc("a"));
    for phase in ["electing", "promoting"] {
        world
            .until(&plane, phase, |u| {
                u.status.phase.to_string().starts_with(phase) || u.status.epoch > Epoch(1)
            })
            .await;
        plane.kill();
        plane.revive().await;
    }
    let unit = world.until_served(&plane).await;
    assert_ne!(unit.status.home, dc("a"));
    for operation in operations(&plane).await {
        let mut seen = names(&operation);
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all, "{operation:?}");
        assert!(matches!(operation.status.state, OperationState::Succeeded | OperationState::Failed));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_starts_grants_but_does_not_elect_within_a_lease() {
    let mut plane = Plane::with_platform().await;
    let mut world = serving(&plane).await;
    plane.kill();
    // While nobody looks the home falls silent. The one before may have granted a lease a moment ago.
    world.alive.remove(&dc("a"));
    let started = Instant::now();
    plane.revive().await;
    world.until(&plane, "electing", |u| u.status.epoch > Epoch(1)).await;
    assert!(started.elapsed() > Duration::from_millis(timing().lease_ms), "{:?}", started.elapsed());
}
