//! Histories made by small databases: one that is right, and some that are wrong in ways databases have been.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use dujiang_history::{Anomaly, Outcome, Report, Step, Transaction, check};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// Lists in use.
const LISTS: u64 = 5;
/// From one commit to the next, in microseconds.
const APART_US: u64 = 1_000;
/// From when a transaction begins to its commit, and from there until its client knows, at most.
const AROUND_US: u64 = 4_000;
/// States that a takeover loses; some of them are only reads.
const LOST: usize = 12;
/// Transactions of a history in which a fault has to be found.
const MANY: usize = 300;

type State = BTreeMap<u64, Vec<u64>>;

/// How a database goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Reads see the state when the transaction began; who changes a list first wins it, and nothing else is checked.
    SnapshotIsolation,
    /// The same, and writers put back whole lists as they had read them.
    LastWriterWins,
    /// Some who only read see the state of a moment ago.
    StaleReplica,
    /// What a transaction does is seen before it fails.
    DirtyRead,
    /// A new primary takes over that lacks what was acknowledged last.
    LostTail,
    /// A repeated request is carried out again.
    DoneTwice,
}

/// A database with all its states.
struct Database {
    rng: StdRng,
    fault: Fault,
    /// When each state came about.
    states: Vec<(u64, State)>,
    next: u64,
}

impl Database {
    fn as_of(&self, at_us: u64) -> &State {
        let at = self.states.partition_point(|(since, _)| *since <= at_us);
        &self.states[at.max(1) - 1].1
    }

    fn draw(&mut self) -> Vec<Step> {
        let reads_only = self.rng.random_bool(0.4);
        let count = self.rng.random_range(1..=4);
        let mut steps = Vec::new();
        for _ in 0..count {
            let list = self.rng.random_range(0..LISTS);
            steps.push(if reads_only || self.rng.random_bool(0.5) {
                Step::Read { list, seen: None }
            } else {
                self.next += 1;
                Step::Append { list, element: self.next }
            });
        }
        steps
    }

    /// A transaction that commits at a time.
    fn transact(&mut self, number: usize, commit_us: u64) -> Transaction {
        let steps = self.draw();
        let began_us = commit_us - self.rng.random_range(0..AROUND_US);
        let ended_us = commit_us + self.rng.random_range(0..AROUND_US);
        let outcome = match self.rng.random_range(0..100) {
            0..6 => Outcome::Failed,
            6..14 => Outcome::Unknown,
            _ => Outcome::Done,
        };
        let mut transaction = Transaction { name: format!("t{number}"), steps, outcome, began_us, ended_us };
        let reads_only = transaction.steps.iter().all(|step| matches!(step, Step::Read { .. }));
        let snapshot_us = match self.fault {
            Fault::SnapshotIsolation | Fault::LastWriterWins => began_us,
            Fault::StaleReplica if reads_only && self.rng.random_bool(0.3) => {
                commit_us.saturating_sub(30_000)
            }
            _ => commit_us,
        };
        let snapshot = self.as_of(snapshot_us).clone();
        let now = self.states.last().unwrap().1.clone();
        let mut view = snapshot.clone();
        let mut changed = BTreeSet::new();
        for step in &mut transaction.steps {
            match step {
                Step::Append { list, element } => {
                    changed.insert(*list);
                    view.entry(*list).or_default().push(*element);
                }
                Step::Read { list, seen } => *seen = Some(view.get(list).cloned().unwrap_or_default()),
            }
        }
        let conflicts = changed.iter().any(|list| snapshot.get(list) != now.get(list));
        if self.fault == Fault::SnapshotIsolation && conflicts {
            transaction.outcome = Outcome::Failed;
        }
        let happens = match transaction.outcome {
            Outcome::Done => true,
            Outcome::Failed => self.fault == Fault::DirtyRead,
            Outcome::Unknown => self.rng.random_bool(0.5),
        };
        if happens {
            let mut next = now;
            for list in changed {
                next.insert(list, view[&list].clone());
            }
            self.apply_again(&transaction, &mut next);
            self.states.push((commit_us, next));
        }
        if transaction.outcome != Outcome::Done {
            forget(&mut transaction);
        }
        transaction
    }

    fn apply_again(&mut self, transaction: &Transaction, state: &mut State) {
        if self.fault != Fault::DoneTwice || !self.rng.random_bool(0.1) {
            return;
        }
        for step in &transaction.steps {
            if let Step::Append { list, element } = step {
                state.entry(*list).or_default().push(*element);
            }
        }
    }

