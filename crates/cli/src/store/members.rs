//! Members of etcd that are stopped, and one that is started alone to be read or filled.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use dujiang_agent::ETCD;
use dujiang_identity::{EtcdFiles, Folder as Authorities, Identity, Name, Role};
use dujiang_store::EtcdStore;
use dujiang_types::DcId;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::failure::Failure;
use crate::manifest::Manifest;
use crate::supervisor::folder::Folder;

/// etcd's client from the distribution: it makes members from a snapshot.
const ETCDCTL: &str = "/usr/bin/etcdctl";
/// A member alone starts within a second or two; on a busy machine it takes longer.
const START_MAX: Duration = Duration::from_secs(30);
/// It closes its files.
const STOP_MAX: Duration = Duration::from_secs(10);
/// Writing and reading a snapshot of at most half a gigabyte.
const SNAPSHOT_MAX: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long its certificate holds: longer than any of this takes.
const IDENTITY_LIFETIME: Duration = Duration::from_secs(60 * 60);
/// The name of a member that is part of no cluster yet.
const ALONE: &str = "alone";

/// Where a member is.
#[derive(Debug, Clone)]
pub struct Site {
    /// Its name.
    pub name: DcId,
    /// The folder of its data.
    pub dir: PathBuf,
    host: IpAddr,
}

/// The sites that have a member.
pub fn sites(folder: &Folder, manifest: &Manifest) -> Vec<Site> {
    let members = manifest.members().into_iter();
    let dir = |name: &DcId| folder.path().join("dc").join(name.as_str()).join("etcd");
    members.map(|(name, host)| Site { dir: dir(&name), name, host }).collect()
}

/// A member that nobody but us talks to, on a free loopback port.
#[derive(Debug)]
pub struct Alone {
    child: Child,
    endpoint: String,
    files: EtcdFiles,
    client: Identity,
}

impl Alone {
    /// Starts an empty one. Its data lies in `dir`, and its identity beside that.
    pub async fn start(folder: &Folder, dir: &Path) -> Result<Self, Failure> {
        let name = DcId::new(ALONE).map_err(|e| Failure::because("a member has no name", &e))?;
        Self::run(folder, dir, &name, false).await
    }

    /// Starts a member that is left of a cluster, as the only one of a new cluster.
    pub async fn start_last(folder: &Folder, dir: &Path, name: &DcId) -> Result<Self, Failure> {
        Self::run(folder, dir, name, true).await
    }

    async fn run(folder: &Folder, dir: &Path, name: &DcId, last: bool) -> Result<Self, Failure> {
        let unknown = |e| Failure::because("the store's authority cannot be used", &e);
        let (files, identity) = identities(folder, dir, name).map_err(unknown)?;
        let (client, peer) = free_urls().map_err(|e| Failure::because("there is no free port", &e))?;
        let mut command = Command::new(ETCD);
        command.arg("--name").arg(name.as_str()).arg("--data-dir").arg(dir).args(files.member_options());
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("{name}={peer}"), "--log-level", "error"]);
        if last {
            command.arg("--force-new-cluster");
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let cannot = |e| {
            Failure::because(format!("cannot run {ETCD}"), &e)
                .hint("install it from the distribution: `apt-get install etcd-server`")
        };
        let mut child = command.spawn().map_err(cannot)?;
        let deadline = Instant::now() + START_MAX;
        loop {
            if let Some(status) = child.try_wait().map_err(cannot)? {
                return Err(Failure::failed(format!(
                    "a member of etcd over {} ended: {status}",
                    dir.display()
                )));
            }
            if EtcdStore::connect(&[client.as_str()], &identity).await.is_ok() {
                return Ok(Self { child, endpoint: client, files, client: identity });
            }
            if Instant::now() > deadline {
                return Err(Failure::failed(format!(
                    "a member of etcd over {} does not start",
                    dir.display()
                )));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Connects to it.
    pub async fn connect(&self) -> Result<EtcdStore, dujiang_store::Error> {
        EtcdStore::connect(&[&self.endpoint], &self.client).await
    }

    /// Writes its content to a file.
    pub async fn snapshot(&self, file: &Path) -> Result<(), Failure> {
        let mut command = Command::new(ETCDCTL);
        command.args(["--endpoints", &self.endpoint]).args(self.files.client_options());
        command.args(["snapshot", "save"]).arg(file);
        run(command, "take a snapshot").await
    }

    /// Ends it in order.
    pub async fn stop(mut self) -> Result<(), Failure> {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        match timeout(STOP_MAX, self.child.wait()).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Failure::failed("a member of etcd that was started alone does not end")),
        }
    }
}

/// What the member shows, written beside its data, and what is shown to it.
fn identities(
    folder: &Folder,
    dir: &Path,
    name: &DcId,
) -> Result<(EtcdFiles, Identity), dujiang_identity::Error> {
    let authority = Arc::new(Authorities::of(folder.path()).store()?);
    let file = dir.with_extension("pem");
    let member = Name::in_dc(authority.platform(), name, Role::Store);
    authority.issue_for(&member, &[Ipv4Addr::LOCALHOST.into()], IDENTITY_LIFETIME)?.write(&file)?;
    let client = Name::control(authority.platform());
    Ok((EtcdFiles::of(&file)?, Identity::of_authority(authority, &client, &[])?))
}

/// Makes a member's folder from a snapshot. All members of a cluster have to be made with the same `stamp`.
pub async fn from_snapshot(
    snapshot: &Path,
    site: &Site,
    all: &[Site],
    dir: &Path,
    stamp: &str,
) -> Result<(), Failure> {
    let peer = |site: &Site| dujiang_agent::peer_url(site.host);
    let cluster: Vec<String> = all.iter().map(|site| format!("{}={}", site.name, peer(site))).collect();
    let mut command = Command::new(ETCDCTL);
    command.args(["snapshot", "restore"]).arg(snapshot);
    command.args(["--name", site.name.as_str(), "--initial-cluster", &cluster.join(",")]);
    command.args(["--initial-advertise-peer-urls", &peer(site)]);
    // Of its own, so that a member of the replaced cluster that turns up is not taken for one of this.
    command.args(["--initial-cluster-token", &format!("dujiang-{stamp}")]).arg("--data-dir").arg(dir);
    run(command, "make a member from a snapshot").await
}

async fn run(mut command: Command, what: &str) -> Result<(), Failure> {
    command.env("ETCDCTL_API", "3").stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(SNAPSHOT_MAX, command.output()).await;
    let output = output.map_err(|_| Failure::failed(format!("etcdctl did not {what} in time")))?;
    let output = output.map_err(|e| {
        Failure::because(format!("cannot run {ETCDCTL}"), &e)
            .hint("install it from the distribution: `apt-get install etcd-client`")
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::failed(format!("etcdctl could not {what}: {}", said.trim())))
}

fn free_urls() -> std::io::Result<(String, String)> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let (client, peer) = (listen()?, listen()?);
    Ok((format!("https://{}", client.local_addr()?), format!("https://{}", peer.local_addr()?)))
}
