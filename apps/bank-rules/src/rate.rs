//! Rates and factors as exact decimals, and values that hold from a date on.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::RuleError;

/// Decimals of a rate as written: 0.0001 % is a hundredth of a basis point, finer than any rate that is quoted.
const PERCENT_DECIMALS: usize = 4;
/// Rates stay within ±1000 %, so that no product of balance, rate and days leaves 128 bits ([`crate::interest`]).
const RATE_ABS_MAX: i64 = 10 * Rate::ONE;
/// A written rate is a multiple of this many units.
const WRITTEN_STEP: i64 = 10_000;
/// Decimals of a factor as written.
const FACTOR_DECIMALS: usize = 4;
/// Units of the factor one.
const FACTOR_ONE: i64 = 10_000;

/// A rate, of a year unless it says otherwise: an exact decimal, written as a percentage with its sign (`0.72%`), so
/// that nobody can mistake 0.72 for 72 %.
///
/// Kept in units of 10⁻¹⁰, of which a written rate uses six decimals: the other four are room for one exact
/// multiplication with a [`Factor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate(i64);

impl Rate {
    /// Units of 100 %.
    pub(crate) const ONE: i64 = 10_000_000_000;
    /// No interest.
    pub const ZERO: Self = Self(0);

    /// Units of 10⁻¹⁰.
    pub(crate) fn units(self) -> i64 {
        self.0
    }

    fn of_units(units: i64) -> Result<Self, RuleError> {
        if units.abs() > RATE_ABS_MAX { Err(RuleError::OutOfRange) } else { Ok(Self(units)) }
    }

    /// True below zero.
    pub fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// Whole percents, from 0 to 100; for constants.
    pub(crate) const fn percent(whole: i64) -> Self {
        assert!(0 <= whole && whole <= 100, "a share of a whole");
        Self(whole * (Self::ONE / 100))
    }

    /// The sum, as base rate and spread have one.
    pub fn plus(self, other: Self) -> Result<Self, RuleError> {
        Self::of_units(self.0 + other.0)
    }

    /// The product, as a penalty rate is one; refused where it would not be exact.
    pub fn times(self, factor: Factor) -> Result<Self, RuleError> {
        if self.0 % WRITTEN_STEP != 0 {
            return Err(RuleError::Inexact);
        }
        let units = (self.0 / WRITTEN_STEP).checked_mul(factor.0).ok_or(RuleError::OutOfRange)?;
        Self::of_units(units)
    }
}

impl FromStr for Rate {
    type Err = RuleError;
    fn from_str(text: &str) -> Result<Self, RuleError> {
        let malformed = || RuleError::MalformedRate(text.chars().take(32).collect());
        let percent = text.strip_suffix('%').ok_or_else(malformed)?;
        let ten_thousandths = decimal(percent, PERCENT_DECIMALS).ok_or_else(malformed)?;
        let units = ten_thousandths.checked_mul(WRITTEN_STEP).ok_or_else(malformed)?;
        if units < -Self::ONE { Err(malformed()) } else { Self::of_units(units).map_err(|_| malformed()) }
    }
}

impl TryFrom<String> for Rate {
    type Error = RuleError;
    fn try_from(text: String) -> Result<Self, RuleError> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> String {
        rate.to_string()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}%", written(self.0, 8)))
    }
}

/// By how much a rate is multiplied: penalty interest at one and a half times the loan's rate is the factor `1.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Factor(i64);

impl Factor {
    /// Of units of a ten-thousandth.
    pub(crate) const fn ten_thousandths(units: i64) -> Self {
        Self(units)
    }
}

impl FromStr for Factor {
    type Err = RuleError;
    fn from_str(text: &str) -> Result<Self, RuleError> {
        let units = decimal(text, FACTOR_DECIMALS).filter(|units| (0..=10 * FACTOR_ONE).contains(units));
        units.map(Self).ok_or_else(|| RuleError::MalformedFactor(text.chars().take(32).collect()))
    }
}

impl TryFrom<String> for Factor {
    type Error = RuleError;
    fn try_from(text: String) -> Result<Self, RuleError> {
        text.parse()
    }
}

impl From<Factor> for String {
    fn from(factor: Factor) -> String {
        written(factor.0, FACTOR_DECIMALS)
    }
}

/// Reads a decimal number with at most that many decimals, in units of the last one.
fn decimal(text: &str, decimals: usize) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) || fraction.len() > decimals {
        return None;
    }
    let units: i64 = format!("{whole}{fraction:0<decimals$}").parse().ok()?;
    Some(if negative { -units } else { units })
}

/// Writes units of the last of that many decimals, without zeros at the end.
fn written(units: i64, decimals: usize) -> String {
    let digits = format!("{:0>width$}", units.unsigned_abs(), width = decimals + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals);
    let fraction = fraction.trim_end_matches('0');
    let (sign, dot) = (if units < 0 { "-" } else { "" }, if fraction.is_empty() { "" } else { "." });
    format!("{sign}{whole}{dot}{fraction}")
}

/// A value and the first day it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Since<T> {
    /// The first day.
    pub from: Date,
    /// The value, until the next one's first day.
    pub value: T,
}

/// Values that hold one after the other, by the day each begins. Adding one changes nothing before its day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Since<T>>", bound(deserialize = "T: Deserialize<'de>"))]
pub struct Dated<T>(Vec<Since<T>>);

