//! Operations: everything that takes more than one step, with its steps as evidence.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{DcId, Epoch, Resource, UnitId};

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
}

impl Work {
    /// The unit it is about.
    pub fn unit(&self) -> &UnitId {
        match self {
            Self::Move { unit, .. } | Self::Failover { unit, .. } => unit,
        }
    }
}

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OperationState {
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
