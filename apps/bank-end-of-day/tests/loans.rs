//! A loan's day: collecting, lateness, grace, income that is suspended, classes and what is set aside.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use dujiang_bank_end_of_day::journal::{End, PostingKind};
use dujiang_bank_end_of_day::loans::{LoanAgreement, LoanRow, LoanSlice, LoanState, RiskTables, close_day};
use dujiang_bank_end_of_day::{Books, SliceError, Why};
use dujiang_bank_general_ledger::{Chart, Mapping, Place, ProductClass, TrialBalance};
use dujiang_bank_parties::{BranchId, MemberId};
use dujiang_bank_rules::DayCount;
use dujiang_bank_rules::loan::allocation::{Kind, Order, Sequence};
use dujiang_bank_rules::loan::class::Class;
use dujiang_bank_rules::loan::overdue::PenaltyTerms;
use dujiang_bank_rules::loan::schedule::{LoanTerms, Method, PeriodCount, schedule};
use dujiang_routing::AccountNumber;
use dujiang_types::{Currency, Money, Slot};
use jiff::ToSpan;
use jiff::civil::{Date, date};

const DRAWN: Date = date(2026, 6, 10);
const DUE: Date = date(2026, 7, 10);

fn end(serial: u64, branch: &str, class: &str) -> End {
    End {
        account: AccountNumber::new(Slot::new(1).unwrap(), serial).unwrap(),
        place: Place { member: MemberId::new("qingshen").unwrap(), branch: BranchId::new(branch).unwrap() },
        product: ProductClass::new(class),
    }
}

fn source() -> End {
    end(1, "1", "personal-current")
}

/// 1,000 yuan for a month of 30 days at 12 %: 10 yuan of interest; late, 101,000 fen cost 50.5 a day.
fn loan(grace_days: u16) -> LoanRow {
    let terms = LoanTerms {
        method: Method::Bullet,
        rate: "12%".parse().unwrap(),
        count: PeriodCount::Days(DayCount::Act360),
        every_months: 1,
        periods: 1,
    };
    let rows = schedule(&terms, Money::new(100_000, Currency::CNY), DRAWN, None).unwrap();
    let penalty = PenaltyTerms {
        factor: "1.5".parse().unwrap(),
        compounds: true,
        day_count: DayCount::Act360,
        grace_days,
    };
    LoanRow {
        end: end(2, "2", "farmer-loan"),
        currency: Currency::CNY,
        agreement: LoanAgreement {
            terms,
            penalty,
            order: Order { kinds: Kind::ALL.to_vec(), sequence: Sequence::KindFirst },
        },
        repaid_from: Some(source()),
        state: LoanState::drawn(DRAWN, &rows),
    }
}

fn close(day: Date, row: &LoanRow, has: i64) -> Result<(LoanSlice, i64), SliceError> {
    let chart = Chart::standard().unwrap();
    let mapping = Mapping::standard(&chart).unwrap();
    let mut available = BTreeMap::from([(source().account, has)]);
    let books = Books { chart: &chart, mapping: &mapping };
    let slice = close_day(day, std::slice::from_ref(row), &mut available, &RiskTables::CHINA, books)?;
    let entries = slice.postings.iter().flat_map(|posting| &posting.lines).map(|line| &line.entry);
    assert!(TrialBalance::of(&chart, entries).unwrap().imbalances().is_empty());
    assert!(slice.postings.iter().all(|posting| posting.lines.len() <= 16 && posting.booked_on == day));
    Ok((slice, has - available[&source().account]))
}

/// Lives until a day, with nothing to collect; `there` says what there is on some days. Returns what was taken on each.
fn live(row: &mut LoanRow, until: Date, there: &[(Date, i64)]) -> Vec<i64> {
    let mut taken = Vec::new();
    while row.state.until <= until {
        let day = row.state.until;
        let has = there.iter().find(|(on, _)| *on == day).map_or(0, |(_, has)| *has);
        let (slice, took) = close(day, row, has).unwrap();
        row.state = slice.states[0].1.clone();
        if has > 0 {
            taken.push(took);
        }
    }
    taken
}

#[test]
fn what_is_due_is_collected_and_no_more() {
    let mut row = loan(0);
    assert_eq!(live(&mut row, DUE, &[(date(2026, 7, 9), 999_999), (DUE, 999_999)]), [0, 101_000]);
    assert_eq!((row.state.outstanding_minor(), row.state.class), (Ok(0), Class::Normal));
    assert_eq!((row.state.booked.interest_minor, row.state.booked.penalty_minor), (1_000, 0));
    assert_eq!(row.state.booked.provision_minor, 0, "what was set aside is released");
}

