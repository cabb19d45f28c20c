//! Deciding: ask the machine, begin what it wants, take the outcome in.

use std::time::Duration;

use dujiang_types::DcId;
use dujiang_unit::agent::{self, Action, Process};
use tokio::time::Instant;

use super::{Failed, Joined, RETRY_MAX, Running, SOON_FOR, Task, cancel};
use crate::host::act::{self, Outcome};
use crate::postgres::{Fit, Upstream};

/// Pause after an action failed; doubled each time the same one fails again.
const RETRY_MIN: Duration = Duration::from_millis(50);
/// Longest pause, soon after a change, for what only waits until somebody else is ready: that ends an outage.
const RETRY_SOON_MAX: Duration = Duration::from_millis(100);

impl Task {
    /// What the machine wants now.
    pub(super) fn wanted(&self) -> agent::Step {
        if self.is_gone() {
            let action = (!matches!(self.local.process, Process::Stopped { .. })).then_some(Action::StopNow);
            return agent::Step { action, why: "the unit does not exist any more".to_owned() };
        }
        let unit = self.unit();
        agent::next(&self.view(unit.as_deref()))
    }

    /// Asks the machine and begins what it wants, if nothing is under way.
    pub(super) async fn decide(&mut self) {
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
    pub(super) fn epoch_is_seen(&mut self) -> bool {
        let epoch = self.unit().map(|unit| unit.status.epoch).unwrap_or_default();
        if epoch > self.local.epoch_seen && self.remembering.is_none() && Instant::now() >= self.remember_at {
            let replica = self.replica.clone();
            self.remembering = Some(tokio::spawn(async move { replica.see_epoch(epoch).await }));
        }
        epoch <= self.local.epoch_seen
    }

    pub(super) fn remembered(&mut self, ended: Joined<()>) {
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

    pub(super) async fn begin(&mut self, action: Action, why: &str) {
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
    pub(super) fn upstream_of(&self, action: &Action) -> Option<Option<Upstream>> {
        let (Action::Clone { from } | Action::Rewind { from } | Action::Follow { from }) = action else {
            return Some(None);
        };
        self.upstream(from).map(Some)
    }

    pub(super) fn upstream(&self, dc: &DcId) -> Option<Upstream> {
        let port = self.replica.settings().address.port();
        let known = self.given.known.borrow();
        let address = known.data_centers.get(dc)?.spec.database_address(port);
        Some(Upstream { dc: dc.clone(), address })
    }

    /// A changed record may make what is under way pointless.
    pub(super) async fn record_changed(&mut self) {
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

    pub(super) async fn call_off(&mut self) {
        let Some(running) = self.running.take() else { return };
        tracing::info!(unit = %self.handle.unit, action = act::name(&running.action), "called off");
        cancel(&mut Some(running.task)).await;
        self.after_action();
    }

    /// Takes over what is durable; what runs must be observed.
    pub(super) fn after_action(&mut self) {
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

    pub(super) fn acted(&mut self, ended: Joined<Outcome>) {
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
                    (Action::SetSync { set }, Outcome::Done) => self.confirmed = Some(set),
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

    pub(super) fn take_fit(&mut self, fit: Fit) {
        (self.local.diverged, self.local.starved) = (fit == Fit::Diverged, fit == Fit::Starved);
    }
}
