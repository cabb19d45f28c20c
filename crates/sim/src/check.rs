//! The invariants, checked after every event with the eyes of somebody who sees everything.

use std::collections::BTreeMap;

use dujiang_types::report::{ReplicaReport, ReplicaState};
use dujiang_types::unit::{Durability, Phase, UnitStatus};
use dujiang_types::{Epoch, Lsn, Position};
use dujiang_unit::election::{Detached, complete};

use crate::acting::setting_of;
use crate::liveness::Liveness;
use crate::place::{At, DC_COUNT, Dc, Proc, dc_id, unit_id};
use crate::postgres::{Content, Setting, What};
use crate::trace::Us;
use crate::world::World;

/// Acknowledgements a client of every unit must have received after the healing.
const SERVED_MIN: u64 = 3;

#[derive(Debug, Default)]
struct UnitCheck {
    /// The acknowledged commit with the highest place in the log, by place and identity. Since every log that
    /// acknowledges must hold it, it stands for all that were acknowledged before.
    frontier: Option<(usize, u64)>,
    /// Keys acknowledged to anybody.
    keys: std::collections::BTreeSet<u64>,
    /// Who acknowledged in each epoch.
    acknowledger: BTreeMap<u64, Dc>,
    /// Promotions in each epoch.
    promotions: BTreeMap<u64, u32>,
    /// What was reported as final under an epoch.
    final_positions: BTreeMap<Dc, (Epoch, Position)>,
    /// Something changed in a log.
    touched: bool,
    /// Something changed that an election would see.
    changed: bool,
}

/// What the invariants remember.
#[derive(Debug)]
pub struct Checker {
    units: Vec<UnitCheck>,
    excused: BTreeMap<At, Us>,
    /// Whether units that can serve do.
    pub liveness: Liveness,
}

impl Checker {
    /// Nothing has happened yet.
    pub fn new(units: usize) -> Self {
        Self {
            units: (0..units).map(|_| UnitCheck::default()).collect(),
            excused: BTreeMap::new(),
            liveness: Liveness::new(units),
        }
    }

    /// A log of the unit has changed.
    pub fn touch(&mut self, unit: usize) {
        self.units[unit].touched = true;
    }

    /// A database of the unit has become primary.
    pub fn promoted(&mut self, unit: usize) {
        self.units[unit].changed = true;
    }

    /// A guard that was frozen cannot have stopped its database in time; nobody could have.
    pub fn excuse(&mut self, at: At, until: Us) {
        self.excused.insert(at, until);
    }

    /// Acknowledged writes of a unit.
    pub fn acknowledged(&self, unit: usize) -> usize {
        self.units[unit].keys.len()
    }
}

impl World {
    /// Checks whatever can have been broken by the last event.
    pub fn check(&mut self) {
        for unit in 0..self.unit_count {
            self.check_answering(unit);
            self.check_progress(unit);
            if std::mem::take(&mut self.checker.units[unit].touched) {
                self.check_copies(unit);
                self.check_final_positions(unit);
            }
            if std::mem::take(&mut self.checker.units[unit].changed) {
                self.check_elections(unit);
            }
        }
    }

    /// At most one database of a unit answers clients. The lease sees to that by itself, without the quorum.
    fn check_answering(&mut self, unit: usize) {
        let open = |dc: &Dc| self.db(At { dc: *dc, unit }).is_primary() && self.db(At { dc: *dc, unit }).open;
        if (0..DC_COUNT).filter(open).count() < 2 {
            return;
        }
        let both: Vec<String> = (0..DC_COUNT)
            .filter(|dc| self.answers(At { dc: *dc, unit }))
            .map(|dc| dc_id(dc).to_string())
            .collect();
        if both.len() > 1 {
            self.violate("one database answers", || {
                format!("{} answers in {}", unit_id(unit), both.join(" and in "))
            });
        }
    }

    /// True if a database can answer clients although its guard is able to stop it.
    fn answers(&self, at: At) -> bool {
        let db = self.db(at);
        let excused = self.checker.excused.get(&at).is_some_and(|until| self.now < *until);
        let runs = self.processes.runs(Proc::Postgres(at)) && self.processes.runs(Proc::Guard(at));
        db.is_primary() && db.open && runs && !excused
    }

