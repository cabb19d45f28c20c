//! An agent's shell: what it remembers, what it observes, whom it tells. What to do comes from `dujiang_unit`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dujiang_types::api::{AgentReply, AgentReport, PromiseReply, PromiseRequest};
use dujiang_types::report::ReplicaReport;
use dujiang_types::unit::{SyncSet, Unit};
use dujiang_types::{Epoch, Revision};
use dujiang_unit::Timing;
use dujiang_unit::agent::{self, Action, AgentView};
use dujiang_unit::lease::{Held, Promises};

use crate::event::{Event, Message};
use crate::network::Channel;
use crate::place::{At, Dc, Proc, dc_id, dc_index, unit_id, unit_index};
use crate::postgres::{Mismatch, Setting};
use crate::trace::{MS, SECOND, Us};
use crate::world::World;

/// How often an agent looks at each replica without being prompted.
const LOOK: Us = 100 * MS;
/// How often it lists all records, should a watch event have been lost.
const RESYNC: Us = SECOND;
/// The longest a guard takes to end its database: what the margin allows beside the drift of clocks.
const KILL_MAX: Us = 430 * MS;
/// Records of a unit an agent may find when it starts: how far what is on its disk is behind.
const WRITTEN_MAX: usize = 4;
/// Reports whose answers are still of use.
const SENT_MAX: usize = 16;

/// The guard of one replica: until when its database may run as a primary.
#[derive(Debug, Clone, Copy, Default)]
pub struct Guard {
    /// The lease it was last told, in milliseconds of its machine's clock.
    pub lease: Option<(Epoch, u64)>,
    /// When its timer fires next.
    pub timer: Option<Us>,
}

impl Guard {
    /// A new guard knows of no lease.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

/// A round of asking for promises.
#[derive(Debug, Clone)]
struct Round {
    number: u64,
    epoch: Epoch,
    sent_ms: u64,
    missing: BTreeSet<Dc>,
}

/// What an agent knows of one replica.
#[derive(Debug, Clone)]
pub struct Replica {
    // Durable: the state file.
    /// The highest epoch acted on.
    pub epoch_seen: Epoch,
    /// The highest epoch the data was promoted under.
    pub primary_epoch: Option<Epoch>,
    /// Records written down; a new agent finds any of them.
    written: VecDeque<Unit>,

    // Volatile.
    /// The record found at the start: good for promises until one is seen.
    remembered: Option<Unit>,
    /// The latest record seen.
    pub record: Option<Unit>,
    /// The lease held.
    pub lease: Option<Held>,
    /// Promises given.
    pub promises: Promises,
    /// The state file is being written.
    pub noting: bool,
    /// Promoting under that epoch: nothing else is begun until the fence is written.
    pub promoting: Option<(Epoch, Us)>,
    /// Work in the background.
    pub busy: Option<&'static str>,
    /// Learned when the database failed to follow.
    pub mismatch: Option<Mismatch>,
    /// The set that is being confirmed, and from which record on.
    pub confirming: Option<(Setting, Option<usize>)>,
    /// The set confirmed.
    pub confirmed: Option<SyncSet>,
    /// The index of the last probe and when it was written; when one last came back.
    pub probe: Option<(usize, Us)>,
    /// When a real write last came back.
    pub probed: Us,
    /// The action last carried out, so that a repeated one is told once.
    pub last_action: Option<Action>,
    /// What to report.
    pub report: Option<ReplicaReport>,
    /// Only with planted bugs: says it is detached although its receiver lives.
    pub pretends_detached: bool,
    round: Option<Round>,
}

impl Replica {
    fn new(state: (Epoch, Option<Epoch>), written: VecDeque<Unit>, now_ms: u64, timing: &Timing) -> Self {
        Self {
            epoch_seen: state.0,
            primary_epoch: state.1,
            written,
            remembered: None,
            record: None,
            lease: None,
            promises: Promises::after_start(now_ms, timing),
            noting: false,
            promoting: None,
            busy: None,
            mismatch: None,
            confirming: None,
            confirmed: None,
            probe: None,
            probed: 0,
            last_action: None,
            report: None,
            pretends_detached: false,
            round: None,
        }
    }

