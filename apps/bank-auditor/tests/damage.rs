//! Books that were made by hand, with sums that were computed by hand, are clean; whatever is changed in them is found.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use dujiang_bank_auditor::books::{
    Account, Books, ClaimedBalance, ClaimedLine, Closing, DayCount, Deposit, DepositTerms, Entry, Fixing,
    Kind, Loan, Method, Place, PostedRate, Product, RateOf, Remainder, Tier,
};
use dujiang_bank_auditor::{TOLD_MAX, audit};
use dujiang_types::Currency;
use jiff::civil::{Date, date};

const END: Date = date(2003, 6, 20);

fn here() -> Place {
    Place { member: "qingshen".into(), branch: "1".into() }
}

/// 10,000 yuan at 0.72 % less 20 % tax, settled on the 20th of each quarter's last month: 14.40 and 14.42 in the first two.
fn savings() -> Product {
    let terms = DepositTerms {
        tiers: vec![Tier { from_minor: 0, rate: RateOf::Posted("current".into(), "0%".into()) }],
        marginal: false,
        fixing: Fixing::SettlementDay,
        days: DayCount::ThirtyE360,
        settles_in: vec![3, 6, 9, 12],
        settles_on: 20,
        compounds: true,
        whole_units: true,
        remainder: Remainder::Dropped,
        tax: Some(RateOf::Fixed("20%".into())),
    };
    Product::Deposit(Deposit { accrued: "223101".into(), terms })
}

/// 1,000 yuan for a month of 30 days at 12 %: 10 yuan of interest.
fn lent() -> Product {
    Product::Loan(Loan {
        principal_minor: 100_000,
        rate: "12%".into(),
        method: Method::Bullet,
        days: DayCount::Act360,
        every_months: 1,
        periods: 1,
        penalty_factor: "1.5".into(),
        penalty_compounds: true,
        penalty_days: DayCount::Act360,
        grace_days: 0,
        accrued: "113201".into(),
        penalty_accrued: "113202".into(),
        allowance: "130401".into(),
        suspended_after_days: 90,
        class_after_days: [0, 90, 270, 360],
        set_aside: ["1%", "2%", "25%", "50%", "100%"].map(Into::into),
    })
}

struct Maker(Vec<Entry>);

impl Maker {
    fn post(&mut self, kind: Kind, (month, day): (i8, i8), lines: [(Option<&str>, &str, i64); 2]) {
        let year = if month == 12 { 2002 } else { 2003 };
        let posting = format!("p{}", self.0.len());
        for (account, code, credit_minor) in lines {
            self.0.push(Entry {
                number: self.0.len() as u64 + 1,
                posting: posting.clone(),
                kind,
                account: account.map(Into::into),
                place: here(),
                code: code.into(),
                currency: Currency::CNY,
                credit_minor,
                booked_on: date(year, month, day),
                value_on: date(year, month, day),
            });
        }
    }
}

fn account(account: &str, opened: Date, principal: &str, product: Product) -> Account {
    Account {
        account: account.into(),
        place: here(),
        currency: Currency::CNY,
        opened,
        closed: None,
        limit_minor: 0,
        principal: principal.into(),
        product,
    }
}

/// What the bank says, from what is in the books: not what is judged here.
fn claim(books: &mut Books) {
    books.trial.clear();
    let mut codes: Vec<_> = books.entries.iter().map(|entry| entry.code.clone()).collect();
    codes.sort_unstable();
    codes.dedup();
    for code in codes {
        let of_code = books.entries.iter().filter(|entry| entry.code == code && entry.booked_on <= END);
        let minors: Vec<_> = of_code.map(|entry| i128::from(entry.credit_minor)).collect();
        books.trial.push(ClaimedLine {
            place: here(),
            currency: Currency::CNY,
            code,
            debits_minor: -minors.iter().filter(|minor| **minor < 0).sum::<i128>(),
            credits_minor: minors.iter().filter(|minor| **minor > 0).sum(),
        });
    }
}

