//! The chart and the mapping are whole, and whatever events are booked, the trial balance balances.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use dujiang_bank_general_ledger::chart::ChartError;
use dujiang_bank_general_ledger::mapping::MappingError;
use dujiang_bank_general_ledger::trial::TrialError;
use dujiang_bank_general_ledger::{
    Chart, Class, Code, Entry, Event, Mapping, Place, ProductClass, Purpose, Side, TrialBalance,
};
use dujiang_bank_parties::{BranchId, MemberId};
use dujiang_types::{Currency, Money};
use proptest::prelude::*;

const CHART: &str = include_str!("../data/chart.json");
const MAPPING: &str = include_str!("../data/mapping.json");

fn place(member: &str, branch: &str) -> Place {
    Place { member: MemberId::new(member).unwrap(), branch: BranchId::new(branch).unwrap() }
}

fn standard() -> (Chart, Mapping) {
    let chart = Chart::standard().unwrap();
    let mapping = Mapping::standard(&chart).unwrap();
    (chart, mapping)
}

fn yuan(minor: i64) -> Money {
    Money::new(minor, Currency::CNY)
}

fn class(name: &str) -> ProductClass {
    ProductClass::new(name)
}

#[test]
fn the_standard_chart_has_every_class_and_purpose() {
    let (chart, _) = standard();
    for class in [Class::Asset, Class::Liability, Class::Common, Class::Equity, Class::Income, Class::Expense]
    {
        assert!(chart.accounts().any(|account| account.class == class), "{class:?}");
    }
    for purpose in Purpose::ALL {
        assert!(chart.is_bookable(chart.for_purpose(purpose)), "{purpose:?}");
    }
    assert_eq!(chart.get(Code::parse("2011").unwrap()).unwrap().name, "吸收存款");
    assert!(!chart.is_bookable(Code::parse("2011").unwrap()), "nothing is booked under a heading");
}

#[test]
fn charts_that_are_not_whole_are_refused() {
    let changed = |from: &str, to: &str| {
        assert!(CHART.contains(from), "{from}");
        Chart::parse(&CHART.replacen(from, to, 1))
    };
    assert!(matches!(changed("\"100102\"", "\"100101\""), Err(ChartError::Twice(_))));
    assert!(matches!(
        changed("\"code\": \"1003\"", "\"code\": \"1004\""),
        Err(ChartError::NoParent(..) | ChartError::NoChild(_))
    ));
    assert!(matches!(changed("\"100102\"", "\"10010\""), Err(ChartError::Form(_))));
    assert!(matches!(changed("\"100102\"", "\"090102\""), Err(ChartError::Form(_))));
    assert!(matches!(
        changed("\"100102\", \"class\": \"asset\"", "\"100102\", \"class\": \"equity\""),
        Err(ChartError::Class(_))
    ));
    assert!(matches!(
        changed("\"641101\", \"class\": \"expense\"", "\"641101\", \"class\": \"income\""),
        Err(ChartError::Class(_))
    ));
    assert!(matches!(
        changed(
            "\"100102\", \"class\": \"asset\", \"normal\": \"debit\"",
            "\"100102\", \"class\": \"asset\", \"normal\": \"credit\""
        ),
        Err(ChartError::Normal(_))
    ));
    assert!(matches!(changed("业务库现金", " "), Err(ChartError::Name(_))));
    assert!(matches!(changed(", \"purpose\": \"cash\"", ""), Err(ChartError::Purpose(Purpose::Cash))));
    assert!(matches!(
        changed("\"purpose\": \"cash\"", "\"purpose\": \"suspense\""),
        Err(ChartError::Purpose(Purpose::Suspense))
    ));
    assert!(matches!(changed("\"purpose\"", "\"porpuse\""), Err(ChartError::Form(_))));
}

#[test]
fn mappings_that_are_not_whole_are_refused() {
    let (chart, _) = standard();
    let changed = |from: &str, to: &str| {
        assert!(MAPPING.contains(from), "{from}");
        Mapping::parse(&MAPPING.replacen(from, to, 1), &chart)
    };
    assert!(matches!(changed("\"201101\"", "\"2011\""), Err(MappingError::Code(_))));
    assert!(matches!(changed("\"201101\"", "\"201199\""), Err(MappingError::Code(_))));
    assert!(matches!(changed("\"100101\"", "\"100199\""), Err(MappingError::Code(_))));
    assert!(matches!(changed("personal-term", "personal-current"), Err(MappingError::ProductTwice(_))));
    assert!(matches!(
        changed("\"cash-withdrawal\"", "\"cash-deposit\""),
        Err(MappingError::Event(Event::CashDeposit))
    ));
    assert!(matches!(
        changed("\"other-principal\"", "\"principal\""),
        Err(MappingError::SameSides(Event::Transfer))
    ));
    assert!(matches!(changed("\"cash-deposit\"", "\"cash\""), Err(MappingError::Form(_))));
}

