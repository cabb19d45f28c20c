//! What a decision says: keep the record, or change it by one transition and tell the operations.

use dujiang_types::OperationId;
use dujiang_types::operation::{OperationState, Step, Work};
use dujiang_types::unit::UnitStatus;

use super::View;

/// What to do with the record.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Nothing now.
    Keep {
        /// What is being waited for, or that all is well.
        why: String,
    },
    /// Write this.
    Change(Box<Change>),
}

/// One transition.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The record's new status.
    pub status: UnitStatus,
    /// What to write into operations' records in the same transaction.
    pub operations: Vec<Effect>,
}

/// A change of an operation's record.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// Which operation.
    pub id: OperationId,
    /// Create it with this work if it does not exist.
    pub create: Option<Work>,
    /// Its new state.
    pub state: OperationState,
    /// Append this step.
    pub step: Step,
}

pub(super) fn keep(why: impl Into<String>) -> Decision {
    Decision::Keep { why: why.into() }
}

pub(super) fn change(view: &View, status: UnitStatus, reason: String) -> Change {
    Change { status: UnitStatus { reason, since: view.wall, ..status }, operations: Vec::new() }
}

impl Change {
    pub(super) fn note(mut self, id: OperationId, create: Option<Work>, state: OperationState) -> Self {
        let name = match state {
            OperationState::Failed => "failed".to_owned(),
            _ => self.status.phase.to_string(),
        };
        let step = Step {
            name,
            at: self.status.since,
            epoch: self.status.epoch,
            reason: self.status.reason.clone(),
        };
        self.operations.push(Effect { id, create, state, step });
        self
    }

    /// Appends a step to the operation at work, if there is one.
    pub(super) fn go_on(self, state: OperationState) -> Self {
        match self.status.operation.clone() {
            Some(id) => self.note(id, None, state),
            None => self,
        }
    }

    pub(super) fn decide(self) -> Decision {
        Decision::Change(Box::new(self))
    }
}

/// A change within a phase: `since` stays.
pub(super) fn quiet_change(status: UnitStatus, reason: String) -> Decision {
    Decision::Change(Box::new(Change { status: UnitStatus { reason, ..status }, operations: Vec::new() }))
}
