//! What is counted, per thread and unit. One thread writes, so counting costs no locked instruction; the report
//! and the metrics add the threads up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dujiang_types::{Revision, UnitId};
use tokio::sync::watch;

use crate::turn::Turn;

/// Upper bounds of the latency buckets in seconds.
pub(crate) const LATENCY_BOUNDS: [f64; 16] = [
    0.000_25,
    0.000_5,
    0.001,
    0.002_5,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    f64::INFINITY,
];

/// A counter one thread adds to and any thread reads.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, by: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
    }

    fn sub(&self, by: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(by), Ordering::Relaxed);
    }

    pub(crate) fn set(&self, to: u64) {
        self.0.store(to, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets it; what it was before.
    pub(crate) fn replace(&self, to: u64) -> u64 {
        let before = self.get();
        self.set(to);
        before
    }
}

/// Durations by size.
#[derive(Debug, Default)]
pub(crate) struct Durations {
    pub(crate) buckets: [Count; LATENCY_BOUNDS.len()],
    pub(crate) sum_us: Count,
}

impl Durations {
    pub(crate) fn add(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = LATENCY_BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or_default();
        self.buckets[bucket].add(1);
        self.sum_us.add(micros(duration));
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// One thread's counts of one unit (or of all requests that belong to none).
#[derive(Debug, Default)]
pub(crate) struct Shard {
    /// Requests forwarded and not yet answered.
    pub(crate) in_flight: Count,
    /// True while this thread's table says to hold the unit.
    pub(crate) holding: AtomicBool,
    /// Answers by first digit of their status, from 1.
    pub(crate) answers: [Count; 5],
    pub(crate) latency: Durations,
    pub(crate) holds: Durations,
    pub(crate) hold_longest_us: Count,
    pub(crate) retries: Count,
    pub(crate) turn: Turn,
}

impl Shard {
    /// A request was answered with that status after so long.
    pub(crate) fn answered(&self, status: u16, after: Duration) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.answers[class].add(1);
        self.latency.add(after);
    }

    /// A request was held for so long.
    pub(crate) fn held(&self, duration: Duration) {
        self.holds.add(duration);
        self.hold_longest_us.set(self.hold_longest_us.get().max(micros(duration)));
    }
}

/// A request under way, counted until dropped.
pub(crate) struct InFlight {
    shard: Arc<Shard>,
    drained: Arc<News>,
}

impl InFlight {
    pub(crate) fn new(shard: &Arc<Shard>, drained: &Arc<News>) -> Self {
        shard.in_flight.add(1);
        Self { shard: shard.clone(), drained: drained.clone() }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.shard.in_flight.sub(1);
        if self.shard.in_flight.get() == 0 && self.shard.holding.load(Ordering::Relaxed) {
            self.drained.send_replace(());
        }
    }
}

/// Requests waiting for one unit, over all threads. Only touched while something waits.
#[derive(Debug, Default)]
pub(crate) struct Waiting(AtomicU64);

impl Waiting {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts a request in, unless that many wait already.
    pub(crate) fn enter(self: &Arc<Self>, most: u64) -> Option<Place> {
        let enter = |now| (now < most).then_some(now + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter).ok()?;
        Some(Place(self.clone()))
    }
}

/// A waiting request's place, given up when dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Waiting>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One unit's counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct UnitCounts {
    pub(crate) waiting: Arc<Waiting>,
    /// By thread.
    pub(crate) shards: Vec<Arc<Shard>>,
}

/// What one thread counts besides requests.
#[derive(Debug, Default)]
pub(crate) struct ThreadCounts {
    /// Requests that belong to no unit.
    pub(crate) unrouted: Arc<Shard>,
    pub(crate) connections: Count,
    pub(crate) connections_total: Count,
    /// Requests that were not HTTP.
    pub(crate) malformed: Count,
    /// Connections ended because the client was too slow or idle.
    pub(crate) expired: Count,
    pub(crate) pool_idle: Count,
    pub(crate) upstream_opened: Count,
    pub(crate) upstream_reused: Count,
    pub(crate) log_dropped: Count,
    pub(crate) answers_dropped: Count,
    /// Version of the table this thread routes by; stored after every count made under the one before.
    adopted: AtomicU64,
}

impl ThreadCounts {
    /// From now on every request of this thread follows this table.
    pub(crate) fn adopt(&self, version: Revision) {
        self.adopted.store(version.0, Ordering::Release);
    }

    /// The table this thread follows. What it counted before is visible to who reads its counts afterwards.
    pub(crate) fn adopted(&self) -> Revision {
        Revision(self.adopted.load(Ordering::Acquire))
    }
}

/// Says that there is something to report, to every reporter.
pub(crate) type News = watch::Sender<()>;

/// All counts.
#[derive(Debug)]
pub(crate) struct Counts {
    units: Mutex<BTreeMap<UnitId, UnitCounts>>,
    pub(crate) threads: Vec<Arc<ThreadCounts>>,
    /// Wakes the reporters: a held unit has drained, or a thread has a new table.
    pub(crate) news: Arc<News>,
}

impl Counts {
    pub(crate) fn new(threads: usize) -> Self {
        let threads = (0..threads).map(|_| Arc::default()).collect();
        Self { units: Mutex::default(), threads, news: Arc::default() }
    }

    /// Counts of a unit; made when first asked for.
    pub(crate) fn of(&self, unit: &UnitId) -> UnitCounts {
        let mut units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = units.get(unit) {
            return counts.clone();
        }
        let shards = self.threads.iter().map(|_| Arc::default()).collect();
        let counts = UnitCounts { waiting: Arc::default(), shards };
        units.insert(unit.clone(), counts.clone());
        counts
    }

    /// Counts of all units there ever were.
    pub(crate) fn all(&self) -> BTreeMap<UnitId, UnitCounts> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The oldest table any thread still follows.
    pub(crate) fn adopted_by_all(&self) -> Revision {
        self.threads.iter().map(|thread| thread.adopted()).min().unwrap_or_default()
    }
}

impl UnitCounts {
    /// Requests under way over all threads.
    pub(crate) fn in_flight(&self) -> u64 {
        self.shards.iter().map(|shard| shard.in_flight.get()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_the_bucket_that_bounds_them() {
        let durations = Durations::default();
        durations.add(Duration::from_micros(250));
        durations.add(Duration::from_micros(251));
        durations.add(Duration::from_secs(100));
        let counts: Vec<_> = durations.buckets.iter().map(Count::get).collect();
        assert_eq!((counts[0], counts[1], counts[LATENCY_BOUNDS.len() - 1]), (1, 1, 1));
        assert_eq!(durations.sum_us.get(), 100_000_501);
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let waiting = Arc::new(Waiting::default());
        let one = waiting.enter(2);
        let two = waiting.enter(2);
        assert!(one.is_some() && two.is_some() && waiting.enter(2).is_none());
        drop(one);
        assert_eq!(waiting.get(), 1);
        assert!(waiting.enter(2).is_some());
    }

    #[test]
    fn the_last_answer_of_a_held_unit_is_news() {
        let (shard, news) = (Arc::new(Shard::default()), Arc::new(News::default()));
        let (a, b) = (InFlight::new(&shard, &news), InFlight::new(&shard, &news));
        shard.holding.store(true, Ordering::Relaxed);
        let heard = news.subscribe();
        drop(a);
        assert!(!heard.has_changed().unwrap());
        drop(b);
        assert!(heard.has_changed().unwrap());
    }
}