    /// An election ends only when nobody answers any more.
    fn check_election_end(&mut self, unit: usize) {
        if let Some(dc) = (0..DC_COUNT).find(|dc| self.answers(At { dc: *dc, unit })) {
            self.violate("an election waits for the lease", || {
                format!("{}: a winner is named while {} still answers", unit_id(unit), dc_id(dc))
            });
        }
    }

    /// With durability zero every acknowledged commit is on the disks of two data centers.
    fn check_copies(&mut self, unit: usize) {
        if self.control.unit(unit).spec.durability != Durability::Zero {
            return;
        }
        let Some((index, id)) = self.checker.units[unit].frontier else { return };
        let holders = (0..DC_COUNT).filter(|dc| self.db(At { dc: *dc, unit }).holds(index, id)).count();
        if holders < 2 {
            self.violate("no acknowledged commit depends on one data center", || {
                format!("{}: record {index} (id {id}) is acknowledged and on {holders} disks", unit_id(unit))
            });
        }
    }

    /// What a replica reported as final for an election stays final while that election lasts.
    fn check_final_positions(&mut self, unit: usize) {
        let status = &self.control.unit(unit).status;
        if status.phase != Phase::Electing {
            return;
        }
        let epoch = status.epoch;
        for (dc, (under, position)) in self.checker.units[unit].final_positions.clone() {
            let db = self.db(At { dc, unit });
            let end = db.end_of(db.flushed);
            if under == epoch
                && end > position.flushed.0
                && !self.options.sabotages(crate::Sabotage::ReplayPosition)
            {
                self.violate("a detached replica stays as it was reported", || {
                    format!(
                        "{} in {} reported {position} and now reaches {}",
                        unit_id(unit),
                        dc_id(dc),
                        Lsn(end)
                    )
                });
            }
        }
    }

    /// Whichever replicas took part in an election now: who would be called complete holds every acknowledged
    /// commit.
    fn check_elections(&mut self, unit: usize) {
        let Some((index, id)) = self.checker.units[unit].frontier else { return };
        let status = &self.control.unit(unit).status;
        // Nothing is elected by a restored record before everybody was asked.
        if status.epoch == dujiang_unit::controller::UNKNOWN {
            return;
        }
        let claims = status.claims.clone();
        let mut all = Vec::new();
        for dc in 0..DC_COUNT {
            let at = At { dc, unit };
            if let Some(detached) = self.stands(at) {
                all.push((dc, detached, self.db(at).holds(index, id)));
            }
        }
        for subset in 1_u32..1 << all.len() {
            let chosen = all.iter().enumerate().filter(|(i, _)| subset & (1 << i) != 0).map(|(_, d)| d);
            let seen: BTreeMap<_, _> = chosen.map(|(dc, detached, _)| (dc_id(*dc), *detached)).collect();
            let Ok(complete) = complete(&claims, &seen) else { continue };
            let lacking = all.iter().find(|(dc, _, holds)| complete.contains(&dc_id(*dc)) && !holds);
            if let Some((dc, detached, _)) = lacking {
                let voters: Vec<String> =
                    seen.iter().map(|(dc, d)| format!("{dc} at {}", d.position)).collect();
                let claims: Vec<String> = claims.iter().map(crate::control::show_claim).collect();
                self.violate("what claims prove is complete", || {
                    format!(
                        "{}: of [{}] {} (at {}) would be promoted by claims [{}] but lacks acknowledged record {index}",
                        unit_id(unit),
                        voters.join(", "),
                        dc_id(*dc),
                        detached.position,
                        claims.join("; ")
                    )
                });
                return;
            }
        }
    }

    /// What a replica with data would contribute to an election now.
    pub(crate) fn stands(&self, at: At) -> Option<Detached> {
        let db = self.db(at);
        let has_data = db.content == Content::Present && db.flushed > 0;
        let position = Position { timeline: db.timeline(), flushed: Lsn(db.end_of(db.flushed)) };
        has_data.then(|| Detached { position, primary_epoch: self.replica(at).primary_epoch })
    }

