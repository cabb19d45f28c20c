//! What lateness costs, by the PBC's Notice on Interest Rates of Renminbi Loans (Yinfa (2003) 251): penalty interest on
//! overdue principal at the loan's rate and 30 to 50 % of it, from the day it is overdue until it is paid; interest that was
//! not paid in time bears compound interest at the penalty rate.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::day_count::calendar_days;
use crate::{DayCount, Factor, Interest, Rate, RuleError};

/// Terms of lateness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PenaltyTerms {
    /// By how much the loan's rate is multiplied: 1.3 to 1.5 for lateness.
    pub factor: Factor,
    /// Whether interest that is late bears interest at the penalty rate.
    pub compounds: bool,
    /// How days are counted.
    pub day_count: DayCount,
    /// Days after the due date within which a payment costs nothing. After them penalty counts from the due date.
    #[serde(default)]
    pub grace_days: u16,
}

/// What of one instalment is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrears {
    /// When it was due.
    pub due: Date,
    /// Principal that is not paid.
    pub principal_minor: i64,
    /// Interest that is not paid; not penalty.
    pub interest_minor: i64,
}

/// What some days of lateness cost, exactly; sums of many are rounded once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Penalty {
    /// On principal.
    pub on_principal: Interest,
    /// On interest.
    pub on_interest: Interest,
}

/// Days a payment is late on a day; the day after the due date is the first.
pub fn days_overdue(due: Date, on: Date) -> u32 {
    u32::try_from(calendar_days(due, on)).unwrap_or(0)
}

impl PenaltyTerms {
    /// The rate of penalty interest of a loan.
    pub fn rate(&self, loan: Rate) -> Result<Rate, RuleError> {
        loan.times(self.factor)
    }

    /// True if by that day a payment that is still open costs penalty.
    pub fn applies(&self, due: Date, on: Date) -> bool {
        days_overdue(due, on) > u32::from(self.grace_days)
    }

    /// What `[from, to)` costs while so much is late. Both lie after the due date or on it, which is the first day.
    /// Overdue principal earns this instead of the loan's interest.
    pub fn penalty(&self, arrears: &Arrears, loan: Rate, from: Date, to: Date) -> Result<Penalty, RuleError> {
        if from < arrears.due || to < from {
            return Err(RuleError::Backwards { from: arrears.due.max(from), to: to.min(from) });
        }
        let days = i128::from(self.day_count.days_within(arrears.due, from, to));
        let rate = self.rate(loan)?;
        let on = |minor: i64| Interest::earned(i128::from(minor) * days, rate, self.day_count.year());
        let on_interest = if self.compounds { on(arrears.interest_minor)? } else { Interest::ZERO };
        Ok(Penalty { on_principal: on(arrears.principal_minor)?, on_interest })
    }
}
