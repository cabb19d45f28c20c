//! Running seeds, one or many.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use clap::ValueEnum;
use dujiang_unit::Timing;

use crate::world::{Violation, World};

/// What kind of trouble a run is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Nothing breaks; clients write.
    Calm,
    /// Nothing breaks; units are moved.
    Moves,
    /// Processes, machines and data centers die, freeze and come back; disks hang; clocks drift.
    Crashes,
    /// Links are cut, lossy and slow; clocks drift.
    Partitions,
    /// All of it at once.
    Everything,
    /// As with crashes, and the store is replaced by a backup of an earlier moment.
    Restored,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Calm, Self::Moves, Self::Crashes, Self::Partitions, Self::Everything, Self::Restored];

    /// True if anything breaks.
    pub fn breaks(self) -> bool {
        self.crashes() || self.cuts()
    }

    /// True if processes and machines fail.
    pub fn crashes(self) -> bool {
        matches!(self, Self::Crashes | Self::Everything | Self::Restored)
    }

    /// True if the network fails.
    pub fn cuts(self) -> bool {
        matches!(self, Self::Partitions | Self::Everything)
    }

    /// True if the store is replaced by a backup.
    pub fn restores(self) -> bool {
        self == Self::Restored
    }

    /// True if clocks run at different rates.
    pub fn drifts(self) -> bool {
        self.breaks()
    }

    /// True if some units are asynchronous.
    pub fn has_bounded_units(self) -> bool {
        self != Self::Calm
    }
}

/// A bug planted into the shells around the core, to show that the invariants bite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sabotage {
    /// The control plane waits for a lease and not a moment longer.
    SkipMargin,
    /// A primary stops waiting for a lost standby before the record says so.
    RelaxBeforeRecording,
    /// Replicas report how far they have replayed as how far they reach.
    ReplayPosition,
    /// Agents call a replica detached although its receiver goes on.
    KeepReceivers,
    /// Whoever is not heard is taken to be stopped.
    UnknownIsAbsent,
    /// A control plane that starts does not allow for leases granted before.
    ForgetGrants,
    /// A sync set is called confirmed because `pg_stat_replication` says so.
    ConfirmByStatistics,
    /// An application takes a cancelled wait for a success.
    TrustCancelled,
    /// An application answers a repeated key at once when it finds the row.
    ReplayAtOnce,
    /// An agent forgets that it has led an epoch and leads it again.
    LeadTwice,
    /// The control plane ends no election while a data center is not heard.
    WaitForAll,
    /// An agent does not detach a replica from a home it cannot reach.
    DetachIfReached,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// What kind of trouble.
    pub scenario: Scenario,
    /// Keep a trace.
    pub trace: bool,
    /// The planted bug, if any.
    pub sabotage: Option<Sabotage>,
    /// Guards may be frozen too: then only the quorum is left to prevent a split brain.
    pub freezes_guards: bool,
    /// Whether units make progress is only looked at when everything is mended, to show what that misses.
    pub liveness_at_end_only: bool,
}

impl Options {
    /// A scenario without planted bugs.
    pub fn new(scenario: Scenario) -> Self {
        Self {
            scenario,
            trace: false,
            sabotage: None,
            freezes_guards: scenario == Scenario::Everything,
            // After a restore a unit waits for all of its replicas, which is known to take long.
            liveness_at_end_only: scenario == Scenario::Restored,
        }
    }

    /// The same with a planted bug.
    #[must_use]
    pub fn with(self, sabotage: Sabotage) -> Self {
        Self { sabotage: Some(sabotage), ..self }
    }

    /// True if that bug is planted.
    pub fn sabotages(&self, sabotage: Sabotage) -> bool {
        self.sabotage == Some(sabotage)
    }

    /// The budgets of the run.
    pub fn timing(&self) -> Timing {
        let timing = Timing::default();
        let margin_ms = if self.sabotages(Sabotage::SkipMargin) { 0 } else { timing.margin_ms };
        Timing { margin_ms, ..timing }
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// The first broken invariant.
    pub violation: Option<Violation>,
    /// What happened, if a trace was wanted.
    pub trace: Vec<String>,
    /// Distinct writes acknowledged.
    pub acknowledged: usize,
    /// Virtual time it took, in microseconds.
    pub time_us: u64,
    /// The highest epoch of any unit: how often homes changed.
    pub epoch: u64,
    /// The longest any unit took to serve while it could, in virtual microseconds.
    pub longest_wait_us: u64,
    /// A data center was planned to stay away for longer than that may take.
    pub long_absence: bool,
}

/// Runs one seed.
pub fn run(seed: u64, options: &Options) -> Outcome {
    let mut world = World::new(seed, options);
    world.run();
    Outcome {
        seed,
        violation: world.violation,
        trace: world.trace.into_lines(),
        acknowledged: (0..world.unit_count).map(|unit| world.checker.acknowledged(unit)).sum(),
        time_us: world.now,
        longest_wait_us: world.checker.liveness.longest,
        long_absence: world.plan.absence,
        epoch: (0..world.unit_count).map(|unit| world.control.unit(unit).status.epoch.0).max().unwrap_or(0),
    }
}

/// Runs `count` seeds from `first` on all cores, and stops at the first that breaks an invariant. Calls `each`
/// with every outcome, in no particular order. Returns the failure with the lowest seed found.
pub fn run_many(
    first: u64,
    count: u64,
    options: &Options,
    each: impl Fn(&Outcome) + Sync,
) -> Option<Outcome> {
    let next = AtomicU64::new(first);
    let end = first + count;
    let failed: Mutex<Option<Outcome>> = Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    let outcome = run(seed, options);
                    each(&outcome);
                    if outcome.violation.is_some() {
                        next.store(end, Ordering::Relaxed);
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        if failed.as_ref().is_none_or(|other| other.seed > seed) {
                            *failed = Some(outcome);
                        }
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner)
}
