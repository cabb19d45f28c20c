//! Transactions over several keys, conflicts, compare-and-set under contention.

use std::collections::BTreeSet;
use std::sync::Arc;

use dujiang_store::limits::VALUE_BYTES_MAX;
use dujiang_store::{Txn, TxnOutcome};
use dujiang_types::Revision;

use super::{Fixture, commit, put, within};

pub(crate) async fn all_writes_or_none(fixture: Fixture) {
    let store = &fixture.store;
    let unit = put(store, "units/a", "serving").await;
    let old = put(store, "operations/old", "done").await;

    let move_unit = |unit| {
        Txn::new()
            .check("units/a", unit)
            .check("operations/new", Revision(0))
            .check("operations/old", old)
            .put("units/a", "holding")
            .put("operations/new", "running")
            .delete("operations/old")
    };
    let moved = commit(store, move_unit(unit)).await;
    let listing = store.list("").await.unwrap();
    let keys: Vec<_> = listing.entries.iter().map(|entry| (entry.key.as_str(), entry.revision)).collect();
    assert_eq!(keys, [("operations/new", moved), ("units/a", moved)]);

    let again = store.transact(move_unit(unit)).await.unwrap();
    assert!(matches!(again, TxnOutcome::Conflict { ref key, .. } if key == "units/a"));
    assert_eq!(store.list("").await.unwrap(), listing);
}

pub(crate) async fn a_conflict_names_the_first_failed_check(fixture: Fixture) {
    let store = &fixture.store;
    let a = put(store, "a", "1").await;
    let b = put(store, "b", "2").await;

    let txn = Txn::new().check("a", a).check("b", a).check("c", b).put("d", "4");
    let TxnOutcome::Conflict { key, current } = store.transact(txn).await.unwrap() else {
        panic!("b has another revision")
    };
    let current = current.unwrap();
    assert_eq!((key.as_str(), current.key.as_str(), &current.value[..]), ("b", "b", &b"2"[..]));
    assert_eq!((current.revision, current.created), (b, b));

    let gone = store.compare_and_set("c", b, "3".into()).await.unwrap();
    assert_eq!(gone, TxnOutcome::Conflict { key: "c".to_owned(), current: None });
    let exists = store.compare_and_set("a", Revision(0), "3".into()).await.unwrap();
    assert!(matches!(exists, TxnOutcome::Conflict { current: Some(_), .. }));
    let never = store.compare_and_set("a", Revision(u64::MAX), "3".into()).await.unwrap();
    assert!(matches!(never, TxnOutcome::Conflict { current: Some(_), .. }));
    assert!(matches!(store.delete_if("a", b).await.unwrap(), TxnOutcome::Conflict { .. }));
    assert!(store.delete_if("a", a).await.unwrap().committed().unwrap() > b);
    assert_eq!(store.get("d").await.unwrap(), None);
}

pub(crate) async fn a_conflict_over_large_values_is_told(fixture: Fixture) {
    let store = &fixture.store;
    let mut checks = Txn::new().put("done", "1");
    let keys: Vec<_> = (0..20).map(|i| format!("large-{i:02}")).collect();
    for key in &keys {
        let revision = commit(store, Txn::new().put(key.as_str(), vec![1_u8; VALUE_BYTES_MAX])).await;
        checks = checks.check(key.as_str(), revision);
    }
    let changed = put(store, &keys[19], "small").await;
    let TxnOutcome::Conflict { key, current } = store.transact(checks).await.unwrap() else {
        panic!("the last key was changed")
    };
    assert_eq!((key.as_str(), current.unwrap().revision), (keys[19].as_str(), changed));
    assert_eq!(store.get("done").await.unwrap(), None);
}

pub(crate) async fn concurrent_increments_lose_nothing(fixture: Fixture) {
    const TASKS: usize = 8;
    const INCREMENTS: usize = 25;
    let store = &fixture.store;
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let mut revisions = Vec::new();
                while revisions.len() < INCREMENTS {
                    let current = store.get("counter").await.unwrap();
                    let (count, revision) = current.map_or((0, Revision(0)), |entry| {
                        let count: usize = std::str::from_utf8(&entry.value).unwrap().parse().unwrap();
                        (count, entry.revision)
                    });
                    let next = (count + 1).to_string().into();
                    let outcome = store.compare_and_set("counter", revision, next).await.unwrap();
                    revisions.extend(outcome.committed());
                }
                revisions
            })
        })
        .collect();
    let mut revisions = BTreeSet::new();
    for task in tasks {
        revisions.extend(within("increments", task).await.unwrap());
    }
    assert_eq!(revisions.len(), TASKS * INCREMENTS, "each increment has a revision of its own");
    let counter = store.get("counter").await.unwrap().unwrap();
    assert_eq!(&counter.value[..], (TASKS * INCREMENTS).to_string().as_bytes());
    assert_eq!(Some(&counter.revision), revisions.last());
}
