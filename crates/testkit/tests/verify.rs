//! The checker must be able to fail: every kind of violation, planted in real databases, is found.

#![expect(clippy::unwrap_used, reason = "what a test stands on may panic")]

mod scratch;

use std::collections::BTreeSet;

use dujiang_routing::AccountNumber;
use dujiang_testkit::journal::{Ended, Journal, Line, Outcome, Receipt, Sent};
use dujiang_testkit::request::Request;
use dujiang_testkit::verify::{Options, Report, Rule, Server, UnitSource, verify};
use dujiang_types::{Code, Currency, DcId, Money, Slot, UnitId};
use jiff::Timestamp;
use scratch::Scratch;
use tokio_postgres::Client;

/// The bank's tables, without the constraints that would keep a test from planting what must not be.
const TABLES: &str = "
    CREATE SCHEMA dujiang;
    CREATE TABLE dujiang.fence (unit text, epoch bigint);
    INSERT INTO dujiang.fence VALUES ('u', 1);
    CREATE TABLE customers (customer text, name text);
    CREATE TABLE accounts (account text, customer text, currency text, limit_minor bigint, balance_minor bigint);
    CREATE TABLE postings (posting uuid, kind text, state text, account text, to_account text, amount_minor bigint,
        currency text, text text, idempotency_key text, peer_posting uuid, reverses uuid, reason text);
    CREATE TABLE entries (entry bigserial, posting uuid, account text, amount_minor bigint, currency text,
        balance_after bigint);
    CREATE TABLE dujiang_outbox (message uuid, state text);";

/// Slots below this belong to the first unit.
const BORDER: u16 = 8_192;

fn account(slot: u16, serial: u64) -> String {
    AccountNumber::new(Slot::new(slot).unwrap(), serial).unwrap().to_string()
}

fn uuid(number: u32) -> String {
    format!("00000000-0000-7000-8000-{number:012}")
}

fn unit(number: u8) -> UnitId {
    UnitId::new(format!("unit-{number}")).unwrap()
}

fn cny(minor: i64) -> Money {
    Money::new(minor, Currency::CNY)
}

fn server(scratch: &Scratch, dc: &str, database: &str) -> Server {
    let dc = DcId::new(dc).unwrap();
    Server { dc, config: scratch.config(database), identity: scratch.identity() }
}

/// Two units with a bit of everything, and the journal that led to it.
struct World {
    scratch: Scratch,
    a: String,
    b: String,
    far: String,
}

impl World {
    async fn new() -> Self {
        let world = Self {
            scratch: Scratch::start().await,
            a: account(1, 1),
            b: account(2, 2),
            far: account(BORDER, 1),
        };
        let (a, b, far) = (&world.a, &world.b, &world.far);
        let operator = world.scratch.connect("postgres").await;
        for (name, content) in [("clean1", world.first_unit(a, b, far)), ("clean2", second_unit(a, far))] {
            operator.execute(&format!("CREATE DATABASE {name}"), &[]).await.unwrap();
            let client = world.scratch.connect(name).await;
            client.batch_execute(&format!("{TABLES}{content}")).await.unwrap();
        }
        world
    }

