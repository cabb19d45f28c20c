//! A unit's database as far as end of day sees it: rows, entries, the day's record; transactions that are whole or not.

use std::collections::{BTreeMap, BTreeSet};

use dujiang_bank_auditor::books::Kind;
use dujiang_bank_end_of_day::day::Reached;
use dujiang_bank_end_of_day::deposits::{self, DepositRow, DepositSlice, DepositState, History, accrue};
use dujiang_bank_end_of_day::journal::End;
use dujiang_bank_end_of_day::loans::{LoanRow, LoanState, RiskTables, close_day};
use dujiang_bank_end_of_day::{Books, DayError, Line, Phase, Posting, PostingKind, SliceId, Step, UnitDay};
use dujiang_bank_general_ledger::{Chart, Code, Entry, Event, Mapping, Place, Purpose, Side, TrialBalance};
use dujiang_bank_rules::loan::schedule::schedule;
use dujiang_bank_rules::replay::Movement;
use dujiang_bank_rules::{Dated, InterestTerms, Opening, PostedRates};
use dujiang_routing::AccountNumber;
use dujiang_types::{Currency, Money};
use jiff::ToSpan;
use jiff::civil::Date;

use crate::Random;
use crate::scenario::{Booking, Scenario};

/// Something that is done wrong, to see whether it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    /// A slice's cursor is stored without what it wrote.
    Torn,
    /// A slice is written although somebody else has done it.
    StaleWritten,
    /// Balances are read as they are now, and not as they were at the end of the day.
    LiveBalances,
    /// Entries that count from earlier days do not lead to a recomputation.
    HistoryForgotten,
    /// Bookings after the cut-off belong to the day that is being closed.
    CutOffIgnored,
}

impl Defect {
    pub(crate) const ALL: [Self; 5] =
        [Self::Torn, Self::StaleWritten, Self::LiveBalances, Self::HistoryForgotten, Self::CutOffIgnored];
}

pub(crate) struct Deposit {
    pub(crate) end: End,
    pub(crate) opened: Date,
    pub(crate) closed: Option<Date>,
    /// How often its state was written.
    version: usize,
    pub(crate) product: usize,
    paid_to: Option<End>,
    state: Option<DepositState>,
}

pub(crate) struct Loan {
    pub(crate) row: LoanRow,
    pub(crate) drawn: Date,
    pub(crate) minor: i64,
}

pub(crate) struct Written {
    pub(crate) number: u64,
    pub(crate) posting: String,
    pub(crate) kind: Kind,
    pub(crate) line: Line,
    pub(crate) booked_on: Date,
    pub(crate) value_on: Date,
}

/// What a worker has computed and not yet written.
enum Computed {
    Deposits { states: Vec<(AccountNumber, DepositState)>, read: Vec<(AccountNumber, usize)> },
    Loans { states: Vec<(AccountNumber, LoanState)>, read: Vec<(AccountNumber, usize)> },
}

struct Work {
    slice: SliceId,
    reached: Reached,
    postings: Vec<Posting>,
    computed: Computed,
}

pub(crate) struct World {
    pub(crate) chart: Chart,
    pub(crate) mapping: Mapping,
    pub(crate) posted: PostedRates,
    pub(crate) products: Vec<InterestTerms>,
    pub(crate) deposits: BTreeMap<AccountNumber, Deposit>,
    pub(crate) loans: BTreeMap<AccountNumber, Loan>,
    pub(crate) entries: Vec<Written>,
    pub(crate) closings: Vec<(Date, u64)>,
    of_account: BTreeMap<AccountNumber, Vec<usize>>,
    of_day: BTreeMap<Date, Vec<usize>>,
    /// Of all days that are closed.
    closed: TrialBalance,
    keys: BTreeSet<String>,
    day: UnitDay,
    defect: Option<Defect>,
    bookings: u64,
    /// Slices that came too late, and slices that were lost in a crash.
    pub(crate) stale: u64,
    pub(crate) lost: u64,
}

impl World {
    pub(crate) fn new(scenario: &Scenario, defect: Option<Defect>) -> Self {
        let chart = Chart::standard().unwrap();
        let mapping = Mapping::standard(&chart).unwrap();
        Self {
            chart,
            mapping,
            posted: scenario.posted.clone(),
            products: scenario.products.clone(),
            deposits: BTreeMap::new(),
            loans: BTreeMap::new(),
            entries: Vec::new(),
            closings: Vec::new(),
            of_account: BTreeMap::new(),
            of_day: BTreeMap::new(),
            closed: TrialBalance::default(),
            keys: BTreeSet::new(),
            day: UnitDay::begin(scenario.begins),
            defect,
            bookings: 0,
            stale: 0,
            lost: 0,
        }
    }

