//! A store made from a backup goes on above what it replaces, in both engines.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use bytes::Bytes;
use dujiang_store::{Error, Event, RedbStore, Store, Txn};
use dujiang_types::Revision;

// The fixture of the conformance suite, without its checks.
#[path = "suite/etcd.rs"]
mod etcd;

use etcd::EtcdServer;

/// How long anything may take on a machine that does much else.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);
const FIRST: Revision = Revision(1 << 50);

/// More than one transaction of etcd takes, in number and in bytes.
fn entries() -> Vec<(String, Bytes)> {
    let value = |i: usize| Bytes::from(vec![b'x'; if i.is_multiple_of(50) { 300 * 1024 } else { i }]);
    (0..300).map(|i| (format!("k{i:03}"), value(i))).collect()
}

async fn goes_on(store: Arc<dyn Store>) {
    let listing = store.list("").await.unwrap();
    let is: Vec<_> = listing.entries.iter().map(|e| (e.key.clone(), e.value.clone())).collect();
    assert!(is == entries());
    assert!(listing.entries.iter().all(|e| FIRST <= e.revision && e.revision <= listing.revision));
    assert_eq!(store.revision().await.unwrap(), listing.revision);
    // Who watched the store before must begin anew.
    for after in [Revision(0), Revision(7), Revision(FIRST.0 - 1)] {
        let refused = match store.watch("k", after).await {
            Err(error) => error,
            Ok(mut watch) => watch.next().await.unwrap_err(),
        };
        assert!(matches!(refused, Error::Compacted { .. }), "{after}: {refused}");
    }
    let mut watch = store.watch("k", listing.revision).await.unwrap();
    let entry = &listing.entries[1];
    let stale = store.compare_and_set(&entry.key, Revision(3), "new".into()).await.unwrap();
    assert!(stale.committed().is_none(), "a revision of before matches nothing");
    let absent = store.transact(Txn::new().check("new", Revision(0)).put("new", "1")).await.unwrap();
    assert!(absent.committed().is_some());
    let written = store.compare_and_set(&entry.key, entry.revision, "new".into()).await.unwrap();
    let written = written.committed().unwrap();
    assert!(written > listing.revision);
    let batch = tokio::time::timeout(DEADLINE, watch.next()).await.unwrap().unwrap();
    assert_eq!(batch.revision, written);
    assert!(matches!(&batch.events[..], [Event::Put(put)] if put.revision == written));
    store.compact(Revision(5)).await.unwrap();
    store.compact(written).await.unwrap();
    store.reclaim().await.unwrap();
    let size = store.size().await.unwrap();
    assert!(size.bytes > 0 && size.bytes < size.quota_bytes && size.alarms.is_empty(), "{size:?}");
}

#[tokio::test]
async fn a_file_goes_on_above_what_it_replaces() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    RedbStore::create_with(&path, FIRST, entries()).await.unwrap();
    goes_on(Arc::new(RedbStore::open(&path).await.unwrap())).await;
    assert!(RedbStore::create_with(&path, FIRST, entries()).await.is_err(), "it replaces nothing");
}

#[tokio::test]
async fn a_cluster_goes_on_above_what_it_replaces() {
    let mut server = EtcdServer::start().await;
    let mut store = server.connect().await;
    store.fill(FIRST, &entries()).await.unwrap();
    assert!(store.fill(FIRST, &entries()).await.is_err(), "only an empty one is filled");
    drop(store);
    goes_on(Arc::new(server.connect().await)).await;
    server.stop().await;
    server.start_again().await;
    let store = server.connect().await;
    assert!(store.revision().await.unwrap() > FIRST, "it is remembered");
    server.kill();
}
