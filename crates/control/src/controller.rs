//! The shell around the decisions of `dujiang-unit`: it gathers what they look at and writes what they say.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use dujiang_store::{Txn, TxnOutcome, resources};
use dujiang_types::operation::{Operation, OperationSpec, OperationState, OperationStatus, Work};
use dujiang_types::report::{GatewayReport, ReplicaReport};
use dujiang_types::unit::Unit;
use dujiang_types::{DcId, Kind, Resource, Revision, UnitId};
use dujiang_unit::Timing;
use dujiang_unit::controller::{Change, Decision, Effect, Memory, Seen, View, decide};
use dujiang_unit::safety::Surroundings;
use jiff::Timestamp;

use crate::cell::UnitCell;
use crate::error::chain;
use crate::leader;
use crate::observed::SeenAgent;
use crate::records::Records;
use crate::state::Shared;
use crate::surroundings;

/// Time alone can make a decision due; a tenth of a second is small beside every budget of [`Timing`].
const TICK: Duration = Duration::from_millis(100);
/// In whose name failovers are recorded.
const ASKED_BY: &str = "controller";

/// Everything observed of one unit, arranged for a decision.
pub(crate) struct Sight {
    reports: BTreeMap<DcId, Seen<ReplicaReport>>,
    gateways: BTreeMap<DcId, Seen<GatewayReport>>,
    now_ms: u64,
    wall: Timestamp,
    timing: Timing,
    around: Surroundings,
}

impl Sight {
    /// What is observed now.
    pub(crate) fn of(shared: &Shared, unit: &UnitId) -> Self {
        let observed = shared.observed();
        let report = |seen: &SeenAgent| {
            let report = seen.report.units.get(unit)?.clone();
            Some(Seen { report, age_ms: shared.age_ms(seen.at) })
        };
        let reports = observed.agents.iter().filter_map(|(dc, seen)| Some((dc.clone(), report(seen)?)));
        let gateways = observed.gateways.iter().map(|(dc, seen)| {
            (dc.clone(), Seen { report: seen.report.clone(), age_ms: shared.age_ms(seen.at) })
        });
        let around = surroundings::of(shared, &observed, unit);
        Self {
            reports: reports.collect(),
            gateways: gateways.collect(),
            now_ms: shared.now_ms(),
            wall: Timestamp::now(),
            timing: shared.timing,
            around,
        }
    }

    /// What a decision about that record looks at.
    pub(crate) fn view<'a>(&'a self, unit: &'a Unit, requested: Option<&'a Operation>) -> View<'a> {
        View {
            unit,
            reports: &self.reports,
            gateways: &self.gateways,
            requested,
            around: &self.around,
            now_ms: self.now_ms,
            wall: self.wall,
            timing: &self.timing,
        }
    }

    /// The latest report about the unit's replica in a data center.
    pub(crate) fn report(&self, dc: &DcId) -> Option<&Seen<ReplicaReport>> {
        self.reports.get(dc)
    }

    /// The same, if it says something about now.
    pub(crate) fn fresh_report(&self, dc: &DcId) -> Option<&ReplicaReport> {
        self.report(dc).filter(|seen| seen.age_ms <= self.timing.fresh_ms).map(|seen| &seen.report)
    }
}

/// Decides about all units, for ever: when something was reported or written, and as time passes.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = shared.wake.notified() => {}
        }
        let Some(term) = shared.leader.leads() else { continue };
        let records = shared.records();
        shared.forget_units_but(&records);
        shared.observed().forget_all_but(&records);
        for (id, unit) in &records.units {
            consider(&shared, term, &records, id, unit);
        }
    }
}

/// Decides about one unit and has the change written. Nothing waits for that: other units are decided about meanwhile,
/// and this one again when it is done. A change that cannot be written is simply decided again.
fn consider(shared: &Arc<Shared>, term: Revision, records: &Records, id: &UnitId, unit: &Unit) {
    let cell = shared.unit(id);
    let Some(turn) = cell.try_turn() else { return };
    if cell.is_beyond(unit.revision) {
        // What this server wrote itself is not yet among the records; their watch wakes us.
        return;
    }
    let decision = cell.decide(|memory| {
        // Looked at in there: time and reports must not be older than the last grant.
        let sight = Sight::of(shared, id);
        decide_guarded(&sight.view(unit, requested(records, id)), memory)
    });
    match decision {
        Decision::Keep { why } => {
            if cell.set_waiting(&why) {
                tracing::info!(unit = %id, phase = %unit.status.phase, epoch = %unit.status.epoch, why, "waiting");
            }
        }
        Decision::Change(change) => {
            let (shared, id, unit) = (Arc::clone(shared), id.clone(), unit.clone());
            tokio::spawn(async move {
                carry_out(&shared, term, &cell, &id, &unit, &change).await;
                drop(turn);
                shared.wake.notify_one();
            });
        }
    }
}

