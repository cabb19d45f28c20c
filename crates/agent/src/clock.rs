//! The clock leases are counted on.

use nix::time::{ClockId, clock_gettime};

/// Milliseconds since the machine started, time spent suspended included (`CLOCK_BOOTTIME`): a lease runs on
/// while the machine sleeps, and no change of the wall clock touches it.
pub fn boottime_ms() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("CLOCK_BOOTTIME exists since Linux 2.6.39");
    let seconds = u64::try_from(now.tv_sec()).unwrap_or_default();
    let nanos = u64::try_from(now.tv_nsec()).unwrap_or_default();
    seconds * 1000 + nanos / 1_000_000
}
