//! The control plane's shell: a durable store, volatile memory, and `dujiang_unit`'s decisions in between.

use std::collections::{BTreeMap, BTreeSet};

use dujiang_types::api::{AgentReply, AgentReport, Lease};
use dujiang_types::operation::{Operation, OperationSpec, OperationState, OperationStatus, Step, Work};
use dujiang_types::report::{DataState, GatewayReport, ReplicaReport, ReplicaState};
use dujiang_types::unit::{Claim, Durability, Phase, SyncSet, Unit, UnitSpec, UnitStatus};
use dujiang_types::{AppId, DcId, Epoch, Kind, Revision, SlotRange};
use dujiang_unit::controller::{Change, Decision, Memory, Seen, View, decide, distrust};
use dujiang_unit::lease::may_grant;
use dujiang_unit::safety::Surroundings;
use jiff::Timestamp;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::event::{Event, Message, Route};
use crate::network::Channel;
use crate::place::{At, CONTROL_SITE, DC_COUNT, Dc, Proc, dc_id, dc_index, unit_id, unit_index};
use crate::trace::{MS, Us};
use crate::world::World;
use crate::{Options, Sabotage};

/// How often every unit is decided about without a report prompting it.
const TICK: Us = 100 * MS;
/// A restored store goes on so far above what it replaces.
const RESTORE_GAP: u64 = 1_000;

/// A change on its way to the store.
#[derive(Debug, Clone)]
pub struct Intent {
    unit: usize,
    based_on: Revision,
    change: Change,
}

/// The store: durable and linearizable.
#[derive(Debug)]
pub struct Store {
    /// Revision of the last write.
    pub revision: Revision,
    /// Records by unit.
    pub units: Vec<Unit>,
    /// Operations, oldest first.
    pub operations: Vec<Operation>,
}

#[derive(Debug)]
struct UnitMemory {
    memory: Memory,
    reports: BTreeMap<DcId, Seen<ReplicaReport>>,
    arrived_ms: BTreeMap<DcId, u64>,
}

/// The control plane: the store and one process's memory.
#[derive(Debug)]
pub struct Control {
    /// Survives.
    pub store: Store,
    units: Vec<UnitMemory>,
    gateways: BTreeMap<DcId, Seen<GatewayReport>>,
    gateways_ms: BTreeMap<DcId, u64>,
    /// By agent: the session heard last, its highest sequence, and sessions of the past.
    sessions: BTreeMap<Dc, (String, u64, BTreeSet<String>)>,
    /// Records at the time of the last backup.
    backup: Option<Vec<Unit>>,
}

fn record(rng: &mut ChaCha8Rng, unit: usize, options: &Options) -> Unit {
    let home = dc_id(rng.random_range(0..DC_COUNT));
    let durability = if options.scenario.has_bounded_units() && rng.random_bool(0.2) {
        Durability::Bounded
    } else {
        Durability::Zero
    };
    let need = u8::from(durability == Durability::Zero);
    let slots: SlotRange = format!("{unit}-{unit}").parse().unwrap_or_else(|_| unreachable!("a slot number"));
    let claim =
        Claim { epoch: Epoch(1), primary: home.clone(), set: SyncSet { members: BTreeSet::new(), need } };
    Unit {
        kind: Kind::Unit,
        name: unit_id(unit).to_string(),
        labels: BTreeMap::new(),
        revision: Revision(unit as u64 + 1),
        spec: UnitSpec {
            application: AppId::new("bank").unwrap_or_else(|_| unreachable!("a name")),
            home: home.clone(),
            replicas: (0..DC_COUNT).map(dc_id).collect(),
            slots: vec![slots],
            durability,
            port: 5_401,
        },
        status: UnitStatus {
            epoch: Epoch(1),
            home,
            phase: Phase::Forming,
            claims: vec![claim],
            operation: None,
            forced: None,
            last_failover: None,
            reason: "a new unit".to_owned(),
            since: Timestamp::UNIX_EPOCH,
            conditions: Vec::new(),
        },
    }
}

