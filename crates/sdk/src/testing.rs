//! For tests of applications: a unit's PostgreSQL, as the agent makes it, on demand with a synchronous standby.
//!
//! Panics where something is not as it must be, as tests do.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "part of tests")]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use dujiang_database::Tls;
use dujiang_identity::testing::TestAuthority;
use dujiang_identity::{Connector, Expect, Role, http_client};
use dujiang_types::{DcId, UnitId};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use sha2::Digest;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};
use tokio_rustls::client::TlsStream;

use crate::Secret;

/// Generous: the machine may be busy with other tests. Nothing is decided by how long something takes.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until the condition gives something.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The authority of everybody in a test.
pub fn authority() -> &'static TestAuthority {
    static AUTHORITY: OnceLock<TestAuthority> = OnceLock::new();
    AUTHORITY.get_or_init(TestAuthority::default)
}

/// Writes an instance's identity into the folder, and says where.
pub fn instance_identity(folder: &Path, application: &str) -> PathBuf {
    let path = folder.join("identity.pem");
    authority().bundle(&format!("dc/a/application/{application}")).write(&path).unwrap();
    path
}

/// What the bank connects to its databases with.
pub fn database_tls() -> Tls {
    let bank = authority().identity("dc/a/application/bank");
    Tls::new(&bank, &DcId::new("a").unwrap()).unwrap()
}

/// A client of instances, as the gateway of their data center is one.
pub fn gateway_client() -> reqwest::Client {
    let gateway = authority().identity("dc/a/gateway");
    http_client(&gateway, Expect::roles(&[Role::Application])).unwrap().build().unwrap()
}

