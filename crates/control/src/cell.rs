//! What is remembered of one unit between decisions, and who may touch its record.
//!
//! Two locks, because a write takes as long as the store does, and a lease must not wait for that: a primary whose
//! lease runs out while a change is being written would be the next thing to decide about.
//! * The *turn* is held over "look at the record and write it": one writer at a time.
//! * The *ledger* is held for moments: over one decision, over one grant. While a change is being written a lease is
//!   granted only if the record allows it before *and* after the change, so it does not matter which of the two is
//!   committed by then. What was granted is noted before it is answered, and every decision counts from that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dujiang_types::unit::{Unit, UnitStatus};
use dujiang_types::{DcId, Epoch, Revision};
use dujiang_unit::controller::{Decision, Memory};
use dujiang_unit::lease::may_grant;
use tokio::sync::OwnedMutexGuard;

/// What is remembered of one unit.
#[derive(Debug)]
pub(crate) struct UnitCell {
    turn: Arc<tokio::sync::Mutex<()>>,
    ledger: Mutex<Ledger>,
    /// What the controller is waiting for, for people.
    waiting: Mutex<String>,
}

/// The right to write the unit's record.
pub(crate) type Turn = OwnedMutexGuard<()>;

#[derive(Debug)]
struct Ledger {
    memory: Memory,
    /// The record as committed, as long as this server leads: nobody else changes phase, home or epoch then.
    committed: Option<Unit>,
    /// What is being written.
    writing: Option<UnitStatus>,
    /// How many writes have begun and ended: a record read across one of these moments may be the one before it.
    edges: u64,
}

