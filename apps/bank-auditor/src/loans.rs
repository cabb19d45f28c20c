//! Loans, recomputed from the agreement and from what was paid: schedule, arrears, penalty, classes, what is set aside.

use std::collections::{BTreeMap, HashMap};

use jiff::civil::Date;

use crate::Report;
use crate::books::{Account, Books, DayCount, Entry, Kind, Loan, Method, Product};
use crate::calendar::{after, between, days, months_later, year};
use crate::fraction::Fraction;
use crate::ledger::Expected;

/// Most instalments of a loan that is recomputed: monthly for a hundred years. Its equal instalment is a fraction of as many
/// factors.
const PERIODS_MAX: u16 = 1_200;

pub(crate) fn audit(books: &Books, expected: &mut Expected, report: &mut Report) {
    let mut entries: HashMap<&str, Vec<&Entry>> = HashMap::new();
    for entry in books.entries.iter().filter(|entry| entry.booked_on <= books.closed_through) {
        if let Some(account) = entry.account.as_deref() {
            entries.entry(account).or_default().push(entry);
        }
    }
    for account in &books.accounts {
        let Product::Loan(loan) = &account.product else { continue };
        if account.opened > books.closed_through {
            continue;
        }
        report.looked_at.loans += 1;
        let Some(rows) = schedule(loan, account.opened) else {
            report.tell("loan.agreement", &account.account, "what was agreed makes no schedule");
            continue;
        };
        let of_account = entries.get(account.account.as_str()).map_or(&[][..], Vec::as_slice);
        let mut life = Life { account, loan, rows, penalty: Fraction::zero(), paid: Paid::default() };
        if life.run(of_account, books.closed_through, report).is_none() {
            report.tell("loan.agreement", &account.account, "the factor or the rate cannot be read");
            continue;
        }
        life.expect(books.closed_through, expected, report);
    }
}

/// An instalment and what of it is open.
struct Row {
    from: Date,
    due: Date,
    interest: i128,
    principal_open: i128,
    interest_open: i128,
    /// Penalty within the days of grace: dropped if what is due is paid in time.
    in_grace: Fraction,
}

impl Row {
    fn is_open(&self) -> bool {
        self.principal_open > 0 || self.interest_open > 0
    }
}

/// The schedule; none if the agreement makes none.
fn schedule(loan: &Loan, drawn: Date) -> Option<Vec<Row>> {
    if loan.periods > PERIODS_MAX {
        return None;
    }
    let rate = Fraction::percent(&loan.rate)?;
    let mut periods = Vec::new();
    let mut from = drawn;
    for number in 1..=i32::from(loan.periods) {
        let due = months_later(drawn, number * i32::from(loan.every_months))?;
        let counted = match loan.days {
            DayCount::Months => i64::from(loan.every_months) * 30,
            count => days(count, from, due),
        };
        periods.push((from, due, counted));
        from = due;
    }
    let interest_of =
        |minor: i128, counted: i64| rate.scaled(minor * i128::from(counted), year(loan.days)).rounded();
    // Each period multiplies the debt and takes the instalment: debt · grown - instalment · paid, which ends at nothing.
    let one = Fraction::new(1, 1);
    let (mut grown, mut paid) = (one.clone(), Fraction::zero());
    for (_, _, counted) in &periods {
        let growth = one.plus(&rate.scaled(i128::from(*counted), year(loan.days)));
        (grown, paid) = (grown.times(&growth), paid.times(&growth).plus(&one));
    }
    let principal = i128::from(loan.principal_minor);
    let equal = grown.scaled(principal, 1).divided(&paid)?.rounded();
    let part = Fraction::new(principal, i64::from(loan.periods.max(1))).rounded();
    let (mut left, last) = (principal, periods.len().checked_sub(1)?);
    let mut rows = Vec::new();
    for (number, (from, due, counted)) in periods.into_iter().enumerate() {
        if left == 0 {
            break;
        }
        let interest = interest_of(left, counted);
        let wanted = match loan.method {
            _ if number == last => left,
            Method::EqualInstalments => equal - interest,
            Method::EqualPrincipal => part,
            Method::Bullet => 0,
        };
        let principal_open = wanted.min(left);
        left -= principal_open;
        let in_grace = Fraction::zero();
        rows.push(Row { from, due, interest, principal_open, interest_open: interest, in_grace });
    }
    Some(rows)
}

/// What was paid.
#[derive(Default)]
struct Paid {
    principal: i128,
    interest: i128,
    penalty: i128,
}

struct Life<'b> {
    account: &'b Account,
    loan: &'b Loan,
    rows: Vec<Row>,
    /// Penalty that counts, exactly.
    penalty: Fraction,
    paid: Paid,
}

