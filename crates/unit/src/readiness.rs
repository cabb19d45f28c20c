//! Whether a takeover of a unit by a data center would work now: what the records and reports say, and what an agent
//! found that looked.
//!
//! The safety rules refuse by what they know, and what they do not know refuses nothing. Here it is the other way round:
//! *ready* is said only of what was seen.

use dujiang_types::readiness::{Aspect, Check, ShownIdentity, Takeover, Trial};
use dujiang_types::report::ReplicaState;
use dujiang_types::unit::{Phase, Unit};
use dujiang_types::{DcId, UnitId};
use jiff::Timestamp;

use crate::agent::Process;
use crate::controller::{View, provable};
use crate::exposure::Progress;
use crate::safety;

/// What can be told of a takeover by `to` without trying anything.
pub fn takeover(unit: &UnitId, view: &View, progress: &Progress, to: &DcId) -> Takeover {
    let home = view.unit.status.home == *to;
    let checks = if home {
        Vec::new()
    } else {
        vec![
            unit_check(view),
            replica(view, progress, to),
            sync_set(view, to),
            nothing_lost(view),
            site(view, to),
            capacity(view, to),
        ]
    };
    Takeover { unit: unit.clone(), dc: to.clone(), home, checks }
}

fn check(aspect: Aspect, seen: Result<String, String>) -> Check {
    let holds = seen.is_ok();
    Check { aspect, holds, detail: seen.unwrap_or_else(|why| why) }
}

fn unit_check(view: &View) -> Check {
    let status = &view.unit.status;
    let seen = match (&status.phase, &status.operation) {
        (Phase::Serving, None) => Ok(format!("it serves in {} under epoch {}", status.home, status.epoch)),
        (Phase::Serving, Some(operation)) => Err(format!("{operation} is at work on it")),
        (phase, _) => Err(format!("it is {phase}")),
    };
    check(Aspect::Unit, seen)
}

fn replica(view: &View, progress: &Progress, to: &DcId) -> Check {
    let home = &view.unit.status.home;
    let seen = || {
        let own = view.fresh(to).ok_or_else(|| format!("nothing current is known of the replica in {to}"))?;
        match &own.state {
            ReplicaState::Following { streaming: true, .. } => {}
            _ if own.note.is_empty() => return Err("it does not follow".to_owned()),
            _ => return Err(format!("it does not follow: {}", own.note)),
        }
        let standbys = view
            .home_standbys()
            .ok_or_else(|| format!("nothing current is known of the primary in {home}"))?;
        let standby = standbys.get(to).filter(|standby| standby.streaming);
        let behind_bytes = standby.ok_or_else(|| format!("{home} does not stream to it"))?.lag_bytes;
        if behind_bytes > view.timing.join_lag_bytes_max {
            return Err(format!("it is {behind_bytes} bytes behind"));
        }
        let lag_ms = progress.behind(to).map_or(0, |behind| behind.lag_ms);
        Ok(format!("it streams, {behind_bytes} bytes and {lag_ms} ms behind"))
    };
    check(Aspect::Replica, seen())
}

fn sync_set(view: &View, to: &DcId) -> Check {
    let status = &view.unit.status;
    let confirmed = view.fresh(&status.home).and_then(|report| match &report.state {
        ReplicaState::Primary { confirmed, .. } => confirmed.as_ref(),
        _ => None,
    });
    let seen = match status.wanted_set() {
        None => Err("no sync set is in force".to_owned()),
        Some(_) if status.claims.len() > 1 => Err("the sync set is being changed".to_owned()),
        Some(set) if set.need == 0 => Ok("the unit acknowledges without waiting for a replica".to_owned()),
        Some(set) if !set.members.contains(to) => Err(format!("{} does not wait for it", status.home)),
        Some(set) if confirmed != Some(set) => {
            Err(format!("{} has not confirmed the sync set that is recorded", status.home))
        }
        Some(set) => {
            Ok(format!("{} waits for {} of {}, it among them", status.home, set.need, set.members.len()))
        }
    };
    check(Aspect::SyncSet, seen)
}

