//! Whether a takeover would work: what is said of records, reports, and what an agent found.

use dujiang_types::readiness::{Aspect, Check, Promoted, ShownIdentity, Trial};
use dujiang_unit::agent::Process;
use dujiang_unit::readiness::{identities, may_try, takeover, trial};

use super::*;

/// A bench of which everything is known.
fn known() -> Bench {
    let mut bench = Bench::serving();
    let host = Host { cpus: 2, load_percent: 50, disk_free_bytes: 9 << 30, disk_bytes: 10 << 30 };
    bench.around = Surroundings {
        hosts: ["a", "b", "c"].map(|name| (dc(name), host)).into(),
        serving: Some(Serving { now: ["a", "b", "c"].map(dc).into(), of: 3 }),
        ..Surroundings::default()
    };
    bench
}

/// What stands in the way of a takeover by b.
fn wrong(bench: &Bench) -> Vec<(Aspect, String)> {
    let unit = UnitId::new("unit-1").unwrap();
    let takeover = takeover(&unit, &bench.view(), &Progress::default(), &dc("b"));
    assert_eq!(takeover.is_ready(), takeover.checks.iter().all(|check| check.holds));
    takeover
        .checks
        .into_iter()
        .filter(|check| !check.holds)
        .map(|check| (check.aspect, check.detail))
        .collect()
}

#[test]
fn all_that_is_well_is_ready_and_the_home_has_nothing_to_take_over() {
    assert_eq!(wrong(&known()), []);
    let unit = UnitId::new("unit-1").unwrap();
    let home = takeover(&unit, &known().view(), &Progress::default(), &dc("a"));
    assert!(home.home && home.checks.is_empty());
}