impl Control {
    /// A store with the records of new units.
    pub fn new(rng: &mut ChaCha8Rng, unit_count: usize, options: &Options) -> Self {
        let units: Vec<Unit> = (0..unit_count).map(|unit| record(rng, unit, options)).collect();
        Self {
            store: Store { revision: Revision(unit_count as u64), units, operations: Vec::new() },
            units: Vec::new(),
            gateways: BTreeMap::new(),
            gateways_ms: BTreeMap::new(),
            sessions: BTreeMap::new(),
            backup: None,
        }
    }

    /// Writes the records to a backup.
    pub fn back_up(&mut self) {
        self.backup = Some(self.store.units.clone());
    }

    /// Replaces the records by those of the backup, as a restore does.
    pub fn restore(&mut self) {
        let Some(backup) = self.backup.clone() else { return };
        // Above every revision anybody has seen.
        self.store.revision.0 += RESTORE_GAP;
        self.store.operations.clear();
        let revision = self.store.revision;
        let reason = "the store was restored".to_owned();
        let restored = |unit: Unit| {
            let status = distrust(&unit.spec, &unit.status, reason.clone(), Timestamp::UNIX_EPOCH);
            Unit { revision, status, ..unit }
        };
        self.store.units = backup.into_iter().map(restored).collect();
    }

    /// The committed record of a unit.
    pub fn unit(&self, unit: usize) -> &Unit {
        &self.store.units[unit]
    }
}

impl World {
    /// Starts the control plane: it knows the store and nothing else.
    pub fn start_control(&mut self) {
        self.processes.start(Proc::Control);
        let now_ms = self.clock_ms(CONTROL_SITE);
        let forgets = self.options.sabotages(Sabotage::ForgetGrants);
        let memory = || {
            let mut memory = Memory::new(now_ms);
            if forgets {
                memory.last_grant_ms = 0;
            }
            UnitMemory { memory, reports: BTreeMap::new(), arrived_ms: BTreeMap::new() }
        };
        let units = (0..self.unit_count).map(|_| memory()).collect();
        let control = &mut self.control;
        control.units = units;
        control.gateways.clear();
        control.gateways_ms.clear();
        control.sessions.clear();
        self.after(MS, Proc::Control, Event::ControlTick);
        self.after(MS, Proc::Control, Event::Publish);
    }

    pub(crate) fn control_tick(&mut self) {
        for unit in 0..self.unit_count {
            self.decide_unit(unit);
        }
        let next = self.between(TICK / 2, TICK);
        self.after(next, Proc::Control, Event::ControlTick);
    }

    pub(crate) fn control_report(&mut self, report: AgentReport) {
        let Some(dc) = dc_index(&report.dc) else { return };
        let sessions = self.control.sessions.entry(dc).or_insert_with(|| (String::new(), 0, BTreeSet::new()));
        if sessions.2.contains(&report.session)
            || (sessions.0 == report.session && sessions.1 >= report.sequence)
        {
            return;
        }
        if sessions.0 != report.session {
            let past = std::mem::replace(&mut sessions.0, report.session.clone());
            sessions.2.insert(past);
        }
        sessions.1 = report.sequence;
        let now_ms = self.clock_ms(CONTROL_SITE);
        let mut leases = BTreeMap::new();
        for (unit, epoch) in &report.renew {
            let Some(index) = unit_index(unit) else { continue };
            if may_grant(self.control.unit(index), &report.dc, *epoch) {
                self.control.units[index].memory.last_grant_ms = now_ms;
                leases.insert(unit.clone(), Lease { epoch: *epoch, ttl_ms: self.timing.lease_ms });
            }
        }
        let reply = AgentReply { leads: true, leases, revision: self.control.store.revision, examine: None };
        let session = report.session.parse().unwrap_or(0);
        let message = Message::Reply { session, sequence: report.sequence, reply };
        self.send(Channel::AgentControl, CONTROL_SITE, Proc::Agent(dc), &message);
        for (unit, replica) in report.units {
            let Some(index) = unit_index(&unit) else { continue };
            self.check_report(At { dc, unit: index }, &replica);
            let memory = &mut self.control.units[index];
            memory.reports.insert(report.dc.clone(), Seen { report: replica, age_ms: 0 });
            memory.arrived_ms.insert(report.dc.clone(), now_ms);
            self.decide_unit(index);
        }
    }

