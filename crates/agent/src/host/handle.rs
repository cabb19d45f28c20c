//! What the rest of the agent sees of a replica's task: its report, the lease it asks for, its promises.

use std::sync::{Mutex, MutexGuard, PoisonError};

use dujiang_types::api::{PromiseReply, PromiseRequest};
use dujiang_types::exposure::Meter;
use dujiang_types::report::{DataState, ReplicaReport, ReplicaState};
use dujiang_types::{DcId, Epoch, Revision, UnitId};
use dujiang_unit::Timing;
use dujiang_unit::agent::{self, AgentView, Local, Process};
use dujiang_unit::lease::{Held, Promises};
use tokio::sync::mpsc;

use super::known::Known;
use crate::clock::boottime_ms;
use crate::postgres::{Settings, State};

/// Grants waiting for the task. A later one says all that an earlier one did.
const GRANTS_MAX: usize = 4;

/// What others see of the task.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) dc: DcId,
    pub(super) unit: UnitId,
    settings: Settings,
    timing: Timing,
    /// The highest epoch acted on before this agent began; `None` if that cannot be read. Good for promises until the
    /// replica is opened, which may take longer than a lease has left.
    epoch_before: Option<Epoch>,
    seen: Mutex<Seen>,
    promises: Mutex<Promises>,
    grants: mpsc::Sender<Held>,
}

/// The latest observation.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// True once there was a look at it, with whatever outcome.
    pub(super) looked: bool,
    /// `None` until the replica's folder could be opened.
    pub(super) local: Option<Local>,
    /// What the task does or waits for.
    pub(super) why: String,
    /// The lease the guard has taken.
    pub(super) lease: Option<Held>,
    /// A primary whose probe did not come back by then is not well.
    pub(super) healthy_until_ms: u64,
    /// What was counted last.
    pub(super) meter: Meter,
}

impl Handle {
    /// A handle and the task's end of it.
    pub(super) fn new(settings: Settings, timing: Timing) -> (Self, mpsc::Receiver<Held>) {
        let (grants, granted) = mpsc::channel(GRANTS_MAX);
        let promises = Mutex::new(Promises::after_start(boottime_ms(), &timing));
        let seen = Mutex::new(Seen { why: "the agent has just started".to_owned(), ..Seen::default() });
        let (dc, unit) = (settings.dc.clone(), settings.unit.clone());
        let epoch_before = State::in_folder(&settings.dir).map(|state| state.epoch_seen);
        let epoch_before = epoch_before
            .inspect_err(
                |error| tracing::warn!(%unit, why = error.chain(), "no promises before it is opened"),
            )
            .ok();
        (Self { dc, unit, settings, timing, epoch_before, seen, promises, grants }, granted)
    }

    /// Replaces the latest observation.
    pub(super) fn publish(&self, seen: Seen) {
        *lock(&self.seen) = seen;
    }

    /// What was counted last.
    pub(super) fn meter(&self) -> Meter {
        lock(&self.seen).meter
    }

    /// What is given about the replica.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What its process did when it was observed last; `None` if it never was.
    pub(super) fn process(&self) -> Option<Process> {
        lock(&self.seen).local.as_ref().map(|local| local.process.clone())
    }

    /// True once there was a look at the replica.
    pub(super) fn looked(&self) -> bool {
        lock(&self.seen).looked
    }

    /// Promises given so far.
    pub(super) fn promises(&self) -> Promises {
        *lock(&self.promises)
    }

    /// What to report and which lease to ask for.
    pub(super) fn report(&self, known: &Known) -> (ReplicaReport, Option<Epoch>) {
        self.with_view(known, |view, why| match view {
            Some(view) => (agent::report(&view, why), agent::renewal(&view)),
            // Nothing is known: that nothing runs would be a guess.
            None => (unknown(why), None),
        })
    }

    /// Whom to ask for promises, and for which epoch.
    pub(super) fn vouchers(&self, known: &Known) -> Option<(Epoch, Vec<DcId>)> {
        self.with_view(known, |view, _| {
            let view = view?;
            let epoch = view.unit?.status.epoch;
            agent::vouchers(&view).map(|dcs| (epoch, dcs.into_iter().collect()))
        })
    }

    /// Passes a lease on.
    pub(super) fn grant(&self, held: Held) {
        // A full channel means that the task is behind; the next grant comes in half a second.
        let _ = self.grants.try_send(held);
    }

    /// Answers another agent's wish for a promise.
    pub(super) fn promise(&self, known: &Known, ask: &PromiseRequest) -> PromiseReply {
        let seen = lock(&self.seen).local.as_ref().map(|local| local.epoch_seen).or(self.epoch_before);
        // Who only remembers a record and cannot tell yet which epoch was the last promises nothing.
        let least = seen.or(known.complete.then_some(Epoch(0)));
        let unit =
            least.and_then(|least| known.units.get(&self.unit).filter(|unit| unit.status.epoch >= least));
        lock(&self.promises).ask(unit.map(AsRef::as_ref), ask, &self.timing, boottime_ms())
    }

    fn with_view<R>(&self, known: &Known, look: impl FnOnce(Option<AgentView>, &str) -> R) -> R {
        let now_ms = boottime_ms();
        let promises = *lock(&self.promises);
        let seen = lock(&self.seen);
        let Some(mut local) = seen.local.clone() else { return look(None, &seen.why) };
        if let Process::Primary { healthy, .. } = &mut local.process {
            *healthy = now_ms < seen.healthy_until_ms;
        }
        let unit = known.units.get(&self.unit).map(AsRef::as_ref);
        let view = AgentView { dc: &self.dc, unit, local: &local, lease: seen.lease, promises, now_ms };
        look(Some(view), &seen.why)
    }
}

fn unknown(why: &str) -> ReplicaReport {
    ReplicaReport {
        revision: Revision(0),
        epoch_seen: Epoch(0),
        data: DataState::Absent,
        state: ReplicaState::Starting,
        position: None,
        replayed: None,
        promised_ms: 0,
        note: why.to_owned(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
