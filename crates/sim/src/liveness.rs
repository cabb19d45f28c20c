//! Liveness, watched all the time: a unit that can make progress serves within a bound, also while something is
//! broken elsewhere. That everything recovers once everything is mended says nothing about the hours before.
//!
//! **A unit can make progress** while all of this holds:
//! * the control plane runs (the network may lose and delay messages: the bound leaves room for that);
//! * every data center is either *whole* or *away*, and at least two are whole;
//! * a unit that is still being formed has its home among the whole ones: nobody else has its data;
//! * the data of the whole ones proves the record's claims. With durability `zero` that fails only if the data of
//!   a second data center is missing, or was replaced since the claim was made.
//!
//! *Whole*: the agent runs and is linked both ways with the control plane; the unit's database and guard are not
//! frozen (a database that is down is the agent's to start); the disk answers; the log passes both ways between it
//! and every other whole one; a standby that replays slowly has caught up.
//!
//! *Away*: the control plane hears nothing from it, and if the unit is at home there it cannot be vouched for. A home
//! whose agent is silent while its gateway is heard is away only as long as the unit has not failed over before: a
//! second time within the window that waits for an operator (rule `flapping`), and here there is none.
//!
//! Anything between (an agent that is heard while its replication is cut, say) is *half there*, and nothing is
//! asked of the unit: a home that is heard and leads keeps its lease, whether or not its standbys can be reached,
//! because to the control plane it looks like a primary whose standbys are the trouble.
//!
//! The time counts anew whenever one of these facts changes, a process of a whole data center starts again, or a
//! database of the unit is broken on purpose: a chain of faults may take a chain of bounds.
//!
//! **A unit serves** if it is in phase serving with a primary that can acknowledge (open, under the record's epoch,
//! with enough standbys connected), or if it has just acknowledged a client's commit.

use std::collections::BTreeMap;

use dujiang_types::unit::Phase;
use dujiang_unit::Timing;
use dujiang_unit::election::complete;

use crate::network::Channel;
use crate::place::{At, CONTROL_SITE, DC_COUNT, Dc, Proc, dc_id, dc_index, unit_id};
use crate::postgres::Process;
use crate::trace::{MS, SECOND, Us};
use crate::world::World;

/// The rule's name.
pub const RULE: &str = "a unit that can make progress serves in time";
/// What this world's databases take between the budgets: a silent connection is given up (3 s), and a replica is
/// rewound in vain and then cloned (2 s each).
const DATABASES_MAX: Us = 7 * SECOND;

/// How long a unit that can make progress may take to serve: every budget of the longest way there, once.
/// * `fresh`: what was last heard of a data center that is away still counts;
/// * `drain`, `seal`: a move that has just begun is called off, or ends in an election;
/// * `lease` + `margin`: the election waits for the old home's lease, and the promises run out meanwhile;
/// * `home_grace`: a home that stopped in order is waited for;
/// * `lease` + `margin` again: the winner is lost or has run already, and a second election follows;
/// * `member_lost`: a member of the new sync set that is away leaves it;
/// * what databases take, and a hundredth for clocks that are slow.
///
/// Some of these pass at the same time and none of a thousand runs takes half of it: the rest is for messages that
/// are lost, and for a fault that has just ended. The budget of a promotion (`promote_ms_max`) is not in it: in a whole data center no promotion needs it.
pub fn bound(timing: &Timing) -> Us {
    let fence_ms = timing.lease_ms + timing.margin_ms;
    let budgets_ms = timing.fresh_ms
        + timing.drain_ms_max
        + timing.seal_ms_max
        + 2 * fence_ms
        + timing.home_grace_ms
        + timing.member_lost_ms;
    budgets_ms * MS * 101 / 100 + DATABASES_MAX
}

/// How a data center stands to one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Everything the unit needs there works; its agent lives this life.
    Whole(u64),
    /// Nothing is heard from it.
    Away,
    /// Neither.
    HalfThere,
}

/// What lets a unit make progress. Time counts while it stays the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Situation {
    control_life: u64,
    standings: [Standing; DC_COUNT],
}

/// For each unit, since when it could have served and did not.
#[derive(Debug)]
pub struct Liveness {
    waits: Vec<Option<(Situation, Us)>>,
    /// The longest that any unit took.
    pub longest: Us,
}

impl Liveness {
    /// Nothing has happened yet.
    pub fn new(units: usize) -> Self {
        Self { waits: vec![None; units], longest: 0 }
    }

    /// The unit has served, or something was done to it: the time counts anew.
    pub fn restart(&mut self, unit: usize) {
        self.waits[unit] = None;
    }
}

impl World {
    /// Looks whether a unit has been able to serve for too long without doing so.
    pub fn check_progress(&mut self, unit: usize) {
        if self.options.liveness_at_end_only {
            return;
        }
        let situation = if self.serves(unit) { None } else { self.can_progress(unit) };
        let Some(situation) = situation else {
            self.checker.liveness.restart(unit);
            return;
        };
        let now = self.now;
        let wait = &mut self.checker.liveness.waits[unit];
        let since = match wait {
            Some((before, since)) if *before == situation => *since,
            _ => {
                *wait = Some((situation, now));
                return;
            }
        };
        let liveness = &mut self.checker.liveness;
        liveness.longest = liveness.longest.max(now - since);
        if now - since > bound(&self.timing) {
            self.violate_progress(unit, since);
        }
    }

