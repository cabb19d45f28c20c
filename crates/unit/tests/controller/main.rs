//! The controller's decisions as tables: a record, what is reported, what follows.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod alone;
mod readiness;
mod restored;

use std::collections::BTreeMap;

use dujiang_types::exposure::{Behind, Exposure, Host, Meter};
use dujiang_types::operation::{Operation, OperationSpec, OperationState, OperationStatus, Work};
use dujiang_types::report::{DataState, GatewayReport, ReplicaReport, ReplicaState, StandbyReport};
use dujiang_types::unit::{Claim, Durability, Phase, SyncSet, Unit, UnitSpec, UnitStatus};
use dujiang_types::{AppId, DcId, Epoch, Kind, Lsn, OperationId, Position, Revision, Tri, UnitId};
use dujiang_unit::Timing;
use dujiang_unit::controller::{Change, Decision, Memory, Seen, View, decide, force, forcible, refusal};
use dujiang_unit::exposure::{DURABILITY_KEPT, Progress, exposure};
use dujiang_unit::safety::{FLAPPING_WINDOW_S, MOVES_MAX, Refusal, Rule, Serving, Surroundings};
use jiff::Timestamp;

fn dc(name: &str) -> DcId {
    DcId::new(name).unwrap()
}

fn set(members: &[&str], need: u8) -> SyncSet {
    SyncSet { members: members.iter().map(|m| dc(m)).collect(), need }
}

fn claim(epoch: u64, primary: &str, members: &[&str]) -> Claim {
    Claim { epoch: Epoch(epoch), primary: dc(primary), set: set(members, 1) }
}

/// A unit of three replicas a, b, c at home in `home`.
fn unit(epoch: u64, home: &str, phase: Phase, claims: Vec<Claim>) -> Unit {
    Unit {
        kind: Kind::Unit,
        name: "unit-1".to_owned(),
        labels: BTreeMap::new(),
        revision: Revision(10),
        spec: UnitSpec {
            application: AppId::new("bank").unwrap(),
            home: dc("a"),
            replicas: ["a", "b", "c"].iter().map(|d| dc(d)).collect(),
            slots: vec!["0-16383".parse().unwrap()],
            durability: Durability::Zero,
            port: 5401,
        },
        status: UnitStatus {
            epoch: Epoch(epoch),
            home: dc(home),
            phase,
            claims,
            operation: None,
            forced: None,
            last_failover: None,
            reason: String::new(),
            since: Timestamp::UNIX_EPOCH,
            conditions: Vec::new(),
        },
    }
}

fn at(timeline: u32, flushed: u64) -> Position {
    Position { timeline, flushed: Lsn(flushed) }
}

fn report(state: ReplicaState, primary_epoch: Option<u64>, position: Option<Position>) -> ReplicaReport {
    ReplicaReport {
        revision: Revision(10),
        epoch_seen: Epoch(0),
        data: DataState::Present { primary_epoch: primary_epoch.map(Epoch) },
        state,
        position,
        replayed: position.map(|p| p.flushed),
        promised_ms: 0,
        note: String::new(),
    }
}

fn primary(epoch: u64, confirmed: &SyncSet, standbys: &[&str]) -> ReplicaReport {
    let standby = |name: &&str| (dc(name), StandbyReport { streaming: true, flushed: Lsn(90), lag_bytes: 0 });
    let state = ReplicaState::Primary {
        epoch: Epoch(epoch),
        open: true,
        confirmed: Some(confirmed.clone()),
        standbys: standbys.iter().map(standby).collect(),
    };
    report(state, Some(epoch), Some(at(2, 90)))
}

fn following(from: &str, epoch: u64, position: Position) -> ReplicaReport {
    report(
        ReplicaState::Following { from: dc(from), epoch: Epoch(epoch), streaming: true },
        None,
        Some(position),
    )
}

fn detached(epoch: u64, primary_epoch: Option<u64>, position: Position) -> ReplicaReport {
    report(ReplicaState::Detached { epoch: Epoch(epoch) }, primary_epoch, Some(position))
}

