//! What the loss of a unit's home would cost: whether its durability is kept, and how far each replica is behind.

use std::collections::{BTreeMap, VecDeque};

use dujiang_types::exposure::{Behind, DurabilityView, Exposure, Meter, Missing};
use dujiang_types::report::{ReplicaReport, ReplicaState};
use dujiang_types::unit::{Durability, Phase, SyncSet, UnitSpec, UnitStatus};
use dujiang_types::{Condition, DcId, Epoch, Lsn, Tri};
use jiff::Timestamp;

use crate::controller::{View, provable};

/// Name of the condition that says whether durability is kept.
pub const DURABILITY_KEPT: &str = "DurabilityKept";
/// Moments of a primary that are remembered. At two reports a second the newest two minutes are kept in full; older
/// ones are thinned out, so that a replica that has been away for days still has a place among them.
const SAMPLES_MAX: usize = 512;

/// Whether all other replicas are in the sync set by the record, so that the loss of any one data center neither loses
/// an acknowledged commit nor stops new ones; and if not, why. It is read off the claims, which are written before PostgreSQL waits for fewer and after it waits
/// for more: so the record says *degraded* before it is, and *kept* only once it is.
pub fn durability(spec: &UnitSpec, status: &UnitStatus) -> (Tri, String) {
    if spec.durability == Durability::Bounded {
        return (Tri::False, "the unit acknowledges without waiting for a replica".to_owned());
    }
    let Some(set) = status.wanted_set() else {
        return (Tri::Unknown, "a new home is being chosen".to_owned());
    };
    let own = status.claims.iter().filter(|claim| claim.epoch == status.epoch);
    let missing: Vec<&str> = spec
        .replicas
        .iter()
        .filter(|dc| **dc != status.home && own.clone().any(|claim| !claim.set.members.contains(*dc)))
        .map(DcId::as_str)
        .collect();
    if missing.is_empty() && set.need > 0 {
        return (Tri::True, "all other replicas are in the sync set".to_owned());
    }
    let effect = effect_of(set, status);
    (Tri::False, format!("not in the sync set: {}; {effect}", missing.join(", ")))
}

fn effect_of(set: &SyncSet, status: &UnitStatus) -> &'static str {
    if set.need == 0 {
        "what is acknowledged is nowhere else"
    } else if set.members.len() < usize::from(set.need) {
        "nothing is acknowledged"
    } else if status.phase == Phase::Serving {
        "the loss of one more data center loses nothing, but stops writes"
    } else {
        "the home is changing"
    }
}

/// Writes the condition into a record that is about to change. `since` moves only when the state does.
pub(crate) fn note_durability(spec: &UnitSpec, status: &mut UnitStatus, wall: Timestamp) {
    let (state, reason) = durability(spec, status);
    let known = status.conditions.iter().position(|condition| condition.kind == DURABILITY_KEPT);
    let since = known.map(|index| status.conditions.remove(index)).filter(|known| known.state == state);
    let since = since.map_or(wall, |known| known.since);
    status.conditions.push(Condition { kind: DURABILITY_KEPT.to_owned(), state, reason, since });
}

/// A moment of a primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sample {
    at_ms: u64,
    flushed: Lsn,
    transfers: Option<u64>,
}

/// How far a unit's home and its replicas have come, as reported. Volatile; whoever begins anew knows less.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Whose samples these are.
    epoch: Epoch,
    home: Option<DcId>,
    samples: VecDeque<Sample>,
    /// How far each replica's log of that epoch's timeline reaches.
    reached: BTreeMap<DcId, Lsn>,
    /// Transfers in a replica that has replayed all it has.
    counted: BTreeMap<DcId, u64>,
}

impl Progress {
    /// Takes a report in.
    pub fn observe(&mut self, dc: &DcId, report: &ReplicaReport, meter: &Meter, now_ms: u64) {
        let Some(position) = report.position else { return };
        if let ReplicaState::Primary { epoch, standbys, .. } = &report.state {
            if *epoch < self.epoch {
                return;
            }
            if *epoch > self.epoch {
                *self = Self { epoch: *epoch, ..Self::default() };
            }
            self.home = Some(dc.clone());
            for (standby, seen) in standbys {
                self.reaches(standby, seen.flushed.min(position.flushed));
            }
            self.push(Sample { at_ms: now_ms, flushed: position.flushed, transfers: meter.transfers });
        } else if u64::from(position.timeline) == self.epoch.0 + 1 {
            self.reaches(dc, position.flushed);
            if let Some(transfers) = meter.transfers.filter(|_| report.replayed == Some(position.flushed)) {
                self.counted.insert(dc.clone(), transfers);
            }
        }
    }

