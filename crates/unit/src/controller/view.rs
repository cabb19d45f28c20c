//! What a decision looks at: records, reports with their age, and what is remembered between decisions.

use std::collections::{BTreeMap, BTreeSet};

use dujiang_types::operation::Operation;
use dujiang_types::report::{DataState, GatewayReport, ReplicaReport, ReplicaState, StandbyReport};
use dujiang_types::unit::{Phase, Unit};
use dujiang_types::{DcId, Epoch};
use jiff::Timestamp;

use crate::Timing;
use crate::election::Detached;
use crate::safety::Surroundings;

/// A report and how long ago it arrived.
#[derive(Debug, Clone)]
pub struct Seen<R> {
    /// The latest report.
    pub report: R,
    /// Milliseconds since it arrived.
    pub age_ms: u64,
}

/// What the controller remembers of a unit between decisions. Volatile: a controller that starts assumes the
/// worst ([`Memory::new`]), which only ever delays it.
#[derive(Debug, Clone)]
pub struct Memory {
    /// When a lease may last have been granted.
    pub last_grant_ms: u64,
    observed_ms: u64,
    pub(super) phase_since_ms: u64,
    phase_of: Option<(Phase, Epoch)>,
    not_streaming_since_ms: BTreeMap<DcId, u64>,
    pub(super) home_stopped_in_order: bool,
}

impl Memory {
    /// Memory of a controller that has just started (or just heard of the unit): the controller before it may
    /// have granted a lease a moment ago.
    pub fn new(now_ms: u64) -> Self {
        Self {
            last_grant_ms: now_ms,
            observed_ms: now_ms,
            phase_since_ms: now_ms,
            phase_of: None,
            not_streaming_since_ms: BTreeMap::new(),
            home_stopped_in_order: false,
        }
    }

    pub(super) fn observe(&mut self, view: &View) {
        let status = &view.unit.status;
        let now_ms = view.now_ms;
        if now_ms.saturating_sub(self.observed_ms) > view.timing.fresh_ms {
            // This controller was frozen, and everybody's silence is its own. Begin as after a start.
            self.last_grant_ms = now_ms;
            self.not_streaming_since_ms.clear();
        }
        self.observed_ms = now_ms;
        let phase = (status.phase.clone(), status.epoch);
        if self.phase_of.as_ref() != Some(&phase) {
            self.phase_of = Some(phase);
            self.phase_since_ms = now_ms;
        }
        if let Some(report) = view.fresh(&status.home)
            && let ReplicaState::Stopped { sealed } = &report.state
        {
            self.home_stopped_in_order = sealed.is_some();
        }
        let streaming = view.home_standbys().map(streaming_of).unwrap_or_default();
        for dc in &view.unit.spec.replicas {
            if streaming.contains(dc) {
                self.not_streaming_since_ms.remove(dc);
            } else {
                self.not_streaming_since_ms.entry(dc.clone()).or_insert(now_ms);
            }
        }
    }

    pub(super) fn lost_for_ms(&self, dc: &DcId, now_ms: u64) -> u64 {
        self.not_streaming_since_ms.get(dc).map_or(0, |since| now_ms.saturating_sub(*since))
    }
}

/// Everything [`decide`] looks at.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The committed record.
    pub unit: &'a Unit,
    /// Latest report of each replica's agent about this unit. A missing one is *unknown*.
    pub reports: &'a BTreeMap<DcId, Seen<ReplicaReport>>,
    /// Latest report of each gateway.
    pub gateways: &'a BTreeMap<DcId, Seen<GatewayReport>>,
    /// The oldest pending move of this unit.
    pub requested: Option<&'a Operation>,
    /// What the safety rules look at beyond that.
    pub around: &'a Surroundings,
    /// Now, on a clock that never jumps.
    pub now_ms: u64,
    /// Now, on the wall, for people.
    pub wall: Timestamp,
    /// Budgets.
    pub timing: &'a Timing,
}

impl View<'_> {
    pub(crate) fn fresh(&self, dc: &DcId) -> Option<&ReplicaReport> {
        self.reports.get(dc).filter(|seen| seen.age_ms <= self.timing.fresh_ms).map(|seen| &seen.report)
    }

    pub(super) fn others(&self) -> impl Iterator<Item = &DcId> {
        self.unit.spec.replicas.iter().filter(|dc| **dc != self.unit.status.home)
    }

    pub(crate) fn home_standbys(&self) -> Option<&BTreeMap<DcId, StandbyReport>> {
        match &self.fresh(&self.unit.status.home)?.state {
            ReplicaState::Primary { epoch, standbys, .. } if *epoch == self.unit.status.epoch => {
                Some(standbys)
            }
            _ => None,
        }
    }

    /// Replicas detached under the record's epoch. Their age does not matter: an agent that has detached under
    /// an epoch never receives under a lower one again.
    pub(super) fn detached(&self) -> BTreeMap<DcId, Detached> {
        let epoch = self.unit.status.epoch;
        let mut detached = BTreeMap::new();
        for dc in &self.unit.spec.replicas {
            let Some(seen) = self.reports.get(dc) else { continue };
            if let (
                ReplicaState::Detached { epoch: under },
                Some(position),
                DataState::Present { primary_epoch },
            ) = (&seen.report.state, seen.report.position, &seen.report.data)
                && *under == epoch
            {
                detached.insert(dc.clone(), Detached { position, primary_epoch: *primary_epoch });
            }
        }
        detached
    }

    /// Why the home can be known not to acknowledge, if it can.
    pub(super) fn fenced(&self, memory: &Memory) -> Option<&'static str> {
        let status = &self.unit.status;
        if let Some(seen) = self.reports.get(&status.home)
            && seen.report.revision >= self.unit.revision
            && surely_not_primary(&seen.report.state)
        {
            return Some("its agent says it does not run");
        }
        let lapse_ms = memory.last_grant_ms + self.timing.lease_ms + self.timing.margin_ms;
        (self.now_ms > lapse_ms).then_some("its lease has run out")
    }

    pub(super) fn promised_ms(&self) -> u64 {
        let promised = |dc| self.fresh(dc).map_or(0, |report| report.promised_ms);
        self.others().map(promised).max().unwrap_or(0)
    }
}

/// True if the state excludes that a primary runs. `Starting` does not: it only means nobody answers.
pub(super) fn surely_not_primary(state: &ReplicaState) -> bool {
    match state {
        ReplicaState::Primary { .. } | ReplicaState::Starting => false,
        ReplicaState::Preparing { .. }
        | ReplicaState::Stopped { .. }
        | ReplicaState::Detached { .. }
        | ReplicaState::Following { .. } => true,
    }
}

pub(super) fn streaming_of(standbys: &BTreeMap<DcId, StandbyReport>) -> BTreeSet<DcId> {
    standbys.iter().filter(|(_, s)| s.streaming).map(|(dc, _)| dc.clone()).collect()
}
