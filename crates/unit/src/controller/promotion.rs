//! A new home: from the order to promote it until it serves, or has failed too.

use std::collections::BTreeSet;

use dujiang_types::DcId;
use dujiang_types::operation::OperationState;
use dujiang_types::report::{DataState, ReplicaState};
use dujiang_types::unit::{Claim, Durability, Phase, SyncSet, UnitStatus};

use super::change::{Decision, change};
use super::failover::{fail_over, owed, provable};
use super::view::{Memory, View, surely_not_primary};
use crate::safety::note_failover;

/// Whether whoever is promoted is known to hold every acknowledged commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// It is.
    Complete,
    /// Operators do without: what was claimed before is given up.
    Waived,
}

/// → promoting. The claims before stay until the new home has its own sync set confirmed.
pub(super) fn promote(view: &View, to: &DcId, reason: String, proof: Proof) -> Decision {
    let before = view.unit.status.clone();
    // An election has raised the epoch already; a move raises it here.
    let epoch = if before.phase == Phase::Electing { before.epoch } else { before.epoch.next() };
    let from = before.home.clone();
    let planned = matches!(before.phase, Phase::Sealing { .. });
    let members = match view.unit.spec.durability {
        Durability::Bounded => BTreeSet::new(),
        Durability::Zero => view
            .unit
            .spec
            .replicas
            .iter()
            .filter(|dc| *dc != to)
            .filter(|dc| will_follow(view, dc) || (planned && **dc == from))
            .cloned()
            .collect(),
    };
    let mut claims = match proof {
        Proof::Waived => Vec::new(),
        Proof::Complete => owed(view, &view.detached()),
    };
    claims.push(Claim { epoch, primary: to.clone(), set: SyncSet { members, need: need(view) } });
    let failed_over = before.phase == Phase::Electing && *to != from;
    let last_failover = if failed_over {
        Some(note_failover(before.last_failover.as_ref(), &from, view.wall))
    } else {
        before.last_failover.clone()
    };
    let phase = Phase::Promoting { from };
    let status = UnitStatus { epoch, home: to.clone(), phase, claims, forced: None, last_failover, ..before };
    change(view, status, reason).go_on(OperationState::Running).decide()
}

/// True if the replica is alive and in a state from which it follows a new primary without being remade.
fn will_follow(view: &View, dc: &DcId) -> bool {
    let Some(report) = view.fresh(dc) else { return false };
    let never_led = matches!(report.data, DataState::Present { primary_epoch } if primary_epoch < Some(view.unit.status.epoch))
        && *dc != view.unit.status.home;
    never_led && matches!(report.state, ReplicaState::Following { .. } | ReplicaState::Detached { .. })
}

/// How many replicas have to have a commit.
pub(super) fn need(view: &View) -> u8 {
    match view.unit.spec.durability {
        Durability::Zero => 1,
        Durability::Bounded => 0,
    }
}

/// Forming or promoting → serving, once the primary is open and its sync set confirmed.
pub(super) fn settle(view: &View) -> Option<Decision> {
    let status = &view.unit.status;
    let wanted = status.wanted_set()?;
    let ReplicaState::Primary { epoch, open: true, confirmed: Some(confirmed), .. } =
        &view.fresh(&status.home)?.state
    else {
        return None;
    };
    if *epoch != status.epoch || confirmed != wanted {
        return None;
    }
    let claims = status.claims.last().cloned().into_iter().collect();
    let reason = format!("{} serves under epoch {epoch}", status.home);
    let status = UnitStatus { phase: Phase::Serving, claims, ..status.clone() };
    let mut change = change(view, status, reason).go_on(OperationState::Succeeded);
    change.status.operation = None;
    Some(change.decide())
}

/// Forming or promoting → electing, if the primary of this very epoch has come and gone.
pub(super) fn ended(view: &View) -> Option<Decision> {
    let status = &view.unit.status;
    let report = &view.reports.get(&status.home)?.report;
    let led =
        matches!(report.data, DataState::Present { primary_epoch } if primary_epoch >= Some(status.epoch));
    let over = report.revision >= view.unit.revision && led && surely_not_primary(&report.state);
    over.then(|| fail_over(view, format!("the new primary in {} has stopped ({})", status.home, report.note)))
}

/// Promoting → electing, if the winner is lost or cannot be promoted.
pub(super) fn failed_promotion(view: &View, memory: &Memory) -> Option<Decision> {
    let status = &view.unit.status;
    let home = &status.home;
    let timing = view.timing;
    if let Some(report) = view.fresh(home) {
        let acted = report.revision >= view.unit.revision;
        if acted && report.data == DataState::Absent {
            return Some(fail_over(view, format!("{home} has no data to promote")));
        }
        // One that leads but cannot confirm its sync set waits for a replica; another election would not help.
        let leads = matches!(report.state, ReplicaState::Primary { .. });
        let overdue = view.now_ms.saturating_sub(memory.phase_since_ms) > timing.promote_ms_max;
        return (overdue && !leads)
            .then(|| fail_over(view, format!("{home} was not promoted in time ({})", report.note)));
    }
    let lapse_ms = memory.last_grant_ms.max(memory.phase_since_ms) + timing.lease_ms + timing.margin_ms;
    (view.now_ms > lapse_ms && (status.forced.is_some() || provable(view).is_ok()))
        .then(|| fail_over(view, format!("{home} is not heard and its lease has run out")))
}
