//! Leases and the keys bound to them.

use std::time::Duration;

use dujiang_store::limits::{LEASE_TTL_MAX, LEASE_TTL_MIN};
use dujiang_store::{Error, LeaseId, Txn};
use tokio::time::{Instant, sleep};

use super::{Fixture, commit, next, put, within, words};

pub(crate) async fn keys_vanish_with_their_lease(fixture: Fixture) {
    let store = &fixture.store;
    let granted = Instant::now();
    let lease = store.grant(LEASE_TTL_MIN).await.unwrap();
    let txn = Txn::new().put_leased("s/b", "1", lease).put_leased("s/a", "1", lease).put("s/c", "1");
    let made = commit(store, txn).await;
    assert_eq!(store.get("s/a").await.unwrap().unwrap().lease, Some(lease));
    assert_eq!(store.get("s/c").await.unwrap().unwrap().lease, None);

    let mut watch = store.watch("s/", made).await.unwrap();
    let batch = next(&mut watch).await;
    assert!(granted.elapsed() >= LEASE_TTL_MIN, "a lease never ends early");
    assert_eq!(words(&batch), ["s/a", "s/b"], "both in one revision");
    assert!(batch.revision > made);
    let left: Vec<_> = store.list("s/").await.unwrap().entries.into_iter().map(|entry| entry.key).collect();
    assert_eq!(left, ["s/c"]);

    let not_found = |outcome| matches!(outcome, Err(Error::LeaseNotFound(missing)) if missing == lease);
    assert!(not_found(store.keep_alive(lease).await));
    assert!(not_found(store.revoke(lease).await));
    assert!(not_found(store.transact(Txn::new().put_leased("s/d", "1", lease)).await.map(drop)));
    assert_eq!(store.get("s/d").await.unwrap(), None);
}

pub(crate) async fn a_lease_kept_alive_stays(fixture: Fixture) {
    // Long enough that a loaded machine does not miss it, and kept alive for longer than that.
    let ttl = Duration::from_secs(6);
    let store = &fixture.store;
    let lease = store.grant(ttl).await.unwrap();
    let made = commit(store, Txn::new().put_leased("leader", "me", lease)).await;
    let kept_until = Instant::now() + ttl + ttl / 2;
    while Instant::now() < kept_until {
        store.keep_alive(lease).await.unwrap();
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(store.get("leader").await.unwrap().unwrap().revision, made);
    let mut watch = store.watch("leader", made).await.unwrap();
    assert_eq!(words(&next(&mut watch).await), ["leader"]);
    assert!(matches!(store.keep_alive(lease).await, Err(Error::LeaseNotFound(_))));
}

pub(crate) async fn a_revoked_lease_takes_its_keys_along(fixture: Fixture) {
    let store = &fixture.store;
    let (lease, other) =
        (store.grant(LEASE_TTL_MAX).await.unwrap(), store.grant(LEASE_TTL_MAX).await.unwrap());
    assert_ne!(lease, other);
    let made = commit(store, Txn::new().put_leased("a", "1", lease)).await;
    put(store, "b", "1").await;
    commit(store, Txn::new().put_leased("c", "1", other)).await;
    store.revoke(lease).await.unwrap();
    assert_eq!(store.get("a").await.unwrap(), None);
    assert!(store.get("b").await.unwrap().is_some());
    assert!(store.get("c").await.unwrap().is_some());
    let mut watch = store.watch("a", made).await.unwrap();
    assert_eq!(words(&next(&mut watch).await), ["a"]);
    assert!(matches!(store.revoke(lease).await, Err(Error::LeaseNotFound(_))));
    store.keep_alive(other).await.unwrap();
    // A lease without keys ends without a revision.
    let revision = store.revision().await.unwrap();
    let empty = store.grant(LEASE_TTL_MAX).await.unwrap();
    store.revoke(empty).await.unwrap();
    assert_eq!(store.revision().await.unwrap(), revision);
}

pub(crate) async fn a_key_belongs_to_the_lease_of_its_last_write(fixture: Fixture) {
    let store = &fixture.store;
    let (first, second) =
        (store.grant(LEASE_TTL_MAX).await.unwrap(), store.grant(LEASE_TTL_MAX).await.unwrap());
    commit(store, Txn::new().put_leased("freed", "1", first).put_leased("handed-on", "1", first)).await;
    commit(store, Txn::new().put_leased("deleted", "1", first).put_leased("kept", "1", first)).await;
    put(store, "freed", "2").await;
    commit(store, Txn::new().put_leased("handed-on", "2", second)).await;
    commit(store, Txn::new().delete("deleted")).await;
    put(store, "deleted", "2").await;
    store.revoke(first).await.unwrap();
    let left = store.list("").await.unwrap().entries;
    let left: Vec<_> = left.iter().map(|entry| (entry.key.as_str(), entry.lease)).collect();
    assert_eq!(left, [("deleted", None), ("freed", None), ("handed-on", Some(second))]);
}

pub(crate) async fn a_lease_unknown_is_refused(fixture: Fixture) {
    let store = &fixture.store;
    let unknown = LeaseId(4711);
    let before = store.revision().await.unwrap();
    let txn = Txn::new().put("a", "1").put_leased("b", "1", unknown);
    let refused = within("an answer", store.transact(txn)).await;
    assert!(matches!(refused, Err(Error::LeaseNotFound(lease)) if lease == unknown), "{refused:?}");
    assert!(matches!(store.keep_alive(unknown).await, Err(Error::LeaseNotFound(_))));
    assert!(matches!(store.revoke(unknown).await, Err(Error::LeaseNotFound(_))));
    let mixed = Txn::new().put_leased("a", "1", LeaseId(1)).put_leased("b", "1", LeaseId(2));
    assert!(matches!(store.transact(mixed).await, Err(Error::Invalid { .. })));
    let endless = store.grant(LEASE_TTL_MAX + Duration::from_secs(1)).await;
    assert!(matches!(endless, Err(Error::Invalid { .. })));
    assert_eq!(store.revision().await.unwrap(), before);
}
