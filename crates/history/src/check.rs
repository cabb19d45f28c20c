//! Putting it together: evidence, then cycles, until nothing more is found.

use std::collections::BTreeMap;

use crate::anomaly::{Anomaly, Finding};
use crate::cycle::{self, Allowed, Link};
use crate::direct::{self, Evidence};
use crate::graph::{Graph, Why, sentence};
use crate::transaction::{Outcome, Step, Transaction};

/// Findings told of one history: a ruined one has a finding for every transaction, and nobody reads them all.
pub const FINDINGS_MAX: usize = 20;

/// Findings told of each kind that shows without a cycle: every reader of a list meets the same dirty element.
const DIRECT_MAX: usize = 3;

/// What a check came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Transactions that were acknowledged.
    pub done: usize,
    /// Transactions that did nothing.
    pub failed: usize,
    /// Transactions whose outcome is unknown and of which something was seen.
    pub unknown_done: usize,
    /// Transactions whose outcome is unknown and of which nothing was seen.
    pub unknown_unseen: usize,
    /// Elements in the longest reads of all lists.
    pub elements: usize,
    /// Acknowledged elements that are in no list as it was read: of these it is not known whether they are there.
    pub unread: usize,
    /// What must not be, at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
}

impl Report {
    /// True if the history can have happened in some order that agrees with time.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Why a history cannot be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HistoryError {
    /// Elements have to be unique, or nobody could tell whose they are.
    AppendedTwice {
        /// The list.
        list: u64,
        /// The element.
        element: u64,
    },
}

impl std::fmt::Display for HistoryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::AppendedTwice { list, element } = self;
        write!(f, "element {element} is appended to list {list} by two steps; elements have to be unique")
    }
}

impl std::error::Error for HistoryError {}

/// Checks the transactions of one history.
pub fn check(history: &[Transaction]) -> Result<Report, HistoryError> {
    let mut findings = Vec::new();
    let evidence = Evidence::of(history, &mut findings)
        .map_err(|(list, element)| HistoryError::AppendedTwice { list, element })?;
    let mut told = BTreeMap::new();
    findings.retain(|finding: &Finding| {
        let count = told.entry(finding.anomaly).or_insert(0);
        *count += 1;
        *count <= DIRECT_MAX
    });
    let graph = Graph::of(history, &evidence);
    let mut without = vec![false; history.len()];
    // Each round takes a transaction out of every cycle it tells of, so that others behind it show.
    while findings.len() < FINDINGS_MAX {
        let found = round(history, &graph, &evidence, &without);
        if found.is_empty() {
            break;
        }
        for (finding, guilty) in found {
            findings.push(finding);
            without[guilty] = true;
        }
    }
    findings.truncate(FINDINGS_MAX);
    let count = |outcome, happened| {
        let of = history.iter().zip(&evidence.happened);
        of.filter(|(transaction, has)| transaction.outcome == outcome && **has == happened).count()
    };
    Ok(Report {
        done: count(Outcome::Done, true),
        failed: count(Outcome::Failed, false),
        unknown_done: count(Outcome::Unknown, true),
        unknown_unseen: count(Outcome::Unknown, false),
        elements: evidence.orders.values().map(Vec::len).sum(),
        unread: history.iter().map(|transaction| unread(transaction, &evidence)).sum(),
        findings,
    })
}

fn unread(transaction: &Transaction, evidence: &Evidence) -> usize {
    let seen = |list: &u64, element| evidence.orders.get(list).is_some_and(|order| order.contains(element));
    let unread = transaction.steps.iter().filter(|step| match step {
        Step::Append { list, element } => !seen(list, element),
        Step::Read { .. } => false,
    });
    if transaction.outcome == Outcome::Done { unread.count() } else { 0 }
}

/// One finding for each component of the first kind that has any: first without looking at the clock, then with it, and
/// the weakest promise first, so that a cycle is blamed on nothing stronger than what it breaks.
fn round(
    history: &[Transaction],
    graph: &Graph,
    evidence: &Evidence,
    without: &[bool],
) -> Vec<(Finding, usize)> {
    for time in [false, true] {
        for (seen, missed) in [(false, false), (true, false), (true, true)] {
            let allowed = Allowed { without, seen, missed, time };
            let components = cycle::components(graph, allowed);
            let cycles = components.iter().filter_map(|component| {
                let one =
                    if missed { cycle::shortest_with_one_missed(graph, component, allowed) } else { None };
                one.or_else(|| cycle::shortest(graph, component, allowed))
            });
            let found: Vec<_> = cycles
                .map(|cycle| {
                    let anomaly = classify(&cycle, evidence);
                    (tell(history, anomaly, &cycle), guilty(&cycle, anomaly))
                })
                .collect();
            if !found.is_empty() {
                return found;
            }
        }
    }
    Vec::new()
}

fn classify(cycle: &[Link], evidence: &Evidence) -> Anomaly {
    let count = |wanted: fn(Why) -> bool| cycle.iter().filter(|link| wanted(link.why)).count();
    let missed = count(|why| matches!(why, Why::Missed { .. }));
    if count(|why| matches!(why, Why::Time)) > 0 {
        let lost = cycle.iter().any(|link| match link.why {
            Why::Missed { list, element } => {
                !evidence.orders.get(&list).is_some_and(|o| o.contains(&element))
            }
            _ => false,
        });
        return match missed {
            1 if lost => Anomaly::LostAppend,
            1 => Anomaly::StaleRead,
            _ => Anomaly::TimeContradicted,
        };
    }
    match (missed, count(|why| matches!(why, Why::Seen { .. }))) {
        (0, 0) => Anomaly::DirtyWrite,
        (0, _) => Anomaly::CircularInformation,
        (1, _) if is_of_one_list(cycle) => Anomaly::LostUpdate,
        (1, _) => Anomaly::ReadSkew,
        _ => Anomaly::WriteSkew,
    }
}

/// True if one of two missed what the other appended, and appended after it to the same list.
fn is_of_one_list(cycle: &[Link]) -> bool {
    match cycle {
        [
            Link { why: Why::Missed { list: missed, .. }, .. },
            Link { why: Why::Appended { list, .. }, .. },
        ] => missed == list,
        _ => false,
    }
}

/// Whom to leave out of further search: an append that is lost is missed by every later read, a stale reader is one.
fn guilty(cycle: &[Link], anomaly: Anomaly) -> usize {
    let missed = cycle.iter().find(|link| matches!(link.why, Why::Missed { .. }));
    match (missed, anomaly) {
        (Some(link), Anomaly::LostAppend) => link.to,
        (Some(link), _) => link.from,
        (None, _) => cycle[0].from,
    }
}

fn tell(history: &[Transaction], anomaly: Anomaly, cycle: &[Link]) -> Finding {
    let because = cycle.iter().map(|link| sentence(history, link.from, link.why, link.to)).collect();
    let concerned: Vec<usize> = cycle.iter().map(|link| link.from).collect();
    Finding { anomaly, because, transactions: direct::told(history, &concerned) }
}
