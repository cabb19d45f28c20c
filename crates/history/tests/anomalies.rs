//! One small history for each kind of anomaly, and the same without it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use dujiang_history::Anomaly::{
    self, CircularInformation, DirtyRead, DirtyWrite, Duplicate, IncompatibleOrder, IntermediateRead,
    Internal, Invented, LostAppend, LostUpdate, ReadSkew, StaleRead, TimeContradicted, WriteSkew,
};
use dujiang_history::{HistoryError, Outcome, Step, Transaction, check};

fn append(list: u64, element: u64) -> Step {
    Step::Append { list, element }
}

fn read(list: u64, seen: &[u64]) -> Step {
    Step::Read { list, seen: Some(seen.to_vec()) }
}

/// A transaction from one millisecond to another.
fn done(name: &str, ms: (u64, u64), steps: Vec<Step>) -> Transaction {
    let (began_us, ended_us) = (ms.0 * 1_000, ms.1 * 1_000);
    Transaction { name: name.to_owned(), steps, outcome: Outcome::Done, began_us, ended_us }
}

/// A transaction beside all others.
fn any(name: &str, steps: Vec<Step>) -> Transaction {
    done(name, (0, 1_000), steps)
}

fn with(outcome: Outcome, transaction: Transaction) -> Transaction {
    Transaction { outcome, ..transaction }
}

#[track_caller]
fn found(history: &[Transaction]) -> Vec<Anomaly> {
    let report = check(history).unwrap();
    report.findings.iter().map(|finding| finding.anomaly).collect()
}

#[test]
fn what_happened_one_after_the_other_is_clean() {
    let history = [
        done("a", (0, 1), vec![append(1, 10), read(1, &[10])]),
        done("b", (2, 3), vec![read(1, &[10]), append(1, 11), append(2, 20), read(1, &[10, 11])]),
        with(Outcome::Failed, done("c", (2, 3), vec![append(1, 12)])),
        with(Outcome::Unknown, done("d", (2, 3), vec![append(1, 13), append(2, 21)])),
        with(Outcome::Unknown, done("e", (2, 3), vec![append(1, 14)])),
        done("f", (4, 9), vec![read(1, &[10, 11]), read(2, &[20])]),
        done("g", (4, 5), vec![read(1, &[10, 11, 13]), read(2, &[20, 21]), read(3, &[])]),
    ];
    let report = check(&history).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
    assert_eq!((report.done, report.failed), (4, 1));
    assert_eq!((report.unknown_done, report.unknown_unseen), (1, 1));
    assert_eq!((report.elements, report.unread), (5, 0));
    assert_eq!(check(&history[..1]).unwrap().unread, 0);
    assert_eq!(check(&[done("w", (0, 1), vec![append(1, 1)])]).unwrap().unread, 1);
    assert!(check(&[]).unwrap().is_clean());
}

#[test]
fn reads_alone_show_what_is_wrong() {
    let a = any("a", vec![append(1, 1), append(1, 2)]);
    let reader = |seen: &[u64]| any("r", vec![read(1, seen)]);
    let failed = with(Outcome::Failed, any("x", vec![append(1, 7)]));
    let c = any("c", vec![append(1, 3)]);
    let cases: [(Vec<Transaction>, Anomaly); 7] = [
        (vec![a.clone(), any("r", vec![read(1, &[1, 2]), read(1, &[])])], Internal),
        (vec![a.clone(), any("r", vec![append(1, 9), read(1, &[1, 2])])], Internal),
        (vec![a.clone(), reader(&[1, 2, 1])], Duplicate),
        (vec![a.clone(), reader(&[1, 2, 99])], Invented),
        (vec![a.clone(), failed, reader(&[1, 2, 7])], DirtyRead),
        (vec![a.clone(), reader(&[1])], IntermediateRead),
        (vec![a, c, reader(&[1, 2, 3]), reader(&[3])], IncompatibleOrder),
    ];
    for (history, anomaly) in cases {
        assert_eq!(found(&history).first(), Some(&anomaly));
    }
}

