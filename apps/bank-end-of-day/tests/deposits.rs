//! A day's interest of deposits: what is accrued, settled, corrected, and where it is booked.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use dujiang_bank_end_of_day::deposits::{self, DepositRow, DepositSlice, DepositState, History, accrue};
use dujiang_bank_end_of_day::journal::{End, PostingKind};
use dujiang_bank_end_of_day::{Books, Posting, SliceError, Why};
use dujiang_bank_general_ledger::{Chart, Mapping, Place, ProductClass, Side, TrialBalance};
use dujiang_bank_parties::{BranchId, MemberId};
use dujiang_bank_rules::replay::Movement;
use dujiang_bank_rules::terms::{Bearing, Fixing, Remainder};
use dujiang_bank_rules::{
    Dated, DayCount, InterestTerms, Opening, PostedRates, RateRule, RateSource, Settlement,
};
use dujiang_routing::AccountNumber;
use dujiang_types::{Currency, Slot};
use jiff::civil::{Date, date};

fn end(serial: u64, member: &str, branch: &str) -> End {
    End {
        account: AccountNumber::new(Slot::new(1).unwrap(), serial).unwrap(),
        place: Place { member: MemberId::new(member).unwrap(), branch: BranchId::new(branch).unwrap() },
        product: ProductClass::new("personal-current"),
    }
}

/// 0.72 % less 20 % tax, settled quarterly.
fn terms() -> InterestTerms {
    InterestTerms {
        rate: RateRule::Single(RateSource::Fixed("0.72%".parse().unwrap())),
        fixing: Fixing::EachDay,
        day_count: DayCount::ThirtyE360,
        settlement: Settlement::CHINA_QUARTERLY,
        compounds: true,
        bearing: Bearing::MajorUnits,
        remainder: Remainder::Dropped,
        tax: Some(RateSource::Fixed("20%".parse().unwrap())),
    }
}

fn row(
    terms: &InterestTerms,
    opened: Date,
    balance_minor: i64,
    state: Option<DepositState>,
) -> DepositRow<'_> {
    DepositRow {
        end: end(1, "qingshen", "1"),
        currency: Currency::CNY,
        opening: Opening { on: opened, months: None },
        terms,
        balance_minor,
        paid_to: None,
        state,
        history: None,
    }
}

