//! Databases that are initialised once and copied (making one takes seconds, and nearly every test needs one),
//! leases that are kept while a test runs, and a look at the guard of a replica.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use dujiang_agent::clock::boottime_ms;
use dujiang_agent::guard::client::Client;
use dujiang_agent::guard::{Exit, Spec};
use dujiang_agent::postgres::Settings;
use dujiang_agent::process::Record;
use dujiang_agent::{files, proc};
use dujiang_types::unit::SyncSet;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::world::{Node, PATIENCE, folder, settings};

/// A lease long enough for any pause of a busy machine, and short enough to wait for its end.
pub(crate) const TTL_MS: u64 = 6_000;
/// For tests that are not about leases.
pub(crate) const TTL_LONG_MS: u64 = 50_000;
/// All that a fresh database is made from: another one is made when it changes.
const MADE_FROM: [&str; 4] = [
    include_str!("../../src/postgres/fence.sql"),
    include_str!("../../src/postgres/make.rs"),
    include_str!("../../src/postgres/primary.rs"),
    include_str!("world.rs"),
];

/// A stopped replica with a fresh database.
pub(crate) async fn node(dir: &Path, name: &str) -> Node {
    node_with(settings(dir, name)).await
}

pub(crate) async fn node_with(settings: Settings) -> Node {
    let data = settings.dir.join("pgdata");
    fs::create_dir_all(&settings.dir).unwrap();
    copy(&template().await, &data);
    Node::with(settings).await
}

/// A primary of epoch 1 that waits for `set`, and its lease, which is kept until it is dropped.
pub(crate) async fn primary(dir: &Path, name: &str, set: &SyncSet) -> (Node, Renewal) {
    let node = node(dir, name).await;
    let renewal = promote(&node, 1, set, TTL_LONG_MS).await;
    (node, renewal)
}

/// Starts a replica if need be and promotes it under a lease that is renewed.
pub(crate) async fn promote(node: &Node, epoch: u64, set: &SyncSet, ttl_ms: u64) -> Renewal {
    node.replica.start().await.unwrap();
    node.position().await;
    let renewal = Renewal::begin(node, ttl_ms).await;
    node.replica.promote(dujiang_types::Epoch(epoch), set).await.unwrap();
    renewal
}

async fn template() -> PathBuf {
    let mut hasher = DefaultHasher::new();
    MADE_FROM.hash(&mut hasher);
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(kept).unwrap();
    let template = kept.join(format!("pgdata-{:016x}", hasher.finish()));
    // Tests are processes of their own that begin at the same time.
    let lock = File::create(kept.join("pgdata.lock")).unwrap();
    lock.lock().unwrap();
    if !template.exists() {
        let dir = folder();
        let made = Node::new(dir.path(), "template").await;
        made.replica.init().await.unwrap();
        let beside = kept.join("pgdata.new");
        files::remove_dir(&beside).unwrap();
        copy(&made.data(), &beside);
        fs::rename(&beside, &template).unwrap();
    }
    template
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success(), "{} cannot be copied", from.display());
}

/// Keeps a lease; dropped, it lets it run out.
pub(crate) struct Renewal(JoinHandle<()>);

impl Renewal {
    pub(crate) async fn begin(node: &Node, ttl_ms: u64) -> Self {
        let client = Guarded::of(node).client();
        let deadline = Instant::now() + PATIENCE;
        while client.lease(boottime_ms() + ttl_ms).await.is_err() {
            assert!(Instant::now() < deadline, "the guard does not answer");
        }
        Self(tokio::spawn(async move {
            loop {
                let _ = client.lease(boottime_ms() + ttl_ms).await;
                sleep(Duration::from_millis(100)).await;
            }
        }))
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The guard of a replica's present (or last) run, seen from outside.
#[derive(Debug, Clone)]
pub(crate) struct Guarded {
    spec: Spec,
    record: Record,
}

impl Guarded {
    pub(crate) fn of(node: &Node) -> Self {
        let settings = node.replica.settings();
        let file = |what: &str| settings.run.join(format!("guard-{}{what}", settings.unit));
        Self {
            spec: Spec::read(&file(".spec.json")).unwrap(),
            record: files::read_json(&file(".json")).unwrap().unwrap(),
        }
    }

    pub(crate) fn token(&self) -> &str {
        &self.spec.token
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.spec.token)
    }

    pub(crate) fn pid(&self) -> i32 {
        self.record.pid
    }

    pub(crate) fn runs(&self) -> bool {
        proc::stat(self.record.pid).is_ok_and(|s| s.runs() && s.start_ticks == self.record.start_ticks)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.record.pid, signal);
    }

    /// What it wrote about the end of this run.
    pub(crate) fn exit(&self) -> Option<Exit> {
        let exit: Option<Exit> = files::read_json(&self.spec.exit).unwrap();
        exit.filter(|exit| exit.token == self.spec.token)
    }
}

pub(crate) fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

pub(crate) fn runs(pid: i32) -> bool {
    proc::stat(pid).is_ok_and(proc::Stat::runs)
}
