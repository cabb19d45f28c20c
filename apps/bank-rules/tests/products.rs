//! Products as documents, checked as a whole; and that changing a product never changes the past.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use dujiang_bank_rules::product::fee::{Amount, Event, Fee};
use dujiang_bank_rules::product::limit::{Breach, Limits};
use dujiang_bank_rules::product::line::{Agreement, Audience, Launch, LineError, ProductLine};
use dujiang_bank_rules::product::{Kind, Product};
use dujiang_bank_rules::replay::{Movement, Replayed, replay};
use dujiang_bank_rules::{Opening, PostedRates};
use dujiang_types::Currency;
use jiff::civil::{Date, date};
use serde_json::{Value, json};

fn example(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/products").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn product(value: Value) -> Product {
    serde_json::from_value(value).unwrap()
}

/// The example with the value at a path replaced.
fn with(name: &str, changes: &[(&str, Value)]) -> Product {
    let mut document = example(name);
    for (pointer, value) in changes {
        *document.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value.clone();
    }
    product(document)
}

#[test]
fn the_examples_are_products_without_faults_and_survive_storing() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/products");
    let mut kinds = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let product = product(example(&name));
        assert_eq!(product.faults(), [], "{name}");
        let stored = serde_json::to_string(&product).unwrap();
        assert_eq!(serde_json::from_str::<Product>(&stored).unwrap(), product, "{name}");
        kinds.push(std::mem::discriminant(&product.kind));
    }
    kinds.sort_unstable_by_key(|kind| format!("{kind:?}"));
    kinds.dedup();
    assert_eq!(kinds.len(), 5, "there is an example of each kind");
}

#[test]
fn every_fault_is_told_at_once() {
    let mut document = example("mortgage.json");
    let tiers = json!({"marginal": [
        {"from_minor": 1, "rate": {"fixed": "1%"}}, {"from_minor": 1, "rate": {"posted": {"name": ""}}}]});
    for (pointer, value) in [
        ("/name", json!(" ")),
        ("/kind/methods", json!([])),
        ("/kind/every_months", json!(5)),
        ("/kind/principal_min_minor", json!(0)),
        ("/kind/penalty/factor", json!("1.6")),
        ("/kind/early/fee", json!("-1%")),
        ("/kind/order/kinds", json!(["fee", "fee"])),
    ] {
        *document.pointer_mut(pointer).unwrap() = value;
    }
    document["fees"] = json!([
        {"event": "month", "amount": {"share": {"rate": "101%", "min_minor": -1, "max_minor": -2}}},
        {"event": "month", "amount": {"flat": {"minor": 5}}}]);
    document["limits"] = json!({"balance_min_minor": 5, "balance_max_minor": 4, "transaction_max_minor": 9, "day_max_minor": 8});
    let faults = product(document).faults();
    let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "name",
            "kind.methods",
            "kind.months_min",
            "kind.principal_min_minor",
            "kind.early.fee",
            "kind.penalty.factor",
            "kind.order.kinds",
            "fees[0].amount.share.rate",
            "fees[0].amount.share.min_minor",
            "fees[0].amount.share.max_minor",
            "fees[1].event",
            "limits.balance_max_minor",
            "limits.day_max_minor",
        ]
    );
    assert!(faults.iter().all(|fault| !fault.what.is_empty() && !fault.remedy.is_empty()));
    let current = with(
        "personal-current.json",
        &[
            ("/kind/interest/rate", tiers),
            ("/kind/interest/settlement", json!({"yearly": {"month": 13, "day": 1}})),
            ("/kind/interest/tax", json!({"fixed": "120%"})),
        ],
    );
    let fields: Vec<String> = current.faults().into_iter().map(|fault| fault.field).collect();
    let rate = "kind.interest.rate.marginal";
    assert_eq!(
        fields,
        [
            format!("{rate}[0].from_minor"),
            format!("{rate}[1].from_minor"),
            format!("{rate}[1].rate.posted.name"),
            "kind.interest.settlement".into(),
            "kind.interest.tax".into(),
        ]
    );
    let fixed = with("fixed-term.json", &[("/kind/months", json!([1, 12, 601]))]);
    let fields: Vec<String> = fixed.faults().into_iter().map(|fault| fault.field).collect();
    assert_eq!(fields, ["kind.months[0]", "kind.months[2]"]);
}

