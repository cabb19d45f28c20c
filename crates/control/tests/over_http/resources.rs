//! Reading, writing and deleting resources.

use dujiang_types::{Code, Problem};
use reqwest::header::{IF_MATCH, IF_NONE_MATCH};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::plane::{Plane, application, data_center, problem, unit};

fn etag(response: &reqwest::Response) -> String {
    response.headers()["etag"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_resource_is_created_read_changed_and_deleted() {
    let plane = Plane::start().await;
    let created = plane.try_put("/v1/datacenters/a", &data_center(11)).await;
    assert_eq!(created.status(), StatusCode::CREATED);
    let first = etag(&created);
    let body: Value = created.json().await.unwrap();
    assert_eq!((body["kind"].as_str(), body["name"].as_str()), (Some("datacenters"), Some("a")));
    assert_eq!(format!("\"{}\"", body["revision"]), first);

    let read = plane.request(Method::GET, "/v1/datacenters/a").send().await.unwrap();
    assert_eq!(etag(&read), first);
    assert_eq!(read.json::<Value>().await.unwrap(), body);

    let same = plane.try_put("/v1/datacenters/a", &data_center(11)).await;
    assert_eq!(
        (same.status(), etag(&same)),
        (StatusCode::OK, first.clone()),
        "nothing to change, nothing written"
    );

    let mut changed = data_center(11);
    changed["labels"] = json!({"tier": "gold"});
    let changed = plane.try_put("/v1/datacenters/a", &changed).await;
    assert_eq!(changed.status(), StatusCode::OK);
    assert_ne!(etag(&changed), first);

    let deleted = plane.request(Method::DELETE, "/v1/datacenters/a").send().await.unwrap();
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    let gone = plane.request(Method::GET, "/v1/datacenters/a").send().await.unwrap();
    assert_eq!(problem(gone).await.code, Code::NotFound);
    plane.shutdown().await;
}

#[tokio::test]
async fn a_write_can_be_bound_to_a_revision() {
    let plane = Plane::start().await;
    let put = async |header: reqwest::header::HeaderName, value: &str, threads: u16| {
        let mut body = data_center(11);
        body["spec"]["gateway"]["threads"] = json!(threads);
        plane
            .request(Method::PUT, "/v1/datacenters/a")
            .header(header, value)
            .json(&body)
            .send()
            .await
            .unwrap()
    };
    assert_eq!(
        problem(put(IF_MATCH, "\"5\"", 1).await).await.code,
        Code::RevisionConflict,
        "there is nothing yet"
    );
    let created = put(IF_NONE_MATCH, "*", 1).await;
    assert_eq!(created.status(), StatusCode::CREATED);
    assert_eq!(problem(put(IF_NONE_MATCH, "*", 2).await).await.code, Code::AlreadyExists);
    let tag = etag(&created);
    let changed = put(IF_MATCH, &tag, 2).await;
    assert_eq!(changed.status(), StatusCode::OK);
    assert_eq!(problem(put(IF_MATCH, &tag, 3).await).await.code, Code::RevisionConflict);
    assert_eq!(problem(put(IF_MATCH, "yesterday", 3).await).await.code, Code::RequestInvalid);

    let delete = async |value: &str| {
        plane.request(Method::DELETE, "/v1/datacenters/a").header(IF_MATCH, value).send().await.unwrap()
    };
    assert_eq!(problem(delete(&tag).await).await.code, Code::RevisionConflict);
    assert_eq!(delete(&etag(&changed)).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_writers_with_the_same_revision_one_wins() {
    let plane = Plane::start().await;
    let tag = etag(&plane.try_put("/v1/datacenters/a", &data_center(11)).await);
    let writes = (2..18).map(|threads| {
        let mut body = data_center(11);
        body["spec"]["gateway"]["threads"] = json!(threads);
        let request = plane.request(Method::PUT, "/v1/datacenters/a").header(IF_MATCH, &tag).json(&body);
        tokio::spawn(async move { request.send().await.unwrap().status() })
    });
    let mut statuses = Vec::new();
    for write in writes.collect::<Vec<_>>() {
        statuses.push(write.await.unwrap());
    }
    assert_eq!(statuses.iter().filter(|s| **s == StatusCode::OK).count(), 1, "{statuses:?}");
    assert_eq!(
        statuses.iter().filter(|s| **s == StatusCode::PRECONDITION_FAILED).count(),
        15,
        "{statuses:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_units_that_want_the_same_slots_one_gets_them() {
    let plane = Plane::with_platform().await;
    let puts = (0..12_u16).map(|n| {
        let path = format!("/v1/units/unit-{n}");
        let request = plane.request(Method::PUT, &path).json(&unit("100-200", 5400 + n, "zero"));
        tokio::spawn(async move { request.send().await.unwrap().status() })
    });
    let mut created = 0;
    for put in puts.collect::<Vec<_>>() {
        created += u32::from(put.await.unwrap() == StatusCode::CREATED);
    }
    assert_eq!(created, 1);
    assert_eq!(plane.get("/v1/units").await["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_new_unit_begins_at_epoch_one_with_nothing_claimed() {
    let plane = Plane::with_platform().await;
    for (name, slots, port, durability, need) in
        [("unit-1", "0-9", 5401, "zero", 1), ("unit-2", "10-19", 5402, "bounded", 0)]
    {
        let made = plane.put(&format!("/v1/units/{name}"), &unit(slots, port, durability)).await;
        let status = &made["status"];
        assert_eq!((&status["epoch"], &status["home"]), (&json!(1), &json!("a")));
        assert_eq!(status["phase"], json!({"name": "forming"}));
        let claims = json!([{"epoch": 1, "primary": "a", "set": {"members": [], "need": need}}]);
        assert_eq!(status["claims"], claims);
    }
    // The intent of a unit can be written again without touching what was decided about it.
    let mut body = unit("0-9", 5401, "zero");
    body["labels"] = json!({"a": "b"});
    body["status"] = json!({"epoch": 99});
    assert_eq!(plane.put("/v1/units/unit-1", &body).await["status"]["epoch"], 1);
}

async fn refused(plane: &Plane, path: &str, body: &Value) -> Problem {
    let problem = problem(plane.try_put(path, body).await).await;
    assert_eq!(problem.code, Code::RequestInvalid, "{problem}");
    problem
}

#[tokio::test]
async fn mistakes_are_named_with_their_place_and_all_of_them() {
    let plane = Plane::with_platform().await;
    let mut typed = unit("0-9", 5401, "zero");
    typed["spec"]["slots"] = json!(["0-9", "9-1"]);
    let detail = refused(&plane, "/v1/units/unit-1", &typed).await.detail;
    assert!(detail.starts_with("spec.slots[1]:") && detail.contains("slot range"), "{detail}");

    let mut crossed = unit("0-9", 8080, "zero");
    crossed["spec"]["home"] = json!("x");
    crossed["spec"]["replicas"] = json!(["a", "y"]);
    let detail = refused(&plane, "/v1/units/unit-1", &crossed).await.detail;
    for mistake in ["spec.home: x", "no data center y", "gateway of a", "does not run in y"] {
        assert!(detail.contains(mistake), "{mistake}: {detail}");
    }
    let overlapping = refused(&plane, "/v1/datacenters/d", &data_center(12)).await.detail;
    assert!(overlapping.contains("127.0.12.0/24 of b"), "{overlapping}");
    assert!(refused(&plane, "/v1/datacenters/UP", &data_center(14)).await.detail.contains("is not a name"));
    let operation = plane.try_put("/v1/operations/move-1", &json!({})).await;
    assert_eq!(problem(operation).await.code, Code::MethodNotAllowed);
}

#[tokio::test]
async fn what_is_in_use_is_not_deleted() {
    let plane = Plane::with_platform().await;
    plane.put("/v1/units/unit-1", &unit("0-9", 5401, "zero")).await;
    let delete = async |path: &str| plane.request(Method::DELETE, path).send().await.unwrap();
    for path in ["/v1/datacenters/a", "/v1/applications/bank"] {
        let problem = problem(delete(path).await).await;
        assert!(problem.code == Code::Refused && problem.detail.contains("unit-1"), "{path}: {problem}");
    }
    for path in ["/v1/units/unit-1", "/v1/applications/bank", "/v1/datacenters/a"] {
        assert_eq!(delete(path).await.status(), StatusCode::NO_CONTENT, "{path}");
    }
    assert_eq!(problem(delete("/v1/datacenters/a").await).await.code, Code::NotFound);
}

#[tokio::test]
async fn lists_come_in_bounded_pages() {
    let plane = Plane::start().await;
    for number in 20..27 {
        plane.put(&format!("/v1/datacenters/dc-{number}"), &data_center(number)).await;
    }
    let mut names = Vec::new();
    let mut path = "/v1/datacenters?limit=3".to_owned();
    let mut pages = 0;
    loop {
        let page = plane.get(&path).await;
        pages += 1;
        let items = page["items"].as_array().unwrap().iter();
        names.extend(items.map(|item| item["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/datacenters?limit=3&after={next}");
    }
    let expected: Vec<String> = (20..27).map(|number| format!("dc-{number}")).collect();
    assert_eq!((names, pages), (expected, 3));
    for limit in ["0", "501", "-1", "x"] {
        let response = plane.request(Method::GET, &format!("/v1/units?limit={limit}")).send().await.unwrap();
        assert_eq!(problem(response).await.code, Code::RequestInvalid, "{limit}");
    }
    let unknown = plane.request(Method::GET, "/v1/things").send().await.unwrap();
    assert_eq!(problem(unknown).await.code, Code::RouteUnknown);
}

#[tokio::test]
async fn everything_is_still_there_after_a_crash() {
    let mut plane = Plane::with_platform().await;
    plane.put("/v1/units/unit-1", &unit("0-9", 5401, "zero")).await;
    let before = (plane.get("/v1/units/unit-1").await["spec"].clone(), plane.get("/v1/datacenters").await);
    plane.kill();
    plane.revive().await;
    let after = (plane.get("/v1/units/unit-1").await["spec"].clone(), plane.get("/v1/datacenters").await);
    assert_eq!(before.0, after.0);
    assert_eq!(before.1["items"], after.1["items"]);
    plane.put("/v1/applications/bank", &application()).await;
}

#[tokio::test]
async fn a_record_that_cannot_be_read_stops_itself_and_nothing_else() {
    let mut plane = Plane::with_platform().await;
    plane.put("/v1/units/unit-1", &unit("0-9", 5401, "zero")).await;
    plane.put("/v1/units/unit-2", &unit("10-19", 5402, "zero")).await;
    plane.kill();
    let store = plane.open_store().await;
    for (key, value) in
        [("units/unit-1", r#"{"kind":"units","name":"unit-1","spec":{}}"#), ("units/x", "not JSON")]
    {
        let txn = dujiang_store::Txn::new().put(key, value);
        assert!(store.transact(txn).await.unwrap().committed().is_some());
    }
    drop(store);
    plane.revive().await;
    let status = plane.get("/v1/status").await;
    let unreadable: Vec<&String> = status["unreadable"].as_object().unwrap().keys().collect();
    assert_eq!(unreadable, ["units/unit-1", "units/x"]);
    assert!(status["units"]["unit-2"].is_object() && status["units"].get("unit-1").is_none());
    let mut watch = crate::sse::Reader::open(plane.request(Method::GET, "/v1/watch?kinds=units")).await;
    assert_eq!(
        watch.next().await.unwrap().data["items"].as_array().unwrap().len(),
        2,
        "what is no JSON is left out"
    );
    let read = plane.request(Method::GET, "/v1/units/x").send().await.unwrap();
    assert_eq!(problem(read).await.code, Code::Internal);
}