    pub(crate) fn book_all(&mut self, bookings: &[Booking]) {
        for booking in bookings {
            self.book(booking);
        }
    }

    /// A customer's booking: it belongs to the day that is open.
    fn book(&mut self, booking: &Booking) {
        let open = self.day.open();
        let ignored = self.defect == Some(Defect::CutOffIgnored);
        let day = self.day.closing().filter(|_| ignored).unwrap_or(open);
        match booking {
            Booking::Open { end, product, paid_to } => {
                let deposit = Deposit {
                    end: end.clone(),
                    opened: day,
                    closed: None,
                    version: 0,
                    product: *product,
                    paid_to: paid_to.clone(),
                    state: None,
                };
                self.deposits.insert(end.account, deposit);
            }
            Booking::Cash { account, minor, value_days } => {
                let Some(deposit) = self.living(*account) else { return };
                let event = if *minor > 0 { Event::CashDeposit } else { Event::CashWithdrawal };
                let entries = self.event(event, &deposit.end, None, minor.abs());
                let own = usize::from(*minor > 0);
                let mut lines = entries.map(|entry| Line { account: None, entry });
                lines[own].account = Some(*account);
                let value_on = day.checked_add(value_days.days()).unwrap().max(deposit.opened);
                self.customers(lines.to_vec(), day, value_on);
            }
            Booking::Transfer { from, to, minor } => {
                let (Some(one), Some(other)) = (self.living(*from), self.living(*to)) else { return };
                if from != to {
                    let [debit, _] = self.event(Event::Transfer, &one.end, Some(&other.end), *minor);
                    let [_, credit] = self.event(Event::Transfer, &one.end, Some(&other.end), *minor);
                    let lines = self.between((&one.end, debit), (&other.end, credit));
                    self.customers(lines, day, day);
                }
            }
            Booking::Close { account } => self.close_account(*account, day),
            Booking::Lend { end, agreement, minor, into } => {
                let source = self.deposits[into].end.clone();
                let principal = Money::new(*minor, Currency::CNY);
                let rows = schedule(&agreement.terms, principal, day, None).unwrap();
                let [debit, credit] = self.event(Event::LoanDisbursed, end, Some(&source), *minor);
                let lines = self.between((end, debit), (&source, credit));
                let row = LoanRow {
                    end: end.clone(),
                    currency: Currency::CNY,
                    agreement: agreement.clone(),
                    repaid_from: Some(source),
                    state: LoanState::drawn(day, &rows),
                };
                self.loans.insert(end.account, Loan { row, drawn: day, minor: *minor });
                self.customers(lines, day, day);
            }
        }
    }

    fn living(&self, account: AccountNumber) -> Option<&Deposit> {
        self.deposits.get(&account).filter(|deposit| deposit.closed.is_none())
    }

    /// Closes an account on the open day, wherever the end of the day before stands.
    fn close_account(&mut self, account: AccountNumber, on: Date) {
        let Some(deposit) = self.living(account) else { return };
        let end = deposit.end.clone();
        let principal = self.principal(&end);
        if deposit.opened >= on || self.own(account, principal).any(|booked| booked.value_on > on) {
            return;
        }
        // If the day before is still being closed, the account has it now; its turn will find that done.
        let before = on.yesterday().unwrap();
        let books = Books { chart: &self.chart, mapping: &self.mapping };
        let due = accrue(before, &[self.row(deposit, before)], &self.posted, books).unwrap();
        self.keep(due);
        let books = Books { chart: &self.chart, mapping: &self.mapping };
        let mut row = self.row(&self.deposits[&account], on);
        // The closing day does not earn: what counts is what had come by the day before.
        row.balance_minor = self.balance(&end, |booked| booked.booked_on <= on && booked.value_on < on);
        let closed = deposits::close(on, &row, &self.posted, books).unwrap();
        self.keep(closed);
        let left = self.balance_now(&end);
        if left != 0 {
            let event = if left > 0 { Event::CashWithdrawal } else { Event::CashDeposit };
            let entries = self.event(event, &end, None, left.abs());
            let mut lines = entries.map(|entry| Line { account: None, entry });
            lines[usize::from(left < 0)].account = Some(account);
            self.customers(lines.to_vec(), on, on);
        }
        self.deposits.get_mut(&account).unwrap().closed = Some(on);
    }

