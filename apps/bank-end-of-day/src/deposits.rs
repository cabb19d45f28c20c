//! A day's interest of deposits.

use dujiang_bank_general_ledger::Event;
use dujiang_bank_rules::calendar::tomorrow;
use dujiang_bank_rules::replay::{Movement, replay};
use dujiang_bank_rules::terms::Quotes;
use dujiang_bank_rules::{Accrual, Dated, InterestTerms, Opening, PostedRates};
use dujiang_routing::AccountNumber;
use dujiang_types::{Currency, Money};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::journal::{Books, End, Growth, Leg, Line, Posting, PostingKey, PostingKind, Together};
use crate::{ACCOUNTS_PER_SLICE_MAX, SliceError, Why, at};

/// What end of day keeps for a deposit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DepositState {
    /// Interest since the last settlement; its days are those the account has had.
    pub accrual: Accrual,
    /// What was ever settled.
    pub settled: Totals,
    /// What was ever booked as interest: what was settled, and what has accrued since, rounded once.
    pub booked_minor: i64,
}

/// Sums since the account was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// Interest.
    pub interest_minor: i64,
    /// Tax withheld of it.
    pub tax_minor: i64,
}

/// A deposit as end of day reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct DepositRow<'t> {
    /// The account. Closed ones are not read: [`close`] has settled them.
    pub end: End,
    /// In which currency.
    pub currency: Currency,
    /// When it was opened, and for how long.
    pub opening: Opening,
    /// Its terms on the day.
    pub terms: &'t InterestTerms,
    /// The sum of its entries that were booked by the end of the day and count from the day or earlier.
    pub balance_minor: i64,
    /// Where its interest goes, if it does not join the balance.
    pub paid_to: Option<End>,
    /// What was kept at the end of the day before; none on its first day.
    pub state: Option<DepositState>,
    /// Needed if an entry booked on the day counts from an earlier one, or if the account was left out before.
    pub history: Option<History<'t>>,
}

/// All that moved on an account.
#[derive(Debug, Clone, PartialEq)]
pub struct History<'t> {
    /// Every entry booked by the end of the day, but for settled interest and its tax.
    pub movements: Vec<Movement>,
    /// Its terms by the day each begins.
    pub terms: Dated<&'t InterestTerms>,
}

/// What a slice of deposits comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DepositSlice {
    /// What is to be kept, in the order of the rows; accounts that have had their day are not among them.
    pub states: Vec<(AccountNumber, DepositState)>,
    /// What is to be booked.
    pub postings: Vec<Posting>,
}

