//! Entries, revisions, listings, bounds.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dujiang_store::limits::{KEY_BYTES_MAX, TXN_BYTES_MAX, TXN_OPS_MAX, VALUE_BYTES_MAX};
use dujiang_store::{Error, Txn, TxnOutcome};
use dujiang_types::Revision;

use super::{Fixture, commit, next, put, within};

pub(crate) async fn entries_carry_the_revisions_of_their_writes(fixture: Fixture) {
    let store = &fixture.store;
    let start = store.revision().await.unwrap();
    assert!(start >= Revision(1));
    assert_eq!(store.get("units/a").await.unwrap(), None);

    let made = put(store, "units/a", "1").await;
    assert!(made > start);
    let entry = store.get("units/a").await.unwrap().unwrap();
    assert_eq!((entry.key.as_str(), &entry.value[..], entry.lease), ("units/a", &b"1"[..], None));
    assert_eq!((entry.revision, entry.created), (made, made));

    let changed = put(store, "units/a", "").await;
    assert!(changed > made);
    let entry = store.get("units/a").await.unwrap().unwrap();
    assert_eq!((&entry.value[..], entry.revision, entry.created), (&b""[..], changed, made));

    let deleted = commit(store, Txn::new().delete("units/a")).await;
    assert!(deleted > changed);
    assert_eq!(store.get("units/a").await.unwrap(), None);
    assert_eq!(store.revision().await.unwrap(), deleted);

    let again = put(store, "units/a", "2").await;
    assert_eq!(store.get("units/a").await.unwrap().unwrap().created, again);
}

pub(crate) async fn what_changes_nothing_raises_no_revision(fixture: Fixture) {
    let store = &fixture.store;
    let made = put(store, "a", "1").await;
    let mut watch = store.watch("", made).await.unwrap();
    assert_eq!(commit(store, Txn::new().delete("missing")).await, made);
    assert_eq!(commit(store, Txn::new().check("a", made)).await, made);
    assert_eq!(commit(store, Txn::new()).await, made);
    let conflict = store.compare_and_set("a", Revision(0), "2".into()).await.unwrap();
    assert_eq!(conflict.committed(), None);
    assert_eq!(store.revision().await.unwrap(), made);
    // A delete of a key that exists beside one that does not: one event.
    let deleted = commit(store, Txn::new().delete("missing").delete("a")).await;
    let batch = next(&mut watch).await;
    assert_eq!((batch.revision, batch.events.len()), (deleted, 1));
}

pub(crate) async fn requests_over_the_bounds_are_refused(fixture: Fixture) {
    let store = &fixture.store;
    let before = store.revision().await.unwrap();
    let long = "k".repeat(KEY_BYTES_MAX + 1);
    let half = vec![0_u8; VALUE_BYTES_MAX];
    let puts = |count| (0..count).fold(Txn::new(), |txn, i| txn.put(format!("k{i}"), "v"));
    let checks = (0..=TXN_OPS_MAX).fold(Txn::new(), |txn, i| txn.check(format!("k{i}"), Revision(0)));
    for (what, txn) in [
        ("a long key", Txn::new().put(long.clone(), "v")),
        ("a large value", Txn::new().put("k", vec![0_u8; VALUE_BYTES_MAX + 1])),
        ("much in all", Txn::new().put("a", half.clone()).put("b", half.clone()).put("c", "1")),
        ("many writes", puts(TXN_OPS_MAX + 1)),
        ("many checks", checks),
    ] {
        assert!(matches!(store.transact(txn).await, Err(Error::TooLarge { .. })), "{what}");
    }
    for (what, txn) in [
        ("an empty key", Txn::new().put("", "v")),
        ("a zero byte", Txn::new().put("a\0b", "v")),
        ("a key twice", Txn::new().put("a", "1").delete("a")),
    ] {
        assert!(matches!(store.transact(txn).await, Err(Error::Invalid { .. })), "{what}");
    }
    assert!(matches!(store.get("").await, Err(Error::Invalid { .. })));
    assert!(matches!(store.list(&long).await, Err(Error::TooLarge { .. })));
    assert!(matches!(store.watch(&long, before).await, Err(Error::TooLarge { .. })));
    assert_eq!(store.revision().await.unwrap(), before);
}

