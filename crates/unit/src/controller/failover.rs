//! A home that is lost: when an election begins, and how it ends.

use std::collections::{BTreeMap, BTreeSet};

use dujiang_types::operation::{OperationState, Work};
use dujiang_types::report::DataState;
use dujiang_types::unit::{Claim, Phase, Unit, UnitStatus};
use dujiang_types::{DcId, OperationId, Position, Revision, UnitId};

use super::change::{Decision, change, keep};
use super::promotion::promote;
use super::view::{Memory, View, surely_not_primary};
use crate::election::{Detached, complete, winner};
use crate::safety::{Refusal, Rule, failover_capacity, flapping, refuse};

/// Orders the promotion of `to` without proof. Only an operator may ask for this.
pub fn force(unit: &Unit, to: &DcId) -> Result<UnitStatus, String> {
    if !unit.spec.replicas.contains(to) {
        return Err(format!("{to} holds no replica of the unit"));
    }
    if unit.status.phase != Phase::Electing && unit.status.phase != Phase::Serving {
        return Err(format!("the unit is {}; force is for a unit whose home is lost", unit.status.phase));
    }
    Ok(UnitStatus { forced: Some(to.clone()), ..unit.status.clone() })
}

/// Where a failover now would go without asking anyone; if it would not, why. By what is known now: the election
/// itself goes by the positions of detached replicas.
pub fn provable(view: &View) -> Result<DcId, String> {
    let fresh: BTreeMap<DcId, Detached> = view
        .others()
        .filter_map(|dc| match view.fresh(dc)?.data {
            // Data that led an epoch proves it alone: a former home must not be counted as a mere member.
            DataState::Present { primary_epoch } => {
                Some((dc.clone(), Detached { position: Position::default(), primary_epoch }))
            }
            DataState::Absent => None,
        })
        .collect();
    let complete = complete(&view.unit.status.claims, &fresh).map_err(|missing| missing.to_string())?;
    let reach = |dc: &DcId| view.fresh(dc).and_then(|report| report.position).unwrap_or_default();
    // max_by_key takes the last of equals; reversed, the first by name.
    let longest = complete.into_iter().rev().max_by_key(reach);
    longest.ok_or_else(|| "no other replica is reachable".to_owned())
}

/// Serving or holding → electing if the home is known to have stopped, or silent beyond its lease while others
/// could take over.
pub(super) fn lost_home(view: &View, memory: &Memory) -> Option<Decision> {
    let status = &view.unit.status;
    let home = &status.home;
    if let Some(seen) = view.reports.get(home)
        && seen.report.revision > Revision(0)
        && surely_not_primary(&seen.report.state)
    {
        return Some(fail_over(view, format!("the primary in {home} has stopped ({})", seen.report.note)));
    }
    let why = view.fenced(memory)?;
    if view.promised_ms() > 0 {
        return Some(refused(Rule::OneHome, format!("{home} is not heard, but other replicas vouch for it")));
    }
    if status.forced.is_none()
        && let Err(missing) = provable(view)
    {
        let why = format!("{home} is not heard and {why}, but a failover cannot be proven: {missing}");
        return Some(refused(Rule::NothingLost, why));
    }
    if status.forced.is_none()
        && let Some(refusal) = flapping(view)
    {
        return Some(keep(refusal.to_string()));
    }
    Some(fail_over(view, format!("{home} is not heard and {why}")))
}

/// Any phase → electing under the next epoch.
pub(super) fn fail_over(view: &View, reason: String) -> Decision {
    let mut before = view.unit.status.clone();
    let epoch = before.epoch.next();
    let at_work = before.operation.take();
    let status = UnitStatus { epoch, phase: Phase::Electing, ..before };
    let from = status.home.clone();
    let mut change = change(view, status, reason);
    let unit = UnitId::new(view.unit.name.clone()).ok();
    let id = OperationId::new(format!("failover-{}-{epoch}", view.unit.name)).ok();
    if let Some(id) = at_work {
        change = change.note(id, None, OperationState::Failed);
    }
    if let (Some(unit), Some(id)) = (unit, id) {
        change.status.operation = Some(id.clone());
        change = change.note(id, Some(Work::Failover { unit, from }), OperationState::Running);
    }
    change.decide()
}

/// Electing → promoting, once the claims are proven and the old home is fenced.
pub(super) fn elect(view: &View, memory: &Memory) -> Decision {
    let status = &view.unit.status;
    let home = &status.home;
    if view.fenced(memory).is_none() {
        return refused(Rule::OneHome, format!("the lease of {home} may not have run out yet"));
    }
    let detached = view.detached();
    let reachable: BTreeSet<DcId> =
        view.unit.spec.replicas.iter().filter(|dc| view.fresh(dc).is_some()).cloned().collect();
    if let Some(forced) =
        status.forced.as_ref().filter(|dc| detached.contains_key(*dc) && reachable.contains(*dc))
    {
        return promote(view, forced, format!("an operator ordered {forced} to be promoted without proof"));
    }
    let unfit: Vec<Refusal> = reachable.iter().filter_map(|dc| failover_capacity(view, dc)).collect();
    let fit = reachable.into_iter().filter(|dc| failover_capacity(view, dc).is_none()).collect();
    let found = match (winner(&owed(view, &detached), &detached, &fit, home), unfit.first()) {
        (Ok(Some(found)), _) => found,
        (Ok(None), Some(refusal)) => return keep(refusal.to_string()),
        (Ok(None), None) => {
            let why = "every commit is accounted for, but who holds them all is not reachable";
            return refused(Rule::NothingLost, why);
        }
        (Err(missing), _) => return refused(Rule::NothingLost, missing.to_string()),
    };
    let waited_ms = view.now_ms.saturating_sub(memory.phase_since_ms);
    let home_returns = memory.home_stopped_in_order && view.fresh(home).is_some();
    if found != *home && home_returns && waited_ms < view.timing.home_grace_ms {
        return keep(format!("{home} stopped in order and is waited for a little"));
    }
    let position = detached[&found].position;
    let reason = format!("{found} holds every acknowledged commit (log to {position})");
    promote(view, &found, reason)
}

fn refused(rule: Rule, why: impl Into<String>) -> Decision {
    keep(refuse(rule, why).to_string())
}

/// The claims an election has to prove: all that are recorded, but those of a promotion that is known never to have
/// happened. The last home's data says so itself: it is detached under a later epoch, so it will not be promoted
/// under that one any more, and a home's data is never replaced by a copy of another's.
pub(super) fn owed(view: &View, detached: &BTreeMap<DcId, Detached>) -> Vec<Claim> {
    let status = &view.unit.status;
    let never_led = |claim: &Claim| {
        claim.primary == status.home
            && claim.epoch.next() == status.epoch
            && detached.get(&status.home).is_some_and(|home| home.primary_epoch < Some(claim.epoch))
    };
    status.claims.iter().filter(|claim| !never_led(claim)).cloned().collect()
}
