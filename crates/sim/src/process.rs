//! Processes: alive, dead or frozen. What happens to a frozen process happens to it when it is thawed.

use std::collections::BTreeMap;

use crate::event::Scheduled;
use crate::place::Proc;

/// Events kept for a frozen process; beyond that the oldest connections would be reset anyway.
const BACKLOG_MAX: usize = 4_096;

#[derive(Debug, Default)]
struct State {
    alive: bool,
    life: u64,
    freezes: u32,
    backlog: Vec<Scheduled>,
}

/// What becomes of an event when its time has come.
#[derive(Debug)]
pub enum Fate {
    /// It happens.
    Happens(Scheduled),
    /// Its owner is dead, or lives another life.
    Void,
    /// It waits for the thaw.
    Waits,
}

/// Every process of the world.
#[derive(Debug, Default)]
pub struct Processes {
    states: BTreeMap<Proc, State>,
}

impl Processes {
    /// Starts a process: a new life, not frozen.
    pub fn start(&mut self, proc: Proc) {
        let state = self.states.entry(proc).or_default();
        state.alive = true;
        state.life += 1;
        state.backlog.clear();
    }

    /// Ends a process, frozen or not.
    pub fn end(&mut self, proc: Proc) {
        let state = self.states.entry(proc).or_default();
        state.alive = false;
        state.freezes = 0;
        state.life += 1;
        state.backlog.clear();
    }

    /// True if it is alive, frozen or not.
    pub fn alive(&self, proc: Proc) -> bool {
        proc == Proc::World || self.states.get(&proc).is_some_and(|state| state.alive)
    }

    /// True if it is frozen.
    pub fn frozen(&self, proc: Proc) -> bool {
        self.states.get(&proc).is_some_and(|state| state.freezes > 0)
    }

    /// True if it is alive and runs.
    pub fn runs(&self, proc: Proc) -> bool {
        self.alive(proc) && !self.frozen(proc)
    }

    /// Its current life.
    pub fn life(&self, proc: Proc) -> u64 {
        self.states.get(&proc).map_or(0, |state| state.life)
    }

    /// Stops its clockwork. Freezes nest: a frozen process on a paused machine.
    pub fn freeze(&mut self, proc: Proc) {
        self.states.entry(proc).or_default().freezes += 1;
    }

    /// Undoes one freeze. Returns the events that waited, if it runs now.
    pub fn thaw(&mut self, proc: Proc) -> Vec<Scheduled> {
        let state = self.states.entry(proc).or_default();
        state.freezes = state.freezes.saturating_sub(1);
        if state.freezes == 0 { std::mem::take(&mut state.backlog) } else { Vec::new() }
    }

    /// Every process that is frozen.
    pub fn all_frozen(&self) -> Vec<Proc> {
        self.states.iter().filter(|(_, state)| state.freezes > 0).map(|(proc, _)| *proc).collect()
    }

    /// Decides what becomes of an event.
    pub fn fate(&mut self, event: Scheduled) -> Fate {
        if event.owner == Proc::World {
            return Fate::Happens(event);
        }
        let state = self.states.entry(event.owner).or_default();
        if !state.alive || event.life.is_some_and(|life| life != state.life) {
            return Fate::Void;
        }
        if state.freezes == 0 {
            return Fate::Happens(event);
        }
        if state.backlog.len() < BACKLOG_MAX {
            state.backlog.push(event);
        }
        Fate::Waits
    }
}
