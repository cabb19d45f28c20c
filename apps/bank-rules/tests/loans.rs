//! Loans against published tables and worked examples, and an auditor of the equal instalment.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use dujiang_bank_rules::loan::allocation::Kind::{
    self, Fee, Interest, OverdueInterest, OverduePrincipal, Penalty, Principal,
};
use dujiang_bank_rules::loan::allocation::{Order, Owed, Sequence};
use dujiang_bank_rules::loan::annuity::instalment;
use dujiang_bank_rules::loan::class::{Class, ClassTable, ProvisionTable};
use dujiang_bank_rules::loan::early::{EarlyTerms, Then};
use dujiang_bank_rules::loan::overdue::{Arrears, PenaltyTerms, days_overdue};
use dujiang_bank_rules::loan::schedule::{Instalment, LoanTerms, Method, PeriodCount, schedule};
use dujiang_bank_rules::terms::{Bearing, Fixing, Remainder};
use dujiang_bank_rules::{
    Accrual, DayCount, InterestTerms, Opening, PostedRates, Rate, RateRule, RateSource, RuleError, Settlement,
};
use dujiang_types::{Currency, Money};
use jiff::civil::{Date, date};
use num_bigint::BigInt;
use proptest::prelude::*;

const DRAWN: Date = date(2024, 1, 31);

fn rate(text: &str) -> Rate {
    text.parse().unwrap()
}

fn monthly(method: Method, yearly: &str, periods: u16) -> LoanTerms {
    LoanTerms { method, rate: rate(yearly), count: PeriodCount::WholeMonths, every_months: 1, periods }
}

fn rows(terms: &LoanTerms, principal_minor: i64) -> Vec<Instalment> {
    schedule(terms, Money::new(principal_minor, Currency::CNY), DRAWN, None).unwrap()
}

/// Of each published example: principal, yearly rate, months, instalment, and the first rows as interest and principal;
/// all amounts in hundredths.
type Example = (i64, &'static str, u16, i64, &'static [(i64, i64)]);

const PUBLISHED: &[Example] = &[
    // Sample H-25(B) in appendix H to the United States' Regulation Z (12 CFR 1026): 162,000 at 3.875 % for 30 years.
    (16_200_000, "3.875%", 360, 76_178, &[]),
    // "Theory of Interest, amortization project" (scribd.com/document/360526230): 150,000 at 3.625 % for 30 years. Its
    // balances are not rounded; from the ninth row on that makes a cent.
    (
        15_000_000,
        "3.625%",
        360,
        68_408,
        &[
            (45_313, 23_095),
            (45_243, 23_165),
            (45_173, 23_235),
            (45_103, 23_305),
            (45_032, 23_376),
            (44_962, 23_446),
            (44_891, 23_517),
            (44_820, 23_588),
        ],
    ),
    // Mortgages of China as banks' calculators show them (372181.com/wenda/229816, m.789yingshi.cn/wenda/244196,
    // m.372181.com/baike/108990, m.vdgb.cn/baike/56072, wwwbz417.com/wenda/242703).
    (100_000_000, "4.9%", 240, 654_444, &[(408_333, 246_111)]),
    (10_000_000, "4.9%", 120, 105_577, &[(40_833, 64_744), (40_569, 65_008)]),
    (20_000_000, "4.9%", 180, 157_119, &[(81_667, 75_452)]),
    (200_000_000, "6.14%", 240, 1_449_062, &[(1_023_333, 425_729), (1_021_155, 427_907)]),
    (51_000_000, "5.3%", 240, 345_087, &[]),
];

#[test]
fn equal_instalments_match_published_tables() {
    for &(principal, yearly, months, amount, first) in PUBLISHED {
        let rows = rows(&monthly(Method::EqualInstalments, yearly, months), principal);
        assert_eq!(rows.len(), usize::from(months), "{principal} {yearly}");
        let (last, others) = rows.split_last().unwrap();
        assert!(
            others.iter().all(|row| row.amount_minor() == amount),
            "{principal} {yearly}: {:?}",
            others[0]
        );
        // Rounding every instalment by up to half a hundredth leaves at most that, compounded, to the last one.
        assert!((last.amount_minor() - amount).abs() <= 2 * i64::from(months), "{last:?}");
        let found: Vec<_> = rows.iter().map(|row| (row.interest_minor, row.principal_minor)).collect();
        assert_eq!(&found[..first.len()], first, "{principal} {yearly}");
        assert_eq!(rows.iter().map(|row| row.principal_minor).sum::<i64>(), principal);
    }
}