    fn lose_tail(&mut self) {
        let keep = self.states.len().saturating_sub(LOST).max(1);
        let since = self.states.last().unwrap().0 + 1;
        let old = self.states[keep - 1].1.clone();
        self.states.push((since, old));
    }
}

/// Who was told nothing has seen nothing.
fn forget(transaction: &mut Transaction) {
    for step in &mut transaction.steps {
        if let Step::Read { seen, .. } = step {
            *seen = None;
        }
    }
}

fn history(seed: u64, count: usize, fault: Fault) -> Vec<Transaction> {
    let rng = StdRng::seed_from_u64(seed);
    let mut database = Database { rng, fault, states: vec![(0, State::new())], next: 0 };
    let mut at_us = 10 * AROUND_US;
    let mut history = Vec::new();
    for number in 0..count {
        at_us += APART_US;
        if fault == Fault::LostTail && number == count / 2 {
            database.lose_tail();
            at_us += APART_US;
        }
        history.push(database.transact(number, at_us));
    }
    // As every load does, read everything in the end.
    let at_us = at_us + 3 * AROUND_US;
    let last = database.states.last().unwrap().1.clone();
    let steps =
        (0..LISTS).map(|list| Step::Read { list, seen: Some(last.get(&list).cloned().unwrap_or_default()) });
    let (steps, outcome) = (steps.collect(), Outcome::Done);
    history.push(Transaction {
        name: "end".to_owned(),
        steps,
        outcome,
        began_us: at_us,
        ended_us: at_us + 1,
    });
    history
}

fn checked(seed: u64, fault: Fault) -> Report {
    check(&history(seed, MANY, fault)).unwrap()
}

fn kinds(report: &Report) -> BTreeSet<Anomaly> {
    report.findings.iter().map(|finding| finding.anomaly).collect()
}

/// Seeds each fault has to be found with.
const SEEDS: std::ops::Range<u64> = 0..20;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_one_database_did_one_after_the_other_is_never_wrong(seed: u64, count in 0..200_usize) {
        let report = check(&history(seed, count, Fault::None)).unwrap();
        prop_assert!(report.is_clean(), "{:#?}", report.findings);
    }
}

#[test]
fn snapshot_isolation_is_told_from_serializability_by_its_write_skew() {
    for seed in SEEDS {
        let kinds = kinds(&checked(seed, Fault::SnapshotIsolation));
        assert!(kinds.contains(&Anomaly::WriteSkew), "{seed}: {kinds:?}");
        // It has no other anomaly; given the time there are more circles of the same kind.
        let allowed = BTreeSet::from([Anomaly::WriteSkew, Anomaly::TimeContradicted]);
        assert!(kinds.is_subset(&allowed), "{seed}: {kinds:?}");
    }
}

#[test]
fn updates_that_overwrite_each_other_are_found() {
    let mut all = BTreeSet::new();
    for seed in SEEDS {
        let kinds = kinds(&checked(seed, Fault::LastWriterWins));
        assert!(!kinds.is_empty(), "{seed}");
        all.extend(kinds);
    }
    assert!(all.contains(&Anomaly::LostAppend) || all.contains(&Anomaly::IncompatibleOrder), "{all:?}");
}

#[test]
fn a_replica_that_lags_is_found_and_blamed_for_nothing_else() {
    for seed in SEEDS {
        let kinds = kinds(&checked(seed, Fault::StaleReplica));
        assert!(kinds.contains(&Anomaly::StaleRead), "{seed}: {kinds:?}");
        let allowed = BTreeSet::from([Anomaly::StaleRead, Anomaly::TimeContradicted]);
        assert!(kinds.is_subset(&allowed), "{seed}: {kinds:?}");
    }
}

#[test]
fn effects_of_what_failed_are_found() {
    for seed in SEEDS {
        let kinds = kinds(&checked(seed, Fault::DirtyRead));
        assert!(kinds.contains(&Anomaly::DirtyRead), "{seed}: {kinds:?}");
    }
}

#[test]
fn what_was_acknowledged_and_lost_in_a_takeover_is_found() {
    for seed in SEEDS {
        let kinds = kinds(&checked(seed, Fault::LostTail));
        let lost = [Anomaly::LostAppend, Anomaly::IncompatibleOrder, Anomaly::StaleRead];
        assert!(lost.iter().any(|kind| kinds.contains(kind)), "{seed}: {kinds:?}");
    }
}

#[test]
fn what_was_done_twice_is_found() {
    for seed in SEEDS {
        let kinds = kinds(&checked(seed, Fault::DoneTwice));
        assert!(kinds.contains(&Anomaly::Duplicate), "{seed}: {kinds:?}");
    }
}
