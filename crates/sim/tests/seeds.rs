//! No seed breaks an invariant. A failing one is named with the command that tells its story.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use dujiang_sim::{Options, Scenario, run, run_many};

/// How many seeds each scenario runs.
const COUNTS: [(Scenario, u64); 6] = [
    (Scenario::Calm, 200),
    (Scenario::Moves, 300),
    (Scenario::Crashes, 600),
    (Scenario::Partitions, 500),
    (Scenario::Everything, 600),
    (Scenario::Restored, 600),
];
/// Distinct seeds over all scenarios, at least.
const DISTINCT_MIN: u64 = 2_000;

/// The seeds of a scenario: those after the seeds of the scenarios before it, because the same seed in two
/// scenarios begins with the same choices and shows less than two seeds do.
fn seeds_of(scenario: Scenario) -> Range<u64> {
    let mut first = 1;
    for (other, count) in COUNTS {
        if other == scenario {
            return first..first + count;
        }
        first += count;
    }
    panic!("{scenario:?} has no seeds");
}

/// Runs the seeds of one scenario; they must also have done something worth checking.
fn hold(scenario: Scenario) {
    let Range { start, end } = seeds_of(scenario);
    let seeds = end - start;
    let (acknowledged, absences) = (AtomicU64::new(0), AtomicU64::new(0));
    let failed = run_many(start, seeds, &Options::new(scenario), |outcome| {
        acknowledged.fetch_add(outcome.acknowledged as u64, Ordering::Relaxed);
        absences.fetch_add(outcome.long_absence.into(), Ordering::Relaxed);
    });
    let name = format!("{scenario:?}").to_lowercase();
    if let Some(failed) = failed {
        let story = failed.violation.map_or_else(String::new, |v| format!("{}: {}", v.rule, v.story));
        let again = format!("cargo run -p dujiang-sim -- --scenario {name} --seed {} --trace", failed.seed);
        panic!("seed {} breaks {story}\n{again}", failed.seed);
    }
    assert!(acknowledged.into_inner() > seeds * 50, "hardly any write was acknowledged in {name}");
    // Without a data center that stays away, nothing shows that units go on without it.
    let enough = !scenario.breaks() || absences.into_inner() * 10 > seeds;
    assert!(enough, "hardly any data center stayed away for long in {name}");
}

#[test]
fn no_seed_is_run_by_two_scenarios() {
    let mut next = 1;
    for scenario in Scenario::ALL {
        let seeds = seeds_of(scenario);
        assert!(seeds.start == next && !seeds.is_empty(), "{scenario:?} runs {seeds:?}");
        next = seeds.end;
    }
    assert!(next > DISTINCT_MIN, "only {} distinct seeds are run", next - 1);
}

#[test]
fn calm_seeds_hold() {
    hold(Scenario::Calm);
}

#[test]
fn seeds_with_moves_hold() {
    hold(Scenario::Moves);
}

#[test]
fn seeds_with_crashes_hold() {
    hold(Scenario::Crashes);
}

#[test]
fn seeds_with_partitions_hold() {
    hold(Scenario::Partitions);
}

#[test]
fn seeds_with_everything_hold() {
    hold(Scenario::Everything);
}

#[test]
fn seeds_with_restored_stores_hold() {
    hold(Scenario::Restored);
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    for scenario in Scenario::ALL {
        let options = Options { trace: true, ..Options::new(scenario) };
        let (first, second) = (run(7, &options), run(7, &options));
        assert!(first.trace.len() > 20);
        assert!(first.trace == second.trace, "{scenario:?}: seed 7 took two different courses");
    }
}