#[test]
fn whatever_is_not_well_or_not_known_is_told() {
    /// What is the matter, how it comes about, and what is told of it.
    type Case = (&'static str, fn(&mut Bench), &'static [(Aspect, &'static str)]);
    let cases: &[Case] = &[
        (
            "the unit is elsewhere",
            |bench| bench.unit.status.phase = Phase::Electing,
            &[(Aspect::Unit, "electing")],
        ),
        (
            "an operation is at work",
            |bench| bench.unit.status.operation = Some(OperationId::new("move-x").unwrap()),
            &[(Aspect::Unit, "move-x")],
        ),
        (
            "its agent is silent",
            |bench| bench.reports.get_mut(&dc("b")).unwrap().age_ms = 60_000,
            // Its member of the set is missing in any proof, too.
            &[
                (Aspect::Replica, "nothing current"),
                (Aspect::NothingLost, "commits of epoch 1 may be missing"),
            ],
        ),
        (
            "it is detached",
            |bench| bench.hears("b", detached(1, None, at(2, 90))),
            &[(Aspect::Replica, "does not follow")],
        ),
        (
            "its home does not see it",
            |bench| bench.hears("a", primary(1, &set(&["b", "c"], 1), &["c"])),
            &[(Aspect::Replica, "a does not stream to it")],
        ),
        (
            "it has left the sync set",
            |bench| {
                bench.unit.status.claims = vec![claim(1, "a", &["c"])];
                bench.hears("a", primary(1, &set(&["c"], 1), &["b", "c"]));
            },
            &[(Aspect::SyncSet, "a does not wait for it")],
        ),
        (
            "the set is only recorded",
            |bench| bench.hears("a", primary(1, &set(&["c"], 1), &["b", "c"])),
            &[(Aspect::SyncSet, "not confirmed")],
        ),
        (
            "another replica is silent, and the claims need it",
            |bench| bench.reports.get_mut(&dc("c")).unwrap().age_ms = 60_000,
            &[(Aspect::NothingLost, "1 more of c")],
        ),
        (
            "its gateway is silent",
            |bench| {
                bench.around.serving.as_mut().unwrap().now.remove(&dc("b"));
            },
            &[(Aspect::Site, "b does not serve")],
        ),
        (
            "its disk is full",
            |bench| bench.around.hosts.get_mut(&dc("b")).unwrap().disk_free_bytes = 1 << 20,
            &[(Aspect::Capacity, "1 MiB of disk free")],
        ),
        (
            "nothing is known of its host",
            |bench| {
                bench.around.hosts.remove(&dc("b"));
            },
            &[(Aspect::Capacity, "nothing is known")],
        ),
    ];
    for (what, change, expected) in cases {
        let mut bench = known();
        change(&mut bench);
        let found = wrong(&bench);
        assert_eq!(found.len(), expected.len(), "{what}: {found:?}");
        for ((aspect, detail), (wanted, words)) in found.iter().zip(*expected) {
            assert!(aspect == wanted && detail.contains(words), "{what}: {found:?}");
        }
    }
}

#[test]
fn identities_hold_and_are_renewed_in_time() {
    let at = |minute: i64| Timestamp::from_second(minute * 60).unwrap();
    let shown = |of: &str, renew_at: i64, not_after: i64| ShownIdentity {
        of: of.to_owned(),
        not_after: Some(at(not_after)),
        renew_at: Some(at(renew_at)),
        trouble: None,
    };
    let silent = ShownIdentity {
        not_after: None,
        renew_at: None,
        trouble: Some("connection refused".to_owned()),
        ..shown("database", 0, 0)
    };
    let judged = |shown: &[ShownIdentity], minute| {
        let Check { holds, detail, .. } = identities(shown, at(minute));
        (holds, detail)
    };
    let two = [shown("agent", 60, 120), shown("gateway", 50, 110)];
    assert_eq!(judged(&two, 10), (true, "2 hold; that of gateway runs out first, in 100 min".to_owned()));
    assert!(judged(&two, 79).0, "renewals are tried again and again");
    let (holds, why) = judged(&two, 81);
    assert!(!holds && why.contains("gateway: its identity was to be renewed"), "{why}");
    let (holds, why) = judged(&two, 130);
    assert!(!holds && why.contains("ran out"), "{why}");
    let (holds, why) = judged(&[two[0].clone(), silent], 10);
    assert!(!holds && why == "database: connection refused", "{why}");
    assert!(!judged(&[], 10).0, "nobody was seen");
}

#[test]
fn only_a_promoted_copy_speaks_for_a_takeover() {
    let done = Promoted { timeline: 3, bytes: 50 << 20, copied_ms: 1, started_ms: 2, promoted_ms: 300 };
    assert!(trial(&Trial::Promoted(done)).holds);
    let why = "no disk".to_owned();
    assert!(!trial(&Trial::Refused { why: why.clone() }).holds);
    assert!(trial(&Trial::Failed { why }).detail.contains("no disk"));
}

#[test]
fn a_copy_is_made_only_of_a_standby_that_streams_from_the_home_of_a_unit_that_serves() {
    let standby = |upstream: Option<&str>, streaming| Process::Standby {
        upstream: upstream.map(dc),
        receiving: true,
        streaming,
        position: Some(at(2, 90)),
        replayed: Some(Lsn(90)),
    };
    let bench = known();
    let may = |process: Option<Process>| may_try(&bench.unit, &dc("b"), process.as_ref());
    assert_eq!(may(Some(standby(Some("a"), true))), Ok(()));
    for other in
        [None, Some(standby(Some("a"), false)), Some(standby(Some("c"), true)), Some(standby(None, true))]
    {
        assert!(may(other).is_err());
    }
    assert!(may(Some(Process::Stopped { sealed: None })).is_err());
    let well = standby(Some("a"), true);
    assert!(may_try(&bench.unit, &dc("a"), Some(&well)).unwrap_err().contains("at home"));
    let moving = unit(2, "a", Phase::Holding { to: dc("b") }, vec![]);
    assert!(may_try(&moving, &dc("b"), Some(&well)).unwrap_err().contains("holding"));
}
