//! Trial promotions: a copy of a standby is promoted, and nobody notices.

use std::collections::BTreeMap;
use std::fs;
use std::future::pending;
use std::path::PathBuf;

use dujiang_agent::postgres::memory::Segment;
use dujiang_agent::postgres::trial::{clear, promote_a_copy};
use dujiang_agent::postgres::{PostgresError, State};
use dujiang_agent::proc;
use dujiang_types::Epoch;
use dujiang_unit::agent::Process;

use crate::prepared::{Renewal, primary, runs};
use crate::stand_in::{Of, Part, StandIn};
use crate::world::{Node, folder, set, until};

/// A primary that waits for its follower, with a row, and its lease.
async fn pair(dir: &tempfile::TempDir) -> (Node, Node, Renewal) {
    let (a, lease) = primary(dir.path(), "a", &set(1, &[])).await;
    let b = Node::follower(dir.path(), "b", &a).await;
    a.replica.set_sync(&set(1, &["b"])).await.unwrap();
    a.replica.open_admission().await.unwrap();
    let client = a.connect().await.unwrap();
    client.batch_execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)").await.unwrap();
    (a, b, lease)
}

fn trial_dir(node: &Node) -> PathBuf {
    node.replica.settings().dir.join("trial")
}

/// All that a trial must leave as it is.
#[derive(Debug, PartialEq)]
struct Untouched {
    state: State,
    processes: Vec<i32>,
    slots: Vec<String>,
    histories: Vec<String>,
    configuration: Vec<(String, Vec<u8>)>,
}

