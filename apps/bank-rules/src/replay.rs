//! A deposit's interest from the beginning, from its movements alone.
//!
//! This is what back-dated entries are recomputed with: what should have been settled, less what was, is what is to be
//! booked now. It is also the shortest description of how the parts work together.

use std::collections::BTreeMap;

use dujiang_types::{Currency, Money};
use jiff::civil::Date;

use crate::calendar::tomorrow;
use crate::{Accrual, InterestTerms, Opening, PostedRates, RuleError, Settled};

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

/// Replays an account's movements, in any order, up to `until`, which is not counted.
pub fn replay(
    movements: &[Movement],
    opening: Opening,
    currency: Currency,
    until: Date,
    terms: &InterestTerms,
    posted: &PostedRates,
) -> Result<Replayed, RuleError> {
    let quotes = terms.quotes(posted, opening, opening.on, until)?;
    let mut due: BTreeMap<Date, Vec<i64>> = BTreeMap::new();
    for movement in movements {
        // What counts from before the opening counts from the opening.
        due.entry(movement.value_date.max(opening.on)).or_default().push(movement.minor);
    }
    let mut accrual = Accrual::start(opening.on, currency);
    let mut balance = Money::zero(currency);
    let mut settled: Vec<Settled> = Vec::new();
    let mut settlement = terms.settlement.next(opening.on)?;
    while accrual.until() < until {
        let day = accrual.until();
        for minor in due.remove(&day).unwrap_or_default() {
            balance = balance.checked_add(Money::new(minor, currency))?;
        }
        let mut next = due.keys().next().map_or(until, |movement| until.min(*movement));
        if let Some(settlement) = settlement {
            next = next.min(tomorrow(settlement)?);
        }
        accrual.advance(next, balance, &quotes)?;
        if let Some(day) = settlement.filter(|day| tomorrow(*day) == Ok(next)) {
            let paid = accrual.settle(day, &quotes)?;
            if terms.compounds {
                balance = balance.checked_add(paid.net)?;
            }
            settled.push(paid);
            settlement = terms.settlement.next(next)?;
            if settled.len() > SETTLEMENTS_MAX {
                return Err(RuleError::TooLong(SETTLEMENTS_MAX));
            }
        }
    }
    Ok(Replayed { settled, accrual, balance })
}