#[test]
fn cycles_are_told_by_the_weakest_promise_they_break() {
    let last = |seen: &[u64], other: &[u64]| any("r", vec![read(1, seen), read(2, other)]);
    // Two writers in opposite orders.
    let both = |name, n| any(name, vec![append(1, n), append(2, n)]);
    assert_eq!(found(&[both("a", 1), both("b", 2), last(&[1, 2], &[2, 1])]), [DirtyWrite]);
    // Each saw the other's append.
    let a = any("a", vec![append(1, 1), read(2, &[2])]);
    let b = any("b", vec![append(2, 2), read(1, &[1])]);
    assert_eq!(found(&[a, b]), [CircularInformation]);
    // Both read the list empty and appended.
    let rmw = |name, n| any(name, vec![read(1, &[]), append(1, n)]);
    assert_eq!(found(&[rmw("a", 1), rmw("b", 2), last(&[1, 2], &[])]), [LostUpdate]);
    // One effect of `a`, and not the other.
    assert_eq!(found(&[both("a", 1), last(&[1], &[])]), [ReadSkew]);
    // Neither saw the other.
    let a = any("a", vec![append(1, 1), read(2, &[])]);
    let b = any("b", vec![append(2, 2), read(1, &[])]);
    assert_eq!(found(&[a, b, last(&[1], &[2])]), [WriteSkew]);
    // Two readers disagree about which of two came first.
    let (a, b) = (any("a", vec![append(1, 1)]), any("b", vec![append(2, 2)]));
    let other = any("s", vec![read(1, &[]), read(2, &[2])]);
    assert_eq!(found(&[a, b, last(&[1], &[]), other]), [WriteSkew]);
}

#[test]
fn what_was_acknowledged_is_seen_by_whoever_begins_later() {
    let a = done("a", (0, 10), vec![append(1, 1)]);
    let seen = done("s", (0, 12), vec![read(1, &[1])]);
    let late = done("r", (11, 12), vec![read(1, &[])]);
    assert_eq!(found(&[a.clone(), seen.clone(), late.clone()]), [StaleRead]);
    assert_eq!(found(&[a.clone(), late.clone()]), [LostAppend]);
    // Beside each other, either order is right.
    assert!(found(&[a.clone(), done("r", (10, 12), vec![read(1, &[])])]).is_empty());
    // What is unknown need not have happened, and need not have ended when its client gave up.
    let unknown = with(Outcome::Unknown, a.clone());
    assert!(found(&[unknown.clone(), late.clone()]).is_empty());
    assert!(found(&[unknown, late.clone(), done("s", (13, 14), vec![read(1, &[1])])]).is_empty());
    // From the future.
    let future = done("f", (20, 30), vec![append(1, 5)]);
    assert_eq!(found(&[future, done("r", (1, 2), vec![read(1, &[5])])]), [TimeContradicted]);
    // Serializable, but not in the order of time: b saw a and not c, which was acknowledged before a began.
    let c = done("c", (0, 1), vec![append(2, 1)]);
    let a = done("a", (5, 6), vec![append(1, 1)]);
    let b = done("b", (0, 9), vec![read(1, &[1]), read(2, &[])]);
    assert_eq!(found(&[c, a, b, done("s", (20, 21), vec![read(2, &[1])])]), [StaleRead]);
}

#[test]
fn an_unknown_transaction_that_was_seen_happened_as_a_whole() {
    let unknown = with(Outcome::Unknown, any("u", vec![append(1, 1), append(2, 1)]));
    let torn = any("r", vec![read(1, &[1]), read(2, &[])]);
    assert_eq!(found(&[unknown, torn]), [ReadSkew]);
}

#[test]
fn several_violations_are_told_one_by_one_and_with_their_reasons() {
    let mut history: Vec<_> =
        (0..5).map(|n| done(&format!("w{n}"), (n, n + 1), vec![append(n, 1)])).collect();
    history.extend((0..50).map(|n| done(&format!("r{n}"), (100 + n, 101 + n), vec![read(n % 5, &[])])));
    assert_eq!(found(&history), [LostAppend; 5]);
    let text = check(&history).unwrap().findings[0].to_string();
    assert!(text.contains("did not see 1 in list") && text.contains("had been acknowledged"), "{text}");
    assert!(text.contains("append 1 to list") && text.contains("read list"), "{text}");
}

#[test]
fn an_element_appended_twice_is_a_mistake_of_the_load() {
    let twice = [any("a", vec![append(1, 1)]), any("b", vec![append(1, 1)])];
    assert_eq!(check(&twice), Err(HistoryError::AppendedTwice { list: 1, element: 1 }));
}
