//! Random faults for thirty seconds, all from one seed, and then: is everything still right?

use std::fmt::Write as _;
use std::time::Duration;

use dujiang_testkit::cluster::DATA_CENTERS;
use dujiang_testkit::load::Mix;
use dujiang_types::{DcId, UnitId};
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{Instant, sleep_until};

use crate::case::{Bench, CaseError, Finding};
use crate::fault::{Fault, Target};

/// How long faults come and go.
const LASTS: Duration = Duration::from_secs(30);
/// A fault lasts at least and at most this long, in milliseconds.
const FAULT_MS: std::ops::Range<u64> = 500..9_000;
/// From one fault to the next, in milliseconds: so they overlap.
const APART_MS: std::ops::Range<u64> = 1_000..7_000;

/// Units of the platform: three of the bank, and one of the lists.
const UNITS: usize = 4;

/// A fault of a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// What.
    pub fault: Fault,
    /// Where, as a number of a data center.
    pub dc: usize,
    /// Of which unit, for faults of a database.
    pub unit: usize,
    /// Milliseconds from the start.
    pub from_ms: u64,
    /// Milliseconds from the start.
    pub until_ms: u64,
}

/// The faults of a seed.
pub fn plan(seed: u64) -> Vec<Planned> {
    let faults: Vec<Fault> =
        Fault::ALL.into_iter().filter(|fault| !fault.is_of_disk() && !fault.is_of_clock()).collect();
    let mut rng = StdRng::seed_from_u64(seed);
    let end_ms = u64::try_from(LASTS.as_millis()).unwrap_or(u64::MAX);
    let mut planned = Vec::new();
    let mut at_ms = rng.random_range(0..APART_MS.start);
    while at_ms < end_ms {
        let until_ms = (at_ms + rng.random_range(FAULT_MS)).min(end_ms);
        let fault = faults[rng.random_range(0..faults.len())];
        let (dc, unit) = (rng.random_range(0..DATA_CENTERS.len()), rng.random_range(1..=UNITS));
        planned.push(Planned { fault, dc, unit, from_ms: at_ms, until_ms });
        at_ms += rng.random_range(APART_MS);
    }
    planned
}

/// The plan as a person reads it.
pub fn describe(planned: &[Planned]) -> String {
    planned.iter().fold(String::new(), |mut text, one| {
        let dc = DATA_CENTERS[one.dc];
        let _ = writeln!(
            text,
            "  {:>6} ms to {:>6} ms  {} in {dc} (unit-{})",
            one.from_ms, one.until_ms, one.fault, one.unit
        );
        text
    })
}

/// Carries a sequence out on a platform that is whole.
pub async fn run(bench: &mut Bench, planned: &[Planned]) -> Result<Finding, CaseError> {
    let mut result = Finding::default();
    bench.ground.cluster.whole().await?;
    let load = bench.load(Mix::default()).await?;
    let (began, began_at) = (Instant::now(), Timestamp::now());
    let mut broken = Vec::new();
    let mut waiting = planned.iter().peekable();
    loop {
        let begins = waiting.peek().map(|next| (next.from_ms, None));
        let ends = (0..broken.len()).map(|n| {
            let (until_ms, _): &(u64, _) = &broken[n];
            (*until_ms, Some(n))
        });
        let Some((at_ms, which)) = begins.into_iter().chain(ends).min() else { break };
        sleep_until(began + Duration::from_millis(at_ms)).await;
        if let Some(number) = which {
            let (_, over) = broken.swap_remove(number);
            let (times, mut left): (Vec<_>, Vec<_>) = broken.into_iter().unzip();
            bench.ground.mend(over, &left)?;
            broken = times.into_iter().zip(left.drain(..)).collect();
        } else if let Some(next) = waiting.next() {
            let target = target(bench, next).await;
            if let Ok(one) = bench.ground.break_it(next.fault, &target) {
                broken.push((next.until_ms, one));
            }
        }
    }
    bench.ground.lab.heal();
    bench.settle(&mut result).await?;
    let run = load.run().to_owned();
    result.transactions = load.stop().await?.1.total.acknowledged;
    bench.judge(&mut result, Some((&run, began_at))).await?;
    Ok(result)
}

/// Who leads is found out when it matters; when nobody says, the data center's own control server is as good.
async fn target(bench: &Bench, planned: &Planned) -> Target {
    let dc = DcId::new(DATA_CENTERS[planned.dc]).unwrap_or_else(|_| crate::case::first_dc());
    let unit =
        UnitId::new(format!("unit-{}", planned.unit)).unwrap_or_else(|_| unreachable!("it is a valid name"));
    let status = match bench.ground.cluster.control() {
        Ok(control) => control.status().await.ok(),
        Err(_) => None,
    };
    let leader = status.and_then(|status| DcId::new(status.leader).ok()).unwrap_or_else(|| dc.clone());
    Target { dc, units: vec![unit], leader }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_sequence() {
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
        for seed in 0..50 {
            let planned = plan(seed);
            assert!(planned.len() >= 4, "{seed}: {planned:?}");
            assert!(planned.iter().all(|one| one.from_ms < one.until_ms && one.until_ms <= 30_000));
        }
    }
}
