//! A histogram of durations in constant memory: 32 buckets per power of two, so an error of at most 3 %.

use std::time::Duration;

const SUB_BITS: u32 = 5;
const SUB: u64 = 1 << SUB_BITS;
/// Durations up to 2^40 microseconds, twelve days; longer ones count as that.
const POWERS: u64 = 40;

/// Counts of durations.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max_us: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; bucket(u64::MAX) + 1], total: 0, max_us: 0 }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(us)] += 1;
        self.total += 1;
        self.max_us = self.max_us.max(us);
    }

    /// Durations counted.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The longest one, exactly.
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.max_us)
    }

    /// The duration that `per_mille` of 1000 do not exceed; zero if nothing was counted.
    pub fn quantile(&self, per_mille: u64) -> Duration {
        let rank = (self.total * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_micros(upper_bound(index).min(self.max_us));
            }
        }
        Duration::ZERO
    }
}

fn bucket(us: u64) -> usize {
    let us = us.min((1 << POWERS) - 1);
    let index = if us < SUB {
        us
    } else {
        let shift = us.ilog2() - SUB_BITS;
        u64::from(shift) * SUB + (us >> shift)
    };
    usize::try_from(index).unwrap_or(usize::MAX)
}

fn upper_bound(index: usize) -> u64 {
    let index = u64::try_from(index).unwrap_or(u64::MAX);
    if index < 2 * SUB {
        return index;
    }
    let shift = index / SUB - 1;
    ((index % SUB + SUB + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_of_one_to_a_thousand() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(990), Duration::ZERO);
        for ms in 1..=1000 {
            histogram.record(Duration::from_millis(ms));
        }
        let near = |per_mille, ms: u64| {
            let got = histogram.quantile(per_mille).as_micros();
            let want = u128::from(ms) * 1000;
            assert!(got >= want && got <= want * 104 / 100, "{got} is not near {want}");
        };
        near(500, 500);
        near(990, 990);
        assert_eq!(histogram.quantile(1000), Duration::from_secs(1));
        assert_eq!(histogram.max(), Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn a_bucket_holds_what_falls_into_it(us in 0_u64..1 << POWERS) {
            let upper = upper_bound(bucket(us));
            prop_assert!(us <= upper && upper - us <= us / SUB);
            prop_assert!(upper + 1 == 1 << POWERS || bucket(upper + 1) == bucket(us) + 1);
        }
    }
}
