//! A deposit's interest from the beginning, from its movements alone.
//!
//! This is what back-dated entries are recomputed with: what should have been settled, less what was, is what is to be
//! booked now. It is also the shortest description of how the parts work together.

use std::collections::BTreeMap;

use dujiang_types::{Currency, Money};
use jiff::civil::Date;

use crate::calendar::tomorrow;
use crate::terms::Quotes;
use crate::{Accrual, Dated, InterestTerms, Opening, PostedRates, RuleError, Settled, Since};

/// Most settlements of one account: monthly for two hundred years.
const SETTLEMENTS_MAX: usize = 2400;

/// A movement of an account other than settled interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Movement {
    /// The day from which it counts for interest: a deposit earns on that day, what is withdrawn does not any more.
    pub value_date: Date,
    /// Positive for what came in.
    pub minor: i64,
}

/// What an account's movements have brought by a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// All settlements before that day.
    pub settled: Vec<Settled>,
    /// What is accrued since the last one.
    pub accrual: Accrual,
    /// The balance at the end of the day before, settled interest included if it joins the principal.
    pub balance: Money,
}

/// Replays an account's movements, in any order, up to `until`, which is not counted, under terms that may change by date.
pub fn replay(
    movements: &[Movement],
    opening: Opening,
    currency: Currency,
    until: Date,
    terms: &Dated<&InterestTerms>,
    posted: &PostedRates,
) -> Result<Replayed, RuleError> {
    let quotes = quotes_by_day(terms, opening, until, posted)?;
    let mut due: BTreeMap<Date, Vec<i64>> = BTreeMap::new();
    for movement in movements {
        // What counts from before the opening counts from the opening.
        due.entry(movement.value_date.max(opening.on)).or_default().push(movement.minor);
    }
    let mut accrual = Accrual::start(opening.on, currency);
    let mut balance = Money::zero(currency);
    let mut settled: Vec<Settled> = Vec::new();
    while accrual.until() < until {
        let day = accrual.until();
        for minor in due.remove(&day).unwrap_or_default() {
            balance = balance.checked_add(Money::new(minor, currency))?;
        }
        let quotes_now =
            quotes.at(day).ok_or_else(|| RuleError::NoValue { name: "terms".into(), on: day })?;
        let settlement = quotes_now.terms().settlement.next(day)?;
        let next = [
            due.keys().next().copied(),
            settlement.map(tomorrow).transpose()?,
            quotes.changes(day, until).next(),
        ];
        let next = next.into_iter().flatten().fold(until, Date::min);
        accrual.advance(next, balance, quotes_now)?;
        if let Some(day) = settlement.filter(|day| tomorrow(*day) == Ok(next)) {
            let paid = accrual.settle(day, quotes_now)?;
            if quotes_now.terms().compounds {
                balance = balance.checked_add(paid.net)?;
            }
            settled.push(paid);
            if settled.len() > SETTLEMENTS_MAX {
                return Err(RuleError::TooLong(SETTLEMENTS_MAX));
            }
        }
    }
    Ok(Replayed { settled, accrual, balance })
}

/// The rates of each of the terms for the days it holds.
fn quotes_by_day<'terms>(
    terms: &Dated<&'terms InterestTerms>,
    opening: Opening,
    until: Date,
    posted: &PostedRates,
) -> Result<Dated<Quotes<'terms>>, RuleError> {
    let first =
        terms.at(opening.on).ok_or_else(|| RuleError::NoValue { name: "terms".into(), on: opening.on })?;
    let mut starts = vec![(opening.on, *first)];
    let later = terms.iter().filter(|since| since.from > opening.on && since.from < until);
    starts.extend(later.map(|since| (since.from, since.value)));
    let mut quotes = Vec::with_capacity(starts.len());
    for (index, (from, terms)) in starts.iter().enumerate() {
        let to = starts.get(index + 1).map_or(until, |next| next.0);
        quotes.push(Since { from: *from, value: terms.quotes(posted, opening, *from, to.max(*from))? });
    }
    Dated::new(quotes)
}