    /// Stores what deposits came to: states and postings.
    fn keep(&mut self, slice: DepositSlice) {
        for (account, state) in slice.states {
            let stored = serde_json::to_string(&state).unwrap();
            let deposit = self.deposits.get_mut(&account).unwrap();
            deposit.state = Some(serde_json::from_str(&stored).unwrap());
            deposit.version += 1;
        }
        self.keep_postings(slice.postings);
    }

    fn keep_postings(&mut self, postings: Vec<Posting>) {
        for posting in postings {
            let kind = match posting.key.kind {
                PostingKind::Interest => Kind::Interest,
                PostingKind::InterestTax => Kind::Tax,
                PostingKind::Repayment => Kind::Repayment,
                _ => Kind::Accrual,
            };
            assert!(posting.lines.len() <= 16, "a posting has at most sixteen entries");
            self.post(&posting.key.to_string(), kind, posting.lines, posting.booked_on, posting.value_on);
        }
    }

    fn event(&self, event: Event, end: &End, other: Option<&End>, minor: i64) -> [Entry; 2] {
        let amount = Money::new(minor, Currency::CNY);
        let other = other.map(|end| &end.product);
        self.mapping.entries(event, &end.place, &end.product, other, amount).unwrap()
    }

    /// The lines of a booking between two accounts, each in its own branch's books.
    fn between(&self, (one, debit): (&End, Entry), (other, credit): (&End, Entry)) -> Vec<Line> {
        let at = |place: &Place, entry: Entry| Entry { place: place.clone(), ..entry };
        let code = self.chart.for_purpose(Purpose::Interbranch);
        let amount = debit.amount;
        let mut lines = vec![
            Line { account: Some(one.account), entry: at(&one.place, debit) },
            Line { account: Some(other.account), entry: at(&other.place, credit) },
        ];
        if one.place != other.place {
            for (place, side) in [(&one.place, Side::Credit), (&other.place, Side::Debit)] {
                lines.push(Line { account: None, entry: Entry { place: place.clone(), code, side, amount } });
            }
        }
        lines
    }

    fn customers(&mut self, lines: Vec<Line>, booked_on: Date, value_on: Date) {
        self.bookings += 1;
        self.post(&format!("customer/{}", self.bookings), Kind::Other, lines, booked_on, value_on);
    }

    fn post(&mut self, posting: &str, kind: Kind, lines: Vec<Line>, booked_on: Date, value_on: Date) {
        assert!(self.keys.insert(posting.to_owned()), "{posting} is booked twice");
        for line in lines {
            if let Some(account) = line.account {
                self.of_account.entry(account).or_default().push(self.entries.len());
            }
            self.of_day.entry(booked_on).or_default().push(self.entries.len());
            let number = self.entries.len() as u64 + 1;
            self.entries.push(Written {
                number,
                posting: posting.to_owned(),
                kind,
                line,
                booked_on,
                value_on,
            });
        }
    }

    /// Entries of an account's own code.
    fn own(&self, account: AccountNumber, code: Code) -> impl Iterator<Item = &Written> {
        let indexes = self.of_account.get(&account).map_or(&[][..], Vec::as_slice);
        indexes.iter().map(|at| &self.entries[*at]).filter(move |booked| booked.line.entry.code == code)
    }

    pub(crate) fn is_collected_from(&self, end: &End) -> bool {
        self.loans.values().any(|loan| loan.row.repaid_from.as_ref() == Some(end))
    }

    pub(crate) fn principal(&self, end: &End) -> Code {
        self.event(Event::CashDeposit, end, None, 1)[1].code
    }

    fn balance(&self, end: &End, counts: impl Fn(&Written) -> bool) -> i64 {
        let own = self.own(end.account, self.principal(end));
        own.filter(|booked| counts(booked)).map(|booked| credit(&booked.line.entry)).sum()
    }

    pub(crate) fn balance_now(&self, end: &End) -> i64 {
        self.balance(end, |_| true)
    }

