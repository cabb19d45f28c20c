//! Who may acknowledge, and until when.
//!
//! A lease is asked for in an agent's report and counted by the agent from when that report was sent, so it ends
//! at the agent no later than the control plane thinks. Times are milliseconds of a clock that never jumps and
//! counts suspension (`CLOCK_BOOTTIME`).

use dujiang_types::api::{Lease, PromiseReply, PromiseRequest};
use dujiang_types::unit::{Phase, Unit};
use dujiang_types::{DcId, Epoch};

use crate::Timing;

/// True if the agent of `dc` may be given a lease for that epoch. The record must be the committed one, and the
/// grant must be remembered before it is answered.
pub fn may_grant(unit: &Unit, dc: &DcId, epoch: Epoch) -> bool {
    let runs = matches!(
        unit.status.phase,
        Phase::Forming | Phase::Serving | Phase::Holding { .. } | Phase::Promoting { .. }
    );
    runs && unit.status.home == *dc && unit.status.epoch == epoch
}

/// A lease as its holder sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// For which epoch.
    pub epoch: Epoch,
    /// Until when.
    pub until_ms: u64,
}

impl Held {
    /// The lease that follows from a grant whose request was sent at `sent_ms`.
    pub fn from_grant(lease: Lease, sent_ms: u64) -> Self {
        Self { epoch: lease.epoch, until_ms: sent_ms + lease.ttl_ms }
    }

    /// True if it permits acknowledging under that epoch now.
    pub fn covers(self, epoch: Epoch, now_ms: u64) -> bool {
        self.epoch == epoch && now_ms < self.until_ms
    }

    /// The longer of two leases of the same epoch, or the one of the higher epoch: an answer that arrives late
    /// never shortens what was granted.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        if (other.epoch, other.until_ms) > (self.epoch, self.until_ms) { other } else { self }
    }
}

/// Promises an agent has given about its replica of one unit. Volatile: see [`Promises::after_start`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promises {
    until_ms: u64,
}

impl Promises {
    /// An agent that starts does not know what it promised before: it behaves as if the longest possible promise
    /// had been given at the last moment.
    pub fn after_start(now_ms: u64, timing: &Timing) -> Self {
        Self { until_ms: now_ms + timing.lease_ms + timing.margin_ms }
    }

    /// For how much longer the replica must not be promoted.
    pub fn remaining_ms(self, now_ms: u64) -> u64 {
        self.until_ms.saturating_sub(now_ms)
    }

    /// Answers another agent's request. What is promised is kept for a margin longer than asked, as the control
    /// plane keeps a lease: the two clocks may drift, and the asker's guard needs time to act. Granted only to the home of the epoch this agent knows, and only while no
    /// change of home is under way.
    pub fn ask(
        &mut self,
        unit: Option<&Unit>,
        ask: &PromiseRequest,
        timing: &Timing,
        now_ms: u64,
    ) -> PromiseReply {
        let refuse = |reason: &str| PromiseReply { granted: false, reason: reason.to_owned() };
        let Some(unit) = unit else { return refuse("the unit is not known here") };
        if unit.status.epoch != ask.epoch || unit.status.home != ask.dc {
            return refuse("the unit has another epoch or another home");
        }
        if !matches!(unit.status.phase, Phase::Serving | Phase::Holding { .. }) {
            return refuse("the unit's home is changing");
        }
        if ask.ttl_ms > timing.lease_ms {
            return refuse("longer than a lease");
        }
        self.until_ms = self.until_ms.max(now_ms + ask.ttl_ms + timing.margin_ms);
        PromiseReply { granted: true, reason: String::new() }
    }
}