#[test]
fn events_are_booked_on_the_sides_that_the_standard_has() {
    let (chart, mapping) = standard();
    let here = place("qingshen", "1");
    let codes = |event, product: &str, other: Option<&str>| {
        let other = other.map(class);
        let entries = mapping.entries(event, &here, &class(product), other.as_ref(), yuan(100)).unwrap();
        assert_eq!(entries.each_ref().map(|entry| entry.side), [Side::Debit, Side::Credit]);
        entries.map(|entry| entry.code.to_string())
    };
    assert_eq!(codes(Event::CashDeposit, "personal-current", None), ["100101", "201101"]);
    assert_eq!(codes(Event::Transfer, "personal-current", Some("company-current")), ["201101", "201103"]);
    assert_eq!(codes(Event::DepositInterestAccrued, "personal-term", None), ["641102", "223102"]);
    assert_eq!(codes(Event::DepositInterestSettled, "personal-current", None), ["223101", "201101"]);
    assert_eq!(codes(Event::LoanDisbursed, "farmer-loan", Some("personal-current")), ["130302", "201101"]);
    assert_eq!(codes(Event::LoanRepaid, "farmer-loan", Some("personal-current")), ["201101", "130302"]);
    assert_eq!(codes(Event::LoanInterestAccrued, "company-loan", None), ["113201", "601101"]);
    assert_eq!(codes(Event::LoanImpaired, "company-loan", None), ["670101", "130401"]);
    assert_eq!(
        codes(Event::UnitTransferSent, "personal-current", None)[1],
        chart.for_purpose(Purpose::InTransit).to_string()
    );
    let entries = |event, product: &str, other: Option<&ProductClass>, minor| {
        mapping.entries(event, &here, &class(product), other, yuan(minor)).unwrap_err()
    };
    assert!(matches!(entries(Event::Transfer, "personal-current", None, 1), MappingError::NoOther(_)));
    assert!(matches!(entries(Event::CashDeposit, "gold", None, 1), MappingError::NoProduct(_)));
    assert!(matches!(entries(Event::CashDeposit, "personal-current", None, 0), MappingError::Amount));
}

#[test]
fn a_branch_deviates_before_its_member_and_only_within_the_class() {
    let (chart, mut mapping) = standard();
    let code = |text| Code::parse(text).unwrap();
    let (cash, vault, reserves) = (code("100101"), code("100102"), code("100302"));
    let (member, branch) = (MemberId::new("qingshen").unwrap(), BranchId::new("1").unwrap());
    mapping.deviate(&chart, member.clone(), None, cash, vault).unwrap();
    mapping.deviate(&chart, member.clone(), Some(branch), cash, reserves).unwrap();
    let debit = |member, branch| {
        let entries = mapping.entries(
            Event::CashDeposit,
            &place(member, branch),
            &class("personal-current"),
            None,
            yuan(1),
        );
        entries.unwrap()[0].code
    };
    assert_eq!(debit("qingshen", "1"), reserves);
    assert_eq!(debit("qingshen", "2"), vault);
    assert_eq!(debit("danling", "1"), cash);
    let mut other = mapping.clone();
    assert!(matches!(
        other.deviate(&chart, member.clone(), None, cash, code("201101")),
        Err(MappingError::Code(_))
    ));
    for (standard, instead) in [("300101", "300201"), ("300201", "300102")] {
        let clears = other.deviate(&chart, member.clone(), None, code(standard), code(instead));
        assert!(matches!(clears, Err(MappingError::Code(_))), "{standard} {instead}");
    }
    assert!(matches!(other.deviate(&chart, member, None, cash, code("1001")), Err(MappingError::Code(_))));
}