    /// Closes the open day; meanwhile customers go on.
    pub(crate) fn close_day(&mut self, meanwhile: &[Booking], random: Option<&mut Random>) {
        let mut meanwhile = meanwhile.iter();
        let day = self.day.take_cut_off(self.day.open()).unwrap();
        let mut calm = Random(0);
        let disturbed = random.is_some();
        let random = random.unwrap_or(&mut calm);
        let mut late: Vec<Work> = Vec::new();
        loop {
            if disturbed
                && random.chance(30)
                && let Some(booking) = meanwhile.next()
            {
                self.book(booking);
            }
            match self.day.phase() {
                Phase::Open => break,
                Phase::Due(step) => {
                    let cuts = self.cuts(step, disturbed.then_some(&mut *random));
                    self.day.start(step, &cuts).unwrap();
                }
                Phase::Running(_) => {
                    let range = random.index(self.day.ranges().len());
                    let Some(slice) = self.day.next_slice(range) else { continue };
                    let most = if disturbed { 1 + random.index(3) } else { 5 };
                    let work = self.compute(slice, most);
                    match if disturbed { random.below(10) } else { 9 } {
                        // The worker crashes before it commits, or it is slow and somebody else does the same.
                        0..2 => self.lost += 1,
                        2..4 => late.push(work),
                        _ => self.write(work),
                    }
                    if !late.is_empty() && random.chance(40) {
                        let work = late.swap_remove(random.index(late.len()));
                        self.write(work);
                    }
                }
                Phase::TrialBalance => {
                    let of_day = self.of_day.get(&day).map_or(&[][..], Vec::as_slice);
                    let entries = of_day.iter().map(|at| &self.entries[*at].line.entry);
                    self.closed.merge(&TrialBalance::of(&self.chart, entries).unwrap());
                    assert_eq!(self.day.close(&self.closed), Ok(day));
                    let before = self.closings.last().map_or(0, |closing| closing.1);
                    let last = of_day.last().map_or(0, |at| self.entries[*at].number);
                    self.closings.push((day, before.max(last)));
                }
            }
            self.restart();
        }
        for work in late {
            self.write(work);
        }
        for booking in meanwhile {
            self.book(booking);
        }
    }

    /// A crash of everything: what is not stored is gone, so the record and the states must be all there is.
    fn restart(&mut self) {
        let stored = serde_json::to_string(&self.day).unwrap();
        self.day = serde_json::from_str(&stored).unwrap();
    }

    fn cuts(&self, step: Step, random: Option<&mut Random>) -> Vec<AccountNumber> {
        let Some(random) = random else { return Vec::new() };
        let all: Vec<_> = match step {
            Step::Loans => self.loans.keys().copied().collect(),
            Step::Deposits => self.deposits.keys().copied().collect(),
        };
        all.into_iter().filter(|_| random.chance(30)).collect()
    }

    /// The trial balance at the end of the last closed day.
    pub(crate) fn trial(&self) -> &TrialBalance {
        &self.closed
    }

    /// Reads the rows of a slice and computes it.
    fn compute(&self, slice: SliceId, most: usize) -> Work {
        let within = |account: &AccountNumber| {
            slice.after.is_none_or(|after| *account > after)
                && slice.through.is_none_or(|through| *account <= through)
        };
        let books = Books { chart: &self.chart, mapping: &self.mapping };
        let (accounts, postings, computed) = match slice.step {
            Step::Loans => {
                let rows: Vec<LoanRow> = self
                    .loans
                    .values()
                    .map(|loan| &loan.row)
                    .filter(|row| within(&row.end.account))
                    .take(most)
                    .cloned()
                    .collect();
                let sources: Vec<&End> = rows.iter().filter_map(|row| row.repaid_from.as_ref()).collect();
                let mut available =
                    sources.iter().map(|end| (end.account, self.available(end, slice.day))).collect();
                let read = sources.iter().map(|end| (end.account, self.version(end.account))).collect();
                let done = close_day(slice.day, &rows, &mut available, &RiskTables::CHINA, books).unwrap();
                let accounts: Vec<_> = rows.iter().map(|row| row.end.account).collect();
                (accounts, done.postings, Computed::Loans { states: done.states, read })
            }
            Step::Deposits => {
                let living = self.deposits.values().filter(|deposit| deposit.closed.is_none());
                let chosen: Vec<&Deposit> =
                    living.filter(|deposit| within(&deposit.end.account)).take(most).collect();
                let rows: Vec<_> = chosen.iter().map(|deposit| self.row(deposit, slice.day)).collect();
                let done = accrue(slice.day, &rows, &self.posted, books).unwrap();
                let accounts: Vec<_> = chosen.iter().map(|deposit| deposit.end.account).collect();
                let read = chosen.iter().map(|deposit| (deposit.end.account, deposit.version)).collect();
                (accounts, done.postings, Computed::Deposits { states: done.states, read })
            }
        };
        let reached = match accounts.last() {
            Some(last) if accounts.len() == most => Reached::Account(*last),
            _ => Reached::End,
        };
        Work { slice, reached, postings, computed }
    }

    fn version(&self, account: AccountNumber) -> usize {
        self.of_account.get(&account).map_or(0, Vec::len)
    }

