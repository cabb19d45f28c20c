//! The journal's operations on lists, as histories for the checker.

use std::collections::BTreeMap;

use dujiang_history::{Outcome, Step, Transaction};
use dujiang_types::UnitId;
use serde::Serialize;

use crate::journal::{Journal, Operation, Receipt};
use crate::request::{self, Request};
use crate::verify::{Findings, Rule};

/// What became of the transactions over lists in a journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ListsReport {
    /// Histories checked: one for each owner, which is one for each unit and load.
    pub histories: usize,
    /// Transactions that were acknowledged.
    pub acknowledged: usize,
    /// Transactions that did nothing.
    pub refused: usize,
    /// Transactions whose outcome is unknown, and of which something was seen.
    pub unknown_done: usize,
    /// Transactions whose outcome is unknown, and of which nothing was seen.
    pub unknown_unseen: usize,
    /// Elements in the lists as they were read.
    pub elements: usize,
    /// Acknowledged elements in no list as it was read: of these it is not known whether they are there.
    pub unread: usize,
}

/// Checks every history of a journal; `None` if it has none. Owners share nothing, so what holds for each holds for a
/// unit.
pub(crate) fn check(journal: &Journal, findings: &mut Findings) -> Option<ListsReport> {
    let histories = histories(journal);
    let mut report = ListsReport { histories: histories.len(), ..ListsReport::default() };
    for (owner, (unit, history)) in &histories {
        match dujiang_history::check(history) {
            Ok(checked) => {
                report.acknowledged += checked.done;
                report.refused += checked.failed;
                report.unknown_done += checked.unknown_done;
                report.unknown_unseen += checked.unknown_unseen;
                report.elements += checked.elements;
                report.unread += checked.unread;
                for finding in checked.findings {
                    findings.add(Rule::NotSerializable, Some(unit), format!("lists of {owner}: {finding}"));
                }
            }
            Err(error) => {
                findings.add(Rule::NotSerializable, Some(unit), format!("lists of {owner}: {error}"));
            }
        }
    }
    (!histories.is_empty()).then_some(report)
}

type Histories<'a> = BTreeMap<&'a str, (&'a UnitId, Vec<Transaction>)>;

fn histories(journal: &Journal) -> Histories<'_> {
    let mut histories = Histories::new();
    for (key, operation) in &journal.operations {
        let (Request::Transact { owner, .. } | Request::ReadLists { owner, .. }) = &operation.request else {
            continue;
        };
        let (_, history) = histories.entry(owner).or_insert_with(|| (&operation.unit, Vec::new()));
        history.push(transaction(key, operation));
    }
    histories
}

fn transaction(key: &str, operation: &Operation) -> Transaction {
    use crate::journal::Outcome as Known;
    let (outcome, receipt) = match operation.outcome() {
        Known::Acknowledged(receipt) => (Outcome::Done, receipt),
        Known::Refused { .. } if !operation.may_have_happened() => (Outcome::Failed, Receipt::default()),
        _ => (Outcome::Unknown, Receipt::default()),
    };
    let mut answers = receipt.lists.unwrap_or_default().into_iter();
    let mut read = |list| Step::Read { list, seen: answers.next() };
    let steps = match &operation.request {
        Request::Transact { steps, .. } => {
            let step = |step: &request::Step| match *step {
                request::Step::Append { list, element } => Step::Append { list, element },
                request::Step::Read { list } => read(list),
            };
            steps.iter().map(step).collect()
        }
        Request::ReadLists { lists, .. } => lists.iter().map(|list| read(*list)).collect(),
        _ => Vec::new(),
    };
    let (sent_us, ended_us) = operation.acknowledged_us.unwrap_or((operation.first_sent_us, u64::MAX));
    // A write may have been done by an earlier attempt than the one that was acknowledged, a read was not.
    let began_us = if operation.request.is_write() { operation.first_sent_us } else { sent_us };
    Transaction { name: key.to_owned(), steps, outcome, began_us, ended_us }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Ended, Line, Outcome as Known, Sent};
    use dujiang_types::Code;
    use jiff::Timestamp;

    fn unit() -> UnitId {
        UnitId::new("unit-4").unwrap()
    }

    /// Attempts with the time each took, in order, and what came of it.
    fn add(journal: &mut Journal, key: &str, request: &Request, attempts: &[(u64, u64, Known)]) {
        for (attempt, (sent_us, at_us, outcome)) in (1..).zip(attempts) {
            let (key, request, at) = (key.to_owned(), request.clone(), Timestamp::UNIX_EPOCH);
            journal.add(Line::Sent(Sent {
                key: key.clone(),
                attempt,
                request,
                unit: unit(),
                at,
                at_us: *sent_us,
            }));
            let (sent_us, at_us, outcome) = (*sent_us, *at_us, outcome.clone());
            let ended = Ended {
                key,
                attempt,
                gateway: None,
                passed_over: vec![],
                unit: unit(),
                at,
                sent_us,
                at_us,
                outcome,
            };
            journal.add(Line::Ended(ended));
        }
    }

    fn append(element: u64) -> Request {
        Request::Transact { owner: "o".into(), steps: vec![request::Step::Append { list: 1, element }] }
    }

    fn read() -> Request {
        Request::ReadLists { owner: "o".into(), lists: vec![1] }
    }

    fn done(lists: &[&[u64]]) -> Known {
        let lists = Some(lists.iter().map(|list| list.to_vec()).collect());
        Known::Acknowledged(Receipt { lists, ..Receipt::default() })
    }

    fn unknown() -> Known {
        Known::Unknown { why: "reset".into() }
    }

    fn refused() -> Known {
        Known::Refused { code: Code::UnitMoved }
    }

    #[test]
    fn a_journal_is_checked_owner_by_owner() {
        let mut journal = Journal::default();
        // Done by the first attempt for all we know: what did not see it may have come before, or beside it.
        add(&mut journal, "a", &append(1), &[(0, 10, unknown()), (50, 60, done(&[]))]);
        add(&mut journal, "b", &read(), &[(20, 30, done(&[&[]]))]);
        add(&mut journal, "c", &append(2), &[(0, 10, unknown()), (11, 12, refused())]);
        add(&mut journal, "d", &append(3), &[(0, 10, refused())]);
        add(&mut journal, "e", &read(), &[(20, 30, unknown()), (70, 80, done(&[&[1]]))]);
        let mut findings = Findings::default();
        let report = check(&journal, &mut findings).unwrap();
        assert_eq!(findings, Findings::default());
        assert_eq!((report.histories, report.acknowledged, report.refused), (1, 3, 1));
        assert_eq!((report.unknown_done, report.unknown_unseen), (0, 1));

        // Only the attempt that was acknowledged has read.
        add(&mut journal, "f", &read(), &[(0, 10, unknown()), (61, 80, done(&[&[]]))]);
        check(&journal, &mut findings).unwrap();
        assert_ne!(findings, Findings::default());
        assert_eq!(check(&Journal::default(), &mut findings), None);
    }
}
