//! How many days of interest lie between two dates, and how many make a year.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// A day count fraction of the 2006 ISDA Definitions, section 4.16, by its paragraph.
///
/// The first day counts, the last does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DayCount {
    /// Actual/360 (e): the days of the calendar over 360. What the PBC's rules call days by the accumulated balance.
    #[serde(rename = "ACT/360")]
    Act360,
    /// Actual/365 (Fixed) (d): the days of the calendar over 365, in leap years, too.
    #[serde(rename = "ACT/365F")]
    Act365F,
    /// 30/360, bond basis (f): a first day 31 is a 30; a last day 31 is a 30 only if the first one is a 30 by then.
    #[serde(rename = "30/360")]
    Thirty360,
    /// 30E/360, Eurobond basis (g): every day 31 is a 30.
    #[serde(rename = "30E/360")]
    ThirtyE360,
}

impl DayCount {
    /// Days of interest from `from` (counted) to `to` (not counted); negative if `to` lies before.
    pub fn days(self, from: Date, to: Date) -> i32 {
        match self {
            Self::Act360 | Self::Act365F => calendar_days(from, to),
            Self::Thirty360 => {
                let first = from.day().min(30);
                let last = if first == 30 { to.day().min(30) } else { to.day() };
                thirty(from, first, to, last)
            }
            Self::ThirtyE360 => thirty(from, from.day().min(30), to, to.day().min(30)),
        }
    }

    /// The days of interest that `[from, to)` adds to a period that began on `start`.
    ///
    /// Under 30/360 the days of two halves do not always add up to the days of the whole: 15 to 31 January are 16, 31
    /// January to 1 February is one, and 15 January to 1 February are 16. Counted from the period's start they do, so a
    /// period may be accrued in any pieces.
    pub fn days_within(self, start: Date, from: Date, to: Date) -> i32 {
        self.days(start, to) - self.days(start, from)
    }

    /// Days of a year: 360 or 365.
    pub fn year(self) -> i32 {
        match self {
            Self::Act365F => 365,
            Self::Act360 | Self::Thirty360 | Self::ThirtyE360 => 360,
        }
    }
}

/// Days of the calendar from `from` to `to`.
pub(crate) fn calendar_days(from: Date, to: Date) -> i32 {
    let days = from.duration_until(to).as_hours() / 24;
    i32::try_from(days).expect("there are fewer than 8 million days between any two dates")
}

fn thirty(from: Date, first: i8, to: Date, last: i8) -> i32 {
    360 * (i32::from(to.year()) - i32::from(from.year()))
        + 30 * (i32::from(to.month()) - i32::from(from.month()))
        + (i32::from(last) - i32::from(first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    type Day = (i16, i8, i8);

    /// ISDA's published table "30/360 day count conventions" (22 December 2008), examples 1 to 3: year, month, day of
    /// both ends; days by bond basis; days by Eurobond basis.
    const ISDA: &[(Day, Day, i32, i32)] = &[
        ((2006, 8, 20), (2007, 2, 20), 180, 180),
        ((2007, 2, 20), (2007, 8, 20), 180, 180),
        ((2007, 8, 20), (2008, 2, 20), 180, 180),
        ((2008, 2, 20), (2008, 8, 20), 180, 180),
        ((2008, 8, 20), (2009, 2, 20), 180, 180),
        ((2009, 2, 20), (2009, 8, 20), 180, 180),
        ((2006, 8, 31), (2007, 2, 28), 178, 178),
        ((2007, 2, 28), (2007, 8, 31), 183, 182),
        ((2007, 8, 31), (2008, 2, 29), 179, 179),
        ((2008, 2, 29), (2008, 8, 31), 182, 181),
        ((2008, 8, 31), (2009, 2, 28), 178, 178),
        ((2009, 2, 28), (2009, 8, 31), 183, 182),
        ((2006, 1, 31), (2006, 2, 28), 28, 28),
        ((2006, 1, 30), (2006, 2, 28), 28, 28),
        ((2006, 2, 28), (2006, 3, 3), 5, 5),
        ((2006, 2, 14), (2006, 2, 28), 14, 14),
        ((2006, 9, 30), (2006, 10, 31), 30, 30),
        ((2006, 10, 31), (2006, 11, 28), 28, 28),
        ((2007, 8, 31), (2008, 2, 28), 178, 178),
        ((2008, 2, 28), (2008, 8, 28), 180, 180),
        ((2008, 2, 28), (2008, 8, 30), 182, 182),
        ((2008, 2, 28), (2008, 8, 31), 183, 182),
        ((2007, 2, 26), (2008, 2, 28), 362, 362),
        ((2007, 2, 26), (2008, 2, 29), 363, 363),
        ((2008, 2, 29), (2009, 2, 28), 359, 359),
        ((2008, 2, 28), (2008, 3, 30), 32, 32),
        ((2008, 2, 28), (2008, 3, 31), 33, 32),
    ];

    #[test]
    fn thirty_day_months_match_the_table_isda_published() {
        for &(from, to, bond, euro) in ISDA {
            let (a, b) = (date(from.0, from.1, from.2), date(to.0, to.1, to.2));
            assert_eq!(DayCount::Thirty360.days(a, b), bond, "30/360 {a} {b}");
            assert_eq!(DayCount::ThirtyE360.days(a, b), euro, "30E/360 {a} {b}");
        }
    }

    #[test]
    fn actual_days_know_leap_years() {
        let cases = [
            (date(2023, 2, 28), date(2023, 3, 1), 1),
            (date(2024, 2, 28), date(2024, 3, 1), 2),
            (date(2000, 1, 1), date(2001, 1, 1), 366),
            (date(1900, 1, 1), date(1901, 1, 1), 365),
            (date(2024, 3, 1), date(2024, 2, 29), -1),
            (date(2024, 2, 29), date(2024, 2, 29), 0),
        ];
        for (from, to, days) in cases {
            assert_eq!(DayCount::Act360.days(from, to), days, "{from} {to}");
            assert_eq!(DayCount::Act365F.days(from, to), days, "{from} {to}");
        }
        let all = [DayCount::Act360, DayCount::Act365F, DayCount::Thirty360, DayCount::ThirtyE360];
        assert_eq!(all.map(DayCount::year), [360, 365, 360, 360]);
    }

    #[test]
    fn days_within_a_period_add_up_where_plain_days_do_not() {
        let (start, cut, end) = (date(2025, 1, 15), date(2025, 1, 31), date(2025, 2, 1));
        let count = DayCount::Thirty360;
        assert_eq!(count.days(start, cut) + count.days(cut, end), 17);
        assert_eq!(count.days(start, end), 16);
        assert_eq!(count.days_within(start, start, cut) + count.days_within(start, cut, end), 16);
    }
}