#[test]
fn what_is_no_product_is_refused_when_it_is_read() {
    for (pointer, value) in [
        ("/currency", json!("XXX")),
        ("/kind/interest/day_count", json!("ACT/ACT")),
        ("/kind/interest/compounds", json!("yes")),
        ("/limits", json!({"balance_minimum": 0})),
        ("/kind/interest/rate", json!({"single": {"fixed": 0.35}})),
    ] {
        let mut document = example("personal-current.json");
        *document.pointer_mut(pointer).unwrap() = value;
        assert!(serde_json::from_value::<Product>(document).is_err(), "{pointer}");
    }
}

#[test]
fn fees_have_bounds_and_some_are_free() {
    let share = |min_minor, max_minor| Amount::Share { rate: "0.02%".parse().unwrap(), min_minor, max_minor };
    let of = |amount: Amount, minor| amount.of(minor).unwrap();
    assert_eq!(
        [1, 1_000_000, 12_345_678, 90_000_000].map(|minor| of(share(200, Some(5000)), minor)),
        [200, 200, 2469, 5000]
    );
    assert_eq!(of(Amount::Flat { minor: 500 }, i64::MAX), 500);
    let fee = Fee { event: Event::TransferOut, amount: share(200, None), free_per_month: 3 };
    assert_eq!([0, 2, 3].map(|before| fee.due(100, before).unwrap()), [0, 0, 200]);
}

#[test]
fn limits_refuse_what_makes_things_worse() {
    let limits = Limits {
        balance_min_minor: Some(-100),
        balance_max_minor: Some(1000),
        transaction_max_minor: Some(300),
        day_max_minor: Some(500),
    };
    let cases = [
        (0, -100, 0, Ok(())),
        (0, -101, 0, Err(Breach::BalanceTooLow { balance_minor: -101, min_minor: -100 })),
        (900, 100, 0, Ok(())),
        (900, 101, 0, Err(Breach::BalanceTooHigh { balance_minor: 1001, max_minor: 1000 })),
        (900, -301, 0, Err(Breach::TransactionTooLarge { max_minor: 300 })),
        (900, -300, 200, Ok(())),
        (900, -300, 201, Err(Breach::DayTooLarge { day_minor: 501, max_minor: 500 })),
        (-500, 10, 0, Ok(())),
        (2000, -10, 0, Ok(())),
        (i64::MAX, 1, 0, Err(Breach::OutOfRange)),
        (0, i64::MIN, 0, Err(Breach::OutOfRange)),
    ];
    for (balance, movement, day, expected) in cases {
        assert_eq!(limits.check(balance, movement, day), expected, "{balance} {movement} {day}");
    }
    assert_eq!(Limits::default().check(0, -1_000_000, 0), Ok(()));
}

/// A corporate deposit at a fixed rate, which follows the day's version or not.
fn at_rate(rate: &str, holds: &str) -> Product {
    let mut document = example("corporate-current-tiered.json");
    document["kind"]["interest"]["rate"] = json!({"single": {"fixed": rate}});
    document["holds"] = json!({"kind": holds, "fees": "day", "limits": "day"});
    product(document)
}

fn everybody(version: u32, from: Date) -> Launch {
    Launch { version: Some(version), from, audience: Audience::default() }
}

fn agreement(opened: Date, version: u32) -> Agreement {
    Agreement { member: "cangshan".into(), cohort: "general".into(), opened, version }
}

fn settlements(line: &ProductLine, agreement: &Agreement, until: Date) -> Replayed {
    let terms = line.interest(agreement, until).unwrap().unwrap();
    let opening = Opening { on: agreement.opened, months: None };
    let movements = [Movement { value_date: agreement.opened, minor: 100_000_000 }];
    replay(&movements, opening, Currency::CNY, until, &terms, &PostedRates::default()).unwrap()
}

