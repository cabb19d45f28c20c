//! The task of one unit's replica: observe, ask the pure machine, carry its one action out, again.

mod decide;
mod look;

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use dujiang_types::exposure::Meter;
use dujiang_types::report::{ReplicaReport, ReplicaState};
use dujiang_types::unit::{Phase, SyncSet, Unit};
use dujiang_types::{Epoch, Revision};
use dujiang_unit::Timing;
use dujiang_unit::agent::{self, Action, AgentView, Local, Process};
use dujiang_unit::lease::Held;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep, sleep_until};

use super::act::{self, Outcome};
use super::handle::{Handle, Seen};
use super::known::Known;
use crate::clock::boottime_ms;
use crate::postgres::{Fit, PostgresError, Replica, Settings, trial};

/// For how long after a change something counts as under way. What takes longer waits for another machine.
const SOON_FOR: Duration = Duration::from_secs(10);
/// Longest pause before an action that failed is tried again, or a disk that refused is written to.
const RETRY_MAX: Duration = Duration::from_secs(2);
/// Between two looks at the size of the database's log.
const ROTATE_EVERY: Duration = Duration::from_secs(10);
/// How long an orderly stop may take when the whole data center is shut down.
const SHUTDOWN_BUDGET: Duration = Duration::from_secs(15);

/// What every replica's task is given.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) timing: Timing,
    pub(super) known: watch::Receiver<Known>,
    /// Told when there is something new to report.
    pub(super) news: Arc<Notify>,
    /// True when the data center is shut down.
    pub(super) stopping: watch::Receiver<bool>,
}

/// Starts the task. It ends when the data center is shut down or the unit is gone.
pub(super) fn spawn(settings: Settings, given: Given) -> (Arc<Handle>, JoinHandle<()>) {
    let (handle, granted) = Handle::new(settings.clone(), given.timing);
    let handle = Arc::new(handle);
    let task = tokio::spawn(open_and_run(settings, given, handle.clone(), granted));
    (handle, task)
}

async fn open_and_run(
    settings: Settings,
    mut given: Given,
    handle: Arc<Handle>,
    granted: mpsc::Receiver<Held>,
) {
    // A copy that an earlier agent has left is in nobody's way: a replica that cannot be opened is told of below.
    if let Err(error) = trial::clear(&settings).await {
        tracing::warn!(unit = %settings.unit, why = error.chain(), "what is left of a trial promotion cannot be removed");
    }
    let replica = loop {
        match Replica::open(settings.clone()).await {
            Ok(replica) => break Arc::new(replica),
            Err(error) => {
                let why = error.chain();
                tracing::error!(unit = %settings.unit, why, "the replica cannot be used");
                handle.publish(Seen { looked: true, why, ..Seen::default() });
                given.news.notify_one();
            }
        }
        tokio::select! {
            () = sleep(RETRY_MAX) => {}
            _ = given.stopping.wait_for(|stopping| *stopping) => return,
        }
    };
    let mut task = Task::new(replica, given, handle, granted);
    if let Some(lease) = task.adopted_lease().await {
        task.lease = Some(lease);
        // Only a primary has a lease. What it does exactly is observed next, if it answers.
        task.local.process = Process::Primary {
            epoch: lease.epoch,
            open: task.replica.state().open,
            applied: None,
            confirmed: None,
            standbys: BTreeMap::new(),
            position: None,
            healthy: false,
        };
    }
    task.run().await;
}

/// An action being carried out.
struct Running {
    action: Action,
    task: JoinHandle<Result<Outcome, PostgresError>>,
}

/// The action that failed last.
struct Failed {
    action: Action,
    why: String,
    pause: Duration,
    again_at: Instant,
}

type Joined<T> = Result<Result<T, PostgresError>, JoinError>;
type Background<T> = Option<JoinHandle<Result<T, PostgresError>>>;

