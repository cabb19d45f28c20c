//! Interest by the rules of China, day by day, against figures worked out by hand or published.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use dujiang_bank_rules::replay::{Movement, Replayed, replay};
use dujiang_bank_rules::terms::{BalanceTier, Bearing, Fixing, Remainder, TermTier};
use dujiang_bank_rules::{
    Accrual, Dated, DayCount, InterestTerms, Opening, PostedRates, Rate, RateRule, RateSource, RuleError,
    Settlement,
};
use dujiang_types::{Currency, Money};
use jiff::civil::{Date, date};

fn rate(text: &str) -> Rate {
    text.parse().unwrap()
}

fn fixed(text: &str) -> RateSource {
    RateSource::Fixed(rate(text))
}

fn posted_current() -> RateSource {
    RateSource::Posted { name: "current".into(), spread: Rate::ZERO }
}

/// A personal current deposit: actual days over 360, the settlement day's rate for the quarter, whole yuan.
fn personal() -> InterestTerms {
    InterestTerms {
        rate: RateRule::Single(posted_current()),
        fixing: Fixing::SettlementDay,
        day_count: DayCount::Act360,
        settlement: Settlement::CHINA_QUARTERLY,
        compounds: true,
        bearing: Bearing::MajorUnits,
        remainder: Remainder::Dropped,
        tax: None,
    }
}

fn corporate() -> InterestTerms {
    InterestTerms { fixing: Fixing::EachDay, bearing: Bearing::MinorUnits, ..personal() }
}

fn posted(rates: &[(Date, &str)]) -> PostedRates {
    let mut posted = PostedRates::default();
    for (from, text) in rates {
        posted.announce("current", *from, rate(text)).unwrap();
    }
    posted
}

fn run(
    terms: &InterestTerms,
    posted: &PostedRates,
    movements: &[(Date, i64)],
    until: Date,
) -> Result<Replayed, RuleError> {
    let opening = Opening { on: movements[0].0, months: None };
    let movements: Vec<_> =
        movements.iter().map(|&(value_date, minor)| Movement { value_date, minor }).collect();
    replay(&movements, opening, Currency::CNY, until, &Dated::always(terms), posted)
}

fn nets(replayed: &Replayed) -> Vec<i64> {
    replayed.settled.iter().map(|settled| settled.net.minor).collect()
}

/// In 2005 quarterly settlement replaced settlement once a year. 10,000 yuan at 0.72 % less 20 % tax then gave 57.72
/// instead of 57.60, months being counted with thirty days.
#[test]
fn quarterly_settlement_gives_57_72_and_yearly_57_60() {
    let taxed = InterestTerms {
        rate: RateRule::Single(fixed("0.72%")),
        day_count: DayCount::Thirty360,
        tax: Some(fixed("20%")),
        ..personal()
    };
    let opened = date(2005, 9, 21);
    let next_year = date(2006, 9, 21);
    let quarterly = run(&taxed, &PostedRates::default(), &[(opened, 1_000_000)], next_year).unwrap();
    assert_eq!(nets(&quarterly), [1440, 1442, 1444, 1446]);
    assert_eq!(quarterly.balance.minor, 1_005_772);
    let yearly = InterestTerms { settlement: Settlement::Yearly { month: 9, day: 20 }, ..taxed.clone() };
    let yearly = run(&yearly, &PostedRates::default(), &[(opened, 1_000_000)], next_year).unwrap();
    assert_eq!((nets(&yearly), yearly.settled[0].tax.minor), (vec![5760], 1440));
    // Carrying the remainder instead of dropping it, and letting fen bear interest, changes nothing here.
    for (remainder, bearing) in
        [(Remainder::Carried, Bearing::MajorUnits), (Remainder::Carried, Bearing::MinorUnits)]
    {
        let other = InterestTerms { remainder, bearing, ..taxed.clone() };
        let same = run(&other, &PostedRates::default(), &[(opened, 1_000_000)], next_year).unwrap();
        assert_eq!(same.balance.minor, 1_005_772, "{remainder:?} {bearing:?}");
    }
}