pub(crate) async fn requests_at_the_bounds_are_taken(fixture: Fixture) {
    let store = &fixture.store;
    let start = store.revision().await.unwrap();
    let mut watch = store.watch("", start).await.unwrap();
    // The most operations, the longest keys, and values that fill the rest.
    let key = |i: usize| format!("{i:0>KEY_BYTES_MAX$}");
    let room = TXN_BYTES_MAX - 2 * TXN_OPS_MAX * KEY_BYTES_MAX;
    let value = vec![7_u8; room / TXN_OPS_MAX];
    let full =
        (0..TXN_OPS_MAX).fold(Txn::new(), |txn, i| txn.check(key(i), Revision(0)).put(key(i), value.clone()));
    let written = commit(store, full).await;
    assert_eq!(store.list("").await.unwrap().entries.len(), TXN_OPS_MAX);
    let batch = next(&mut watch).await;
    assert_eq!((batch.revision, batch.events.len()), (written, TXN_OPS_MAX));

    let largest = vec![8_u8; VALUE_BYTES_MAX];
    commit(store, Txn::new().put("large", largest.clone())).await;
    assert_eq!(store.get("large").await.unwrap().unwrap().value, largest);
    assert_eq!(next(&mut watch).await.events.len(), 1);
}

pub(crate) async fn a_listing_holds_exactly_the_prefix_in_order(fixture: Fixture) {
    let store = &fixture.store;
    // More than a page of etcd's.
    let names: BTreeSet<String> = (0..250).map(|i| format!("units/unit-{i}")).collect();
    for chunk in names.iter().collect::<Vec<_>>().chunks(TXN_OPS_MAX) {
        commit(store, chunk.iter().fold(Txn::new(), |txn, name| txn.put(name.as_str(), "u"))).await;
    }
    let last =
        commit(store, Txn::new().put("unit", "x").put("units", "x").put("units0", "x").put("v", "x")).await;
    let listing = store.list("units/").await.unwrap();
    assert_eq!(listing.revision, last);
    assert!(listing.entries.iter().map(|entry| &entry.key).eq(&names));
    assert_eq!(store.list("").await.unwrap().entries.len(), names.len() + 4);
    assert_eq!(store.list("units").await.unwrap().entries.len(), names.len() + 2);
    assert_eq!(store.list("nobody").await.unwrap().entries, []);
}

pub(crate) async fn a_listing_is_of_one_moment(fixture: Fixture) {
    let store = &fixture.store;
    let done = Arc::new(AtomicBool::new(false));
    let write_all = |round: u32| {
        // Two pages of etcd's, all set in one transaction.
        (0..TXN_OPS_MAX).fold(Txn::new(), |txn, i| txn.put(format!("k{i:03}"), round.to_string()))
    };
    commit(store, write_all(0)).await;
    let writer = tokio::spawn({
        let (store, done) = (Arc::clone(store), Arc::clone(&done));
        async move {
            let mut round = 0;
            while !done.load(Ordering::Relaxed) {
                round += 1;
                commit(&store, write_all(round)).await;
            }
            round
        }
    });
    let mut seen = BTreeSet::new();
    within("listings of several rounds", async {
        while seen.len() < 5 {
            let listing = store.list("k").await.unwrap();
            let values: BTreeSet<_> =
                listing.entries.iter().map(|entry| (&entry.value, entry.revision)).collect();
            assert_eq!((listing.entries.len(), values.len()), (TXN_OPS_MAX, 1));
            let revision = listing.entries[0].revision;
            assert_eq!(listing.revision, revision, "every write sets every key");
            seen.insert(revision);
        }
    })
    .await;
    done.store(true, Ordering::Relaxed);
    assert!(writer.await.unwrap() >= 4);
    let outcome = store.delete_if("k000", Revision(1)).await.unwrap();
    assert!(matches!(outcome, TxnOutcome::Conflict { .. }));
}
