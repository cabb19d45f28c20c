//! Typed resources over a store.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::sync::Arc;

use dujiang_store::{Error, RedbStore, Resources, Saved, Txn, resources};
use dujiang_types::{Kind, Resource, Revision};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Spec {
    home: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Status {
    epoch: u64,
}

type Thing = Resource<Spec, Status>;

fn thing(name: &str, epoch: u64) -> Thing {
    Resource {
        kind: Kind::Unit,
        name: name.to_owned(),
        labels: BTreeMap::from([("region".to_owned(), "chengdu".to_owned())]),
        revision: Revision(0),
        spec: Spec { home: "chengdu-1".to_owned() },
        status: Status { epoch },
    }
}

async fn fresh() -> (tempfile::TempDir, Resources) {
    let folder = tempfile::tempdir().unwrap();
    let store = RedbStore::open(folder.path().join("store.redb")).await.unwrap();
    (folder, Resources::new(Arc::new(store)))
}

async fn save(resources: &Resources, thing: Thing) -> Thing {
    match resources.save(thing).await.unwrap() {
        Saved::Written(thing) => thing,
        conflict @ Saved::Conflict(_) => panic!("{conflict:?}"),
    }
}

#[tokio::test]
async fn the_revision_comes_from_the_store() {
    let (_folder, resources) = fresh().await;
    assert_eq!(resources.get::<Spec, Status>(Kind::Unit, "unit-1").await.unwrap(), None);
    let made = save(&resources, thing("unit-1", 1)).await;
    assert!(made.revision > Revision(0));
    let mut read: Thing = resources.get(Kind::Unit, "unit-1").await.unwrap().unwrap();
    assert_eq!(read, made);
    read.status.epoch = 2;
    let changed = save(&resources, read).await;
    assert!(changed.revision > made.revision);
    let entry = resources.store().get("units/unit-1").await.unwrap().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&entry.value).unwrap();
    assert_eq!((&json["revision"], &json["status"]["epoch"]), (&0.into(), &2.into()));
    assert_eq!(resources::decode::<Spec, Status>(&entry).unwrap(), changed);
}

#[tokio::test]
async fn only_the_revision_read_can_be_replaced() {
    let (_folder, resources) = fresh().await;
    let made = save(&resources, thing("unit-1", 1)).await;
    let exists = resources.save(thing("unit-1", 9)).await.unwrap();
    assert_eq!(exists, Saved::Conflict(Some(made.clone())));
    let changed = save(&resources, Thing { status: Status { epoch: 2 }, ..made.clone() }).await;
    let stale = resources.save(Thing { status: Status { epoch: 3 }, ..made.clone() }).await.unwrap();
    assert_eq!(stale, Saved::Conflict(Some(changed.clone())));
    let deleted = resources.delete(Kind::Unit, "unit-1", made.revision).await.unwrap();
    assert_eq!(deleted.committed(), None);
    let deleted = resources.delete(Kind::Unit, "unit-1", changed.revision).await.unwrap();
    assert!(deleted.committed().is_some());
    assert_eq!(resources.save(changed).await.unwrap(), Saved::Conflict(None));
}

#[tokio::test]
async fn several_are_listed_and_changed_together() {
    let (_folder, resources) = fresh().await;
    let mut txn = Txn::new();
    for name in ["unit-2", "unit-1"] {
        let (check, write) = resources::change(&thing(name, 1)).unwrap();
        txn.checks.push(check);
        txn.writes.push(write);
    }
    let revision = resources.store().transact(txn).await.unwrap().committed().unwrap();
    resources.store().transact(Txn::new().put("operations/a", "{}")).await.unwrap().committed().unwrap();
    let listed = resources.list::<Spec, Status>(Kind::Unit).await.unwrap();
    let names: Vec<_> = listed.items.iter().map(|thing| (thing.name.as_str(), thing.revision)).collect();
    assert_eq!(names, [("unit-1", revision), ("unit-2", revision)]);
    assert!(listed.revision > revision);
}

#[tokio::test]
async fn what_is_not_the_resource_it_should_be_is_refused() {
    let (_folder, resources) = fresh().await;
    let other = resources::encode(&thing("unit-2", 1)).unwrap();
    for value in [other, "{}".into(), "not json".into(), [0xff_u8, 0xfe].to_vec().into()] {
        let current = resources.store().get("units/unit-1").await.unwrap();
        let revision = current.map_or(Revision(0), |entry| entry.revision);
        let set = resources.store().compare_and_set("units/unit-1", revision, value).await.unwrap();
        assert!(set.committed().is_some());
        let refused = resources.get::<Spec, Status>(Kind::Unit, "unit-1").await;
        assert!(
            matches!(refused, Err(Error::Corrupt { ref key, .. }) if key == "units/unit-1"),
            "{refused:?}"
        );
        assert!(resources.list::<Spec, Status>(Kind::Unit).await.is_err());
    }
}
