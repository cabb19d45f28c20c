//! Schedules of repayment.

use dujiang_types::Money;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::annuity::instalment;
use crate::calendar::{add_months, months_and_days};
use crate::{DayCount, Interest, Rate, RuleError};

/// Most periods of a loan: monthly for fifty years.
pub const PERIODS_MAX: u16 = 600;

/// How principal is repaid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The same amount every period, more and more of it principal.
    EqualInstalments,
    /// The same principal every period, and the interest on what was left.
    EqualPrincipal,
    /// Interest every period, all principal with the last. With one period, both at once.
    Bullet,
}

/// How a period's interest is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeriodCount {
    /// A month earns the twelfth part of the yearly rate, whatever its days; odd days of a first period the 360th.
    WholeMonths,
    /// By the days of a day count.
    Days(DayCount),
}

/// Terms of a loan with a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoanTerms {
    /// How principal is repaid.
    pub method: Method,
    /// The yearly rate.
    pub rate: Rate,
    /// How a period's interest is counted.
    pub count: PeriodCount,
    /// Months from one due date to the next.
    pub every_months: u16,
    /// Number of instalments.
    pub periods: u16,
}

/// An instalment. Its amount is principal and interest together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instalment {
    /// From 1.
    pub number: u16,
    /// First day of its period.
    pub from: Date,
    /// The day it is due, which belongs to the next period.
    pub due: Date,
    /// Days of interest of the period.
    pub days: i32,
    /// Principal that is left when the period begins.
    pub opening_minor: i64,
    /// Principal to repay.
    pub principal_minor: i64,
    /// Interest to pay.
    pub interest_minor: i64,
}

impl Instalment {
    /// Principal and interest.
    pub fn amount_minor(&self) -> i64 {
        self.principal_minor.saturating_add(self.interest_minor)
    }
}

/// What decides an instalment's principal.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pay {
    /// An amount of principal and interest.
    Amount(i64),
    /// An amount of principal.
    Principal(i64),
    /// Nothing before the last.
    AtEnd,
}

/// A period before it has amounts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Period {
    pub(super) number: u16,
    pub(super) from: Date,
    pub(super) due: Date,
    pub(super) days: i32,
}

/// The schedule of a loan that is drawn on a day. The first instalment is due a period later, or on `first_due`; the others
/// follow in whole months from there. The last one takes the rest, so principal adds up to the loan exactly.
pub fn schedule(
    terms: &LoanTerms,
    principal: Money,
    drawn: Date,
    first_due: Option<Date>,
) -> Result<Vec<Instalment>, RuleError> {
    if principal.minor <= 0 || terms.periods == 0 || terms.every_months == 0 {
        return Err(RuleError::NotPositive);
    }
    if terms.periods > PERIODS_MAX {
        return Err(RuleError::TooLong(usize::from(PERIODS_MAX)));
    }
    let periods = terms.periods(drawn, first_due)?;
    let pay = terms.pay(principal.minor, &periods)?;
    rows(terms, principal.minor, pay, &periods)
}

impl LoanTerms {
    pub(super) fn year(&self) -> i32 {
        match self.count {
            PeriodCount::WholeMonths => 360,
            PeriodCount::Days(count) => count.year(),
        }
    }

    fn periods(&self, drawn: Date, first_due: Option<Date>) -> Result<Vec<Period>, RuleError> {
        let every = i32::from(self.every_months);
        // Due dates are counted from one anchor: a loan drawn on the 31st is due on the last days of short months only.
        let (anchor, ahead) = first_due.map_or((drawn, 1), |first| (first, 0));
        let mut from = drawn;
        let mut periods = Vec::with_capacity(usize::from(self.periods));
        for number in 1..=self.periods {
            let due = add_months(anchor, (i32::from(number) - 1 + ahead) * every)?;
            if due <= from {
                return Err(RuleError::Backwards { from, to: due });
            }
            let odd = number == 1 && first_due.is_some();
            let days = match self.count {
                PeriodCount::Days(count) => count.days(from, due),
                PeriodCount::WholeMonths if odd => {
                    let (months, days) = months_and_days(from, due)?;
                    months * 30 + days
                }
                PeriodCount::WholeMonths => every * 30,
            };
            periods.push(Period { number, from, due, days });
            from = due;
        }
        Ok(periods)
    }

    pub(super) fn pay(&self, principal_minor: i64, periods: &[Period]) -> Result<Pay, RuleError> {
        Ok(match self.method {
            Method::EqualInstalments => {
                let days: Vec<i32> = periods.iter().map(|period| period.days).collect();
                Pay::Amount(instalment(principal_minor, self.rate, self.year(), &days)?)
            }
            Method::EqualPrincipal => {
                let count = i64::try_from(periods.len()).map_err(|_| RuleError::OutOfRange)?;
                Pay::Principal(half_up(principal_minor, count))
            }
            Method::Bullet => Pay::AtEnd,
        })
    }

    /// The interest of some principal for days of a period.
    pub(super) fn interest(&self, minor: i64, days: i32) -> Result<i64, RuleError> {
        Interest::earned(i128::from(minor) * i128::from(days), self.rate, self.year())?.rounded()
    }
}

/// The quotient of two positive numbers, a half up.
fn half_up(dividend: i64, divisor: i64) -> i64 {
    let (whole, rest) = (dividend / divisor, dividend % divisor);
    if rest >= divisor - rest { whole + 1 } else { whole }
}

/// Instalments of a principal over periods, until nothing is left; the last period takes the rest.
pub(super) fn rows(
    terms: &LoanTerms,
    principal_minor: i64,
    pay: Pay,
    periods: &[Period],
) -> Result<Vec<Instalment>, RuleError> {
    let mut opening_minor = principal_minor;
    let mut rows = Vec::with_capacity(periods.len());
    for (index, period) in periods.iter().enumerate() {
        if opening_minor == 0 {
            break;
        }
        let interest_minor = terms.interest(opening_minor, period.days)?;
        let wanted = match pay {
            _ if index + 1 == periods.len() => opening_minor,
            Pay::Amount(amount) if amount < interest_minor => {
                return Err(RuleError::InstalmentBelowInterest {
                    number: period.number,
                    amount_minor: amount,
                    interest_minor,
                });
            }
            Pay::Amount(amount) => amount.checked_sub(interest_minor).ok_or(RuleError::OutOfRange)?,
            Pay::Principal(principal) => principal,
            Pay::AtEnd => 0,
        };
        let principal_minor = wanted.min(opening_minor);
        rows.push(Instalment {
            number: period.number,
            from: period.from,
            due: period.due,
            days: period.days,
            opening_minor,
            principal_minor,
            interest_minor,
        });
        opening_minor -= principal_minor;
    }
    Ok(rows)
}
