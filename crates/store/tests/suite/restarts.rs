//! What survives the end of the process below, orderly or not.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dujiang_store::{Error, RedbStore, Store, Txn};
use dujiang_types::Revision;
use tokio::time::sleep;

use super::etcd::EtcdServer;
use super::{Below, Fixture, commit, first, next, put, within, words};

/// Tells the child process that it is one, and which file to write.
pub(crate) const CHILD_FILE: &str = "DUJIANG_STORE_CHILD_FILE";
/// The child's test.
pub(crate) const CHILD_TEST: &str = "child_that_writes_until_it_is_killed";

pub(crate) async fn everything_is_there_after_reopening(fixture: Fixture) {
    let store = &fixture.store;
    let made = put(store, "units/a", "1").await;
    let lease = store.grant(Duration::from_secs(3600)).await.unwrap();
    let leased = commit(store, Txn::new().put_leased("leader", "me", lease)).await;
    commit(store, Txn::new().delete("missing")).await;
    let before = store.list("").await.unwrap();

    let fixture = fixture.reopen().await;
    let store = &fixture.store;
    assert_eq!(store.list("").await.unwrap(), before);
    assert_eq!(store.revision().await.unwrap(), leased);
    // The history too: a watch resumes where it was.
    let mut watch = store.watch("", made).await.unwrap();
    assert_eq!(next(&mut watch).await.revision, leased);
    let newer = put(store, "units/b", "1").await;
    assert!(newer > leased);
    assert_eq!(next(&mut watch).await.revision, newer);

    store.compact(leased).await.unwrap();
    let fixture = fixture.reopen().await;
    let store = &fixture.store;
    assert!(matches!(first(store, "", made).await, Err(Error::Compacted { oldest }) if oldest == leased));
    assert_eq!(first(store, "", leased).await.unwrap().revision, newer);
}

pub(crate) async fn leases_survive_reopening(fixture: Fixture) {
    let store = &fixture.store;
    let kept = store.grant(Duration::from_secs(3600)).await.unwrap();
    let left = store.grant(Duration::from_secs(3)).await.unwrap();
    let made = commit(store, Txn::new().put_leased("left", "1", left)).await;
    let made = made.max(commit(store, Txn::new().put_leased("kept", "1", kept)).await);

    let fixture = fixture.reopen().await;
    let store = &fixture.store;
    store.keep_alive(kept).await.unwrap();
    let mut watch = store.watch("", made).await.unwrap();
    assert_eq!(words(&next(&mut watch).await), ["left"], "nobody keeps it alive");
    assert!(store.get("kept").await.unwrap().is_some());
    let another = store.grant(Duration::from_secs(3600)).await.unwrap();
    assert!(another != kept && another != left);
    store.revoke(kept).await.unwrap();
    assert_eq!(words(&next(&mut watch).await), ["kept"]);
}

pub(crate) async fn every_acknowledged_write_survives_a_crash(fixture: Fixture) {
    let Fixture { store, below } = fixture;
    match below {
        Below::Redb(folder) => {
            drop(store);
            redb_crashes(&folder.path().join("store.redb")).await;
        }
        Below::Etcd(server) => etcd_crashes(&store, server).await,
    }
}

const WRITERS: usize = 4;

