//! Interest of one account as it grows, from one settlement to the next.
//!
//! The state is what end of day keeps for an account. It may be advanced a day at a time or over any stretch of days with
//! the same balance: the result is the same, to the atom.

use dujiang_types::{Currency, Money};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::calendar::tomorrow;
use crate::interest::share;
use crate::terms::{Fixing, Quotes, Remainder};
use crate::{Interest, RuleError};

/// Interest of one account that is accrued and not yet settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accrual {
    currency: Currency,
    /// First day of the period.
    from: Date,
    /// First day that is not accrued.
    until: Date,
    /// What is certain: interest of days whose rate is known, and the remainder carried from the last period.
    exact: Interest,
    /// Where the rate is the settlement day's: minor units times days, by tier, waiting for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    minor_days: Vec<i128>,
    /// What was booked of this period's interest, rounded.
    booked_minor: i64,
}

/// Interest that was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// First day of the period.
    pub from: Date,
    /// First day that is not in it.
    pub until: Date,
    /// Interest of the period.
    pub interest: Money,
    /// Tax withheld of it.
    pub tax: Money,
    /// What the customer gets: interest less tax. Negative if the rate was.
    pub net: Money,
    /// What is still to be booked as interest: the interest less what [`Accrual::book`] has said before.
    pub unbooked: Money,
}

impl Accrual {
    /// Nothing accrued; `on` is the first day that earns.
    pub fn start(on: Date, currency: Currency) -> Self {
        Self { currency, from: on, until: on, exact: Interest::ZERO, minor_days: Vec::new(), booked_minor: 0 }
    }

    /// The first day of the period.
    pub fn from(&self) -> Date {
        self.from
    }

    /// The first day that is not accrued.
    pub fn until(&self) -> Date {
        self.until
    }

    /// Accrues the days up to `to`, which is not counted. `balance` is that of the end of each of those days.
    pub fn advance(&mut self, to: Date, balance: Money, quotes: &Quotes<'_>) -> Result<(), RuleError> {
        if to < self.until {
            return Err(RuleError::Backwards { from: self.until, to });
        }
        quotes.check(to)?;
        // Works on a copy, so that a failure leaves no half of a stretch behind.
        let mut next = self.clone();
        let bearing = quotes.terms.bearing.of(Money::zero(self.currency).checked_add(balance)?);
        match quotes.terms.fixing {
            Fixing::SettlementDay => next.wait_for_rate(to, bearing, quotes)?,
            Fixing::EachDay | Fixing::OpeningDay => {
                for change in quotes.changes(self.until, to) {
                    next.earn(change, bearing, quotes)?;
                }
                next.earn(to, bearing, quotes)?;
            }
        }
        *self = next;
        Ok(())
    }

    /// Adds what was earned until `to` at the rate of the first of those days.
    fn earn(&mut self, to: Date, bearing: i64, quotes: &Quotes<'_>) -> Result<(), RuleError> {
        let terms = quotes.terms;
        let days = terms.day_count.days_within(self.from, self.until, to);
        if days != 0 {
            let rates = quotes.rates(self.until)?;
            terms.rate.shares(bearing, |tier, minor| {
                let rate = *rates.get(tier).ok_or(RuleError::TiersChanged)?;
                let minor_days = i128::from(minor) * i128::from(days);
                self.exact = self.exact.plus(Interest::earned(minor_days, rate, terms.day_count.year())?)?;
                Ok(())
            })?;
        }
        self.until = to;
        Ok(())
    }

    fn wait_for_rate(&mut self, to: Date, bearing: i64, quotes: &Quotes<'_>) -> Result<(), RuleError> {
        let terms = quotes.terms;
        let tiers = terms.rate.rates_len();
        if self.minor_days.is_empty() {
            self.minor_days.resize(tiers, 0);
        } else if self.minor_days.len() != tiers {
            return Err(RuleError::TiersChanged);
        }
        let days = i128::from(terms.day_count.days_within(self.from, self.until, to));
        let waiting = &mut self.minor_days;
        terms.rate.shares(bearing, |tier, minor| {
            let sum = waiting.get_mut(tier).ok_or(RuleError::TiersChanged)?;
            *sum = sum.checked_add(i128::from(minor) * days).ok_or(RuleError::OutOfRange)?;
            Ok(())
        })?;
        self.until = to;
        Ok(())
    }

    /// What is accrued by now, exactly; where the rate is the settlement day's, as if `on` were it.
    pub fn value(&self, on: Date, quotes: &Quotes<'_>) -> Result<Interest, RuleError> {
        if self.minor_days.is_empty() {
            return Ok(self.exact);
        }
        let rates = quotes.rates(on)?;
        if rates.len() != self.minor_days.len() {
            return Err(RuleError::TiersChanged);
        }
        let year = quotes.terms.day_count.year();
        self.minor_days.iter().zip(rates).try_fold(self.exact, |sum, (minor_days, rate)| {
            sum.plus(Interest::earned(*minor_days, *rate, year)?)
        })
    }

    /// What is to be booked as interest on a day, so that all that was booked is what is accrued, rounded once. The
    /// remainder stays here and is in what is booked on a later day.
    pub fn book(&mut self, on: Date, quotes: &Quotes<'_>) -> Result<Money, RuleError> {
        let rounded = self.value(on, quotes)?.rounded()?;
        let change = rounded.checked_sub(self.booked_minor).ok_or(RuleError::OutOfRange)?;
        self.booked_minor = rounded;
        Ok(Money::new(change, self.currency))
    }

    /// Settles on a settlement day, which itself has earned: the next period begins the day after.
    pub fn settle(&mut self, on: Date, quotes: &Quotes<'_>) -> Result<Settled, RuleError> {
        self.settle_until(tomorrow(on)?, on, quotes)
    }

    /// Settles because the account is closed; the closing day does not earn, but it is its rate that counts where the
    /// rate is the settlement day's.
    pub fn close(&mut self, on: Date, quotes: &Quotes<'_>) -> Result<Settled, RuleError> {
        self.settle_until(on, on, quotes)
    }

    fn settle_until(
        &mut self,
        until: Date,
        rate_of: Date,
        quotes: &Quotes<'_>,
    ) -> Result<Settled, RuleError> {
        if self.until != until {
            return Err(RuleError::NotAccruedTo { until: self.until, wanted: until });
        }
        let value = self.value(rate_of, quotes)?;
        let interest_minor = value.rounded()?;
        // Nobody is paid tax on interest that he pays himself.
        let tax_minor = share(interest_minor.max(0), quotes.tax(rate_of)?)?;
        let interest = Money::new(interest_minor, self.currency);
        let tax = Money::new(tax_minor, self.currency);
        let settled = Settled {
            from: self.from,
            until,
            interest,
            tax,
            net: interest.checked_sub(tax)?,
            unbooked: interest.checked_sub(Money::new(self.booked_minor, self.currency))?,
        };
        let carried = match quotes.terms.remainder {
            Remainder::Carried => value.minus(Interest::of_minor(interest_minor))?,
            Remainder::Dropped => Interest::ZERO,
        };
        *self = Self { exact: carried, ..Self::start(until, self.currency) };
        Ok(settled)
    }
}
