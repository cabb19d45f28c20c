//! The checks, and what they run against.

pub(crate) mod etcd;
pub(crate) mod leases;
pub(crate) mod restarts;
pub(crate) mod transactions;
pub(crate) mod values;
pub(crate) mod watches;

use std::sync::Arc;
use std::time::Duration;

use dujiang_store::{Batch, Event, RedbStore, Result, Store, Txn, TxnOutcome, Watch};
use dujiang_types::Revision;
use tempfile::TempDir;
use tokio::time::timeout;

use self::etcd::EtcdServer;

/// How long anything may take on a machine that does much else; reached only if something hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A fresh store and what is below it.
pub(crate) struct Fixture {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) below: Below,
}

/// What is below a store.
pub(crate) enum Below {
    /// The folder of `store.redb`.
    Redb(TempDir),
    /// The server.
    Etcd(EtcdServer),
}

impl Fixture {
    pub(crate) async fn redb() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(RedbStore::open(folder.path().join("store.redb")).await.unwrap());
        Self { store, below: Below::Redb(folder) }
    }

    pub(crate) async fn etcd() -> Self {
        let server = EtcdServer::start().await;
        let store = Arc::new(server.connect().await);
        Self { store, below: Below::Etcd(server) }
    }

    /// Closes the store in order and opens it anew.
    pub(crate) async fn reopen(self) -> Self {
        let Self { store, below } = self;
        drop(store);
        match below {
            Below::Redb(folder) => {
                let store = Arc::new(RedbStore::open(folder.path().join("store.redb")).await.unwrap());
                Self { store, below: Below::Redb(folder) }
            }
            Below::Etcd(mut server) => {
                server.stop().await;
                server.start_again().await;
                let store = Arc::new(server.connect().await);
                Self { store, below: Below::Etcd(server) }
            }
        }
    }
}

/// The outcome of something that must not hang.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

/// Commits a transaction that must not conflict.
pub(crate) async fn commit(store: &Arc<dyn Store>, txn: Txn) -> Revision {
    match store.transact(txn).await.unwrap() {
        TxnOutcome::Committed(revision) => revision,
        conflict @ TxnOutcome::Conflict { .. } => panic!("{conflict:?}"),
    }
}

/// Sets a key.
pub(crate) async fn put(store: &Arc<dyn Store>, key: &str, value: &str) -> Revision {
    commit(store, Txn::new().put(key, value.to_owned())).await
}

/// The next batch, which must come.
pub(crate) async fn next(watch: &mut Watch) -> Batch {
    within("a batch", watch.next()).await.unwrap()
}

/// What a watch begins with: the error of `watch` or of the first `next`.
pub(crate) async fn first(store: &Arc<dyn Store>, prefix: &str, after: Revision) -> Result<Batch> {
    within("a first batch", async { store.watch(prefix, after).await?.next().await }).await
}

/// `key=value` of a put, `key` of a delete. Checks that the entry's revision is the batch's.
pub(crate) fn words(batch: &Batch) -> Vec<String> {
    let word = |event: &Event| match event {
        Event::Put(entry) => {
            assert_eq!(entry.revision, batch.revision);
            format!("{}={}", entry.key, String::from_utf8_lossy(&entry.value))
        }
        Event::Delete { key } => key.clone(),
    };
    batch.events.iter().map(word).collect()
}