fn books() -> Books {
    let mut made = Maker(Vec::new());
    let (deposit, loan) = (Some("saver"), Some("loan"));
    made.post(Kind::Other, (12, 21), [(None, "100101", -1_000_000), (deposit, "201101", 1_000_000)]);
    made.post(Kind::Accrual, (3, 20), [(None, "641101", -1_800), (None, "223101", 1_800)]);
    made.post(Kind::Interest, (3, 21), [(deposit, "223101", -1_800), (deposit, "201101", 1_800)]);
    made.post(Kind::Tax, (3, 21), [(deposit, "201101", -360), (deposit, "222101", 360)]);
    made.post(Kind::Other, (6, 10), [(loan, "130301", -100_000), (None, "100101", 100_000)]);
    // Eleven of thirty days of 1,000 fen, a half up.
    made.post(Kind::Accrual, (6, 20), [(None, "113201", -367), (None, "601101", 367)]);
    made.post(Kind::Accrual, (6, 20), [(None, "670101", -1_000), (None, "130401", 1_000)]);
    // 10,014 whole yuan for 90 days: 1,802.52 fen.
    made.post(Kind::Accrual, (6, 20), [(None, "641101", -1_803), (None, "223101", 1_803)]);
    let last_entry = made.0.len() as u64;
    made.post(Kind::Interest, (6, 21), [(deposit, "223101", -1_803), (deposit, "201101", 1_803)]);
    made.post(Kind::Tax, (6, 21), [(deposit, "201101", -361), (deposit, "222101", 361)]);
    let balance = |account: &str, balance_minor| ClaimedBalance { account: account.into(), balance_minor };
    let rate = |from, rate: &str| PostedRate { name: "current".into(), from, rate: rate.into() };
    let mut books = Books {
        closed_through: END,
        accounts: vec![
            account("saver", date(2002, 12, 21), "201101", savings()),
            account("loan", date(2003, 6, 10), "130301", lent()),
        ],
        entries: made.0,
        rates: vec![rate(date(2002, 2, 21), "0.72%"), rate(date(2003, 6, 21), "0.5%")],
        closings: vec![Closing { day: END, last_entry }],
        balances: vec![balance("saver", 1_002_882), balance("loan", -100_000)],
        trial: Vec::new(),
    };
    claim(&mut books);
    books
}

/// What is changed, how, and the rule that must not hold any more.
type Damage = (&'static str, fn(&mut Books), &'static str);

const DAMAGES: &[Damage] = &[
    ("an entry is gone", |b| drop(b.entries.remove(1)), "posting.unbalanced"),
    ("an entry is larger", |b| b.entries[1].credit_minor += 1, "posting.unbalanced"),
    ("an entry is in other books", |b| b.entries[0].place.branch = "2".into(), "posting.unbalanced"),
    ("an entry is in another currency", |b| b.entries[1].currency = "USD".parse().unwrap(), "entry.currency"),
    ("an account's entry is elsewhere", |b| b.entries[1].place.branch = "2".into(), "entry.place"),
    ("an entry of nobody", |b| b.entries[1].account = Some("nobody".into()), "entry.no_account"),
    ("an entry of nothing", |b| b.entries[1].credit_minor = 0, "entry.nothing"),
    ("two entries of one number", |b| b.entries[1].number = 1, "entry.twice"),
    ("a posting over two days", |b| b.entries[1].booked_on = date(2002, 12, 22), "posting.torn"),
    ("an entry before the account", |b| b.accounts[0].opened = date(2002, 12, 22), "entry.not_open"),
    ("an entry in a day that was closed", |b| b.closings[0].last_entry -= 1, "entry.after_closing"),
    ("another balance is claimed", |b| b.balances[0].balance_minor += 1, "balance"),
    ("no balance is claimed", |b| drop(b.balances.remove(1)), "balance.missing"),
    ("a balance of nobody", |b| b.balances[0].account = "nobody".into(), "balance.no_account"),
    ("a limit was broken", |b| b.accounts[0].limit_minor = 1_001_800, "balance.below_limit"),
    ("closed with money on it", |b| b.accounts[0].closed = Some(date(2003, 6, 21)), "balance.closed"),
    ("the trial balance says more", |b| b.trial[0].credits_minor += 1, "trial.credits"),
    ("the trial balance has a line less", |b| drop(b.trial.pop()), "trial.unbalanced"),
    ("customers' money without account", |b| b.entries[1].account = None, "ledger.no_account"),
    ("another rate", |b| b.rates[0].rate = "0.73%".into(), "deposit.interest"),
    ("another rate of tax", |b| terms(b).tax = Some(RateOf::Fixed("19%".into())), "deposit.tax"),
    ("the rate of another day", |b| b.rates[1].from = date(2003, 6, 20), "deposit.settlement"),
    ("no rate", |b| b.rates.clear(), "deposit.rate"),
    ("a rate that is none", |b| b.rates[0].rate = "much".into(), "deposit.rate"),
    ("money counts a day later", |b| b.entries[1].value_on = date(2002, 12, 22), "deposit.interest"),
    ("interest a day later", |b| value_of_interest(b, date(2003, 3, 22)), "deposit.settlement"),
    ("a settlement is missing", |b| b.entries.retain(|e| e.posting != "p16"), "deposit.interest"),
    ("accrued too much", |b| more(b, "p14"), "ledger.agreements"),
    ("too much of a loan is income", |b| more(b, "p10"), "ledger.agreements"),
    ("too little is set aside", |b| b.entries.retain(|e| e.posting != "p12"), "ledger.agreements"),
    ("another loan was agreed", |b| loan(b).rate = "13%".into(), "ledger.agreements"),
    ("a loan of no periods", |b| loan(b).periods = 0, "loan.agreement"),
    ("a loan of too many periods", |b| loan(b).periods = u16::MAX, "loan.agreement"),
    ("a loan is repaid before it is due", |b| b.entries[8..10].iter_mut().for_each(repay), "loan.not_due"),
    ("the same account twice", |b| b.accounts.push(b.accounts[0].clone()), "account.twice"),
];