impl Life<'_> {
    /// Lives through every day; none if a text cannot be read.
    fn run(&mut self, entries: &[&Entry], through: Date, report: &mut Report) -> Option<()> {
        let late_rate =
            Fraction::percent(&self.loan.rate)?.times(&Fraction::decimal(&self.loan.penalty_factor)?);
        let mut by_day: BTreeMap<Date, Vec<&Entry>> = BTreeMap::new();
        for entry in entries.iter().filter(|entry| entry.kind == Kind::Repayment) {
            by_day.entry(entry.booked_on).or_default().push(entry);
        }
        let mut day = self.account.opened;
        loop {
            self.grace_ends(day);
            for entry in by_day.remove(&day).unwrap_or_default() {
                self.pay(entry, day, report);
            }
            self.lateness(day, &late_rate);
            if day >= through {
                return Some(());
            }
            day = after(day);
        }
    }

    /// What is still open after the days of grace costs penalty from its due date on.
    fn grace_ends(&mut self, day: Date) {
        let grace = i64::from(self.loan.grace_days);
        for row in self.rows.iter_mut().filter(|row| row.is_open() && between(row.due, day) > grace) {
            self.penalty = self.penalty.plus(&row.in_grace);
            row.in_grace = Fraction::zero();
        }
    }

    fn pay(&mut self, entry: &Entry, day: Date, report: &mut Report) {
        let minor = i128::from(entry.credit_minor);
        let mut left = minor;
        let due = self.rows.iter_mut().filter(|row| row.due <= day);
        if entry.code == self.account.principal {
            self.paid.principal += minor;
            due.for_each(|row| take(&mut row.principal_open, &mut left));
        } else if entry.code == self.loan.accrued {
            self.paid.interest += minor;
            due.for_each(|row| take(&mut row.interest_open, &mut left));
        } else if entry.code == self.loan.penalty_accrued {
            self.paid.penalty += minor;
            left = (self.paid.penalty - self.penalty.rounded()).max(0);
        }
        if left != 0 || minor < 0 {
            let detail = format!("entry {} pays {left} that was not due on {day}", entry.number);
            report.tell("loan.not_due", &self.account.account, detail);
        }
    }

    /// A day of lateness of what is open at its end.
    fn lateness(&mut self, day: Date, rate: &Fraction) {
        let (count, grace) = (self.loan.penalty_days, i64::from(self.loan.grace_days));
        for row in self.rows.iter_mut().filter(|row| row.due <= day) {
            if !row.is_open() {
                row.in_grace = Fraction::zero();
                continue;
            }
            let counted = days(count, row.due, after(day)) - days(count, row.due, day);
            let on = row.principal_open + if self.loan.penalty_compounds { row.interest_open } else { 0 };
            let cost = rate.scaled(on * i128::from(counted), year(count));
            let counts = between(row.due, day) > grace;
            let sum = if counts { &mut self.penalty } else { &mut row.in_grace };
            *sum = sum.plus(&cost);
        }
    }

    /// What the general ledger must say about it at the end of a day.
    fn expect(&self, day: Date, expected: &mut Expected, report: &mut Report) {
        let overdue = self.rows.iter().filter(|row| row.due < day && row.is_open());
        let overdue = overdue.map(|row| between(row.due, day)).max().unwrap_or(0);
        let overdue = u32::try_from(overdue).unwrap_or(u32::MAX);
        let (mut interest, mut penalty) = (self.paid.interest, self.paid.penalty);
        if overdue <= self.loan.suspended_after_days {
            interest = interest.max(self.rows.iter().map(|row| earned(row, day)).sum());
            penalty = penalty.max(self.penalty.rounded());
        }
        let outstanding = i128::from(self.loan.principal_minor) - self.paid.principal;
        let class = self.loan.class_after_days.iter().filter(|after| overdue > **after).count();
        let Some(share) = Fraction::percent(&self.loan.set_aside[class]) else {
            return report.tell("loan.agreement", &self.account.account, "a share set aside cannot be read");
        };
        let mut add = |code: &str, credit| {
            expected.add(&self.account.place, self.account.currency, code, credit);
        };
        add(&self.loan.accrued, self.paid.interest - interest);
        add(&self.loan.penalty_accrued, self.paid.penalty - penalty);
        add(&self.loan.allowance, share.scaled(outstanding, 1).rounded());
        add(&self.account.principal, -outstanding);
    }
}

fn take(open: &mut i128, left: &mut i128) {
    let taken = (*open).min(*left).max(0);
    *open -= taken;
    *left -= taken;
}

/// Interest of an instalment that has grown by the end of a day: evenly over the days of its period.
fn earned(row: &Row, day: Date) -> i128 {
    let (gone, all) = (between(row.from, after(day)), between(row.from, row.due));
    if gone >= all {
        row.interest
    } else {
        Fraction::new(row.interest * i128::from(gone.max(0)), all).rounded()
    }
}