#[test]
fn changing_a_product_never_changes_the_past() {
    let (opened, change) = (date(2024, 3, 21), date(2024, 8, 1));
    for holds in ["day", "opening"] {
        let mut line = ProductLine::new("corporate-current");
        line.add(at_rate("0.36%", holds)).unwrap();
        line.launch(everybody(1, opened), opened).unwrap();
        let account = agreement(opened, 1);
        let (before, at_change) = (date(2024, 6, 21), settlements(&line, &account, change));
        let first = settlements(&line, &account, before);
        // 92 days at ten yuan a day for a million.
        assert_eq!(first.settled[0].interest.minor, 92_000);
        line.add(at_rate("3.6%", holds)).unwrap();
        line.launch(everybody(2, change), date(2024, 7, 31)).unwrap();
        assert_eq!(settlements(&line, &account, before), first);
        assert_eq!(settlements(&line, &account, change), at_change);
        let after = settlements(&line, &account, date(2024, 9, 21));
        assert_eq!(after.settled[0], first.settled[0]);
        // 21 June to 31 July are 41 days, 1 August to 20 September 51, of 1,000,920 yuan.
        let expected = if holds == "day" { 41 * 1001 + 51 * 10_009 } else { 92 * 1001 };
        let found = after.settled[1].interest.minor;
        assert!((found - expected).abs() < 60, "{holds}: {found} {expected}");
        // Who opens now is offered the new version, and has it from his first day.
        let (number, _) = line.on_offer("cangshan", "general", change).unwrap();
        assert_eq!(number, 2);
        let new = settlements(&line, &agreement(change, 2), date(2024, 9, 21));
        assert_eq!(new.settled[0].interest.minor, 51 * 10_000);
    }
}

#[test]
fn a_launch_never_begins_in_the_past() {
    let (today, tomorrow) = (date(2024, 8, 1), date(2024, 8, 2));
    let mut line = ProductLine::new("corporate-current");
    line.add(at_rate("0.36%", "day")).unwrap();
    assert_eq!(line.launch(everybody(2, today), today), Err(LineError::NoVersion(2)));
    line.launch(everybody(1, today), today).unwrap();
    line.add(at_rate("0.3%", "day")).unwrap();
    let past = LineError::Past { from: today, today };
    assert_eq!(line.launch(everybody(2, today), today), Err(past));
    line.launch(everybody(2, tomorrow), today).unwrap();
    let read: ProductLine = serde_json::from_value(serde_json::to_value(&line).unwrap()).unwrap();
    assert_eq!(read, line);
    assert_eq!(line.version(0), Err(LineError::NoVersion(0)));
}

#[test]
fn a_line_stays_of_one_kind_and_without_faults() {
    let mut line = ProductLine::new("corporate-current");
    line.add(at_rate("0.36%", "day")).unwrap();
    assert_eq!(line.add(product(example("mortgage.json"))), Err(LineError::OtherKind));
    let mut dollars = example("corporate-current-tiered.json");
    dollars["currency"] = json!("USD");
    assert_eq!(line.add(product(dollars)), Err(LineError::OtherKind));
    let nameless = with("corporate-current-tiered.json", &[("/name", json!(""))]);
    assert!(matches!(line.add(nameless), Err(LineError::Faulty(faults)) if faults.len() == 1));
}

#[test]
fn versions_are_launched_per_member_and_cohort_rolled_back_and_withdrawn() {
    let day = |number| date(2024, 8, number);
    let mut line = ProductLine::new("corporate-current");
    for rate in ["0.36%", "0.3%"] {
        line.add(at_rate(rate, "day")).unwrap();
    }
    line.launch(everybody(1, day(1)), day(1)).unwrap();
    let only = |names: [&str; 1]| Some(names.map(str::to_owned).into());
    let pilot = Audience { members: only(["cangshan"]), cohorts: only(["pilot"]) };
    line.launch(Launch { version: Some(2), from: day(3), audience: pilot.clone() }, day(2)).unwrap();
    let offered = |line: &ProductLine, member, cohort, number| {
        line.on_offer(member, cohort, day(number)).map(|(version, _)| version)
    };
    assert_eq!(offered(&line, "cangshan", "pilot", 2), Ok(1));
    assert_eq!(offered(&line, "cangshan", "pilot", 3), Ok(2));
    assert_eq!(offered(&line, "cangshan", "general", 3), Ok(1));
    assert_eq!(offered(&line, "erhai", "pilot", 3), Ok(1));
    // Back to the first, then for nobody.
    line.launch(Launch { version: Some(1), from: day(5), audience: pilot }, day(4)).unwrap();
    assert_eq!(offered(&line, "cangshan", "pilot", 5), Ok(1));
    let end = Launch { version: None, from: day(7), audience: Audience::default() };
    line.launch(end, day(6)).unwrap();
    assert_eq!(offered(&line, "cangshan", "pilot", 7), Err(LineError::NotOnOffer(day(7))));
    assert_eq!(offered(&line, "cangshan", "pilot", 1), Ok(1));
    assert_eq!(line.on_offer("x", "y", date(2024, 7, 31)), Err(LineError::NotOnOffer(date(2024, 7, 31))));
    // Accounts live on under the last version that was sold.
    assert!(line.terms(&agreement(day(1), 1), day(9)).is_ok());
}