fn stopped(primary_epoch: u64, sealed: Option<Position>) -> ReplicaReport {
    report(ReplicaState::Stopped { sealed }, Some(primary_epoch), None)
}

/// A controller with its inputs, driven by hand.
struct Bench {
    unit: Unit,
    reports: BTreeMap<DcId, Seen<ReplicaReport>>,
    gateways: BTreeMap<DcId, Seen<GatewayReport>>,
    requested: Option<Operation>,
    around: Surroundings,
    memory: Memory,
    now_ms: u64,
    timing: Timing,
}

impl Bench {
    fn new(unit: Unit) -> Self {
        let now_ms = 1_000_000;
        Self {
            unit,
            reports: BTreeMap::new(),
            gateways: BTreeMap::new(),
            requested: None,
            around: Surroundings::default(),
            memory: Memory::new(now_ms),
            now_ms,
            timing: Timing::default(),
        }
    }

    /// A unit that serves in a under epoch 1, all replicas well.
    fn serving() -> Self {
        let mut bench = Self::new(unit(1, "a", Phase::Serving, vec![claim(1, "a", &["b", "c"])]));
        bench.hears("a", primary(1, &set(&["b", "c"], 1), &["b", "c"]));
        bench.hears("b", following("a", 1, at(2, 90)));
        bench.hears("c", following("a", 1, at(2, 80)));
        bench
    }

    /// The same unit after a has stopped in disorder: b has been elected, and is to be promoted under epoch 2.
    fn promoting() -> Self {
        let mut bench = Self::serving();
        bench.hears("a", stopped(1, None));
        bench.changes(&Phase::Electing);
        bench.hears("b", detached(2, None, at(2, 90)));
        bench.hears("c", detached(2, None, at(2, 80)));
        bench.changes(&Phase::Promoting { from: dc("a") });
        bench
    }

    /// The agent of `from` reports, having seen the current record.
    fn hears(&mut self, from: &str, mut report: ReplicaReport) {
        report.revision = self.unit.revision;
        self.reports.insert(dc(from), Seen { report, age_ms: 0 });
    }

    /// Time passes without a word from `silent`; everybody else repeats what was last said. What is decided
    /// meanwhile is not written.
    fn passes(&mut self, ms: u64, silent: &[&str]) {
        self.decides();
        for _ in 0..ms {
            self.now_ms += 1;
            for (_, seen) in self.reports.iter_mut().filter(|(dc, _)| silent.contains(&dc.as_str())) {
                seen.age_ms += 1;
            }
            if !silent.contains(&self.unit.status.home.as_str()) {
                self.memory.last_grant_ms = self.now_ms;
            }
            if self.now_ms.is_multiple_of(100) {
                self.decides();
            }
        }
    }

    fn view(&self) -> View<'_> {
        View {
            unit: &self.unit,
            reports: &self.reports,
            gateways: &self.gateways,
            requested: self.requested.as_ref(),
            around: &self.around,
            now_ms: self.now_ms,
            wall: Timestamp::from_millisecond(i64::try_from(self.now_ms).unwrap()).unwrap(),
            timing: &self.timing,
        }
    }

    fn decides(&mut self) -> Decision {
        let mut memory = self.memory.clone();
        let decision = decide(&self.view(), &mut memory);
        self.memory = memory;
        decision
    }

    fn refusal(&self, to: &str) -> Option<Refusal> {
        refusal(&self.view(), &dc(to))
    }

    fn forcible(&self, to: &str) -> Result<String, Refusal> {
        forcible(&self.view(), &dc(to))
    }

    fn exposed(&self, progress: &Progress) -> Exposure {
        exposure(&self.view(), progress)
    }

    #[track_caller]
    fn keeps(&mut self, because: &str) {
        match self.decides() {
            Decision::Keep { why } => assert!(why.contains(because), "kept, but because {why:?}"),
            Decision::Change(change) => panic!("changed: {}", change.status.reason),
        }
    }

    /// Takes the change over into the record, as the store would, and has everybody have seen it.
    #[track_caller]
    fn changes(&mut self, to: &Phase) -> Change {
        match self.decides() {
            Decision::Keep { why } => panic!("kept: {why}"),
            Decision::Change(change) => {
                assert_eq!(change.status.phase, *to, "{}", change.status.reason);
                self.unit.status = change.status.clone();
                self.unit.revision = Revision(self.unit.revision.0 + 1);
                for seen in self.reports.values_mut() {
                    seen.report.revision = self.unit.revision;
                }
                *change
            }
        }
    }

    fn asks_to_move(&mut self, to: &str) {
        let work = Work::Move { unit: UnitId::new("unit-1").unwrap(), to: dc(to) };
        self.requested = Some(Operation {
            kind: Kind::Operation,
            name: "move-1".to_owned(),
            labels: BTreeMap::new(),
            revision: Revision(1),
            spec: OperationSpec { work, asked_by: "li".to_owned() },
            status: OperationStatus { state: OperationState::Pending, steps: Vec::new(), approval: None },
        });
    }

    fn gateway(&mut self, at: &str, table: u64, in_flight: u64) {
        let in_flight = BTreeMap::from([(UnitId::new("unit-1").unwrap(), in_flight)]);
        let report = GatewayReport {
            table: Revision(table),
            in_flight,
            held: BTreeMap::new(),
            turns: BTreeMap::new(),
        };
        self.gateways.insert(dc(at), Seen { report, age_ms: 0 });
    }
}