fn nothing_lost(view: &View) -> Check {
    let home = &view.unit.status.home;
    let seen = match provable(view) {
        Ok(to) => {
            Ok(format!("without {home} all that was acknowledged is provably there, and {to} is promoted"))
        }
        Err(missing) => Err(format!("without {home}: {missing}")),
    };
    check(Aspect::NothingLost, seen)
}

fn site(view: &View, to: &DcId) -> Check {
    let seen = match (&view.around.serving, safety::serving_minimum(view.around, to)) {
        (_, Some(refusal)) => Err(refusal.why),
        (Some(serving), None) => Ok(format!(
            "agent and gateway are heard; {} of {} data centers serve",
            serving.now.len(),
            serving.of
        )),
        (None, None) => Err("nobody has looked which data centers serve".to_owned()),
    };
    check(Aspect::Site, seen)
}

fn capacity(view: &View, to: &DcId) -> Check {
    let seen = match (view.around.hosts.get(to), safety::capacity(view, to)) {
        (_, Some(refusal)) => Err(refusal.why),
        (Some(host), None) => Ok(format!(
            "{} MiB of disk free, load {} % on each of {} processors",
            host.disk_free_bytes >> 20,
            host.load_percent,
            host.cpus
        )),
        (None, None) => Err(format!("nothing is known of the host of {to}")),
    };
    check(Aspect::Capacity, seen)
}

/// What the identities say that were shown to the agent.
pub fn identities(shown: &[ShownIdentity], now: Timestamp) -> Check {
    let wrong =
        shown.iter().find_map(|identity| Some(format!("{}: {}", identity.of, trouble(identity, now)?)));
    let first = shown.iter().filter_map(|identity| Some((identity.not_after?, &identity.of))).min();
    let seen = match (wrong, first) {
        (Some(wrong), _) => Err(wrong),
        (None, None) => Err("nobody showed an identity".to_owned()),
        (None, Some((at, of))) => {
            let left_min = at.duration_since(now).as_secs() / 60;
            Ok(format!("{} hold; that of {of} runs out first, in {left_min} min", shown.len()))
        }
    };
    check(Aspect::Identities, seen)
}

/// An identity is renewed when half of its time is over. One that is still the old one when half of the rest is over,
/// too, will run out if nobody looks.
fn trouble(identity: &ShownIdentity, now: Timestamp) -> Option<String> {
    if let Some(trouble) = &identity.trouble {
        return Some(trouble.clone());
    }
    let (Some(not_after), Some(renew_at)) = (identity.not_after, identity.renew_at) else {
        return Some("it shows no identity".to_owned());
    };
    let left = not_after.duration_since(now);
    if left.is_negative() || left.is_zero() {
        return Some(format!("its identity ran out at {not_after:.0}"));
    }
    (left < not_after.duration_since(renew_at) / 2)
        .then(|| format!("its identity was to be renewed at {renew_at:.0}, and runs out at {not_after:.0}"))
}

/// What the promotion of a copy says.
pub fn trial(trial: &Trial) -> Check {
    let seen = match trial {
        Trial::Promoted(done) => Ok(format!(
            "a copy of {} MiB was promoted to timeline {} and took a write within {} ms",
            done.bytes >> 20,
            done.timeline,
            done.promoted_ms
        )),
        Trial::Refused { why } => Err(format!("not tried: {why}")),
        Trial::Failed { why } => Err(format!("a copy was not promoted: {why}")),
    };
    check(Aspect::Trial, seen)
}

/// Why no copy of the replica in `dc` is to be made now, if so. `None` of the process: nothing is known of it.
pub fn may_try(unit: &Unit, dc: &DcId, process: Option<&Process>) -> Result<(), String> {
    let status = &unit.status;
    if status.phase != Phase::Serving {
        return Err(format!("the unit is {}", status.phase));
    }
    if status.home == *dc {
        return Err(format!("the unit is at home in {dc}"));
    }
    match process {
        Some(Process::Standby { upstream: Some(upstream), streaming: true, .. })
            if *upstream == status.home =>
        {
            Ok(())
        }
        _ => Err(format!("the replica does not stream from {}", status.home)),
    }
}