    /// A database acknowledges a commit: it must be the only one to do so in its epoch, hold everything that was
    /// acknowledged before, and have waited as a recorded claim says.
    pub fn check_acknowledged(&mut self, at: At, index: usize, setting: Option<Setting>) {
        let db = self.db(at);
        let record = db.log[index];
        let fence = db.fence;
        let lost = self.checker.units[at.unit]
            .frontier
            .is_some_and(|(i, id)| db.log.get(i).is_none_or(|r| r.id != id));
        // An answer that was on its way when the epoch changed is no harm if the commit has come along.
        if self.came_along(at.unit, fence, index, record.id) {
            return;
        }
        if lost {
            self.violate("no split brain", || {
                format!(
                    "{at} acknowledges record {index} under epoch {fence} without commits acknowledged before"
                )
            });
        }
        // A restored record says nothing yet about what is acknowledged meanwhile.
        if self.control.unit(at.unit).status.epoch != dujiang_unit::controller::UNKNOWN {
            self.check_claimed(at, fence, setting);
        }
        let unit = &mut self.checker.units[at.unit];
        let first = *unit.acknowledger.entry(fence).or_insert(at.dc);
        if let What::Write { key } | What::Again { key } = record.what {
            unit.keys.insert(key);
        }
        if unit.frontier.is_none_or(|(i, _)| index > i) {
            unit.frontier = Some((index, record.id));
        }
        unit.touched = true;
        unit.changed = true;
        self.checker.liveness.restart(at.unit);
        if first != at.dc {
            self.violate("one primary acknowledges in an epoch", || {
                format!("{at} and {} acknowledge in epoch {fence}", dc_id(first))
            });
        }
    }

    /// True if a commit acknowledged under the epoch of that fence is in the log of who led after it, with every
    /// commit acknowledged before. Who led after it is the home of a later epoch; a restored record does not say, but
    /// the database itself does.
    fn came_along(&self, unit: usize, fence: u64, index: usize, id: u64) -> bool {
        let status = &self.control.unit(unit).status;
        let frontier = self.checker.units[unit].frontier;
        (0..DC_COUNT).any(|dc| {
            let db = self.db(At { dc, unit });
            let led_later = db.fence > fence || status.epoch.0 > fence && dc_id(dc) == status.home;
            led_later && db.holds(index, id) && frontier.is_none_or(|(index, id)| db.holds(index, id))
        })
    }

    fn check_claimed(&mut self, at: At, fence: u64, setting: Option<Setting>) {
        let claims = &self.control.unit(at.unit).status.claims;
        let waited = setting.unwrap_or_default();
        let implied = |claimed: Setting| {
            claimed.need == 0 || waited.need >= claimed.need && waited.members & !claimed.members == 0
        };
        let own = claims.iter().filter(|claim| claim.epoch.0 == fence && claim.primary == dc_id(at.dc));
        if !own.map(|claim| setting_of(&claim.set)).any(implied) {
            let waited: Vec<String> = waited.list().map(|dc| dc_id(dc).to_string()).collect();
            let claims: Vec<String> = claims.iter().map(crate::control::show_claim).collect();
            self.violate("the record claims no more than PostgreSQL does", || {
                format!(
                    "{at} acknowledges under epoch {fence} having waited for one of {{{}}}; the record claims [{}]",
                    waited.join(", "),
                    claims.join("; ")
                )
            });
        }
    }

    /// A database has been promoted under an epoch.
    pub fn check_promotion(&mut self, at: At, epoch: Epoch) {
        let count = self.checker.units[at.unit].promotions.entry(epoch.0).or_default();
        *count += 1;
        if *count > 1 {
            self.violate("an epoch's primary runs once", || {
                format!("{at} is promoted again under epoch {epoch}")
            });
        }
        // A machine that stood still may end a promotion of the past; it stays closed and is stopped by its guard.
        let past = epoch < self.control.unit(at.unit).status.epoch;
        let Some((index, id)) = self.checker.units[at.unit].frontier.filter(|_| !past) else { return };
        if !self.db(at).holds(index, id) {
            self.violate("no acknowledged commit is lost", || {
                format!("{at} is promoted under epoch {epoch} without acknowledged record {index}")
            });
        }
    }

    /// A replica's report has reached the control plane.
    pub fn check_report(&mut self, at: At, report: &ReplicaReport) {
        if let (ReplicaState::Detached { epoch }, Some(position)) = (&report.state, report.position) {
            self.checker.units[at.unit].final_positions.insert(at.dc, (*epoch, position));
            self.checker.units[at.unit].touched = true;
        } else {
            self.checker.units[at.unit].final_positions.remove(&at.dc);
        }
    }