    /// The record promises are asked for and given by.
    fn vouched(&self) -> Option<&Unit> {
        self.record.as_ref().or(self.remembered.as_ref()).filter(|unit| unit.status.epoch >= self.epoch_seen)
    }
}

/// One data center's agent with the guards it has started.
#[derive(Debug)]
pub struct Agent {
    session: u64,
    sequence: u64,
    /// When recent reports were sent, by this machine's clock.
    sent: BTreeMap<u64, u64>,
    /// When the control plane last answered, by this machine's clock.
    answered_ms: u64,
    /// What it knows, by unit.
    pub replicas: Vec<Replica>,
    guards: Vec<Guard>,
}

impl Agent {
    /// An agent that was never started.
    pub fn new(units: usize, timing: &Timing) -> Self {
        let replica = Replica::new((Epoch(0), None), VecDeque::new(), 0, timing);
        Self {
            session: 0,
            sequence: 0,
            sent: BTreeMap::new(),
            answered_ms: 0,
            replicas: vec![replica; units],
            guards: vec![Guard::default(); units],
        }
    }

    /// The guard of a unit's replica, to change it.
    pub fn guard_mut(&mut self, unit: usize) -> &mut Guard {
        &mut self.guards[unit]
    }

    /// The database said whether it can follow its upstream.
    pub fn heard_mismatch(&mut self, unit: usize, mismatch: Option<Mismatch>) {
        self.replicas[unit].mismatch = mismatch;
    }
}

impl World {
    /// Starts an agent. It knows its state files and adopts the databases it finds with their guards' leases.
    pub fn start_agent(&mut self, dc: Dc) {
        self.processes.start(Proc::Agent(dc));
        let session = self.fresh_id();
        let (now_ms, timing) = (self.clock_ms(dc), self.timing);
        let agent = &mut self.agents[dc];
        agent.session = session;
        agent.sequence = 0;
        agent.sent.clear();
        agent.answered_ms = 0;
        for (replica, guard) in agent.replicas.iter_mut().zip(&agent.guards) {
            let written = std::mem::take(&mut replica.written);
            *replica = Replica::new((replica.epoch_seen, replica.primary_epoch), written, now_ms, &timing);
            replica.lease = guard.lease.map(|(epoch, until_ms)| Held { epoch, until_ms });
        }
        for unit in 0..self.unit_count {
            let found = self.between(0, WRITTEN_MAX as Us);
            let replica = &mut self.agents[dc].replicas[unit];
            replica.remembered = usize::try_from(found).ok().and_then(|n| replica.written.get(n).cloned());
            let alive = self.processes.alive(Proc::Guard(At { dc, unit }));
            if !alive {
                self.agents[dc].replicas[unit].lease = None;
            }
            let soon = self.between(MS, LOOK);
            self.after(soon, Proc::Agent(dc), Event::Look { dc, unit });
        }
        self.after(MS, Proc::Agent(dc), Event::Resync { dc });
        self.after(5 * MS, Proc::Agent(dc), Event::Renew { dc });
    }

    /// What a replica's agent knows.
    pub fn replica(&self, at: At) -> &Replica {
        &self.agents[at.dc].replicas[at.unit]
    }

    /// What a replica's agent knows, to change it.
    pub fn replica_mut(&mut self, at: At) -> &mut Replica {
        &mut self.agents[at.dc].replicas[at.unit]
    }

    /// Until when the guard of a replica lets its database be primary.
    pub fn guard(&self, at: At) -> Guard {
        self.agents[at.dc].guards[at.unit]
    }

    pub(crate) fn resync(&mut self, dc: Dc) {
        self.send(Channel::AgentControl, dc, Proc::Control, &Message::List(dc));
        self.after(RESYNC, Proc::Agent(dc), Event::Resync { dc });
    }

    pub(crate) fn agent_record(&mut self, dc: Dc, record: Unit) {
        let Some(unit) = dujiang_types::UnitId::new(record.name.clone()).ok().and_then(|id| unit_index(&id))
        else {
            return;
        };
        let at = At { dc, unit };
        if self.replica(at).record.as_ref().is_some_and(|known| known.revision >= record.revision) {
            return;
        }
        let replica = self.replica_mut(at);
        replica.written.push_back(record.clone());
        if replica.written.len() > WRITTEN_MAX {
            replica.written.pop_front();
        }
        replica.record = Some(record);
        self.look_now(at);
    }

    /// One look at a replica, then the next in a while.
    pub(crate) fn look(&mut self, at: At) {
        self.look_now(at);
        let pause = if self.plan.brisk { LOOK / 5 } else { LOOK };
        let next = self.between(pause / 2, pause);
        self.after(next, Proc::Agent(at.dc), Event::Look { dc: at.dc, unit: at.unit });
    }