/// Gives deposits their day. Those that have had it already are left alone.
pub fn accrue(
    day: Date,
    rows: &[DepositRow<'_>],
    posted: &PostedRates,
    books: Books<'_>,
) -> Result<DepositSlice, SliceError> {
    let mut due = rows.iter().filter(|row| row.until() <= day).peekable();
    // What is booked together is known by the first account that has its day, which no other slice can have first.
    let Some(first) = due.peek().map(|row| row.end.account) else { return Ok(DepositSlice::default()) };
    if rows.len() > ACCOUNTS_PER_SLICE_MAX {
        return Err(at(first)(Why::TooMany));
    }
    let mut slice = DepositSlice::default();
    let mut together = Together::default();
    let joins = tomorrow(day).map_err(Why::from).map_err(at(first))?;
    for row in due {
        let had = row.had_day(day, posted).map_err(at(row.end.account))?;
        together.add(Growth::DepositInterest, &row.end, row.currency, had.booked_minor);
        slice.postings.extend(row.settled(day, joins, had.settled, books).map_err(at(row.end.account))?);
        slice.states.push((row.end.account, had.state));
    }
    slice.postings.extend(together.postings(books, day, first).map_err(at(first))?);
    Ok(slice)
}

/// Settles a deposit that is closed on the open day, which does not earn. It must have had all days before: one whose day
/// is still being closed is given it first, by [`accrue`], alone; end of day then leaves it alone.
///
/// What is settled is booked on that day, and counts from it: with it the balance is what is paid out.
pub fn close(
    on: Date,
    row: &DepositRow<'_>,
    posted: &PostedRates,
    books: Books<'_>,
) -> Result<DepositSlice, SliceError> {
    let account = row.end.account;
    let closed = row.closed(on, posted).map_err(at(account))?;
    let mut together = Together::default();
    together.add(Growth::DepositInterest, &row.end, row.currency, closed.booked_minor);
    let mut postings = together.postings(books, on, account).map_err(at(account))?;
    postings.extend(row.settled(on, on, closed.settled, books).map_err(at(account))?);
    Ok(DepositSlice { states: vec![(account, closed.state)], postings })
}

/// A deposit after its day.
struct Had {
    state: DepositState,
    /// What is to be settled.
    settled: Totals,
    /// What is to be booked as interest.
    booked_minor: i64,
}

impl DepositRow<'_> {
    /// The first day it has not had.
    fn until(&self) -> Date {
        self.state.as_ref().map_or(self.opening.on, |state| state.accrual.until())
    }

    fn before(&self) -> Totals {
        self.state.as_ref().map_or(Totals::default(), |state| state.settled)
    }

    /// What it was at the beginning of a day, unless days before it were left out.
    fn accrual_at(&self, day: Date) -> Result<Accrual, Why> {
        let until = self.until();
        if until != day {
            return Err(Why::Behind { until });
        }
        let start = || Accrual::start(self.opening.on, self.currency);
        Ok(self.state.as_ref().map_or_else(start, |state| state.accrual.clone()))
    }

    fn had_day(&self, day: Date, posted: &PostedRates) -> Result<Had, Why> {
        let quotes = self.terms.quotes(posted, self.opening, day, day)?;
        if let Some(history) = &self.history {
            let (accrual, settled) = self.recomputed(tomorrow(day)?, history, posted)?;
            return self.had(day, accrual, settled, &quotes);
        }
        let mut accrual = self.accrual_at(day)?;
        accrual.advance(tomorrow(day)?, Money::new(self.balance_minor, self.currency), &quotes)?;
        let mut settled = self.before();
        if self.terms.settlement.next(day)? == Some(day) {
            let now = accrual.settle(day, &quotes)?;
            settled = settled.plus(now.interest.minor, now.tax.minor)?;
        }
        self.had(day, accrual, settled, &quotes)
    }

    fn closed(&self, on: Date, posted: &PostedRates) -> Result<Had, Why> {
        let quotes = self.terms.quotes(posted, self.opening, on, on)?;
        let (mut accrual, settled) = match &self.history {
            Some(history) => self.recomputed(on, history, posted)?,
            None => (self.accrual_at(on)?, self.before()),
        };
        let last = accrual.close(on, &quotes)?;
        self.had(on, accrual, settled.plus(last.interest.minor, last.tax.minor)?, &quotes)
    }

    /// What is to be settled and booked, as the difference of what should have been by now and what was before.
    fn had(&self, day: Date, accrual: Accrual, settled: Totals, quotes: &Quotes<'_>) -> Result<Had, Why> {
        let before = self.before();
        let booked_before = self.state.as_ref().map_or(0, |state| state.booked_minor);
        let accrued = accrual.value(day, quotes)?.rounded()?;
        let booked_minor = settled.interest_minor.checked_add(accrued).ok_or(Why::OutOfRange)?;
        Ok(Had {
            state: DepositState { accrual, settled, booked_minor },
            settled: settled.less(before)?,
            booked_minor: booked_minor.checked_sub(booked_before).ok_or(Why::OutOfRange)?,
        })
    }

    /// Interest from the first day on, up to a day that is not counted. What should have been settled, less what was, is settled now.
    fn recomputed(
        &self,
        until: Date,
        history: &History<'_>,
        posted: &PostedRates,
    ) -> Result<(Accrual, Totals), Why> {
        let before = self.before();
        let replayed =
            replay(&history.movements, self.opening, self.currency, until, &history.terms, posted)?;
        let mut settled = Totals::default();
        for one in &replayed.settled {
            settled = settled.plus(one.interest.minor, one.tax.minor)?;
        }
        // The replay has added to the balance all that was ever settled and joins it; the account has what was settled
        // before.
        let to_come = if self.terms.compounds { settled.less(before)?.net()? } else { 0 };
        let expected = self.balance_minor.checked_add(to_come).ok_or(Why::OutOfRange)?;
        if replayed.balance.minor != expected {
            let movements_minor = replayed.balance.minor.saturating_sub(to_come);
            return Err(Why::Balance { movements_minor, balance_minor: self.balance_minor });
        }
        Ok((replayed.accrual, settled))
    }

    /// Pays what is settled at the end of a day on the day it joins, from which on it counts.
    fn settled(
        &self,
        day: Date,
        joins: Date,
        settled: Totals,
        books: Books<'_>,
    ) -> Result<Vec<Posting>, Why> {
        if settled == Totals::default() {
            return Ok(Vec::new());
        }
        let to = match &self.paid_to {
            _ if self.terms.compounds => &self.end,
            Some(payee) => payee,
            None => return Err(Why::NoPayee),
        };
        let money = |minor| Money::new(minor, self.currency);
        let mut postings = Vec::new();
        let mut post = |kind, lines: Vec<Line>| {
            if !lines.is_empty() {
                let key = PostingKey { day, kind, account: self.end.account, part: 0 };
                postings.push(Posting { key, booked_on: joins, value_on: joins, lines });
            }
        };
        let (interest, tax) = (money(settled.interest_minor), money(settled.tax_minor));
        let paid = books.lines(Event::DepositInterestSettled, Leg::of(&self.end), Leg::of(to), interest)?;
        post(PostingKind::Interest, paid);
        let mut withheld = books.lines(Event::InterestTaxWithheld, Leg::of(to), Leg::of(to), tax)?;
        // Taken from where the interest went, and known as this account's.
        if let Some(line) = withheld.get_mut(1) {
            line.account = Some(self.end.account);
        }
        post(PostingKind::InterestTax, withheld);
        Ok(postings)
    }
}

impl Totals {
    fn plus(self, interest_minor: i64, tax_minor: i64) -> Result<Self, Why> {
        Ok(Self {
            interest_minor: self.interest_minor.checked_add(interest_minor).ok_or(Why::OutOfRange)?,
            tax_minor: self.tax_minor.checked_add(tax_minor).ok_or(Why::OutOfRange)?,
        })
    }

    fn less(self, other: Self) -> Result<Self, Why> {
        self.plus(
            other.interest_minor.checked_neg().ok_or(Why::OutOfRange)?,
            other.tax_minor.checked_neg().ok_or(Why::OutOfRange)?,
        )
    }

    fn net(self) -> Result<i64, Why> {
        self.interest_minor.checked_sub(self.tax_minor).ok_or(Why::OutOfRange)
    }
}