#[test]
fn a_calm_unit_is_left_alone() {
    let mut bench = Bench::serving();
    for _ in 0..100 {
        bench.passes(500, &[]);
        bench.keeps("serving");
    }
}

#[test]
fn a_move_holds_drains_seals_promotes_and_serves() {
    let mut bench = Bench::serving();
    bench.asks_to_move("b");
    bench.gateway("a", 10, 0);
    bench.gateway("b", 10, 0);
    let change = bench.changes(&Phase::Holding { to: dc("b") });
    assert_eq!(change.operations[0].state, OperationState::Running);
    bench.keeps("gateway a does not hold yet");
    bench.gateway("a", 11, 3);
    bench.gateway("b", 11, 0);
    bench.keeps("3 requests in flight at gateway a");
    bench.gateway("a", 11, 0);
    bench.changes(&Phase::Sealing { to: dc("b") });
    bench.keeps("being sealed");
    bench.hears("a", stopped(1, Some(at(2, 95))));
    bench.keeps("yet to replay");
    bench.hears("b", following("a", 1, at(2, 96)));
    let change = bench.changes(&Phase::Promoting { from: dc("a") });
    assert_eq!((change.status.epoch, change.status.home.as_str()), (Epoch(2), "b"));
    // The commits of epoch 1 stay claimed until the new home has its own sync set.
    assert_eq!(change.status.claims, vec![claim(1, "a", &["b", "c"]), claim(2, "b", &["a", "c"])]);
    bench.hears("b", primary(2, &set(&["a", "c"], 1), &["a", "c"]));
    let change = bench.changes(&Phase::Serving);
    assert_eq!(change.status.claims, vec![claim(2, "b", &["a", "c"])]);
    assert_eq!(change.operations[0].state, OperationState::Succeeded);
}

#[test]
fn a_move_does_not_begin_while_its_target_may_not_be_promoted() {
    let mut bench = Bench::serving();
    bench.asks_to_move("b");
    bench.reports.get_mut(&dc("b")).unwrap().report.promised_ms = 100;
    bench.keeps("when its promise to a is over");
    bench.reports.get_mut(&dc("b")).unwrap().report.promised_ms = 0;
    bench.changes(&Phase::Holding { to: dc("b") });
}

#[test]
fn a_move_that_cannot_drain_is_called_off() {
    let mut bench = Bench::serving();
    bench.asks_to_move("b");
    bench.changes(&Phase::Holding { to: dc("b") });
    bench.gateway("a", 11, 1);
    bench.keeps("in flight");
    bench.passes(bench.timing.drain_ms_max + 1, &[]);
    let change = bench.changes(&Phase::Serving);
    assert_eq!(change.operations[0].state, OperationState::Failed);
    assert_eq!((change.status.epoch, change.status.operation), (Epoch(1), None));
}