#[test]
fn equal_principal_matches_a_published_table() {
    // 490,000 at 4.9 % for 240 months: interest of the first year (g230.com/index.php/1704281099854490060).
    let interest = [
        200_083, 199_250, 198_416, 197_582, 196_749, 195_915, 195_081, 194_248, 193_414, 192_580, 191_747,
        190_913,
    ];
    let rows = rows(&monthly(Method::EqualPrincipal, "4.9%", 240), 49_000_000);
    for (row, interest) in rows.iter().zip(interest) {
        assert_eq!((row.principal_minor, row.interest_minor), (204_167, interest), "{row:?}");
    }
    // 239 times 2041.67 leave 2040.87.
    assert_eq!(rows.last().unwrap().principal_minor, 49_000_000 - 239 * 204_167);
}

#[test]
fn a_bullet_pays_interest_and_all_principal_at_the_end() {
    let by_days = |count| LoanTerms {
        count: PeriodCount::Days(count),
        every_months: 3,
        ..monthly(Method::Bullet, "3.65%", 4)
    };
    let table = |count| {
        let rows = rows(&by_days(count), 10_000_000);
        rows.iter().map(|row| (row.due, row.interest_minor, row.principal_minor)).collect::<Vec<_>>()
    };
    // A leap year from 31 January: 90, 92, 92 and 92 days, a thousand fen each.
    let due = [date(2024, 4, 30), date(2024, 7, 31), date(2024, 10, 31), date(2025, 1, 31)];
    let expected: Vec<_> = [(90_000, 0), (92_000, 0), (92_000, 0), (92_000, 10_000_000)]
        .into_iter()
        .zip(due)
        .map(|((interest, principal), due)| (due, interest, principal))
        .collect();
    assert_eq!(table(DayCount::Act365F), expected);
    // Months of thirty days: 31 January to 30 April is 90, to 31 July 90, to 31 October 90, to 31 January 90.
    let interest: Vec<_> = table(DayCount::Thirty360).iter().map(|row| row.1).collect();
    assert_eq!(interest, [91_250, 91_250, 91_250, 91_250]);
    let at_maturity = LoanTerms { every_months: 12, ..monthly(Method::Bullet, "3.65%", 1) };
    let rows = rows(&at_maturity, 10_000_000);
    assert_eq!((rows.len(), rows[0].amount_minor()), (1, 10_365_000));
}

#[test]
fn due_dates_end_with_their_months_and_a_first_period_may_be_odd() {
    let terms = monthly(Method::EqualInstalments, "4.9%", 4);
    let due = |first| {
        let rows = schedule(&terms, Money::new(10_000_000, Currency::CNY), DRAWN, first).unwrap();
        rows.iter().map(|row| (row.due, row.days)).collect::<Vec<_>>()
    };
    let ends = [date(2024, 2, 29), date(2024, 3, 31), date(2024, 4, 30), date(2024, 5, 31)];
    assert_eq!(due(None), ends.map(|day| (day, 30)));
    // To 20 March: one month to 29 February, and 20 days.
    let odd = due(Some(date(2024, 3, 20)));
    assert_eq!(odd[..2], [(date(2024, 3, 20), 50), (date(2024, 4, 20), 30)]);
    let backwards = schedule(&terms, Money::new(1, Currency::CNY), DRAWN, Some(DRAWN));
    assert!(matches!(backwards, Err(RuleError::Backwards { .. })));
    assert!(schedule(&terms, Money::new(0, Currency::CNY), DRAWN, None).is_err());
    let endless = LoanTerms { periods: 601, ..terms };
    assert_eq!(schedule(&endless, Money::new(1, Currency::CNY), DRAWN, None), Err(RuleError::TooLong(600)));
}

