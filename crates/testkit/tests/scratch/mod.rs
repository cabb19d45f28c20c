//! A PostgreSQL server of one test, in a folder that vanishes.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dujiang_identity::testing::TestAuthority;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown, geteuid};
use tempfile::TempDir;
use tokio_postgres::{Client, Config, NoTls};

/// Long enough for a machine with two busy cores.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A running server that trusts everybody who comes over loopback.
pub(crate) struct Scratch {
    server: Child,
    port: u16,
    authority: TestAuthority,
    folder: TempDir,
}

impl Scratch {
    /// Makes and starts one.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("dujiang-scratch").tempdir().unwrap();
        let account = geteuid().is_root().then(|| User::from_name("postgres").unwrap().unwrap());
        if let Some(user) = &account {
            chown(folder.path(), Some(user.uid), Some(user.gid)).unwrap();
        }
        let data = folder.path().join("data");
        let command = |program: &str| {
            let mut command = Command::new(bin().join(program));
            if let Some(user) = &account {
                command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
            }
            command.current_dir("/").stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        let made = command("initdb")
            .args(["-U", "dujiang", "-A", "trust", "--no-sync", "-D"])
            .arg(&data)
            .status()
            .unwrap();
        assert!(made.success());
        let authority = TestAuthority::default();
        let key = data.join("identity.pem");
        authority.bundle("dc/dc/postgres").write(&key).unwrap();
        if let Some(user) = &account {
            chown(&key, Some(user.uid), Some(user.gid)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut postgres = command("postgres");
        postgres.arg("-D").arg(&data).args(["-c", "fsync=off", "-c", "unix_socket_directories="]);
        postgres.args(["-c", "listen_addresses=127.0.0.1", "-c", &format!("port={port}")]);
        postgres.args([
            "-c",
            "ssl=on",
            "-c",
            "ssl_cert_file=identity.pem",
            "-c",
            "ssl_key_file=identity.pem",
        ]);
        let scratch = Self { server: postgres.spawn().unwrap(), port, authority, folder };
        let deadline = Instant::now() + START_TIMEOUT;
        while let Err(error) = scratch.config("postgres").connect(NoTls).await {
            assert!(Instant::now() < deadline, "PostgreSQL does not start: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        scratch
    }

    /// How to connect to a database.
    pub(crate) fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user("dujiang").dbname(database);
        config
    }

    /// An identity for what connects with one. This server asks for none, but shows its own: `dc/dc/postgres`.
    pub(crate) fn identity(&self) -> PathBuf {
        let path = self.folder.path().join("agent.pem");
        self.authority.bundle("dc/dc/agent").write(&path).unwrap();
        path
    }

    /// A connection to a database.
    pub(crate) async fn connect(&self, database: &str) -> Client {
        let (client, connection) = self.config(database).connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.server.id().cast_signed()), Signal::SIGQUIT);
        let _ = self.server.wait();
    }
}

fn bin() -> PathBuf {
    let mut versions: Vec<_> =
        std::fs::read_dir("/usr/lib/postgresql").unwrap().map(|entry| entry.unwrap().path()).collect();
    versions.sort();
    let found = versions.into_iter().rev().map(|version| version.join("bin"));
    found.into_iter().find(|bin| Path::new(bin).join("postgres").exists()).expect("PostgreSQL is installed")
}
