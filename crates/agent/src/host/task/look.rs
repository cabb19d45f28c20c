//! Watching: observations, leases, the real-write probe, and what else is looked at now and then.

use std::time::Duration;

use dujiang_types::unit::Phase;
use dujiang_unit::agent::{self, Process};
use dujiang_unit::lease::Held;
use tokio::time::Instant;

use super::{Joined, ROTATE_EVERY, Task};
use crate::clock::boottime_ms;
use crate::host::act;
use crate::postgres::Fit;

/// Between two observations while something is under way.
const LOOK_SOON: Duration = Duration::from_millis(25);
/// A follower that does not stream for so long is compared with its upstream again.
const EXAMINE_AFTER: Duration = Duration::from_secs(1);
/// Between two looks whether the databases' identity was renewed: renewals leave far more time than that.
const RENEW_IDENTITY_EVERY: Duration = Duration::from_secs(2);
/// From when clients are admitted until the checkpoint of a promotion.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(2);

impl Task {
    pub(super) fn examined(&mut self, ended: &Joined<Fit>) {
        self.not_streaming_since = Some(Instant::now());
        // An upstream that cannot be reached says nothing about the log.
        if let Ok(Ok(fit)) = ended {
            self.take_fit(*fit);
        }
    }

    /// A primary's lease counts once the guard has taken it: one that is frozen would not stop anything at its end.
    /// A standby's is only passed on when it is promoted, lest the guard stop a replica that needs none.
    pub(super) async fn take_lease(&mut self, held: Held) {
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

    pub(super) fn may_observe(&self) -> bool {
        self.running.as_ref().is_none_or(|running| act::may_observe(&running.action))
    }

    pub(super) fn observed(&mut self, ended: Joined<Process>) {
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
    pub(super) fn still_primary(&self, seen: Process) -> Process {
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

    pub(super) fn renew(&self) -> Duration {
        Duration::from_millis(self.given.timing.renew_ms)
    }

    /// Everything is as the record wants it, and the record wants no change.
    pub(super) fn is_settled(&self) -> bool {
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

    pub(super) fn wake_at(&self) -> Instant {
        let mut wake = self.rotate_at;
        if self.observing.is_none() && self.may_observe() {
            wake = wake.min(self.look_at);
        }
        if self.probing.is_none() && self.is_primary() {
            wake = wake.min(self.probe_at);
        }
        if self.metering.is_none() && self.may_count() {
            wake = wake.min(self.meter_at);
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
    pub(super) fn lease_left_ms(&self) -> Option<u64> {
        let Process::Primary { epoch, .. } = self.local.process else { return None };
        let lease = self.lease.filter(|lease| lease.epoch == epoch);
        Some(lease.map_or(0, |lease| lease.until_ms.saturating_sub(boottime_ms())))
    }

    /// While nothing is started, stopped or changed: counting is never worth a moment of that.
    fn may_count(&self) -> bool {
        let answers = matches!(self.local.process, Process::Primary { .. } | Process::Standby { .. });
        answers && self.running.is_none()
    }

    pub(super) fn is_primary(&self) -> bool {
        matches!(self.local.process, Process::Primary { .. })
    }

    /// Begins whatever is due beside the actions.
    pub(super) async fn background(&mut self) {
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
        if self.metering.is_none() && self.may_count() && now >= self.meter_at {
            self.meter_at = now + self.renew();
            let replica = self.replica.clone();
            self.metering = Some(tokio::spawn(async move { replica.meter().await }));
        }
        if now >= self.renew_identity_at {
            self.renew_identity_at = now + RENEW_IDENTITY_EVERY;
            let (replica, unit) = (self.replica.clone(), self.handle.unit.clone());
            tokio::spawn(async move {
                if let Err(error) = replica.renew_identity().await {
                    tracing::warn!(%unit, why = error.chain(), "the database still shows its old identity");
                }
            });
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
        self.checkpoint(now);
    }

    pub(super) fn examine(&mut self, now: Instant) {
        let due = self.not_streaming_since.is_some_and(|since| now - since > EXAMINE_AFTER);
        if !due || self.examining.is_some() || self.running.is_some() {
            return;
        }
        let Some(upstream) = self.replica.state().upstream else { return };
        let replica = self.replica.clone();
        self.examining = Some(tokio::spawn(async move { replica.follow_again(&upstream).await }));
    }

    /// Soon after a promotion, because a former primary that crashed before its first checkpoint cannot be rewound.
    /// Not at once, because then all the requests that were held want the disk.
    pub(super) fn checkpoint(&mut self, now: Instant) {
        let Process::Primary { epoch, open: true, .. } = self.local.process else { return };
        if self.checkpoint.0 < epoch {
            self.checkpoint = (epoch, Some(now + CHECKPOINT_AFTER));
        }
        if self.checkpoint.1.is_some_and(|due| now >= due) {
            self.checkpoint.1 = None;
            let (replica, unit) = (self.replica.clone(), self.handle.unit.clone());
            tokio::spawn(async move {
                if let Err(error) = replica.checkpoint().await {
                    tracing::warn!(%unit, why = error.chain(), "no checkpoint");
                }
            });
        }
    }

    pub(super) fn probed(&mut self, ended: Joined<()>) {
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
}
