//! The safety rules: what is looked at before every move and every failover, and by which name a refusal is told.
//!
//! A move is somebody's wish and is refused as soon as one rule speaks against it. A failover answers an outage: it
//! is held back only where going ahead could lose money, make two homes, or help nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dujiang_types::DcId;
use dujiang_types::exposure::{Host, Meter};
use dujiang_types::unit::LastFailover;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::controller::View;

/// Moves at work at once: each holds a unit's customers for a moment, and the replicas that take over are wanted well.
pub const MOVES_MAX: usize = 4;
/// Data centers that must serve for a move to begin: with fewer the move would end at the only one there is.
pub const SERVING_MIN: usize = 2;
/// A failover that follows another one of the same unit within this time is the second of a series. Long enough for a
/// person to be called and to look; a data center that is repaired and fails again later is another matter.
pub const FLAPPING_WINDOW_S: i64 = 600;
/// A gateway reports every second: after two of them it is silent. Less than a lease and its margin, so that the loss
/// of a whole data center is not found out later than without it.
const GATEWAY_FRESH_MS: u64 = 2_000;
/// Load per processor, in percent, at which a host is overloaded: four processes for each processor, for a minute.
const LOAD_PERCENT_MAX: u32 = 400;
/// A host is not fit for a move if it has less than one part in so many of its disk free,
const DISK_FREE_PART: u64 = 50;
/// but not less than what a database writes while somebody is called,
const DISK_FREE_MIN: u64 = 64 << 20;
/// and this much is always enough: what a replica that is away makes its primary keep.
const DISK_FREE_ENOUGH: u64 = 1 << 30;
/// With less a new primary could not even write what a promotion writes: its segments and the first checkpoint.
const DISK_FREE_FAILOVER: u64 = 16 << 20;

/// A safety rule, by the name people see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Never two homes: nobody is promoted while the old home may still acknowledge.
    OneHome,
    /// No acknowledged commit is lost: whoever is promoted provably has them all.
    NothingLost,
    /// A move ends at a replica that is ready: there, connected, close behind, in the sync set.
    TargetReady,
    /// Enough data centers serve, the target among them.
    ServingMinimum,
    /// The target has room for the unit: clients, processors, disk.
    Capacity,
    /// Only one operation touches a unit at a time.
    OneOperation,
    /// Only so many units move at once.
    MovesAtOnce,
    /// A unit does not go to and fro: see [`flapping`].
    Flapping,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name it has in JSON.
        self.serialize(f)
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// By which rule.
    pub rule: Rule,
    /// Why, in one sentence.
    pub why: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.why)
    }
}

pub(crate) fn refuse(rule: Rule, why: impl Into<String>) -> Refusal {
    Refusal { rule, why: why.into() }
}

/// What the rules look at beyond the unit's own record and reports. What is not known refuses nothing: *unknown* is
/// not *no room*.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Hosts of data centers that are heard.
    pub hosts: BTreeMap<DcId, Host>,
    /// What is counted in the unit's replicas there.
    pub meters: BTreeMap<DcId, Meter>,
    /// All data centers, and those of them that serve: agent and gateway are heard. `None` if nobody has looked.
    pub serving: Option<Serving>,
    /// Moves of other units that are at work, or were asked for earlier.
    pub moves_at_work: usize,
}

/// Which data centers serve.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Serving {
    /// Those that do.
    pub now: BTreeSet<DcId>,
    /// How many there are in all.
    pub of: usize,
}

/// Why a move of the unit to a replica that is ready would be refused all the same.
pub fn refusal(view: &View, to: &DcId) -> Option<Refusal> {
    let around = view.around;
    if let Some(operation) = &view.unit.status.operation {
        return Some(refuse(Rule::OneOperation, format!("{operation} is at work on the unit")));
    }
    if around.moves_at_work >= MOVES_MAX {
        let why = format!("{} units are moving; no more than {MOVES_MAX} do at once", around.moves_at_work);
        return Some(refuse(Rule::MovesAtOnce, why));
    }
    serving_minimum(around, to).or_else(|| capacity(view, to))
}