#[test]
fn a_move_to_a_replica_that_is_behind_is_refused() {
    let mut bench = Bench::serving();
    bench.asks_to_move("b");
    bench.hears("a", primary(1, &set(&["b", "c"], 1), &["c"]));
    let change = bench.changes(&Phase::Serving);
    assert!(
        change.operations[0].step.reason.contains("not connected"),
        "{}",
        change.operations[0].step.reason
    );
}

#[test]
fn a_silent_home_is_replaced_only_after_its_lease() {
    let mut bench = Bench::serving();
    bench.decides();
    bench.passes(bench.timing.lease_ms + bench.timing.margin_ms, &["a"]);
    bench.keeps("serving");
    bench.passes(1, &["a"]);
    let change = bench.changes(&Phase::Electing);
    assert_eq!(change.status.epoch, Epoch(2));
    bench.keeps("may be missing");
    bench.hears("b", detached(2, None, at(2, 90)));
    bench.keeps("1 more of c");
    bench.hears("c", detached(2, None, at(2, 80)));
    let change = bench.changes(&Phase::Promoting { from: dc("a") });
    assert_eq!(change.status.home, dc("b"));
    assert_eq!(change.status.claims.last().unwrap().set, set(&["c"], 1));
}

#[test]
fn a_controller_that_was_frozen_starts_anew() {
    let mut bench = Bench::serving();
    bench.decides();
    bench.now_ms += 60_000;
    for seen in bench.reports.values_mut() {
        seen.age_ms = 60_000;
    }
    // The agents' reports of the last minute are yet to be read; one is read first.
    bench.hears("b", following("a", 1, at(2, 90)));
    bench.hears("c", following("a", 1, at(2, 80)));
    bench.keeps("serving");
}

#[test]
fn a_home_known_to_have_stopped_is_replaced_at_once() {
    let bench = Bench::promoting();
    assert_eq!(bench.unit.status.home, dc("b"));
}

#[test]
fn unknown_is_not_absent() {
    // A primary that does not answer, a controller that has just started, a home nobody else could replace,
    // and a home the others vouch for: each is waited for.
    let mut bench = Bench::serving();
    bench.hears("a", report(ReplicaState::Starting, Some(1), None));
    bench.keeps("serving");

    let mut bench = Bench::serving();
    bench.reports.clear();
    bench.keeps("serving");

    let mut bench = Bench::serving();
    bench.passes(60_000, &["a", "b", "c"]);
    bench.keeps("cannot be proven");

    let mut bench = Bench::serving();
    bench.passes(60_000, &["a"]);
    for name in ["b", "c"] {
        bench.reports.get_mut(&dc(name)).unwrap().report.promised_ms = 100;
    }
    bench.keeps("vouch");
}

#[test]
fn a_home_that_was_stopped_in_order_wins_its_own_election() {
    let mut bench = Bench::serving();
    bench.hears("a", stopped(1, Some(at(2, 95))));
    bench.hears("b", following("a", 1, at(2, 95)));
    bench.changes(&Phase::Electing);
    bench.hears("b", detached(2, None, at(2, 95)));
    bench.hears("c", detached(2, None, at(2, 95)));
    bench.keeps("waited for a little");
    bench.hears("a", detached(2, Some(1), at(2, 96)));
    let change = bench.changes(&Phase::Promoting { from: dc("a") });
    assert_eq!(change.status.home, dc("a"));
}

#[test]
fn the_record_is_relaxed_before_and_tightened_after() {
    let mut bench = Bench::serving();
    bench.unit.status.claims = vec![claim(1, "a", &["b"])];
    bench.hears("a", primary(1, &set(&["b"], 1), &["b", "c"]));
    // c joins: both sets are recorded first.
    let change = bench.changes(&Phase::Serving);
    assert_eq!(change.status.claims, vec![claim(1, "a", &["b"]), claim(1, "a", &["b", "c"])]);
    bench.keeps("serving");
    // Only when the primary has confirmed the new one does the old one go.
    bench.hears("a", primary(1, &set(&["b", "c"], 1), &["b", "c"]));
    let change = bench.changes(&Phase::Serving);
    assert_eq!(change.status.claims, vec![claim(1, "a", &["b", "c"])]);
    // b is lost: after a while the set is tightened, again with both recorded meanwhile.
    bench.hears("a", primary(1, &set(&["b", "c"], 1), &["c"]));
    bench.keeps("serving");
    bench.passes(bench.timing.member_lost_ms + 1, &[]);
    let change = bench.changes(&Phase::Serving);
    assert_eq!(change.status.claims, vec![claim(1, "a", &["b", "c"]), claim(1, "a", &["c"])]);
}