    fn first_unit(&self, a: &str, b: &str, far: &str) -> String {
        let _ = self;
        let (deposit, transfer, out, back, gone, returned) =
            (uuid(1), uuid(2), uuid(3), uuid(4), uuid(5), uuid(6));
        format!(
            "INSERT INTO customers VALUES ('c1'), ('c2');
             INSERT INTO accounts VALUES ('{a}', 'c1', 'CNY', 0, 800), ('{b}', 'c2', 'CNY', -50, 0);
             INSERT INTO postings VALUES
               ('{deposit}', 'deposit', 'completed', '{a}', NULL, 1000, 'CNY', '', 'k-deposit', NULL, NULL),
               ('{transfer}', 'transfer', 'reversed', '{a}', '{b}', 100, 'CNY', '', 'k-transfer', NULL, NULL),
               ('{out}', 'transfer_out', 'completed', '{a}', '{far}', 200, 'CNY', '', 'k-out', NULL, NULL),
               ('{back}', 'reversal', 'completed', '{b}', NULL, 100, 'CNY', '', 'k-reversal', NULL, '{transfer}'),
               ('{gone}', 'transfer_out', 'reversed', '{a}', '{far}', 50, 'CNY', '', 'k-gone', NULL, NULL),
               ('{returned}', 'transit_return', 'completed', '{a}', NULL, 50, 'CNY', '', NULL, NULL, '{gone}');
             INSERT INTO entries (posting, account, amount_minor, currency, balance_after) VALUES
               ('{deposit}', 'cash', -1000, 'CNY', NULL), ('{deposit}', '{a}', 1000, 'CNY', 1000),
               ('{transfer}', '{a}', -100, 'CNY', 900), ('{transfer}', '{b}', 100, 'CNY', 100),
               ('{out}', '{a}', -200, 'CNY', 700), ('{out}', 'in_transit', 200, 'CNY', NULL),
               ('{back}', '{a}', 100, 'CNY', 800), ('{back}', '{b}', -100, 'CNY', 0),
               ('{gone}', '{a}', -50, 'CNY', 750), ('{gone}', 'in_transit', 50, 'CNY', NULL),
               ('{returned}', 'in_transit', -50, 'CNY', NULL), ('{returned}', '{a}', 50, 'CNY', 800);
             INSERT INTO dujiang_outbox VALUES ('{out}', 'done'), ('{gone}', 'done');"
        )
    }

    /// Copies the clean books, plants something with `sql` in the given unit, and checks.
    async fn check(&self, name: &str, plant: Option<(u8, &str)>, journal: &Journal) -> Report {
        let operator = self.scratch.connect("postgres").await;
        let mut sources = Vec::new();
        for number in [1, 2] {
            let database = format!("{name}{number}");
            copy(&operator, number, &database).await;
            if let Some((_, sql)) = plant.filter(|(planted, _)| *planted == number) {
                let sql = sql.replace("{a}", &self.a).replace("{b}", &self.b).replace("{far}", &self.far);
                let client = self.scratch.connect(&database).await;
                client.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{name}: {e:?}"));
            }
            let slots = if number == 1 { "0-8191" } else { "8192-16383" };
            let server = server(&self.scratch, "dc", &database);
            let (unit, slots) = (unit(number), vec![slots.parse().unwrap()]);
            sources.push(UnitSource { unit, slots, servers: vec![server], lost: BTreeSet::new() });
        }
        let options = Options { whole_life: true, settle: std::time::Duration::ZERO };
        verify(&sources, Some(journal), options, |_| {}).await.unwrap()
    }

    fn journal(&self) -> Journal {
        let transfer =
            |to: &str, minor| Request::Transfer { from: self.a.clone(), to: to.into(), amount: cny(minor) };
        let open = |account: &str, limit_minor, customer: &str| {
            let request =
                Request::OpenAccount { customer: customer.into(), currency: Currency::CNY, limit_minor };
            (request, Outcome::Acknowledged(Receipt { account: Some(account.into()), ..Receipt::default() }))
        };
        let customer = |customer: &str| {
            let request = Request::OpenCustomer { customer: customer.into(), name: "N".into() };
            (request, Outcome::Acknowledged(Receipt::default()))
        };
        let posted =
            |number| Outcome::Acknowledged(Receipt { posting: Some(uuid(number)), ..Receipt::default() });
        let unknown = Outcome::Unknown { why: "reset".into() };
        let refused = Outcome::Refused { code: Code::InsufficientFunds };
        let deposit = Request::Deposit { account: self.a.clone(), amount: cny(1000) };
        let reversal = Request::Reversal { account: self.b.clone(), posting: uuid(2) };
        let mut journal = Journal::default();
        let mut add = |key: &str, unit_number, (request, outcome): (Request, Outcome)| {
            let (key, unit) = (key.to_owned(), unit(unit_number));
            let at = Timestamp::UNIX_EPOCH;
            journal.add(Line::Sent(Sent {
                key: key.clone(),
                attempt: 1,
                request,
                unit: unit.clone(),
                at,
                at_us: 0,
            }));
            let (gateway, passed_over) = (None, vec![]);
            let ended =
                Ended { key, attempt: 1, gateway, passed_over, unit, at, sent_us: 0, at_us: 0, outcome };
            journal.add(Line::Ended(ended));
        };
        add("k-c1", 1, customer("c1"));
        add("k-c2", 1, customer("c2"));
        add("k-c3", 2, customer("c3"));
        add("k-a", 1, open(&self.a, 0, "c1"));
        add("k-b", 1, open(&self.b, -50, "c2"));
        add("k-far", 2, open(&self.far, 0, "c3"));
        add("k-deposit", 1, (deposit, posted(1)));
        add("k-transfer", 1, (transfer(&self.b, 100), posted(2)));
        add("k-out", 1, (transfer(&self.far, 200), posted(3)));
        add("k-reversal", 1, (reversal, unknown.clone()));
        add("k-gone", 1, (transfer(&self.far, 50), posted(5)));
        add("k-refused", 1, (transfer(&self.b, 999_999), refused));
        add("k-unknown", 1, (transfer(&self.b, 7), unknown));
        journal
    }
}