/// A connection to an instance, as its gateway makes one.
pub async fn gateway_stream(address: SocketAddr) -> TlsStream<TcpStream> {
    let gateway = authority().identity("dc/a/gateway");
    let connector = Connector::new(&gateway, Expect::roles(&[Role::Application])).unwrap();
    connector.connect(address.ip(), TcpStream::connect(address).await.unwrap()).await.unwrap()
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// What the agent runs in a new unit's database.
const FENCE: &str = include_str!("../../agent/src/postgres/fence.sql");

const CONFIGURATION: &str = "
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 60
# The files are written beside each copy.
ssl = on
ssl_min_protocol_version = 'TLSv1.3'
ssl_cert_file = 'identity.pem'
ssl_key_file = 'identity.pem'
ssl_ca_file = 'authority.pem'
# The machine does not fail in a test; processes do.
fsync = off
shared_buffers = 16MB
wal_level = replica
hot_standby = on
";
/// Admission closed: nobody but the agent.
const CLOSED: &str = "host all,replication postgres 127.0.0.1/32 trust\n";
const OPEN: &str = "host all,replication postgres 127.0.0.1/32 trust\n\
                    hostssl bank bank 127.0.0.1/32 scram-sha-256 clientcert=verify-full\n";

/// One server process.
struct Server {
    data: PathBuf,
    port: u16,
    child: Option<Child>,
}

/// A primary, maybe with a standby named `b`, under a folder that vanishes.
pub struct Postgres {
    primary: Server,
    standby: Option<Server>,
    // Dropped last: fields are dropped in order.
    _folder: TempDir,
}

impl Server {
    fn start(&mut self) {
        let log = std::fs::File::create(self.data.with_extension("log")).unwrap();
        let child = program("postgres")
            .arg("-D")
            .arg(&self.data)
            .args(["-p", &self.port.to_string()])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        }
    }

    /// Ends the processes without a checkpoint, as when the lease runs out.
    fn stop(&mut self) {
        self.signal(Signal::SIGQUIT);
        if let Some(mut child) = self.child.take() {
            child.wait().unwrap();
        }
    }

    async fn connect(&self, database: &str) -> Client {
        let config = format!("host=127.0.0.1 port={} user=postgres dbname={database}", self.port);
        until("a connection to PostgreSQL", || async {
            let (client, connection) = tokio_postgres::connect(&config, NoTls).await.ok()?;
            tokio::spawn(connection);
            Some(client)
        })
        .await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Postgres {
    /// Starts a unit's database at epoch 1 with all of its schema `dujiang`. `kept` is a folder in which a template
    /// stays for later runs: `env!("CARGO_TARGET_TMPDIR")`.
    pub async fn start(kept: impl AsRef<Path>, unit: &str, with_standby: bool) -> Self {
        let template = template(kept.as_ref());
        let folder = tempfile::tempdir().unwrap();
        open_to_all(folder.path());
        let mut primary = server(&template, folder.path(), "primary");
        let mut standby = with_standby.then(|| server(&template, folder.path(), "standby"));
        primary.start();
        let admin = primary.connect("bank").await;
        let password = secret(folder.path()).password(&UnitId::new(unit).unwrap(), "bank");
        let formed = format!(
            "ALTER ROLE bank PASSWORD '{password}'; INSERT INTO dujiang.fence VALUES (true, '{unit}', 1)"
        );
        admin.batch_execute(&formed).await.unwrap();
        if let Some(standby) = &mut standby {
            let source = format!(
                "primary_conninfo = 'host=127.0.0.1 port={} user=postgres application_name=b'\n",
                primary.port
            );
            append(&standby.data.join("postgresql.conf"), &source);
            std::fs::write(standby.data.join("standby.signal"), "").unwrap();
            standby.start();
        }
        let this = Self { primary, standby, _folder: folder };
        if this.standby.is_some() {
            this.wait_for_standby(&admin).await;
            this.require_standby(&admin, "ANY 1 (b)").await;
        }
        this
    }

    async fn wait_for_standby(&self, admin: &Client) {
        until("the standby streams", || async {
            let sql = "SELECT FROM pg_stat_replication WHERE state = 'streaming'";
            (!admin.query(sql, &[]).await.ok()?.is_empty()).then_some(())
        })
        .await;
    }

    async fn require_standby(&self, admin: &Client, names: &str) {
        admin
            .batch_execute(&format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'"))
            .await
            .unwrap();
        admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        until("the setting is in force", || async {
            let sql = "SELECT FROM pg_stat_replication WHERE sync_state = 'quorum'";
            (!admin.query(sql, &[]).await.ok()?.is_empty()).then_some(())
        })
        .await;
    }

    /// Port of the primary.
    pub fn port(&self) -> u16 {
        self.primary.port
    }

    /// A superuser's session in the bank's database.
    pub async fn admin(&self) -> Client {
        self.primary.connect("bank").await
    }

    /// A superuser's session on the standby.
    pub async fn standby_admin(&self) -> Client {
        self.standby.as_ref().unwrap().connect("bank").await
    }

    /// Port of the standby.
    pub fn standby_port(&self) -> u16 {
        self.standby.as_ref().unwrap().port
    }

    /// Ends the standby.
    pub fn stop_standby(&mut self) {
        self.standby.as_mut().unwrap().stop();
    }

    /// Starts the standby again and waits until it streams.
    pub async fn start_standby(&mut self) {
        self.standby.as_mut().unwrap().start();
        self.wait_for_standby(&self.admin().await).await;
    }

    /// The primary is lost for good; the standby is promoted under the epoch.
    pub async fn fail_over(&mut self, epoch: i64) {
        self.primary.stop();
        let standby = self.standby.as_ref().unwrap();
        let admin = standby.connect("bank").await;
        admin.batch_execute("SELECT pg_promote()").await.unwrap();
        admin.execute("UPDATE dujiang.fence SET epoch = $1", &[&epoch]).await.unwrap();
    }

    /// Ends the primary without a checkpoint.
    pub fn crash(&mut self) {
        self.primary.stop();
    }

    /// Starts the primary again.
    pub async fn restart(&mut self) {
        self.primary.start();
        self.admin().await;
    }

    /// Stops the primary's processes, connections open.
    pub fn freeze(&self) {
        for pid in self.processes() {
            let _ = kill(pid, Signal::SIGSTOP);
        }
    }

    /// Lets them go on.
    pub fn thaw(&self) {
        for pid in self.processes() {
            let _ = kill(pid, Signal::SIGCONT);
        }
    }

    /// The primary's processes: the postmaster and its children.
    fn processes(&self) -> Vec<Pid> {
        let postmaster = self.primary.child.as_ref().unwrap().id();
        let children = std::fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children"));
        let children = children.unwrap_or_default();
        let pids = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        std::iter::once(postmaster.try_into().unwrap()).chain(pids).map(Pid::from_raw).collect()
    }

    /// Changes who is admitted, and ends the sessions of those who are not.
    pub async fn admit(&self, open: bool) {
        let admin = self.admin().await;
        std::fs::write(self.primary.data.join("pg_hba.conf"), if open { OPEN } else { CLOSED }).unwrap();
        admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        // The postmaster reads them a moment after it was told: try as the bank would.
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.primary.port).user("bank").dbname("bank").password("wrong");
        let tls = database_tls();
        until("the rules are in force", || async {
            let refused = dujiang_database::connect(&config, &tls).await.err()?;
            // Asked for a password, or not admitted at all.
            let asked = refused.code() == Some(&SqlState::INVALID_PASSWORD);
            (asked == open).then_some(())
        })
        .await;
        if !open {
            admin
                .batch_execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bank'",
                )
                .await
                .unwrap();
        }
    }
}

/// The secret every test platform has.
pub fn secret(folder: &Path) -> Secret {
    let path = folder.join("secret");
    std::fs::write(&path, "a secret of the tests").unwrap();
    Secret::read(&path).unwrap()
}

fn server(template: &Path, folder: &Path, name: &str) -> Server {
    let data = folder.join(name);
    run(Command::new("cp").arg("-a").arg(template).arg(&data));
    write_identity(&data);
    let port = free_port();
    Server { data, port, child: None }
}

fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let versions = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed");
        let mut versions: Vec<PathBuf> = versions.map(|entry| entry.unwrap().path().join("bin")).collect();
        versions.sort();
        versions.pop().expect("PostgreSQL is installed")
    })
}

