//! An auditor of interest: he recomputes it from movements alone, day by day, with fractions of big integers, from the
//! text of the rates. He shares no code with the accrual, not even the rounding.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use dujiang_bank_rules::replay::{Movement, replay};
use dujiang_bank_rules::terms::{BalanceTier, Bearing, Fixing, Remainder};
use dujiang_bank_rules::{
    Accrual, Dated, DayCount, InterestTerms, Opening, PostedRates, RateRule, RateSource, Settlement,
};
use dujiang_types::{Currency, Money};
use jiff::ToSpan;
use jiff::civil::{Date, date};
use num_bigint::BigInt;
use proptest::prelude::*;

/// First day of all cases; a period begins on it for every settlement below.
const OPENED: Date = date(2023, 9, 21);

/// A case: everything the auditor knows.
#[derive(Debug, Clone)]
struct Case {
    /// Days after the opening, and minor units; never overdrawn.
    movements: Vec<(i64, i64)>,
    /// Days after the opening, and hundredths of a basis point of each of two tiers.
    rates: Vec<(i64, [i64; 2])>,
    /// Where the second tier begins.
    tier_from: i64,
    marginal: bool,
    settlement_day_rate: bool,
    year: i64,
    carried: bool,
    days: i64,
}

fn cases() -> impl Strategy<Value = Case> {
    let movements = prop::collection::vec((0_i64..700, -3_000_000_i64..9_000_000), 1..12);
    let rates = prop::collection::vec((1_i64..700, [-5_000_i64..60_000, -5_000_i64..60_000]), 0..6);
    let switches = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (movements, rates, [0_i64..60_000, 0_i64..60_000], 1_i64..20_000_000, switches, 1_i64..800).prop_map(
        |(
            mut movements,
            mut rates,
            first,
            tier_from,
            (marginal, settlement_day_rate, long, carried),
            days,
        )| {
            movements.sort_unstable();
            rates.push((0, first));
            rates.sort_unstable();
            rates.dedup_by_key(|(day, _)| *day);
            let year = if long { 365 } else { 360 };
            Case { movements, rates, tier_from, marginal, settlement_day_rate, year, carried, days }
        },
    )
}

fn day(number: i64) -> Date {
    OPENED.checked_add(number.days()).unwrap()
}

/// Writes hundredths of a basis point as a percentage.
fn percent(hundredths: i64) -> String {
    let sign = if hundredths < 0 { "-" } else { "" };
    format!("{sign}{}.{:04}%", hundredths.abs() / 10_000, hundredths.abs() % 10_000)
}

/// A fraction over the auditor's one denominator: a year's days times a million.
struct Auditor<'case> {
    case: &'case Case,
    denominator: BigInt,
}

impl Auditor<'_> {
    fn rates_on(&self, day: i64) -> [i64; 2] {
        self.case.rates.iter().rev().find(|(from, _)| *from <= day).unwrap().1
    }

    /// One day's interest on a balance, over the denominator.
    fn of_day(&self, balance: i64, rates: [i64; 2]) -> BigInt {
        let balance = balance.max(0);
        let (low, high) = match (self.case.marginal, balance >= self.case.tier_from) {
            (true, true) => (self.case.tier_from, balance - self.case.tier_from),
            (false, true) => (0, balance),
            (_, false) => (balance, 0),
        };
        BigInt::from(low) * rates[0] + BigInt::from(high) * rates[1]
    }

    fn is_settlement(day: Date) -> bool {
        day.day() == 20 && [3, 6, 9, 12].contains(&day.month())
    }

    /// What is settled on each settlement day, and what is left at the end, over the denominator.
    fn settle(&self) -> (Vec<i64>, BigInt) {
        let mut settled: Vec<i64> = Vec::new();
        let mut balance = 0;
        let mut joins = 0;
        // Balances of the period's days, and the remainder of the last one.
        let mut period: Vec<(i64, i64)> = Vec::new();
        let mut carried = BigInt::from(0);
        for number in 0..self.case.days {
            balance += std::mem::take(&mut joins);
            let moved = self.case.movements.iter().filter(|(on, _)| *on == number);
            balance += moved.map(|(_, minor)| minor).sum::<i64>();
            period.push((number, balance));
            if Self::is_settlement(day(number)) {
                let exact = carried + self.period(&period, number);
                let minor = nearest(&exact, &self.denominator);
                carried = if self.case.carried { exact - &self.denominator * minor } else { BigInt::from(0) };
                joins = minor;
                settled.push(minor);
                period.clear();
            }
        }
        let last = self.case.days - 1;
        (settled, carried + self.period(&period, last))
    }

    fn period(&self, days: &[(i64, i64)], fixed_on: i64) -> BigInt {
        let rates = |number| self.rates_on(if self.case.settlement_day_rate { fixed_on } else { number });
        days.iter().map(|(number, balance)| self.of_day(*balance, rates(*number))).sum()
    }
}

