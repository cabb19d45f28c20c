//! The task of one unit's replica: observe, ask the pure machine, carry its one action out, again.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use dujiang_types::Revision;
use dujiang_types::report::{ReplicaReport, ReplicaState};
use dujiang_types::unit::{Phase, SyncSet, Unit};
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
use crate::postgres::{Fit, PostgresError, Replica, Settings, Upstream};

/// Between two observations while something is under way.
const LOOK_SOON: Duration = Duration::from_millis(25);
/// For how long after a change something counts as under way. What takes longer waits for another machine.
const SOON_FOR: Duration = Duration::from_secs(10);
/// Pause after an action failed; doubled each time the same one fails again.
const RETRY_MIN: Duration = Duration::from_millis(50);
/// Longest pause.
const RETRY_MAX: Duration = Duration::from_secs(2);
/// Longest pause, soon after a change, for what only waits until somebody else is ready: that ends an outage.
const RETRY_SOON_MAX: Duration = Duration::from_millis(100);
/// A follower that does not stream for so long is compared with its upstream again.
const EXAMINE_AFTER: Duration = Duration::from_secs(1);
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
    let (handle, granted) = Handle::new(settings.dc.clone(), settings.unit.clone(), given.timing);
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
    healthy_until_ms: u64,
    examining: Background<Fit>,
    not_streaming_since: Option<Instant>,
    /// The record for whose move a checkpoint was begun.
    checkpointed: Revision,
    rotate_at: Instant,
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
            healthy_until_ms: 0,
            examining: None,
            not_streaming_since: None,
            checkpointed: Revision(0),
            rotate_at: now + ROTATE_EVERY,
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
                ended = join(&mut self.examining) => self.examined(&ended),
            }
        }
    }

    fn unit(&self) -> Option<Arc<Unit>> {
        self.given.known.borrow().units.get(&self.handle.unit).cloned()
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

    /// What the machine wants now.
    fn wanted(&self) -> agent::Step {
        if self.is_gone() {
            let action = (!matches!(self.local.process, Process::Stopped { .. })).then_some(Action::StopNow);
            return agent::Step { action, why: "the unit does not exist any more".to_owned() };
        }
        let unit = self.unit();
        agent::next(&self.view(unit.as_deref()))
    }

    /// Asks the machine and begins what it wants, if nothing is under way.
    async fn decide(&mut self) {
        if let Some(running) = &self.running {
            self.why = format!("{} is under way", act::name(&running.action));
            return;
        }
        if self.stale {
            return;
        }
        let seen = self.epoch_is_seen();
        let step = self.wanted();
        self.why.clone_from(&step.why);
        if !seen && step.action != Some(Action::StopNow) {
            "the epoch is being written down".clone_into(&mut self.why);
            return;
        }
        let failed = self.failed.take().filter(|failed| step.action.as_ref() == Some(&failed.action));
        self.failed = failed;
        let Some(action) = step.action else { return };
        match &self.failed {
            Some(failed) if Instant::now() < failed.again_at => {
                self.why = format!("{}: {}", step.why, failed.why);
            }
            _ => self.begin(action, &step.why).await,
        }
    }

    /// What is remembered before anything is done under an epoch: never again anything under a lower one. True if
    /// it is on disk; until then nothing is done but stopping, which no disk may hold up.
    fn epoch_is_seen(&mut self) -> bool {
        let epoch = self.unit().map(|unit| unit.status.epoch).unwrap_or_default();
        if epoch > self.local.epoch_seen && self.remembering.is_none() && Instant::now() >= self.remember_at {
            let replica = self.replica.clone();
            self.remembering = Some(tokio::spawn(async move { replica.see_epoch(epoch).await }));
        }
        epoch <= self.local.epoch_seen
    }

    fn remembered(&mut self, ended: Joined<()>) {
        let before = self.local.epoch_seen;
        self.local.epoch_seen = self.replica.state().epoch_seen;
        if self.local.epoch_seen > before {
            // They said something about another upstream.
            (self.local.diverged, self.local.starved) = (false, false);
        }
        if let Ok(Err(error)) = ended {
            tracing::error!(unit = %self.handle.unit, why = error.chain(), "cannot remember an epoch");
            self.remember_at = Instant::now() + RETRY_MAX;
        }
    }

    async fn begin(&mut self, action: Action, why: &str) {
        let Some(upstream) = self.upstream_of(&action) else {
            self.why = format!("{why}: the record of its data center is not known");
            return;
        };
        if self.failed.is_none() {
            tracing::info!(unit = %self.handle.unit, action = act::name(&action), why, "begins");
        }
        self.local.busy = act::busy(&action);
        if let Action::SetSync { set } = &action
            && self.confirmed.as_ref() != Some(set)
        {
            self.confirmed = None;
        }
        // Looking cleans up after what has ended: it must not meet what is started now.
        cancel(&mut self.observing).await;
        cancel(&mut self.examining).await;
        let until_ms = self.lease.map_or(0, |lease| lease.until_ms);
        let task = tokio::spawn(act::carry_out(self.replica.clone(), action.clone(), upstream, until_ms));
        self.running = Some(Running { action, task });
    }

    /// Whom the action is about: `Some(None)` is nobody, `None` somebody unknown.
    #[expect(clippy::option_option, reason = "three cases, told apart right where they are made")]
    fn upstream_of(&self, action: &Action) -> Option<Option<Upstream>> {
        let (Action::Clone { from } | Action::Rewind { from } | Action::Follow { from }) = action else {
            return Some(None);
        };
        self.upstream(from).map(Some)
    }

    fn upstream(&self, dc: &dujiang_types::DcId) -> Option<Upstream> {
        let port = self.replica.settings().address.port();
        let known = self.given.known.borrow();
        let address = known.data_centers.get(dc)?.spec.database_address(port);
        Some(Upstream { dc: dc.clone(), address })
    }

    /// A changed record may make what is under way pointless.
    async fn record_changed(&mut self) {
        let revision = self.unit().map(|unit| unit.revision);
        if revision == self.revision {
            return;
        }
        self.revision = revision;
        self.soon_until = Instant::now() + SOON_FOR;
        self.look_at = Instant::now();
        let Some(running) = self.running.take() else { return };
        let busy = self.local.busy.take();
        if !act::may_cancel(&running.action) || self.wanted().action.as_ref() == Some(&running.action) {
            self.local.busy = busy;
            self.running = Some(running);
            return;
        }
        self.running = Some(running);
        self.call_off().await;
    }

    async fn call_off(&mut self) {
        let Some(running) = self.running.take() else { return };
        tracing::info!(unit = %self.handle.unit, action = act::name(&running.action), "called off");
        cancel(&mut Some(running.task)).await;
        self.after_action();
    }

    /// Takes over what is durable; what runs must be observed.
    fn after_action(&mut self) {
        let state = self.replica.state();
        (self.local.epoch_seen, self.local.primary_epoch) = (state.epoch_seen, state.primary_epoch);
        self.local.data = self.replica.data();
        self.local.busy = None;
        self.stale = true;
        self.look_at = Instant::now();
        self.not_streaming_since = None;
        // It may have looked before the action was done.
        if let Some(looking) = self.observing.take() {
            looking.abort();
        }
    }

    fn acted(&mut self, ended: Joined<Outcome>) {
        let Some(running) = self.running.take() else { return };
        self.after_action();
        let name = act::name(&running.action);
        let (why, waits) = match ended {
            Ok(Ok(outcome)) => {
                tracing::info!(unit = %self.handle.unit, action = name, ?outcome, "done");
                self.failed = None;
                self.soon_until = Instant::now() + SOON_FOR;
                match (running.action, outcome) {
                    (_, Outcome::Fit(fit)) => self.take_fit(fit),
                    (Action::SetSync { set }, _) => self.confirmed = Some(set),
                    (Action::Clone { .. } | Action::Rewind { .. }, _) => self.take_fit(Fit::Fits),
                    _ => {}
                }
                return;
            }
            Ok(Err(error)) => (error.chain(), error.may_pass()),
            Err(error) => (error.to_string(), false),
        };
        let again = self.failed.take().filter(|failed| failed.action == running.action);
        let soon = waits && Instant::now() < self.soon_until;
        let most = if soon { RETRY_SOON_MAX } else { RETRY_MAX };
        if again.as_ref().is_none_or(|failed| failed.why != why) {
            tracing::warn!(unit = %self.handle.unit, action = name, why, "failed; it is tried again");
        }
        let pause = again.map_or(RETRY_MIN, |failed| (failed.pause * 2).min(most));
        self.failed = Some(Failed { action: running.action, why, pause, again_at: Instant::now() + pause });
    }

    fn take_fit(&mut self, fit: Fit) {
        (self.local.diverged, self.local.starved) = (fit == Fit::Diverged, fit == Fit::Starved);
    }

    fn examined(&mut self, ended: &Joined<Fit>) {
        self.not_streaming_since = Some(Instant::now());
        // An upstream that cannot be reached says nothing about the log.
        if let Ok(Ok(fit)) = ended {
            self.take_fit(*fit);
        }
    }

    /// A primary's lease counts once the guard has taken it: one that is frozen would not stop anything at its end.
    /// A standby's is only passed on when it is promoted, lest the guard stop a replica that needs none.
    async fn take_lease(&mut self, held: Held) {
        let runs = match &self.local.process {
            Process::Primary { epoch, .. } => *epoch == held.epoch,
            _ => self.local.busy == Some(agent::PROMOTE),
        };
        if runs && let Err(error) = self.replica.lease(held.until_ms).await {
            tracing::warn!(unit = %self.handle.unit, why = error.chain(), "the lease is not taken");
            return;
        }
        self.lease = Some(self.lease.map_or(held, |lease| lease.merge(held)));
    }

    fn may_observe(&self) -> bool {
        self.running.as_ref().is_none_or(|running| act::may_observe(&running.action))
    }

    fn observed(&mut self, ended: Joined<Process>) {
        let now = Instant::now();
        self.looked = true;
        match ended {
            Ok(Ok(process)) => {
                let mut process = self.still_primary(process);
                if let Process::Primary { confirmed, healthy, .. } = &mut process {
                    confirmed.clone_from(&self.confirmed);
                    *healthy = boottime_ms() < self.healthy_until_ms;
                } else {
                    self.confirmed = None;
                }
                let streams =
                    !matches!(process, Process::Standby { upstream: Some(_), streaming: false, .. });
                self.not_streaming_since =
                    if streams { None } else { self.not_streaming_since.or(Some(now)) };
                self.local.process = process;
                self.local.data = self.replica.data();
                self.stale = false;
            }
            Ok(Err(error)) => {
                tracing::error!(unit = %self.handle.unit, why = error.chain(), "cannot observe the replica");
                self.why = error.chain();
            }
            Err(_) => {}
        }
        self.look_at =
            now + if self.is_settled() || now > self.soon_until { self.renew() } else { LOOK_SOON };
    }

    /// A primary that does not answer is a primary all the same while its guard runs: it may still acknowledge.
    fn still_primary(&self, seen: Process) -> Process {
        match (&seen, &self.local.process) {
            (Process::Starting, Process::Primary { .. }) => {}
            _ => return seen,
        }
        let mut process = self.local.process.clone();
        if let Process::Primary { standbys, .. } = &mut process {
            standbys.clear();
        }
        process
    }

    fn renew(&self) -> Duration {
        Duration::from_millis(self.given.timing.renew_ms)
    }

    /// Everything is as the record wants it, and the record wants no change.
    fn is_settled(&self) -> bool {
        let Some(unit) = self.unit() else { return true };
        let as_wanted = match &self.local.process {
            Process::Primary { open, applied, confirmed, .. } => *open && applied == confirmed,
            Process::Standby { upstream, streaming, .. } => {
                *streaming && upstream.as_ref() == Some(&unit.status.home)
            }
            _ => false,
        };
        as_wanted && unit.status.phase == Phase::Serving && self.running.is_none()
    }

    fn wake_at(&self) -> Instant {
        let mut wake = self.rotate_at;
        if self.observing.is_none() && self.may_observe() {
            wake = wake.min(self.look_at);
        }
        if self.probing.is_none() && self.is_primary() {
            wake = wake.min(self.probe_at);
        }
        let now = Instant::now();
        if self.remembering.is_none() && self.remember_at > now {
            wake = wake.min(self.remember_at);
        }
        if let Some(failed) = self.failed.as_ref().filter(|failed| failed.again_at > now) {
            wake = wake.min(failed.again_at);
        }
        if let Some(left_ms) = self.lease_left_ms().filter(|left_ms| *left_ms > 0) {
            wake = wake.min(now + Duration::from_millis(left_ms));
        }
        wake
    }

    /// Of a primary's lease; 0 if it has none or it has run out.
    fn lease_left_ms(&self) -> Option<u64> {
        let Process::Primary { epoch, .. } = self.local.process else { return None };
        let lease = self.lease.filter(|lease| lease.epoch == epoch);
        Some(lease.map_or(0, |lease| lease.until_ms.saturating_sub(boottime_ms())))
    }

    fn is_primary(&self) -> bool {
        matches!(self.local.process, Process::Primary { .. })
    }

    /// Begins whatever is due beside the actions.
    async fn background(&mut self) {
        let now = Instant::now();
        if self.lease_left_ms() == Some(0)
            && self.running.as_ref().is_some_and(|r| act::may_cancel(&r.action))
        {
            // Stopping is more urgent than whatever it is.
            self.call_off().await;
        }
        if self.observing.is_none() && self.may_observe() && now >= self.look_at {
            let replica = self.replica.clone();
            self.observing = Some(tokio::spawn(async move { replica.observe().await }));
        }
        if self.probing.is_none() && self.is_primary() && now >= self.probe_at {
            self.probe_at = now + self.renew();
            let replica = self.replica.clone();
            self.probing = Some(tokio::spawn(async move { replica.write_probe().await }));
        }
        if now >= self.rotate_at {
            self.rotate_at = now + ROTATE_EVERY;
            let replica = self.replica.clone();
            tokio::task::spawn_blocking(move || {
                if let Err(error) = replica.rotate_log() {
                    tracing::warn!(%error, "the log cannot be rotated");
                }
            });
        }
        self.examine(now);
        self.checkpoint();
    }

    fn examine(&mut self, now: Instant) {
        let due = self.not_streaming_since.is_some_and(|since| now - since > EXAMINE_AFTER);
        if !due || self.examining.is_some() || self.running.is_some() {
            return;
        }
        let Some(upstream) = self.replica.state().upstream else { return };
        let replica = self.replica.clone();
        self.examining = Some(tokio::spawn(async move { replica.examine(&upstream).await }));
    }

    /// Before a move: what is dirty is written while the primary still serves, so that sealing is short.
    fn checkpoint(&mut self) {
        let Some(unit) = self.unit() else { return };
        let holds = matches!(unit.status.phase, Phase::Holding { .. }) && unit.status.home == self.handle.dc;
        if holds && self.is_primary() && self.checkpointed < unit.revision {
            self.checkpointed = unit.revision;
            let (replica, unit) = (self.replica.clone(), self.handle.unit.clone());
            tokio::spawn(async move {
                if let Err(error) = replica.checkpoint().await {
                    tracing::warn!(%unit, why = error.chain(), "no checkpoint before the move");
                }
            });
        }
    }

    fn probed(&mut self, ended: Joined<()>) {
        match ended {
            Ok(Ok(())) => {
                self.healthy_until_ms = boottime_ms() + self.given.timing.fresh_ms;
                if let Process::Primary { healthy, .. } = &mut self.local.process {
                    *healthy = true;
                }
            }
            Ok(Err(error)) => {
                tracing::warn!(unit = %self.handle.unit, why = error.chain(), "a real write did not come back");
            }
            Err(_) => {}
        }
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
        let stopped = match self.replica.observe().await {
            Ok(Process::Primary { .. }) => self.replica.seal(SHUTDOWN_BUDGET).await,
            _ => self.replica.stop_in_order(SHUTDOWN_BUDGET).await,
        };
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
