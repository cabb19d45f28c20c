//! This data center's member of a control plane that lives in the data centers it looks after: a member of etcd, and
//! a control server over it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use dujiang_identity::{EtcdFiles, Expect, Identity, Name, Role, http_client};
use dujiang_types::DcId;
use dujiang_types::platform::{DataCenterSpec, STORE_BYTES_MAX};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::{AgentError, CONNECT_TIMEOUT, Folder, Options};
use crate::process::{Keeper, Spec};

/// How long the control server may take to finish its answers, and etcd to close its files.
const GRACE: Duration = Duration::from_secs(5);
/// etcd from the distribution.
pub const ETCD: &str = "/usr/bin/etcd";
/// Between data centers a message takes some ten milliseconds, on a bad day a few hundred.
const HEARTBEAT_MS: u32 = 100;
/// A lost packet holds up its connection for up to twice the longest round trip, which must not begin an election. Beside
/// that of a home's lease, which is waited for anyway, an election of one to two seconds costs nothing.
const ELECTION_MS: u32 = 1_000;
/// History that watches can be resumed in. Everyone who watches lists again when it is gone.
const HISTORY_KEPT: &str = "10m";
/// Between two looks whether the member has an identity by now: whoever hands it out has just written it, or a control
/// server certifies it at the agent's next request.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Where the member on a host answers other members.
pub fn peer_url(host: IpAddr) -> String {
    format!("https://{}", SocketAddr::new(host, DataCenterSpec::PORT_ETCD_PEER))
}

/// Where it answers clients.
fn client_url(host: IpAddr) -> String {
    format!("https://{}", SocketAddr::new(host, DataCenterSpec::PORT_ETCD))
}

/// The two processes, kept running.
#[derive(Debug)]
pub(super) struct Member {
    etcd: JoinHandle<()>,
    stop_etcd: oneshot::Sender<()>,
    /// None at a witness.
    control: Option<Keeper>,
}

impl Member {
    /// Starts both, or adopts what survived. `members` are the main hosts of all data centers.
    pub(super) fn start(
        options: &Options,
        members: &BTreeMap<DcId, IpAddr>,
        folder: &Folder,
        client: &reqwest::Client,
    ) -> Option<Self> {
        let host = *members.get(&options.dc)?;
        let processes = Processes { options: options.clone(), folder: folder.clone(), host };
        let control = Keeper::start(processes.control(), client.clone());
        Some(Self { control: Some(control), ..Self::of(processes, members) })
    }

    /// The same without a control server: a vote, and nobody who decides by it.
    pub(super) fn witness(options: &Options, folder: &Folder) -> Option<Self> {
        let host = *options.members.get(&options.dc)?;
        let processes = Processes { options: options.clone(), folder: folder.clone(), host };
        Some(Self::of(processes, &options.members))
    }

    fn of(processes: Processes, members: &BTreeMap<DcId, IpAddr>) -> Self {
        let (stop_etcd, stop) = oneshot::channel();
        let etcd = tokio::spawn(keep_etcd(processes, members.clone(), stop));
        Self { etcd, stop_etcd, control: None }
    }

    /// Ends both, the control server first.
    pub(super) async fn stop(self) {
        if let Some(control) = self.control {
            control.stop(GRACE).await;
        }
        // It ends only by this word; a task that is gone has stopped nothing, but neither will anybody else.
        let _ = self.stop_etcd.send(());
        let _ = self.etcd.await;
    }
}

/// Keeps etcd running from when it has an identity until it is told to stop. If nobody is left to tell, it is left to the
/// next agent.
async fn keep_etcd(processes: Processes, members: BTreeMap<DcId, IpAddr>, mut stop: oneshot::Receiver<()>) {
    let (files, client) = tokio::select! {
        secured = processes.secured() => secured,
        _ = &mut stop => return,
    };
    let etcd = Keeper::start(processes.etcd(&members, &files), client);
    if stop.await.is_ok() {
        etcd.stop(GRACE).await;
    }
}

struct Processes {
    options: Options,
    folder: Folder,
    host: IpAddr,
}

impl Processes {
    fn identity_file(&self) -> PathBuf {
        let platform = self.options.identity.name().platform();
        self.options.identity_file(&Name::in_dc(platform, &self.options.dc, Role::Store))
    }

    /// The member's identity, once there is one, and a client that asks the member with it how it is.
    async fn secured(&self) -> (EtcdFiles, reqwest::Client) {
        let mut said = false;
        loop {
            match self.identity() {
                Ok(identity) => return identity,
                Err(error) if !said => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the member of the store waits for its identity"
                    );
                    said = true;
                }
                Err(_) => {}
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn identity(&self) -> Result<(EtcdFiles, reqwest::Client), AgentError> {
        let file = self.identity_file();
        let own_member = Expect::roles(&[Role::Store]).within(&self.options.dc);
        let client = http_client(&Identity::from_file(&file)?, own_member)?;
        let client = client.connect_timeout(CONNECT_TIMEOUT).build().map_err(AgentError::Client)?;
        Ok((EtcdFiles::of(&file)?, client))
    }

    fn etcd(&self, members: &BTreeMap<DcId, IpAddr>, files: &EtcdFiles) -> Spec {
        let own_client = client_url(self.host);
        let cluster: Vec<String> =
            members.iter().map(|(dc, host)| format!("{dc}={}", peer_url(*host))).collect();
        let args = [
            ("--name", self.options.dc.to_string()),
            ("--data-dir", self.folder.dc.join("etcd").display().to_string()),
            ("--listen-client-urls", own_client.clone()),
            ("--advertise-client-urls", own_client.clone()),
            ("--listen-peer-urls", peer_url(self.host)),
            ("--initial-advertise-peer-urls", peer_url(self.host)),
            ("--initial-cluster", cluster.join(",")),
            ("--initial-cluster-token", "dujiang".to_owned()),
            ("--heartbeat-interval", HEARTBEAT_MS.to_string()),
            ("--election-timeout", ELECTION_MS.to_string()),
            ("--auto-compaction-mode", "periodic".to_owned()),
            ("--auto-compaction-retention", HISTORY_KEPT.to_owned()),
            ("--quota-backend-bytes", STORE_BYTES_MAX.to_string()),
            ("--log-level", "warn".to_owned()),
        ];
        let args = args.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
        // Who alone does not hear the leader must not depose it.
        let args = args.chain(["--pre-vote".to_owned()]).chain(files.member_options()).collect();
        let ready = format!("{own_client}/health");
        self.folder.process(&self.options, "etcd", ETCD.into(), args, ready)
    }

    fn control(&self) -> Spec {
        let listen = SocketAddr::new(self.host, DataCenterSpec::PORT_CONTROL);
        // Its own member only: with that gone it could do no more than hold up the others.
        let store = format!("etcd:{}", client_url(self.host));
        let args = [
            "control".to_owned(),
            "--name".to_owned(),
            self.options.dc.to_string(),
            "--dc".to_owned(),
            self.options.dc.to_string(),
            "--listen".to_owned(),
            listen.to_string(),
            "--store".to_owned(),
            store,
        ];
        let ready = format!("https://{listen}/readyz");
        self.folder.process(&self.options, "control", self.options.program.clone(), args.into(), ready)
    }
}