#[test]
fn the_last_members_are_never_dropped() {
    let mut bench = Bench::serving();
    bench.hears("a", primary(1, &set(&["b", "c"], 1), &[]));
    for _ in 0..100 {
        bench.passes(1_000, &[]);
        bench.keeps("serving");
    }
}

#[test]
fn a_failed_promotion_leads_to_another_election_that_still_owes_the_older_claims() {
    let mut bench = Bench::promoting();
    bench.hears("b", stopped(2, None));
    let change = bench.changes(&Phase::Electing);
    assert_eq!(change.status.epoch, Epoch(3));
    assert_eq!(change.status.claims, vec![claim(1, "a", &["b", "c"]), claim(2, "b", &["c"])]);
    // c alone proves epoch 2 but not epoch 1.
    bench.hears("c", detached(3, None, at(2, 80)));
    bench.keeps("commits of epoch 1 may be missing");
    // b returns and wins: it is still the home.
    bench.hears("b", detached(3, Some(2), at(3, 91)));
    let change = bench.changes(&Phase::Promoting { from: dc("b") });
    assert_eq!(change.status.home, dc("b"));
}

#[test]
fn a_winner_that_is_lost_is_replaced_although_only_the_former_home_proves_the_older_claims() {
    let mut bench = Bench::promoting();
    // b is lost before it serves. Of the members of a's epoch only c is left, but a's own data proves it.
    bench.hears("a", stopped(1, None));
    bench.passes(bench.timing.lease_ms + bench.timing.margin_ms + 1, &["b"]);
    bench.changes(&Phase::Electing);
}

#[test]
fn a_new_set_whose_only_streaming_member_is_lost_is_widened_by_another() {
    let mut bench = Bench::serving();
    bench.unit.status.claims = vec![claim(1, "a", &[]), claim(1, "a", &["b"])];
    bench.hears("a", primary(1, &set(&[], 1), &["c"]));
    let change = bench.changes(&Phase::Serving);
    let expected = vec![claim(1, "a", &[]), claim(1, "a", &["b"]), claim(1, "a", &["b", "c"])];
    assert_eq!(change.status.claims, expected);
}

#[test]
fn a_promotion_that_never_happened_owes_nothing() {
    let mut bench = Bench::promoting();
    // b is alive but was not promoted in time; then c is lost.
    bench.passes(bench.timing.promote_ms_max + 1, &["c"]);
    bench.changes(&Phase::Electing);
    bench.hears("a", detached(3, Some(1), at(2, 95)));
    bench.hears("b", detached(3, None, at(2, 90)));
    // Without c nothing could be proven about epoch 2, if b had led it. It says it never did.
    let change = bench.changes(&Phase::Promoting { from: dc("b") });
    assert_eq!(change.status.home, dc("a"));
    assert_eq!(change.status.claims, vec![claim(1, "a", &["b", "c"]), claim(3, "a", &[])]);
}

/// A unit whose home and one of its two other replicas are lost.
fn unprovable() -> Bench {
    let mut bench = Bench::serving();
    bench.passes(bench.timing.lease_ms + bench.timing.margin_ms + 1, &["a", "b"]);
    bench.keeps("nothing-lost: a is not heard and its lease has run out, but a failover cannot be proven");
    bench
}

fn ordered() -> Bench {
    let mut bench = unprovable();
    let operation = OperationId::new("force-1").unwrap();
    bench.unit.status = force(&bench.unit, &dc("c"), operation);
    bench
}