    pub(crate) fn control_list(&mut self, dc: Dc) {
        for unit in 0..self.unit_count {
            let record = Message::Record(Box::new(self.control.unit(unit).clone()));
            self.send(Channel::AgentControl, CONTROL_SITE, Proc::Agent(dc), &record);
        }
        // A gateway that missed a table gets it with the next look around, too.
        self.send_table(dc);
    }

    pub(crate) fn control_gateway_report(&mut self, dc: Dc, report: GatewayReport) {
        let now_ms = self.clock_ms(CONTROL_SITE);
        let behind = report.table < self.control.store.revision;
        let newer =
            self.control.gateways.get(&dc_id(dc)).is_none_or(|seen| seen.report.table <= report.table);
        if newer {
            self.control.gateways.insert(dc_id(dc), Seen { report, age_ms: 0 });
            self.control.gateways_ms.insert(dc_id(dc), now_ms);
        }
        if behind {
            self.send_table(dc);
        }
        for unit in 0..self.unit_count {
            if self.control.unit(unit).status.phase.holds() {
                self.decide_unit(unit);
            }
        }
    }

    /// Asks the core about one unit and sends what it decided to the store.
    fn decide_unit(&mut self, unit: usize) {
        let now_ms = self.clock_ms(CONTROL_SITE);
        let control = &mut self.control;
        let memory = &mut control.units[unit];
        for (dc, seen) in &mut memory.reports {
            seen.age_ms = now_ms.saturating_sub(memory.arrived_ms.get(dc).copied().unwrap_or(0));
        }
        for (dc, seen) in &mut control.gateways {
            seen.age_ms = now_ms.saturating_sub(control.gateways_ms.get(dc).copied().unwrap_or(0));
        }
        let record = &control.store.units[unit];
        let trusting = self.options.sabotages(Sabotage::UnknownIsAbsent);
        let guesses = trusting.then(|| with_guesses(record, &memory.reports, self.timing.fresh_ms));
        let requested = control.store.operations.iter().find(|operation| {
            operation.status.state == OperationState::Pending
                && operation.spec.work.unit() == Some(&unit_id(unit))
        });
        let around = Surroundings::default();
        let view = View {
            unit: record,
            reports: guesses.as_ref().unwrap_or(&memory.reports),
            gateways: &control.gateways,
            requested,
            around: &around,
            now_ms,
            wall: wall(now_ms),
            timing: &self.timing,
        };
        let Decision::Change(change) = decide(&view, &mut memory.memory) else { return };
        let elected = record.status.phase == Phase::Electing;
        let missing = record
            .spec
            .replicas
            .iter()
            .any(|dc| view.reports.get(dc).is_none_or(|seen| seen.age_ms > self.timing.fresh_ms));
        if elected && missing && self.options.sabotages(Sabotage::WaitForAll) {
            return;
        }
        let intent = Intent { unit, based_on: record.revision, change: *change };
        let takes = self.between(200, 5 * MS);
        self.after(takes, Proc::Control, Event::Write(Box::new(intent)));
        self.fault_at_decision();
    }

    /// Compare-and-set: the write happens only if the record is still the one the decision was made about.
    pub(crate) fn store_write(&mut self, intent: Intent) {
        let store = &mut self.control.store;
        if store.units[intent.unit].revision != intent.based_on {
            return;
        }
        store.revision.0 += 1;
        let revision = store.revision;
        let record = &mut store.units[intent.unit];
        let before = std::mem::replace(&mut record.status, intent.change.status);
        record.revision = revision;
        let record = record.clone();
        for effect in intent.change.operations {
            apply(store, effect.id.as_str(), effect.create, effect.state, effect.step);
        }
        let status = &record.status;
        self.trace.say(self.now, Proc::Control, || {
            let claims: Vec<String> = status.claims.iter().map(show_claim).collect();
            let (name, home, epoch) = (&record.name, &status.home, status.epoch);
            format!(
                "{name}: {} at {home} epoch {epoch} claims [{}]: {}",
                status.phase,
                claims.join("; "),
                status.reason
            )
        });
        self.check_record(intent.unit, &before);
        self.fault_at_decision();
        if !self.processes.runs(Proc::Control) {
            return;
        }
        for dc in 0..DC_COUNT {
            let message = Message::Record(Box::new(record.clone()));
            self.send(Channel::AgentControl, CONTROL_SITE, Proc::Agent(dc), &message);
        }
        self.publish_routes();
    }

