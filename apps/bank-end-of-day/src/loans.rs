//! A loan's day: what falls due is collected, lateness costs, interest grows, and the risk is classed.
//!
//! In this order, at the end of day *d*:
//! 1. What was due on *d* or before and is open is collected from the repayment account, as far as that goes.
//! 2. What is still open costs penalty for *d*, from the due date on; within the days of grace it does so only if it is
//!    not paid by their end (Yinfa (2003) 251; `dujiang_bank_rules::loan::overdue`).
//! 3. Interest of an instalment grows evenly over the days of its period, rounded half up; on the due date it is whole.
//! 4. By the days the oldest open amount is overdue the loan has its class, by the class its allowance.
//!
//! **Interest that is not income.** After 90 days overdue, interest and penalty that are not paid are taken back from
//! income and kept off the books until they are paid (Ministry of Finance, Caijin (2002) 5). What is owed does not change.

mod state;

use std::collections::BTreeMap;

use dujiang_bank_general_ledger::Event;
use dujiang_bank_rules::loan::allocation::{Kind, Order, Owed};
use dujiang_bank_rules::loan::class::{ClassTable, ProvisionTable};
use dujiang_bank_rules::loan::overdue::PenaltyTerms;
use dujiang_bank_rules::loan::schedule::LoanTerms;
use dujiang_routing::AccountNumber;
use dujiang_types::{Currency, Money};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

pub use state::{Booked, Due, LoanState};

use crate::journal::{Books, End, Growth, Leg, Line, Posting, PostingKey, PostingKind, Together};
use crate::{ACCOUNTS_PER_SLICE_MAX, SliceError, Why, at};

/// Days overdue after which interest is income only when it is paid: Ministry of Finance, Notice on Shortening the Period
/// for Accounting Interest Receivable of Financial Enterprises, Caijin (2002) 5.
pub const SUSPENDED_AFTER_DAYS: u32 = 90;

/// What was agreed about a loan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoanAgreement {
    /// Schedule and rate.
    pub terms: LoanTerms,
    /// Lateness.
    pub penalty: PenaltyTerms,
    /// What a payment pays first.
    pub order: Order,
}

/// What the bank holds for all of its loans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RiskTables {
    /// Classes by days overdue.
    pub classes: ClassTable,
    /// What is set aside for each.
    pub provisions: ProvisionTable,
    /// Days overdue after which interest is income only when it is paid.
    pub suspended_after_days: u32,
}

impl RiskTables {
    /// As China's regulators have them.
    pub const CHINA: Self = Self {
        classes: ClassTable::CHINA,
        provisions: ProvisionTable::CHINA,
        suspended_after_days: SUSPENDED_AFTER_DAYS,
    };
}

/// A loan as end of day reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoanRow {
    /// The account.
    pub end: End,
    /// In which currency.
    pub currency: Currency,
    /// What was agreed.
    pub agreement: LoanAgreement,
    /// Where what is due is collected from.
    pub repaid_from: Option<End>,
    /// What was kept at the end of the day before.
    pub state: LoanState,
}

/// What a slice of loans comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoanSlice {
    /// What is to be kept, in the order of the rows; loans that have had their day are not among them.
    pub states: Vec<(AccountNumber, LoanState)>,
    /// What is to be booked.
    pub postings: Vec<Posting>,
}

/// Gives loans their day. Those that have had it already are left alone.
///
/// `available` is what may be taken from each repayment account: the least of what it had at the end of the day and has
/// now, less holds and the limit. It is lowered by what is taken.
pub fn close_day(
    day: Date,
    rows: &[LoanRow],
    available: &mut BTreeMap<AccountNumber, i64>,
    risk: &RiskTables,
    books: Books<'_>,
) -> Result<LoanSlice, SliceError> {
    let mut due = rows.iter().filter(|row| row.state.until <= day).peekable();
    // What is booked together is known by the first loan that has its day, which no other slice can have first.
    let Some(first) = due.peek().map(|row| row.end.account) else { return Ok(LoanSlice::default()) };
    if rows.len() > ACCOUNTS_PER_SLICE_MAX {
        return Err(at(first)(Why::TooMany));
    }
    let mut slice = LoanSlice::default();
    let mut together = Together::default();
    for row in due {
        let (state, repayment) =
            row.had_day(day, available, risk, books, &mut together).map_err(at(row.end.account))?;
        slice.states.push((row.end.account, state));
        slice.postings.extend(repayment);
    }
    slice.postings.extend(together.postings(books, day, first).map_err(at(first))?);
    Ok(slice)
}

impl LoanRow {
    fn had_day(
        &self,
        day: Date,
        available: &mut BTreeMap<AccountNumber, i64>,
        risk: &RiskTables,
        books: Books<'_>,
        together: &mut Together,
    ) -> Result<(LoanState, Option<Posting>), Why> {
        let mut state = self.state.clone();
        state.begin_day(&self.agreement, day)?;
        let repayment = self.collect(day, &mut state, available, books)?;
        state.end_day(&self.agreement, day)?;
        let before = state.booked;
        state.assess(day, risk)?;
        for (growth, now, before) in [
            (Growth::LoanInterest, state.booked.interest_minor, before.interest_minor),
            (Growth::Penalty, state.booked.penalty_minor, before.penalty_minor),
            (Growth::Allowance, state.booked.provision_minor, before.provision_minor),
        ] {
            let change = now.checked_sub(before).ok_or(Why::OutOfRange)?;
            together.add(growth, &self.end, self.currency, change);
        }
        Ok((state, repayment))
    }

    fn collect(
        &self,
        day: Date,
        state: &mut LoanState,
        available: &mut BTreeMap<AccountNumber, i64>,
        books: Books<'_>,
    ) -> Result<Option<Posting>, Why> {
        let Some(source) = &self.repaid_from else { return Ok(None) };
        let Some(there_is) = available.get_mut(&source.account).filter(|minor| **minor > 0) else {
            return Ok(None);
        };
        let allocation = state.pay(&self.agreement, day, *there_is)?;
        if allocation.paid.is_empty() {
            return Ok(None);
        }
        *there_is = allocation.left_minor;
        let lines = self.repayment(source, &allocation.paid, books)?;
        let key = PostingKey { day, kind: PostingKind::Repayment, account: self.end.account, part: 0 };
        Ok(Some(Posting { key, booked_on: day, value_on: day, lines }))
    }

    /// The lines of what was paid out of a deposit: penalty, interest, principal, each in the books of its branch.
    pub fn repayment(&self, source: &End, paid: &[Owed], books: Books<'_>) -> Result<Vec<Line>, Why> {
        let sum = |wanted: &[Kind]| {
            let minors = paid.iter().filter(|paid| wanted.contains(&paid.kind)).map(|paid| paid.minor);
            minors.fold(0_i64, i64::saturating_add)
        };
        let mut lines = Vec::new();
        for (event, kinds) in [
            (Event::PenaltyPaid, &[Kind::Penalty, Kind::Fee][..]),
            (Event::LoanInterestPaid, &[Kind::OverdueInterest, Kind::Interest][..]),
            (Event::LoanRepaid, &[Kind::OverduePrincipal, Kind::Principal][..]),
        ] {
            let amount = Money::new(sum(kinds), self.currency);
            let leg = |end| Leg { end, product: &self.end.product, other: Some(&source.product) };
            lines.extend(books.lines(event, leg(source), leg(&self.end), amount)?);
        }
        Ok(lines)
    }
}