fn close(day: Date, rows: &[DepositRow<'_>]) -> Result<DepositSlice, SliceError> {
    let chart = Chart::standard().unwrap();
    let mapping = Mapping::standard(&chart).unwrap();
    accrue(day, rows, &PostedRates::default(), Books { chart: &chart, mapping: &mapping })
}

/// What a posting brings an account: credits less debits.
fn brings(posting: &Posting, account: AccountNumber, code: &str) -> i64 {
    let own = posting.lines.iter().filter(|line| line.account == Some(account));
    let own = own.filter(|line| line.entry.code.to_string() == code);
    own.map(|line| line.entry.amount.minor * if line.entry.side == Side::Credit { 1 } else { -1 }).sum()
}

fn of_kind(slice: &DepositSlice, kind: PostingKind) -> Vec<&Posting> {
    slice.postings.iter().filter(|posting| posting.key.kind == kind).collect()
}

fn balanced(postings: &[Posting]) -> bool {
    let chart = Chart::standard().unwrap();
    let entries = postings.iter().flat_map(|posting| &posting.lines).map(|line| &line.entry);
    TrialBalance::of(&chart, entries).unwrap().imbalances().is_empty()
}

/// The known vector: 10,000 yuan at 0.72 % less 20 % tax give 57.72 a year when settled quarterly.
#[test]
fn a_year_of_ends_of_day_gives_57_72() {
    let (terms, opened) = (terms(), date(2002, 12, 21));
    let (mut state, mut balance) = (None, 1_000_000);
    let mut paid = Vec::new();
    let mut booked = 0;
    let mut day = opened;
    while day <= date(2003, 12, 20) {
        let slice = close(day, &[row(&terms, opened, balance, state.clone())]).unwrap();
        assert!(balanced(&slice.postings));
        for accrual in of_kind(&slice, PostingKind::DepositAccrual) {
            assert_eq!((accrual.booked_on, accrual.lines.len()), (day, 2));
            booked += accrual.lines[0].entry.amount.minor;
        }
        let settled: Vec<_> = slice.postings.iter().filter(|posting| posting.booked_on != day).collect();
        let account = end(1, "qingshen", "1").account;
        let net: i64 = settled.iter().map(|posting| brings(posting, account, "201101")).sum();
        if !settled.is_empty() {
            assert_eq!((day.day(), settled[0].value_on), (20, day.tomorrow().unwrap()), "paid on the 21st");
            paid.push(net);
        }
        balance += net;
        state = Some(slice.states[0].1.clone());
        day = day.tomorrow().unwrap();
    }
    assert_eq!((paid.as_slice(), paid.iter().sum::<i64>()), (&[1440, 1442, 1444, 1446][..], 5772));
    let settled = state.unwrap().settled;
    assert_eq!((settled.interest_minor, settled.tax_minor, booked), (7216, 1444, 7216));
}

#[test]
fn an_account_that_has_had_its_day_is_left_alone() {
    let (terms, day) = (terms(), date(2026, 11, 23));
    let state = close(day, &[row(&terms, day, 1_000_000, None)]).unwrap().states[0].1.clone();
    let again = close(day, &[row(&terms, day, 9_000_000, Some(state.clone()))]).unwrap();
    assert_eq!(again, DepositSlice::default());
    // Opened after the cut-off: its first day is the next one.
    assert_eq!(
        close(day, &[row(&terms, day.tomorrow().unwrap(), 5, None)]).unwrap(),
        DepositSlice::default()
    );
    // A day is never left out, and never guessed.
    let late = close(date(2026, 11, 25), &[row(&terms, day, 1_000_000, Some(state))]).unwrap_err();
    assert!(matches!(late.why, Why::Behind { until } if until == date(2026, 11, 24)), "{late:?}");
    assert_eq!(late.account, end(1, "qingshen", "1").account);
}

#[test]
fn interest_of_many_is_booked_together_and_to_the_fen() {
    let (terms, day) = (terms(), date(2026, 11, 23));
    let rows: Vec<_> = (0..1000)
        .map(|serial| DepositRow { end: end(serial, "qingshen", "1"), ..row(&terms, day, 100_000, None) })
        .collect();
    let slice = close(day, &rows).unwrap();
    assert_eq!((slice.states.len(), slice.postings.len()), (1000, 1));
    // Each has earned two fen exactly.
    assert_eq!(slice.postings[0].lines[0].entry.amount.minor, 2000);
    assert!(slice.postings[0].lines.iter().all(|line| line.account.is_none()));
    let many = vec![rows[0].clone(); dujiang_bank_end_of_day::ACCOUNTS_PER_SLICE_MAX + 1];
    assert!(matches!(close(day, &many).unwrap_err().why, Why::TooMany));
}

#[test]
fn negative_interest_takes() {
    let mut terms = terms();
    terms.rate = RateRule::Single(RateSource::Fixed("-0.72%".parse().unwrap()));
    let opened = date(2026, 12, 20);
    let slice = close(opened, &[row(&terms, opened, 100_000_000, None)]).unwrap();
    assert!(balanced(&slice.postings));
    let interest = of_kind(&slice, PostingKind::Interest);
    assert_eq!(brings(interest[0], end(1, "qingshen", "1").account, "201101"), -2000);
    assert!(of_kind(&slice, PostingKind::InterestTax).is_empty(), "nobody is taxed on what he pays");
}

#[test]
fn interest_that_is_paid_elsewhere_goes_through_the_books_of_both_branches() {
    let mut terms = terms();
    terms.compounds = false;
    let day = date(2026, 12, 20);
    let to = |payee| DepositRow { paid_to: payee, ..row(&terms, day, 100_000_000, None) };
    assert!(matches!(close(day, &[to(None)]).unwrap_err().why, Why::NoPayee));
    let stranger = close(day, &[to(Some(end(2, "danling", "1")))]).unwrap_err();
    assert!(matches!(stranger.why, Why::OtherMember));
    let payee = end(2, "qingshen", "2");
    let slice = close(day, &[to(Some(payee.clone()))]).unwrap();
    assert!(balanced(&slice.postings));
    let brought =
        |kind| of_kind(&slice, kind).iter().map(|posting| brings(posting, payee.account, "201101")).sum();
    let (interest, tax): (i64, i64) = (brought(PostingKind::Interest), brought(PostingKind::InterestTax));
    assert_eq!((interest, tax), (2000, -400));
    assert_eq!(of_kind(&slice, PostingKind::Interest)[0].lines.len(), 4);
}

#[test]
fn what_counts_from_an_earlier_day_is_made_good_also_across_a_settlement() {
    let (mut terms, opened) = (terms(), date(2026, 12, 11));
    terms.tax = None;
    let state = {
        let mut state = None;
        let mut day = opened;
        while day <= date(2026, 12, 20) {
            state = Some(close(day, &[row(&terms, opened, 0, state)]).unwrap().states[0].1.clone());
            day = day.tomorrow().unwrap();
        }
        state
    };
    // 100,000 yuan that should have been there for ten days are found on the 21st: 20 yuan should have been paid.
    let day = date(2026, 12, 21);
    let found = |movements: Vec<Movement>, balance_minor| DepositRow {
        history: Some(History { movements, terms: Dated::always(&terms) }),
        ..row(&terms, opened, balance_minor, state.clone())
    };
    let moved = vec![Movement { value_date: opened, minor: 10_000_000 }];
    let slice = close(day, &[found(moved.clone(), 10_000_000)]).unwrap();
    let interest = of_kind(&slice, PostingKind::Interest);
    assert_eq!(brings(interest[0], end(1, "qingshen", "1").account, "201101"), 2000);
    // And 2.0004 yuan for the 21st, of 100,020 yuan.
    let accrued = of_kind(&slice, PostingKind::DepositAccrual)[0].lines[0].entry.amount.minor;
    assert_eq!((accrued, slice.states[0].1.settled.interest_minor), (2200, 2000));
    assert!(balanced(&slice.postings));
    // Movements that do not come to the balance are no ground to pay anything.
    let why = close(day, &[found(moved, 10_000_001)]).unwrap_err().why;
    assert!(
        matches!(why, Why::Balance { movements_minor: 10_000_000, balance_minor: 10_000_001 }),
        "{why:?}"
    );
}

#[test]
fn closing_settles_up_to_the_day_before_at_the_rate_of_the_closing_day() {
    let mut terms = terms();
    (terms.fixing, terms.tax) = (Fixing::SettlementDay, None);
    terms.rate =
        RateRule::Single(RateSource::Posted { name: "current".into(), spread: "0%".parse().unwrap() });
    let mut posted = PostedRates::default();
    let (opened, on) = (date(2026, 11, 1), date(2026, 11, 11));
    posted.announce("current", opened, "0.36%".parse().unwrap()).unwrap();
    posted.announce("current", on, "0.72%".parse().unwrap()).unwrap();
    let chart = Chart::standard().unwrap();
    let mapping = Mapping::standard(&chart).unwrap();
    let books = Books { chart: &chart, mapping: &mapping };
    let mut state = None;
    let mut day = opened;
    while day < on {
        let slice = accrue(day, &[row(&terms, opened, 1_000_000, state)], &posted, books).unwrap();
        state = Some(slice.states[0].1.clone());
        day = day.tomorrow().unwrap();
    }
    let closing = row(&terms, opened, 1_000_000, state.clone());
    let slice = deposits::close(on, &closing, &posted, books).unwrap();
    assert!(balanced(&slice.postings));
    // Ten days of 10,000 yuan at 0.72 % are two yuan; half of that was booked at the rate of the days.
    let interest = of_kind(&slice, PostingKind::Interest)[0];
    assert_eq!(brings(interest, closing.end.account, "201101"), 200);
    assert_eq!((interest.booked_on, interest.value_on), (on, on));
    assert_eq!(of_kind(&slice, PostingKind::DepositAccrual)[0].lines[0].entry.amount.minor, 100);
    // The day before is not over for this account: it has to have it first.
    let early = deposits::close(on.tomorrow().unwrap(), &closing, &posted, books).unwrap_err();
    assert!(matches!(early.why, Why::Behind { until } if until == on));
}

#[test]
fn what_is_booked_together_is_known_by_the_first_account_that_has_its_day() {
    let (terms, day) = (terms(), date(2026, 11, 23));
    let of = |serial, state| DepositRow {
        end: end(serial, "qingshen", "1"),
        ..row(&terms, day, 1_000_000, state)
    };
    let early = close(day, &[of(1, None)]).unwrap();
    let rest = close(day, &[of(1, Some(early.states[0].1.clone())), of(2, None)]).unwrap();
    assert_ne!(early.postings[0].key, rest.postings[0].key);
    assert_eq!(rest.postings[0].key.account, end(2, "qingshen", "1").account);
    assert_eq!(
        rest.postings[0].key.to_string(),
        format!("end-of-day/2026-11-23/deposit-accrual/{}/0", end(2, "qingshen", "1").account)
    );
}
