//! The world: virtual time, everything in it, and the loop that makes one event happen after the other.

use dujiang_unit::Timing;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::Options;
use crate::check::Checker;
use crate::client::Clients;
use crate::control::Control;
use crate::event::{Event, Message, Queue};
use crate::faults::Plan;
use crate::gateway::Gateway;
use crate::host::Agent;
use crate::network::{Channel, Network};
use crate::place::{At, CLIENT_SITE, CONTROL_SITE, DC_COUNT, Dc, Proc, Site};
use crate::postgres::Postgres;
use crate::process::{Fate, Processes};
use crate::trace::{MS, SECOND, Trace, Us};

/// Events of one run. A run of a few virtual minutes needs far fewer; more means that something spins.
const EVENTS_MAX: u64 = 5_000_000;

/// A broken invariant: when, and the story in one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Virtual time.
    pub time: Us,
    /// Which invariant.
    pub rule: &'static str,
    /// What was seen.
    pub story: String,
}

/// A machine's clock: how far it is off and how fast it runs.
#[derive(Debug, Clone, Copy)]
struct Clock {
    offset_us: u64,
    /// Microseconds it counts in a true second.
    rate: u64,
}

/// Everything there is.
pub struct World {
    /// What is simulated.
    pub options: Options,
    /// Budgets, as the control plane uses them.
    pub timing: Timing,
    /// Virtual time.
    pub now: Us,
    /// The only source of chance.
    pub rng: ChaCha8Rng,
    /// Events to come.
    pub queue: Queue,
    /// Who is alive.
    pub processes: Processes,
    /// Who can reach whom.
    pub net: Network,
    /// What happened, for people.
    pub trace: Trace,
    /// The invariants.
    pub checker: Checker,
    /// The first broken invariant.
    pub violation: Option<Violation>,
    /// Faults to come.
    pub plan: Plan,
    /// Units.
    pub unit_count: usize,
    /// The control plane with its store.
    pub control: Control,
    /// Agents by data center.
    pub agents: Vec<Agent>,
    /// Gateways by data center.
    pub gateways: Vec<Gateway>,
    /// Clients and their attempts.
    pub clients: Clients,
    /// False while a data center has no power.
    pub power: [bool; DC_COUNT],
    /// Until when a data center is without power, if it is.
    pub dark_until: [Us; DC_COUNT],
    /// Until when a data center's disk does not answer.
    pub disk_until: [Us; DC_COUNT],
    databases: Vec<Postgres>,
    clocks: [Clock; DC_COUNT + 1],
    last_id: u64,
}

impl World {
    /// A world at its beginning: nothing runs yet, everything is about to be started.
    pub fn new(seed: u64, options: &Options) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let net = Network::new(&mut rng);
        let unit_count = rng.random_range(1..=3);
        let clock = |rng: &mut ChaCha8Rng| Clock {
            offset_us: rng.random_range(0..1_000 * SECOND),
            rate: if options.scenario.drifts() { rng.random_range(990_000..=1_010_000) } else { SECOND },
        };
        let clocks = std::array::from_fn(|_| clock(&mut rng));
        let timing = options.timing();
        let plan = Plan::new(&mut rng, options, unit_count);
        let control = Control::new(&mut rng, unit_count, options);
        let mut world = Self {
            options: options.clone(),
            timing,
            now: 0,
            queue: Queue::default(),
            processes: Processes::default(),
            net,
            trace: Trace::new(options.trace),
            checker: Checker::new(unit_count),
            violation: None,
            plan,
            unit_count,
            control,
            agents: (0..DC_COUNT).map(|_| Agent::new(unit_count, &timing)).collect(),
            gateways: (0..DC_COUNT).map(|_| Gateway::new(unit_count)).collect(),
            clients: Clients::new(&mut rng, unit_count),
            power: [true; DC_COUNT],
            dark_until: [0; DC_COUNT],
            disk_until: [0; DC_COUNT],
            databases: (0..DC_COUNT * unit_count).map(|_| Postgres::new()).collect(),
            clocks,
            last_id: 0,
            rng,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.start_control();
        for dc in 0..DC_COUNT {
            self.start_agent(dc);
            self.start_gateway(dc);
        }
        self.start_clients();
        self.schedule_plan();
    }

