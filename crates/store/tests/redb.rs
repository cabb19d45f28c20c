//! What is particular to the store in a file: the file itself, its bounded history, and a random walk beside a model.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use dujiang_store::limits::TXN_OPS_MAX;
use dujiang_store::{Batch, Check, Entry, Error, Event, RedbStore, Store, Txn, TxnOutcome, Watch, Write};
use dujiang_types::Revision;
use proptest::prelude::*;
use tokio::time::timeout;

/// How long a batch may take on a machine that does much else.
const DEADLINE: Duration = Duration::from_secs(60);
/// Tells the child process that it is one, and which file to write.
const CHILD_FILE: &str = "DUJIANG_STORE_CHILD_FILE";
/// The child's test.
const CHILD_TEST: &str = "child_that_writes_until_its_disk_is_full";

async fn open(folder: &Path) -> RedbStore {
    RedbStore::open(folder.join("store.redb")).await.unwrap()
}

async fn commit(store: &RedbStore, txn: Txn) -> Revision {
    store.transact(txn).await.unwrap().committed().unwrap()
}

async fn next(watch: &mut Watch) -> Batch {
    timeout(DEADLINE, watch.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn the_history_is_bounded() {
    const HISTORY_EVENTS_MAX: usize = 10_000;
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let start = store.revision().await.unwrap();
    let rounds = HISTORY_EVENTS_MAX / TXN_OPS_MAX + 2;
    let mut revisions = vec![start];
    for round in 0..rounds {
        let txn = (0..TXN_OPS_MAX).fold(Txn::new(), |txn, i| txn.put(format!("k{i}"), round.to_string()));
        revisions.push(commit(&store, txn).await);
    }
    let Err(Error::Compacted { oldest }) = store.watch("", start).await else {
        panic!("more was kept than {HISTORY_EVENTS_MAX} events")
    };
    let kept = revisions.iter().filter(|revision| **revision > oldest).count();
    assert_eq!(kept, HISTORY_EVENTS_MAX / TXN_OPS_MAX, "as many whole revisions as fit");
    let mut watch = store.watch("k7", oldest).await.unwrap();
    for revision in &revisions[revisions.len() - kept..] {
        assert_eq!(next(&mut watch).await.revision, *revision);
    }
}

#[tokio::test]
async fn a_file_in_use_is_not_opened_twice() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let second = RedbStore::open(folder.path().join("store.redb")).await;
    assert!(matches!(second, Err(Error::Locked { .. })), "{second:?}");
    drop(store);
    open(folder.path()).await;
}

#[tokio::test]
async fn a_watch_ends_with_the_store_and_lets_go_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let mut watch = store.watch("", Revision(1)).await.unwrap();
    drop(store);
    assert!(matches!(watch.next().await, Err(Error::Closed)));
    open(folder.path()).await;
}

#[tokio::test]
async fn what_is_no_store_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    for content in [&b"not a store"[..], &[0; 8192]] {
        std::fs::write(&path, content).unwrap();
        let refused = RedbStore::open(&path).await;
        assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
    let refused = RedbStore::open(folder.path()).await;
    assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_file_left_half_made_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let nested = folder.path().join("control").join("data");
    std::fs::create_dir_all(&nested).unwrap();
    std::fs::write(nested.join("store.redb.new"), b"half").unwrap();
    let store = open(&nested).await;
    assert_eq!(store.revision().await.unwrap(), Revision(1));
    let names: Vec<_> = std::fs::read_dir(&nested).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(names, ["store.redb"]);
}

#[tokio::test]
async fn a_full_disk_is_said_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    // No file may grow beyond 4 MiB (in blocks of 512 bytes); whoever tries gets an error instead of the signal.
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 8192; exec \"$0\" --exact \"$1\" --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .arg(CHILD_TEST)
        .env(CHILD_FILE, &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{said}{}", String::from_utf8_lossy(&child.stderr));
    let said = said.lines().find_map(|line| line.split("acknowledged ").nth(1)).unwrap();
    let acknowledged: usize = said.parse().unwrap();
    assert!(acknowledged > 0);
    // With room again everything acknowledged is there, and writing goes on.
    let store = RedbStore::open(&path).await.unwrap();
    let listing = store.list("k").await.unwrap();
    let found = listing.entries.len();
    assert!((acknowledged..=acknowledged + 1).contains(&found), "{found} found of {acknowledged}");
    assert!(commit(&store, Txn::new().put("k", "v")).await > listing.revision);
}

