//! Units of a store that was put back from a backup.

use dujiang_unit::controller::{UNKNOWN, distrust};

use super::*;

/// What it is, what is reported, and the epoch and home that follow.
type RestoredCase<'a> = (&'a str, Vec<(&'a str, ReplicaReport)>, Option<(u64, &'a str)>);

/// A replica as its agent reports it after a restore.
fn after_restore(state: ReplicaState, primary_epoch: Option<u64>, seen: u64) -> ReplicaReport {
    let position = Some(at(u32::try_from(seen).unwrap() + 1, 90));
    ReplicaReport { epoch_seen: Epoch(seen), ..report(state, primary_epoch, position) }
}

fn empty(seen: u64) -> ReplicaReport {
    let state = ReplicaState::Stopped { sealed: None };
    ReplicaReport { data: DataState::Absent, ..after_restore(state, None, seen) }
}

/// The unit as a backup has it: in `a` under epoch 3.
fn restored() -> Unit {
    let old = unit(3, "a", Phase::Serving, vec![claim(3, "a", &["b"])]);
    let status = distrust(&old.spec, &old.status, "the store was restored".to_owned(), Timestamp::UNIX_EPOCH);
    Unit { status, ..old }
}

#[test]
fn a_restored_unit_waits_for_all_replicas_and_begins_above_all_they_have_seen() {
    let following = |seen| {
        let state = ReplicaState::Following { from: dc("b"), epoch: Epoch(seen), streaming: true };
        after_restore(state, None, seen)
    };
    let leading = |epoch: u64| {
        let state = ReplicaState::Primary {
            epoch: Epoch(epoch),
            open: true,
            confirmed: None,
            standbys: BTreeMap::new(),
        };
        after_restore(state, Some(epoch), epoch)
    };
    #[rustfmt::skip]
    let cases: Vec<RestoredCase> = vec![
        ("nobody is heard", vec![], None),
        ("one is not heard", vec![("a", following(5)), ("b", leading(5))], None),
        ("it has moved since", vec![("a", following(5)), ("b", leading(5)), ("c", following(5))], Some((7, "b"))),
        ("an election had begun", vec![("a", following(5)), ("b", leading(5)), ("c", following(6))], Some((8, "b"))),
        ("nothing has happened since", vec![("a", leading(3)), ("b", following(3)), ("c", following(3))], Some((5, "a"))),
        ("one has lost its disk", vec![("a", leading(4)), ("b", following(4)), ("c", empty(0))], Some((6, "a"))),
        ("all have lost what they had seen", vec![("a", empty(0)), ("b", empty(0)), ("c", empty(0))], Some((5, "a"))),
    ];
    for (what, reports, expected) in cases {
        let mut bench = Bench::new(restored());
        for (name, report) in reports {
            bench.reports.insert(dc(name), Seen { report, age_ms: 0 });
        }
        let status = match (bench.decides(), expected) {
            (Decision::Keep { .. }, None) => continue,
            (Decision::Change(change), Some(_)) => change.status,
            (decision, _) => panic!("{what}: {decision:?}"),
        };
        let (epoch, home) = expected.unwrap();
        assert_eq!(
            (status.epoch, &status.home, &status.phase),
            (Epoch(epoch), &dc(home), &Phase::Electing),
            "{what}"
        );
        let [claim] = &status.claims[..] else { panic!("{what}: {:?}", status.claims) };
        assert_eq!((claim.epoch, &claim.set), (Epoch(epoch - 2), &set(&["a", "b", "c"], 1)), "{what}");
    }
}

#[test]
fn a_replica_that_cannot_be_read_is_not_an_empty_one() {
    let mut bench = Bench::new(restored());
    for name in ["a", "b", "c"] {
        let report = ReplicaReport { state: ReplicaState::Starting, ..empty(0) };
        bench.reports.insert(dc(name), Seen { report, age_ms: 0 });
    }
    assert!(matches!(bench.decides(), Decision::Keep { .. }));
}

#[test]
fn a_record_behind_what_an_agent_has_seen_is_not_acted_on() {
    let mut bench = Bench::new(unit(3, "a", Phase::Serving, vec![claim(3, "a", &["b"])]));
    let stopped = ReplicaState::Stopped { sealed: None };
    bench.reports.insert(dc("a"), Seen { report: after_restore(stopped, Some(3), 4), age_ms: 60_000 });
    let Decision::Change(change) = bench.decides() else { panic!("it is kept") };
    assert_eq!(change.status.epoch, UNKNOWN);
    assert!(!dujiang_unit::lease::may_grant(
        &Unit { status: change.status, ..bench.unit.clone() },
        &dc("a"),
        Epoch(0)
    ));
}

#[test]
fn a_unit_that_was_never_made_is_made() {
    let young = unit(1, "a", Phase::Forming, vec![claim(1, "a", &[])]);
    let status = distrust(&young.spec, &young.status, String::new(), Timestamp::UNIX_EPOCH);
    let mut bench = Bench::new(Unit { status, ..young });
    for name in ["a", "b", "c"] {
        bench.reports.insert(dc(name), Seen { report: empty(1), age_ms: 0 });
    }
    let Decision::Change(change) = bench.decides() else { panic!("it is kept") };
    assert_eq!((change.status.epoch, change.status.phase), (Epoch(1), Phase::Forming));
}

#[test]
fn a_restored_unit_whose_replicas_are_lost_goes_on_with_those_that_are_left_by_order_of_two() {
    let mut bench = Bench::new(restored());
    let home = ReplicaState::Stopped { sealed: None };
    bench.hears("a", after_restore(home, Some(3), 3));
    bench.keeps("b, c must report first");
    assert!(bench.forcible("b").unwrap_err().to_string().starts_with("target-ready: b is not heard"));
    // The replica that is left may be the one that led last.
    assert!(bench.forcible("a").unwrap().contains("b, c may know"));
    bench.unit.status = force(&bench.unit, &dc("a"), OperationId::new("force-1").unwrap());
    assert!(bench.forcible("a").unwrap_err().to_string().starts_with("one-operation"));
    let change = bench.changes(&Phase::Electing);
    assert_eq!((change.status.epoch, change.status.home.clone()), (Epoch(5), dc("a")));
    let told: Vec<_> = change.operations.iter().map(|effect| (effect.id.as_str(), effect.state)).collect();
    assert_eq!(told, [("force-1", OperationState::Running)], "the order tells the whole story");
    bench.hears("a", detached(5, Some(3), at(4, 90)));
    bench.passes(bench.timing.lease_ms + bench.timing.margin_ms + 1, &["b", "c"]);
    let change = bench.changes(&Phase::Promoting { from: dc("a") });
    assert_eq!(change.status.home, dc("a"));
    // With everybody there nothing is to be forced.
    let mut bench = Bench::new(restored());
    for name in ["a", "b", "c"] {
        bench.hears(name, after_restore(ReplicaState::Stopped { sealed: None }, None, 3));
    }
    assert!(bench.forcible("a").unwrap_err().to_string().starts_with("nothing-lost"));
}
