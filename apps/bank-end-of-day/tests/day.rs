//! The business day of a unit goes its way and no other.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use dujiang_bank_end_of_day::day::{RANGES_MAX, Reached};
use dujiang_bank_end_of_day::{DayError, Phase, Step, UnitDay};
use dujiang_bank_general_ledger::{Chart, Event, Mapping, Place, ProductClass, TrialBalance};
use dujiang_bank_parties::{BranchId, MemberId};
use dujiang_routing::AccountNumber;
use dujiang_types::{Currency, Money, Slot};
use jiff::civil::{Date, date};
use proptest::prelude::*;

const MONDAY: Date = date(2026, 11, 23);
const TUESDAY: Date = date(2026, 11, 24);

fn account(serial: u64) -> AccountNumber {
    AccountNumber::new(Slot::new(7).unwrap(), serial).unwrap()
}

/// Takes a day from its cut-off to the trial balance, one range a step.
fn run_steps(day: &mut UnitDay) {
    for step in Step::ALL {
        day.start(step, &[]).unwrap();
        day.applied(day.next_slice(0).unwrap(), Reached::End).unwrap();
    }
}

#[test]
fn bookings_after_the_cut_off_belong_to_the_next_day() {
    let mut day = UnitDay::begin(MONDAY);
    assert_eq!((day.open(), day.closing(), day.phase()), (MONDAY, None, Phase::Open));
    assert_eq!(day.take_cut_off(MONDAY), Ok(MONDAY));
    assert_eq!((day.open(), day.closing(), day.phase()), (TUESDAY, Some(MONDAY), Phase::Due(Step::Loans)));
    assert_eq!(day.take_cut_off(TUESDAY), Err(DayError::StillClosing(MONDAY)));
    run_steps(&mut day);
    assert_eq!(day.phase(), Phase::TrialBalance);
    assert_eq!(day.close(&TrialBalance::default()), Ok(MONDAY));
    assert_eq!((day.open(), day.closing(), day.phase()), (TUESDAY, None, Phase::Open));
    // It is Monday still: Tuesday is not cut off before it begins.
    assert_eq!(day.take_cut_off(MONDAY), Err(DayError::Ahead { open: TUESDAY, today: MONDAY }));
    assert_eq!(day.take_cut_off(TUESDAY), Ok(TUESDAY));
    assert_eq!(UnitDay::begin(Date::MAX).take_cut_off(Date::MAX), Err(DayError::EndOfCalendar(Date::MAX)));
}

#[test]
fn steps_come_in_their_order_and_none_is_left_out() {
    let mut day = UnitDay::begin(MONDAY);
    assert_eq!(day.start(Step::Loans, &[]), Err(DayError::NotNow(Phase::Open)));
    assert_eq!(day.close(&TrialBalance::default()), Err(DayError::NotNow(Phase::Open)));
    day.take_cut_off(MONDAY).unwrap();
    assert_eq!(day.start(Step::Deposits, &[]), Err(DayError::NotNow(Phase::Due(Step::Loans))));
    assert_eq!(day.close(&TrialBalance::default()), Err(DayError::NotNow(Phase::Due(Step::Loans))));
    assert_eq!(day.next_slice(0), None);
    day.start(Step::Loans, &[account(5)]).unwrap();
    assert_eq!(day.start(Step::Loans, &[]), Err(DayError::NotNow(Phase::Running(Step::Loans))));
    day.applied(day.next_slice(1).unwrap(), Reached::End).unwrap();
    assert_eq!(day.phase(), Phase::Running(Step::Loans), "the other range is not done");
    assert_eq!(day.next_slice(1), None);
    day.applied(day.next_slice(0).unwrap(), Reached::End).unwrap();
    assert_eq!(day.phase(), Phase::Due(Step::Deposits));
}

#[test]
fn a_slice_that_somebody_else_has_done_is_refused() {
    let mut day = UnitDay::begin(MONDAY);
    day.take_cut_off(MONDAY).unwrap();
    day.start(Step::Loans, &[account(5), account(9)]).unwrap();
    let slice = day.next_slice(1).unwrap();
    assert_eq!((slice.after, slice.through), (Some(account(5)), Some(account(9))));
    for outside in [account(5), account(3), account(10)] {
        assert_eq!(
            day.clone().applied(slice, Reached::Account(outside)),
            Err(DayError::Outside),
            "{outside}"
        );
    }
    day.applied(slice, Reached::Account(account(7))).unwrap();
    let before = day.clone();
    assert_eq!(day.applied(slice, Reached::Account(account(8))), Err(DayError::Stale));
    assert_eq!(day.applied(slice, Reached::End), Err(DayError::Stale));
    assert_eq!(day, before, "a refused slice changes nothing");
    assert_eq!(day.next_slice(1).unwrap().after, Some(account(7)));
    // The same accounts, the same step, and yet another day.
    day = UnitDay::begin(TUESDAY);
    day.take_cut_off(TUESDAY).unwrap();
    day.start(Step::Loans, &[account(5), account(9)]).unwrap();
    assert_eq!(day.applied(slice, Reached::End), Err(DayError::Stale));
}