    /// Observes, decides, and begins what is decided.
    pub fn look_now(&mut self, at: At) {
        if !self.processes.runs(Proc::Agent(at.dc)) {
            return;
        }
        self.probe(at);
        let local = self.observe(at);
        let now_ms = self.clock_ms(at.dc);
        let dc = dc_id(at.dc);
        let replica = self.replica(at);
        let view = AgentView {
            dc: &dc,
            unit: replica.record.as_ref(),
            local: &local,
            lease: replica.lease,
            promises: replica.promises,
            now_ms,
        };
        let step = agent::next(&view);
        let report = agent::report(&view, &step.why);
        let news = replica
            .report
            .as_ref()
            .is_none_or(|old| old.state != report.state || old.revision != report.revision);
        let record = replica.record.clone();
        self.replica_mut(at).report = Some(report);
        if news {
            self.after(MS, Proc::Agent(at.dc), Event::SendReport { dc: at.dc });
        }
        self.begin_step(at, step, record);
    }

    /// The regular report, and promises if the control plane does not answer.
    pub(crate) fn renew(&mut self, dc: Dc) {
        self.send_report(dc);
        self.ask_for_promises(dc);
        let next = self.timing.renew_ms * MS;
        self.after(next, Proc::Agent(dc), Event::Renew { dc });
    }

    /// Sends a report of everything and asks for the leases that are due.
    pub(crate) fn send_report(&mut self, dc: Dc) {
        let now_ms = self.clock_ms(dc);
        let (dc_name, units) = (dc_id(dc), self.unit_count);
        let mut renew = BTreeMap::new();
        let mut reports = BTreeMap::new();
        for unit in 0..units {
            let local = self.observe(At { dc, unit });
            let replica = &self.agents[dc].replicas[unit];
            let view = AgentView {
                dc: &dc_name,
                unit: replica.record.as_ref(),
                local: &local,
                lease: replica.lease,
                promises: replica.promises,
                now_ms,
            };
            if let Some(epoch) = agent::renewal(&view) {
                renew.insert(unit_id(unit), epoch);
            }
            if let Some(mut report) = replica.report.clone() {
                report.promised_ms = replica.promises.remaining_ms(now_ms);
                reports.insert(unit_id(unit), report);
            }
        }
        let agent = &mut self.agents[dc];
        agent.sequence += 1;
        agent.sent.insert(agent.sequence, now_ms);
        if agent.sent.len() > SENT_MAX {
            agent.sent.pop_first();
        }
        let report = AgentReport {
            dc: dc_name,
            session: agent.session.to_string(),
            sequence: agent.sequence,
            units: reports,
            instances: BTreeMap::new(),
            renew,
            meters: BTreeMap::new(),
            host: None,
            versions: BTreeMap::new(),
            examined: None,
        };
        self.send(Channel::AgentControl, dc, Proc::Control, &Message::Report(Box::new(report)));
    }

    pub(crate) fn agent_reply(&mut self, dc: Dc, session: u64, sequence: u64, reply: &AgentReply) {
        let now_ms = self.clock_ms(dc);
        let agent = &mut self.agents[dc];
        if agent.session != session {
            return;
        }
        agent.answered_ms = now_ms;
        let Some(sent_ms) = agent.sent.get(&sequence).copied() else { return };
        for (unit, lease) in &reply.leases {
            if let Some(unit) = unit_index(unit) {
                self.extend_lease(At { dc, unit }, Held::from_grant(*lease, sent_ms));
            }
        }
        let behind = (0..self.unit_count).any(|unit| self.replica(At { dc, unit }).record.is_none());
        let newest =
            self.agents[dc].replicas.iter().filter_map(|r| r.record.as_ref()).map(|r| r.revision).max();
        if behind || newest < Some(reply.revision) && newest != Some(Revision(0)) {
            self.send(Channel::AgentControl, dc, Proc::Control, &Message::List(dc));
        }
    }

    /// Merges a lease and tells the guard, if a database runs that it is for.
    fn extend_lease(&mut self, at: At, granted: Held) {
        let replica = self.replica_mut(at);
        let awaited = replica.lease.is_none_or(|held| held.epoch != granted.epoch);
        let lease = replica.lease.map_or(granted, |held| held.merge(granted));
        replica.lease = Some(lease);
        if awaited {
            self.after(MS, Proc::Agent(at.dc), Event::Glance { at });
        }
        let armed = self.guard(at).lease;
        if armed.is_some_and(|(epoch, until_ms)| epoch == lease.epoch && until_ms < lease.until_ms) {
            let (epoch, until_ms) = (lease.epoch, lease.until_ms);
            let takes = self.between(50, 2 * MS);
            self.after(takes, Proc::Guard(at), Event::Arm { at, epoch, until_ms });
        }
    }

    // ---- the guard --------------------------------------------------------------------------------------------

    pub(crate) fn armed(&mut self, at: At, epoch: Epoch, until_ms: u64) {
        let guard = self.agents[at.dc].guard_mut(at.unit);
        let newer = guard.lease.is_none_or(|(e, until)| (epoch, until_ms) >= (e, until));
        if newer {
            guard.lease = Some((epoch, until_ms));
        }
        self.set_timer(at);
    }