/// Does nothing by itself: the check above runs this program again with a file to write and a small disk.
#[tokio::test]
async fn child_that_writes_until_its_disk_is_full() {
    let Some(path) = std::env::var_os(CHILD_FILE) else { return };
    let store = RedbStore::open(&path).await.unwrap();
    let mut watch = store.watch("k", Revision(1)).await.unwrap();
    let mut acknowledged = 0;
    let full = loop {
        let txn = Txn::new().put(format!("k{acknowledged:06}"), vec![1; 32 * 1024]);
        match store.transact(txn).await {
            Ok(_) => acknowledged += 1,
            Err(full) => break full,
        }
    };
    assert!(matches!(full, Error::Unavailable { .. }), "{full:?}");
    println!("acknowledged {acknowledged}");
    // From then on nothing is answered that cannot be known.
    assert!(matches!(store.transact(Txn::new().delete("k")).await, Err(Error::Unavailable { .. })));
    assert!(matches!(store.grant(DEADLINE).await, Err(Error::Unavailable { .. })));
    let end = timeout(DEADLINE, async {
        loop {
            if let Err(end) = watch.next().await {
                return end;
            }
        }
    });
    assert!(matches!(end.await.unwrap(), Error::Unavailable { .. }));
    // Opened anew it can be read, though the disk is as full as before.
    drop(store);
    let store = RedbStore::open(path).await.unwrap();
    assert!(store.list("k").await.unwrap().entries.len() >= acknowledged);
}

#[tokio::test]
async fn a_url_names_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made").join("store.redb");
    let identity = dujiang_identity::testing::TestAuthority::default().identity("control");
    let store = dujiang_store::open(&format!("redb:{}", path.display()), &identity).await.unwrap();
    assert_eq!(store.revision().await.unwrap(), Revision(1));
    for url in
        ["", "redb:", "etcd:", "redb", "mysql://a", "etcd:https://", "etcd: ", "etcd:http://127.0.0.1:2379"]
    {
        let refused = dujiang_store::open(url, &identity).await;
        assert!(matches!(refused, Err(Error::UrlInvalid { .. })), "{url}: {refused:?}");
    }
}

/// The store as a map and a list.
#[derive(Default)]
struct Model {
    entries: BTreeMap<String, Entry>,
    history: Vec<Batch>,
    revision: u64,
    compacted: u64,
}

impl Model {
    fn transact(&mut self, txn: &Txn) -> TxnOutcome {
        for check in &txn.checks {
            let current = self.entries.get(&check.key);
            if current.map_or(Revision(0), |entry| entry.revision) != check.revision {
                return TxnOutcome::Conflict { key: check.key.clone(), current: current.cloned() };
            }
        }
        let revision = Revision(self.revision + 1);
        let mut events = BTreeMap::new();
        for write in &txn.writes {
            match write {
                Write::Put { key, value, lease } => {
                    let created = self.entries.get(key).map_or(revision, |entry| entry.created);
                    let entry =
                        Entry { key: key.clone(), value: value.clone(), revision, created, lease: *lease };
                    self.entries.insert(key.clone(), entry.clone());
                    events.insert(key.clone(), Event::Put(entry));
                }
                Write::Delete { key } => {
                    if self.entries.remove(key).is_some() {
                        events.insert(key.clone(), Event::Delete { key: key.clone() });
                    }
                }
            }
        }
        if !events.is_empty() {
            self.revision = revision.0;
            self.history.push(Batch { revision, events: events.into_values().collect() });
        }
        TxnOutcome::Committed(Revision(self.revision))
    }

    /// What a watch from there tells; `None` if it is refused.
    fn watch(&self, prefix: &str, after: u64) -> Option<Vec<Batch>> {
        if after < self.compacted || after > self.revision {
            return None;
        }
        let under = |batch: &Batch| {
            let events = batch.events.iter().filter(|event| event.key().starts_with(prefix));
            let batch = Batch { revision: batch.revision, events: events.cloned().collect() };
            (!batch.events.is_empty()).then_some(batch)
        };
        Some(self.history.iter().filter(|batch| batch.revision.0 > after).filter_map(under).collect())
    }
}

