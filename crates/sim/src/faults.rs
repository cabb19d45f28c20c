//! What goes wrong, when, and how the world is mended in the end.

use std::ops::Range;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::event::Event;
use crate::liveness::bound;
use crate::network::{Channel, Cut};
use crate::place::{At, CONTROL_SITE, DC_COUNT, Dc, Proc, SITE_COUNT, dc_index};
use crate::trace::{MS, SECOND, Us};
use crate::world::World;
use crate::{Options, Scenario};

/// After everything is mended every unit must be whole and serving within this time: the longest chain of one
/// election, one promotion that runs into its budget, a rewind that fails, a clone, and joining the sync set.
const RECOVERY_MAX: Us = 60 * SECOND;
/// Chance that a data center stays away until the end of a run in which things break.
const ABSENCE: f64 = 0.15;
/// The longest fault, but for such an absence.
const FAULT_MAX: Us = 12 * SECOND;
/// A guard that was frozen, or whose machine was, may take that long after the thaw to stop its database.
const EXCUSE: Us = 500 * MS;

/// One thing that goes wrong, or its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A process dies (SIGKILL).
    Crash(Proc),
    /// A process is stopped (SIGSTOP) for so long.
    Freeze(Proc, Us),
    /// It goes on.
    Thaw(Proc),
    /// A whole machine stands still for so long: its processes, not its clock.
    Pause(Dc, Us),
    /// It goes on.
    Resume(Dc),
    /// A data center loses power for so long.
    PowerOff(Dc, Us),
    /// It has power again.
    PowerOn(Dc),
    /// Links are cut for so long.
    Cut(Cut, Us),
    /// They are mended.
    Mend(Cut),
    /// A data center's disk does not answer for so long.
    Stall(Dc, Us),
    /// A session of a database is cancelled while it waits.
    Cancel(At),
    /// A database removes the log its standbys may still need.
    LoseSlot(At),
    /// The store is written to a backup.
    Backup,
    /// The control plane ends, and the store is replaced by that backup.
    Restore,
}

/// What is going to happen in a run.
#[derive(Debug, Clone)]
pub struct Plan {
    faults: Vec<(Us, Fault)>,
    moves: Vec<Us>,
    /// From then on nothing breaks any more; what is broken may stay so until the healing.
    calm: Us,
    /// A data center stays away for longer than a unit may take to serve.
    pub absence: bool,
    /// When everything is mended.
    pub heal: Us,
    /// When the run ends at the latest.
    pub end: Us,
    /// Databases and agents are quick: the more a promotion has to wait for leases alone.
    pub brisk: bool,
    /// Data centers that receive log late.
    pub slow_link: [bool; DC_COUNT],
    /// Data centers whose standbys replay slowly.
    pub slow_replay: [bool; DC_COUNT],
    /// Chance per mille that something breaks at an agent's action or a decision of the control plane.
    at_step: u32,
    noise: (f64, f64, f64),
}

impl Plan {
    /// Draws a plan.
    pub fn new(rng: &mut ChaCha8Rng, options: &Options, units: usize) -> Self {
        let scenario = options.scenario;
        let begin = rng.random_range(3 * SECOND..8 * SECOND);
        let calm = begin + rng.random_range(10 * SECOND..30 * SECOND);
        let mut faults = draw_faults(rng, options, units, begin..calm);
        let absence = scenario.breaks() && rng.random_bool(ABSENCE);
        let mut heal = calm;
        if absence {
            heal += FAULT_MAX + bound(&options.timing()) + rng.random_range(SECOND..8 * SECOND);
            let time = rng.random_range(begin..calm);
            faults.push((time, draw_absence(rng, scenario, heal - time)));
        }
        if scenario.restores() {
            // Some time apart, so that units may have moved, failed over and moved back in between.
            for _ in 0..rng.random_range(1..=2) {
                let backup = rng.random_range(begin / 2..calm);
                faults.push((backup, Fault::Backup));
                faults.push((rng.random_range(backup..heal.max(backup + SECOND)), Fault::Restore));
            }
        }
        faults.sort_by_key(|(time, _)| *time);
        let moves = if scenario == Scenario::Calm { 0 } else { rng.random_range(0..=6) };
        let lossy = scenario.cuts() && rng.random_bool(0.5);
        let noise = if lossy {
            (rng.random_range(0.0..0.2), rng.random_range(0.0..0.1), rng.random_range(0.0..0.03))
        } else {
            (0.0, 0.0, 0.0)
        };
        Self {
            faults,
            calm,
            absence,
            moves: (0..moves).map(|_| rng.random_range(begin..heal)).collect(),
            heal,
            end: heal + RECOVERY_MAX,
            brisk: rng.random_bool(0.5),
            slow_link: std::array::from_fn(|_| scenario.breaks() && rng.random_bool(0.3)),
            slow_replay: std::array::from_fn(|_| scenario != Scenario::Calm && rng.random_bool(0.3)),
            at_step: if scenario.crashes() && rng.random_bool(0.7) { rng.random_range(1..=15) } else { 0 },
            noise,
        }
    }
}

