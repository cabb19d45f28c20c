//! What an agent does next with one replica.
//!
//! The agent's shell observes ([`Local`]), asks [`next`], carries the one action out, and observes again. Every
//! action is idempotent and may be interrupted anywhere; nothing is remembered but what [`Local`] says is durable.

use std::collections::{BTreeMap, BTreeSet};

use dujiang_types::report::{DataState, ReplicaReport, ReplicaState, StandbyReport};
use dujiang_types::unit::{Phase, SyncSet, Unit};
use dujiang_types::{DcId, Epoch, Lsn, Position, Revision};

use crate::lease::{Held, Promises};

/// What the agent knows of its replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// Durable: the highest epoch whose record was acted on. Records of lower epochs are ignored for ever.
    pub epoch_seen: Epoch,
    /// Durable, written *before* promoting: the highest epoch this data was promoted under. Cleared when the data
    /// is cloned or rewound.
    pub primary_epoch: Option<Epoch>,
    /// What the data directory holds.
    pub data: Data,
    /// What the database process does.
    pub process: Process,
    /// Learned by comparing with the upstream's timeline history: this log has left the upstream's.
    pub diverged: bool,
    /// The upstream no longer has the log this replica needs.
    pub starved: bool,
    /// Action under way in the background (`init`, `clone`, `rewind`, or [`PROMOTE`]), if any.
    pub busy: Option<&'static str>,
}

/// The background work of a promotion, from before `primary_epoch` is written until the fence is. Meanwhile the
/// process is neither the old nor yet the new primary: it is reported as not answering, and left alone (the guard
/// goes on watching the lease).
pub const PROMOTE: &str = "promote";

/// What the data directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// Nothing.
    Absent,
    /// Half made: an interrupted init, clone or rewind.
    Broken,
    /// A database.
    Present,
}

/// What the database process does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Process {
    /// No process of this database exists, for certain.
    Stopped {
        /// The shutdown checkpoint of a primary that was stopped in order (timeline, start of the record).
        sealed: Option<Position>,
    },
    /// Started, not yet answering; or running but not answering.
    Starting,
    /// In recovery.
    Standby {
        /// Whom it is configured to follow.
        upstream: Option<DcId>,
        /// True if a WAL receiver process exists.
        receiving: bool,
        /// True if that receiver is streaming.
        streaming: bool,
        /// Received and flushed. `None` until it can be told: without a receiver only once the replay of what is
        /// on disk has come to its end.
        position: Option<Position>,
        /// Replayed.
        replayed: Option<Lsn>,
    },
    /// A primary.
    Primary {
        /// The epoch in its fence.
        epoch: Epoch,
        /// True if clients are admitted.
        open: bool,
        /// The sync set its configuration names.
        applied: Option<SyncSet>,
        /// The sync set that is in force in every process and confirmed by a later flushed commit.
        confirmed: Option<SyncSet>,
        /// Connected standbys.
        standbys: BTreeMap<DcId, StandbyReport>,
        /// End of its own flushed log.
        position: Option<Position>,
        /// True if a real write to its disk came back lately.
        healthy: bool,
    },
}

/// The one thing to do next. Each is idempotent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Create the database (in a new folder, renamed when whole), its roles and the fence; leave it stopped.
    Init,
    /// Keep diverged log if there is any, then copy the database of `from` (in a new folder, renamed when whole).
    Clone {
        /// Whom to copy.
        from: DcId,
    },
    /// Stop, keep the diverged log, then rewind to `from`; on failure mark the data broken, so that a clone follows.
    Rewind {
        /// Whom to become like.
        from: DcId,
    },
    /// Start as a standby that receives from nobody, closed to clients.
    Start,
    /// Receive from `from`.
    Follow {
        /// The upstream.
        from: DcId,
    },
    /// Stop receiving: clear the upstream durably, wait until the receiver is gone.
    Detach,
    /// Write the epoch as `primary_epoch` durably, set the sync set, then promote. The new timeline is
    /// `epoch + 1`, so that two promotions can never make the same timeline: placeholder history files fill the
    /// numbers between (see the driver). Then write the epoch into the fence. Stays closed.
    Promote {
        /// The epoch.
        epoch: Epoch,
        /// What to wait for before acknowledging.
        set: SyncSet,
    },
    /// Put the sync set into force and confirm it.
    SetSync {
        /// The set.
        set: SyncSet,
    },
    /// Admit clients.
    Open,
    /// Stop in order, which ends every session; immediately if that takes too long.
    Seal,
    /// Stop at once.
    StopNow,
}