    fn set_timer(&mut self, at: At) {
        let Some((_, until_ms)) = self.guard(at).lease else { return };
        let due = self.now + self.until_clock_ms(at.dc, until_ms);
        if self.guard(at).timer.is_some_and(|timer| timer <= due) {
            return;
        }
        self.agents[at.dc].guard_mut(at.unit).timer = Some(due);
        self.after(due - self.now, Proc::Guard(at), Event::Deadline { at });
    }

    pub(crate) fn deadline(&mut self, at: At) {
        self.agents[at.dc].guard_mut(at.unit).timer = None;
        let now_ms = self.clock_ms(at.dc);
        if self.guard(at).lease.is_none_or(|(_, until_ms)| now_ms < until_ms) {
            self.set_timer(at);
            return;
        }
        self.say(Proc::Guard(at), || "the lease has run out: the database is stopped at once".to_owned());
        self.begin_kill(at);
    }

    /// Stops a database at once, which takes its time.
    pub fn begin_kill(&mut self, at: At) {
        let life = self.processes.life(Proc::Postgres(at));
        // SIGQUIT, and SIGKILL if that is not enough.
        let takes =
            if self.chance(200) { self.between(50 * MS, KILL_MAX) } else { self.between(MS, 20 * MS) };
        self.after(takes, Proc::World, Event::Killed { at, life });
    }

    pub(crate) fn killed(&mut self, at: At, life: u64) {
        if self.processes.life(Proc::Postgres(at)) == life {
            self.kill_database(at, "it is stopped at once");
        }
    }

    // ---- promises ---------------------------------------------------------------------------------------------

    /// Asks the other replicas' agents to vouch, if the control plane has been silent for two renewals.
    fn ask_for_promises(&mut self, dc: Dc) {
        let now_ms = self.clock_ms(dc);
        if now_ms.saturating_sub(self.agents[dc].answered_ms) < 2 * self.timing.renew_ms {
            return;
        }
        let name = dc_id(dc);
        for unit in 0..self.unit_count {
            let at = At { dc, unit };
            let local = self.observe(at);
            let replica = self.replica(at);
            let view = AgentView {
                dc: &name,
                unit: replica.vouched(),
                local: &local,
                lease: replica.lease,
                promises: replica.promises,
                now_ms,
            };
            let Some(vouchers) = agent::vouchers(&view) else { continue };
            let Some(epoch) = replica.vouched().map(|record| record.status.epoch) else { continue };
            let missing: BTreeSet<Dc> = vouchers.iter().filter_map(dc_index).collect();
            let number = self.fresh_id();
            let ttl_ms = self.timing.lease_ms;
            for &voucher in &missing {
                let ask = PromiseRequest { unit: unit_id(unit), epoch, dc: name.clone(), ttl_ms };
                self.send(
                    Channel::Promises,
                    dc,
                    Proc::Agent(voucher),
                    &Message::Ask { round: number, from: dc, ask },
                );
            }
            self.replica_mut(at).round = Some(Round { number, epoch, sent_ms: now_ms, missing });
        }
    }

    pub(crate) fn agent_asked(&mut self, dc: Dc, round: u64, from: Dc, ask: &PromiseRequest) {
        let Some(unit) = unit_index(&ask.unit) else { return };
        let (now_ms, timing) = (self.clock_ms(dc), self.timing);
        let replica = self.replica_mut(At { dc, unit });
        let known = replica.vouched().cloned();
        let reply = replica.promises.ask(known.as_ref(), ask, &timing, now_ms);
        self.say(Proc::Agent(dc), || {
            format!(
                "{} {from} about {}: {}",
                if reply.granted { "vouches for" } else { "refuses" },
                ask.unit,
                reply.reason
            )
        });
        self.send(
            Channel::Promises,
            dc,
            Proc::Agent(from),
            &Message::Answer { round, from: dc, unit, reply },
        );
    }

    pub(crate) fn agent_answered(&mut self, at: At, round: u64, from: Dc, reply: &PromiseReply) {
        let ttl_ms = self.timing.lease_ms;
        let replica = self.replica_mut(at);
        let Some(open) = replica.round.as_mut().filter(|open| open.number == round) else { return };
        if !reply.granted {
            replica.round = None;
            return;
        }
        open.missing.remove(&from);
        if open.missing.is_empty() {
            let held = Held { epoch: open.epoch, until_ms: open.sent_ms + ttl_ms };
            replica.round = None;
            self.say(Proc::Agent(at.dc), || format!("{} is vouched for by all", unit_id(at.unit)));
            self.extend_lease(at, held);
        }
    }
}
