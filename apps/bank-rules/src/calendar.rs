//! Months, and days on which a bank is open.

use std::collections::BTreeSet;

use jiff::Span;
use jiff::civil::{Date, Weekday};
use serde::{Deserialize, Serialize};

use crate::RuleError;
use crate::day_count::calendar_days;

/// Longest stretch of closed days looked over for a business day. The longest public holidays take nine days.
const CLOSED_DAYS_MAX: usize = 31;

/// The same day `months` later (or earlier), or the month's last day if it has no such day: 31 January and one month
/// are 28 or 29 February.
///
/// Terms are added to the day they began, never month by month: 31 January and two months are 31 March.
pub fn add_months(date: Date, months: i32) -> Result<Date, RuleError> {
    let span = Span::new().try_months(months).map_err(|_| RuleError::OutOfRange)?;
    date.checked_add(span).map_err(|_| RuleError::OutOfRange)
}

/// The day after.
pub fn tomorrow(date: Date) -> Result<Date, RuleError> {
    date.tomorrow().map_err(|_| RuleError::OutOfRange)
}

/// The whole months of a term that began on `from`, and the days left over after them, until `to`.
///
/// So does the PBC's notice Yinfa (2005) 129 split a period into whole years and months, and odd days.
pub fn months_and_days(from: Date, to: Date) -> Result<(i32, i32), RuleError> {
    if to < from {
        return Err(RuleError::Backwards { from, to });
    }
    let years = i32::from(to.year()) - i32::from(from.year());
    let mut months = years * 12 + i32::from(to.month()) - i32::from(from.month());
    if add_months(from, months)? > to {
        months -= 1;
    }
    Ok((months, calendar_days(add_months(from, months)?, to)))
}

/// Which days are business days: Monday to Friday, but for the exceptions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BusinessDays {
    /// Days from Monday to Friday that are none: public holidays.
    pub closed: BTreeSet<Date>,
    /// Saturdays and Sundays that are some: China makes up for long holidays by working on weekends.
    pub open: BTreeSet<Date>,
}

/// What becomes of a date that is no business day (2006 ISDA Definitions, section 4.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BusinessDayConvention {
    /// It stays. Settlement days of deposits in China do.
    #[default]
    Unadjusted,
    /// The next business day.
    Following,
    /// The next business day, unless it is in the next month: then the one before.
    ModifiedFollowing,
    /// The business day before.
    Preceding,
}

impl BusinessDays {
    /// True if that day is a business day.
    pub fn is_open(&self, date: Date) -> bool {
        let weekend = matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday);
        if weekend { self.open.contains(&date) } else { !self.closed.contains(&date) }
    }

    /// The date, moved by a convention if it is no business day.
    pub fn adjust(&self, date: Date, convention: BusinessDayConvention) -> Result<Date, RuleError> {
        if self.is_open(date) {
            return Ok(date);
        }
        match convention {
            BusinessDayConvention::Unadjusted => Ok(date),
            BusinessDayConvention::Following => self.nearest(date, Date::tomorrow),
            BusinessDayConvention::Preceding => self.nearest(date, Date::yesterday),
            BusinessDayConvention::ModifiedFollowing => {
                let next = self.nearest(date, Date::tomorrow)?;
                if next.month() == date.month() { Ok(next) } else { self.nearest(date, Date::yesterday) }
            }
        }
    }

    fn nearest(
        &self,
        from: Date,
        step: impl Fn(Date) -> Result<Date, jiff::Error>,
    ) -> Result<Date, RuleError> {
        let mut day = from;
        for _ in 0..CLOSED_DAYS_MAX {
            day = step(day).map_err(|_| RuleError::OutOfRange)?;
            if self.is_open(day) {
                return Ok(day);
            }
        }
        Err(RuleError::NoBusinessDay(from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use BusinessDayConvention::{Following, ModifiedFollowing, Preceding, Unadjusted};
    use jiff::ToSpan;
    use jiff::civil::date;

    #[test]
    fn months_end_with_their_months() {
        let cases = [
            (date(2023, 1, 31), 1, date(2023, 2, 28)),
            (date(2024, 1, 31), 1, date(2024, 2, 29)),
            (date(2024, 1, 31), 2, date(2024, 3, 31)),
            (date(2024, 2, 29), 12, date(2025, 2, 28)),
            (date(2024, 2, 29), 48, date(2028, 2, 29)),
            (date(2024, 8, 31), -6, date(2024, 2, 29)),
            (date(2024, 12, 15), 1, date(2025, 1, 15)),
        ];
        for (from, months, to) in cases {
            assert_eq!(add_months(from, months), Ok(to), "{from} + {months}");
        }
        assert_eq!(add_months(date(9999, 12, 1), 1), Err(RuleError::OutOfRange));
        assert_eq!(add_months(date(2024, 1, 1), i32::MAX), Err(RuleError::OutOfRange));
    }

    #[test]
    fn a_period_is_whole_months_and_odd_days() {
        let cases = [
            (date(2024, 1, 31), date(2024, 2, 29), (1, 0)),
            (date(2024, 1, 31), date(2024, 3, 30), (1, 30)),
            (date(2024, 1, 31), date(2024, 3, 31), (2, 0)),
            (date(2023, 3, 15), date(2024, 3, 14), (11, 28)),
            (date(2024, 3, 15), date(2024, 3, 15), (0, 0)),
        ];
        for (from, to, expected) in cases {
            assert_eq!(months_and_days(from, to), Ok(expected), "{from} {to}");
        }
        assert!(months_and_days(date(2024, 3, 15), date(2024, 3, 14)).is_err());
    }

    #[test]
    fn dates_move_off_holidays_by_their_convention() {
        // National Day of 2025: 1 to 8 October closed; 28 September and 11 October worked.
        let closed = (1..=8).map(|day| date(2025, 10, day)).collect();
        let open = [date(2025, 9, 28), date(2025, 10, 11)].into();
        let days = BusinessDays { closed, open };
        let adjust = |day, convention| days.adjust(day, convention).unwrap();
        assert_eq!(adjust(date(2025, 10, 4), Following), date(2025, 10, 9));
        assert_eq!(adjust(date(2025, 10, 4), Preceding), date(2025, 9, 30));
        assert_eq!(adjust(date(2025, 10, 4), Unadjusted), date(2025, 10, 4));
        assert_eq!(adjust(date(2025, 5, 31), ModifiedFollowing), date(2025, 5, 30));
        assert_eq!(adjust(date(2025, 5, 31), Following), date(2025, 6, 2));
        assert_eq!(adjust(date(2025, 5, 24), ModifiedFollowing), date(2025, 5, 26));
        assert!(days.is_open(date(2025, 9, 28)) && days.is_open(date(2025, 10, 11)));
        let never = (0..60).map(|n| date(2025, 1, 1).checked_add(n.days()).unwrap()).collect();
        let shut = BusinessDays { closed: never, open: BTreeSet::new() };
        let day = date(2025, 1, 1);
        assert_eq!(shut.adjust(day, Following), Err(RuleError::NoBusinessDay(day)));
    }
}