    /// Runs until the end of the plan, a broken invariant, or full recovery after the healing.
    pub fn run(&mut self) {
        let mut events = 0;
        while let Some(event) = self.queue.pop() {
            self.now = event.time;
            if self.violation.is_some() || self.now > self.plan.end || self.recovered() {
                break;
            }
            events += 1;
            if events > EVENTS_MAX {
                self.violate("the simulator itself", || "too many events: something spins".to_owned());
                break;
            }
            let owner = event.owner;
            if let Fate::Happens(event) = self.processes.fate(event) {
                self.happen(owner, event.event);
                self.check();
            }
        }
        self.check_end();
    }

    fn happen(&mut self, owner: Proc, event: Event) {
        match event {
            Event::Deliver(message) => self.deliver(owner, message),
            Event::Flushed { at, upto } => self.flushed(at, upto),
            Event::SenderReload { at, standby, conn } => self.sender_reload(at, standby, conn),
            Event::CheckpointerReload { at } => self.checkpointer_reload(at),
            Event::StartupReload { at } => self.startup_reload(at),
            Event::Replay { at } => self.replay(at),
            Event::Started { at } => self.started(at),
            Event::Promoted { at, timeline } => self.promoted(at, timeline),
            Event::Housekeeping { at } => self.housekeeping(at),
            Event::Stopping { at, since } => self.stopping(at, since),
            Event::Log { at, conn, first, records } => self.log_arrives(at, conn, first, records),
            Event::Confirm { at, standby, conn, flushed } => self.confirmed(at, standby, conn, flushed),
            Event::Hangup { at, conn } => self.hung_up(at, conn),
            Event::Execute { at, attempt, epoch } => self.execute(at, attempt, epoch),
            Event::Look { dc, unit } => self.look(At { dc, unit }),
            Event::Glance { at } => self.look_now(at),
            Event::Act { at, step, record } => self.act(at, step, &record),
            Event::Noted { at, epoch, then } => self.noted(at, epoch, then),
            Event::WorkDone { at, source } => self.work_done(at, source),
            Event::Renew { dc } => self.renew(dc),
            Event::SendReport { dc } => self.send_report(dc),
            Event::Resync { dc } => self.resync(dc),
            Event::Arm { at, epoch, until_ms } => self.armed(at, epoch, until_ms),
            Event::Deadline { at } => self.deadline(at),
            Event::Killed { at, life } => self.killed(at, life),
            Event::ControlTick => self.control_tick(),
            Event::Write(intent) => self.store_write(*intent),
            Event::Publish => self.publish_routes(),
            Event::GatewayTick { dc } => self.gateway_tick(dc),
            Event::Retry { dc, attempt } => self.gateway_retry(dc, attempt),
            Event::Overdue { dc, attempt } => self.gateway_overdue(dc, attempt),
            Event::Think { client } => self.client_thinks(client),
            Event::Impatient { client, attempt } => self.client_impatient(client, attempt),
            Event::Fault(fault) => self.fault(fault),
            Event::Restart(proc) => self.restart(proc),
            Event::AskMove => self.ask_move(),
            Event::Heal => self.heal(),
        }
    }

    fn deliver(&mut self, to: Proc, message: Message) {
        match (to, message) {
            (Proc::Control, Message::Report(report)) => self.control_report(*report),
            (Proc::Control, Message::List(dc)) => self.control_list(dc),
            (Proc::Control, Message::GatewayReport { dc, report }) => self.control_gateway_report(dc, report),
            (Proc::Agent(dc), Message::Reply { session, sequence, reply }) => {
                self.agent_reply(dc, session, sequence, &reply);
            }
            (Proc::Agent(dc), Message::Record(record)) => self.agent_record(dc, *record),
            (Proc::Agent(dc), Message::Ask { round, from, ask }) => self.agent_asked(dc, round, from, &ask),
            (Proc::Agent(dc), Message::Answer { round, from, unit, reply }) => {
                self.agent_answered(At { dc, unit }, round, from, &reply);
            }
            (Proc::Gateway(dc), Message::Table { version, routes }) => {
                self.gateway_table(dc, version, routes);
            }
            (Proc::Gateway(dc), Message::Request { attempt }) => self.gateway_request(dc, attempt),
            (Proc::Gateway(dc), Message::Forward { attempt, epoch }) => self.application(dc, attempt, epoch),
            (Proc::Gateway(dc), Message::Result { attempt, outcome }) => {
                self.gateway_result(dc, attempt, outcome);
            }
            (Proc::Client(client), Message::Response { attempt, outcome }) => {
                self.client_response(client, attempt, outcome);
            }
            (to, message) => unreachable!("{to} never gets {message:?}"),
        }
    }

