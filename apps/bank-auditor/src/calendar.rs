//! Days, by the definitions and not by the bank's code.

use jiff::ToSpan;
use jiff::civil::Date;

use crate::books::DayCount;

/// Days of the calendar from one to another.
pub(crate) fn between(from: Date, to: Date) -> i64 {
    i64::from((to - from).get_days())
}

/// The day after; the last day of the calendar stays.
pub(crate) fn after(day: Date) -> Date {
    day.tomorrow().unwrap_or(day)
}

/// The same day some months later, or the last one of a shorter month; none beyond the calendar.
pub(crate) fn months_later(day: Date, months: i32) -> Option<Date> {
    day.checked_add(months.months()).ok()
}

/// Days of interest from `from` to `to`.
pub(crate) fn days(count: DayCount, from: Date, to: Date) -> i64 {
    let thirty = |first: i64, last: i64| {
        let months = (i64::from(to.year()) - i64::from(from.year())) * 12 + i64::from(to.month())
            - i64::from(from.month());
        months * 30 + last - first
    };
    let (first, last) = (i64::from(from.day()), i64::from(to.day()));
    match count {
        DayCount::Act360 | DayCount::Act365F | DayCount::Months => between(from, to),
        DayCount::Thirty360 if first >= 30 => thirty(30, last.min(30)),
        DayCount::Thirty360 => thirty(first, last),
        DayCount::ThirtyE360 => thirty(first.min(30), last.min(30)),
    }
}

/// Days of a year.
pub(crate) fn year(count: DayCount) -> i32 {
    if count == DayCount::Act365F { 365 } else { 360 }
}

/// True if interest is settled on that day.
pub(crate) fn settles(day: Date, months: &[i8], on: i8) -> bool {
    months.contains(&day.month()) && day.day() == on.min(day.days_in_month())
}