struct Task {
    replica: Arc<Replica>,
    given: Given,
    handle: Arc<Handle>,
    granted: mpsc::Receiver<Held>,
    local: Local,
    /// The lease the guard has taken: only that one is worth anything.
    lease: Option<Held>,
    /// The sync set confirmed in this run of this agent.
    confirmed: Option<SyncSet>,
    running: Option<Running>,
    failed: Option<Failed>,
    remembering: Background<()>,
    remember_at: Instant,
    observing: Background<Process>,
    /// True once there was an observation.
    looked: bool,
    /// True until the process was observed after the last action: nothing is decided before.
    stale: bool,
    look_at: Instant,
    soon_until: Instant,
    probing: Background<()>,
    probe_at: Instant,
    metering: Option<JoinHandle<Meter>>,
    meter_at: Instant,
    meter: Meter,
    healthy_until_ms: u64,
    examining: Background<Fit>,
    not_streaming_since: Option<Instant>,
    /// The last epoch this served under as primary, and when a checkpoint is due for it.
    checkpoint: (Epoch, Option<Instant>),
    rotate_at: Instant,
    renew_identity_at: Instant,
    reported: Option<ReplicaReport>,
    why: String,
    /// Of the record that was last acted on.
    revision: Option<Revision>,
}

impl Task {
    fn new(replica: Arc<Replica>, given: Given, handle: Arc<Handle>, granted: mpsc::Receiver<Held>) -> Self {
        let now = Instant::now();
        let state = replica.state();
        let local = Local {
            epoch_seen: state.epoch_seen,
            primary_epoch: state.primary_epoch,
            data: replica.data(),
            process: Process::Starting,
            diverged: false,
            starved: false,
            busy: None,
        };
        Self {
            replica,
            given,
            handle,
            granted,
            local,
            lease: None,
            confirmed: None,
            running: None,
            failed: None,
            remembering: None,
            remember_at: now,
            observing: None,
            looked: false,
            stale: true,
            look_at: now,
            soon_until: now + SOON_FOR,
            probing: None,
            probe_at: now,
            metering: None,
            meter_at: now,
            meter: Meter::default(),
            healthy_until_ms: 0,
            examining: None,
            not_streaming_since: None,
            checkpoint: (Epoch(0), None),
            rotate_at: now + ROTATE_EVERY,
            renew_identity_at: now,
            reported: None,
            why: String::new(),
            revision: None,
        }
    }

    /// The lease of a primary that has outlived an earlier agent: its guard knows.
    async fn adopted_lease(&self) -> Option<Held> {
        let epoch = self.local.primary_epoch?;
        let left_ms = self.replica.lease_left_ms().await?;
        Some(Held { epoch, until_ms: boottime_ms() + left_ms })
    }

    async fn run(mut self) {
        loop {
            self.decide().await;
            self.publish();
            if self.is_over() {
                return;
            }
            let wake = self.wake_at();
            let replica = self.replica.clone();
            let watch_end = self.may_observe();
            tokio::select! {
                () = sleep_until(wake) => self.background().await,
                changed = self.given.known.changed() => match changed {
                    Ok(()) => self.record_changed().await,
                    Err(_) => return,
                },
                Some(held) = self.granted.recv() => self.take_lease(held).await,
                _ = self.given.stopping.changed() => return self.shut_down().await,
                () = replica.wait_end(), if watch_end && self.observing.is_none() => self.look_at = Instant::now(),
                ended = join(&mut self.remembering) => self.remembered(ended),
                ended = join(&mut self.observing) => self.observed(ended),
                ended = join_action(&mut self.running) => self.acted(ended),
                ended = join(&mut self.probing) => self.probed(ended),
                ended = join_meter(&mut self.metering) => self.meter = ended,
                ended = join(&mut self.examining) => self.examined(&ended),
            }
        }
    }

    /// The unit's record. One that is only remembered is nothing to act on: the one acted on last may have been newer.
    fn unit(&self) -> Option<Arc<Unit>> {
        let known = self.given.known.borrow();
        known.units.get(&self.handle.unit).filter(|_| known.complete).cloned()
    }

    /// True if the unit is known not to exist any more.
    fn is_gone(&self) -> bool {
        let known = self.given.known.borrow();
        known.complete && !known.units.contains_key(&self.handle.unit)
    }

    fn is_over(&self) -> bool {
        self.is_gone() && self.running.is_none() && matches!(self.local.process, Process::Stopped { .. })
    }

    fn view<'a>(&'a self, unit: Option<&'a Unit>) -> AgentView<'a> {
        let (dc, local, promises) = (&self.handle.dc, &self.local, self.handle.promises());
        AgentView { dc, unit, local, lease: self.lease, promises, now_ms: boottime_ms() }
    }

