//! What the loss of a unit's home would cost, and what agents report to tell it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{DcId, Tri};

/// What an agent counts in one replica, beside its position.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Meter {
    /// The number of the last transfer in this replica. The application says where it numbers them; `None` if it does
    /// not, or it could not be read.
    #[serde(default)]
    pub transfers: Option<u64>,
    /// Clients connected. `None` if it is not known.
    #[serde(default)]
    pub connections: Option<u32>,
    /// Clients admitted at most.
    #[serde(default)]
    pub connections_max: Option<u32>,
}

/// What an agent sees of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Host {
    /// Processors.
    pub cpus: u32,
    /// Processes that run or want to, per processor in percent, over the last minute.
    pub load_percent: u32,
    /// Free on the file system with the databases, in bytes, for whom they run as.
    pub disk_free_bytes: u64,
    /// Size of that file system in bytes.
    pub disk_bytes: u64,
}

/// How far a replica is behind its primary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Behind {
    /// Bytes of log.
    pub bytes: u64,
    /// How long ago the primary was where the replica is, in milliseconds.
    pub lag_ms: u64,
    /// Transfers the primary has begun since, within as many as are under way at a moment. `None` if the application
    /// does not number them.
    pub transfers: Option<u64>,
}

/// What may be missing on a replica that is promoted without proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Missing {
    /// The replica.
    pub to: DcId,
    /// What the home is known to have had beyond it. `None`: nothing was heard of both, and it may be anything.
    pub known: Option<Behind>,
    /// For how long after its last report the home may have gone on acknowledging, in milliseconds. What it did in
    /// that time comes on top.
    pub unheard_ms: u64,
    /// Why it cannot be proven that nothing is missing.
    pub reason: String,
}

/// Whether the unit's durability is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DurabilityView {
    /// True: all other replicas are in the sync set. False: it is degraded.
    pub kept: Tri,
    /// Since when (wall clock). `None` if that was never recorded.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// Why.
    pub reason: String,
}

/// What the loss of a unit's home would cost now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Exposure {
    /// Kept or degraded, as it is recorded.
    pub durability: DurabilityView,
    /// True if another replica would be promoted without asking anyone.
    pub automatic: bool,
    /// Which one. `None` if none would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<DcId>,
    /// Why not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Acknowledged bytes that only the home may have: 0 where the sync set holds them, else the lag of the replica
    /// that is least behind. `None` if it is not known.
    pub at_risk_bytes: Option<u64>,
    /// The same with its time and transfers.
    pub at_risk: Option<Behind>,
    /// How far each replica is behind the home, or was when the home was last heard.
    #[serde(default)]
    pub behind: BTreeMap<DcId, Behind>,
}