/// What to do and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// `None`: nothing to do now.
    pub action: Option<Action>,
    /// One sentence.
    pub why: String,
}

fn act(action: Action, why: impl Into<String>) -> Step {
    Step { action: Some(action), why: why.into() }
}

fn wait(why: impl Into<String>) -> Step {
    Step { action: None, why: why.into() }
}

/// Everything [`next`] looks at.
#[derive(Debug, Clone, Copy)]
pub struct AgentView<'a> {
    /// The agent's data center.
    pub dc: &'a DcId,
    /// The latest record seen in this session, if any.
    pub unit: Option<&'a Unit>,
    /// What is observed here.
    pub local: &'a Local,
    /// The lease held, if any.
    pub lease: Option<Held>,
    /// Promises given.
    pub promises: Promises,
    /// Now.
    pub now_ms: u64,
}

impl AgentView<'_> {
    /// True if the record seen is not older than what this replica has acted on before.
    fn current(&self) -> Option<&Unit> {
        self.unit.filter(|unit| unit.status.epoch >= self.local.epoch_seen)
    }

    fn leased(&self, epoch: Epoch) -> bool {
        self.lease.is_some_and(|lease| lease.covers(epoch, self.now_ms))
    }
}

/// Decides the next action. The shell makes `epoch_seen` durable before it carries out any action.
pub fn next(view: &AgentView) -> Step {
    let local = view.local;
    if local.busy == Some(PROMOTE) {
        return wait("the promotion is under way");
    }
    if let Process::Primary { epoch, .. } = local.process
        && !view.leased(epoch)
    {
        return act(Action::StopNow, format!("the lease of epoch {epoch} has run out"));
    }
    let Some(unit) = view.current() else {
        return wait("no current record of the unit has been seen");
    };
    let status = &unit.status;
    if let Process::Primary { epoch, .. } = local.process
        && (epoch != status.epoch || status.home != *view.dc)
    {
        return act(Action::StopNow, format!("epoch {} is at home in {}", status.epoch, status.home));
    }
    if let Some(work) = local.busy {
        return wait(format!("{work} is under way"));
    }
    if !unit.spec.replicas.contains(view.dc) {
        return match local.process {
            Process::Stopped { .. } => wait("the unit has no replica here"),
            _ => act(Action::StopNow, "the unit has no replica here any more"),
        };
    }
    let at_home = status.home == *view.dc;
    match &status.phase {
        Phase::Forming | Phase::Promoting { .. } if at_home => become_primary(view, unit),
        Phase::Serving | Phase::Holding { .. } if at_home => stay_primary(unit, local),
        Phase::Sealing { .. } if at_home => match local.process {
            Process::Primary { .. } => act(Action::Seal, "the unit moves"),
            _ => wait("stopped for the move"),
        },
        Phase::Electing => stand_for_election(local),
        Phase::Sealing { .. } => wait("the home is being sealed; nothing changes here until it is"),
        Phase::Forming | Phase::Serving | Phase::Holding { .. } | Phase::Promoting { .. } => {
            follow(local, &status.home, matches!(status.phase, Phase::Serving | Phase::Holding { .. }))
        }
    }
}

