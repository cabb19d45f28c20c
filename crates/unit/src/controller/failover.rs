//! A home that is lost: when an election begins, and how it ends.

use std::collections::{BTreeMap, BTreeSet};

use dujiang_types::operation::{OperationState, Work};
use dujiang_types::report::{DataState, ReplicaReport};
use dujiang_types::unit::{Claim, Phase, Unit, UnitStatus};
use dujiang_types::{DcId, OperationId, Position, Revision, UnitId};

use super::change::{Decision, change, keep};
use super::promotion::{Proof, promote};
use super::restored::UNKNOWN;
use super::view::{Memory, View, surely_not_primary};
use crate::election::{Detached, complete, winner};
use crate::safety::{Refusal, Rule, failover_capacity, flapping, refuse};

/// Whether there is something to force: why the platform itself does not promote anybody, or why it must not be forced
/// to promote `to`.
pub fn forcible(view: &View, to: &DcId) -> Result<String, Refusal> {
    let (spec, status) = (&view.unit.spec, &view.unit.status);
    let home = &status.home;
    let refused = |rule, why: String| Err(refuse(rule, why));
    if status.epoch == UNKNOWN {
        return forcible_unknown(view, to);
    }
    if !spec.replicas.contains(to) || to == home {
        return refused(
            Rule::TargetReady,
            format!("{to} holds no other replica of the unit than its home's"),
        );
    }
    if matches!(status.phase, Phase::Forming | Phase::Sealing { .. }) {
        return refused(Rule::OneOperation, format!("the unit is {}", status.phase));
    }
    if status.forced.is_some() {
        return refused(Rule::OneOperation, "a promotion without proof is ordered already".to_owned());
    }
    if view.fresh(home).is_some() {
        return refused(Rule::OneHome, format!("{home} is heard; its own data is complete"));
    }
    if view.promised_ms() > 0 {
        return refused(Rule::OneHome, format!("{home} is not heard, but other replicas vouch for it"));
    }
    match view.fresh(to).map(|report| &report.data) {
        Some(DataState::Present { .. }) => {}
        Some(DataState::Absent) => return refused(Rule::TargetReady, format!("{to} has no data")),
        None => return refused(Rule::TargetReady, format!("{to} is not heard")),
    }
    match provable(view) {
        Ok(other) => {
            refused(Rule::NothingLost, format!("there is nothing to force: {other} takes over by itself"))
        }
        Err(missing) => Ok(missing),
    }
}

/// The same of a unit whose record may be behind: it waits for all replicas, and goes by whoever is there if it is ordered
/// to. Who was at home says nothing then, the replica that was may be the one that is left.
fn forcible_unknown(view: &View, to: &DcId) -> Result<String, Refusal> {
    let refused = |rule, why: String| Err(refuse(rule, why));
    if view.unit.status.forced.is_some() {
        return refused(Rule::OneOperation, "a promotion without proof is ordered already".to_owned());
    }
    let replicas = &view.unit.spec.replicas;
    let has_data = |report: &ReplicaReport| matches!(report.data, DataState::Present { .. });
    if !replicas.contains(to) || !view.fresh(to).is_some_and(has_data) {
        return refused(Rule::TargetReady, format!("{to} is not heard, or has no data"));
    }
    let missing: Vec<&str> =
        replicas.iter().filter(|dc| view.fresh(dc).is_none()).map(DcId::as_str).collect();
    if missing.is_empty() {
        return refused(Rule::NothingLost, "every replica is heard: who holds all is found out".to_owned());
    }
    let missing = missing.join(", ");
    Ok(format!(
        "what happened since the record was written is known to nobody who is heard; {missing} may know"
    ))
}

/// The record with the order to promote `to` without proof, given by an operation that two operators stand behind.
pub fn force(unit: &Unit, to: &DcId, operation: OperationId) -> UnitStatus {
    UnitStatus { forced: Some(to.clone()), operation: Some(operation), ..unit.status.clone() }
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
    // The operation that ordered a promotion without proof goes on; whatever else was at work is over.
    let ordered = before.operation.clone().filter(|_| before.forced.is_some());
    let at_work = before.operation.take().filter(|_| ordered.is_none());
    let status = UnitStatus { epoch, phase: Phase::Electing, ..before };
    let from = status.home.clone();
    let mut change = change(view, status, reason);
    let unit = UnitId::new(view.unit.name.clone()).ok();
    let id = OperationId::new(format!("failover-{}-{epoch}", view.unit.name)).ok();
    if let Some(id) = at_work {
        change = change.note(id, None, OperationState::Failed);
    }
    if let Some(id) = ordered {
        change.status.operation = Some(id.clone());
        change = change.note(id, None, OperationState::Running);
    } else if let (Some(unit), Some(id)) = (unit, id) {
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
    // Whoever is proven to hold everything is promoted, also if something else was ordered meanwhile.
    let ordered =
        status.forced.as_ref().filter(|dc| detached.contains_key(*dc) && reachable.contains(*dc)).cloned();
    let unfit: Vec<Refusal> = reachable.iter().filter_map(|dc| failover_capacity(view, dc)).collect();
    let fit = reachable.into_iter().filter(|dc| failover_capacity(view, dc).is_none()).collect();
    let found = match (winner(&owed(view, &detached), &detached, &fit, home), unfit.first()) {
        (Ok(Some(found)), _) => found,
        (Ok(None) | Err(_), _) if ordered.is_some() => return promote_unproven(view, ordered),
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
    promote(view, &found, reason, Proof::Complete)
}

fn promote_unproven(view: &View, ordered: Option<DcId>) -> Decision {
    match ordered {
        Some(to) => {
            let reason = format!("two operators ordered {to} to be promoted without proof");
            promote(view, &to, reason, Proof::Waived)
        }
        None => refused(Rule::NothingLost, "nobody is ordered to be promoted"),
    }
}

/// An order that was not carried out before the home was heard again must not lie in wait for its next loss.
pub(super) fn void_order(view: &View) -> Option<Decision> {
    let status = &view.unit.status;
    if status.forced.is_none() || view.home_standbys().is_none() {
        return None;
    }
    let reason = format!("{} is heard again; nothing is forced", status.home);
    let mut change = change(view, UnitStatus { forced: None, ..status.clone() }, reason);
    change.status.since = status.since;
    change = change.go_on(OperationState::Failed);
    change.status.operation = None;
    Some(change.decide())
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