#[derive(Debug, Clone)]
enum Step {
    Transact { checks: Vec<(usize, bool)>, writes: BTreeMap<usize, Option<u8>> },
    List(&'static str),
    Watch(&'static str, u64),
    Compact(u64),
    Reopen,
}

const KEYS: [&str; 6] = ["a", "a/1", "a/2", "ab", "b/1", "b/2"];
const PREFIXES: [&str; 4] = ["", "a", "a/", "c"];

fn step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS.len();
    let prefix = (0..PREFIXES.len()).prop_map(|i| PREFIXES[i]);
    prop_oneof![
        12 => (
            // A check against the true revision, or against a wrong one.
            prop::collection::vec((key.clone(), prop::bool::weighted(0.85)), 0..3),
            prop::collection::btree_map(key, prop::option::weighted(0.7, any::<u8>()), 0..4),
        )
            .prop_map(|(checks, writes)| Step::Transact { checks, writes }),
        3 => prefix.clone().prop_map(Step::List),
        3 => (prefix, 0..40_u64).prop_map(|(prefix, after)| Step::Watch(prefix, after)),
        1 => (0..40_u64).prop_map(Step::Compact),
        1 => Just(Step::Reopen),
    ]
}

fn txn(model: &Model, checks: &[(usize, bool)], writes: &BTreeMap<usize, Option<u8>>) -> Txn {
    let checks = checks.iter().map(|&(key, right)| {
        let revision = model.entries.get(KEYS[key]).map_or(0, |entry| entry.revision.0);
        Check { key: KEYS[key].to_owned(), revision: Revision(if right { revision } else { revision + 1 }) }
    });
    let mut txn = Txn { checks: checks.collect(), writes: Vec::new() };
    for (&key, value) in writes.iter().rev() {
        txn = match value {
            Some(value) => txn.put(KEYS[key], vec![*value]),
            None => txn.delete(KEYS[key]),
        };
    }
    txn
}

async fn walk(steps: Vec<Step>) {
    let folder = tempfile::tempdir().unwrap();
    let mut store: Arc<dyn Store> = Arc::new(open(folder.path()).await);
    let mut model = Model { revision: 1, ..Model::default() };
    for step in steps {
        match step {
            Step::Transact { checks, writes } => {
                let txn = txn(&model, &checks, &writes);
                assert_eq!(store.transact(txn.clone()).await.unwrap(), model.transact(&txn));
            }
            Step::List(prefix) => {
                let listing = store.list(prefix).await.unwrap();
                let expected = model.entries.values().filter(|entry| entry.key.starts_with(prefix));
                assert!(listing.entries.iter().eq(expected));
                assert_eq!(listing.revision.0, model.revision);
            }
            Step::Watch(prefix, after) => {
                match (store.watch(prefix, Revision(after)).await, model.watch(prefix, after)) {
                    (Ok(mut watch), Some(expected)) => {
                        for batch in expected {
                            assert_eq!(next(&mut watch).await, batch);
                        }
                    }
                    (Err(Error::Compacted { oldest }), None) => assert_eq!(oldest.0, model.compacted),
                    (outcome, expected) => panic!("{outcome:?} instead of {expected:?}"),
                }
            }
            Step::Compact(revision) => {
                let outcome = store.compact(Revision(revision)).await;
                assert_eq!(outcome.is_ok(), revision <= model.revision);
                if outcome.is_ok() {
                    model.compacted = model.compacted.max(revision);
                    model.history.retain(|batch| batch.revision.0 > model.compacted);
                }
            }
            Step::Reopen => {
                drop(store);
                store = Arc::new(open(folder.path()).await);
            }
        }
        assert_eq!(store.revision().await.unwrap().0, model.revision);
        for key in KEYS {
            assert_eq!(store.get(key).await.unwrap().as_ref(), model.entries.get(key));
        }
    }
}

proptest! {
    // Each case opens files and syncs some dozen commits.
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn it_behaves_as_a_map_with_a_list_of_changes(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(walk(steps));
    }
}