fn draw_faults(rng: &mut ChaCha8Rng, options: &Options, units: usize, when: Range<Us>) -> Vec<(Us, Fault)> {
    let count = if options.scenario.breaks() { rng.random_range(1..=10) } else { 0 };
    let mut faults: Vec<(Us, Fault)> = Vec::new();
    for _ in 0..count {
        // Trouble seldom comes alone: some faults follow the one before closely.
        let after = faults.last().filter(|_| rng.random_bool(0.4)).map(|(time, _)| *time);
        let time = match after {
            Some(time) => time + rng.random_range(0..2_500 * MS),
            None => rng.random_range(when.clone()),
        };
        faults.push((time, draw(rng, options, units)));
    }
    faults
}

/// A whole data center is gone for so long: without power, standing still, or out of reach.
fn draw_absence(rng: &mut ChaCha8Rng, scenario: Scenario, takes: Us) -> Fault {
    let dc = rng.random_range(0..DC_COUNT);
    match rng.random_range(0..4) {
        0..=1 if scenario.crashes() => Fault::PowerOff(dc, takes),
        2 if scenario.crashes() => Fault::Pause(dc, takes),
        _ if scenario.cuts() => Fault::Cut(isolation(dc), takes),
        _ => Fault::PowerOff(dc, takes),
    }
}

fn some_replica(rng: &mut ChaCha8Rng, units: usize) -> At {
    At { dc: rng.random_range(0..DC_COUNT), unit: rng.random_range(0..units) }
}

fn some_process(rng: &mut ChaCha8Rng, units: usize, with_guards: bool) -> Proc {
    match rng.random_range(0..10) {
        0..=1 => Proc::Control,
        2..=4 => Proc::Agent(rng.random_range(0..DC_COUNT)),
        5 if with_guards => Proc::Guard(some_replica(rng, units)),
        5..=8 => Proc::Postgres(some_replica(rng, units)),
        _ => Proc::Gateway(rng.random_range(0..DC_COUNT)),
    }
}

fn some_time(rng: &mut ChaCha8Rng) -> Us {
    if rng.random_bool(0.5) {
        rng.random_range(10 * MS..1_500 * MS)
    } else {
        rng.random_range(SECOND..FAULT_MAX)
    }
}

fn draw(rng: &mut ChaCha8Rng, options: &Options, units: usize) -> Fault {
    let scenario = options.scenario;
    let takes = some_time(rng);
    loop {
        let fault = match rng.random_range(0..12) {
            0..=1 if scenario.crashes() => Fault::Crash(some_process(rng, units, true)),
            2..=3 if scenario.crashes() => {
                Fault::Freeze(some_process(rng, units, options.freezes_guards), takes)
            }
            4 if scenario.crashes() => Fault::Pause(rng.random_range(0..DC_COUNT), takes),
            5 if scenario.crashes() => Fault::PowerOff(rng.random_range(0..DC_COUNT), takes),
            6..=8 if scenario.cuts() => Fault::Cut(some_cut(rng), takes),
            9 if scenario.crashes() => Fault::Stall(rng.random_range(0..DC_COUNT), takes.min(8 * SECOND)),
            10 => Fault::Cancel(some_replica(rng, units)),
            11 => Fault::LoseSlot(some_replica(rng, units)),
            _ => continue,
        };
        return fault;
    }
}

/// A cut of one site from one other or from all, of one channel or all, one-way or both ways.
fn some_cut(rng: &mut ChaCha8Rng) -> Cut {
    let site = rng.random_range(0..=CONTROL_SITE);
    let others: Vec<usize> = if rng.random_bool(0.5) {
        (0..SITE_COUNT).filter(|other| *other != site).collect()
    } else {
        vec![(site + rng.random_range(1..=CONTROL_SITE)) % (CONTROL_SITE + 1)]
    };
    let channels = if rng.random_bool(0.5) {
        Channel::ALL.to_vec()
    } else {
        vec![Channel::ALL[rng.random_range(0..Channel::ALL.len())]]
    };
    let direction = rng.random_range(0..4);
    let mut links = Vec::new();
    for other in others {
        if direction != 0 {
            links.push((site, other));
        }
        if direction != 1 {
            links.push((other, site));
        }
    }
    Cut { channels, links }
}

