//! A home that acknowledges alone, by order of two operators.

use dujiang_unit::controller::{is_alone, provable, run_alone};

use super::*;

/// A unit of which only the home is left.
fn left_alone() -> Bench {
    let mut bench = Bench::serving();
    bench.hears("a", primary(1, &set(&["b", "c"], 1), &[]));
    bench.passes(bench.timing.member_lost_ms + 100, &["b", "c"]);
    bench.keeps("serving");
    bench
}

#[test]
fn a_home_that_is_left_alone_acknowledges_by_order_until_a_replica_is_back() {
    let mut bench = left_alone();
    assert!(is_alone(&bench.view()).unwrap().contains("no other replica streams from a"));
    bench.unit.status = run_alone(&bench.unit);
    let alone = Claim { set: set(&[], 0), ..claim(1, "a", &[]) };
    let both = vec![claim(1, "a", &["b", "c"]), alone.clone()];
    assert_eq!(bench.unit.status.claims, both, "recorded before, and beside what was claimed");
    bench.keeps("serving");
    bench.hears("a", primary(1, &alone.set, &[]));
    let change = bench.changes(&Phase::Serving);
    assert_eq!(change.status.claims, vec![alone]);
    let (state, why) = kept(&change.status);
    assert!(state == Tri::False && why.contains("nowhere else"), "{why}");
    // Nobody but the home can prove anything now.
    assert!(provable(&bench.view()).is_err());
    bench.keeps("serving");
    bench.hears("a", primary(1, &set(&[], 0), &["b"]));
    let change = bench.changes(&Phase::Serving);
    assert_eq!(change.status.claims.last().unwrap().set, set(&["b"], 1), "payments wait again");
    assert_eq!(change.status.claims.len(), 2);
    bench.keeps("serving");
    bench.hears("a", primary(1, &set(&["b"], 1), &["b"]));
    assert_eq!(bench.changes(&Phase::Serving).status.claims, vec![claim(1, "a", &["b"])]);
}

#[test]
fn nobody_is_ordered_to_acknowledge_alone_who_is_not() {
    let why = |bench: &Bench| is_alone(&bench.view()).unwrap_err().to_string();
    assert!(why(&Bench::serving()).starts_with("nothing-lost: b streams from a"));
    let mut bench = left_alone();
    bench.unit.spec.durability = Durability::Bounded;
    assert!(why(&bench).contains("as it is"));
    let mut bench = left_alone();
    bench.unit.status = run_alone(&bench.unit);
    assert!(why(&bench).contains("alone already"));
    assert!(why(&unprovable()).starts_with("target-ready: nothing current is known"));
    let mut bench = left_alone();
    bench.unit.status.phase = Phase::Electing;
    assert!(why(&bench).contains("electing"));
    // One that was forced serves as soon as it may acknowledge alone.
    let mut bench = ordered();
    bench.changes(&Phase::Electing);
    bench.hears("c", detached(2, None, at(2, 80)));
    bench.changes(&Phase::Promoting { from: dc("a") });
    let waits = ReplicaReport {
        state: ReplicaState::Primary {
            epoch: Epoch(2),
            open: false,
            confirmed: None,
            standbys: BTreeMap::new(),
        },
        ..primary(2, &set(&[], 1), &[])
    };
    bench.hears("c", waits);
    bench.keeps("c is being promoted");
    is_alone(&bench.view()).unwrap();
    bench.unit.status = run_alone(&bench.unit);
    bench.hears("c", primary(2, &set(&[], 0), &[]));
    bench.changes(&Phase::Promoting { from: dc("a") });
    let change = bench.changes(&Phase::Serving);
    assert_eq!(change.operations[0].state, OperationState::Succeeded);
}
