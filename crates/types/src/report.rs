//! What agents and gateways observe and report. A missing or old report means *unknown*, never *absent*.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::unit::SyncSet;
use crate::{DcId, Epoch, Lsn, Position, Revision, UnitId};

/// One agent's view of one unit's replica in its data center.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplicaReport {
    /// Revision of the unit's record the agent has last acted on.
    pub revision: Revision,
    /// The highest epoch whose record the agent has ever acted on; it outlives the agent.
    #[serde(default)]
    pub epoch_seen: Epoch,
    /// What the data directory holds.
    pub data: DataState,
    /// What the database process does.
    pub state: ReplicaState,
    /// How far the replica's log reaches: received and flushed. `None` while it cannot be told.
    pub position: Option<Position>,
    /// How far it is replayed.
    pub replayed: Option<Lsn>,
    /// For how many more milliseconds the agent has promised another one not to promote this replica.
    pub promised_ms: u64,
    /// What the agent is doing or waiting for, in one sentence.
    pub note: String,
}

/// What a replica's data directory holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum DataState {
    /// Nothing, or something half made that will be made anew.
    Absent,
    /// A database.
    Present {
        /// The highest epoch under which this data was promoted, if it ever was.
        primary_epoch: Option<Epoch>,
    },
}

/// What a replica's database process does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum ReplicaState {
    /// Being created, cloned or rewound.
    Preparing {
        /// `init`, `clone` or `rewind`.
        work: String,
    },
    /// No process runs, for certain.
    Stopped {
        /// For a primary that was shut down in order: timeline and start of its last record (the shutdown
        /// checkpoint). A replica that has replayed *past* that start holds everything.
        sealed: Option<Position>,
    },
    /// Started, not yet consistent.
    Starting,
    /// A standby that receives from nobody; `position` is final for that epoch's election.
    Detached {
        /// The epoch under which it was detached.
        epoch: Epoch,
    },
    /// A standby.
    Following {
        /// Whom it follows.
        from: DcId,
        /// Under which epoch.
        epoch: Epoch,
        /// True while log arrives (or could arrive) over an established connection.
        streaming: bool,
    },
    /// A primary.
    Primary {
        /// Promoted under this epoch.
        epoch: Epoch,
        /// True if clients are admitted.
        open: bool,
        /// The sync set in force: applied in every session **and** confirmed by a later commit position
        /// flushed by enough members.
        confirmed: Option<SyncSet>,
        /// Standbys connected to it.
        standbys: BTreeMap<DcId, StandbyReport>,
    },
}

/// A standby as its primary sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StandbyReport {
    /// True if it is in streaming state (not catching up from an archive or a slot).
    pub streaming: bool,
    /// Flushed by it.
    pub flushed: Lsn,
    /// Bytes it is behind the primary.
    pub lag_bytes: u64,
}

/// One instance of an application, or a gateway, as its agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceReport {
    /// Where it listens.
    #[schema(value_type = String, example = "127.0.11.10:9000")]
    pub address: SocketAddr,
    /// True if its process runs and its readiness endpoint answered lately.
    pub ready: bool,
    /// Process id, if it runs.
    pub pid: Option<u32>,
    /// Times it was started since the agent began.
    pub starts: u32,
    /// What it is doing or why it is not ready.
    pub note: String,
}

/// One gateway's view of the routing table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GatewayReport {
    /// Version of the table it routes by.
    pub table: Revision,
    /// Requests of units that are being held: forwarded earlier and not yet answered.
    pub in_flight: BTreeMap<UnitId, u64>,
    /// Requests waiting for each held unit.
    pub held: BTreeMap<UnitId, u64>,
    /// What it saw of units that have lately come under a new epoch. For the evidence; nothing is decided by it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub turns: BTreeMap<UnitId, TurnReport>,
}

/// What a gateway saw of a unit's coming under a new epoch, counting its own clients' requests only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TurnReport {
    /// The epoch.
    pub epoch: Epoch,
    /// When it first routed to the home under that epoch.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub routed_at: Option<Timestamp>,
    /// When a request was first answered without a server error under that epoch.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub first_success_at: Option<Timestamp>,
    /// Requests that were held and answered then.
    pub held: u64,
    /// The longest hold in microseconds.
    pub longest_hold_us: u64,
    /// Requests answered with a server error, from ten seconds before the epoch on.
    pub failed: u64,
}
