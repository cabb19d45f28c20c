//! What a withdrawal from a deposit earns, part by part, so that it can be explained to the customer.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::{DayCount, Interest, Rate, RuleError};

/// Why a part earns what it earns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It was kept as agreed.
    Agreed,
    /// It is withdrawn before its term ends.
    Early,
    /// The days after its term ended.
    Overdue,
    /// It was kept for less time than the notice takes.
    HeldTooShort,
    /// No notice was given, or not long enough before.
    NoNotice,
    /// It is withdrawn on another day than the notice said.
    OtherDay,
    /// It is more than the notice said.
    MoreThanNotified,
    /// The amount is below the smallest one that may be withdrawn.
    BelowMinimum,
    /// The days of a notice that was not carried out.
    NoticeLapsed,
}

/// A part of what a withdrawal earns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Why it earns that.
    pub why: Why,
    /// The amount, in minor units.
    pub minor: i64,
    /// The yearly rate.
    pub rate: Rate,
    /// First day.
    pub from: Date,
    /// First day that is not counted.
    pub to: Date,
    /// Days of interest, of which 360 make a year.
    pub days: i32,
    /// The interest, exactly.
    pub interest: Interest,
}

/// What a withdrawal earns. Parts that earn nothing are told, too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earned {
    /// The parts.
    pub parts: Vec<Part>,
}

impl Earned {
    /// Interest in minor units: the exact sum of all parts, rounded once.
    pub fn interest_minor(&self) -> Result<i64, RuleError> {
        self.exact()?.rounded()
    }

    /// The exact sum of all parts.
    pub fn exact(&self) -> Result<Interest, RuleError> {
        self.parts.iter().try_fold(Interest::ZERO, |sum, part| sum.plus(part.interest))
    }

    /// Adds a part over so many days; nothing if there are neither days nor money in it.
    pub(crate) fn add(
        &mut self,
        why: Why,
        minor: i64,
        rate: Rate,
        span: (Date, Date),
        days: i32,
    ) -> Result<(), RuleError> {
        if minor == 0 || days == 0 {
            return Ok(());
        }
        let minor_days = i128::from(minor) * i128::from(days);
        let interest = Interest::earned(minor_days, rate, DayCount::Act360.year())?;
        self.parts.push(Part { why, minor, rate, from: span.0, to: span.1, days, interest });
        Ok(())
    }

    /// Adds a part over the calendar's days.
    pub(crate) fn add_days(
        &mut self,
        why: Why,
        minor: i64,
        rate: Rate,
        span: (Date, Date),
    ) -> Result<(), RuleError> {
        self.add(why, minor, rate, span, DayCount::Act360.days(span.0, span.1))
    }
}

/// Refuses what cannot be taken from an amount.
pub(crate) fn check_taken(wanted_minor: i64, available_minor: i64) -> Result<(), RuleError> {
    match wanted_minor {
        ..=0 => Err(RuleError::NotPositive),
        wanted if wanted > available_minor => Err(RuleError::NotEnough { wanted_minor, available_minor }),
        _ => Ok(()),
    }
}
