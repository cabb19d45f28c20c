//! The unit: a slice of customers, at home in exactly one data center at a time.
//!
//! The unit's record is the only truth about it. Agents, gateways and applications each derive what they do
//! from it, so that one compare-and-set on the record is one change everywhere.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{AppId, Condition, DcId, Epoch, OperationId, Resource, Slot, SlotRange};

/// A unit's record.
pub type Unit = Resource<UnitSpec, UnitStatus>;

/// What the loss of a data center may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// No acknowledged commit is lost by the loss of one data center; writes stop rather than lie.
    Zero,
    /// Asynchronous: the exposure is shown, and a failover that cannot be proven needs an operator.
    Bounded,
}

/// What is wanted of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnitSpec {
    /// The application whose database this is.
    pub application: AppId,
    /// Data center where the database is first created. Later moves change `status.home`, not this.
    pub home: DcId,
    /// Data centers that hold a replica, the home among them.
    pub replicas: BTreeSet<DcId>,
    /// Slots the unit owns.
    pub slots: Vec<SlotRange>,
    /// What the loss of a data center may cost.
    pub durability: Durability,
    /// TCP port of the unit's PostgreSQL, the same in every data center.
    pub port: u16,
}

impl UnitSpec {
    /// True if the unit owns the slot.
    pub fn owns(&self, slot: Slot) -> bool {
        self.slots.iter().any(|range| range.contains(slot))
    }
}

/// Where a unit is in its life. Transitions are decided only by `dujiang-unit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum Phase {
    /// The home creates the database; no client is served yet.
    Forming,
    /// The home serves.
    Serving,
    /// A planned move has begun: gateways hold requests, the primary still runs. The way back is `Serving`.
    Holding {
        /// Where the unit is going.
        to: DcId,
    },
    /// The primary closes its sessions and stops; its last position becomes known.
    Sealing {
        /// Where the unit is going.
        to: DcId,
    },
    /// Replicas stop receiving and report how far they reach, under the record's (already raised) epoch.
    Electing,
    /// `home` (already set to the winner) becomes primary under the record's epoch.
    Promoting {
        /// Where the unit comes from.
        from: DcId,
    },
}

impl Phase {
    /// True if gateways must hold the unit's requests.
    pub fn holds(&self) -> bool {
        !matches!(self, Self::Serving)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forming => f.write_str("forming"),
            Self::Serving => f.write_str("serving"),
            Self::Holding { to } => write!(f, "holding for {to}"),
            Self::Sealing { to } => write!(f, "sealing for {to}"),
            Self::Electing => f.write_str("electing"),
            Self::Promoting { from } => write!(f, "promoting (from {from})"),
        }
    }
}

/// Which replicas PostgreSQL waits for, and how many of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct SyncSet {
    /// Replicas of which enough must have flushed a commit before it is acknowledged.
    pub members: BTreeSet<DcId>,
    /// How many of them: 1 with durability `zero`, 0 with `bounded`. With fewer members than this nothing
    /// can be acknowledged.
    pub need: u8,
}

/// A claim about acknowledged commits: *every commit acknowledged under `epoch` is on `primary` and has been
/// flushed by `set.need` of `set.members`*. A record may carry several; a promotion must satisfy them all.
///
/// While the sync set changes, the old and the new set are both recorded, so the record never claims more than
/// PostgreSQL does. While a new home is being promoted, the claims of the epoch before stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Claim {
    /// Epoch whose commits are meant.
    pub epoch: Epoch,
    /// The primary of that epoch: its own data holds all of its commits.
    pub primary: DcId,
    /// The sync set they were acknowledged under.
    pub set: SyncSet,
}

/// A failover that changed a unit's home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastFailover {
    /// When (wall clock).
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The home that was lost.
    pub from: DcId,
    /// How many there were in a row, each soon after the one before. Two or more want a person to look.
    pub in_a_row: u32,
}

/// What is decided about a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnitStatus {
    /// Raised by every election and every move.
    pub epoch: Epoch,
    /// Where the unit is at home (or, while promoting, is going to be).
    pub home: DcId,
    /// Where the unit is in its life.
    pub phase: Phase,
    /// Claims about acknowledged commits, oldest first; the last one is what the primary shall enforce.
    pub claims: Vec<Claim>,
    /// The operation at work on the unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationId>,
    /// Operator's order to promote this data center without proof; cleared by the promotion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced: Option<DcId>,
    /// The last failover that changed the home, if there was one and no operator has looked at it since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failover: Option<LastFailover>,
    /// One sentence: why the unit is in this phase.
    pub reason: String,
    /// When the phase was entered (wall clock, for people).
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Aspects such as `Ready` and `DurabilityKept`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl UnitStatus {
    /// The sync set the primary of this epoch shall enforce, if there is one yet.
    pub fn wanted_set(&self) -> Option<&SyncSet> {
        self.claims.last().filter(|c| c.epoch == self.epoch).map(|c| &c.set)
    }
}
