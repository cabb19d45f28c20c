//! A few replicas of one unit on this machine, each with its own folder and port.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dujiang_agent::clock::boottime_ms;
use dujiang_agent::postgres::{Fit, Programs, Reach, Replica, Settings, Tuning, Upstream, memory};
use dujiang_agent::secret::Secret;
use dujiang_database::Tls;
use dujiang_identity::testing::TestAuthority;
use dujiang_types::unit::SyncSet;
use dujiang_types::{AppId, DcId, Epoch, Lsn, Position, UnitId};
use dujiang_unit::agent::Process;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

/// How long anything may take before a test says that it does not happen. Generous: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const SECRET: &[u8] = b"a secret for tests";

/// The program with the stages `guard` and `exec-postgres`.
pub(crate) fn guard_program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_dujiang-guard"))
}

/// A folder that PostgreSQL's user may enter.
pub(crate) fn folder() -> TempDir {
    let dir = tempfile::Builder::new().prefix("dujiang-agent-").tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    dir
}

pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub(crate) fn dc(name: &str) -> DcId {
    DcId::new(name).unwrap()
}

pub(crate) fn set(need: u8, members: &[&str]) -> SyncSet {
    SyncSet { members: members.iter().map(|name| dc(name)).collect::<BTreeSet<_>>(), need }
}

pub(crate) fn settings(dir: &Path, name: &str) -> Settings {
    let database_identity = dir.join(name).join("postgres.pem");
    fs::create_dir_all(dir.join(name)).unwrap();
    let authority = TestAuthority::kept_in(dir);
    authority.bundle(&format!("dc/{name}/postgres")).write(&database_identity).unwrap();
    Settings {
        identity: authority.identity(&format!("dc/{name}/agent")),
        database_identity,
        unit: UnitId::new("unit-1").unwrap(),
        dc: dc(name),
        application: AppId::new("bank").unwrap(),
        address: free_address(),
        reach: Reach::Network,
        dir: dir.join(name).join("units/unit-1"),
        run: dir.join(name).join("run"),
        log: dir.join(name).join("log"),
        secret: Secret::new(SECRET),
        programs: Programs::find().unwrap(),
        guard: guard_program(),
        env: BTreeMap::new(),
        tuning: Tuning { shared_buffers_mb: 16, wal_keep_mb: 32, slot_keep_mb: 64 },
    }
}

/// A replica that is stopped when the test ends, also by a panic.
pub(crate) struct Node {
    pub(crate) replica: Replica,
}

impl Node {
    pub(crate) async fn new(dir: &Path, name: &str) -> Self {
        Self::with(settings(dir, name)).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        Self { replica: Replica::open(settings).await.unwrap() }
    }

    /// A replica that has become primary of epoch 1 and waits for `set`.
    pub(crate) async fn primary(dir: &Path, name: &str, set: &SyncSet) -> Self {
        let node = crate::prepared::node(dir, name).await;
        node.replica.start().await.unwrap();
        node.promote(1, set).await;
        node
    }

    /// A replica cloned from that primary, and following it.
    pub(crate) async fn follower(dir: &Path, name: &str, primary: &Self) -> Self {
        let node = Self::new(dir, name).await;
        node.replica.copy_from(&primary.upstream()).await.unwrap();
        node.replica.start().await.unwrap();
        node.follow(primary).await;
        node
    }

    pub(crate) fn upstream(&self) -> Upstream {
        let settings = self.replica.settings();
        Upstream { dc: settings.dc.clone(), address: settings.address }
    }

    /// The platform's, which lies in the folder of all nodes.
    pub(crate) fn authority(&self) -> TestAuthority {
        TestAuthority::kept_in(self.replica.settings().dir.ancestors().nth(3).unwrap())
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.replica.settings().dir.join("pgdata")
    }

    pub(crate) async fn promote(&self, epoch: u64, set: &SyncSet) {
        self.position().await;
        self.replica.lease(boottime_ms() + 60_000).await.unwrap();
        self.replica.promote(Epoch(epoch), set).await.unwrap();
    }

    pub(crate) async fn follow(&self, primary: &Self) {
        self.position().await;
        assert_eq!(self.replica.follow(&primary.upstream()).await.unwrap(), Fit::Fits);
        self.until("streaming", |process| matches!(process, Process::Standby { streaming: true, .. })).await;
    }

    /// Waits until the process is as wanted.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&Process) -> bool) -> Process {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let process = self.replica.observe().await.unwrap();
            if wanted(&process) {
                return process;
            }
            assert!(Instant::now() < deadline, "{what} does not come, but {process:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until it is known how far the log reaches.
    pub(crate) async fn position(&self) -> Position {
        match self.until("a position", |p| position_of(p).is_some()).await {
            Process::Standby { position: Some(position), .. }
            | Process::Primary { position: Some(position), .. } => position,
            _ => unreachable!(),
        }
    }

    pub(crate) async fn until_replayed(&self, to: Lsn) {
        self.until(
            "replay",
            |process| matches!(process, Process::Standby { replayed: Some(at), .. } if *at >= to),
        )
        .await;
    }

    /// A client's connection.
    pub(crate) async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        self.connect_as("bank").await
    }

    pub(crate) async fn connect_as(&self, role: &str) -> Result<Client, tokio_postgres::Error> {
        let settings = self.replica.settings();
        let mut config = tokio_postgres::Config::new();
        config
            .host(settings.address.ip().to_string())
            .port(settings.address.port())
            .user(role)
            .dbname("bank");
        config.password(settings.secret.password(&settings.unit, role)).connect_timeout(PATIENCE);
        let who = match role {
            "dujiang" => "agent".to_owned(),
            "dujiang_replication" => "postgres".to_owned(),
            application => format!("application/{application}"),
        };
        let identity = self.authority().identity(&format!("dc/{}/{who}", settings.dc));
        let tls = Tls::new(&identity, &settings.dc).unwrap();
        let (client, connection) = dujiang_database::connect(&config, &tls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Ids of every process of its PostgreSQL.
    pub(crate) fn processes(&self) -> Vec<i32> {
        dujiang_agent::proc::processes_in(&self.data()).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Whatever the test has left: the guard by its record, PostgreSQL by its folder.
        let settings = self.replica.settings();
        let record = settings.run.join(format!("guard-{}.json", settings.unit));
        let record: Option<dujiang_agent::process::Record> =
            dujiang_agent::files::read_json(&record).unwrap_or_default();
        let guard =
            record.filter(|r| dujiang_agent::proc::stat(r.pid).is_ok_and(|s| s.start_ticks == r.start_ticks));
        for pid in self.processes().into_iter().chain(guard.map(|guard| guard.pid)) {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        let deadline = std::time::Instant::now() + PATIENCE;
        while !self.processes().is_empty() && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        memory::release_all(&settings.programs, &settings.dir);
    }
}

fn position_of(process: &Process) -> Option<Position> {
    match process {
        Process::Standby { position, .. } | Process::Primary { position, .. } => *position,
        _ => None,
    }
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} does not come");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Ends every client's session, as an operator might.
pub(crate) async fn end_sessions(admin: &Client) {
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'bank'";
    let deadline = Instant::now() + PATIENCE;
    while admin.query_one(end, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        assert!(Instant::now() < deadline, "the sessions do not end");
        sleep(Duration::from_millis(10)).await;
    }
}
