//! What each unit's clients saw of a fault, computed from the journal.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

use dujiang_types::{DcId, UnitId};
use serde::Serialize;

use super::Fault;
use crate::journal::{self, Ended, JournalError, Line, Outcome};
use crate::load::is_failed_request;

/// What one unit's clients saw of a fault.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct UnitOutage {
    /// True if the fault took the unit's home.
    pub at_fault: bool,
    /// Home before the fault.
    pub home_before: Option<DcId>,
    /// Home at the end of the drill.
    pub home_after: Option<DcId>,
    /// Longest time between two payments acknowledged one after the other, between fault and return.
    pub outage_ms: f64,
    /// When that time began, in milliseconds since the fault; a payment that was under way may come after it.
    pub outage_began_ms: f64,
    /// The same from the return on, when replicas catch up and clients go back.
    pub return_gap_ms: f64,
    /// Failed requests that were in flight in the data center that was lost.
    pub failed_in_flight: u64,
    /// All other failed requests since the fault.
    pub failed_otherwise: u64,
    /// Connections a dead gateway refused, after which the client went to the next one.
    pub passed_over: u64,
    /// Payments acknowledged between fault and return.
    pub acknowledged: u64,
}

#[derive(Default)]
struct Seen {
    outage: UnitOutage,
    last_us: Option<u64>,
}

/// What each unit's clients saw.
pub(super) fn by_unit(
    path: &Path,
    run: &str,
    fault: &Fault,
) -> Result<BTreeMap<UnitId, UnitOutage>, JournalError> {
    let mut units = BTreeMap::<UnitId, Seen>::new();
    let mut payments = HashSet::new();
    journal::scan(path, |line| match line {
        Line::Sent(sent) if sent.key.starts_with(run) && sent.request.moves_money() => {
            payments.insert(sent.key);
        }
        Line::Ended(ended) if ended.key.starts_with(run) => {
            let payment = payments.contains(&ended.key);
            units.entry(ended.unit.clone()).or_default().take(&ended, payment, fault);
        }
        Line::Began(_) | Line::Sent(_) | Line::Ended(_) => {}
    })?;
    Ok(units.into_iter().map(|(unit, seen)| (unit, seen.outage)).collect())
}

impl Seen {
    fn take(&mut self, ended: &Ended, payment: bool, fault: &Fault) {
        let outage = &mut self.outage;
        if ended.at_us >= fault.began_us {
            outage.passed_over += u64::try_from(ended.passed_over.len()).unwrap_or_default();
            if is_failed_request(&ended.outcome) {
                let in_dead = ended.gateway.is_some() && ended.gateway == fault.dc;
                let in_flight = in_dead && ended.sent_us <= fault.dead_us;
                *(if in_flight { &mut outage.failed_in_flight } else { &mut outage.failed_otherwise }) += 1;
            }
        }
        if !payment || !matches!(ended.outcome, Outcome::Acknowledged(_)) {
            return;
        }
        // Answers are written down by several tasks and may be a little out of order.
        let at_us = self.last_us.map_or(ended.at_us, |last| last.max(ended.at_us));
        if let Some(last_us) = self.last_us.replace(at_us)
            && at_us > fault.began_us
        {
            let gap_ms = milliseconds(at_us - last_us);
            if last_us >= fault.over_us {
                outage.return_gap_ms = outage.return_gap_ms.max(gap_ms);
            } else if gap_ms > outage.outage_ms {
                outage.outage_ms = gap_ms;
                outage.outage_began_ms = milliseconds(last_us) - milliseconds(fault.began_us);
            }
        }
        if (fault.began_us..fault.over_us).contains(&ended.at_us) {
            outage.acknowledged += 1;
        }
    }
}

fn milliseconds(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Receipt;
    use dujiang_types::Code;
    use jiff::Timestamp;

    fn ended(dc: &str, times_ms: (u64, u64), outcome: Outcome) -> Ended {
        Ended {
            key: "r-1".into(),
            attempt: 1,
            gateway: Some(DcId::new(dc).unwrap()),
            passed_over: vec![],
            unit: UnitId::new("unit-1").unwrap(),
            at: Timestamp::UNIX_EPOCH,
            sent_us: times_ms.0 * 1000,
            at_us: times_ms.1 * 1000,
            outcome,
        }
    }

    fn fault() -> Fault {
        Fault {
            name: String::new(),
            dc: Some(DcId::new("dead").unwrap()),
            unit: None,
            limit: Duration::from_secs(5),
            killed: 0,
            began_us: 1_000_000,
            dead_us: 1_050_000,
            over_us: 9_000_000,
            serving_after_s: None,
            whole_after_s: None,
            troubles: vec![],
        }
    }

    #[test]
    fn an_outage_is_the_longest_silence_after_the_fault() {
        let acknowledged = || Outcome::Acknowledged(Receipt::default());
        let reset = || Outcome::Unknown { why: "reset".into() };
        let fault = fault();
        let mut seen = Seen::default();
        let mut take = |dc, times, outcome, payment| seen.take(&ended(dc, times, outcome), payment, &fault);
        take("alive", (0, 100), acknowledged(), true);
        take("alive", (0, 150), reset(), true);
        // A silence before the fault is none of its doing.
        take("alive", (890, 990), acknowledged(), true);
        take("dead", (990, 1_010), reset(), true);
        take("dead", (1_060, 1_070), reset(), true);
        take("alive", (1_020, 1_030), Outcome::Refused { code: Code::UnitUnavailable }, true);
        take("alive", (1_020, 1_030), Outcome::Refused { code: Code::InsufficientFunds }, true);
        // A read proves nothing about payments.
        take("alive", (2_000, 2_010), acknowledged(), false);
        take("alive", (1_100, 3_500), acknowledged(), true);
        take("alive", (8_000, 8_010), reset(), true);
        take("alive", (3_500, 8_900), acknowledged(), true);
        take("alive", (9_000, 9_100), acknowledged(), true);
        take("alive", (9_000, 9_400), acknowledged(), true);
        let outage = seen.outage;
        assert!((outage.outage_ms - 5_400.0).abs() < 0.1, "{outage:?}");
        assert!((outage.outage_began_ms - 2_500.0).abs() < 0.1, "{outage:?}");
        assert!((outage.return_gap_ms - 300.0).abs() < 0.1, "{outage:?}");
        assert_eq!((outage.failed_in_flight, outage.failed_otherwise, outage.acknowledged), (1, 3, 2));
    }
}