#[test]
fn a_personal_deposit_earns_the_settlement_days_rate_for_the_whole_quarter() {
    let posted = posted(&[(date(2024, 1, 1), "0.20%"), (date(2024, 6, 20), "0.15%")]);
    // 21 March to 20 June 2024 are 92 days, all at the 0.15 % of 20 June; the next quarter has 92 days, too.
    let movements = [(date(2024, 3, 21), 10_000_000)];
    let replayed = run(&personal(), &posted, &movements, date(2024, 9, 21)).unwrap();
    assert_eq!(nets(&replayed), [3833, 3835]);
    assert_eq!((replayed.settled[0].from, replayed.settled[0].until), (date(2024, 3, 21), date(2024, 6, 21)));
    // 100,038.33 from 21 June on, of which 100,038 bear interest: 10,003,800 · 0.0015 · 92 / 360 = 3834.79.
    assert_eq!(replayed.balance.minor, 10_007_668);
}

#[test]
fn a_corporate_deposit_earns_each_days_rate() {
    let posted = posted(&[(date(2024, 1, 1), "0.20%"), (date(2024, 6, 20), "0.15%")]);
    // 91 days at 0.20 % and the settlement day at 0.15 %: 5055.56 + 41.67.
    let replayed = run(&corporate(), &posted, &[(date(2024, 3, 21), 10_000_000)], date(2024, 6, 21)).unwrap();
    assert_eq!(nets(&replayed), [5097]);
}

#[test]
fn an_account_closed_between_settlements_earns_the_closing_days_rate_up_to_the_day_before() {
    let posted = posted(&[(date(2024, 1, 1), "0.20%"), (date(2024, 5, 10), "0.15%")]);
    for (terms, fen) in [(personal(), 2083), (corporate(), 2778)] {
        let movements = [(date(2024, 3, 21), 10_000_000)];
        let mut replayed = run(&terms, &posted, &movements, date(2024, 5, 10)).unwrap();
        let on = date(2024, 5, 10);
        let opening = Opening { on: movements[0].0, months: None };
        let quotes = terms.quotes(&posted, opening, opening.on, on).unwrap();
        let closed = replayed.accrual.close(on, &quotes).unwrap();
        // 50 days of 100,000 yuan.
        assert_eq!(closed.interest.minor, fen, "{:?}", terms.fixing);
        let again = replayed.accrual.settle(on, &quotes).unwrap_err();
        assert_eq!(again, RuleError::NotAccruedTo { until: on, wanted: date(2024, 5, 11) });
    }
}

#[test]
fn the_first_day_counts_and_the_last_does_not() {
    let terms = corporate();
    let posted = posted(&[(date(2024, 1, 1), "0.36%")]);
    // In on the 1st, out on the 4th: three days of one yuan a day. Out on the same day: none.
    let three = [(date(2024, 4, 1), 10_000_000), (date(2024, 4, 4), -10_000_000)];
    assert_eq!(nets(&run(&terms, &posted, &three, date(2024, 6, 21)).unwrap()), [300]);
    let none = [(date(2024, 4, 1), 10_000_000), (date(2024, 4, 1), -10_000_000)];
    assert_eq!(nets(&run(&terms, &posted, &none, date(2024, 6, 21)).unwrap()), [0]);
}

#[test]
fn jiao_and_fen_of_savings_bear_no_interest() {
    let posted = posted(&[(date(2024, 1, 1), "0.36%")]);
    let settled = |minor| {
        let movements = [(date(2024, 3, 21), minor)];
        nets(&run(&personal(), &posted, &movements, date(2024, 6, 21)).unwrap())[0]
    };
    assert_eq!((settled(100_099), settled(100_000), settled(99)), (92, 92, 0));
}

#[test]
fn tiers_by_balance_earn_whole_or_part_by_part() {
    let tiers = || {
        [(0, "0.36%"), (5_000_000, "0.72%"), (10_000_000, "1.08%")]
            .map(|(from_minor, text)| BalanceTier { from_minor, rate: fixed(text) })
            .to_vec()
    };
    let one_day = |rule: RateRule, minor: i64| {
        let terms = InterestTerms { rate: rule, fixing: Fixing::EachDay, ..personal() };
        let day = date(2024, 4, 1);
        let opening = Opening { on: day, months: None };
        let quotes = terms.quotes(&PostedRates::default(), opening, day, day).unwrap();
        let mut accrual = Accrual::start(day, Currency::CNY);
        accrual.advance(date(2024, 4, 2), Money::new(minor, Currency::CNY), &quotes).unwrap();
        accrual.value(day, &quotes).unwrap().rounded().unwrap()
    };
    // Per day 100, 200 and 300 fen for 10,000,000.
    let cases = [(0, 0, 0), (4_999_900, 50, 50), (5_000_000, 100, 50), (10_000_000, 300, 150)];
    for (minor, whole, marginal) in cases.into_iter().chain([(20_000_000, 600, 450), (-20_000_000, 0, 0)]) {
        assert_eq!(one_day(RateRule::WholeBalance(tiers()), minor), whole, "{minor}");
        assert_eq!(one_day(RateRule::Marginal(tiers()), minor), marginal, "{minor}");
    }
}

