//! This data center's member of a control plane that lives in the data centers it looks after: a member of etcd, and
//! a control server over it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dujiang_types::DcId;
use dujiang_types::platform::{DataCenterSpec, STORE_BYTES_MAX};

use super::{Folder, Options};
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

/// Where the member on a host answers other members.
pub fn peer_url(host: IpAddr) -> String {
    format!("http://{}", SocketAddr::new(host, DataCenterSpec::PORT_ETCD_PEER))
}

/// The two processes, kept running.
#[derive(Debug)]
pub(super) struct Member {
    etcd: Keeper,
    control: Keeper,
}

impl Member {
    /// Starts both, or adopts what survived. `members` are the main hosts of all data centers.
    pub(super) fn start(
        options: &Options,
        members: &BTreeMap<DcId, IpAddr>,
        folder: &Folder,
        client: &reqwest::Client,
        plain: &reqwest::Client,
    ) -> Option<Self> {
        let host = *members.get(&options.dc)?;
        let spec = Processes { options, folder, host };
        Some(Self {
            etcd: Keeper::start(spec.etcd(members), plain.clone()),
            control: Keeper::start(spec.control(), client.clone()),
        })
    }

    /// Ends both, the control server first.
    pub(super) async fn stop(self) {
        self.control.stop(GRACE).await;
        self.etcd.stop(GRACE).await;
    }
}

struct Processes<'a> {
    options: &'a Options,
    folder: &'a Folder,
    host: IpAddr,
}

impl Processes<'_> {
    fn etcd(&self, members: &BTreeMap<DcId, IpAddr>) -> Spec {
        let url = |host: IpAddr, port| format!("http://{}", SocketAddr::new(host, port));
        let own_client = url(self.host, DataCenterSpec::PORT_ETCD);
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
        let args = args.chain(["--pre-vote".to_owned()]).collect();
        let ready = format!("{own_client}/health");
        self.folder.process(self.options, "etcd", ETCD.into(), args, ready)
    }

    fn control(&self) -> Spec {
        let listen = SocketAddr::new(self.host, DataCenterSpec::PORT_CONTROL);
        // Its own member only: with that gone it could do no more than hold up the others.
        let store = format!("etcd:http://{}", SocketAddr::new(self.host, DataCenterSpec::PORT_ETCD));
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
        self.folder.process(self.options, "control", self.options.program.clone(), args.into(), ready)
    }
}
