//! No seed breaks an invariant. A failing one is named with the command that tells its story.

use std::sync::atomic::{AtomicU64, Ordering};

use dujiang_sim::{Options, Scenario, run, run_many};

/// Runs seeds of one scenario; they must also have done something worth checking.
fn hold(scenario: Scenario, seeds: u64) {
    let acknowledged = AtomicU64::new(0);
    let failed = run_many(1, seeds, &Options::new(scenario), |outcome| {
        acknowledged.fetch_add(outcome.acknowledged as u64, Ordering::Relaxed);
    });
    let name = format!("{scenario:?}").to_lowercase();
    if let Some(failed) = failed {
        let story = failed.violation.map_or_else(String::new, |v| format!("{}: {}", v.rule, v.story));
        let again = format!("cargo run -p dujiang-sim -- --scenario {name} --seed {} --trace", failed.seed);
        panic!("seed {} breaks {story}\n{again}", failed.seed);
    }
    assert!(acknowledged.into_inner() > seeds * 50, "hardly any write was acknowledged in {name}");
}

#[test]
fn calm_seeds_hold() {
    hold(Scenario::Calm, 200);
}

#[test]
fn seeds_with_moves_hold() {
    hold(Scenario::Moves, 300);
}

#[test]
fn seeds_with_crashes_hold() {
    hold(Scenario::Crashes, 600);
}

#[test]
fn seeds_with_partitions_hold() {
    hold(Scenario::Partitions, 500);
}

#[test]
fn seeds_with_everything_hold() {
    hold(Scenario::Everything, 600);
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