#[test]
fn terms_hold_by_group_as_the_opening_version_says() {
    let mut first = at_rate("0.36%", "opening");
    first.fees = vec![Fee { event: Event::Month, amount: Amount::Flat { minor: 1000 }, free_per_month: 0 }];
    let mut second = at_rate("0.3%", "day");
    second.fees = Vec::new();
    second.limits.balance_min_minor = Some(100);
    let mut line = ProductLine::new("corporate-current");
    line.add(first.clone()).unwrap();
    line.add(second.clone()).unwrap();
    line.launch(everybody(1, date(2024, 8, 1)), date(2024, 8, 1)).unwrap();
    line.launch(everybody(2, date(2024, 9, 1)), date(2024, 8, 1)).unwrap();
    let account = agreement(date(2024, 8, 1), 1);
    let august = line.terms(&account, date(2024, 8, 31)).unwrap();
    assert_eq!((august.kind, august.fees, august.limits), (&first.kind, &first.fees[..], &first.limits));
    // The second version would follow the day; the first was promised not to.
    let september = line.terms(&account, date(2024, 9, 1)).unwrap();
    assert_eq!((september.kind, september.fees, september.limits), (&first.kind, &[][..], &second.limits));
}

#[test]
fn tiers_of_a_rate_that_waits_for_its_settlement_day_change_the_day_after_one() {
    let tiers = |from: i64| {
        with(
            "personal-current.json",
            &[(
                "/kind/interest/rate",
                json!({"marginal": [{"from_minor": 0, "rate": {"fixed": "0.1%"}},
                {"from_minor": from, "rate": {"fixed": "0.2%"}}]}),
            )],
        )
    };
    let mut line = ProductLine::new("personal-current");
    let opened = date(2024, 3, 21);
    let first = tiers(5_000_000);
    let same_tiers = with(
        "personal-current.json",
        &[(
            "/kind/interest/rate",
            json!({"marginal": [
        {"from_minor": 0, "rate": {"fixed": "0.05%"}}, {"from_minor": 5_000_000, "rate": {"fixed": "0.15%"}}]}),
        )],
    );
    for version in [first, tiers(6_000_000), same_tiers] {
        line.add(version).unwrap();
    }
    line.launch(everybody(1, opened), opened).unwrap();
    let within = date(2024, 5, 1);
    assert_eq!(line.launch(everybody(2, within), opened), Err(LineError::WithinPeriod(within)));
    line.launch(everybody(3, within), opened).unwrap();
    line.launch(everybody(2, date(2024, 6, 21)), opened).unwrap();
    // The quarter is settled at the rates of its settlement day, which the third version announced within it.
    let mut posted = PostedRates::default();
    posted.announce("tax_on_savings", opened, "0%".parse().unwrap()).unwrap();
    let account = agreement(opened, 1);
    let terms = line.interest(&account, date(2024, 9, 21)).unwrap().unwrap();
    let opening = Opening { on: opened, months: None };
    let movements = [Movement { value_date: opened, minor: 36_000_000 }];
    let replayed = replay(&movements, opening, Currency::CNY, date(2024, 9, 21), &terms, &posted).unwrap();
    // 92 days of 50,000 yuan at 0.05 % and 310,000 at 0.15 %: (2500 + 46,500) · 92 / 360.
    assert_eq!(replayed.settled[0].interest.minor, 12_522);
    // 60,000 at 0.1 % and 300,125 whole yuan at 0.2 %: (6000 + 60,025) · 92 / 360.
    assert_eq!(replayed.settled[1].interest.minor, 16_873);
    let loan = product(example("mortgage.json"));
    assert!(matches!(loan.kind, Kind::TermLoan(_)));
}