impl Untouched {
    async fn of(node: &Node) -> Self {
        let names = |dir: PathBuf| {
            let entries = fs::read_dir(dir).unwrap().flatten();
            let mut names: Vec<String> = entries.map(|e| e.file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        let conf = node.replica.settings().dir.join("conf");
        let admin = node.connect_as("dujiang").await.unwrap();
        let slots = "SELECT slot_name::text FROM pg_replication_slots ORDER BY 1";
        let slots = admin.query(slots, &[]).await.unwrap();
        drop(admin);
        let main = "SELECT pid FROM pg_stat_activity WHERE backend_type IN ('walreceiver', 'startup', 'walsender') \
                    ORDER BY pid";
        let admin = node.connect_as("dujiang").await.unwrap();
        let processes = admin.query(main, &[]).await.unwrap();
        Self {
            state: node.replica.state(),
            processes: processes.iter().map(|row| row.get(0)).collect(),
            slots: slots.iter().map(|row| row.get(0)).collect(),
            histories: names(node.data().join("pg_wal"))
                .into_iter()
                .filter(|n| n.ends_with(".history"))
                .collect(),
            configuration: names(conf.clone())
                .into_iter()
                .map(|n| (n.clone(), fs::read(conf.join(n)).unwrap()))
                .collect(),
        }
    }
}

#[tokio::test]
async fn a_copy_is_promoted_and_the_standby_follows_on() {
    let dir = folder();
    let (a, b, _lease) = pair(&dir).await;
    let (a_before, b_before) = (Untouched::of(&a).await, Untouched::of(&b).await);
    // The home goes on acknowledging all the while.
    let client = a.connect().await.unwrap();
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let paying = tokio::spawn(async move {
        let mut count = 0_i64;
        while stopped.try_recv().is_err() {
            client.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
            count += 1;
        }
        count
    });
    let steps = std::sync::Mutex::new(Vec::new());
    let say = |what: &str| steps.lock().unwrap().push(what.to_owned());
    let done = promote_a_copy(b.replica.settings(), Epoch(4), pending(), say).await.unwrap();
    stop.send(()).unwrap();
    let acknowledged = paying.await.unwrap();
    assert!(acknowledged > 0);
    assert_eq!(done.timeline, 5, "the timeline a takeover under that epoch would have");
    assert!(done.bytes > 1 << 20, "{done:?}");
    assert_eq!(steps.into_inner().unwrap().len(), 4);
    assert!(!trial_dir(&b).exists());

    assert_eq!((Untouched::of(&a).await, Untouched::of(&b).await), (a_before, b_before));
    let Process::Standby { streaming: true, .. } = b.replica.observe().await.unwrap() else {
        panic!("it does not stream any more")
    };
    b.until_replayed(a.position().await.flushed).await;
    let count = "SELECT count(*) FROM t WHERE n = 2";
    let there = b.connect_as("dujiang").await.unwrap().query_one(count, &[]).await.unwrap();
    assert_eq!(there.get::<_, i64>(0), acknowledged);
    let fence = "SELECT epoch FROM dujiang.fence";
    let fence = b.connect_as("dujiang").await.unwrap().query_one(fence, &[]).await.unwrap();
    assert_eq!(fence.get::<_, i64>(0), 1, "the fence was written in the copy alone");
    // As often as one likes.
    promote_a_copy(b.replica.settings(), Epoch(2), pending(), |_| {}).await.unwrap();
}

#[tokio::test]
async fn a_trial_that_is_called_off_leaves_nothing() {
    let dir = folder();
    let (_a, b, _lease) = pair(&dir).await;
    let before = Untouched::of(&b).await;
    for until_there in ["pgdata.new/PG_VERSION", "pgdata/postmaster.pid", "pgdata/pg_wal/00000003.history"] {
        let there = trial_dir(&b).join(until_there);
        let called_off = async {
            until("that moment", || there.exists()).await;
            "enough".to_owned()
        };
        let outcome = promote_a_copy(b.replica.settings(), Epoch(2), called_off, |_| {}).await;
        // The last moment may be too late.
        let ended = matches!(&outcome, Err(PostgresError::CalledOff(why)) if why == "enough");
        assert!(ended || until_there.ends_with("history"), "{outcome:?}");
        assert!(!trial_dir(&b).exists(), "{until_there}");
    }
    assert_eq!(Untouched::of(&b).await, before);
}

#[tokio::test]
async fn a_copy_that_outlives_its_agent_is_ended_and_removed_by_the_next() {
    let dir = folder();
    let (a, b, _lease) = pair(&dir).await;
    let before = Untouched::of(&b).await;
    for until_there in ["pgdata.new/PG_VERSION", "pgdata/.s.PGSQL"] {
        let part = Part::Try { replica: Of::the(&b, dir.path()) };
        let mut agent = StandIn::play(&part, &dir.path().join("stand-in.log"), &BTreeMap::new());
        let socket = format!("{until_there}.{}", b.replica.settings().address.port());
        let there = trial_dir(&b);
        until("the middle", || there.join(until_there).exists() || there.join(&socket).exists()).await;
        agent.kill();
        let memory = Segment::of(&there.join("pgdata"));
        let left: Vec<i32> = proc::processes_in(&there.join("pgdata")).unwrap();
        assert_eq!(left.is_empty(), until_there.starts_with("pgdata.new"), "{until_there}: {left:?}");
        assert_eq!(left.is_empty(), memory.is_none(), "{until_there}");

        clear(b.replica.settings()).await.unwrap();
        assert!(!there.exists());
        assert_eq!(memory.and_then(|segment| segment.users().unwrap()), None, "shared memory is left over");
        until("the end of the copy", || left.iter().all(|pid| !runs(*pid))).await;
        let mark = format!("DUJIANG_RECORD={}", there.join("tool").display());
        let strays = || proc::pids().unwrap().into_iter().filter(|pid| proc::has_env(*pid, &mark)).count();
        until("the end of what copies", || strays() == 0).await;
    }
    assert_eq!(Untouched::of(&b).await, before);
    b.until_replayed(a.position().await.flushed).await;
}

#[tokio::test]
async fn a_standby_that_does_not_run_fails_its_trial() {
    let dir = folder();
    let (_a, b, _lease) = pair(&dir).await;
    b.replica.stop_now().await.unwrap();
    let failed = promote_a_copy(b.replica.settings(), Epoch(2), pending(), |_| {}).await.unwrap_err();
    assert!(failed.chain().contains("pg_basebackup"), "{}", failed.chain());
    assert!(!trial_dir(&b).exists());
}
