//! A record that may be behind what has happened: read from a backup, or written by a store that lost its end.
//!
//! Such a record says nothing that may be acted on. Its claims are about commits of long ago, its home may have moved,
//! and its epoch may have been used by others since, so that not even "one more" is certain to be new. Who knows are
//! the agents: each has written down the highest epoch it acted under, and databases are only ever promoted under it.
//!
//! So the record gets epoch [`UNKNOWN`], which every agent that has seen another one ignores and no lease is granted
//! for. Once *all* replicas have reported, an ordinary election begins two above the highest epoch any of them has
//! seen: one above could still be the very number a lost record used for a promotion that reached nobody. It has to
//! prove one claim: whatever was acknowledged is on one of all the replicas, or on the one that led under that highest
//! epoch. Therefore nothing acknowledged since the backup is undone.

use std::collections::BTreeSet;

use dujiang_types::operation::{OperationState, Work};
use dujiang_types::report::{DataState, ReplicaReport, ReplicaState};
use dujiang_types::unit::{Claim, Durability, Phase, SyncSet, Unit, UnitSpec, UnitStatus};
use dujiang_types::{DcId, Epoch, OperationId, UnitId};
use jiff::Timestamp;

use super::change::{Decision, change, keep};
use super::view::View;

/// Epoch of a unit whose epoch has to be learned from the agents. No unit ever serves under it.
pub const UNKNOWN: Epoch = Epoch(0);

/// What is left of a record that may be behind: its spec, and where it was last known to be.
pub fn distrust(spec: &UnitSpec, status: &UnitStatus, reason: String, wall: Timestamp) -> UnitStatus {
    let known = status.claims.iter().map(|claim| claim.epoch).max().unwrap_or_default().max(status.epoch);
    UnitStatus {
        epoch: UNKNOWN,
        home: status.home.clone(),
        phase: Phase::Electing,
        claims: vec![everywhere(spec, known, status.home.clone())],
        operation: None,
        forced: None,
        last_failover: None,
        reason,
        since: wall,
        conditions: status.conditions.clone(),
    }
}

/// "Whatever was acknowledged is on at least one of all replicas": needs all of them to prove it, or one that led
/// under that epoch.
fn everywhere(spec: &UnitSpec, epoch: Epoch, primary: DcId) -> Claim {
    Claim { epoch, primary, set: SyncSet { members: spec.replicas.clone(), need: 1 } }
}

/// What a unit nobody has seen yet begins with: epoch 1, forming at its first home. Its sync set has no members, so
/// with durability `zero` nothing can be acknowledged before a replica has been added to it.
pub fn born(spec: &UnitSpec, wall: Timestamp) -> UnitStatus {
    let need = match spec.durability {
        Durability::Zero => 1,
        Durability::Bounded => 0,
    };
    let set = SyncSet { members: BTreeSet::new(), need };
    UnitStatus {
        epoch: Epoch(1),
        home: spec.home.clone(),
        phase: Phase::Forming,
        claims: vec![Claim { epoch: Epoch(1), primary: spec.home.clone(), set }],
        operation: None,
        forced: None,
        last_failover: None,
        reason: "the unit was created".to_owned(),
        since: wall,
        conditions: Vec::new(),
    }
}

/// The highest epoch that a replica's agent or its data has seen.
fn seen(report: &ReplicaReport) -> Epoch {
    let led = match report.data {
        DataState::Present { primary_epoch } => primary_epoch.unwrap_or_default(),
        DataState::Absent => Epoch(0),
    };
    report.epoch_seen.max(led)
}

/// True if the agent cannot tell what its replica is: that is not the same as having none.
fn is_unreadable(report: &ReplicaReport) -> bool {
    report.data == DataState::Absent && report.state == ReplicaState::Starting
}

/// Any phase → not known, if an agent has acted under an epoch the record has never had: then it is the record that is
/// behind. (A record that was merely read a moment ago is written with a check of its revision, which then fails.)
pub(super) fn behind(view: &View) -> Option<Decision> {
    let status = &view.unit.status;
    let reports = view.unit.spec.replicas.iter().filter_map(|dc| Some((dc, view.reports.get(dc)?)));
    let (dc, highest) =
        reports.map(|(dc, report)| (dc, seen(&report.report))).max_by_key(|(_, epoch)| *epoch)?;
    (highest > status.epoch).then(|| {
        let reason =
            format!("{dc} has seen epoch {highest}, this record only {}: it is behind", status.epoch);
        let next = distrust(&view.unit.spec, status, reason.clone(), view.wall);
        let mut change = change(view, next, reason);
        if let Some(id) = status.operation.clone() {
            change = change.note(id, None, OperationState::Failed);
        }
        change.decide()
    })
}

/// Not known → electing above everything any replica has seen, or forming if there is no replica anywhere.
pub(super) fn recount(view: &View) -> Decision {
    let (spec, status) = (&view.unit.spec, &view.unit.status);
    let tells = |dc: &&DcId| view.fresh(dc).is_some_and(|report| !is_unreadable(report));
    let (heard, missing): (Vec<&DcId>, Vec<&DcId>) = spec.replicas.iter().partition(tells);
    if !missing.is_empty() && status.forced.is_none() {
        let names = missing.iter().map(|dc| dc.as_str()).collect::<Vec<_>>().join(", ");
        return keep(format!(
            "what happened since the record was written is not known: {names} must report first"
        ));
    }
    let reports = || heard.iter().filter_map(|dc| Some((*dc, view.fresh(dc)?)));
    let known = status.claims.iter().map(|claim| claim.epoch).max().unwrap_or_default();
    let untouched = |report: &ReplicaReport| report.data == DataState::Absent && seen(report) <= Epoch(1);
    if known <= Epoch(1) && missing.is_empty() && reports().all(|(_, report)| untouched(report)) {
        let reason = "no data center has data of the unit: it is made".to_owned();
        return change(view, born(spec, view.wall), reason).decide();
    }
    let highest = reports().map(|(_, report)| seen(report)).max().unwrap_or_default().max(known);
    let led = |report: &ReplicaReport| match report.data {
        DataState::Present { primary_epoch } => primary_epoch,
        DataState::Absent => None,
    };
    let leader = reports().filter(|(_, report)| led(report).is_some()).max_by_key(|(_, report)| led(report));
    let home = leader.map_or_else(|| status.home.clone(), |(dc, _)| dc.clone());
    let epoch = highest.next().next();
    let claims = vec![everywhere(spec, highest, home.clone())];
    let reason = format!("{highest} is the highest epoch any replica has seen; {home} led last");
    begin_election(view.unit, view, UnitStatus { epoch, home, claims, ..status.clone() }, reason)
}

fn begin_election(unit: &Unit, view: &View, status: UnitStatus, reason: String) -> Decision {
    let id = OperationId::new(format!("failover-{}-{}", unit.name, status.epoch)).ok();
    let from = status.home.clone();
    let mut change = change(view, UnitStatus { phase: Phase::Electing, ..status }, reason);
    // The operation that ordered a promotion without proof goes on.
    if change.status.forced.is_some() {
        return change.go_on(OperationState::Running).decide();
    }
    if let (Some(id), Ok(unit)) = (id, UnitId::new(unit.name.clone())) {
        change.status.operation = Some(id.clone());
        change = change.note(id, Some(Work::Failover { unit, from }), OperationState::Running);
    }
    change.decide()
}