/// Writes keys of its own one after the other and says so, until it cannot any more.
async fn write(
    store: Arc<dyn Store>,
    keys: String,
    done: Arc<AtomicBool>,
    acknowledge: impl Fn(&str, Revision),
) {
    let mut count = 0;
    while !done.load(Ordering::Relaxed) {
        count += 1;
        let key = format!("{keys}/{count}");
        match store.transact(Txn::new().put(key.clone(), key.clone()).put("last", key.clone())).await {
            Ok(outcome) => acknowledge(&key, outcome.committed().unwrap()),
            // It may have happened or not, and is not acknowledged.
            Err(Error::Unavailable { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Everything acknowledged is there, and the history tells of it, in order and without a gap.
async fn check(store: &Arc<dyn Store>, acknowledged: &BTreeMap<String, Revision>) {
    let entries = store.list("w").await.unwrap().entries;
    let found: BTreeMap<_, _> = entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
    for (key, revision) in acknowledged {
        let entry = found.get(key).unwrap_or_else(|| panic!("{key} at {revision} is lost"));
        assert_eq!((entry.revision, &entry.value[..]), (*revision, key.as_bytes()));
    }
    let end = put(store, "end", "1").await;
    let mut watch = store.watch("", Revision(0)).await.unwrap();
    let mut told = BTreeMap::new();
    let mut last = Revision(1);
    while last < end {
        let batch = next(&mut watch).await;
        assert_eq!(batch.revision, Revision(last.0 + 1), "nobody else writes, so there is no gap");
        last = batch.revision;
        told.extend(batch.events.iter().map(|event| (event.key().to_owned(), last)));
    }
    assert!(acknowledged.iter().all(|(key, revision)| told.get(key) == Some(revision)));
}

async fn redb_crashes(path: &Path) {
    let mut acknowledged = BTreeMap::new();
    for (round, kill_after) in [1, 40, 250].into_iter().enumerate() {
        acknowledged.extend(run_child_and_kill(path, round, kill_after));
        let store: Arc<dyn Store> = Arc::new(RedbStore::open(path).await.unwrap());
        check(&store, &acknowledged).await;
    }
}

/// Has a child write the file and kills it once it has acknowledged so much.
fn run_child_and_kill(path: &Path, round: usize, kill_after: usize) -> BTreeMap<String, Revision> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", CHILD_TEST, "--nocapture"])
        .env(CHILD_FILE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = BTreeMap::new();
    let mut killed = false;
    // To the end of the pipe: what it said before it died counts.
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some(said) = line.split("acknowledged ").nth(1) else { continue };
        // The line it was killed in the middle of may be cut short.
        let [key, revision, "."] = said.split(' ').collect::<Vec<_>>()[..] else { continue };
        acknowledged.insert(key.to_owned(), Revision(revision.parse().unwrap()));
        if !killed && acknowledged.len() >= kill_after {
            child.kill().unwrap();
            killed = true;
        }
    }
    let status = child.wait().unwrap();
    assert!(killed, "round {round}: the child ended by itself: {status}");
    acknowledged
}

/// The child's side.
pub(crate) async fn write_until_killed(path: &Path) {
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(path).await.unwrap());
    let done = Arc::new(AtomicBool::new(false));
    let process = std::process::id();
    let say = |key: &str, revision| {
        let line = format!("acknowledged {key} {revision} .\n");
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    };
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            tokio::spawn(write(Arc::clone(&store), format!("w{process}/{number}"), Arc::clone(&done), say))
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

async fn etcd_crashes(store: &Arc<dyn Store>, mut server: EtcdServer) {
    let start = store.revision().await.unwrap();
    let mut watch = store.watch("last", start).await.unwrap();
    let acknowledged = Arc::new(Mutex::new(BTreeMap::new()));
    let count = Arc::new(AtomicUsize::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let (acknowledged, count) = (Arc::clone(&acknowledged), Arc::clone(&count));
            let acknowledge = move |key: &str, revision| {
                acknowledged.lock().unwrap().insert(key.to_owned(), revision);
                count.fetch_add(1, Ordering::Relaxed);
            };
            tokio::spawn(write(Arc::clone(store), format!("w/{number}"), Arc::clone(&done), acknowledge))
        })
        .collect();
    for round in 1..=3 {
        let enough = count.load(Ordering::Relaxed) + 50;
        within("acknowledged writes", async {
            while count.load(Ordering::Relaxed) < enough {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        if round < 3 {
            server.kill();
            server.start_again().await;
        }
    }
    done.store(true, Ordering::Relaxed);
    for writer in writers {
        within("a writer", writer).await.unwrap();
    }
    let acknowledged = acknowledged.lock().unwrap().clone();
    check(store, &acknowledged).await;
    // The watch went on through the crashes, without a gap.
    let mut last = start;
    for revision in (start.0 + 1)..=acknowledged.values().max().unwrap().0 {
        last = next(&mut watch).await.revision;
        assert_eq!(last, Revision(revision));
    }
    assert_eq!(Some(&last), acknowledged.values().max());
}