#[test]
fn tiers_by_term_and_the_opening_days_rate() {
    let mut posted = PostedRates::default();
    posted.announce("12m", date(2024, 1, 1), rate("1.45%")).unwrap();
    posted.announce("12m", date(2024, 7, 25), rate("1.35%")).unwrap();
    let twelve = RateSource::Posted { name: "12m".into(), spread: rate("0.1%") };
    let tiers =
        vec![TermTier { from_months: 3, rate: fixed("1.05%") }, TermTier { from_months: 12, rate: twelve }];
    let terms = InterestTerms {
        rate: RateRule::ByTerm(tiers),
        fixing: Fixing::OpeningDay,
        settlement: Settlement::AtEnd,
        ..corporate()
    };
    let earned = |months| {
        let (opened, until) = (date(2024, 7, 1), date(2024, 8, 6));
        let quotes = terms.quotes(&posted, Opening { on: opened, months: Some(months) }, opened, until)?;
        let mut accrual = Accrual::start(opened, Currency::CNY);
        accrual.advance(until, Money::new(10_000_000, Currency::CNY), &quotes)?;
        accrual.value(until, &quotes)?.rounded()
    };
    // 36 days are a tenth of a year.
    assert_eq!((earned(3), earned(11), earned(12)), (Ok(10_500), Ok(10_500), Ok(15_500)));
    assert_eq!(earned(1), Err(RuleError::NoTier(1)));
}

#[test]
fn negative_rates_cost_the_customer_and_are_not_taxed() {
    let terms =
        InterestTerms { rate: RateRule::Single(fixed("-0.36%")), tax: Some(fixed("20%")), ..corporate() };
    let replayed =
        run(&terms, &PostedRates::default(), &[(date(2024, 3, 21), 10_000_000)], date(2024, 6, 21)).unwrap();
    let settled = replayed.settled[0];
    assert_eq!((settled.interest.minor, settled.tax.minor, settled.net.minor), (-9200, 0, -9200));
}

#[test]
fn what_cannot_be_computed_changes_nothing() {
    let terms = corporate();
    let day = date(2024, 4, 1);
    let opening = Opening { on: day, months: None };
    let posted = posted(&[(date(2024, 4, 3), "0.36%")]);
    assert!(matches!(terms.quotes(&posted, opening, day, day), Err(RuleError::NoValue { .. })));
    let quotes = terms.quotes(&posted, opening, date(2024, 4, 3), date(2024, 4, 5)).unwrap();
    let mut accrual = Accrual::start(date(2024, 4, 3), Currency::CNY);
    let before = accrual.clone();
    let balance = Money::new(1, Currency::CNY);
    let too_far = accrual.advance(date(2024, 4, 7), balance, &quotes).unwrap_err();
    assert!(matches!(too_far, RuleError::NoValue { .. }));
    let yen = Money::new(1, "JPY".parse().unwrap());
    assert!(matches!(accrual.advance(date(2024, 4, 4), yen, &quotes), Err(RuleError::Money(_))));
    assert!(matches!(accrual.advance(date(2024, 4, 2), balance, &quotes), Err(RuleError::Backwards { .. })));
    assert_eq!(accrual, before);
}

#[test]
fn an_accrual_can_be_stored_and_read_back() {
    let posted = posted(&[(date(2024, 1, 1), "0.36%")]);
    let replayed = run(&personal(), &posted, &[(date(2024, 3, 21), i64::MAX / 2)], date(2024, 6, 1)).unwrap();
    let json = serde_json::to_string(&replayed.accrual).unwrap();
    assert_eq!(serde_json::from_str::<Accrual>(&json).unwrap(), replayed.accrual, "{json}");
}