#[test]
fn drawn_revolving_credit_earns_interest_by_the_day() {
    // 0.05 % a day is 18 % of a year of 360 days; 10,000 yuan for 3 days, then 4,000 for 7.
    let terms = InterestTerms {
        rate: RateRule::Single(RateSource::Fixed(rate("18%"))),
        fixing: Fixing::EachDay,
        day_count: DayCount::Act360,
        settlement: Settlement::Monthly { day: 20 },
        compounds: false,
        bearing: Bearing::MinorUnits,
        remainder: Remainder::Dropped,
        tax: None,
    };
    let opening = Opening { on: date(2024, 3, 11), months: None };
    let quotes = terms.quotes(&PostedRates::default(), opening, opening.on, date(2024, 3, 21)).unwrap();
    let mut accrual = Accrual::start(opening.on, Currency::CNY);
    for (to, drawn) in [(date(2024, 3, 14), 1_000_000), (date(2024, 3, 21), 400_000)] {
        accrual.advance(to, Money::new(drawn, Currency::CNY), &quotes).unwrap();
    }
    assert_eq!(accrual.settle(date(2024, 3, 20), &quotes).unwrap().interest.minor, 1500 + 1400);
}

fn owed() -> Vec<Owed> {
    let (old, new) = (date(2024, 3, 20), date(2024, 4, 20));
    [
        (new, Kind::Principal, 800),
        (new, Kind::Interest, 90),
        (old, Kind::OverduePrincipal, 700),
        (old, Kind::OverdueInterest, 100),
        (old, Kind::Penalty, 11),
        (new, Kind::Penalty, 1),
        (new, Kind::Fee, 5),
    ]
    .map(|(due, kind, minor)| Owed { due, kind, minor })
    .to_vec()
}

#[test]
fn payments_pay_in_the_order_the_product_says() {
    let kinds = Kind::ALL.to_vec();
    let paid = |order: &Order, payment| {
        let allocation = order.allocate(payment, &owed()).unwrap();
        let paid = allocation.paid.iter().map(|owed| (owed.kind, owed.minor)).collect::<Vec<_>>();
        (paid, allocation.left_minor)
    };
    let by_kind = Order { kinds: kinds.clone(), sequence: Sequence::KindFirst };
    let head = [(Fee, 5), (Penalty, 11), (Penalty, 1), (OverdueInterest, 100), (Interest, 90)];
    let with = |more: &[(Kind, i64)]| [&head[..], more].concat();
    assert_eq!(paid(&by_kind, 300), (with(&[(OverduePrincipal, 93)]), 0));
    assert_eq!(paid(&by_kind, 2000), (with(&[(OverduePrincipal, 700), (Principal, 800)]), 293));
    let by_age = Order { kinds, sequence: Sequence::OldestFirst };
    let oldest = vec![(Penalty, 11), (OverdueInterest, 100), (OverduePrincipal, 189)];
    assert_eq!(paid(&by_age, 300), (oldest, 0));
    let mut principal_first = Order { kinds: Kind::ALL.to_vec(), sequence: Sequence::KindFirst };
    principal_first.kinds.reverse();
    assert_eq!(paid(&principal_first, 801), (vec![(Principal, 800), (OverduePrincipal, 1)], 0));
    assert!(principal_first.is_complete());
    principal_first.kinds[0] = Fee;
    assert!(!principal_first.is_complete());
    assert!(by_age.allocate(-1, &[]).is_err());
}

#[test]
fn lateness_costs_penalty_on_principal_and_compound_interest_on_interest() {
    let terms = PenaltyTerms {
        factor: "1.5".parse().unwrap(),
        compounds: true,
        day_count: DayCount::Act360,
        grace_days: 3,
    };
    let due = date(2024, 2, 20);
    let arrears = Arrears { due, principal_minor: 10_000_000, interest_minor: 100_000 };
    // 4.8 % becomes 7.2 %: 2,000 fen a day on principal, 20 on interest; ten days over 29 February.
    let cost = terms.penalty(&arrears, rate("4.8%"), due, date(2024, 3, 1)).unwrap();
    assert_eq!((cost.on_principal.rounded(), cost.on_interest.rounded()), (Ok(20_000), Ok(200)));
    let simple = PenaltyTerms { compounds: false, ..terms };
    let cost = simple.penalty(&arrears, rate("4.8%"), due, date(2024, 3, 1)).unwrap();
    assert_eq!((cost.on_principal.rounded(), cost.on_interest.rounded()), (Ok(20_000), Ok(0)));
    assert!(!terms.applies(due, date(2024, 2, 23)) && terms.applies(due, date(2024, 2, 24)));
    assert_eq!((days_overdue(due, due), days_overdue(due, date(2024, 2, 1))), (0, 0));
    assert!(terms.penalty(&arrears, rate("4.8%"), date(2024, 2, 19), due).is_err());
}