fn second_unit(_payer: &str, far: &str) -> String {
    let (arrived, out) = (uuid(101), uuid(3));
    format!(
        "INSERT INTO customers VALUES ('c3');
         INSERT INTO accounts VALUES ('{far}', 'c3', 'CNY', 0, 200);
         INSERT INTO postings VALUES
           ('{arrived}', 'transfer_in', 'completed', '{far}', NULL, 200, 'CNY', '', NULL, '{out}');
         INSERT INTO entries (posting, account, amount_minor, currency, balance_after) VALUES
           ('{arrived}', 'in_transit', -200, 'CNY', NULL), ('{arrived}', '{far}', 200, 'CNY', 200);"
    )
}

async fn copy(operator: &Client, number: u8, database: &str) {
    // The template must have no connection left; one just closed may take a moment to go.
    let query = format!("CREATE DATABASE {database} TEMPLATE clean{number}");
    for _ in 0..100 {
        if operator.execute(&query, &[]).await.is_ok() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    operator.execute(&query, &[]).await.unwrap();
}

/// A posting of the load, written as the bank would: the key in the journal, or another one.
const TRANSFER_AGAIN: &str = "
    INSERT INTO postings VALUES ('00000000-0000-7000-8000-000000000099', 'transfer', 'completed', '{a}', '{b}', MINOR,
        'CNY', '', KEY);
    INSERT INTO entries (posting, account, amount_minor, currency, balance_after) VALUES
        ('00000000-0000-7000-8000-000000000099', '{a}', -MINOR, 'CNY', 800 - MINOR),
        ('00000000-0000-7000-8000-000000000099', '{b}', MINOR, 'CNY', MINOR);
    UPDATE accounts SET balance_minor = balance_minor - MINOR WHERE account = '{a}';
    UPDATE accounts SET balance_minor = balance_minor + MINOR WHERE account = '{b}';";

fn transfer_again(minor: i64, key: &str) -> String {
    TRANSFER_AGAIN.replace("MINOR", &minor.to_string()).replace("KEY", &format!("'{key}'"))
}

/// What is planted: a name, the unit, SQL, and the rules that must be found broken, all of them and no others.
fn planted() -> Vec<(&'static str, u8, String, Vec<Rule>)> {
    let set = |table: &str, what: &str, which: &str| format!("UPDATE {table} SET {what} WHERE {which}");
    let posting = |number, what: &str| set("postings", what, &format!("posting = '{}'", uuid(number)));
    let drop_posting = |number| {
        let id = uuid(number);
        format!("DELETE FROM entries WHERE posting = '{id}'; DELETE FROM postings WHERE posting = '{id}';")
    };
    vec![
        // Lost with all its traces, as by a promotion of a replica that was behind.
        (
            "lost",
            1,
            format!("{} UPDATE accounts SET balance_minor = balance_minor - 1000 WHERE account = '{{a}}';
                UPDATE entries SET balance_after = balance_after - 1000 WHERE account = '{{a}}'", drop_posting(1)),
            vec![Rule::AcknowledgedMissing, Rule::BelowLimit],
        ),
        ("doubled", 1, transfer_again(5, "k-deposit"), vec![Rule::Altered, Rule::Doubled]),
        ("refused", 1, transfer_again(5, "k-refused"), vec![Rule::Altered, Rule::RefusedPresent]),
        ("invented", 1, transfer_again(5, "from-nowhere"), vec![Rule::NotInJournal]),
        ("customer", 2, "INSERT INTO customers VALUES ('stranger')".into(), vec![Rule::NotInJournal]),
        (
            "account",
            1,
            format!("INSERT INTO accounts VALUES ('{}', 'c1', 'CNY', 0, 0)", account(3, 9)),
            vec![Rule::NotInJournal],
        ),
        ("closed", 2, "DELETE FROM customers".into(), vec![Rule::AcknowledgedMissing, Rule::Misplaced]),
        ("limit", 1, set("accounts", "limit_minor = 1", "account = '{b}'"), vec![Rule::Altered, Rule::BelowLimit]),
        (
            "moved",
            1,
            format!("UPDATE accounts SET account = '{0}' WHERE account = '{{b}}';
                UPDATE entries SET account = '{0}' WHERE account = '{{b}}';
                UPDATE postings SET to_account = '{0}' WHERE to_account = '{{b}}'", account(BORDER, 5)),
            vec![Rule::AcknowledgedMissing, Rule::Altered, Rule::Misplaced],
        ),
        ("balance", 1, set("accounts", "balance_minor = 799", "account = '{a}'"),
            vec![Rule::BalanceWrong, Rule::MoneyNotConserved]),
        ("history", 1, set("entries", "balance_after = 0", "balance_after = 900"), vec![Rule::BalanceWrong]),
        (
            "cash",
            1,
            set("entries", "amount_minor = -1001", "account = 'cash'"),
            vec![Rule::PostingUnbalanced, Rule::PostingMalformed, Rule::MoneyNotConserved],
        ),
        ("amount", 1, posting(1, "amount_minor = 999"), vec![Rule::Altered, Rule::PostingMalformed]),
        ("payee", 1, posting(3, "to_account = '{b}'"), vec![Rule::Altered, Rule::PairBroken]),
        ("kind", 1, posting(2, "kind = 'gift'"), vec![Rule::Altered, Rule::PostingMalformed]),
        ("currency", 1, set("entries", "currency = 'JPY'", "account = '{b}'"),
            vec![Rule::PostingUnbalanced, Rule::PostingMalformed, Rule::EntryStray]),
        ("stray", 1, format!("DELETE FROM postings WHERE posting = '{}'", uuid(1)),
            vec![Rule::AcknowledgedMissing, Rule::EntryStray]),
        ("unreversed", 1, posting(2, "state = 'completed'"), vec![Rule::ReversalWrong]),
        ("reversed", 1, posting(4, &format!("reverses = '{}'", uuid(77))),
            vec![Rule::Altered, Rule::PostingMalformed, Rule::ReversalWrong]),
        ("pending", 1, format!("{}; UPDATE dujiang_outbox SET state = 'pending' WHERE message = '{}'",
            posting(3, "state = 'in_transit'"), uuid(3)), vec![Rule::NotSettled]),
        ("message", 1, "DELETE FROM dujiang_outbox".into(), vec![Rule::PairBroken]),
        // Debited and never credited.
        (
            "vanished",
            2,
            format!("{} UPDATE accounts SET balance_minor = 0", drop_posting(101)),
            vec![Rule::PairBroken],
        ),
        // Credited twice.
        (
            "twice",
            2,
            format!("INSERT INTO postings VALUES ('{0}', 'transfer_in', 'completed', '{{far}}', NULL, 200, 'CNY', '',
                  NULL, '{1}');
                INSERT INTO entries (posting, account, amount_minor, currency, balance_after) VALUES
                  ('{0}', 'in_transit', -200, 'CNY', NULL), ('{0}', '{{far}}', 200, 'CNY', 400);
                UPDATE accounts SET balance_minor = 400", uuid(102), uuid(3)),
            vec![Rule::InTransitWrong, Rule::PairBroken],
        ),
        ("orphan", 2, posting(101, &format!("peer_posting = '{}'", uuid(88))),
            vec![Rule::InTransitWrong, Rule::PairBroken, Rule::Invented]),
        ("shrunk", 2, "UPDATE postings SET amount_minor = 150; UPDATE accounts SET balance_minor = 150;
            UPDATE entries SET amount_minor = sign(amount_minor) * 150;
            UPDATE entries SET balance_after = 150 WHERE balance_after = 200".into(),
            vec![Rule::InTransitWrong, Rule::PairBroken]),
    ]
}

#[tokio::test]
async fn every_planted_violation_is_found_and_clean_books_are_clean() {
    let world = World::new().await;
    let journal = world.journal();
    let clean = world.check("ok", None, &journal).await;
    assert!(clean.is_clean(), "{:#?}", clean.violations);
    let counted = clean.journal.unwrap();
    assert_eq!((counted.operations, counted.acknowledged, counted.refused), (7, 4, 1));
    assert_eq!((counted.unknown_done, counted.unknown_not_done, counted.returned), (1, 1, 1));

    for (name, unit, sql, mut wanted) in planted() {
        let report = world.check(name, Some((unit, &sql)), &journal).await;
        let mut found: Vec<_> = report.violations.iter().map(|violation| violation.rule).collect();
        found.sort_unstable();
        found.dedup();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "{name}: {:#?}", report.violations);
    }
}

#[tokio::test]
async fn an_unknown_operation_may_be_done_once_but_not_twice() {
    let world = World::new().await;
    let journal = world.journal();
    let once = transfer_again(7, "k-unknown");
    let report = world.check("once", Some((1, &once)), &journal).await;
    assert!(report.is_clean(), "{:#?}", report.violations);
    assert_eq!(report.journal.unwrap().unknown_done, 2);

    let twice = format!("{once} {}", once.replace("0000000099", "0000000098"));
    let report = world.check("twice", Some((1, &twice)), &journal).await;
    assert!(report.violations.iter().any(|violation| violation.rule == Rule::Doubled));
}

#[tokio::test]
async fn a_unit_without_a_primary_is_not_called_clean() {
    let scratch = Scratch::start().await;
    let server = server(&scratch, "dc", "nothing_here");
    let sources = [UnitSource { unit: unit(1), slots: vec![], servers: vec![server], lost: BTreeSet::new() }];
    let options = Options { whole_life: false, settle: std::time::Duration::ZERO };
    let error = verify(&sources, None, options, |_| {}).await.unwrap_err();
    assert!(error.to_string().starts_with("unit-1 has no primary"), "{error}");
}

#[tokio::test]
async fn a_second_database_that_takes_writes_is_found() {
    let world = World::new().await;
    let operator = world.scratch.connect("postgres").await;
    let mut servers = Vec::new();
    for (dc, epoch) in [("old", 1), ("new", 2)] {
        copy(&operator, 2, dc).await;
        let client = world.scratch.connect(dc).await;
        client.execute("UPDATE dujiang.fence SET epoch = $1", &[&i64::from(epoch)]).await.unwrap();
        servers.push(server(&world.scratch, dc, dc));
    }
    let sources = [UnitSource {
        unit: unit(2),
        slots: vec!["8192-16383".parse().unwrap()],
        servers,
        lost: BTreeSet::new(),
    }];
    let options = Options { whole_life: false, settle: std::time::Duration::ZERO };
    let report = verify(&sources, None, options, |_| {}).await.unwrap();
    assert_eq!(report.units[&unit(2)].epoch, 2);
    let doubled: Vec<_> = report.violations.iter().filter(|v| v.rule == Rule::TwoPrimaries).collect();
    assert!(doubled.len() == 1 && doubled[0].what.contains("old"), "{doubled:?}");
}

#[tokio::test]
async fn a_unit_that_was_never_used_has_no_books_yet() {
    let world = World::new().await;
    let operator = world.scratch.connect("postgres").await;
    copy(&operator, 2, "unused").await;
    let client = world.scratch.connect("unused").await;
    let check = async || {
        let slots = vec!["8192-16383".parse().unwrap()];
        let servers = vec![server(&world.scratch, "dc", "unused")];
        let sources = [UnitSource { unit: unit(2), slots, servers, lost: BTreeSet::new() }];
        let options = Options { whole_life: false, settle: std::time::Duration::ZERO };
        verify(&sources, None, options, |_| {}).await
    };
    client.batch_execute("DROP TABLE dujiang_outbox").await.unwrap();
    assert!(check().await.is_err(), "half of the books are no books");
    client.batch_execute("DROP TABLE customers, accounts, postings, entries").await.unwrap();
    let report = check().await.unwrap();
    assert!(report.is_clean() && !report.units[&unit(2)].made, "{report:?}");
}