    pub(crate) fn publish_routes(&mut self) {
        for dc in 0..DC_COUNT {
            self.send_table(dc);
        }
    }

    fn send_table(&mut self, dc: Dc) {
        let store = &self.control.store;
        let route = |unit: &Unit| Route {
            home: unit.status.home.clone(),
            epoch: unit.status.epoch,
            hold: unit.status.phase.holds(),
        };
        let table =
            Message::Table { version: store.revision, routes: store.units.iter().map(route).collect() };
        self.send(Channel::GatewayControl, CONTROL_SITE, Proc::Gateway(dc), &table);
    }

    /// An operator asks to move a unit somewhere, sensible or not.
    pub(crate) fn ask_move(&mut self) {
        let unit = self.rng.random_range(0..self.unit_count);
        let to = dc_id(self.rng.random_range(0..DC_COUNT));
        let number = self.fresh_id();
        self.say(Proc::World, || format!("an operator asks to move {} to {to}", unit_id(unit)));
        let store = &mut self.control.store;
        store.revision.0 += 1;
        store.operations.push(Operation {
            kind: Kind::Operation,
            name: format!("move-{number}"),
            labels: BTreeMap::new(),
            revision: store.revision,
            spec: OperationSpec {
                work: Work::Move { unit: unit_id(unit), to },
                asked_by: "operator".to_owned(),
            },
            status: OperationStatus { state: OperationState::Pending, steps: Vec::new(), approval: None },
        });
    }
}

/// The wall clock of this world goes with the control plane's.
pub(crate) fn wall(now_ms: u64) -> Timestamp {
    i64::try_from(now_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX)
}

fn apply(store: &mut Store, id: &str, create: Option<Work>, state: OperationState, step: Step) {
    let known = store.operations.iter().position(|operation| operation.name == id);
    let index = known.or_else(|| {
        let spec = OperationSpec { work: create?, asked_by: "controller".to_owned() };
        store.operations.push(Operation {
            kind: Kind::Operation,
            name: id.to_owned(),
            labels: BTreeMap::new(),
            revision: store.revision,
            spec,
            status: OperationStatus { state, steps: Vec::new(), approval: None },
        });
        Some(store.operations.len() - 1)
    });
    if let Some(index) = index {
        store.operations[index].status.state = state;
        store.operations[index].status.steps.push(step);
    }
}

/// A claim in one line.
pub fn show_claim(claim: &Claim) -> String {
    let members: Vec<&str> = claim.set.members.iter().map(DcId::as_str).collect();
    format!("{}@{} any {} of {{{}}}", claim.epoch, claim.primary, claim.set.need, members.join(", "))
}

/// The planted bug of taking unknown for absent: whoever is not heard is said to be stopped and empty.
fn with_guesses(
    unit: &Unit,
    reports: &BTreeMap<DcId, Seen<ReplicaReport>>,
    fresh_ms: u64,
) -> BTreeMap<DcId, Seen<ReplicaReport>> {
    let mut guesses = reports.clone();
    for dc in &unit.spec.replicas {
        if reports.get(dc).is_none_or(|seen| seen.age_ms > fresh_ms) {
            let report = ReplicaReport {
                revision: unit.revision,
                epoch_seen: Epoch(0),
                data: DataState::Absent,
                state: ReplicaState::Stopped { sealed: None },
                position: None,
                replayed: None,
                promised_ms: 0,
                note: "not heard, so surely gone".to_owned(),
            };
            guesses.insert(dc.clone(), Seen { report, age_ms: 0 });
        }
    }
    guesses
}