#[test]
fn days_overdue_decide_the_class_and_the_class_the_provision() {
    let cases = [
        (0, Class::Normal, 10_000),
        (1, Class::SpecialMention, 20_000),
        (90, Class::SpecialMention, 20_000),
        (91, Class::Substandard, 250_000),
        (270, Class::Substandard, 250_000),
        (271, Class::Doubtful, 500_000),
        (360, Class::Doubtful, 500_000),
        (361, Class::Loss, 1_000_000),
        (u32::MAX, Class::Loss, 1_000_000),
    ];
    for (days, class, provision) in cases {
        assert_eq!(ClassTable::CHINA.class(days), class, "{days}");
        assert_eq!(ProvisionTable::CHINA.provision(class, 1_000_000), Ok(provision), "{days}");
    }
    assert!(ClassTable::CHINA.rises());
    assert!(!ClassTable { loss_after: 270, ..ClassTable::CHINA }.rises());
}

fn early(then: Then) -> EarlyTerms {
    EarlyTerms { fee: rate("1%"), free_after_months: Some(12), min_minor: 1_000_000, then }
}

#[test]
fn an_early_repayment_pays_its_interest_and_shortens_or_lightens_the_rest() {
    let terms = monthly(Method::EqualInstalments, "4.8%", 120);
    let all = rows(&terms, 10_000_000);
    let unpaid = &all[6..];
    let (on, half) = (date(2024, 8, 10), 5_000_000);
    let amount = all[0].amount_minor();
    let shorter = early(Then::ShorterTerm).repay(&terms, DRAWN, unpaid, on, half).unwrap();
    // Ten days at 4.8 %, of 360: 5,000,000 · 0.048 · 10 / 360. The fee is one percent.
    assert_eq!((shorter.interest_minor, shorter.fee_minor), (6667, 50_000));
    let (last, others) = shorter.remaining.split_last().unwrap();
    assert!(others.iter().all(|row| row.amount_minor() == amount) && last.amount_minor() <= amount);
    assert!(shorter.remaining.len() < unpaid.len() / 2);
    let lighter = early(Then::SmallerInstalments).repay(&terms, DRAWN, unpaid, on, half).unwrap();
    assert_eq!(lighter.remaining.len(), unpaid.len());
    assert!(lighter.remaining[0].amount_minor() < amount / 2 + amount / 10);
    for remaining in [&shorter.remaining, &lighter.remaining] {
        let principal: i64 = remaining.iter().map(|row| row.principal_minor).sum();
        assert_eq!(principal, unpaid[0].opening_minor - half);
        assert_eq!((remaining[0].number, remaining[0].due), (7, date(2024, 8, 31)));
    }
    // A year on it costs nothing, and all of it leaves nothing.
    let later = &all[12..];
    let left = later[0].opening_minor;
    let done = early(Then::ShorterTerm).repay(&terms, DRAWN, later, date(2025, 1, 31), left).unwrap();
    assert_eq!((done.interest_minor, done.fee_minor, done.remaining.len()), (0, 0, 0));
}

#[test]
fn an_early_repayment_that_is_too_small_too_large_or_of_another_period_is_refused() {
    let terms = monthly(Method::EqualPrincipal, "4.8%", 12);
    let all = rows(&terms, 12_000_000);
    let repay =
        |on, minor| early(Then::ShorterTerm).repay(&terms, DRAWN, &all, on, minor).map(|done| done.remaining);
    let on = date(2024, 2, 10);
    assert!(matches!(repay(on, 999_999), Err(RuleError::BelowMinimum { .. })));
    assert!(matches!(repay(on, 12_000_001), Err(RuleError::NotEnough { .. })));
    assert!(matches!(repay(date(2024, 2, 29), 1_000_000), Err(RuleError::Backwards { .. })));
    // Ten months of principal instead of twelve, or as many of five sixths.
    assert_eq!(repay(on, 2_000_000).unwrap().len(), 10);
    let same = early(Then::SmallerInstalments).repay(&terms, DRAWN, &all, on, 2_400_000).unwrap();
    assert_eq!((same.remaining.len(), same.remaining[0].principal_minor), (12, 800_000));
    assert!(early(Then::ShorterTerm).repay(&terms, DRAWN, &[], on, 1).is_err());
}

