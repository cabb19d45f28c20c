//! Writes that need a right.

use std::sync::{Arc, Mutex};

use dujiang_store::fenced::{Fenced, Right};
use dujiang_store::{Check, Error, RedbStore, Store, Txn};
use dujiang_types::Revision;

#[tokio::test]
async fn without_the_right_nothing_is_written_and_everything_read() {
    let folder = tempfile::tempdir().unwrap();
    let below: Arc<dyn Store> = Arc::new(RedbStore::open(folder.path().join("store.redb")).await.unwrap());
    let mine = below.transact(Txn::new().put("leader", "a")).await.unwrap().committed().unwrap();
    let right = Arc::new(Mutex::new(Right::While(Check { key: "leader".to_owned(), revision: mine })));
    let asked = Arc::clone(&right);
    let store = Fenced::new(Arc::clone(&below), move || asked.lock().unwrap().clone());

    assert!(store.transact(Txn::new().put("x", "1")).await.unwrap().committed().is_some());
    let conflict = store.compare_and_set("x", Revision(0), "2".into()).await.unwrap();
    assert_eq!(conflict.committed(), None, "its own conditions hold, too");

    // Somebody else takes over, and this one has not noticed yet.
    let _ = below.transact(Txn::new().put("leader", "b")).await.unwrap();
    assert!(matches!(store.transact(Txn::new().put("x", "3")).await, Err(Error::Fenced)));
    let entry = store.get("x").await.unwrap().unwrap();
    assert_eq!(entry.value, "1");
    assert!(matches!(store.delete_if("x", entry.revision).await, Err(Error::Fenced)));

    *right.lock().unwrap() = Right::Lost;
    assert!(matches!(store.transact(Txn::new().put("x", "4")).await, Err(Error::Fenced)));
    *right.lock().unwrap() = Right::Exclusive;
    assert!(store.transact(Txn::new().put("x", "5")).await.unwrap().committed().is_some());
    assert_eq!(store.list("x").await.unwrap().entries.len(), 1);
}