/// A data center that nobody reaches and that reaches nobody.
fn isolation(dc: Dc) -> Cut {
    let others = (0..SITE_COUNT).filter(|other| *other != dc);
    Cut {
        channels: Channel::ALL.to_vec(),
        links: others.flat_map(|other| [(dc, other), (other, dc)]).collect(),
    }
}

impl World {
    /// Puts the plan into the queue.
    pub fn schedule_plan(&mut self) {
        (self.net.loss, self.net.duplication, self.net.straggling) = self.plan.noise;
        for (time, fault) in self.plan.faults.clone() {
            self.later(time, Event::Fault(fault));
        }
        for time in self.plan.moves.clone() {
            self.later(time, Event::AskMove);
        }
        self.later(self.plan.heal, Event::Heal);
    }

    /// True once everything was mended for good.
    pub fn healed(&self) -> bool {
        self.now >= self.plan.heal
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        if self.healed() {
            return;
        }
        let fault = self.aim(fault);
        self.say("FAULT", || format!("{fault:?}"));
        match fault {
            Fault::Crash(proc) => self.crash(proc),
            Fault::Freeze(proc, takes) => {
                if self.processes.alive(proc) {
                    self.processes.freeze(proc);
                    self.later(takes, Event::Fault(Fault::Thaw(proc)));
                }
            }
            Fault::Thaw(proc) => self.thaw(proc),
            Fault::Pause(dc, takes) => {
                for proc in self.living(dc) {
                    self.processes.freeze(proc);
                }
                self.later(takes, Event::Fault(Fault::Resume(dc)));
            }
            Fault::Resume(dc) => {
                for proc in self.living(dc) {
                    self.thaw(proc);
                }
            }
            Fault::PowerOff(dc, takes) => {
                self.dark_until[dc] = self.dark_until[dc].max(self.now + takes);
                self.power_off(dc);
                self.later(takes, Event::Fault(Fault::PowerOn(dc)));
            }
            // A longer outage may have begun meanwhile.
            Fault::PowerOn(dc) if self.now < self.dark_until[dc] => {}
            Fault::PowerOn(dc) => self.power_on(dc),
            Fault::Cut(cut, takes) => {
                self.net.cut(&cut);
                self.later(takes, Event::Fault(Fault::Mend(cut)));
            }
            Fault::Mend(cut) => self.net.mend(&cut),
            Fault::Stall(dc, takes) => self.disk_until[dc] = self.now + takes,
            Fault::Backup => self.control.back_up(),
            Fault::Restore => {
                self.crash(Proc::Control);
                self.control.restore();
            }
            Fault::Cancel(at) => self.cancel_one(at),
            Fault::LoseSlot(at) => {
                let db = self.db_mut(at);
                db.removed = db.flushed;
                self.checker.liveness.restart(at.unit);
            }
        }
    }

    /// Half of the faults that begin hit whoever matters most: the home of a unit.
    fn aim(&mut self, fault: Fault) -> Fault {
        let unit = self.rng.random_range(0..self.unit_count);
        let home = dc_index(&self.control.unit(unit).status.home);
        let Some(dc) = home.filter(|_| self.rng.random_bool(0.5)) else { return fault };
        let at = At { dc, unit };
        let aimed = |proc| match proc {
            Proc::Agent(_) => Proc::Agent(dc),
            Proc::Guard(_) => Proc::Guard(at),
            Proc::Postgres(_) => Proc::Postgres(at),
            other => other,
        };
        match fault {
            Fault::Crash(proc) => Fault::Crash(aimed(proc)),
            Fault::Freeze(proc, takes) => Fault::Freeze(aimed(proc), takes),
            Fault::Pause(_, takes) => Fault::Pause(dc, takes),
            Fault::PowerOff(_, takes) => Fault::PowerOff(dc, takes),
            Fault::Stall(_, takes) => Fault::Stall(dc, takes),
            Fault::Cancel(_) => Fault::Cancel(at),
            Fault::LoseSlot(_) => Fault::LoseSlot(at),
            Fault::Cut(cut, takes) if cut.channels.len() > 1 => Fault::Cut(isolation(dc), takes),
            other => other,
        }
    }

