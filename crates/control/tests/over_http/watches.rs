//! Watches: a snapshot, then every change, whatever breaks in between.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dujiang_types::Code;
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::plane::{Plane, data_center, problem, unit};
use crate::sse::Reader;

#[tokio::test]
async fn a_watch_begins_with_what_is_there_and_goes_on_with_what_changes() {
    let plane = Plane::start().await;
    plane.put("/v1/datacenters/a", &data_center(11)).await;
    let mut watch = Reader::open(plane.request(Method::GET, "/v1/watch?kinds=datacenters")).await;
    let snapshot = watch.next().await.unwrap();
    assert_eq!(snapshot.name, "snapshot");
    assert_eq!(snapshot.id, snapshot.data["revision"].as_u64());
    assert_eq!(snapshot.data["items"][0], plane.get("/v1/datacenters/a").await);

    let made = plane.put("/v1/datacenters/b", &data_center(12)).await;
    let put = watch.next().await.unwrap();
    assert_eq!((put.name.as_str(), put.id, &put.data), ("put", made["revision"].as_u64(), &made));

    plane.request(Method::DELETE, "/v1/datacenters/b").send().await.unwrap();
    let delete = watch.next().await.unwrap();
    assert_eq!(delete.name, "delete");
    assert_eq!(delete.data, json!({"kind": "datacenters", "name": "b", "revision": delete.id}));
    assert!(delete.id > put.id);
}

