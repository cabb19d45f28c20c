//! A planned move: hold, drain, seal.

use dujiang_types::operation::{OperationState, Step, Work};
use dujiang_types::report::ReplicaState;
use dujiang_types::unit::{Phase, UnitStatus};
use dujiang_types::{DcId, OperationId, UnitId};

use super::change::{Change, Decision, Effect, change, keep};
use super::failover::fail_over;
use super::promotion::{Proof, promote};
use super::view::{Memory, View};
use crate::safety::{self, Refusal, Rule, refuse};

/// Why a move to `to` would be refused now, if it would.
pub fn refusal(view: &View, to: &DcId) -> Option<Refusal> {
    not_ready(view, to).map(|why| refuse(Rule::TargetReady, why)).or_else(|| safety::refusal(view, to))
}

fn not_ready(view: &View, to: &DcId) -> Option<String> {
    let (spec, status) = (&view.unit.spec, &view.unit.status);
    if !spec.replicas.contains(to) {
        return Some(format!("{to} holds no replica of the unit"));
    }
    if status.home == *to {
        return Some(format!("the unit is at home in {to} already"));
    }
    if status.phase != Phase::Serving {
        return Some(format!("the unit is {}", status.phase));
    }
    let Some(standbys) = view.home_standbys() else {
        return Some(format!("nothing current is known of the primary in {}", status.home));
    };
    match standbys.get(to) {
        Some(s) if s.streaming && s.lag_bytes <= view.timing.join_lag_bytes_max => {}
        Some(s) if !s.streaming => return Some(format!("the replica in {to} is still catching up")),
        Some(s) => return Some(format!("the replica in {to} is {} bytes behind", s.lag_bytes)),
        None => return Some(format!("the replica in {to} is not connected to its primary")),
    }
    let in_set = status.wanted_set().is_some_and(|set| set.need == 0 || set.members.contains(to));
    if !in_set {
        return Some(format!("the replica in {to} is not in the sync set"));
    }
    if status.claims.len() > 1 {
        return Some("the sync set is being changed".to_owned());
    }
    None
}

/// Serving → holding, if a move is asked for and nothing speaks against it.
pub(super) fn begin_move(view: &View) -> Option<Decision> {
    let requested = view.requested?;
    let Work::Move { to, .. } = &requested.spec.work else { return None };
    let id = OperationId::new(requested.name.clone()).ok()?;
    let status = view.unit.status.clone();
    let refused = refusal(view, to);
    let Some(why) = refused else {
        // Until then it would not be promoted, and customers would wait for nothing but that. An agent that has just
        // started counts as having promised, too.
        let promised_ms = view.fresh(to).map_or(0, |report| report.promised_ms);
        if promised_ms > 0 {
            return Some(keep(format!(
                "the move to {to} begins when its promise to {} is over",
                status.home
            )));
        }
        let phase = Phase::Holding { to: to.clone() };
        let status = UnitStatus { phase, operation: Some(id.clone()), ..status };
        let reason = format!("{} asked to move the unit to {to}", requested.spec.asked_by);
        return Some(change(view, status, reason).note(id, None, OperationState::Running).decide());
    };
    // The record itself stays; only the operation learns that it is refused.
    let step =
        Step { name: "refused".to_owned(), at: view.wall, epoch: status.epoch, reason: why.to_string() };
    let effect = Effect { id, create: None, state: OperationState::Failed, step };
    Some(Decision::Change(Box::new(Change { status, operations: vec![effect] })))
}

/// Holding → sealing once every gateway holds and nothing is in flight; → serving if that takes too long.
pub(super) fn hold(view: &View, memory: &Memory, to: &DcId) -> Decision {
    let status = view.unit.status.clone();
    let unit = UnitId::new(view.unit.name.clone());
    // A gateway that has not reported for twice that long serves nobody the control plane could wait for; should it
    // be alive all the same, the epoch check turns its requests away and it retries them.
    let alive_ms_max = 2 * view.timing.fresh_ms;
    let mut waiting = Vec::new();
    for (dc, seen) in view.gateways.iter().filter(|(_, seen)| seen.age_ms <= alive_ms_max) {
        let in_flight =
            unit.as_ref().ok().and_then(|unit| seen.report.in_flight.get(unit)).copied().unwrap_or(0);
        if seen.report.table < view.unit.revision {
            waiting.push(format!("gateway {dc} does not hold yet"));
        } else if in_flight > 0 {
            waiting.push(format!("{in_flight} requests in flight at gateway {dc}"));
        }
    }
    if waiting.is_empty() {
        let status = UnitStatus { phase: Phase::Sealing { to: to.clone() }, ..status };
        let reason = "every gateway holds and nothing is in flight".to_owned();
        return change(view, status, reason).go_on(OperationState::Running).decide();
    }
    let waiting = waiting.join(", ");
    if view.now_ms.saturating_sub(memory.phase_since_ms) <= view.timing.drain_ms_max {
        return keep(waiting);
    }
    let reason = format!("the move is called off: {waiting} after {} ms", view.timing.drain_ms_max);
    let mut back =
        change(view, UnitStatus { phase: Phase::Serving, ..status }, reason).go_on(OperationState::Failed);
    back.status.operation = None;
    back.decide()
}

/// Sealing → promoting once the target has replayed past the shutdown checkpoint; → electing if the seal failed.
pub(super) fn seal(view: &View, memory: &Memory, to: &DcId) -> Decision {
    let home = &view.unit.status.home;
    let acted = |dc| view.reports.get(dc).map(|s| &s.report).filter(|r| r.revision >= view.unit.revision);
    let overdue = view.now_ms.saturating_sub(memory.phase_since_ms) > view.timing.seal_ms_max;
    let sealed = match acted(home).map(|report| &report.state) {
        Some(ReplicaState::Stopped { sealed: Some(at) }) => *at,
        Some(ReplicaState::Stopped { sealed: None }) => {
            return fail_over(view, "the primary stopped, but not in order".to_owned());
        }
        _ if overdue => {
            let reason = format!("the primary was not sealed within {} ms", view.timing.seal_ms_max);
            return fail_over(view, reason);
        }
        _ => return keep(format!("{home} is being sealed")),
    };
    let target = view.fresh(to);
    let has_all = target.is_some_and(|r| {
        let same_timeline = r.position.is_some_and(|p| p.timeline == sealed.timeline);
        same_timeline && r.replayed.is_some_and(|replayed| replayed > sealed.flushed)
    });
    if has_all {
        let reason = format!("{to} has replayed the last record of {home} (at {sealed})");
        return promote(view, to, reason, Proof::Complete);
    }
    if overdue {
        return fail_over(
            view,
            format!("{to} did not receive the last record of {home} (at {sealed}) in time"),
        );
    }
    keep(format!("{to} has yet to replay the last record of {home} (at {sealed})"))
}
