//! Every operation that is over gets a signed report; reports follow one another and cannot be changed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dujiang_control::EvidenceList;
use dujiang_evidence::{Envelope, Kind, Layer, Outcome, PublicKey, Report, chain};
use reqwest::Method;
use serde_json::{Value, json};

use crate::plane::{DEADLINE, Plane};
use crate::world::{World, ask_to_move, dc, serving};

async fn listed(plane: &Plane) -> EvidenceList {
    serde_json::from_value(plane.get("/v1/evidence").await).unwrap()
}

/// Keeps the world going until so many reports are there.
async fn until_written(world: &mut World, plane: &Plane, count: usize) -> EvidenceList {
    let began = Instant::now();
    loop {
        world.tick(plane).await;
        let list = listed(plane).await;
        if list.items.len() >= count {
            return list;
        }
        assert!(began.elapsed() < DEADLINE, "no evidence: {list:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn all(plane: &Plane, list: &EvidenceList) -> BTreeMap<String, Envelope> {
    let mut envelopes = BTreeMap::new();
    for line in &list.items {
        let envelope = plane.get(&format!("/v1/evidence/{}", line.id)).await;
        envelopes.insert(line.id.clone(), serde_json::from_value(envelope).unwrap());
    }
    envelopes
}

#[tokio::test]
async fn a_move_and_a_failover_leave_a_chain_of_signed_reports() {
    let plane = Plane::with_platform().await;
    let mut world = serving(&plane).await;
    ask_to_move(&plane, "b").await;
    world.until(&plane, "moved", |unit| unit.status.home == dc("b")).await;
    world.until_served(&plane).await;
    until_written(&mut world, &plane, 1).await;
    world.alive.remove(&dc("b"));
    world.until(&plane, "failed over", |unit| unit.status.home != dc("b")).await;
    world.until_served(&plane).await;
    let list = until_written(&mut world, &plane, 2).await;

    let key = PublicKey::from_pem(&list.key).unwrap();
    assert_eq!(key.fingerprint(), list.fingerprint);
    let reports = chain::check(&all(&plane, &list).await, &[key]).unwrap();
    let [moved, failed_over] = &reports[..] else { panic!("{reports:#?}") };
    assert_eq!(
        (moved.kind, moved.outcome, moved.asked_by.as_str()),
        (Kind::Move, Outcome::Succeeded, "tester")
    );
    assert_eq!((failed_over.kind, failed_over.outcome), (Kind::Failover, Outcome::Succeeded));
    assert_eq!(moved.platform, "test");
    let (a, b) = (Some(dc("a")), Some(dc("b")));
    assert_eq!((&moved.units[0].from, &moved.units[0].to), (&a, &b));
    assert_eq!(failed_over.units[0].from, b);
    let whats: Vec<&str> = failed_over.units[0].timeline.iter().map(|moment| moment.what.as_str()).collect();
    for what in ["last heard", "detected", "fenced", "decided", "promoted", "serving"] {
        assert!(whats.contains(&what), "{what} is missing in {whats:?}");
    }
    // Between the last word of the home and the promotion lies at least its lease.
    assert!(failed_over.units[0].recovery_ms[&Layer::Data] >= 1_500.0, "{:?}", failed_over.units);
}

#[tokio::test]
async fn what_is_handed_in_is_signed_once_and_only_drills_are_taken() {
    let plane = Plane::with_platform().await;
    let drill = |id: &str, kind: &str| {
        json!({"format": "dujiang-evidence/1", "id": id, "platform": "mine", "kind": kind, "subject": "loss of a",
            "outcome": "succeeded", "conclusion": "", "began": "2026-01-01T00:00:00Z",
            "ended": "2026-01-01T00:01:00Z", "written": "1999-01-01T00:00:00Z", "asked_by": "li", "units": [],
            "versions": {}, "previous": {"id": "made-up", "digest": "sha256:00"}})
    };
    let post = async |body: &Value| {
        let response = plane.request(Method::POST, "/v1/evidence").json(body).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (status, envelope) = post(&drill("drill-1", "drill")).await;
    assert_eq!(status, 201, "{envelope}");
    let report: Report = serde_json::from_value::<Envelope>(envelope).unwrap().read().unwrap();
    // What the platform knows better is not taken from whoever hands it in.
    assert_eq!((report.platform.as_str(), report.previous), ("test", None));
    assert!(report.written > report.ended);

    assert_eq!(post(&drill("drill-1", "drill")).await.0, 409);
    assert_eq!(post(&drill("move-unit-1", "move")).await.0, 400);
    assert_eq!(post(&drill("failover-unit-1-2", "drill")).await.0, 400);
    assert_eq!(post(&drill("drill-/../x", "drill")).await.0, 400);
    for (method, path) in [(Method::DELETE, "/v1/evidence/drill-1"), (Method::PUT, "/v1/evidence/drill-1")] {
        let response = plane.request(method, path).json(&drill("drill-1", "drill")).send().await.unwrap();
        assert!(response.status().is_client_error(), "{}", response.status());
    }
    assert_eq!(listed(&plane).await.items.len(), 1);
    let missing = plane.request(Method::GET, "/v1/evidence/drill-2").send().await.unwrap();
    assert_eq!(missing.status(), 404);
}

/// A control plane that was killed between the end of an operation and its report makes up for it.
#[tokio::test]
async fn a_report_that_a_crash_prevented_is_written_later() {
    let mut plane = Plane::with_platform().await;
    let mut world = serving(&plane).await;
    let name = ask_to_move(&plane, "c").await;
    world.until(&plane, "moved", |unit| unit.status.home == dc("c")).await;
    world.until_served(&plane).await;
    plane.kill();
    plane.revive().await;
    let list = until_written(&mut world, &plane, 1).await;
    assert_eq!(list.items[0].id, name);
}