impl<T> Dated<T> {
    /// Values with their first days, which rise.
    pub fn new(values: Vec<Since<T>>) -> Result<Self, RuleError> {
        match values.windows(2).find(|pair| pair[0].from >= pair[1].from) {
            Some(pair) => Err(RuleError::DatesOutOfOrder(pair[1].from)),
            None => Ok(Self(values)),
        }
    }

    /// One value for all days.
    pub fn always(value: T) -> Self {
        Self(vec![Since { from: Date::MIN, value }])
    }

    /// Adds a value that begins after all the others.
    pub fn push(&mut self, from: Date, value: T) -> Result<(), RuleError> {
        if self.0.last().is_some_and(|last| last.from >= from) {
            return Err(RuleError::DatesOutOfOrder(from));
        }
        self.0.push(Since { from, value });
        Ok(())
    }

    /// The value of a day; none before the first.
    pub fn at(&self, day: Date) -> Option<&T> {
        let after = self.0.partition_point(|since| since.from <= day);
        after.checked_sub(1).map(|index| &self.0[index].value)
    }

    /// The days in `(from, to)` on which another value begins.
    pub fn changes(&self, from: Date, to: Date) -> impl Iterator<Item = Date> {
        let after = self.0.partition_point(|since| since.from <= from);
        self.0[after..].iter().map(|since| since.from).take_while(move |day| *day < to)
    }

    /// All values with their first days.
    pub fn iter(&self) -> impl Iterator<Item = &Since<T>> {
        self.0.iter()
    }
}

impl<T> TryFrom<Vec<Since<T>>> for Dated<T> {
    type Error = RuleError;
    fn try_from(values: Vec<Since<T>>) -> Result<Self, RuleError> {
        Self::new(values)
    }
}

/// Rates that are announced by name and date: a bank's posted rates, a loan prime rate, a rate of tax.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PostedRates(BTreeMap<String, Dated<Rate>>);

impl PostedRates {
    /// Announces a rate; it begins after all that were announced by that name.
    pub fn announce(&mut self, name: &str, from: Date, rate: Rate) -> Result<(), RuleError> {
        self.0.entry(name.to_owned()).or_insert(Dated(Vec::new())).push(from, rate)
    }

    /// The rates of a name by date.
    pub fn named(&self, name: &str) -> Option<&Dated<Rate>> {
        self.0.get(name)
    }

    /// The rate of a day.
    pub fn at(&self, name: &str, on: Date) -> Result<Rate, RuleError> {
        let rate = self.named(name).and_then(|rates| rates.at(on));
        rate.copied().ok_or_else(|| RuleError::NoValue { name: name.to_owned(), on })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn rates_are_written_with_their_sign() {
        for (text, units) in
            [("0.72%", 72_000_000), ("-0.5%", -50_000_000), ("18.25%", 1_825_000_000), ("0%", 0)]
        {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.units(), rate.to_string().as_str()), (units, text));
        }
        assert_eq!("4.3500%".parse::<Rate>().unwrap().to_string(), "4.35%");
        for bad in ["0.72", "0.00001%", "1,5%", "%", "1001%", "-101%", "1e2%", "+1%", ".5%", "1.%", "--1%"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
        let json: Rate = serde_json::from_str("\"3.45%\"").unwrap();
        assert_eq!(serde_json::to_string(&json).unwrap(), "\"3.45%\"");
        assert!(serde_json::from_str::<Rate>("3.45").is_err());
    }

    #[test]
    fn a_product_is_exact_or_refused() {
        let rate: Rate = "3.8525%".parse().unwrap();
        let penalty = rate.times("1.35".parse().unwrap()).unwrap();
        assert_eq!(penalty.to_string(), "5.200875%");
        assert_eq!(penalty.times("1.5".parse().unwrap()), Err(RuleError::Inexact));
        assert!("10.0001".parse::<Factor>().is_err() && "-1".parse::<Factor>().is_err());
        assert!("1000%".parse::<Rate>().unwrap().plus("0.01%".parse().unwrap()).is_err());
    }

    #[test]
    fn a_value_holds_from_its_day_until_the_next() {
        let mut posted = PostedRates::default();
        posted.announce("current", date(2024, 1, 1), "0.20%".parse().unwrap()).unwrap();
        posted.announce("current", date(2024, 7, 25), "0.15%".parse().unwrap()).unwrap();
        let at = |day| posted.at("current", day).map(|rate| rate.to_string());
        assert_eq!(at(date(2024, 7, 24)).unwrap(), "0.2%");
        assert_eq!(at(date(2024, 7, 25)).unwrap(), "0.15%");
        assert!(at(date(2023, 12, 31)).is_err() && posted.at("other", date(2024, 7, 25)).is_err());
        let rates = posted.named("current").unwrap();
        let changes = |from, to| rates.changes(from, to).collect::<Vec<_>>();
        assert_eq!(changes(date(2024, 1, 1), date(2024, 7, 26)), [date(2024, 7, 25)]);
        assert_eq!(changes(date(2024, 1, 1), date(2024, 7, 25)), []);
        assert_eq!(changes(date(2024, 7, 25), date(2025, 1, 1)), []);
        assert!(posted.announce("current", date(2024, 7, 25), Rate::ZERO).is_err());
        let unordered = r#"[{"from":"2024-02-01","value":"1%"},{"from":"2024-01-01","value":"1%"}]"#;
        assert!(serde_json::from_str::<Dated<Rate>>(unordered).is_err());
    }
}