pub(crate) fn serving_minimum(around: &Surroundings, to: &DcId) -> Option<Refusal> {
    let serving = around.serving.as_ref()?;
    let least = SERVING_MIN.min(serving.of);
    let why = if serving.now.len() < least {
        format!("{} of {} data centers serve; a move needs {least}", serving.now.len(), serving.of)
    } else if serving.now.contains(to) {
        return None;
    } else {
        format!("{to} does not serve: its agent or its gateway is not heard")
    };
    Some(refuse(Rule::ServingMinimum, why))
}

pub(crate) fn capacity(view: &View, to: &DcId) -> Option<Refusal> {
    let around = view.around;
    let home = &view.unit.status.home;
    let refused = |why: String| Some(refuse(Rule::Capacity, why));
    let meter = |dc| around.meters.get(dc).copied().unwrap_or_default();
    let (used, there) = (meter(home).connections, meter(to));
    if let (Some(needed), Some(most)) = (used, there.connections_max) {
        let free = most.saturating_sub(there.connections.unwrap_or(0));
        if needed > free {
            return refused(format!("{needed} clients are connected, and {to} has room for {free}"));
        }
    }
    let host = around.hosts.get(to)?;
    let least = disk_wanted(host);
    if host.disk_free_bytes < least {
        let (free, least) = (host.disk_free_bytes >> 20, least >> 20);
        return refused(format!("{to} has {free} MiB of disk free; {least} MiB are wanted"));
    }
    // One that is as busy as the home is no worse than the home.
    let busy = around.hosts.get(home).map_or(0, |home| home.load_percent.saturating_mul(3) / 2);
    if host.load_percent > LOAD_PERCENT_MAX.max(busy) {
        let load = host.load_percent;
        return refused(format!(
            "{to} has a load of {load} % per processor; {LOAD_PERCENT_MAX} % are too much"
        ));
    }
    None
}

/// How much of a host's disk has to be free, in bytes.
pub fn disk_wanted(host: &Host) -> u64 {
    (host.disk_bytes / DISK_FREE_PART).clamp(DISK_FREE_MIN, DISK_FREE_ENOUGH)
}

/// Why nobody would be helped by a failover to a data center. Much less is asked than of a move: anything that serves
/// is better than nothing.
pub(crate) fn failover_capacity(view: &View, to: &DcId) -> Option<Refusal> {
    let host = view.around.hosts.get(to)?;
    (host.disk_free_bytes < DISK_FREE_FAILOVER).then(|| {
        let free = host.disk_free_bytes >> 20;
        refuse(Rule::Capacity, format!("{to} has only {free} MiB of disk free and could not write"))
    })
}

/// Why a failover from a home that is not heard waits for an operator, if it does.
///
/// The rule is for a unit that goes to and fro because something about it or its surroundings is half broken. So it
/// holds back only if both are true: the unit has failed over within the window before, and the home is *not dead for
/// certain*: its agent is silent, but its data center's gateway is heard. As soon as the agent says that the primary
/// has stopped, or the whole data center is silent, the failover goes ahead: holding it back would then only be an
/// outage. It is counted and told loudly instead ([`LastFailover::in_a_row`]).
pub(crate) fn flapping(view: &View) -> Option<Refusal> {
    let status = &view.unit.status;
    let last = status.last_failover.as_ref().filter(|last| within_window(last, view.wall))?;
    let gateway = view.gateways.get(&status.home)?;
    (gateway.age_ms <= GATEWAY_FRESH_MS).then(|| {
        let why = format!(
            "the unit failed over from {} at {:.0}, less than {} min ago, and the gateway of {} is heard, so its data \
             center lives; `dujiang unit allow-failover {}` if it shall fail over again",
            last.from, last.at, FLAPPING_WINDOW_S / 60, status.home, view.unit.name
        );
        refuse(Rule::Flapping, why)
    })
}

/// A wall clock that was set back proves nothing, and then a failover is not held back.
fn within_window(last: &LastFailover, now: Timestamp) -> bool {
    (0..FLAPPING_WINDOW_S).contains(&now.duration_since(last.at).as_secs())
}

/// What is remembered of a failover that changes the home.
pub(crate) fn note_failover(before: Option<&LastFailover>, from: &DcId, wall: Timestamp) -> LastFailover {
    let in_a_row = before.filter(|last| within_window(last, wall)).map_or(0, |last| last.in_a_row);
    LastFailover { at: wall, from: from.clone(), in_a_row: in_a_row.saturating_add(1) }
}
