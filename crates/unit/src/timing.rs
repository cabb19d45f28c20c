//! Every time and size the decisions depend on, with the reason for its value.

use serde::{Deserialize, Serialize};

/// Budgets in milliseconds and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// How long a primary may acknowledge without being heard. Long enough for four lost renewals on a busy
    /// machine, short enough that a dead data center's units are elsewhere within five seconds.
    pub lease_ms: u64,
    /// How often an agent reports and renews.
    pub renew_ms: u64,
    /// Waited on top of a lease before anyone else is promoted: the guard's time to end `PostgreSQL` for certain,
    /// and 2 % of clock drift over a lease.
    pub margin_ms: u64,
    /// A report older than this says nothing about now: *unknown*. Three renewals.
    pub fresh_ms: u64,
    /// How long gateways may take to hold a unit and to drain what is in flight before a move is called off.
    pub drain_ms_max: u64,
    /// How long an orderly stop of the primary may take before an election settles the matter.
    pub seal_ms_max: u64,
    /// How long a promotion may take. Generous: a replica may have log to replay.
    pub promote_ms_max: u64,
    /// A former home that stopped in order is waited for this long before another replica is preferred.
    pub home_grace_ms: u64,
    /// A member of the sync set that has not been streaming for this long leaves it, so that the record needs
    /// fewer replicas to prove completeness. Longer than a reconnect, shorter than a second failure is likely.
    pub member_lost_ms: u64,
    /// A replica this close to its primary may join the sync set: one WAL segment.
    pub join_lag_bytes_max: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease_ms: 2_500,
            renew_ms: 500,
            margin_ms: 500,
            fresh_ms: 1_500,
            drain_ms_max: 2_000,
            seal_ms_max: 5_000,
            promote_ms_max: 15_000,
            home_grace_ms: 3_000,
            member_lost_ms: 5_000,
            join_lag_bytes_max: 16 << 20,
        }
    }
}