/// The home of a forming or promoting unit: from whatever state to an open primary, once per epoch.
fn become_primary(view: &AgentView, unit: &Unit) -> Step {
    let local = view.local;
    let epoch = unit.status.epoch;
    if matches!(local.process, Process::Primary { .. }) {
        return stay_primary(unit, local);
    }
    if local.primary_epoch >= Some(epoch) {
        return wait(format!("was primary of epoch {epoch} already; an epoch's primary runs once"));
    }
    match (&local.process, local.data) {
        (Process::Stopped { .. }, Data::Absent | Data::Broken) if unit.status.phase == Phase::Forming => {
            act(Action::Init, "the unit is being formed and has no database yet")
        }
        (Process::Stopped { .. }, Data::Absent | Data::Broken) => wait("there is no data to promote"),
        (Process::Stopped { .. }, Data::Present) => act(Action::Start, "to be promoted"),
        (Process::Starting, _) => wait("starting"),
        (Process::Standby { upstream, receiving, .. }, _) => {
            let Some(set) = unit.status.wanted_set() else {
                return wait("the record names no sync set for this epoch");
            };
            let promised_ms = view.promises.remaining_ms(view.now_ms);
            if upstream.is_some() || *receiving {
                act(Action::Detach, "before the promotion nothing may arrive any more")
            } else if promised_ms > 0 && unit.status.phase != Phase::Forming {
                wait(format!("a promise given to the former home holds for another {promised_ms} ms"))
            } else if view.leased(epoch) {
                act(Action::Promote { epoch, set: set.clone() }, unit.status.reason.clone())
            } else {
                wait(format!("a lease for epoch {epoch} is needed before the promotion"))
            }
        }
        (Process::Primary { .. }, _) => unreachable!("handled above"),
    }
}

/// The home of a unit whose primary runs: keep its sync set as recorded, admit clients once it is confirmed.
fn stay_primary(unit: &Unit, local: &Local) -> Step {
    let Process::Primary { open, applied, confirmed, .. } = &local.process else {
        return wait(
            "the primary of this epoch is not running; an epoch's primary runs once, so an election follows",
        );
    };
    let Some(wanted) = unit.status.wanted_set() else {
        return wait("the record names no sync set for this epoch");
    };
    if applied.as_ref() != Some(wanted) {
        return act(Action::SetSync { set: wanted.clone() }, "the record names another sync set");
    }
    let can_acknowledge = wanted.members.len() >= usize::from(wanted.need);
    if confirmed.as_ref() != Some(wanted) {
        if can_acknowledge {
            return act(Action::SetSync { set: wanted.clone() }, "the sync set is not confirmed yet");
        }
        return wait("the sync set has too few members; writes wait");
    }
    if !open {
        return act(Action::Open, "the sync set is confirmed");
    }
    wait("serving")
}

/// A replica of a unit whose home is being elected: receive from nobody, say how far the log reaches.
fn stand_for_election(local: &Local) -> Step {
    match (&local.process, local.data) {
        (Process::Primary { .. }, _) => act(Action::StopNow, "an election is under way"),
        (Process::Standby { upstream, receiving, .. }, _) if upstream.is_some() || *receiving => {
            act(Action::Detach, "an election is under way")
        }
        (Process::Standby { position: None, .. }, _) => wait("replaying what is on disk"),
        (Process::Standby { .. }, _) => wait("detached for the election"),
        (Process::Stopped { .. }, Data::Present) => act(Action::Start, "to stand for the election"),
        (Process::Stopped { .. }, _) => wait("no data; nothing to contribute to the election"),
        (Process::Starting, _) => wait("starting"),
    }
}

/// A replica of a unit that is at home elsewhere.
///
/// A rewind destroys the data until it is done, so it waits until the home has its sync set confirmed
/// (`settled`): before that, this data may be the only other copy of an acknowledged commit. A clone keeps the old
/// data until the new is whole.
fn follow(local: &Local, home: &DcId, settled: bool) -> Step {
    let from = || home.clone();
    match (&local.process, local.data) {
        (Process::Primary { .. }, _) => act(Action::StopNow, format!("the unit is at home in {home}")),
        (Process::Stopped { .. }, Data::Absent) => act(Action::Clone { from: from() }, "no data yet"),
        (Process::Stopped { .. }, Data::Broken) => {
            act(Action::Clone { from: from() }, "the data is half made")
        }
        (_, Data::Present) if local.diverged && settled => {
            act(Action::Rewind { from: from() }, format!("the log has left the one of {home}"))
        }
        (_, Data::Present) if local.diverged => {
            let why = format!("the log has left the one of {home}, which has no other confirmed copy yet");
            act(Action::Clone { from: from() }, why)
        }
        (_, Data::Present) if local.starved => {
            act(Action::Clone { from: from() }, format!("{home} no longer has the log needed"))
        }
        (Process::Stopped { .. }, Data::Present) => act(Action::Start, "to follow"),
        (Process::Starting, _) => wait("starting"),
        (Process::Standby { upstream, streaming, .. }, _) => {
            if upstream.as_ref() != Some(home) {
                act(Action::Follow { from: from() }, format!("the unit is at home in {home}"))
            } else if *streaming {
                wait("following")
            } else {
                wait(format!("no log arrives from {home} yet"))
            }
        }
    }
}