#[test]
fn ranges_cover_all_accounts_once() {
    let mut day = UnitDay::begin(MONDAY);
    day.take_cut_off(MONDAY).unwrap();
    let many: Vec<_> = (0..RANGES_MAX as u64).map(account).collect();
    for bad in [&[account(9), account(5)][..], &[account(5), account(5)], &many] {
        assert_eq!(day.start(Step::Loans, bad), Err(DayError::Ranges));
    }
    day.start(Step::Loans, &[account(5), account(9)]).unwrap();
    for serial in 0..20 {
        let within = |range: &&dujiang_bank_end_of_day::day::Range| {
            range.after.is_none_or(|after| account(serial) > after)
                && range.through.is_none_or(|through| account(serial) <= through)
        };
        assert_eq!(day.ranges().iter().filter(within).count(), 1, "account {serial}");
    }
}

#[test]
fn a_day_whose_books_do_not_balance_stays_open() {
    let chart = Chart::standard().unwrap();
    let mapping = Mapping::standard(&chart).unwrap();
    let place = Place { member: MemberId::new("qingshen").unwrap(), branch: BranchId::new("1").unwrap() };
    let money = Money::new(100, Currency::CNY);
    let class = ProductClass::new("personal-current");
    let entries = mapping.entries(Event::CashDeposit, &place, &class, None, money).unwrap();
    let mut day = UnitDay::begin(MONDAY);
    day.take_cut_off(MONDAY).unwrap();
    run_steps(&mut day);
    let half = TrialBalance::of(&chart, &entries[..1]).unwrap();
    assert!(matches!(day.close(&half), Err(DayError::Unbalanced(off)) if off.len() == 1));
    assert_eq!(day.phase(), Phase::TrialBalance);
    assert_eq!(day.close(&TrialBalance::of(&chart, &entries).unwrap()), Ok(MONDAY));
}

#[test]
fn the_record_is_stored_as_it_is() {
    let mut day = UnitDay::begin(MONDAY);
    day.take_cut_off(MONDAY).unwrap();
    day.start(Step::Loans, &[account(5)]).unwrap();
    day.applied(day.next_slice(0).unwrap(), Reached::Account(account(2))).unwrap();
    let stored = serde_json::to_string(&day).unwrap();
    assert_eq!(serde_json::from_str::<UnitDay>(&stored).unwrap(), day);
    assert!(serde_json::from_str::<UnitDay>(&stored.replace("cursor", "course")).is_err());
}

proptest! {
    /// Whatever is asked in whatever order: days are closed one after the other, each after all of its steps, and every
    /// account is passed once in each of them.
    #[test]
    fn whatever_is_asked_days_close_in_order(asks in prop::collection::vec((0..6_u8, 0..3_usize, 0..12_u64), 0..300)) {
        let mut day = UnitDay::begin(MONDAY);
        let mut closed = Vec::new();
        let mut passed = 0;
        for (ask, range, serial) in asks {
            let (open, before) = (day.open(), day.closing());
            match ask {
                0 => { let _ = day.take_cut_off(day.open()); }
                1 => { let _ = day.start(Step::Loans, &[account(4), account(8)]); }
                2 => { let _ = day.start(Step::Deposits, &[]); }
                3 => if let Some(slice) = day.next_slice(range) {
                    let moved = day.applied(slice, Reached::Account(account(serial))).is_ok();
                    let above = slice.after.is_none_or(|after| account(serial) > after);
                    let below = slice.through.is_none_or(|through| account(serial) <= through);
                    prop_assert_eq!(moved, above && below);
                },
                4 => if let Some(slice) = day.next_slice(range) {
                    day.applied(slice, Reached::End).unwrap();
                    passed += 1;
                },
                _ => if let Ok(day) = day.close(&TrialBalance::default()) {
                    closed.push(day);
                    // Three ranges of loans, one of deposits.
                    prop_assert_eq!(passed, 4 * closed.len());
                },
            }
            prop_assert!(day.open() >= open);
            prop_assert!(day.closing().is_none_or(|closing| closing.tomorrow().unwrap() == day.open()));
            prop_assert!(before.is_none() || day.closing().is_none() || day.closing() == before);
        }
        let expected: Vec<_> = std::iter::successors(Some(MONDAY), |day| day.tomorrow().ok()).take(closed.len()).collect();
        prop_assert_eq!(closed, expected);
    }
}