/// The balance after the last period, in twice the minor unit and over the `periods`-th power of a year's units, if
/// `doubled` is twice what is paid each time and nothing is rounded: subtraction after subtraction, as a ledger would.
fn left_over(principal: i64, hundredths: i64, days: &[i32], doubled: i64) -> BigInt {
    let one = BigInt::from(360_i64 * 1_000_000);
    let mut scale = BigInt::from(1);
    let mut balance = BigInt::from(principal) * 2;
    for days in days {
        let interest = &balance * (hundredths * i64::from(*days));
        scale *= &one;
        balance = balance * &one + interest - BigInt::from(doubled) * &scale;
    }
    balance
}

fn method() -> impl Strategy<Value = Method> {
    prop::sample::select(vec![Method::EqualInstalments, Method::EqualPrincipal, Method::Bullet])
}

proptest! {
    #[test]
    fn the_instalment_is_the_nearest_to_the_exact_one(
        principal in 1_i64..1_000_000_000_000_000,
        hundredths in 0_i64..400_000,
        days in prop::collection::vec(25_i32..70, 1..60),
    ) {
        let text = format!("{}.{:04}%", hundredths / 10_000, hundredths % 10_000);
        let amount = instalment(principal, rate(&text), 360, &days).unwrap();
        // With half a unit less something is left, with half a unit more nothing is.
        let zero = BigInt::from(0);
        prop_assert!(left_over(principal, hundredths, &days, 2 * amount - 1) >= zero);
        prop_assert!(left_over(principal, hundredths, &days, 2 * amount + 1) < zero);
    }

    #[test]
    fn a_schedule_repays_exactly_what_was_lent_and_earns_what_was_left(
        method in method(),
        principal in 1_i64..100_000_000_000,
        hundredths in 0_i64..240_000,
        periods in 1_u16..120,
        count in prop::sample::select(vec![
            PeriodCount::WholeMonths, PeriodCount::Days(DayCount::Act360), PeriodCount::Days(DayCount::Act365F),
            PeriodCount::Days(DayCount::Thirty360),
        ]),
    ) {
        let text = format!("{}.{:04}%", hundredths / 10_000, hundredths % 10_000);
        let terms = LoanTerms { method, rate: rate(&text), count, every_months: 1, periods };
        let rows = rows(&terms, principal);
        prop_assert_eq!(rows.iter().map(|row| row.principal_minor).sum::<i64>(), principal);
        let mut left = principal;
        let year = if count == PeriodCount::Days(DayCount::Act365F) { 365 } else { 360 };
        for row in &rows {
            prop_assert_eq!(row.opening_minor, left);
            prop_assert!(row.principal_minor >= 0);
            // The nearest fen to opening · rate · days / year, by multiplication only.
            let exact = i128::from(left) * i128::from(hundredths) * i128::from(row.days);
            let unit = i128::from(year) * 1_000_000;
            let error = 2 * (i128::from(row.interest_minor) * unit - exact);
            prop_assert!(-unit < error && error <= unit, "{:?}", row);
            left -= row.principal_minor;
        }
        prop_assert_eq!(left, 0);
    }

    #[test]
    fn an_allocation_loses_and_invents_nothing(
        payment in 0_i64..3_000,
        minors in prop::collection::vec(0_i64..500, 7),
        oldest in any::<bool>(),
    ) {
        let mut owed = owed();
        for (owed, minor) in owed.iter_mut().zip(minors) {
            owed.minor = minor;
        }
        let sequence = if oldest { Sequence::OldestFirst } else { Sequence::KindFirst };
        let order = Order { kinds: Kind::ALL.to_vec(), sequence };
        let done = order.allocate(payment, &owed).unwrap();
        let paid: i64 = done.paid.iter().map(|owed| owed.minor).sum();
        let all: i64 = owed.iter().map(|owed| owed.minor).sum();
        prop_assert_eq!(paid, payment.min(all));
        prop_assert_eq!(paid + done.left_minor, payment);
        for part in &done.paid {
            let most = owed.iter().find(|owed| (owed.due, owed.kind) == (part.due, part.kind)).unwrap().minor;
            prop_assert!(part.minor <= most);
        }
    }
}