#[test]
fn books_that_do_not_balance_are_named() {
    let (chart, mapping) = standard();
    let here = place("qingshen", "1");
    let mut entries = mapping
        .entries(Event::CashDeposit, &here, &class("personal-current"), None, yuan(100))
        .unwrap()
        .to_vec();
    assert!(TrialBalance::of(&chart, &entries).unwrap().imbalances().is_empty());
    let good = entries.clone();
    // The same sums, but in the books of two branches.
    entries[1].place = place("qingshen", "2");
    let off: Vec<_> =
        TrialBalance::of(&chart, &entries).unwrap().imbalances().iter().map(|i| i.off_minor).collect();
    assert_eq!(off, [100, -100]);
    // Or in two currencies.
    entries = good.clone();
    entries[1].amount = Money::new(100, "USD".parse().unwrap());
    assert_eq!(TrialBalance::of(&chart, &entries).unwrap().imbalances().len(), 2);
    entries = good.clone();
    entries[1].code = Code::parse("2011").unwrap();
    assert!(matches!(TrialBalance::of(&chart, &entries), Err(TrialError::Code { .. })));
    entries = good.clone();
    entries[1].amount = yuan(0);
    assert!(matches!(TrialBalance::of(&chart, &entries), Err(TrialError::Amount { .. })));
    let drawn =
        mapping.entries(Event::CashWithdrawal, &here, &class("personal-current"), None, yuan(30)).unwrap();
    let unusual = TrialBalance::of(&chart, &drawn).unwrap().unusual(&chart);
    let told: Vec<_> = unusual.iter().map(|u| (u.code.to_string(), u.balance_minor)).collect();
    assert_eq!(told, [("100101".to_owned(), -30), ("201101".to_owned(), 30)]);
}

#[test]
fn what_is_between_branches_and_units_is_open_until_it_arrives() {
    let (chart, mapping) = standard();
    let book = |event, branch, minor| {
        mapping
            .entries(event, &place("qingshen", branch), &class("personal-current"), None, yuan(minor))
            .unwrap()
    };
    let mut entries = book(Event::BranchTransferSent, "1", 70).to_vec();
    let open = |entries: &[Entry]| {
        let trial = TrialBalance::of(&chart, entries).unwrap();
        trial.open_between_branches(&chart).into_values().collect::<Vec<_>>()
    };
    assert_eq!(open(&entries), [-70]);
    entries.extend(book(Event::BranchTransferReceived, "2", 70));
    assert_eq!(open(&entries), [0]);
    entries.extend(book(Event::UnitTransferSent, "1", 5));
    let trial = TrialBalance::of(&chart, &entries).unwrap();
    assert_eq!(trial.open_over_all(&chart, Purpose::InTransit), BTreeMap::from([(Currency::CNY, -5)]));
    assert!(trial.imbalances().is_empty());
}

prop_compose! {
    fn booked()(
        event in prop::sample::select(Event::ALL.to_vec()),
        member in prop::sample::select(vec!["qingshen", "danling"]),
        branch in prop::sample::select(vec!["1", "2", "3"]),
        code in prop::sample::select(vec!["CNY", "USD", "JPY"]),
        minor in prop_oneof![1..1_000_000_i64, Just(i64::MAX)],
    ) -> (Event, Place, Money) {
        (event, place(member, branch), Money::new(minor, code.parse().unwrap()))
    }
}

proptest! {
    #[test]
    fn whatever_is_booked_balances_everywhere(events in prop::collection::vec(booked(), 0..60), cut in 0..60_usize) {
        let (chart, mapping) = standard();
        let (deposit, loan) = (class("personal-current"), class("farmer-loan"));
        let entries: Vec<_> = events
            .iter()
            .flat_map(|(event, place, amount)| mapping.entries(*event, place, &loan, Some(&deposit), *amount).unwrap())
            .collect();
        let trial = TrialBalance::of(&chart, &entries).unwrap();
        prop_assert!(trial.imbalances().is_empty());
        // Classes of a member come to nothing together, headings have what is below them.
        let mut sums: BTreeMap<_, i128> = BTreeMap::new();
        for ((member, currency, _), balance) in trial.classes(&chart) {
            *sums.entry((member, currency)).or_default() += balance;
        }
        prop_assert!(sums.values().all(|sum| *sum == 0));
        let all = |turnovers: &mut dyn Iterator<Item = i128>| turnovers.sum::<i128>();
        prop_assert_eq!(
            all(&mut trial.lines().map(|line| line.3.debits)),
            all(&mut trial.headings().values().map(|turnover| turnover.debits))
        );
        // One line less, and it shows in just those books.
        if let Some(cut) = (!entries.is_empty()).then(|| cut % entries.len()) {
            let mut less = entries.clone();
            let gone = less.remove(cut);
            let off = TrialBalance::of(&chart, &less).unwrap().imbalances();
            prop_assert_eq!(off.len(), 1);
            prop_assert_eq!((&off[0].place, off[0].currency), (&gone.place, gone.amount.currency));
        }
        // Units are added up as if they were one.
        let (one, other) = entries.split_at(cut.min(entries.len()));
        let mut merged = TrialBalance::of(&chart, one).unwrap();
        merged.merge(&TrialBalance::of(&chart, other).unwrap());
        prop_assert_eq!(merged, trial);
    }
}
