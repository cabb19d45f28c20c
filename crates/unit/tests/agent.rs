//! What an agent does next, as a table of situations.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;

use dujiang_types::api::PromiseRequest;
use dujiang_types::report::{DataState, ReplicaState};
use dujiang_types::unit::{Claim, Durability, Phase, SyncSet, Unit, UnitSpec, UnitStatus};
use dujiang_types::{AppId, DcId, Epoch, Kind, Lsn, Position, Revision, UnitId};
use dujiang_unit::Timing;
use dujiang_unit::agent::{
    Action, AgentView, Data, Local, PROMOTE, Process, next, renewal, report, vouchers,
};
use dujiang_unit::lease::{Held, Promises};
use jiff::Timestamp;

const NOW_MS: u64 = 10_000;

fn dc(name: &str) -> DcId {
    DcId::new(name).unwrap()
}

fn set(members: &[&str]) -> SyncSet {
    SyncSet { members: members.iter().map(|m| dc(m)).collect(), need: 1 }
}

fn unit(epoch: u64, home: &str, phase: Phase) -> Unit {
    let claim = Claim { epoch: Epoch(epoch), primary: dc(home), set: set(&["b", "c"]) };
    Unit {
        kind: Kind::Unit,
        name: "unit-1".to_owned(),
        labels: BTreeMap::new(),
        revision: Revision(7),
        spec: UnitSpec {
            application: AppId::new("bank").unwrap(),
            home: dc("a"),
            replicas: ["a", "b", "c"].iter().map(|d| dc(d)).collect(),
            slots: Vec::new(),
            durability: Durability::Zero,
            port: 5401,
        },
        status: UnitStatus {
            epoch: Epoch(epoch),
            home: dc(home),
            phase,
            claims: vec![claim],
            operation: None,
            forced: None,
            last_failover: None,
            reason: "as decided".to_owned(),
            since: Timestamp::UNIX_EPOCH,
            conditions: Vec::new(),
        },
    }
}

fn local(epoch_seen: u64, primary_epoch: Option<u64>, process: Process) -> Local {
    Local {
        epoch_seen: Epoch(epoch_seen),
        primary_epoch: primary_epoch.map(Epoch),
        data: Data::Present,
        process,
        diverged: false,
        starved: false,
        busy: None,
    }
}

fn primary(epoch: u64, open: bool, applied: Option<SyncSet>, confirmed: Option<SyncSet>) -> Process {
    let standbys = BTreeMap::new();
    Process::Primary {
        epoch: Epoch(epoch),
        open,
        applied,
        confirmed,
        standbys,
        position: None,
        healthy: true,
    }
}

fn serving_primary(epoch: u64) -> Process {
    primary(epoch, true, Some(set(&["b", "c"])), Some(set(&["b", "c"])))
}

fn standby(upstream: Option<&str>, receiving: bool) -> Process {
    let position = Some(Position { timeline: 2, flushed: Lsn(90) });
    Process::Standby { upstream: upstream.map(dc), receiving, streaming: receiving, position, replayed: None }
}

fn stopped() -> Process {
    Process::Stopped { sealed: None }
}

struct Given {
    at: &'static str,
    unit: Option<Unit>,
    local: Local,
    lease: Option<Held>,
    promises: Promises,
}

impl Given {
    fn new(at: &'static str, unit: Unit, local: Local) -> Self {
        let lease = Held { epoch: unit.status.epoch, until_ms: NOW_MS + 1_000 };
        Self {
            at,
            unit: Some(unit),
            local,
            lease: Some(lease),
            promises: Promises::after_start(0, &Timing::default()),
        }
    }

    fn lease(mut self, lease: Option<(u64, u64)>) -> Self {
        self.lease = lease.map(|(epoch, until_ms)| Held { epoch: Epoch(epoch), until_ms });
        self
    }

    fn promised(mut self) -> Self {
        self.promises = Promises::after_start(NOW_MS, &Timing::default());
        self
    }

    fn local(mut self, change: impl FnOnce(&mut Local)) -> Self {
        change(&mut self.local);
        self
    }

    fn with<R>(&self, look: impl FnOnce(&AgentView) -> R) -> R {
        let dc = dc(self.at);
        look(&AgentView {
            dc: &dc,
            unit: self.unit.as_ref(),
            local: &self.local,
            lease: self.lease,
            promises: self.promises,
            now_ms: NOW_MS,
        })
    }
}