/// PostgreSQL refuses to run as root.
fn program(name: &str) -> Command {
    let mut command = Command::new(programs().join(name));
    if let Some(user) = unprivileged() {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

fn unprivileged() -> Option<User> {
    Uid::effective().is_root().then(|| User::from_name("postgres").unwrap().expect("user postgres"))
}

fn open_to_all(folder: &Path) {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Who the server is, for PostgreSQL alone.
fn write_identity(data: &Path) {
    let identity = authority().bundle("dc/a/postgres");
    for (name, text) in
        [("identity.pem", identity.own_pem()), ("authority.pem", identity.authority().to_owned())]
    {
        let path = data.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        if let Some(user) = unprivileged() {
            std::os::unix::fs::chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        }
    }
}

fn append(path: &Path, text: &str) {
    use std::io::Write;
    std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A data directory with role, database and fence, made once and copied.
fn template(folder: &Path) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let version = programs().parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    // Another content makes another template.
    let content = sha2::Sha256::digest(format!("{CONFIGURATION}{OPEN}{FENCE}"));
    let kept =
        folder.join(format!("template-{version}-{:02x}{:02x}{:02x}", content[0], content[1], content[2]));
    if !kept.exists() {
        make_template(&kept);
    }
    kept
}

fn make_template(kept: &Path) {
    let folder = tempfile::tempdir().unwrap();
    open_to_all(folder.path());
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    if let Some(user) = unprivileged() {
        std::os::unix::fs::chown(&data, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
    let options =
        ["-U", "postgres", "-A", "trust", "-k", "-N", "-E", "UTF8", "--locale=C.UTF-8", "--wal-segsize=1"];
    run(program("initdb").arg("-D").arg(&data).args(options));
    append(&data.join("postgresql.conf"), CONFIGURATION);
    write_identity(&data);
    fill(&data);
    std::fs::write(data.join("pg_hba.conf"), OPEN).unwrap();
    // Others may be making the same one: the first to finish wins.
    let fresh = kept.with_extension(std::process::id().to_string());
    run(Command::new("cp").arg("-a").arg(&data).arg(&fresh));
    if std::fs::rename(&fresh, kept).is_err() {
        std::fs::remove_dir_all(&fresh).unwrap();
    }
}

/// Makes role, database and fence with a server that runs for the purpose, and stops it in order.
fn fill(data: &Path) {
    let mut server = Server { data: data.to_owned(), port: free_port(), child: None };
    server.start();
    let port = server.port.to_string();
    let psql = |database: &str| {
        let mut command = Command::new(programs().join("psql"));
        command.args([
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "postgres",
            "-v",
            "ON_ERROR_STOP=1",
            "-q",
            "-d",
            database,
        ]);
        command
    };
    let deadline = Instant::now() + DEADLINE;
    while !psql("postgres").args(["-c", "SELECT"]).output().unwrap().status.success() {
        assert!(Instant::now() < deadline, "the template's server does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
    run(psql("postgres").args(["-c", "CREATE ROLE bank LOGIN", "-c", "CREATE DATABASE bank OWNER bank"]));
    run(psql("bank").args(["-c", FENCE]));
    server.signal(Signal::SIGINT);
    server.child.take().unwrap().wait().unwrap();
}