    fn violate_progress(&mut self, unit: usize, since: Us) {
        let status = &self.control.unit(unit).status;
        let (phase, home, reason) = (status.phase.clone(), status.home.clone(), status.reason.clone());
        let claims: Vec<String> = status.claims.iter().map(crate::control::show_claim).collect();
        let standings = self.standings(unit);
        let notes: Vec<String> = (0..DC_COUNT)
            .map(|dc| format!("{} ({:?})", self.describe(At { dc, unit }), standings[dc]))
            .collect();
        let seconds = (self.now - since) / SECOND;
        self.violate(RULE, || {
            format!(
                "{} could have served for {seconds} s and is {phase} at {home}: {reason}; claims [{}]. {}",
                unit_id(unit),
                claims.join("; "),
                notes.join("; ")
            )
        });
    }

    /// True if the unit's primary can acknowledge now.
    fn serves(&self, unit: usize) -> bool {
        let status = &self.control.unit(unit).status;
        let Some(dc) = dc_index(&status.home).filter(|_| status.phase == Phase::Serving) else {
            return false;
        };
        let at = At { dc, unit };
        let db = self.db(at);
        let leads = db.is_primary() && db.open && db.fence == status.epoch.0;
        if !leads || !self.processes.runs(Proc::Postgres(at)) || self.stalled_for(dc) > 0 {
            return false;
        }
        let confirms = |standby: &Dc| {
            let peer = At { dc: *standby, unit };
            let sender = &db.senders[standby];
            let connected = self.db(peer).receiver.as_ref().is_some_and(|r| r.conn == sender.conn);
            connected
                && sender.setting.names(*standby)
                && self.processes.runs(Proc::Postgres(peer))
                && self.stalled_for(*standby) == 0
                && self.linked(Channel::Replication, dc, *standby)
        };
        let need = usize::from(db.file_setting.need);
        if need == 0 { !db.waits } else { db.senders.keys().filter(|dc| confirms(dc)).count() >= need }
    }

    /// The situation of a unit that can make progress; `None` if it may not be able to.
    fn can_progress(&self, unit: usize) -> Option<Situation> {
        if !self.processes.runs(Proc::Control) {
            return None;
        }
        let standings = self.standings(unit);
        let whole: Vec<Dc> =
            (0..DC_COUNT).filter(|dc| matches!(standings[*dc], Standing::Whole(_))).collect();
        let linked = |dc: &Dc| whole.iter().all(|other| self.linked(Channel::Replication, *dc, *other));
        if whole.len() < 2 || standings.contains(&Standing::HalfThere) || !whole.iter().all(linked) {
            return None;
        }
        let status = &self.control.unit(unit).status;
        let homeless = !whole.iter().any(|dc| dc_id(*dc) == status.home);
        if status.phase == Phase::Forming && homeless || !self.proves(unit, &whole) {
            return None;
        }
        Some(Situation { control_life: self.processes.life(Proc::Control), standings })
    }

    /// True if the data in these data centers proves every claim, and one of them holds all that is claimed.
    pub(crate) fn proves(&self, unit: usize, whole: &[Dc]) -> bool {
        let seen: BTreeMap<_, _> =
            whole.iter().filter_map(|dc| Some((dc_id(*dc), self.stands(At { dc: *dc, unit })?))).collect();
        complete(&self.control.unit(unit).status.claims, &seen).is_ok_and(|complete| !complete.is_empty())
    }

    fn standings(&self, unit: usize) -> [Standing; DC_COUNT] {
        let home = dc_index(&self.control.unit(unit).status.home);
        std::array::from_fn(|dc| {
            if self.is_away(dc, home == Some(dc)) {
                if home == Some(dc) && self.may_flap(unit, dc) { Standing::HalfThere } else { Standing::Away }
            } else if self.is_whole(At { dc, unit }) {
                Standing::Whole(self.processes.life(Proc::Agent(dc)))
            } else {
                Standing::HalfThere
            }
        })
    }

    fn is_whole(&self, at: At) -> bool {
        let db = self.db(at);
        let recovering = matches!(db.process, Process::Standby | Process::Promoting);
        let lags = self.plan.slow_replay[at.dc] && recovering && db.replayed < db.flushed;
        self.power[at.dc]
            && self.processes.runs(Proc::Agent(at.dc))
            && self.linked(Channel::AgentControl, at.dc, CONTROL_SITE)
            && !self.processes.frozen(Proc::Postgres(at))
            && !self.processes.frozen(Proc::Guard(at))
            && self.stalled_for(at.dc) == 0
            && !lags
    }

    /// True if the rule against going to and fro may hold a failover of the unit back.
    fn may_flap(&self, unit: usize, home: Dc) -> bool {
        self.control.unit(unit).status.last_failover.is_some()
            && self.processes.runs(Proc::Gateway(home))
            && self.net.passes(Channel::GatewayControl, home, CONTROL_SITE)
    }

    fn is_away(&self, dc: Dc, is_home: bool) -> bool {
        if !self.processes.runs(Proc::Agent(dc)) {
            return true;
        }
        let heard = self.net.passes(Channel::AgentControl, dc, CONTROL_SITE);
        // All others have to vouch; one that cannot is enough.
        let vouched = || (0..DC_COUNT).all(|other| self.linked(Channel::Promises, dc, other));
        let goes_on = heard || is_home && vouched();
        !goes_on
    }

    fn linked(&self, channel: Channel, one: usize, other: usize) -> bool {
        self.net.passes(channel, one, other) && self.net.passes(channel, other, one)
    }
}