    fn living(&self, dc: Dc) -> Vec<Proc> {
        let mut all = vec![Proc::Agent(dc), Proc::Gateway(dc)];
        for unit in 0..self.unit_count {
            all.extend([Proc::Guard(At { dc, unit }), Proc::Postgres(At { dc, unit })]);
        }
        all.retain(|proc| self.processes.alive(*proc));
        all
    }

    fn thaw(&mut self, proc: Proc) {
        if !self.processes.frozen(proc) {
            return;
        }
        if let Proc::Guard(at) = proc {
            self.checker.excuse(at, self.now + EXCUSE);
        }
        for event in self.processes.thaw(proc) {
            self.queue.push(self.now, event.owner, event.life, event.event);
        }
    }

    fn crash(&mut self, proc: Proc) {
        if !self.processes.alive(proc) {
            return;
        }
        match proc {
            // The kernel ends the database with its guard.
            Proc::Guard(at) => self.break_database(at, "its guard died"),
            Proc::Postgres(at) => self.break_database(at, "it crashed"),
            _ => {
                self.say("FAULT", || format!("{proc} dies"));
                self.processes.end(proc);
                let takes = self.between(100 * MS, 3 * SECOND);
                self.later(takes, Event::Restart(proc));
            }
        }
    }

    fn break_database(&mut self, at: At, why: &str) {
        self.kill_database(at, why);
        self.checker.liveness.restart(at.unit);
    }

    pub(crate) fn restart(&mut self, proc: Proc) {
        let dark = crate::world::dc_of(proc).is_some_and(|dc| !self.power[dc]);
        if self.processes.alive(proc) || dark {
            return;
        }
        self.say(proc, || "starts".to_owned());
        match proc {
            Proc::Control => self.start_control(),
            Proc::Agent(dc) => self.start_agent(dc),
            Proc::Gateway(dc) => self.start_gateway(dc),
            _ => {}
        }
    }

    fn power_off(&mut self, dc: Dc) {
        self.power[dc] = false;
        for unit in 0..self.unit_count {
            self.lose_database(At { dc, unit });
        }
        self.processes.end(Proc::Agent(dc));
        self.processes.end(Proc::Gateway(dc));
    }

    fn power_on(&mut self, dc: Dc) {
        if self.power[dc] {
            return;
        }
        self.power[dc] = true;
        for proc in [Proc::Agent(dc), Proc::Gateway(dc)] {
            let takes = self.between(10 * MS, SECOND);
            self.later(takes, Event::Restart(proc));
        }
    }

    /// Everything is mended: links, clocks of processes, power, disks. From now on the world has to recover.
    pub(crate) fn heal(&mut self) {
        self.say("HEAL", || "everything is mended".to_owned());
        self.net.heal();
        self.disk_until = [0; DC_COUNT];
        self.plan.slow_replay = [false; DC_COUNT];
        for dc in 0..DC_COUNT {
            self.power_on(dc);
        }
        for proc in self.processes.all_frozen() {
            while self.processes.frozen(proc) {
                self.thaw(proc);
            }
        }
        for proc in [Proc::Control, Proc::Agent(0), Proc::Agent(1), Proc::Agent(2)] {
            self.later(SECOND, Event::Restart(proc));
        }
        for dc in 0..DC_COUNT {
            self.later(SECOND, Event::Restart(Proc::Gateway(dc)));
        }
    }

    // ---- faults between two steps -----------------------------------------------------------------------------

    /// Something may break right when an agent acts.
    pub fn fault_at_action(&mut self, at: At) {
        if self.now >= self.plan.calm || !self.chance(self.plan.at_step) {
            return;
        }
        let takes = some_time(&mut self.rng);
        let fault = match self.rng.random_range(0..6) {
            0..=1 => Fault::Crash(Proc::Agent(at.dc)),
            2 => Fault::Crash(Proc::Postgres(at)),
            3 => Fault::Crash(Proc::Guard(at)),
            4 => Fault::Freeze(Proc::Agent(at.dc), takes),
            _ => Fault::PowerOff(at.dc, takes),
        };
        self.fault(fault);
    }

    /// Something may break right when the control plane decides or has written.
    pub fn fault_at_decision(&mut self) {
        if self.now >= self.plan.calm || !self.chance(self.plan.at_step * 2) {
            return;
        }
        let takes = some_time(&mut self.rng);
        let crash = self.rng.random_bool(0.7);
        self.fault(if crash { Fault::Crash(Proc::Control) } else { Fault::Freeze(Proc::Control, takes) });
    }
}