/// The nearest whole number, of two equally near ones the larger, found by looking at both neighbours.
fn nearest(numerator: &BigInt, denominator: &BigInt) -> i64 {
    let mut low = i64::try_from(numerator / denominator).unwrap() - 2;
    while BigInt::from(2 * low + 1) * denominator <= numerator * 2 {
        low += 1;
    }
    low
}

fn terms(case: &Case) -> (InterestTerms, PostedRates) {
    let mut posted = PostedRates::default();
    for (from, rates) in &case.rates {
        for (name, hundredths) in ["low", "high"].into_iter().zip(rates) {
            posted.announce(name, day(*from), percent(*hundredths).parse().unwrap()).unwrap();
        }
    }
    let source = |name: &str| RateSource::Posted { name: name.into(), spread: "0%".parse().unwrap() };
    let tiers = vec![
        BalanceTier { from_minor: 0, rate: source("low") },
        BalanceTier { from_minor: case.tier_from, rate: source("high") },
    ];
    let terms = InterestTerms {
        rate: if case.marginal { RateRule::Marginal(tiers) } else { RateRule::WholeBalance(tiers) },
        fixing: if case.settlement_day_rate { Fixing::SettlementDay } else { Fixing::EachDay },
        day_count: if case.year == 365 { DayCount::Act365F } else { DayCount::Act360 },
        settlement: Settlement::CHINA_QUARTERLY,
        compounds: true,
        bearing: Bearing::MinorUnits,
        remainder: if case.carried { Remainder::Carried } else { Remainder::Dropped },
        tax: None,
    };
    (terms, posted)
}

fn opening() -> Opening {
    Opening { on: OPENED, months: None }
}

/// A flat rate without settlements, and its quotes for two years.
fn flat(rate: &str, day_count: DayCount) -> InterestTerms {
    InterestTerms {
        rate: RateRule::Single(RateSource::Fixed(rate.parse().unwrap())),
        fixing: Fixing::EachDay,
        day_count,
        settlement: Settlement::AtEnd,
        compounds: false,
        bearing: Bearing::MinorUnits,
        remainder: Remainder::Carried,
        tax: None,
    }
}

const COUNTS: [DayCount; 4] =
    [DayCount::Act360, DayCount::Act365F, DayCount::Thirty360, DayCount::ThirtyE360];