#[test]
fn operators_can_force_what_cannot_be_proven() {
    let mut bench = ordered();
    let change = bench.changes(&Phase::Electing);
    // The operation that ordered it tells the whole story.
    let told =
        |change: &Change| change.operations.iter().map(|o| (o.id.to_string(), o.state)).collect::<Vec<_>>();
    assert_eq!(told(&change), [("force-1".to_owned(), OperationState::Running)]);
    bench.hears("c", detached(2, None, at(2, 80)));
    let change = bench.changes(&Phase::Promoting { from: dc("a") });
    assert_eq!((change.status.home.clone(), change.status.forced.clone()), (dc("c"), None));
    assert_eq!(change.status.claims, vec![claim(2, "c", &[])], "what was claimed before is given up");
    assert_eq!(told(&change), [("force-1".to_owned(), OperationState::Running)]);
}

#[test]
fn an_order_is_void_once_the_home_serves_and_whoever_has_everything_is_preferred() {
    let mut bench = ordered();
    bench.hears("a", primary(1, &set(&["b", "c"], 1), &["b", "c"]));
    bench.memory.last_grant_ms = bench.now_ms;
    let change = bench.changes(&Phase::Serving);
    assert_eq!((change.status.forced, change.operations[0].state), (None, OperationState::Failed));
    bench.keeps("serving");
    // The other member is back in time: nothing is lost, and the claims stay.
    let mut bench = ordered();
    bench.changes(&Phase::Electing);
    bench.hears("b", detached(2, None, at(2, 90)));
    bench.hears("c", detached(2, None, at(2, 80)));
    let change = bench.changes(&Phase::Promoting { from: dc("a") });
    assert_eq!((change.status.home.as_str(), change.status.claims.len()), ("b", 2));
}

#[test]
fn without_anything_to_force_it_is_refused() {
    let why = |bench: &Bench, to: &str| bench.forcible(to).map_err(|refusal| refusal.to_string());
    let mut bench = unprovable();
    assert!(why(&bench, "c").unwrap().contains("may be missing: needs a, or 1 more of b"));
    assert!(why(&bench, "b").unwrap_err().starts_with("target-ready: b is not heard"));
    assert!(why(&bench, "a").unwrap_err().starts_with("target-ready"));
    bench.reports.get_mut(&dc("c")).unwrap().report.promised_ms = 100;
    assert!(why(&bench, "c").unwrap_err().starts_with("one-home: a is not heard, but"));
    let calm = Bench::serving();
    assert!(why(&calm, "c").unwrap_err().starts_with("one-home: a is heard"));
    let mut provable = Bench::serving();
    provable.passes(10_000, &["a"]);
    assert_eq!(
        why(&provable, "c").unwrap_err(),
        "nothing-lost: there is nothing to force: b takes over by itself"
    );
    assert!(why(&ordered(), "c").unwrap_err().starts_with("one-operation"));
}

#[test]
fn a_promotion_whose_winner_is_lost_can_be_forced_too() {
    let mut bench = Bench::promoting();
    bench.passes(bench.timing.lease_ms + bench.timing.margin_ms + 1, &["a", "b"]);
    bench.keeps("is being promoted");
    bench.unit.status = force(&bench.unit, &dc("c"), OperationId::new("force-1").unwrap());
    bench.changes(&Phase::Electing);
}

#[test]
fn deciding_twice_decides_the_same() {
    let mut bench = Bench::serving();
    bench.hears("a", stopped(1, None));
    let first = bench.decides();
    assert_eq!(first, bench.decides());
}

fn kept(status: &UnitStatus) -> (Tri, &str) {
    let condition = status.conditions.iter().find(|condition| condition.kind == DURABILITY_KEPT).unwrap();
    (condition.state, condition.reason.as_str())
}