fn terms(books: &mut Books) -> &mut DepositTerms {
    let Product::Deposit(deposit) = &mut books.accounts[0].product else { unreachable!() };
    &mut deposit.terms
}

fn loan(books: &mut Books) -> &mut Loan {
    let Product::Loan(loan) = &mut books.accounts[1].product else { unreachable!() };
    loan
}

fn value_of_interest(books: &mut Books, day: Date) {
    let interest = books.entries.iter_mut().filter(|entry| entry.kind == Kind::Interest);
    interest.take(2).for_each(|entry| entry.value_on = day);
}

/// Turns a disbursement into a repayment of as much.
fn repay(entry: &mut Entry) {
    (entry.kind, entry.credit_minor) = (Kind::Repayment, -entry.credit_minor);
}

/// A fen more on both sides: the posting is whole, and says something else.
fn more(books: &mut Books, posting: &str) {
    let entries = books.entries.iter_mut().filter(|entry| entry.posting == posting);
    entries.for_each(|entry| entry.credit_minor += entry.credit_minor.signum());
}

#[test]
fn books_that_are_right_are_clean() {
    let report = audit(&books());
    assert!(report.is_clean(), "{:#?}", report.findings);
    let looked_at = report.looked_at;
    assert_eq!((looked_at.entries, looked_at.postings, looked_at.balances), (20, 10, 2));
    assert_eq!((looked_at.deposits, looked_at.settlements, looked_at.loans), (1, 2, 1));
}

#[test]
fn whatever_is_changed_is_found() {
    for (what, damage, rule) in DAMAGES {
        let mut books = books();
        damage(&mut books);
        assert_ne!(books, self::books(), "{what} changes nothing");
        // Who changes the books changes what they are said to come to, unless it is that which is changed.
        if !rule.starts_with("trial") {
            claim(&mut books);
        }
        let report = audit(&books);
        assert!(report.counts.contains_key(*rule), "{what}: {:#?}", report.findings);
    }
}

#[test]
fn a_loan_that_is_late_costs_penalty_and_loses_its_income() {
    // From the due date on principal and interest cost half as much again: 101,000 fen at 18 % are 50.5 fen a day.
    let cases = [
        (date(2003, 7, 10), 0, 1_000, 1_000),
        (date(2003, 7, 11), 101, 1_000, 2_000),
        (date(2003, 10, 8), 4_596, 1_000, 2_000),
        (date(2003, 10, 9), 0, 0, 25_000),
        (date(2004, 7, 5), 0, 0, 100_000),
    ];
    for (day, penalty, interest, set_aside) in cases {
        let mut made = Maker(Vec::new());
        made.post(Kind::Other, (6, 10), [(Some("loan"), "130301", -100_000), (None, "100101", 100_000)]);
        let mut book = |code: &str, result: &str, minor: i64| {
            if minor != 0 {
                made.post(Kind::Accrual, (6, 20), [(None, code, -minor), (None, result, minor)]);
            }
        };
        book("113202", "601102", penalty);
        book("113201", "601101", interest);
        book("670101", "130401", set_aside);
        let mut books = Books {
            closed_through: day,
            accounts: vec![account("loan", date(2003, 6, 10), "130301", lent())],
            entries: made.0,
            rates: Vec::new(),
            closings: Vec::new(),
            balances: vec![ClaimedBalance { account: "loan".into(), balance_minor: -100_000 }],
            trial: Vec::new(),
        };
        claim(&mut books);
        let report = audit(&books);
        assert!(report.is_clean(), "{day}: {:#?}", report.findings);
    }
}

/// Agreements are data: none of them may keep the auditor from ending.
#[test]
fn the_end_of_the_calendar_is_an_end() {
    let mut books = books();
    books.closed_through = Date::MAX;
    books.accounts[0].opened = Date::MAX;
    books.accounts[1].opened = date(9999, 12, 1);
    loan(&mut books).every_months = u16::MAX;
    let report = audit(&books);
    assert!(report.counts.contains_key("loan.agreement"), "{:#?}", report.findings);
    loan(&mut books).every_months = 0;
    assert!(!audit(&books).is_clean());
}

#[test]
fn of_many_findings_a_hundred_are_told_and_all_are_counted() {
    let mut books = books();
    let nobody = Entry { account: Some("nobody".into()), number: 0, ..books.entries[0].clone() };
    books.entries.extend((100..400).map(|number| Entry { number, ..nobody.clone() }));
    let report = audit(&books);
    let told = report.findings.iter().filter(|finding| finding.rule == "entry.no_account").count();
    assert_eq!((told, report.counts["entry.no_account"]), (TOLD_MAX, 300));
}