impl UnitCell {
    pub(crate) fn new(memory: Memory) -> Self {
        let ledger = Ledger { memory, committed: None, writing: None, edges: 0 };
        Self { turn: Arc::default(), ledger: Mutex::new(ledger), waiting: Mutex::default() }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the right to write.
    pub(crate) async fn turn(&self) -> Turn {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// The right to write, unless somebody has it.
    pub(crate) fn try_turn(&self) -> Option<Turn> {
        Arc::clone(&self.turn).try_lock_owned().ok()
    }

    /// True if a later record than that one is known to be committed.
    pub(crate) fn is_beyond(&self, revision: Revision) -> bool {
        self.ledger().committed.as_ref().is_some_and(|committed| committed.revision > revision)
    }

    /// Decides; only for who has the turn, so nothing is being written. If that is to change the record, grants reckon
    /// with the change from here on.
    pub(crate) fn decide(&self, decide: impl FnOnce(&mut Memory) -> Decision) -> Decision {
        let mut ledger = self.ledger();
        let decision = decide(&mut ledger.memory);
        ledger.writing = match &decision {
            Decision::Change(change) => Some(change.status.clone()),
            Decision::Keep { .. } => None,
        };
        ledger.edges += u64::from(ledger.writing.is_some());
        decision
    }

    /// What was being written is committed, or certainly not; or nobody knows, then the record has to be read again.
    pub(crate) fn written(&self, committed: Option<Unit>) {
        let mut ledger = self.ledger();
        (ledger.committed, ledger.writing) = (committed, None);
        ledger.edges += 1;
    }

    /// If the record has to be read before a lease is granted: what [`Self::learn`] wants to know of when that began.
    pub(crate) fn reading(&self) -> Option<u64> {
        let ledger = self.ledger();
        ledger.committed.is_none().then_some(ledger.edges)
    }

    /// Takes in a record that was read from the store, unless a write has begun or ended since the reading began: then
    /// it may be of before that write, and would allow what the written one does not.
    pub(crate) fn learn(&self, record: &Unit, reading: u64) {
        let mut ledger = self.ledger();
        if ledger.committed.is_none() && ledger.edges == reading {
            ledger.committed = Some(record.clone());
        }
    }

    /// Takes in a record that was watched: it was committed at some time, so it counts only after an older one.
    pub(crate) fn follow(&self, record: &Unit) {
        let mut ledger = self.ledger();
        if ledger.committed.as_ref().is_some_and(|known| known.revision < record.revision) {
            ledger.committed = Some(record.clone());
        }
    }

    /// Grants a lease if the record allows it, and remembers that before anybody is told.
    pub(crate) fn grant(&self, dc: &DcId, epoch: Epoch, now_ms: u64) -> bool {
        let mut ledger = self.ledger();
        let Some(committed) = &ledger.committed else { return false };
        let after =
            ledger.writing.as_ref().map(|status| Unit { status: status.clone(), ..committed.clone() });
        let granted =
            may_grant(committed, dc, epoch) && after.is_none_or(|after| may_grant(&after, dc, epoch));
        if granted {
            ledger.memory.last_grant_ms = now_ms;
        }
        granted
    }

    pub(crate) fn waiting(&self) -> String {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True if it is something else than before.
    pub(crate) fn set_waiting(&self, why: &str) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let new = *waiting != why;
        if new {
            why.clone_into(&mut waiting);
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use dujiang_types::unit::Phase;
    use dujiang_unit::controller::Change;

    use super::*;
    use crate::fixture;

    const EPOCH: Epoch = Epoch(1);

    fn serving() -> Unit {
        let records = fixture::records();
        let mut unit = records.units.values().next().unwrap().clone();
        unit.status.phase = Phase::Serving;
        unit.status.epoch = EPOCH;
        unit
    }

    /// Begins to write the record with another phase.
    fn change(cell: &UnitCell, unit: &Unit, phase: Phase) {
        let status = UnitStatus { phase, ..unit.status.clone() };
        let change = Change { status, operations: Vec::new() };
        cell.decide(|_| Decision::Change(Box::new(change)));
    }

    #[test]
    fn a_lease_does_not_wait_for_a_change_that_leaves_it_and_is_refused_during_one_that_does_not() {
        let (cell, unit) = (UnitCell::new(Memory::new(0)), serving());
        let home = unit.status.home.clone();
        assert!(!cell.grant(&home, EPOCH, 10), "nothing is known to be committed");
        cell.learn(&unit, cell.reading().unwrap());
        assert!(cell.grant(&home, EPOCH, 20));
        assert!(!cell.grant(&fixture::dc("elsewhere"), EPOCH, 30));

        change(&cell, &unit, Phase::Holding { to: fixture::dc("elsewhere") });
        assert!(cell.grant(&home, EPOCH, 40), "it keeps its lease whether that is written or not");
        cell.written(Some(unit.clone()));
        change(&cell, &unit, Phase::Electing);
        assert!(!cell.grant(&home, EPOCH, 50), "it may be written already");
        cell.written(None);
        assert!(!cell.grant(&home, EPOCH, 60), "nobody knows whether it was");
        cell.decide(|memory| {
            assert_eq!(memory.last_grant_ms, 40, "decisions count from the last one granted");
            Decision::Keep { why: String::new() }
        });
    }

    #[test]
    fn a_record_read_late_does_not_replace_a_newer_one() {
        let (cell, mut unit) = (UnitCell::new(Memory::new(0)), serving());
        let (read, reading) = (unit.clone(), cell.reading().unwrap());
        unit.revision = Revision(unit.revision.0 + 1);
        unit.status.phase = Phase::Electing;
        cell.learn(&unit, reading);
        assert_eq!(cell.reading(), None);
        cell.learn(&read, reading);
        cell.follow(&read);
        assert!(!cell.grant(&read.status.home, EPOCH, 10));
        assert!(cell.is_beyond(read.revision) && !cell.is_beyond(unit.revision));
        unit.revision = Revision(unit.revision.0 + 1);
        cell.follow(&unit);
        assert!(!cell.is_beyond(unit.revision) && cell.is_beyond(read.revision));
    }

    #[test]
    fn a_record_read_across_a_write_of_unknown_outcome_allows_nothing() {
        let (cell, unit) = (UnitCell::new(Memory::new(0)), serving());
        let home = unit.status.home.clone();
        let before = cell.reading().unwrap();
        change(&cell, &unit, Phase::Electing);
        let during = cell.reading().unwrap();
        cell.written(None);
        for reading in [before, during] {
            cell.learn(&unit, reading);
            cell.follow(&unit);
            assert!(!cell.grant(&home, EPOCH, 10), "it may be of before the election");
        }
        cell.learn(&unit, cell.reading().unwrap());
        assert!(cell.grant(&home, EPOCH, 20), "it was read after the write, which has not taken effect");
    }
}
