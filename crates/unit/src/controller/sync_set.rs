//! The sync set of a running primary.

use std::collections::BTreeSet;

use dujiang_types::DcId;
use dujiang_types::report::ReplicaState;
use dujiang_types::unit::{Claim, SyncSet};

use super::change::{Decision, quiet_change};
use super::promotion::need;
use super::view::{Memory, View, streaming_of};

/// Changes the sync set of a running primary by one step: replicas that stream join, members that are lost for
/// long leave. Both the old and the new set are recorded until the primary confirms the new one.
pub(super) fn reconfigure(view: &View, memory: &Memory) -> Option<Decision> {
    let status = &view.unit.status;
    let standbys = view.home_standbys()?;
    let own = status.claims.iter().filter(|c| c.epoch == status.epoch).count();
    let current = status.wanted_set()?.clone();
    let streaming = streaming_of(standbys);
    let confirmable =
        |members: &BTreeSet<DcId>| streaming.intersection(members).count() >= usize::from(current.need);
    // Whoever was to confirm the new set may be lost before it does. Then replicas that stream join once more, on
    // top of all that is recorded, or the unit would wait for the lost one with everything it needs at hand.
    if own > 1 && (confirmable(&current.members) || confirmed(view, &current)) {
        return finish_reconfiguration(view, own, &current);
    }
    // One that was ordered to acknowledge alone waits again as soon as there is somebody to wait for.
    let need = need(view);
    if current.need == 0 && (need == 0 || own > 1) {
        return None;
    }
    let mut members = current.members.clone();
    let joining = standbys.iter().filter(|(dc, s)| {
        view.unit.spec.replicas.contains(*dc) && s.streaming && s.lag_bytes <= view.timing.join_lag_bytes_max
    });
    members.extend(joining.map(|(dc, _)| dc.clone()));
    // Members leave only while enough of those that stay are streaming: with nobody left the record keeps naming
    // those who have the commits, and writes wait.
    if own == 1 && confirmable(&members) {
        members.retain(|dc| memory.lost_for_ms(dc, view.now_ms) <= view.timing.member_lost_ms);
    }
    if members == current.members {
        return None;
    }
    let list = members.iter().map(DcId::as_str).collect::<Vec<_>>().join(", ");
    let reason = format!("the sync set becomes {{{list}}}");
    let mut status = status.clone();
    let set = SyncSet { members, need };
    status.claims.push(Claim { epoch: status.epoch, primary: status.home.clone(), set });
    Some(quiet_change(status, reason))
}

/// True if the primary says that the set is in force.
fn confirmed(view: &View, set: &SyncSet) -> bool {
    let state = view.fresh(&view.unit.status.home).map(|report| &report.state);
    matches!(state, Some(ReplicaState::Primary { confirmed: Some(confirmed), .. }) if confirmed == set)
}

/// Drops the older sets of this epoch once the primary has confirmed the newest.
fn finish_reconfiguration(view: &View, own: usize, current: &SyncSet) -> Option<Decision> {
    let status = &view.unit.status;
    if !confirmed(view, current) {
        return None;
    }
    let mut status = status.clone();
    let first_own = status.claims.len() - own;
    status.claims.drain(first_own..status.claims.len() - 1);
    let list = current.members.iter().map(DcId::as_str).collect::<Vec<_>>().join(", ");
    Some(quiet_change(status, format!("the sync set is {{{list}}}")))
}