#[test]
fn the_record_says_degraded_before_it_is_and_kept_only_once_it_is() {
    let mut bench = Bench::serving();
    let both = set(&["b", "c"], 1);
    bench.hears("a", primary(1, &both, &["b"]));
    bench.passes(bench.timing.member_lost_ms + 100, &["c"]);
    // Both sets are recorded and PostgreSQL still waits for the larger one.
    let change = bench.changes(&Phase::Serving);
    assert_eq!(change.status.claims.len(), 2);
    let (state, why) = kept(&change.status);
    assert_eq!(state, Tri::False);
    assert!(why.contains("not in the sync set: c"), "{why}");
    bench.hears("a", primary(1, &set(&["b"], 1), &["b"]));
    assert_eq!(kept(&bench.changes(&Phase::Serving).status).0, Tri::False);
    // c is back: recorded, but not yet in force.
    bench.hears("a", primary(1, &set(&["b"], 1), &["b", "c"]));
    bench.hears("c", following("a", 1, at(2, 90)));
    let change = bench.changes(&Phase::Serving);
    assert_eq!((change.status.claims.len(), kept(&change.status).0), (2, Tri::False));
    bench.hears("a", primary(1, &both, &["b", "c"]));
    assert_eq!(kept(&bench.changes(&Phase::Serving).status).0, Tri::True);
}

#[test]
fn the_exposure_says_where_a_failover_would_go_and_what_it_would_cost() {
    let mut bench = Bench::serving();
    let mut progress = Progress::default();
    let meter = Meter { transfers: Some(7), ..Meter::default() };
    progress.observe(&dc("a"), &bench.reports[&dc("a")].report, &meter, bench.now_ms);
    let exposed = bench.exposed(&progress);
    assert_eq!((exposed.to, exposed.at_risk_bytes), (Some(dc("b")), Some(0)));
    // With one of the two silent nothing can be proven.
    bench.reports.get_mut(&dc("b")).unwrap().age_ms = 60_000;
    let exposed = bench.exposed(&progress);
    assert!(!exposed.automatic && exposed.reason.contains("commits of epoch 1 may be missing"));
    assert_eq!(exposed.at_risk, Some(Behind { transfers: Some(0), ..Behind::default() }));
}

fn host(load_percent: u32, disk_free_mib: u64) -> Host {
    Host { cpus: 4, load_percent, disk_free_bytes: disk_free_mib << 20, disk_bytes: 10_240 << 20 }
}

fn clients(connections: u32) -> Meter {
    Meter { connections: Some(connections), connections_max: Some(92), transfers: None }
}

fn around(hosts: &[(&str, Host)], meters: &[(&str, Meter)], serving: &[&str]) -> Surroundings {
    Surroundings {
        hosts: hosts.iter().map(|(name, host)| (dc(name), *host)).collect(),
        meters: meters.iter().map(|(name, meter)| (dc(name), *meter)).collect(),
        serving: Some(Serving { now: serving.iter().map(|name| dc(name)).collect(), of: 3 }),
        moves_at_work: 0,
    }
}

#[test]
fn every_rule_that_refuses_a_move_is_told_by_its_name() {
    let well = around(&[], &[], &["a", "b", "c"]);
    let many = Surroundings { moves_at_work: MOVES_MAX, ..well.clone() };
    let hosts = |a, b| around(&[("a", a), ("b", b)], &[], &["a", "b"]);
    #[rustfmt::skip]
    let cases: &[(&str, Surroundings, Option<&str>)] = &[
        ("nothing is known", Surroundings::default(), None),
        ("all is well", well, None),
        ("too many move", many, Some("moves-at-once: 4 units are moving")),
        ("one data center serves", around(&[], &[], &["b"]), Some("serving-minimum: 1 of 3")),
        ("the target does not serve", around(&[], &[], &["a", "c"]), Some("serving-minimum: b does not serve")),
        ("more clients than room", around(&[], &[("a", clients(60)), ("b", clients(40))], &["a", "b"]), Some("capacity: 60 clients")),
        ("as many clients as room", around(&[], &[("a", clients(52)), ("b", clients(40))], &["a", "b"]), None),
        ("the disk is full", hosts(host(0, 9_000), host(0, 100)), Some("capacity: b has 100 MiB")),
        ("the disk has room", hosts(host(0, 100), host(0, 300)), None),
        ("the host is overloaded", hosts(host(50, 9_000), host(450, 9_000)), Some("capacity: b has a load")),
        ("the home is no better", hosts(host(400, 9_000), host(450, 9_000)), None),
    ];
    for (what, around, expected) in cases {
        let mut bench = Bench::serving();
        bench.around = around.clone();
        let refusal = bench.refusal("b").map(|refusal| refusal.to_string());
        match expected {
            None => assert_eq!(refusal, None, "{what}"),
            Some(expected) => {
                assert!(refusal.as_ref().is_some_and(|r| r.starts_with(expected)), "{what}: {refusal:?}");
            }
        }
    }
    let mut bench = Bench::serving();
    bench.unit.status.operation = Some(OperationId::new("move-9").unwrap());
    assert_eq!(bench.refusal("b").unwrap().rule, Rule::OneOperation);
    assert_eq!(bench.refusal("a").unwrap().to_string(), "target-ready: the unit is at home in a already");
}

