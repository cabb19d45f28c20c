//! What a backup becomes before it may be a store again.
//!
//! Nothing in it is taken for the present. Units keep what they shall be and lose what was decided about them: their
//! epoch and home are learned from the agents (`dujiang_unit::controller::distrust`). Operations that were under way
//! then are over. And the store remembers that it was put back, so that a unit put anew is looked for first.

use std::collections::BTreeSet;

use bytes::Bytes;
use dujiang_store::backup::{Header, Saved};
use dujiang_store::{Entry, resources};
use dujiang_types::operation::{Operation, OperationSpec, OperationState, OperationStatus, Step, Work};
use dujiang_types::unit::Unit;
use dujiang_types::{Epoch, Kind, Resource, Revision, UnitId};
use dujiang_unit::controller::distrust;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::records::{at_work, split_key};
use crate::tokens;

/// Where a store says that it was put back. Not below `control/`, so that a backup of it says so, too.
pub const MARK: &str = "restored";
/// Revisions of a second: no store makes so many, so one that begins at the time of the clock is above all before it.
const REVISIONS_PER_SECOND_BITS: u32 = 20;
/// Revisions a store may have gone on since a backup at most, should the clock have been wrong: years of pulses.
const REVISIONS_SINCE_MAX: u64 = 1 << 32;

/// How a store was put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Restored {
    /// When (wall clock).
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// When what it was put back from was taken, or the same moment if that was the last member's own data.
    #[schema(value_type = String, format = DateTime)]
    pub taken_at: Timestamp,
    /// The revision of that.
    pub revision: Revision,
    /// Who asked for it.
    pub asked_by: String,
    /// Who else agreed, if anybody had to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
}

/// How a restore is ordered.
#[derive(Debug, Clone)]
pub struct Order {
    /// What is recorded of it.
    pub restored: Restored,
    /// What stands in the record of the operation.
    pub work: Work,
    /// Units that were deleted since and shall not come back.
    pub without: BTreeSet<UnitId>,
}