    fn reaches(&mut self, dc: &DcId, flushed: Lsn) {
        let reached = self.reached.entry(dc.clone()).or_default();
        if flushed > *reached {
            *reached = flushed;
            self.counted.remove(dc);
        }
    }

    fn push(&mut self, sample: Sample) {
        if self.samples.len() == SAMPLES_MAX {
            // Every other one of the older half goes.
            let mut index = 0;
            self.samples.retain(|_| {
                index += 1;
                index > SAMPLES_MAX / 2 || index % 2 == 1
            });
        }
        self.samples.push_back(sample);
    }

    /// How far a replica is behind the last that is known of the home. `None` if nothing is known of one of them.
    pub fn behind(&self, dc: &DcId) -> Option<Behind> {
        let last = self.samples.back()?;
        let reached = *self.reached.get(dc)?;
        if reached >= last.flushed {
            return Some(Behind { bytes: 0, lag_ms: 0, transfers: last.transfers.map(|_| 0) });
        }
        let (at_ms, transfers) = self.when_at(reached);
        let transfers = self.counted.get(dc).copied().or(transfers);
        Some(Behind {
            bytes: last.flushed.0 - reached.0,
            lag_ms: last.at_ms.saturating_sub(at_ms),
            transfers: last.transfers.zip(transfers).map(|(home, there)| home.saturating_sub(there)),
        })
    }

    /// When the home was at a position, and how many transfers it had then: in proportion between the samples
    /// around it, and no later than that.
    fn when_at(&self, position: Lsn) -> (u64, Option<u64>) {
        let after = self.samples.partition_point(|sample| sample.flushed <= position);
        let Some(next) = self.samples.get(after) else { return (0, None) };
        let Some(before) = after.checked_sub(1).and_then(|before| self.samples.get(before)) else {
            // Before anything that is remembered: at least so long ago, at least so many.
            return (next.at_ms, next.transfers);
        };
        let (part, whole) = (position.0 - before.flushed.0, next.flushed.0 - before.flushed.0);
        let between = |from: u64, to: u64| from + proportion(to.saturating_sub(from), part, whole);
        let transfers = before.transfers.zip(next.transfers).map(|(from, to)| between(from, to));
        (between(before.at_ms, next.at_ms), transfers)
    }

    /// How far all that are known are behind.
    fn all_behind(&self) -> BTreeMap<DcId, Behind> {
        let others = self.reached.keys().filter(|dc| self.home.as_ref() != Some(*dc));
        others.filter_map(|dc| Some((dc.clone(), self.behind(dc)?))).collect()
    }

    /// When the home was last heard as a primary.
    pub fn heard_ms(&self) -> Option<u64> {
        self.samples.back().map(|sample| sample.at_ms)
    }
}

/// `of * part / whole`, rounded down, without overflow.
fn proportion(of: u64, part: u64, whole: u64) -> u64 {
    let scaled = u128::from(of) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(scaled).unwrap_or(of)
}

/// The exposure of a unit.
pub fn exposure(view: &View, progress: &Progress) -> Exposure {
    let status = &view.unit.status;
    let known = status.conditions.iter().find(|condition| condition.kind == DURABILITY_KEPT);
    let (kept, reason) = durability(&view.unit.spec, status);
    let durability = DurabilityView { kept, since: known.map(|condition| condition.since), reason };
    let provable = provable(view);
    let behind = progress.all_behind();
    let least = behind.values().min_by_key(|behind| behind.bytes).copied();
    let synchronous = status.wanted_set().is_some_and(|set| set.need > 0);
    let nothing = Behind { transfers: least.and_then(|b| b.transfers.map(|_| 0)), ..Behind::default() };
    let at_risk = if synchronous && provable.is_ok() { Some(nothing) } else { least };
    let (to, reason) = match provable {
        Ok(to) => (Some(to), String::new()),
        Err(reason) => (None, reason),
    };
    Exposure {
        durability,
        automatic: to.is_some(),
        to,
        reason,
        at_risk_bytes: at_risk.map(|behind| behind.bytes),
        at_risk,
        behind,
    }
}