/// A unit that has failed over from a to b, and whose home's agent has fallen silent after that.
fn failed_over(soon: bool) -> Bench {
    let mut bench = Bench::promoting();
    let last = bench.unit.status.last_failover.clone().unwrap();
    assert_eq!((last.from, last.in_a_row), (dc("a"), 1));
    let members = bench.unit.status.wanted_set().unwrap().clone();
    bench.hears("b", primary(2, &members, &["c"]));
    bench.hears("c", following("b", 2, at(3, 90)));
    bench.changes(&Phase::Serving);
    if !soon {
        bench.now_ms += u64::try_from(FLAPPING_WINDOW_S).unwrap() * 1_000;
        bench.decides();
    }
    bench.passes(bench.timing.lease_ms + bench.timing.margin_ms + 200, &["a", "b"]);
    bench
}

#[test]
fn a_second_failover_waits_for_an_operator_only_while_the_home_may_be_alive() {
    // The whole data center is silent: that is an outage, and it is not made longer. But it is told.
    let change = failed_over(true).changes(&Phase::Electing);
    assert!(change.status.reason.contains("not heard"));
    // Its gateway is heard, so its data center lives: somebody has to look.
    let mut bench = failed_over(true);
    bench.gateway("b", 10, 0);
    bench.keeps("flapping: the unit failed over from a");
    // It is not held back any more once the agent says that the primary has stopped for certain,
    let mut stops = failed_over(true);
    stops.gateway("b", 10, 0);
    stops.hears("b", stopped(2, None));
    stops.changes(&Phase::Electing);
    // or an operator has looked,
    bench.unit.status.last_failover = None;
    bench.changes(&Phase::Electing);
    // or the window is over.
    let mut late = failed_over(false);
    late.gateway("b", 10, 0);
    late.changes(&Phase::Electing);
}

#[test]
fn failovers_in_a_row_are_counted_and_an_election_the_home_wins_is_none() {
    let mut bench = failed_over(true);
    bench.changes(&Phase::Electing);
    bench.hears("c", detached(3, None, at(3, 95)));
    let change = bench.changes(&Phase::Promoting { from: dc("b") });
    assert_eq!(change.status.last_failover.unwrap().in_a_row, 2);
    let mut bench = Bench::serving();
    bench.hears("a", stopped(1, Some(at(2, 95))));
    bench.changes(&Phase::Electing);
    bench.hears("a", detached(2, Some(1), at(2, 95)));
    let change = bench.changes(&Phase::Promoting { from: dc("a") });
    assert_eq!((change.status.home, change.status.last_failover), (dc("a"), None));
}

#[test]
fn nobody_fails_over_to_a_full_disk_if_another_one_has_all_commits() {
    let mut bench = Bench::serving();
    bench.hears("a", stopped(1, None));
    bench.changes(&Phase::Electing);
    bench.hears("b", detached(2, None, at(2, 90)));
    bench.hears("c", detached(2, None, at(2, 90)));
    bench.around = around(&[("b", host(0, 1)), ("c", host(0, 1))], &[], &["b", "c"]);
    bench.keeps("capacity: b has only 1 MiB of disk free");
    // Any load is better than nobody.
    bench.around = around(&[("b", host(0, 1)), ("c", host(9_000, 50))], &[], &["b", "c"]);
    assert_eq!(bench.changes(&Phase::Promoting { from: dc("a") }).status.home, dc("c"));
}