/// The lease to ask for in the next report: by a primary that is well, or by the home that is to be promoted.
pub fn renewal(view: &AgentView) -> Option<Epoch> {
    let unit = view.current()?;
    if unit.status.home != *view.dc {
        return None;
    }
    let epoch = unit.status.epoch;
    if view.local.busy == Some(PROMOTE) {
        return Some(epoch).filter(|_| matches!(unit.status.phase, Phase::Forming | Phase::Promoting { .. }));
    }
    match (&view.local.process, &unit.status.phase) {
        (Process::Primary { epoch: own, healthy, .. }, _) => (*own == epoch && *healthy).then_some(epoch),
        (Process::Standby { .. }, Phase::Forming | Phase::Promoting { .. }) => {
            (view.local.primary_epoch < Some(epoch)).then_some(epoch)
        }
        _ => None,
    }
}

/// Replicas whose agents must all promise before the lease is extended without the control plane.
pub fn vouchers(view: &AgentView) -> Option<BTreeSet<DcId>> {
    let unit = view.current()?;
    let serves = matches!(unit.status.phase, Phase::Serving | Phase::Holding { .. });
    let healthy = matches!(view.local.process, Process::Primary { epoch, healthy: true, .. } if epoch == unit.status.epoch);
    let others = unit.spec.replicas.iter().filter(|dc| *dc != view.dc).cloned();
    (serves && healthy).then(|| others.collect())
}

/// The report that follows from what is observed.
pub fn report(view: &AgentView, why: &str) -> ReplicaReport {
    let local = view.local;
    let acted_on = view.current().filter(|unit| unit.status.epoch == local.epoch_seen);
    let data = match local.data {
        Data::Present => DataState::Present { primary_epoch: local.primary_epoch },
        Data::Absent | Data::Broken => DataState::Absent,
    };
    let (state, position, replayed) = state_of(local);
    ReplicaReport {
        revision: acted_on.map_or(Revision(0), |unit| unit.revision),
        epoch_seen: local.epoch_seen,
        data,
        state,
        position,
        replayed,
        promised_ms: view.promises.remaining_ms(view.now_ms),
        note: why.to_owned(),
    }
}

fn state_of(local: &Local) -> (ReplicaState, Option<Position>, Option<Lsn>) {
    if local.busy == Some(PROMOTE) {
        return (ReplicaState::Starting, None, None);
    }
    if let Some(work) = local.busy {
        return (ReplicaState::Preparing { work: work.to_owned() }, None, None);
    }
    match &local.process {
        Process::Stopped { sealed } => (ReplicaState::Stopped { sealed: *sealed }, None, None),
        Process::Starting => (ReplicaState::Starting, None, None),
        Process::Standby { upstream: None, receiving: false, position, replayed, .. } => {
            (ReplicaState::Detached { epoch: local.epoch_seen }, *position, *replayed)
        }
        Process::Standby { upstream: Some(from), streaming, position, replayed, .. } => {
            let state = ReplicaState::Following {
                from: from.clone(),
                epoch: local.epoch_seen,
                streaming: *streaming,
            };
            (state, *position, *replayed)
        }
        // The upstream is cleared but its receiver lives: neither following nor detached.
        Process::Standby { replayed, .. } => (ReplicaState::Starting, None, *replayed),
        Process::Primary { epoch, open, confirmed, standbys, position, .. } => {
            let state = ReplicaState::Primary {
                epoch: *epoch,
                open: *open,
                confirmed: confirmed.clone(),
                standbys: standbys.clone(),
            };
            (state, *position, None)
        }
    }
}
