//! Repaying before it is due.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::schedule::{Instalment, LoanTerms, Method, Pay, Period, PeriodCount, rows};
use crate::calendar::add_months;
use crate::interest::share;
use crate::withdrawal::check_taken;
use crate::{DayCount, Rate, RuleError};

/// What an early repayment changes about the instalments that remain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// They stay as high and end sooner.
    ShorterTerm,
    /// They become smaller and end when they would have.
    SmallerInstalments,
}

/// Terms of early repayment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyTerms {
    /// What it costs, as a share of the principal repaid early.
    pub fee: Rate,
    /// Months from the first day of the loan after which it costs nothing; the fee is always due without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_after_months: Option<u16>,
    /// The smallest early repayment, unless it is all that is left.
    pub min_minor: i64,
    /// What changes.
    pub then: Then,
}

/// An early repayment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlyRepayment {
    /// Interest on what is repaid, from the beginning of the period to the day.
    pub interest_minor: i64,
    /// The fee.
    pub fee_minor: i64,
    /// The instalments that remain; the first one's period is the current one, on the principal that remains.
    pub remaining: Vec<Instalment>,
}

impl EarlyTerms {
    /// Repays `minor` of principal on a day. `unpaid` are the instalments that are not yet due, the current period's first;
    /// what is overdue is paid before.
    pub fn repay(
        &self,
        terms: &LoanTerms,
        drawn: Date,
        unpaid: &[Instalment],
        on: Date,
        minor: i64,
    ) -> Result<EarlyRepayment, RuleError> {
        let Some(current) = unpaid.first() else {
            return Err(RuleError::NotEnough { wanted_minor: minor, available_minor: 0 });
        };
        check_taken(minor, current.opening_minor)?;
        if on < current.from || on >= current.due {
            return Err(RuleError::Backwards { from: current.from, to: on });
        }
        if minor < self.min_minor && minor < current.opening_minor {
            return Err(RuleError::BelowMinimum { minor, min_minor: self.min_minor });
        }
        let days = match terms.count {
            PeriodCount::WholeMonths => DayCount::Act360.days(current.from, on).min(current.days),
            PeriodCount::Days(count) => count.days(current.from, on),
        };
        Ok(EarlyRepayment {
            interest_minor: terms.interest(minor, days)?,
            fee_minor: self.fee(drawn, on, minor)?,
            remaining: self.remaining(terms, unpaid, current, minor)?,
        })
    }

    fn fee(&self, drawn: Date, on: Date, minor: i64) -> Result<i64, RuleError> {
        if let Some(months) = self.free_after_months
            && on >= add_months(drawn, i32::from(months))?
        {
            return Ok(0);
        }
        share(minor, self.fee)
    }

    fn remaining(
        &self,
        terms: &LoanTerms,
        unpaid: &[Instalment],
        current: &Instalment,
        minor: i64,
    ) -> Result<Vec<Instalment>, RuleError> {
        let left = current.opening_minor - minor;
        if left == 0 {
            return Ok(Vec::new());
        }
        let periods: Vec<Period> = unpaid
            .iter()
            .map(|row| Period { number: row.number, from: row.from, due: row.due, days: row.days })
            .collect();
        let pay = match (self.then, terms.method) {
            (Then::SmallerInstalments, _) | (_, Method::Bullet) => terms.pay(left, &periods)?,
            (Then::ShorterTerm, Method::EqualInstalments) => Pay::Amount(current.amount_minor()),
            (Then::ShorterTerm, Method::EqualPrincipal) => Pay::Principal(current.principal_minor),
        };
        rows(terms, left, pay, &periods)
    }
}
