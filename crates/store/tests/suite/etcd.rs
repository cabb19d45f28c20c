//! A real etcd of our own, on free loopback ports, in a folder of its own.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dujiang_identity::testing::TestAuthority;
use dujiang_identity::{EtcdFiles, Identity};
use dujiang_store::EtcdStore;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::DEADLINE;

const PROGRAM: &str = "/usr/bin/etcd";
/// Ports found free may be taken by somebody else before etcd has them.
const START_ATTEMPTS: usize = 5;

/// A running etcd; killed when dropped.
pub(crate) struct EtcdServer {
    /// The store's own.
    pub(crate) authority: TestAuthority,
    folder: TempDir,
    client_port: u16,
    peer_port: u16,
    child: Option<Child>,
}

impl EtcdServer {
    pub(crate) async fn start() -> Self {
        Self::start_under(TestAuthority::default()).await
    }

    /// With an authority of the caller's.
    pub(crate) async fn start_under(authority: TestAuthority) -> Self {
        assert!(
            Path::new(PROGRAM).exists(),
            "{PROGRAM} is missing; install it with: apt-get install etcd-server"
        );
        for _ in 0..START_ATTEMPTS {
            let (client_port, peer_port) = free_ports();
            let folder = tempfile::tempdir().unwrap();
            let mut server =
                Self { authority: authority.clone(), folder, client_port, peer_port, child: None };
            server.certify();
            if server.try_start().await {
                return server;
            }
        }
        panic!("etcd did not start {START_ATTEMPTS} times, each on other ports");
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.client_port)
    }

    /// Where it answers other members.
    pub(crate) fn peer_endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.peer_port)
    }

    fn identity_file(&self) -> PathBuf {
        self.folder.path().join("store.pem")
    }

    /// Gives it a new certificate, which it finds by itself if it runs.
    pub(crate) fn certify(&self) {
        self.authority.bundle("dc/a/store").write(&self.identity_file()).unwrap();
    }

    /// Its identity as etcd's own programs take it.
    pub(crate) fn files(&self) -> EtcdFiles {
        EtcdFiles::of(&self.identity_file()).unwrap()
    }

    /// A control server's identity.
    pub(crate) fn client(&self) -> Identity {
        self.authority.identity("control")
    }

    pub(crate) async fn connect(&self) -> EtcdStore {
        EtcdStore::connect(&[self.endpoint().as_str()], &self.client()).await.unwrap()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM, and waits for it to end.
    pub(crate) async fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let process = Pid::from_raw(i32::try_from(child.id()).unwrap());
        kill(process, Signal::SIGTERM).unwrap();
        let deadline = Instant::now() + DEADLINE;
        while child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "etcd does not stop");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts it again with its data and ports.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.try_start().await, "etcd does not start again");
    }

    /// Starts it and waits until it answers. False if it exits instead.
    async fn try_start(&mut self) -> bool {
        let (client, peer) = (self.endpoint(), self.peer_endpoint());
        let child = Command::new(PROGRAM)
            .args(["--name", "one", "--log-level", "error"])
            .arg("--data-dir")
            .arg(self.folder.path().join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("one={peer}")])
            .args(self.files().member_options())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let identity = self.client();
        let child = self.child.insert(child);
        let deadline = Instant::now() + DEADLINE;
        loop {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            if EtcdStore::connect(&[client.as_str()], &identity).await.is_ok() {
                return true;
            }
            assert!(Instant::now() < deadline, "etcd does not answer");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Two different ports that nobody listens on.
pub(crate) fn free_ports() -> (u16, u16) {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (one, other) = (listen(), listen());
    (one.local_addr().unwrap().port(), other.local_addr().unwrap().port())
}