    // ---- what every part uses --------------------------------------------------------------------------------

    /// The database of a replica.
    pub fn db(&self, at: At) -> &Postgres {
        &self.databases[at.dc * self.unit_count + at.unit]
    }

    /// The database of a replica, to change it.
    pub fn db_mut(&mut self, at: At) -> &mut Postgres {
        &mut self.databases[at.dc * self.unit_count + at.unit]
    }

    /// Two databases of a unit: the first to change, the second to read.
    pub fn db_pair(&mut self, change: At, read: At) -> (&mut Postgres, &Postgres) {
        let (c, r) = (change.dc * self.unit_count + change.unit, read.dc * self.unit_count + read.unit);
        debug_assert_ne!(c, r, "a database does not follow itself");
        if c < r {
            let (left, right) = self.databases.split_at_mut(r);
            (&mut left[c], &right[0])
        } else {
            let (left, right) = self.databases.split_at_mut(c);
            (&mut right[0], &left[r])
        }
    }

    /// A number nobody else has.
    pub fn fresh_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// A site's own clock in milliseconds. Data centers have theirs; so has the control plane.
    pub fn clock_ms(&self, site: Site) -> u64 {
        let clock = self.clocks[site];
        (clock.offset_us + self.now / SECOND * clock.rate + self.now % SECOND * clock.rate / SECOND) / MS
    }

    /// Virtual microseconds until a site's clock shows at least that.
    pub fn until_clock_ms(&self, site: Site, ms: u64) -> Us {
        let clock = self.clocks[site];
        ms.saturating_sub(self.clock_ms(site)) * MS * SECOND / clock.rate + MS
    }

    /// Schedules an event for this life of a process.
    pub fn after(&mut self, delay: Us, owner: Proc, event: Event) {
        let life = self.processes.life(owner);
        self.queue.push(self.now + delay, owner, Some(life), event);
    }

    /// Schedules an event of the world itself.
    pub fn later(&mut self, delay: Us, event: Event) {
        self.queue.push(self.now + delay, Proc::World, None, event);
    }

    /// Sends a message that may be lost, late or doubled.
    pub fn send(&mut self, channel: Channel, from: Site, to: Proc, message: &Message) {
        let site = site_of(to);
        let copies = self.net.copies(&mut self.rng, channel, from, site);
        for delay in copies.into_iter().flatten() {
            self.queue.push(self.now + delay, to, None, Event::Deliver(message.clone()));
        }
    }

    /// Chance, in per mille.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        self.rng.random_ratio(per_mille.min(1_000), 1_000)
    }

    /// A duration between two bounds.
    pub fn between(&mut self, low: Us, high: Us) -> Us {
        self.rng.random_range(low..=high)
    }

    /// Adds a line to the trace.
    pub fn say(&mut self, who: impl std::fmt::Display, what: impl FnOnce() -> String) {
        self.trace.say(self.now, who, what);
    }

    /// Records a broken invariant; the first one counts.
    pub fn violate(&mut self, rule: &'static str, story: impl FnOnce() -> String) {
        if self.violation.is_none() {
            let story = story();
            self.trace.say(self.now, "VIOLATION", || format!("{rule}: {story}"));
            self.violation = Some(Violation { time: self.now, rule, story });
        }
    }
}

/// The site a process is at.
pub fn site_of(proc: Proc) -> Site {
    match proc {
        Proc::Agent(dc) | Proc::Gateway(dc) => dc,
        Proc::Guard(at) | Proc::Postgres(at) => at.dc,
        Proc::Control | Proc::World => CONTROL_SITE,
        Proc::Client(_) => CLIENT_SITE,
    }
}

/// The data center a process dies with, if any.
pub fn dc_of(proc: Proc) -> Option<Dc> {
    match proc {
        Proc::Agent(dc) | Proc::Gateway(dc) => Some(dc),
        Proc::Guard(at) | Proc::Postgres(at) => Some(at.dc),
        Proc::Control | Proc::World | Proc::Client(_) => None,
    }
}