    /// Shows the latest, and says so if it is news. Between an action and the next look nothing is shown: what is
    /// durable is new already and what runs is not yet known, and the two together would tell a story that never
    /// was (a promotion that has succeeded would look like one that failed).
    fn publish(&mut self) {
        if self.stale && self.reported.is_some() {
            return;
        }
        let seen = Seen {
            looked: self.looked,
            local: Some(self.local.clone()),
            why: self.why.clone(),
            lease: self.lease,
            healthy_until_ms: self.healthy_until_ms,
            meter: self.meter,
        };
        self.handle.publish(seen);
        let unit = self.unit();
        let moving = unit.as_ref().is_some_and(|unit| unit.status.phase != Phase::Serving);
        let report = essence(agent::report(&self.view(unit.as_deref()), ""), moving);
        if self.reported.as_ref() != Some(&report) {
            self.reported = Some(report);
            self.given.news.notify_one();
        }
    }

    async fn shut_down(mut self) {
        if let Some(running) = self.running.take() {
            if act::may_cancel(&running.action) {
                cancel(&mut Some(running.task)).await;
            } else {
                let _ = running.task.await;
            }
        }
        cancel(&mut self.observing).await;
        cancel(&mut self.examining).await;
        let stopped = self.replica.stop_in_order(SHUTDOWN_BUDGET).await;
        if let Err(error) = stopped {
            tracing::error!(unit = %self.handle.unit, why = error.chain(), "not stopped in order");
        }
        if let Ok(process) = self.replica.observe().await {
            self.local.process = process;
        }
        "the data center is shut down".clone_into(&mut self.why);
        self.local.busy = None;
        self.stale = false;
        self.publish();
    }
}

/// What of a report is news. While nothing moves, positions only grow; they go with the next regular report.
fn essence(mut report: ReplicaReport, moving: bool) -> ReplicaReport {
    report.promised_ms = 0;
    if let ReplicaState::Primary { standbys, .. } = &mut report.state {
        for standby in standbys.values_mut() {
            (standby.flushed, standby.lag_bytes) = (dujiang_types::Lsn(0), 0);
        }
    }
    if !moving {
        (report.position, report.replayed) = (None, None);
    }
    report
}

async fn join<T>(task: &mut Background<T>) -> Joined<T> {
    let Some(handle) = task.as_mut() else { return pending().await };
    let ended = handle.await;
    *task = None;
    ended
}

/// Counting that did not come to an end says nothing.
async fn join_meter(task: &mut Option<JoinHandle<Meter>>) -> Meter {
    let Some(handle) = task.as_mut() else { return pending().await };
    let ended = handle.await;
    *task = None;
    ended.unwrap_or_default()
}

async fn join_action(running: &mut Option<Running>) -> Joined<Outcome> {
    match running {
        Some(running) => (&mut running.task).await,
        None => pending().await,
    }
}

/// Breaks a task off and waits until it is gone.
async fn cancel<T>(task: &mut Option<JoinHandle<T>>) {
    if let Some(task) = task.take() {
        task.abort();
        let _ = task.await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dujiang_types::report::{DataState, StandbyReport};
    use dujiang_types::{DcId, Epoch, Lsn, Position};

    use super::*;

    fn primary(flushed: u64, open: bool) -> ReplicaReport {
        let standby = StandbyReport { streaming: true, flushed: Lsn(flushed), lag_bytes: flushed };
        ReplicaReport {
            revision: Revision(1),
            epoch_seen: Epoch(1),
            data: DataState::Present { primary_epoch: Some(Epoch(1)) },
            state: ReplicaState::Primary {
                epoch: Epoch(1),
                open,
                confirmed: None,
                standbys: BTreeMap::from([(DcId::new("b").unwrap(), standby)]),
            },
            position: Some(Position { timeline: 2, flushed: Lsn(flushed) }),
            replayed: None,
            promised_ms: flushed,
            note: String::new(),
        }
    }

    #[test]
    fn growing_positions_are_news_only_while_the_unit_moves() {
        assert_eq!(essence(primary(1, true), false), essence(primary(2, true), false));
        assert_ne!(essence(primary(1, true), true), essence(primary(2, true), true));
        assert_ne!(essence(primary(1, true), false), essence(primary(1, false), false));
    }
}
