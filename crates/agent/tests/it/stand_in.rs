//! An agent in a process of its own, which a test can kill and freeze: this test binary, run once more.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dujiang_agent::clock::boottime_ms;
use dujiang_agent::postgres::trial::promote_a_copy;
use dujiang_agent::postgres::{Settings, Upstream};
use dujiang_agent::process;
use dujiang_unit::agent::Process;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::prepared::{promote, send};
use crate::world::{Node, set, settings, until};

const ENV: &str = "DUJIANG_TEST_STAND_IN";

/// What the agent does.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Part {
    /// Promotes under epoch 1 waiting for nobody, opens, and renews the lease for as long as it can. Then leaves
    /// a file with what it observes.
    Serve { replica: Of, ttl_ms: u64 },
    /// Rewinds.
    Rewind { replica: Of, from: Upstream },
    /// Clones.
    Clone { replica: Of, from: Upstream },
    /// Promotes a copy.
    Try { replica: Of },
    /// Starts a process and ends, leaving it behind.
    Leave { process: process::Spec },
}

/// Of which replica it is the agent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Of {
    dir: PathBuf,
    name: String,
    address: SocketAddr,
}

impl Of {
    /// `dir` is what the node's settings were made with.
    pub(crate) fn the(node: &Node, dir: &Path) -> Self {
        let settings = node.replica.settings();
        Self { dir: dir.to_owned(), name: settings.dc.to_string(), address: settings.address }
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings { address: self.address, ..settings(&self.dir, &self.name) }
    }

    /// The replica opened by another agent.
    pub(crate) async fn open(&self) -> Node {
        Node::with(self.settings()).await
    }

    /// There while it serves.
    fn ready(&self) -> PathBuf {
        self.dir.join("ready")
    }

    /// What it saw when it could not renew any more.
    fn seen(&self) -> PathBuf {
        self.dir.join("seen")
    }
}

/// The process. Killed when dropped.
#[derive(Debug)]
pub(crate) struct StandIn(Child);

impl StandIn {
    pub(crate) fn play(part: &Part, log: &Path, env: &BTreeMap<&str, String>) -> Self {
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "stand_in::plays_its_part", "--nocapture"]);
        command.env(ENV, serde_json::to_string(part).unwrap()).envs(env);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self(command.spawn().unwrap())
    }

    /// Plays [`Part::Serve`] and waits until clients are served.
    pub(crate) async fn serve(node: &Node, dir: &Path, ttl_ms: u64) -> Self {
        let replica = Of::the(node, dir);
        let ready = replica.ready();
        let served =
            Self::play(&Part::Serve { replica, ttl_ms }, &dir.join("stand-in.log"), &BTreeMap::new());
        until("the stand-in's service", || ready.exists()).await;
        served
    }

    /// Waits for what it saw after its lease was gone.
    pub(crate) async fn seen(dir: &Path) -> String {
        let seen = dir.join("seen");
        until("what the stand-in saw", || seen.exists()).await;
        fs::read_to_string(seen).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(i32::try_from(self.0.id()).unwrap(), signal);
    }

    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub(crate) fn wait(&mut self) {
        assert!(self.0.wait().unwrap().success(), "see its log");
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Does nothing but when run by [`StandIn`].
#[test]
fn plays_its_part() {
    let Ok(part) = std::env::var(ENV) else { return };
    let part: Part = serde_json::from_str(&part).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        match part {
            Part::Serve { replica, ttl_ms } => serve(&replica, ttl_ms).await,
            Part::Rewind { replica, from } => replica.open().await.replica.rewind(&from).await.unwrap(),
            Part::Clone { replica, from } => replica.open().await.replica.copy_from(&from).await.unwrap(),
            Part::Try { replica } => {
                let never = std::future::pending();
                let tried = promote_a_copy(&replica.settings(), dujiang_types::Epoch(2), never, |_| {}).await;
                tried.unwrap();
            }
            Part::Leave { process } => drop(process::Process::start(&process).unwrap()),
        }
    });
}

async fn serve(of: &Of, ttl_ms: u64) {
    let node = of.open().await;
    let nobody = set(0, &[]);
    let _renewal = promote(&node, 1, &nobody, ttl_ms).await;
    node.replica.set_sync(&nobody).await.unwrap();
    node.replica.open_admission().await.unwrap();
    fs::write(of.ready(), "").unwrap();
    loop {
        let _ = node.replica.lease(boottime_ms() + ttl_ms).await;
        if let Process::Stopped { .. } = node.replica.observe().await.unwrap() {
            let refused = node.replica.lease(boottime_ms() + ttl_ms).await;
            return fs::write(of.seen(), format!("{refused:?}")).unwrap();
        }
        sleep(Duration::from_millis(50)).await;
    }
}
