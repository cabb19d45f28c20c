//! Dates and times as XML Schema writes them.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime};

/// Largest offset from UTC that XML Schema knows: 14 hours.
const OFFSET_MINUTES_MAX: i16 = 14 * 60;
/// China is eight hours east of UTC, in one zone and without summer time.
const CHINA_MINUTES: i16 = 8 * 60;

/// An `ISODateTime`: a time of the calendar, and how far from UTC it is, if the message says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Date and time as written.
    pub civil: DateTime,
    /// Minutes east of UTC; 480 in China. `None` if the message leaves it open.
    pub offset_minutes: Option<i16>,
}

impl Moment {
    /// A time in China (UTC+8), where this bank is.
    pub fn china(civil: DateTime) -> Self {
        Self { civil, offset_minutes: Some(CHINA_MINUTES) }
    }

    /// The day it is in China then, where this bank is; the day as written, if the message leaves the offset open.
    pub fn day_in_china(self) -> Date {
        let behind = self.offset_minutes.map_or(0, |offset| CHINA_MINUTES - offset);
        let there = self.civil.checked_add(jiff::Span::new().minutes(behind));
        there.unwrap_or(self.civil).date()
    }
}

/// Not a date or time of the calendar in the form XML Schema has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a date or time of the calendar")]
pub struct NotATime;

impl FromStr for Moment {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        let (date, rest) = text.split_once('T').ok_or(NotATime)?;
        let zone = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
        let (time, zone) = rest.split_at(zone);
        let date = parse_date(date)?;
        let (whole, fraction) = time.split_once('.').map_or((time, None), |(w, f)| (w, Some(f)));
        if !shaped(whole, "00:00:00") || fraction.is_some_and(|f| !(1..=9).contains(&f.len()) || !digits(f)) {
            return Err(NotATime);
        }
        let time = time.parse::<jiff::civil::Time>().map_err(|_| NotATime)?;
        // jiff takes 60 for a leap second and makes it 59: XML Schema has none.
        if whole.ends_with(":60") {
            return Err(NotATime);
        }
        Ok(Self { civil: date.to_datetime(time), offset_minutes: parse_offset(zone)? })
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.civil)?;
        match self.offset_minutes {
            None => Ok(()),
            Some(0) => f.write_str("Z"),
            Some(minutes) => {
                let sign = if minutes < 0 { '-' } else { '+' };
                let minutes = minutes.unsigned_abs();
                write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
            }
        }
    }
}

/// An `ISODate` without time zone: `2026-11-23`.
pub(crate) fn parse_date(text: &str) -> Result<Date, NotATime> {
    if shaped(text, "0000-00-00") { text.parse().map_err(|_| NotATime) } else { Err(NotATime) }
}

fn parse_offset(text: &str) -> Result<Option<i16>, NotATime> {
    if text.is_empty() {
        return Ok(None);
    }
    if text == "Z" {
        return Ok(Some(0));
    }
    let (sign, clock) = match text.split_at(1) {
        ("+", clock) => (1, clock),
        ("-", clock) => (-1, clock),
        _ => return Err(NotATime),
    };
    if !shaped(clock, "00:00") {
        return Err(NotATime);
    }
    let number = |text: &str| text.parse::<i16>().map_err(|_| NotATime);
    let (hours, minutes) = (number(&clock[..2])?, number(&clock[3..])?);
    let offset = hours * 60 + minutes;
    if minutes < 60 && offset <= OFFSET_MINUTES_MAX { Ok(Some(sign * offset)) } else { Err(NotATime) }
}

fn digits(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

/// True if the text has digits where the shape has zeros, and the shape's characters elsewhere.
fn shaped(text: &str, shape: &str) -> bool {
    text.len() == shape.len()
        && text.bytes().zip(shape.bytes()).all(|(b, s)| if s == b'0' { b.is_ascii_digit() } else { b == s })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_print_as_they_were_read() {
        for text in [
            "2026-11-23T09:30:00",
            "2026-11-23T09:30:00+08:00",
            "2024-02-29T23:59:59.123Z",
            "2026-01-01T00:00:00-14:00",
        ] {
            assert_eq!(text.parse::<Moment>().unwrap().to_string(), text);
        }
        assert_eq!(
            "2026-11-23T09:30:00+00:00".parse::<Moment>().unwrap().to_string(),
            "2026-11-23T09:30:00Z"
        );
    }

    #[test]
    fn what_is_not_of_the_calendar_is_refused() {
        for text in [
            "",
            "2026-11-23",
            "2026-11-23 09:30:00",
            "2026-11-23t09:30:00",
            "2026-02-29T00:00:00",
            "2026-13-01T00:00:00",
            "2026-11-23T24:00:00",
            "2026-11-23T09:60:00",
            "2026-11-23T09:30:60",
            "2026-11-23T09:30",
            "2026-11-23T09:30:00.",
            "2026-11-23T09:30:00+8:00",
            "2026-11-23T09:30:00+14:01",
            "2026-11-23T09:30:00+08:60",
            "2026-11-23T09:30:00z",
            "2026-11-23T09:30:00[Asia/Shanghai]",
            "+02026-11-23T09:30:00",
        ] {
            assert_eq!(text.parse::<Moment>(), Err(NotATime), "{text}");
        }
        for text in ["2026-02-30", "2026-1-01", "20261123", "2026-11-23Z", "２０２６-11-23"] {
            assert_eq!(parse_date(text), Err(NotATime), "{text}");
        }
    }

    #[test]
    fn the_day_is_that_of_china() {
        for (text, day) in [
            ("2026-11-23T15:59:59Z", "2026-11-23"),
            ("2026-11-23T16:00:00Z", "2026-11-24"),
            ("2026-11-23T00:30:00+09:00", "2026-11-22"),
            ("2026-11-23T23:59:59+08:00", "2026-11-23"),
            ("2026-11-23T23:59:59", "2026-11-23"),
            ("9999-12-31T23:59:59-14:00", "9999-12-31"),
        ] {
            assert_eq!(text.parse::<Moment>().unwrap().day_in_china().to_string(), day, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[0-9TZ:+.\\-年]{0,30}|\\PC{0,20}") {
            let _ = text.parse::<Moment>();
            let _ = parse_date(&text);
        }
    }
}