    fn available(&self, end: &End, day: Date) -> i64 {
        let then = self.balance(end, |booked| booked.booked_on <= day && booked.value_on <= day);
        then.min(self.balance_now(end))
    }

    fn row<'w>(&'w self, deposit: &Deposit, day: Date) -> DepositRow<'w> {
        let terms = &self.products[deposit.product];
        let counts = |booked: &Written| booked.booked_on <= day && booked.value_on <= day;
        let balance_minor = match self.defect {
            Some(Defect::LiveBalances) => self.balance_now(&deposit.end),
            _ => self.balance(&deposit.end, counts),
        };
        let code = self.principal(&deposit.end);
        let backdated = self
            .own(deposit.end.account, code)
            .any(|booked| booked.booked_on == day && booked.value_on < day);
        let history = backdated && self.defect != Some(Defect::HistoryForgotten);
        DepositRow {
            end: deposit.end.clone(),
            currency: Currency::CNY,
            opening: Opening { on: deposit.opened, months: Some(6) },
            terms,
            balance_minor,
            paid_to: deposit.paid_to.clone(),
            state: deposit.state.clone(),
            history: history.then(|| History {
                movements: self.movements(&deposit.end, code, day),
                terms: Dated::always(terms),
            }),
        }
    }

    fn movements(&self, end: &End, code: Code, day: Date) -> Vec<Movement> {
        let own_interest = |booked: &Written| {
            let name = end.account.to_string();
            matches!(booked.kind, Kind::Interest | Kind::Tax) && booked.posting.contains(&name)
        };
        let own =
            self.own(end.account, code).filter(|booked| booked.booked_on <= day && !own_interest(booked));
        own.map(|booked| Movement { value_date: booked.value_on, minor: credit(&booked.line.entry) })
            .collect()
    }

    /// Writes a slice in one transaction, or nothing of it.
    fn write(&mut self, work: Work) {
        // Rows are locked from when they are read; here, somebody who comes in between makes the transaction fail.
        let moved = match &work.computed {
            Computed::Loans { read, .. } => {
                read.iter().any(|(account, version)| self.version(*account) != *version)
            }
            Computed::Deposits { read, .. } => {
                read.iter().any(|(account, version)| self.deposits[account].version != *version)
            }
        };
        if moved && self.defect != Some(Defect::StaleWritten) {
            self.lost += 1;
            return;
        }
        let mut day = self.day.clone();
        match day.applied(work.slice, work.reached) {
            Ok(()) => {}
            Err(DayError::Stale) if self.defect != Some(Defect::StaleWritten) => {
                self.stale += 1;
                return;
            }
            Err(DayError::Stale) => day = self.day.clone(),
            Err(error) => panic!("{error}"),
        }
        self.day = day;
        if self.defect == Some(Defect::Torn) && self.entries.len().is_multiple_of(17) {
            return;
        }
        match work.computed {
            Computed::Deposits { states, .. } => self.keep(DepositSlice { states, postings: Vec::new() }),
            Computed::Loans { states, .. } => {
                for (account, state) in states {
                    let stored = serde_json::to_string(&state).unwrap();
                    self.loans.get_mut(&account).unwrap().row.state = serde_json::from_str(&stored).unwrap();
                }
            }
        }
        self.keep_postings(work.postings);
    }

    /// The books in an order that does not depend on who wrote what when: states, and sums where slices are cut differently.
    pub(crate) fn dump(&self) -> Vec<String> {
        let mut dump = Vec::new();
        dump.extend(self.deposits.values().map(|deposit| format!("{:?} {:?}", deposit.end, deposit.state)));
        dump.extend(self.loans.values().map(|loan| format!("{:?} {:?}", loan.row.end, loan.row.state)));
        let mut sums: BTreeMap<_, i64> = BTreeMap::new();
        for booked in &self.entries {
            let entry = &booked.line.entry;
            // Accruals are booked together for a slice; everything else posting by posting.
            let posting = if booked.kind == Kind::Accrual { "" } else { &booked.posting };
            let key =
                (posting.to_owned(), booked.line.account, booked.booked_on, booked.value_on, entry.code);
            *sums.entry((key, entry.place.clone())).or_default() += credit(entry);
        }
        dump.extend(sums.iter().filter(|(_, sum)| **sum != 0).map(|line| format!("{line:?}")));
        dump
    }
}

/// The amount of an entry: above zero for credit.
pub(crate) fn credit(entry: &Entry) -> i64 {
    match entry.side {
        Side::Debit => -entry.amount.minor,
        Side::Credit => entry.amount.minor,
    }
}