#[test]
fn what_an_agent_does_next() {
    use Action::{Clone, Detach, Follow, Init, Open, Promote, Rewind, Seal, SetSync, Start, StopNow};
    let serving = || unit(2, "a", Phase::Serving);
    let electing = || unit(3, "a", Phase::Electing);
    let promoting = || unit(3, "b", Phase::Promoting { from: dc("a") });
    let sealing = || unit(2, "a", Phase::Sealing { to: dc("b") });
    let forming = || unit(1, "a", Phase::Forming);
    let full = || set(&["b", "c"]);
    let promote = |epoch: u64| Some(Promote { epoch: Epoch(epoch), set: full() });
    let follow_a = || Some(Follow { from: dc("a") });
    let clone_a = || Some(Clone { from: dc("a") });
    let standby_a = || standby(Some("a"), true);
    #[rustfmt::skip]
    let cases: Vec<(&str, Given, Option<Action>)> = vec![
        // The lease comes before everything else.
        ("a primary without a lease stops", Given::new("a", serving(), local(2, Some(2), serving_primary(2))).lease(None), Some(StopNow)),
        ("a primary whose lease is over stops", Given::new("a", serving(), local(2, Some(2), serving_primary(2))).lease(Some((2, NOW_MS))), Some(StopNow)),
        ("a lease of another epoch is none", Given::new("a", serving(), local(2, Some(2), serving_primary(2))).lease(Some((1, NOW_MS + 9))), Some(StopNow)),
        ("a leased primary goes on without any record", Given { unit: None, ..Given::new("a", serving(), local(2, Some(2), serving_primary(2))) }, None),
        // An older record is no record.
        ("a record of a lower epoch is ignored", Given::new("b", serving(), local(3, None, stopped())), None),
        // Forming.
        ("nothing there: init", Given::new("a", forming(), local(1, None, stopped())).local(|l| l.data = Data::Absent), Some(Init)),
        ("made: start", Given::new("a", forming(), local(1, None, stopped())), Some(Start)),
        ("started: promote", Given::new("a", forming(), local(1, None, standby(None, false))), promote(1)),
        ("others clone", Given::new("b", forming(), local(1, None, stopped())).local(|l| l.data = Data::Absent), clone_a()),
        // Serving, at home.
        ("all well", Given::new("a", serving(), local(2, Some(2), serving_primary(2))), None),
        ("the record has another sync set", Given::new("a", serving(), local(2, Some(2), primary(2, true, Some(set(&["b"])), Some(set(&["b"]))))), Some(SetSync { set: full() })),
        ("named but not confirmed", Given::new("a", serving(), local(2, Some(2), primary(2, true, Some(full()), None))), Some(SetSync { set: full() })),
        ("confirmed: open", Given::new("a", serving(), local(2, Some(2), primary(2, false, Some(full()), Some(full())))), Some(Open)),
        ("never open before", Given::new("a", promoting(), local(3, Some(2), primary(2, false, Some(full()), None))).lease(Some((2, NOW_MS + 9))), Some(StopNow)),
        ("an epoch's primary runs once", Given::new("a", serving(), local(2, Some(2), stopped())), None),
        // Serving, elsewhere.
        ("an old primary stops", Given::new("b", serving(), local(1, Some(1), serving_primary(1))).lease(Some((1, NOW_MS + 9))), Some(StopNow)),
        ("follow the home", Given::new("b", serving(), local(2, None, standby(None, false))), follow_a()),
        ("change over to the home", Given::new("b", serving(), local(2, None, standby(Some("c"), true))), follow_a()),
        ("following is enough", Given::new("b", serving(), local(2, None, standby_a())), None),
        ("half made: clone again", Given::new("b", serving(), local(2, None, stopped())).local(|l| l.data = Data::Broken), clone_a()),
        ("diverged: rewind", Given::new("b", serving(), local(2, Some(1), standby_a())).local(|l| l.diverged = true), Some(Rewind { from: dc("a") })),
        ("diverged, but the home has no confirmed copy yet: keep the data", Given::new("c", promoting(), local(3, Some(1), standby(Some("b"), true))).local(|l| l.diverged = true), Some(Clone { from: dc("b") })),
        ("starved: clone", Given::new("b", serving(), local(2, None, standby_a())).local(|l| l.starved = true), clone_a()),
        ("one thing at a time", Given::new("b", serving(), local(2, None, stopped())).local(|l| l.busy = Some("clone")), None),
        // Sealing.
        ("the home seals", Given::new("a", sealing(), local(2, Some(2), serving_primary(2))), Some(Seal)),
        ("and stays stopped", Given::new("a", sealing(), local(2, Some(2), stopped())), None),
        ("the target goes on following", Given::new("b", sealing(), local(2, None, standby_a())), None),
        // Electing.
        ("the old primary stops", Given::new("a", electing(), local(3, Some(2), serving_primary(2))).lease(Some((2, NOW_MS + 9))), Some(StopNow)),
        ("and stands as a standby", Given::new("a", electing(), local(3, Some(2), stopped())), Some(Start)),
        ("a standby detaches", Given::new("b", electing(), local(3, None, standby_a())), Some(Detach)),
        ("a receiver that lingers too", Given::new("b", electing(), local(3, None, standby(None, true))), Some(Detach)),
        ("detached: wait", Given::new("b", electing(), local(3, None, standby(None, false))), None),
        // Promoting.
        ("the winner is promoted", Given::new("b", promoting(), local(3, None, standby(None, false))), promote(3)),
        ("not without a lease", Given::new("b", promoting(), local(3, None, standby(None, false))).lease(None), None),
        ("not behind a promise", Given::new("b", promoting(), local(3, None, standby(None, false))).promised(), None),
        ("not while it receives", Given::new("b", promoting(), local(3, None, standby_a())), Some(Detach)),
        ("not twice", Given::new("b", promoting(), local(3, Some(3), standby(None, false))), None),
        ("a promotion under way is left alone", Given::new("b", promoting(), local(3, Some(3), serving_primary(2))).local(|l| l.busy = Some(PROMOTE)), None),
        ("the others follow it", Given::new("c", promoting(), local(3, None, standby(None, false))), Some(Follow { from: dc("b") })),
    ];
    for (what, given, expected) in cases {
        let step = given.with(next);
        assert_eq!(step.action, expected, "{what}: {}", step.why);
        assert!(!step.why.is_empty(), "{what}: says no why");
    }
}