proptest! {
    #[test]
    fn the_auditor_finds_the_same_interest(case in cases()) {
        let (terms, posted) = terms(&case);
        let movements: Vec<_> = case.movements.iter()
            .map(|(on, minor)| Movement { value_date: day(*on), minor: *minor }).collect();
        let until = day(case.days);
        let replayed = replay(&movements, opening(), Currency::CNY, until, &Dated::always(&terms), &posted).unwrap();
        let auditor = Auditor { case: &case, denominator: BigInt::from(case.year * 1_000_000) };
        let (settled, open) = auditor.settle();
        let found: Vec<i64> = replayed.settled.iter().map(|settled| settled.interest.minor).collect();
        prop_assert_eq!(found, settled);
        let quotes = terms.quotes(&posted, opening(), OPENED, until).unwrap();
        let value = replayed.accrual.value(day(case.days - 1), &quotes).unwrap();
        // Atoms are 1 / (10^10 · 26280): exactly the same fraction, not only the same fen.
        prop_assert_eq!(
            BigInt::from(value.atoms()) * &auditor.denominator,
            open * BigInt::from(10_000_000_000_i64 * 26_280)
        );
    }

    #[test]
    fn a_period_may_be_cut_anywhere(
        minor in 0_i64..1_000_000_000_000,
        cuts in prop::collection::vec(0_i64..730, 0..20),
        which in 0_usize..4,
        late in any::<bool>(),
    ) {
        let mut terms = flat("3.4567%", COUNTS[which]);
        if late {
            terms.fixing = Fixing::SettlementDay;
        }
        let end = day(730);
        let quotes = terms.quotes(&PostedRates::default(), opening(), OPENED, end).unwrap();
        let balance = Money::new(minor, Currency::CNY);
        let mut whole = Accrual::start(OPENED, Currency::CNY);
        whole.advance(end, balance, &quotes).unwrap();
        let mut pieces = Accrual::start(OPENED, Currency::CNY);
        let mut cuts = cuts;
        cuts.sort_unstable();
        for cut in cuts {
            pieces.advance(day(cut), balance, &quotes).unwrap();
        }
        pieces.advance(end, balance, &quotes).unwrap();
        prop_assert_eq!(pieces, whole);
    }

    #[test]
    fn what_is_booked_day_by_day_is_the_exact_interest_rounded_once(
        balances in prop::collection::vec(0_i64..10_000_000, 1..200),
        negative in any::<bool>(),
        which in 0_usize..4,
    ) {
        let terms = flat(if negative { "-0.35%" } else { "0.35%" }, COUNTS[which]);
        let quotes = terms.quotes(&PostedRates::default(), opening(), OPENED, day(200)).unwrap();
        let mut accrual = Accrual::start(OPENED, Currency::CNY);
        let mut booked = 0;
        for (balance, number) in balances.iter().zip(1_i64..) {
            accrual.advance(day(number), Money::new(*balance, Currency::CNY), &quotes).unwrap();
            booked += accrual.book(day(number), &quotes).unwrap().minor;
            let exact = accrual.value(day(number), &quotes).unwrap();
            prop_assert_eq!(Ok(booked), exact.rounded());
        }
        // Settling books what is missing, which is nothing, and settlements with remainders carried add up, too.
        let settled = accrual.close(accrual.until(), &quotes).unwrap();
        prop_assert_eq!((settled.interest.minor, settled.unbooked.minor), (booked, 0));
    }

    #[test]
    fn settlements_with_the_remainder_carried_add_up_to_the_whole(
        minor in 0_i64..1_000_000_000,
        negative in any::<bool>(),
        days in 2_i64..700,
    ) {
        let once = flat(if negative { "-1.2345%" } else { "1.2345%" }, DayCount::Act365F);
        let often = InterestTerms { settlement: Settlement::Monthly { day: 20 }, ..once.clone() };
        let movements = [Movement { value_date: OPENED, minor }];
        let total = |terms: &InterestTerms| {
            let until = day(days);
            let mut replayed =
                replay(&movements, opening(), Currency::CNY, until, &Dated::always(terms), &PostedRates::default()).unwrap();
            let quotes = terms.quotes(&PostedRates::default(), opening(), OPENED, until).unwrap();
            let last = replayed.accrual.close(until, &quotes).unwrap();
            replayed.settled.iter().map(|settled| settled.interest.minor).sum::<i64>() + last.interest.minor
        };
        prop_assert_eq!(total(&often), total(&once));
    }

    #[test]
    fn more_money_longer_or_at_a_higher_rate_never_earns_less(
        minor in 0_i64..1_000_000_000, more in 0_i64..1_000_000,
        days in 0_i64..700, longer in 0_i64..30,
        which in 0_usize..4,
    ) {
        let earned = |minor: i64, days: i64, rate: &str| {
            let terms = flat(rate, COUNTS[which]);
            let quotes = terms.quotes(&PostedRates::default(), opening(), OPENED, day(days)).unwrap();
            let mut accrual = Accrual::start(OPENED, Currency::CNY);
            accrual.advance(day(days), Money::new(minor, Currency::CNY), &quotes).unwrap();
            accrual.value(day(days), &quotes).unwrap()
        };
        let base = earned(minor, days, "0.5%");
        prop_assert!(earned(minor + more, days, "0.5%") >= base);
        prop_assert!(earned(minor, days + longer, "0.5%") >= base);
        prop_assert!(earned(minor, days, "0.5001%") >= base);
    }
}