/// What may be missing on `to` if it were promoted now. `reason`: why that cannot be ruled out.
pub fn missing(view: &View, progress: &Progress, to: &DcId, reason: String) -> Missing {
    let timing = view.timing;
    // It may have acknowledged until its last lease ran out, if nobody has heard of its end.
    let lapse_ms = timing.lease_ms;
    let heard_ms = progress.heard_ms().unwrap_or(0);
    let unheard_ms = view.now_ms.saturating_sub(heard_ms).min(lapse_ms);
    Missing { to: to.clone(), known: progress.behind(to), unheard_ms, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dujiang_types::report::{DataState, StandbyReport};
    use dujiang_types::{Position, Revision};

    fn dc(name: &str) -> DcId {
        DcId::new(name).unwrap()
    }

    fn report(state: ReplicaState, timeline: u32, flushed: u64) -> ReplicaReport {
        ReplicaReport {
            revision: Revision(1),
            epoch_seen: Epoch(0),
            data: DataState::Present { primary_epoch: None },
            state,
            position: Some(Position { timeline, flushed: Lsn(flushed) }),
            replayed: Some(Lsn(flushed)),
            promised_ms: 0,
            note: String::new(),
        }
    }

    fn home(epoch: u64, flushed: u64, standbys: &[(&str, u64)]) -> ReplicaReport {
        let standby = |(name, flushed): &(&str, u64)| {
            (dc(name), StandbyReport { streaming: true, flushed: Lsn(*flushed), lag_bytes: 0 })
        };
        let standbys = standbys.iter().map(standby).collect();
        let state = ReplicaState::Primary { epoch: Epoch(epoch), open: true, confirmed: None, standbys };
        report(state, u32::try_from(epoch).unwrap() + 1, flushed)
    }

    fn counted(transfers: u64) -> Meter {
        Meter { transfers: Some(transfers), ..Meter::default() }
    }

    #[test]
    fn a_replica_is_behind_by_what_the_home_did_since_it_was_there() {
        let mut progress = Progress::default();
        progress.observe(&dc("a"), &home(1, 1_000, &[("b", 1_000), ("c", 900)]), &counted(10), 1_000);
        assert_eq!(progress.behind(&dc("b")), Some(Behind { transfers: Some(0), ..Behind::default() }));
        // c was never seen where the home was: the oldest moment counts.
        let first = Behind { bytes: 100, lag_ms: 0, transfers: Some(0) };
        assert_eq!(progress.behind(&dc("c")), Some(first));
        progress.observe(&dc("a"), &home(1, 2_000, &[("b", 1_500)]), &counted(20), 2_000);
        // Half way between two moments of the home.
        let half = Behind { bytes: 500, lag_ms: 500, transfers: Some(5) };
        assert_eq!(progress.behind(&dc("b")), Some(half));
        // c is gone from the home's list: what is known of it stays, and the home goes on.
        let away = Behind { bytes: 1_100, lag_ms: 1_000, transfers: Some(10) };
        assert_eq!(progress.behind(&dc("c")), Some(away));
        assert_eq!(progress.behind(&dc("d")), None);
        assert_eq!(progress.heard_ms(), Some(2_000));
    }

    #[test]
    fn a_detached_replica_says_itself_how_far_it_has_come() {
        let mut progress = Progress::default();
        progress.observe(&dc("a"), &home(1, 1_000, &[("b", 500)]), &counted(10), 1_000);
        progress.observe(&dc("a"), &home(1, 2_000, &[("b", 500)]), &counted(20), 2_000);
        let detached = ReplicaState::Detached { epoch: Epoch(2) };
        progress.observe(&dc("b"), &report(detached.clone(), 2, 1_800), &counted(17), 3_000);
        let own = Behind { bytes: 200, lag_ms: 200, transfers: Some(3) };
        assert_eq!(progress.behind(&dc("b")), Some(own));
        // Log of another timeline says nothing about this one.
        progress.observe(&dc("c"), &report(detached, 1, 1_900), &counted(19), 3_000);
        assert_eq!(progress.behind(&dc("c")), None);
        // A new epoch begins anew, and a late report of the old one changes nothing.
        progress.observe(&dc("b"), &home(2, 1_900, &[]), &counted(17), 4_000);
        progress.observe(&dc("a"), &home(1, 9_000, &[]), &counted(90), 5_000);
        assert_eq!((progress.behind(&dc("b")), progress.heard_ms()), (None, Some(4_000)));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_reaches_far_back() {
        let mut progress = Progress::default();
        progress.observe(&dc("a"), &home(1, 0, &[("b", 0)]), &counted(0), 0);
        for n in 1..100_000 {
            progress.observe(&dc("a"), &home(1, n * 10, &[]), &counted(n), n * 500);
        }
        assert!(progress.samples.len() <= SAMPLES_MAX);
        let behind = progress.behind(&dc("b")).unwrap();
        assert_eq!((behind.lag_ms, behind.transfers), (99_999 * 500, Some(99_999)));
    }
}
