//! What was seen of a unit's replicas, moment by moment. In memory only: after a change of the leader a report says
//! less, never something else.

use std::collections::{BTreeMap, VecDeque};

use dujiang_types::api::AgentReport;
use dujiang_types::report::ReplicaState;
use dujiang_types::{DcId, Epoch, UnitId};
use jiff::Timestamp;

/// Kept for each unit: several failovers of three replicas.
const MOMENTS_MAX: usize = 64;

/// A replica was first reported to be in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenMoment {
    /// When the report came.
    pub(crate) at: Timestamp,
    pub(crate) dc: DcId,
    /// `primary`, `sealed`, `stopped`, `detached`, `following`, ...
    pub(crate) state: String,
    /// Of a primary or a detached standby.
    pub(crate) epoch: Option<Epoch>,
}

/// The latest moments of all units.
#[derive(Debug, Default)]
pub(crate) struct Moments(BTreeMap<UnitId, VecDeque<SeenMoment>>);

impl Moments {
    /// Takes in what an agent's report says that the one before did not.
    pub(crate) fn take(&mut self, before: Option<&AgentReport>, now: &AgentReport, at: Timestamp) {
        for (unit, report) in &now.units {
            let was = before.and_then(|before| before.units.get(unit)).map(|before| label(&before.state));
            let Some((state, epoch)) = label(&report.state) else { continue };
            if was.flatten().as_ref() == Some(&(state.clone(), epoch)) {
                continue;
            }
            let moments = self.0.entry(unit.clone()).or_default();
            moments.push_back(SeenMoment { at, dc: now.dc.clone(), state, epoch });
            if moments.len() > MOMENTS_MAX {
                moments.pop_front();
            }
        }
    }

    /// What was seen of a unit's replicas, oldest first.
    pub(crate) fn of(&self, unit: &UnitId) -> Vec<SeenMoment> {
        self.0.get(unit).into_iter().flatten().cloned().collect()
    }

    /// Forgets units that are gone.
    pub(crate) fn retain(&mut self, exists: impl Fn(&UnitId) -> bool) {
        self.0.retain(|unit, _| exists(unit));
    }
}

/// A state in a word, and the epoch it was entered under. A primary counts once it admits clients.
fn label(state: &ReplicaState) -> Option<(String, Option<Epoch>)> {
    Some(match state {
        ReplicaState::Preparing { work } => (work.clone(), None),
        ReplicaState::Stopped { sealed: Some(_) } => ("sealed".to_owned(), None),
        ReplicaState::Stopped { sealed: None } => ("stopped".to_owned(), None),
        ReplicaState::Starting
        | ReplicaState::Primary { open: false, .. }
        | ReplicaState::Following { streaming: false, .. } => return None,
        ReplicaState::Detached { epoch } => ("detached".to_owned(), Some(*epoch)),
        ReplicaState::Following { epoch, .. } => ("following".to_owned(), Some(*epoch)),
        ReplicaState::Primary { epoch, .. } => ("primary".to_owned(), Some(*epoch)),
    })
}