async fn carry_out(
    shared: &Shared,
    term: Revision,
    cell: &UnitCell,
    id: &UnitId,
    unit: &Unit,
    change: &Change,
) {
    let written = write(shared, term, unit, change).await;
    match &written {
        Ok(TxnOutcome::Committed(revision)) if change.status != unit.status => {
            cell.written(Some(Resource {
                status: change.status.clone(),
                revision: *revision,
                ..unit.clone()
            }));
        }
        // The record was not part of it.
        Ok(TxnOutcome::Committed(_)) => cell.written(Some(unit.clone())),
        Ok(TxnOutcome::Conflict { .. }) | Err(_) => cell.written(None),
    }
    match written {
        Ok(TxnOutcome::Committed(revision)) => {
            shared.metrics.changes.inc();
            cell.set_waiting(&change.status.reason);
            log(id, unit, change, revision);
        }
        Ok(TxnOutcome::Conflict { key, .. }) => {
            shared.metrics.conflicts.inc();
            tracing::debug!(unit = %id, key, "someone else was faster; deciding again");
        }
        Err(error) => {
            tracing::warn!(unit = %id, error = chain(&error), "a decision could not be written");
            // A store that fails at once is not asked again at once.
            tokio::time::sleep(TICK).await;
        }
    }
}

/// A defect met in deciding about one unit stops that unit, not all the others.
fn decide_guarded(view: &View, memory: &mut Memory) -> Decision {
    let decided = catch_unwind(AssertUnwindSafe(|| decide(view, memory)));
    decided.unwrap_or_else(|_| {
        // Whatever was half remembered is replaced by the worst.
        *memory = Memory::new(view.now_ms);
        Decision::Keep { why: "a defect of ours was met in deciding about this unit; see the log".to_owned() }
    })
}

/// The oldest move of the unit that nobody has begun.
pub(crate) fn requested<'a>(records: &'a Records, unit: &UnitId) -> Option<&'a Operation> {
    let pending = records.operations.values().filter(|operation| {
        operation.status.state == OperationState::Pending && operation.spec.work.unit() == Some(unit)
    });
    pending.min_by_key(|operation| operation.revision)
}

/// Writes the unit's record and those of its operations as one, if the unit is still what was decided about.
async fn write(
    shared: &Shared,
    term: Revision,
    unit: &Unit,
    change: &Change,
) -> dujiang_store::Result<TxnOutcome> {
    let new = Resource { status: change.status.clone(), ..unit.clone() };
    let (check, put) = resources::change(&new)?;
    let mut txn = Txn { checks: vec![check], writes: Vec::new() };
    txn.checks.extend(leader::term_holds(term));
    if new.status != unit.status {
        txn.writes.push(put);
    }
    for effect in &change.operations {
        let stored = shared.resources.get(Kind::Operation, effect.id.as_str()).await?;
        let Some(operation) = stored.or_else(|| created(effect)) else {
            tracing::warn!(operation = %effect.id, "the operation at work has no record any more");
            continue;
        };
        let (check, put) = resources::change(&with_step(operation, effect))?;
        txn.checks.push(check);
        txn.writes.push(put);
    }
    shared.store().transact(txn).await
}

fn created(effect: &Effect) -> Option<Operation> {
    let work: Work = effect.create.clone()?;
    Some(Resource {
        kind: Kind::Operation,
        name: effect.id.to_string(),
        labels: BTreeMap::new(),
        revision: Revision(0),
        spec: OperationSpec { work, asked_by: ASKED_BY.to_owned() },
        status: OperationStatus { state: effect.state, steps: Vec::new(), approval: None },
    })
}

fn with_step(mut operation: Operation, effect: &Effect) -> Operation {
    operation.status.state = effect.state;
    operation.status.steps.push(effect.step.clone());
    operation
}

fn log(id: &UnitId, unit: &Unit, change: &Change, revision: Revision) {
    let (old, new) = (&unit.status, &change.status);
    let why = change.operations.last().map_or(&new.reason, |effect| &effect.step.reason);
    let operations: Vec<&str> = change.operations.iter().map(|effect| effect.id.as_str()).collect();
    tracing::info!(
        unit = %id, from = %old.phase, to = %new.phase, epoch = %new.epoch, home = %new.home,
        operations = operations.join(","), %revision, why, "changed"
    );
    let in_a_row = new.last_failover.as_ref().map_or(0, |last| last.in_a_row);
    if old.last_failover != new.last_failover && in_a_row > 1 {
        tracing::error!(unit = %id, in_a_row, home = %new.home, "the unit fails over again and again; somebody must look");
    }
}
