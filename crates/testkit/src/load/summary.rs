//! What a load saw, computed from its journal and from nothing else.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use dujiang_types::{Code, DcId, UnitId};
use serde::Serialize;

use crate::journal::{self, Ended, JournalError, Line, Outcome, Sent, is_transient};
use crate::load::histogram::Histogram;
use crate::request::Request;

/// What a load saw.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Prefix of its keys.
    pub run: String,
    /// From the first request of the loop to the last answer.
    pub seconds: f64,
    /// Operations not started because too many were in flight.
    pub not_started: u64,
    /// All units together.
    pub total: UnitSummary,
    /// By unit, the unit of a transfer being that of the payer.
    pub units: BTreeMap<UnitId, UnitSummary>,
}

/// What a load saw of one unit.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct UnitSummary {
    /// Operations, each with all its attempts.
    pub operations: u64,
    /// Of them acknowledged.
    pub acknowledged: u64,
    /// Refused by the bank's rules.
    pub refused: u64,
    /// Whose outcome is not known.
    pub unknown: u64,
    /// Refused by the bank's rules, by code.
    pub refusals: BTreeMap<String, u64>,
    /// Attempts whose client got no answer, an error of ours, or a refusal that speaks of the platform's state.
    pub failed_requests: u64,
    /// The same by data center of the gateway.
    pub failed_requests_via: BTreeMap<DcId, u64>,
    /// Connections refused by a gateway, after which the client went to the next one.
    pub passed_over: u64,
    /// Time to the answer, from the first attempt on, of operations acknowledged or refused.
    pub latency: Latency,
    /// Longest time between two payments acknowledged one after the other.
    pub longest_gap_ms: f64,
    /// When that gap began, in seconds since the load began.
    pub longest_gap_at_s: f64,
}

/// Quantiles of a time, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Half take no longer.
    pub p50_ms: f64,
    /// 99 % take no longer.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// An attempt in which the platform failed the client, whatever the outcome of the operation.
pub fn is_failed_request(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Acknowledged(_) => false,
        Outcome::Refused { code } => is_transient(*code),
        Outcome::Unknown { .. } => true,
    }
}

/// Sums up one run of a journal. Preparing accounts does not count.
pub fn of_run(path: &Path, run: &str) -> Result<Summary, JournalError> {
    let mut scan = Scan::new(run);
    journal::scan(path, |line| scan.take(line))?;
    Ok(scan.summary())
}

/// An operation that may see more attempts.
struct Open {
    unit: UnitId,
    first_sent_us: u64,
    payment: bool,
    /// An attempt told nothing, so "nothing was done" of a later one does not settle the operation.
    uncertain: bool,
    last: Option<(u64, Outcome)>,
}

#[derive(Default)]
struct Gathered {
    summary: UnitSummary,
    latency: Histogram,
    last_payment_us: Option<u64>,
}

struct Scan {
    run: String,
    operations: HashMap<String, Open>,
    units: BTreeMap<UnitId, Gathered>,
    total: Gathered,
    first_us: Option<u64>,
    last_us: u64,
}

impl Scan {
    fn new(run: &str) -> Self {
        Self {
            run: run.to_owned(),
            operations: HashMap::new(),
            units: BTreeMap::new(),
            total: Gathered::default(),
            first_us: None,
            last_us: 0,
        }
    }

    /// True for operations of the loop; those that prepared accounts have a `c` after the run's name.
    fn is_ours(&self, key: &str) -> bool {
        let rest = key.strip_prefix(&self.run).and_then(|rest| rest.strip_prefix('-'));
        rest.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
    }

    fn take(&mut self, line: Line) {
        match line {
            Line::Sent(sent) if self.is_ours(&sent.key) => self.sent(sent),
            Line::Ended(ended) if self.is_ours(&ended.key) => self.ended(ended),
            Line::Began(_) | Line::Sent(_) | Line::Ended(_) => {}
        }
    }

    fn sent(&mut self, sent: Sent) {
        self.first_us.get_or_insert(sent.at_us);
        self.operations.entry(sent.key).or_insert_with(|| Open {
            unit: sent.unit,
            first_sent_us: sent.at_us,
            payment: sent.request.moves_money() && !matches!(sent.request, Request::Reversal { .. }),
            uncertain: false,
            last: None,
        });
    }

    fn ended(&mut self, ended: Ended) {
        self.last_us = self.last_us.max(ended.at_us);
        let Some(open) = self.operations.get_mut(&ended.key) else { return };
        for gathered in [&mut self.total, self.units.entry(ended.unit.clone()).or_default()] {
            gathered.attempt(&ended, open.payment);
        }
        open.uncertain |= matches!(ended.outcome, Outcome::Unknown { .. });
        open.last = Some((ended.at_us, ended.outcome));
    }