#[test]
fn leases_are_asked_for_by_the_well_and_the_chosen() {
    let serving = || unit(2, "a", Phase::Serving);
    let well = Given::new("a", serving(), local(2, Some(2), serving_primary(2)));
    assert_eq!(well.with(renewal), Some(Epoch(2)));
    assert_eq!(well.with(vouchers).unwrap().len(), 2);
    let mut sick = Given::new("a", serving(), local(2, Some(2), serving_primary(2)));
    if let Process::Primary { healthy, .. } = &mut sick.local.process {
        *healthy = false;
    }
    assert_eq!((sick.with(renewal), sick.with(vouchers)), (None, None));
    let promoting = || unit(3, "b", Phase::Promoting { from: dc("a") });
    assert_eq!(
        Given::new("b", promoting(), local(3, None, standby(None, false))).with(renewal),
        Some(Epoch(3))
    );
    assert_eq!(Given::new("b", promoting(), local(3, Some(3), standby(None, false))).with(renewal), None);
    assert_eq!(Given::new("c", promoting(), local(3, None, standby(None, false))).with(renewal), None);
}

#[test]
fn reports_never_claim_more_than_is_known() {
    let electing = unit(3, "a", Phase::Electing);
    let lingering = Given::new("b", electing.clone(), local(3, None, standby(None, true)));
    let said = lingering.with(|view| report(view, ""));
    assert_eq!((said.state, said.position), (ReplicaState::Starting, None));
    let detached = Given::new("b", electing.clone(), local(3, None, standby(None, false)));
    let said = detached.with(|view| report(view, ""));
    assert_eq!(said.state, ReplicaState::Detached { epoch: Epoch(3) });
    assert_eq!(said.revision, Revision(7));
    // Before the record's epoch is durably seen, nothing is said about having acted on it.
    let not_yet = Given::new("b", electing, local(2, None, standby(None, false)));
    let said = not_yet.with(|view| report(view, ""));
    assert_eq!((said.state, said.revision), (ReplicaState::Detached { epoch: Epoch(2) }, Revision(0)));
    // Between the note of the promotion and its end nothing is said that could be taken for a failed one.
    let promoting = unit(3, "b", Phase::Promoting { from: dc("a") });
    let halfway =
        Given::new("b", promoting, local(3, Some(3), standby(None, false))).local(|l| l.busy = Some(PROMOTE));
    assert_eq!(halfway.with(|view| report(view, "")).state, ReplicaState::Starting);
    assert_eq!(halfway.with(renewal), Some(Epoch(3)));
    let broken = Given::new("b", unit(2, "a", Phase::Serving), local(2, None, stopped()))
        .local(|l| l.data = Data::Broken);
    assert_eq!(broken.with(|view| report(view, "")).data, DataState::Absent);
}

#[test]
fn a_promise_outlasts_what_was_asked_for_by_the_margin() {
    let timing = Timing::default();
    let record = unit(2, "a", Phase::Serving);
    let ask = |epoch, ttl_ms| PromiseRequest {
        unit: UnitId::new("unit-1").unwrap(),
        epoch: Epoch(epoch),
        dc: dc("a"),
        ttl_ms,
    };
    let mut promises = Promises::after_start(0, &timing);
    for (what, unit, ask) in [
        ("unknown unit", None, ask(2, 100)),
        ("another epoch", Some(&record), ask(1, 100)),
        ("too long", Some(&record), ask(2, timing.lease_ms + 1)),
        ("no longer at home there", Some(&unit(2, "b", Phase::Serving)), ask(2, 100)),
        ("an election", Some(&unit(2, "a", Phase::Electing)), ask(2, 100)),
    ] {
        assert!(!promises.ask(unit, &ask, &timing, NOW_MS).granted, "{what}");
        assert_eq!(promises.remaining_ms(NOW_MS), 0, "{what}");
    }
    assert!(promises.ask(Some(&record), &ask(2, timing.lease_ms), &timing, NOW_MS).granted);
    assert_eq!(promises.remaining_ms(NOW_MS), timing.lease_ms + timing.margin_ms);
}