    /// A record has been written.
    pub fn check_record(&mut self, unit: usize, before: &UnitStatus) {
        self.checker.units[unit].changed = true;
        self.checker.units[unit].touched = true;
        let status = &self.control.unit(unit).status;
        let (epoch, home) = (status.epoch, status.home.clone());
        let future = status.claims.iter().any(|claim| claim.epoch > epoch);
        let won = before.phase == Phase::Electing && matches!(status.phase, Phase::Promoting { .. });
        if won {
            self.check_election_end(unit);
        }
        if epoch < before.epoch
            || (home != before.home && epoch == before.epoch && before.phase != Phase::Electing)
        {
            self.violate("epochs only rise", || {
                format!("{}: {} at {} became {epoch} at {home}", unit_id(unit), before.epoch, before.home)
            });
        }
        if future {
            self.violate("epochs only rise", || format!("{}: a claim of an epoch to come", unit_id(unit)));
        }
    }

    // ---- the end ----------------------------------------------------------------------------------------------

    /// True once everything is mended and every unit is whole and serves.
    pub fn recovered(&self) -> bool {
        self.healed() && (0..self.unit_count).all(|unit| self.whole(unit).is_ok())
    }

    /// True of a restored unit with a replica that has no data, while nobody led under the highest epoch: that the
    /// replica never had any is not known any more, so nothing proves that the others hold all that was acknowledged,
    /// and an operator has to force the promotion.
    fn awaits_operator(&self, unit: usize) -> bool {
        let lacks_data = |dc| self.db(At { dc, unit }).content == Content::Absent;
        let everywhere: Vec<usize> = (0..DC_COUNT).collect();
        self.options.scenario.restores()
            && self.control.unit(unit).status.phase == Phase::Electing
            && everywhere.iter().any(|dc| lacks_data(*dc))
            && !self.proves(unit, &everywhere)
    }

    /// Whether a unit serves with every replica following and in the sync set; if not, what is missing.
    fn whole(&self, unit: usize) -> Result<(), String> {
        let record = self.control.unit(unit);
        let status = &record.status;
        if self.awaits_operator(unit) {
            return Ok(());
        }
        if self.clients.served_since_heal[unit] < SERVED_MIN {
            return Err(format!("no client is answered; {}: {}", status.phase, status.reason));
        }
        if status.phase != Phase::Serving {
            return Err(format!("it is {}: {}", status.phase, status.reason));
        }
        let set = status.wanted_set().map(setting_of).unwrap_or_default();
        for dc in (0..DC_COUNT).filter(|dc| dc_id(*dc) != status.home) {
            let at = At { dc, unit };
            if self.db(at).receiver.is_none() {
                return Err(format!("the replica in {} does not follow", dc_id(dc)));
            }
            if record.spec.durability == Durability::Zero && !set.names(dc) {
                return Err(format!("the replica in {} is not in the sync set", dc_id(dc)));
            }
        }
        Ok(())
    }

    /// After the last event: everything must have recovered, and every acknowledged key be there exactly once.
    pub fn check_end(&mut self) {
        for unit in 0..self.unit_count {
            if let Err(missing) = self.whole(unit) {
                let notes: Vec<String> = (0..DC_COUNT).map(|dc| self.describe(At { dc, unit })).collect();
                self.violate("a unit that can make progress does so", || {
                    format!("{}: {missing}. {}", unit_id(unit), notes.join("; "))
                });
                return;
            }
            self.audit(unit);
        }
    }

    pub(crate) fn describe(&self, at: At) -> String {
        let note = self.replica(at).report.as_ref().map_or("", |report| report.note.as_str());
        let db = self.db(at);
        format!("{}: {:?}, {:?}, {note}", dc_id(at.dc), db.content, db.process)
    }

    /// An auditor's look at the home's database, by keys and nothing else.
    fn audit(&mut self, unit: usize) {
        let home = (0..DC_COUNT).find(|dc| dc_id(*dc) == self.control.unit(unit).status.home).unwrap_or(0);
        let db = self.db(At { dc: home, unit });
        let writes = db.log[..db.flushed].iter().filter(|r| matches!(r.what, What::Write { .. })).count();
        let keys = db.keys_on_disk();
        let missing = self.checker.units[unit].keys.difference(&keys).count();
        let doubled = writes - keys.len();
        if missing + doubled > 0 {
            self.violate("acknowledged writes exist exactly once", || {
                format!(
                    "{}: {missing} acknowledged keys are missing, {doubled} are there twice",
                    unit_id(unit)
                )
            });
        }
    }
}
