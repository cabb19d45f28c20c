//! The simulator bites: each planted bug is found within a bounded number of seeds, by an invariant it concerns.

use dujiang_sim::{Options, Sabotage, Scenario, liveness, run, run_many};

/// Seeds each planted bug must be found in; several times what they take.
const SEEDS_MAX: u64 = 1_500;

fn found(sabotage: Sabotage, scenario: Scenario, rules: &[&str]) -> u64 {
    let failed = run_many(1, SEEDS_MAX, &Options::new(scenario).with(sabotage), |_| {});
    let failed = failed.unwrap_or_else(|| panic!("{sabotage:?} went unnoticed in {SEEDS_MAX} seeds"));
    let violation = failed.violation.expect("a failure has a violation");
    assert!(
        rules.contains(&violation.rule),
        "found by another rule, {}: {}",
        violation.rule,
        violation.story
    );
    failed.seed
}

/// A unit that is stuck while a data center stays away, and recovers with it: found while it is stuck, and by
/// nothing that only looks at the end.
fn found_only_meanwhile(sabotage: Sabotage, scenario: Scenario) {
    let seed = found(sabotage, scenario, &[liveness::RULE]);
    let options = Options { liveness_at_end_only: true, ..Options::new(scenario).with(sabotage) };
    let violation = run(seed, &options).violation;
    assert!(violation.is_none(), "seed {seed} is found at the end, too: {violation:?}");
}

const ANSWERS: &[&str] = &["one database answers", "an election waits for the lease"];
const CLAIMS: &str = "the record claims no more than PostgreSQL does";
const COPIES: &str = "no acknowledged commit depends on one data center";
const LOSS: &str = "no acknowledged commit is lost";
const PROOF: &str = "what claims prove is complete";
const SPLIT: &str = "no split brain";

#[test]
fn skipping_the_lease_margin_is_found() {
    found(Sabotage::SkipMargin, Scenario::Everything, ANSWERS);
}

#[test]
fn relaxing_before_recording_is_found() {
    // The last: a paused machine that wakes up has a moment before its guard acts. Its primary of a past epoch can then
    // get nothing acknowledged, unless it waits for nobody.
    found(Sabotage::RelaxBeforeRecording, Scenario::Crashes, &[CLAIMS, COPIES, SPLIT]);
}

#[test]
fn promoting_by_replay_position_is_found() {
    found(Sabotage::ReplayPosition, Scenario::Crashes, &[LOSS]);
}

#[test]
fn forgetting_to_stop_receivers_is_found() {
    found(Sabotage::KeepReceivers, Scenario::Crashes, &["a detached replica stays as it was reported"]);
}

#[test]
fn taking_unknown_for_absent_is_found() {
    found(Sabotage::UnknownIsAbsent, Scenario::Partitions, ANSWERS);
}

#[test]
fn forgetting_grants_at_a_restart_is_found() {
    found(Sabotage::ForgetGrants, Scenario::Everything, ANSWERS);
}

#[test]
fn confirming_by_statistics_is_found() {
    found(Sabotage::ConfirmByStatistics, Scenario::Moves, &[CLAIMS, COPIES, PROOF]);
}

#[test]
fn trusting_a_cancelled_wait_is_found() {
    found(Sabotage::TrustCancelled, Scenario::Crashes, &[CLAIMS, COPIES]);
}

#[test]
fn answering_a_repeated_key_at_once_is_found() {
    found(Sabotage::ReplayAtOnce, Scenario::Partitions, &[CLAIMS, COPIES]);
}

#[test]
fn leading_an_epoch_twice_is_found() {
    found(Sabotage::LeadTwice, Scenario::Crashes, &["an epoch's primary runs once"]);
}

#[test]
fn electing_only_when_everybody_is_heard_is_found() {
    found_only_meanwhile(Sabotage::WaitForAll, Scenario::Crashes);
}

#[test]
fn holding_on_to_a_home_that_is_gone_is_found() {
    found_only_meanwhile(Sabotage::DetachIfReached, Scenario::Partitions);
}