    fn summary(mut self) -> Summary {
        for open in self.operations.into_values() {
            for gathered in [&mut self.total, self.units.entry(open.unit.clone()).or_default()] {
                gathered.operation(&open);
            }
        }
        let began = self.first_us.unwrap_or_default();
        Summary {
            run: self.run,
            seconds: Duration::from_micros(self.last_us.saturating_sub(began)).as_secs_f64(),
            not_started: 0,
            total: self.total.finish(),
            units: self.units.into_iter().map(|(unit, gathered)| (unit, gathered.finish())).collect(),
        }
    }
}

impl Gathered {
    fn attempt(&mut self, ended: &Ended, payment: bool) {
        self.summary.passed_over += u64::try_from(ended.passed_over.len()).unwrap_or_default();
        if is_failed_request(&ended.outcome) {
            self.summary.failed_requests += 1;
            if let Some(dc) = &ended.gateway {
                *self.summary.failed_requests_via.entry(dc.clone()).or_default() += 1;
            }
        }
        if payment && matches!(ended.outcome, Outcome::Acknowledged(_)) {
            if let Some(last) = self.last_payment_us {
                let gap_ms = milliseconds(ended.at_us.saturating_sub(last));
                if gap_ms > self.summary.longest_gap_ms {
                    self.summary.longest_gap_ms = gap_ms;
                    self.summary.longest_gap_at_s = Duration::from_micros(last).as_secs_f64();
                }
            }
            self.last_payment_us = self.last_payment_us.max(Some(ended.at_us));
        }
    }

    fn operation(&mut self, open: &Open) {
        self.summary.operations += 1;
        let answered = match &open.last {
            Some((at_us, Outcome::Acknowledged(_))) => {
                self.summary.acknowledged += 1;
                Some(*at_us)
            }
            Some((at_us, Outcome::Refused { code })) if !(open.uncertain && is_transient(*code)) => {
                self.refused(*code);
                Some(*at_us)
            }
            _ => {
                self.summary.unknown += 1;
                None
            }
        };
        if let Some(at_us) = answered {
            self.latency.record(Duration::from_micros(at_us.saturating_sub(open.first_sent_us)));
        }
    }

    fn refused(&mut self, code: Code) {
        self.summary.refused += 1;
        *self.summary.refusals.entry(code.to_string()).or_default() += 1;
    }

    fn finish(self) -> UnitSummary {
        let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
        let latency = Latency {
            p50_ms: ms(self.latency.quantile(500)),
            p99_ms: ms(self.latency.quantile(990)),
            max_ms: ms(self.latency.max()),
        };
        UnitSummary { latency, ..self.summary }
    }
}

fn milliseconds(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Receipt;
    use dujiang_types::{Currency, Money};
    use jiff::Timestamp;

    fn pay(scan: &mut Scan, key: &str, attempt: u32, times: (u64, u64), outcome: Outcome) {
        let unit = UnitId::new("unit-1").unwrap();
        let (key, at) = (key.to_owned(), Timestamp::UNIX_EPOCH);
        let request = Request::Deposit { account: "1".into(), amount: Money::new(1, Currency::CNY) };
        let sent = Sent { key: key.clone(), attempt, request, unit: unit.clone(), at, at_us: times.0 };
        scan.take(Line::Sent(sent));
        let gateway = Some(DcId::new("chengdu-1").unwrap());
        let (sent_us, at_us) = times;
        scan.take(Line::Ended(Ended {
            key,
            attempt,
            gateway,
            passed_over: vec![],
            unit,
            at,
            sent_us,
            at_us,
            outcome,
        }));
    }

    #[test]
    fn operations_attempts_and_gaps_are_told_apart() {
        let acknowledged = || Outcome::Acknowledged(Receipt::default());
        let unknown = || Outcome::Unknown { why: "reset".into() };
        let moved = || Outcome::Refused { code: Code::UnitMoved };
        let mut scan = Scan::new("r");
        pay(&mut scan, "r-c0-deposit", 1, (0, 500_000), acknowledged());
        pay(&mut scan, "r-0", 1, (1_000_000, 1_010_000), acknowledged());
        pay(&mut scan, "r-1", 1, (1_020_000, 1_030_000), unknown());
        pay(&mut scan, "r-1", 2, (1_040_000, 3_010_000), acknowledged());
        pay(&mut scan, "r-2", 1, (3_010_000, 3_020_000), Outcome::Refused { code: Code::InsufficientFunds });
        pay(&mut scan, "r-3", 1, (3_020_000, 3_030_000), unknown());
        pay(&mut scan, "r-3", 2, (3_030_000, 3_040_000), moved());
        pay(&mut scan, "r-4", 1, (3_020_000, 3_030_000), moved());
        let summary = scan.summary();
        let total = &summary.total;
        assert_eq!((total.operations, total.acknowledged, total.refused, total.unknown), (5, 2, 2, 1));
        assert_eq!(total.failed_requests, 4);
        assert!((total.longest_gap_ms - 2000.0).abs() < 1.0, "{}", total.longest_gap_ms);
        assert!((total.longest_gap_at_s - 1.01).abs() < 0.001);
        assert!((total.latency.max_ms - 1990.0).abs() < 1.0);
        assert!((summary.seconds - 2.04).abs() < 0.001);
        assert_eq!(summary.units.len(), 1);
    }
}
