//! Operations: everything that takes more than one step, with its steps as evidence.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::exposure::Missing;
use crate::{DcId, Epoch, Resource, Revision, UnitId};

/// An operation's record.
pub type Operation = Resource<OperationSpec, OperationStatus>;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperationSpec {
    /// The work.
    pub work: Work,
    /// Who asked for it: a person's name, or the controller's.
    pub asked_by: String,
}

/// Kinds of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum Work {
    /// Change a unit's home in order.
    Move {
        /// The unit.
        unit: UnitId,
        /// Its new home.
        to: DcId,
    },
    /// Change a unit's home because the old one is gone.
    Failover {
        /// The unit.
        unit: UnitId,
        /// Its home before.
        from: DcId,
    },
    /// Promote a replica although it cannot be proven that it holds every acknowledged commit. Needs two operators.
    #[serde(rename = "force-promote")]
    ForcePromote {
        /// The unit.
        unit: UnitId,
        /// The data center whose replica is to be promoted.
        to: DcId,
    },
    /// Have a unit's home acknowledge although no other replica has what it acknowledges. Needs two operators.
    #[serde(rename = "run-alone")]
    RunAlone {
        /// The unit.
        unit: UnitId,
    },
    /// Put the control store back from a backup.
    Restore {
        /// When the backup was taken.
        #[schema(value_type = String, format = DateTime)]
        taken_at: Timestamp,
        /// The revision it was taken at.
        revision: Revision,
    },
    /// Re-form the control store from the one member of it that is left.
    Recover {
        /// The site of that member.
        from: DcId,
    },
}

impl Work {
    /// The unit it is about, unless it is about the store.
    pub fn unit(&self) -> Option<&UnitId> {
        match self {
            Self::Move { unit, .. }
            | Self::Failover { unit, .. }
            | Self::ForcePromote { unit, .. }
            | Self::RunAlone { unit } => Some(unit),
            Self::Restore { .. } | Self::Recover { .. } => None,
        }
    }
}

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OperationState {
    /// Waits for the approval of a second operator.
    Awaiting,
    /// Not begun.
    Pending,
    /// At work.
    Running,
    /// Done.
    Succeeded,
    /// Not done; the last step says why. The unit is as it was, or is being recovered by a failover.
    Failed,
}

/// What is known of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperationStatus {
    /// How far it is.
    pub state: OperationState,
    /// What happened, oldest first.
    pub steps: Vec<Step>,
    /// The approval it needs, or had; `None` for work that needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
}

/// The approval of a second operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Approval {
    /// What may be missing, as it was known when the work was asked for.
    pub missing: Missing,
    /// Until when it may be given (wall clock).
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Who gave it; never who asked for the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// One step of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// Phase of the unit that was entered, or `requested`, `refused`, `done`.
    pub name: String,
    /// When (wall clock, for people).
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The unit's epoch at that moment.
    pub epoch: Epoch,
    /// Why, in one sentence.
    pub reason: String,
}