/// Why a backup cannot be put back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A record of it cannot be read or written.
    #[error("a record of the backup cannot be used")]
    Record(#[from] dujiang_store::Error),
    /// The unit to leave out is not in it.
    #[error("there is no unit {0} in the backup to leave out")]
    NoUnit(UnitId),
    /// The record of the restore itself cannot be written.
    #[error("the restore cannot be recorded")]
    Mark(#[source] serde_json::Error),
}

/// The revision a store begins at that is put back now: above every revision of the one it replaces, whatever that
/// was, so that whoever has seen those does not take the new for old.
pub fn first_revision(backup: Revision, now: Timestamp) -> Revision {
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    Revision((seconds << REVISIONS_PER_SECOND_BITS).max(backup.0 + REVISIONS_SINCE_MAX))
}

/// The order to put a backup back.
pub fn order(header: &Header, asked_by: &str, without: BTreeSet<UnitId>, now: Timestamp) -> Order {
    let restored = Restored {
        at: now,
        taken_at: header.taken_at,
        revision: header.revision,
        asked_by: asked_by.to_owned(),
        approved_by: None,
    };
    let work = Work::Restore { taken_at: header.taken_at, revision: header.revision };
    Order { restored, work, without }
}

/// The entries of the store that is to be, ascending by key.
pub fn entries(saved: &[Saved], order: &Order) -> Result<Vec<(String, Bytes)>, RestoreError> {
    let unit_of = |key: &str| match split_key(key) {
        Some((Kind::Unit, name)) => UnitId::new(name).ok(),
        _ => None,
    };
    let known: BTreeSet<UnitId> = saved.iter().filter_map(|saved| unit_of(&saved.key)).collect();
    if let Some(unit) = order.without.difference(&known).next() {
        return Err(RestoreError::NoUnit(unit.clone()));
    }
    let mut entries = Vec::with_capacity(saved.len() + 2);
    let forgotten = |key: &str| key == MARK || key.starts_with(tokens::PREFIX);
    let left_out =
        |key: &str| forgotten(key) || unit_of(key).is_some_and(|unit| order.without.contains(&unit));
    for saved in saved.iter().filter(|saved| !left_out(&saved.key)) {
        entries.push((saved.key.clone(), value(saved, order)?));
    }
    let operation = record(order);
    entries.push((operation.kind.key(&operation.name), resources::encode(&operation)?));
    let mark = serde_json::to_vec(&order.restored).map_err(RestoreError::Mark)?;
    entries.push((MARK.to_owned(), mark.into()));
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(entries)
}

fn value(saved: &Saved, order: &Order) -> Result<Bytes, RestoreError> {
    let value = Bytes::copy_from_slice(saved.value.as_bytes());
    let key = saved.key.clone();
    let entry = Entry { key, value, revision: saved.revision, created: saved.revision, lease: None };
    let at = order.restored.at;
    let when = format!("the store was put back to revision {}", order.restored.revision);
    match split_key(&saved.key) {
        Some((Kind::Unit, _)) => {
            let unit: Unit = resources::decode(&entry)?;
            let reason =
                format!("{when}; then it was in {} under epoch {}", unit.status.home, unit.status.epoch);
            let status = distrust(&unit.spec, &unit.status, reason, at);
            Ok(resources::encode(&Resource { status, ..unit })?)
        }
        Some((Kind::Operation, _)) => {
            let mut operation: Operation = resources::decode(&entry)?;
            if at_work(&operation) {
                operation.status.state = OperationState::Failed;
                operation.status.steps.push(step(
                    "failed",
                    at,
                    format!("{when}: what became of it is not known"),
                ));
            }
            Ok(resources::encode(&operation)?)
        }
        _ => Ok(entry.value),
    }
}

/// The record of the restore itself.
fn record(order: &Order) -> Operation {
    let Restored { at, asked_by, approved_by, .. } = &order.restored;
    let verb = match order.work {
        Work::Recover { .. } => "recover",
        _ => "restore",
    };
    let mut steps = vec![step("requested", *at, format!("asked for by {asked_by}"))];
    if let Some(name) = approved_by {
        steps.push(step("approved", *at, format!("approved by {name}")));
    }
    for unit in &order.without {
        steps.push(step("left out", *at, format!("{unit} was deleted since, says {asked_by}")));
    }
    steps.push(step("done", *at, "units' homes and epochs are learned from the agents".to_owned()));
    Resource {
        kind: Kind::Operation,
        name: format!("{verb}-store-{}", at.as_second()),
        labels: std::collections::BTreeMap::new(),
        revision: Revision(0),
        spec: OperationSpec { work: order.work.clone(), asked_by: asked_by.clone() },
        status: OperationStatus { state: OperationState::Succeeded, steps, approval: None },
    }
}

fn step(name: &str, at: Timestamp, reason: String) -> Step {
    Step { name: name.to_owned(), at, epoch: Epoch(0), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::records::Records;
    use dujiang_store::Listing;
    use dujiang_store::backup::Content;
    use dujiang_types::unit::Phase;
    use dujiang_unit::controller::UNKNOWN;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn saved() -> Vec<Saved> {
        let records = fixture::records();
        let mut units: Vec<Unit> = records.units.into_values().collect();
        units[0].status.phase = Phase::Serving;
        units[0].status.epoch = Epoch(7);
        let mut entries: Vec<Entry> = Vec::new();
        let mut add = |key: String, value: Bytes| {
            entries.push(Entry { key, value, revision: Revision(3), created: Revision(3), lease: None });
        };
        for unit in &units {
            add(unit.kind.key(&unit.name), resources::encode(unit).unwrap());
        }
        let mut running = record(&an_order(&[]));
        running.name = "move-1".to_owned();
        running.status.state = OperationState::Running;
        add(running.kind.key(&running.name), resources::encode(&running).unwrap());
        add(tokens::key("t-1"), Bytes::from_static(b"{}"));
        Content::of(&Listing { entries, revision: Revision(9) }).unwrap().entries
    }

    fn an_order(without: &[&str]) -> Order {
        let restored = Restored {
            at: NOW,
            taken_at: Timestamp::UNIX_EPOCH,
            revision: Revision(9),
            asked_by: "ann".to_owned(),
            approved_by: None,
        };
        let work = Work::Restore { taken_at: Timestamp::UNIX_EPOCH, revision: Revision(9) };
        Order { restored, work, without: without.iter().map(|unit| UnitId::new(*unit).unwrap()).collect() }
    }

    fn records(entries: Vec<(String, Bytes)>) -> Records {
        let entry =
            |(key, value)| Entry { key, value, revision: Revision(1), created: Revision(1), lease: None };
        Records::of(&Listing { entries: entries.into_iter().map(entry).collect(), revision: Revision(1) })
    }

    #[test]
    fn nothing_of_a_backup_is_taken_for_the_present() {
        let entries = entries(&saved(), &an_order(&[])).unwrap();
        assert!(
            entries.iter().all(|(key, _)| !key.starts_with(tokens::PREFIX)),
            "one may have been used since"
        );
        let records = records(entries);
        assert!(records.broken.is_empty(), "{:?}", records.broken);
        assert!(!records.units.is_empty());
        for unit in records.units.values() {
            assert_eq!((unit.status.epoch, &unit.status.phase), (UNKNOWN, &Phase::Electing), "{}", unit.name);
        }
        assert!(records.operations.is_empty(), "what was under way is over");
        assert_eq!(records.restored.unwrap().asked_by, "ann");
    }

    #[test]
    fn what_was_deleted_since_is_left_out_by_name_only() {
        let with = records(entries(&saved(), &an_order(&[])).unwrap());
        let without = records(entries(&saved(), &an_order(&["unit-1"])).unwrap());
        assert_eq!(with.units.len(), without.units.len() + 1);
        assert!(matches!(entries(&saved(), &an_order(&["unit-9"])), Err(RestoreError::NoUnit(_))));
    }

    #[test]
    fn revisions_never_fall() {
        let later = Timestamp::constant(1_800_000_001, 0);
        let first = first_revision(Revision(1_000), NOW);
        assert!(first_revision(Revision(1_000), later) > first, "the same backup again");
        assert!(first_revision(first, NOW).0 >= first.0 + REVISIONS_SINCE_MAX, "the clock stands still");
        assert!(first_revision(Revision(1_000), Timestamp::UNIX_EPOCH).0 > 1_000, "the clock is wrong");
        assert!(first.0 < 1 << 53, "JSON readers may know no larger numbers");
    }
}
