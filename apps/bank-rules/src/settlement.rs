//! On which days interest is settled.

use jiff::civil::{Date, date};
use serde::{Deserialize, Serialize};

use crate::RuleError;

/// On which days interest is settled. The settlement day itself still earns; what was earned up to it is paid the day
/// after. A day the month does not have is the month's last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Settlement {
    /// That day of every month.
    Monthly {
        /// 1 to 31.
        day: i8,
    },
    /// That day of March, June, September and December: current deposits in China on the 20th (PBC, Yinfa (2005) 129).
    Quarterly {
        /// 1 to 31.
        day: i8,
    },
    /// That day of the year.
    Yearly {
        /// 1 to 12.
        month: i8,
        /// 1 to 31.
        day: i8,
    },
    /// When the account ends: at maturity, on withdrawal, on closing.
    AtEnd,
}

impl Settlement {
    /// The personal and corporate current deposits of China: the 20th of the last month of each quarter.
    pub const CHINA_QUARTERLY: Self = Self::Quarterly { day: 20 };

    /// The first settlement day that is not before `date`; none if there are none.
    pub fn next(self, date: Date) -> Result<Option<Date>, RuleError> {
        let due = |month: i8| match self {
            Self::Monthly { day } => Some(day),
            Self::Quarterly { day } => (month % 3 == 0).then_some(day),
            Self::Yearly { month: only, day } => (month == only).then_some(day),
            Self::AtEnd => None,
        };
        let (mut year, mut month) = (date.year(), date.month());
        // Within thirteen months every month comes, the one we began in twice.
        for _ in 0..=12 {
            if let Some(day) = due(month) {
                let candidate = day_of(year, month, day)?;
                if candidate >= date {
                    return Ok(Some(candidate));
                }
            }
            (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        }
        Ok(None)
    }
}

fn day_of(year: i16, month: i8, day: i8) -> Result<Date, RuleError> {
    if !(1..=9999).contains(&year) || day < 1 {
        return Err(RuleError::OutOfRange);
    }
    let first = date(year, month, 1);
    Date::new(year, month, day.min(first.days_in_month())).map_err(|_| RuleError::OutOfRange)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settlement_days_come_in_their_months() {
        let cases = [
            (Settlement::CHINA_QUARTERLY, date(2026, 3, 20), Some(date(2026, 3, 20))),
            (Settlement::CHINA_QUARTERLY, date(2026, 3, 21), Some(date(2026, 6, 20))),
            (Settlement::CHINA_QUARTERLY, date(2026, 12, 21), Some(date(2027, 3, 20))),
            (Settlement::Monthly { day: 31 }, date(2024, 2, 1), Some(date(2024, 2, 29))),
            (Settlement::Monthly { day: 31 }, date(2023, 2, 28), Some(date(2023, 2, 28))),
            (Settlement::Monthly { day: 1 }, date(2023, 12, 2), Some(date(2024, 1, 1))),
            (Settlement::Yearly { month: 6, day: 30 }, date(2004, 7, 1), Some(date(2005, 6, 30))),
            (Settlement::Yearly { month: 6, day: 30 }, date(2004, 6, 30), Some(date(2004, 6, 30))),
            (Settlement::Yearly { month: 2, day: 29 }, date(2023, 2, 1), Some(date(2023, 2, 28))),
            (Settlement::AtEnd, date(2023, 2, 1), None),
        ];
        for (settlement, from, expected) in cases {
            assert_eq!(settlement.next(from), Ok(expected), "{settlement:?} {from}");
        }
        assert_eq!(Settlement::Monthly { day: 1 }.next(date(9999, 12, 31)), Err(RuleError::OutOfRange));
        assert_eq!(Settlement::Monthly { day: 0 }.next(date(2024, 1, 1)), Err(RuleError::OutOfRange));
    }
}