#[tokio::test]
async fn a_watch_shows_the_kinds_asked_for_and_no_others() {
    let plane = Plane::with_platform().await;
    let mut watch = Reader::open(plane.request(Method::GET, "/v1/watch?kinds=units,applications")).await;
    let snapshot = watch.next().await.unwrap();
    let kinds: BTreeSet<&str> = snapshot.data["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, BTreeSet::from(["applications"]));
    plane.put("/v1/datacenters/d", &data_center(14)).await;
    plane.put("/v1/units/unit-1", &unit("0-9", 5401, "zero")).await;
    assert_eq!(watch.next().await.unwrap().data["kind"], "units");
    let unknown = plane.request(Method::GET, "/v1/watch?kinds=units,things").send().await.unwrap();
    assert_eq!(problem(unknown).await.code, Code::RequestInvalid);
}

#[tokio::test]
async fn a_revision_that_is_not_kept_or_never_was_is_gone() {
    let plane = Plane::start().await;
    let future = plane.request(Method::GET, "/v1/watch?from=999999").send().await.unwrap();
    assert_eq!(problem(future).await.code, Code::Compacted);
    for query in ["from=x", "from=-1", "from=99999999999999999999"] {
        let wrong = plane.request(Method::GET, &format!("/v1/watch?{query}")).send().await.unwrap();
        assert_eq!(problem(wrong).await.code, Code::RequestInvalid, "{query}");
    }
    let header = plane.request(Method::GET, "/v1/watch").header("last-event-id", "x").send().await.unwrap();
    assert_eq!(problem(header).await.code, Code::RequestInvalid);
}

#[tokio::test]
async fn silence_is_filled_with_comments() {
    let plane = Plane::start().await;
    let mut watch = Reader::open(plane.request(Method::GET, "/v1/watch")).await;
    watch.next().await.unwrap();
    assert_eq!(watch.soon(Duration::from_secs(8)).await, None);
    assert!(watch.comments >= 1);
}

#[tokio::test]
async fn a_shutdown_ends_watches_in_order() {
    let plane = Plane::start().await;
    let mut watch = Reader::open(plane.request(Method::GET, "/v1/watch")).await;
    watch.next().await.unwrap();
    plane.shutdown().await;
    assert_eq!(watch.next().await, None);
}

/// Follows a watch, breaking it off and resuming it again and again, and collects the revisions it is told of.
async fn follow(
    request: impl Fn() -> RequestBuilder,
    stop: Arc<AtomicBool>,
    break_after: usize,
) -> (u64, BTreeSet<u64>) {
    let mut seen = BTreeSet::new();
    let mut watch = Reader::open(request()).await;
    let start = watch.next().await.unwrap().id.unwrap();
    let mut last = start;
    let mut count = 0;
    loop {
        // All writes are acknowledged before `stop` is set, so silence after it is the end.
        let stopped = stop.load(Ordering::Acquire);
        match watch.soon(Duration::from_millis(if stopped { 2_000 } else { 200 })).await {
            None if stopped => return (start, seen),
            None => {}
            Some(event) => {
                let id = event.id.unwrap();
                assert!(id >= last, "revisions never fall: {id} after {last}");
                last = id;
                seen.insert(id);
                count += 1;
            }
        }
        if count == break_after {
            count = 0;
            watch = Reader::open(request().header("last-event-id", last.to_string())).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_change_is_ever_missed_while_many_write_and_watches_break() {
    let plane = Plane::start().await;
    for n in 0..4_u8 {
        plane.put(&format!("/v1/datacenters/dc-{n}"), &data_center(20 + n)).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (client, url) = (plane.client.clone(), plane.url("/v1/watch"));
    let mut watchers = Vec::new();
    for break_after in [1000, 7, 2] {
        let (client, url) = (client.clone(), url.clone());
        watchers.push(tokio::spawn(follow(move || client.get(&url), Arc::clone(&stop), break_after)));
    }
    let writers: Vec<_> = (0..4_u8)
        .map(|n| {
            let (client, url) = (client.clone(), plane.url(&format!("/v1/datacenters/dc-{n}")));
            tokio::spawn(async move {
                let mut written = BTreeMap::new();
                for round in 0..40 {
                    let mut body = data_center(20 + n);
                    body["labels"] = json!({"round": round.to_string()});
                    let response = client.put(&url).json(&body).send().await.unwrap();
                    let body: serde_json::Value = response.json().await.unwrap();
                    written.insert(body["revision"].as_u64().unwrap(), round);
                }
                written
            })
        })
        .collect();
    // One that begins in the middle of the writing.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let late = (client.clone(), url.clone());
    watchers.push(tokio::spawn(follow(move || late.0.get(&late.1), Arc::clone(&stop), 5)));

    let mut written = BTreeSet::new();
    for writer in writers {
        written.extend(writer.await.unwrap().into_keys());
    }
    assert_eq!(written.len(), 160);
    stop.store(true, Ordering::Release);
    for watcher in watchers {
        let (start, seen) = watcher.await.unwrap();
        let missed: Vec<&u64> = written.iter().filter(|r| **r > start && !seen.contains(r)).collect();
        assert_eq!(missed, Vec::<&u64>::new());
    }
}

#[tokio::test]
async fn the_routing_table_comes_whole_at_once_and_on_every_change() {
    let plane = Plane::with_platform().await;
    let mut watch = Reader::open(plane.request(Method::GET, "/v1/routing/watch")).await;
    let first = watch.next().await.unwrap();
    assert_eq!(first.name, "table");
    assert_eq!(first.data["units"], json!([]));
    assert_eq!(first.data["mesh"]["c"], "127.0.13.1:7200");

    plane.put("/v1/units/unit-1", &unit("0-9", 5401, "zero")).await;
    let second = watch.next().await.unwrap();
    assert!(second.id > first.id);
    assert_eq!(second.data["units"][0]["mode"], "hold");
    assert_eq!(second.data, plane.get("/v1/routing").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_watches_is_bounded_and_freed() {
    let plane = Plane::start().await;
    let mut watches = Vec::new();
    let refused = loop {
        let response = plane.request(Method::GET, "/v1/watch").send().await.unwrap();
        if response.status() != 200 {
            break response;
        }
        watches.push(response);
        assert!(watches.len() < 1000);
    };
    let refused = problem(refused).await;
    assert_eq!((refused.code, refused.retry_after), (Code::Overloaded, Some(1)));
    drop(watches);
    let again = async {
        while plane.request(Method::GET, "/v1/watch").send().await.unwrap().status() != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::plane::DEADLINE, again).await.unwrap();
}