#[test]
fn a_repayment_goes_through_the_books_of_both_branches() {
    let mut row = loan(0);
    live(&mut row, date(2026, 7, 9), &[]);
    let (slice, _) = close(DUE, &row, 50_000).unwrap();
    let repayment: Vec<_> =
        slice.postings.iter().filter(|posting| posting.key.kind == PostingKind::Repayment).collect();
    let lines: Vec<_> = repayment[0]
        .lines
        .iter()
        .map(|line| {
            let entry = &line.entry;
            (line.account, entry.place.branch.as_str().to_owned(), entry.code.to_string(), entry.amount.minor)
        })
        .collect();
    let (from, to) = (Some(source().account), Some(row.end.account));
    let line =
        |account, branch: &str, code: &str, minor| (account, branch.to_owned(), code.to_owned(), minor);
    let expected = [
        line(from, "1", "201101", 1_000),
        line(to, "2", "113201", 1_000),
        line(None, "1", "300102", 1_000),
        line(None, "2", "300102", 1_000),
        line(from, "1", "201101", 49_000),
        line(to, "2", "130302", 49_000),
        line(None, "1", "300102", 49_000),
        line(None, "2", "300102", 49_000),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn interest_grows_evenly_and_is_whole_on_the_due_date() {
    for (days, grown) in [(0, 33), (1, 67), (10, 367), (28, 967), (29, 1_000), (30, 1_000)] {
        let mut row = loan(0);
        live(&mut row, DRAWN + days.days(), &[]);
        assert_eq!(row.state.booked.interest_minor, grown, "after {days} days");
    }
}

#[test]
fn lateness_costs_from_the_due_date_on_and_until_it_is_paid() {
    let after = |days: i64| DUE + days.days();
    // Paid on the due date: nothing. A day later: a day. On the tenth: ten days, 505 fen.
    for (days, taken) in [(0, 101_000), (1, 101_051), (10, 101_505)] {
        let mut row = loan(0);
        assert_eq!(live(&mut row, after(days), &[(after(days), 999_999)]), [taken], "{days} days late");
        assert_eq!(live(&mut row, after(days + 3), &[(after(days + 3), 999_999)]), [0], "and then nothing");
    }
}

#[test]
fn within_the_days_of_grace_lateness_costs_nothing_and_after_them_all_of_it() {
    let after = |days: i64| DUE + days.days();
    for (days, taken) in [(3, 101_000), (4, 101_202)] {
        let mut row = loan(3);
        assert_eq!(live(&mut row, after(days), &[(after(days), 999_999)]), [taken], "{days} days late");
    }
}

#[test]
fn classes_follow_the_days_and_after_ninety_interest_is_no_income() {
    let cases = [
        (0, Class::Normal, 1_000, 0, 1_000),
        (1, Class::SpecialMention, 1_000, 101, 2_000),
        (90, Class::SpecialMention, 1_000, 4_596, 2_000),
        (91, Class::Substandard, 0, 0, 25_000),
        (270, Class::Substandard, 0, 0, 25_000),
        (271, Class::Doubtful, 0, 0, 50_000),
        (361, Class::Loss, 0, 0, 100_000),
    ];
    let mut row = loan(0);
    for (days, class, interest, penalty, provision) in cases {
        live(&mut row, DUE + days.days(), &[]);
        let booked = row.state.booked;
        assert_eq!(row.state.class, class, "{days} days late");
        assert_eq!(
            (booked.interest_minor, booked.penalty_minor, booked.provision_minor),
            (interest, penalty, provision),
            "{days} days late"
        );
    }
    // What comes in is income when it comes, penalty first; all of it brings the loan back.
    let days = |days: i64| DUE + days.days();
    assert_eq!(live(&mut row, days(362), &[(days(362), 10_000)]), [10_000]);
    assert_eq!((row.state.booked.penalty_minor, row.state.booked.interest_minor), (10_000, 0));
    let rest = live(&mut row, days(363), &[(days(363), 999_999)])[0];
    assert_eq!(rest, 101_000 + 363 * 101 / 2 + 1 - 10_000, "363 days at 50.5 fen, a half up");
    assert_eq!((row.state.class, row.state.booked.provision_minor), (Class::Normal, 0));
    assert_eq!((row.state.booked.interest_minor, row.state.outstanding_minor()), (1_000, Ok(0)));
}

#[test]
fn a_loan_that_has_had_its_day_is_left_alone_and_none_is_left_out() {
    let mut row = loan(0);
    live(&mut row, DUE, &[]);
    assert_eq!(close(DUE, &row, 999_999).unwrap().0, LoanSlice::default());
    let late = close(DUE + 2.days(), &row, 0).unwrap_err();
    assert!(matches!(late.why, Why::Behind { until } if until == DUE + 1.day()), "{late:?}");
}

#[test]
fn two_loans_share_what_there_is() {
    let mut first = loan(0);
    live(&mut first, date(2026, 7, 9), &[]);
    let second = LoanRow { end: end(3, "1", "farmer-loan"), ..first.clone() };
    let chart = Chart::standard().unwrap();
    let mapping = Mapping::standard(&chart).unwrap();
    let mut available = BTreeMap::from([(source().account, 150_000)]);
    let books = Books { chart: &chart, mapping: &mapping };
    let slice = close_day(DUE, &[first, second], &mut available, &RiskTables::CHINA, books).unwrap();
    assert_eq!(available[&source().account], 0);
    let left: Vec<_> = slice.states.iter().map(|(_, state)| state.outstanding_minor().unwrap()).collect();
    assert_eq!(left, [0, 52_000], "the second has got what was left: its interest, and some principal");
}
