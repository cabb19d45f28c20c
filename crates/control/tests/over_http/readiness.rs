//! Examinations: asked for by operators, carried to the agents and back in their reports.

use dujiang_types::api::AgentReply;
use dujiang_types::readiness::{Aspect, Examined, Findings, Readiness};
use reqwest::Method;
use serde_json::json;

use crate::plane::Plane;
use crate::world::{UNIT, dc, serving};

#[tokio::test]
async fn an_examination_reaches_its_agent_once_and_what_it_found_comes_back() {
    let plane = Plane::with_platform().await;
    let mut world = serving(&plane).await;
    world.tick(&plane).await;
    let known: Readiness = serde_json::from_value(plane.get("/v1/readiness").await).unwrap();
    assert_eq!(known.takeovers.iter().filter(|takeover| takeover.home).count(), 1);
    let b = known.takeovers.iter().find(|takeover| takeover.dc == dc("b")).unwrap();
    let wrong: Vec<Aspect> = b.checks.iter().filter(|check| !check.holds).map(|check| check.aspect).collect();
    assert_eq!(wrong, [Aspect::Capacity], "these agents say nothing of their hosts: {b:?}");

    let ask = |dc: &str| json!({"unit": UNIT, "dc": dc, "trial": false});
    let post = |body| plane.request(Method::POST, "/v1/examinations").json(&body).send();
    assert_eq!(post(ask("elsewhere")).await.unwrap().status(), 404);
    let asked = post(ask("b")).await.unwrap();
    assert_eq!(asked.status(), 201);
    let asked: Examined = asked.json().await.unwrap();
    assert_eq!(post(ask("b")).await.unwrap().status(), 409, "one at a time");
    let path = format!("/v1/examinations/{}", asked.id);
    assert_eq!(plane.get(&path).await["doing"], "waiting for the agent");

    let report = |examined: Option<Examined>, world: &mut crate::world::World| {
        let mut report = world.report_of(&dc("b"));
        report.examined = examined;
        let sent = plane.request(Method::POST, "/v1/agents/b/report").json(&report).send();
        async { sent.await.unwrap().json::<AgentReply>().await.unwrap().examine }
    };
    let order = report(None, &mut world).await.unwrap();
    assert_eq!((&order.id, order.trial), (&asked.id, false));
    let doing = Examined { doing: "looking".to_owned(), ..asked.clone() };
    assert_eq!(report(Some(doing.clone()), &mut world).await, None, "it has been taken up");
    assert_eq!(plane.get(&path).await["doing"], "looking");
    let findings = Some(Findings { identities: Vec::new(), trial: None });
    let over = Examined { findings, ..doing };
    assert_eq!(report(Some(over.clone()), &mut world).await, None);
    let told: Examined = serde_json::from_value(plane.get(&path).await).unwrap();
    assert_eq!(told, over);
    assert_eq!(plane.request(Method::GET, "/v1/examinations/other").send().await.unwrap().status(), 404);
}
