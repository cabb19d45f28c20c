//! Exact money: an integer count of minor units and its ISO 4217 currency. No floats, no silent overflow.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Currencies the platform knows: code and number of decimals, from ISO 4217 list one.
const CURRENCIES: &[(&str, u8)] = &[
    ("CNY", 2),
    ("HKD", 2),
    ("MOP", 2),
    ("TWD", 2),
    ("USD", 2),
    ("EUR", 2),
    ("GBP", 2),
    ("CHF", 2),
    ("AUD", 2),
    ("CAD", 2),
    ("NZD", 2),
    ("SGD", 2),
    ("THB", 2),
    ("MYR", 2),
    ("RUB", 2),
    ("JPY", 0),
    ("KRW", 0),
    ("VND", 0),
    ("BHD", 3),
    ("KWD", 3),
];

/// An ISO 4217 currency the platform knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "CNY", pattern = "^[A-Z]{3}$")]
pub struct Currency(u8);

impl Currency {
    /// Renminbi.
    pub const CNY: Self = Self(0);

    /// The three-letter code.
    pub fn code(self) -> &'static str {
        CURRENCIES[usize::from(self.0)].0
    }

    /// Decimals of the minor unit: 2 for CNY (fen), 0 for JPY.
    pub fn decimals(self) -> u8 {
        CURRENCIES[usize::from(self.0)].1
    }
}

impl FromStr for Currency {
    type Err = MoneyError;
    fn from_str(code: &str) -> Result<Self, MoneyError> {
        let index = CURRENCIES.iter().position(|(known, _)| *known == code);
        let index = index.and_then(|i| u8::try_from(i).ok());
        index.map(Self).ok_or_else(|| MoneyError::UnknownCurrency(code.chars().take(8).collect()))
    }
}

impl TryFrom<String> for Currency {
    type Error = MoneyError;
    fn try_from(value: String) -> Result<Self, MoneyError> {
        value.parse()
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> String {
        currency.code().to_owned()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

/// Why a computation with money was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The code is not in the list.
    #[error("unknown currency {0:?}: use an ISO 4217 code such as CNY")]
    UnknownCurrency(String),
    /// Two amounts of different currencies were combined.
    #[error("cannot combine {0} with {1}")]
    CurrencyMismatch(Currency, Currency),
    /// The result does not fit 64 bits.
    #[error("the amount is out of range")]
    OutOfRange,
    /// The text is not an amount of that currency.
    #[error("{0:?} is not an amount: digits, and at most the decimals of the currency")]
    Malformed(String),
}

/// An amount in minor units (fen for CNY), signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Money {
    /// Count of minor units, e.g. 1050 for 10.50 CNY.
    pub minor: i64,
    /// ISO 4217 code.
    pub currency: Currency,
}

impl Money {
    /// An amount of `minor` minor units.
    pub fn new(minor: i64, currency: Currency) -> Self {
        Self { minor, currency }
    }

    /// Nothing, in that currency.
    pub fn zero(currency: Currency) -> Self {
        Self::new(0, currency)
    }

    /// Sum; refused on overflow or on different currencies.
    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        self.same_currency(other)?;
        let minor = self.minor.checked_add(other.minor).ok_or(MoneyError::OutOfRange)?;
        Ok(Self::new(minor, self.currency))
    }

    /// Difference; refused on overflow or on different currencies.
    pub fn checked_sub(self, other: Self) -> Result<Self, MoneyError> {
        self.same_currency(other)?;
        let minor = self.minor.checked_sub(other.minor).ok_or(MoneyError::OutOfRange)?;
        Ok(Self::new(minor, self.currency))
    }

    /// The amount with its sign turned; refused for the one value that has no opposite.
    pub fn checked_neg(self) -> Result<Self, MoneyError> {
        let minor = self.minor.checked_neg().ok_or(MoneyError::OutOfRange)?;
        Ok(Self::new(minor, self.currency))
    }

    /// Sum of many; refused on overflow or on different currencies.
    pub fn checked_sum(
        currency: Currency,
        items: impl IntoIterator<Item = Self>,
    ) -> Result<Self, MoneyError> {
        items.into_iter().try_fold(Self::zero(currency), Self::checked_add)
    }

    /// Parses decimal text such as `10.50`. More decimals than the currency has are refused, never rounded.
    pub fn parse(text: &str, currency: Currency) -> Result<Self, MoneyError> {
        let malformed = || MoneyError::Malformed(text.chars().take(32).collect());
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let decimals = usize::from(currency.decimals());
        let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        let dangling = digits.ends_with('.');
        if whole.is_empty()
            || !all_digits(whole)
            || !all_digits(fraction)
            || fraction.len() > decimals
            || dangling
        {
            return Err(malformed());
        }
        let text_minor = format!("{}{whole}{fraction:0<decimals$}", if negative { "-" } else { "" });
        let minor = text_minor.parse::<i64>().map_err(|_| MoneyError::OutOfRange)?;
        Ok(Self::new(minor, currency))
    }

    fn same_currency(self, other: Self) -> Result<(), MoneyError> {
        if self.currency == other.currency {
            Ok(())
        } else {
            Err(MoneyError::CurrencyMismatch(self.currency, other.currency))
        }
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = usize::from(self.currency.decimals());
        let digits = format!("{:0>width$}", self.minor.unsigned_abs(), width = decimals + 1);
        let (whole, fraction) = digits.split_at(digits.len() - decimals);
        let sign = if self.minor < 0 { "-" } else { "" };
        let dot = if decimals == 0 { "" } else { "." };
        write!(f, "{sign}{whole}{dot}{fraction} {}", self.currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_print_and_parse() {
        let cases = [
            (0, "CNY", "0.00 CNY"),
            (5, "CNY", "0.05 CNY"),
            (-1050, "CNY", "-10.50 CNY"),
            (7, "JPY", "7 JPY"),
        ];
        for (minor, code, text) in cases {
            assert_eq!(Money::new(minor, code.parse().unwrap()).to_string(), text);
        }
        assert_eq!(Money::parse("10.5", Currency::CNY).unwrap().minor, 1050);
        assert_eq!(Money::parse("-0.01", Currency::CNY).unwrap().minor, -1);
        for bad in ["", ".", "1.", ".5", "1.005", "1e3", "+1", "0x1", "1,0", "--1", "99999999999999999999"] {
            assert!(Money::parse(bad, Currency::CNY).is_err(), "{bad}");
        }
    }

    #[test]
    fn overflow_and_mixed_currencies_are_refused() {
        let most = Money::new(i64::MAX, Currency::CNY);
        assert_eq!(most.checked_add(Money::new(1, Currency::CNY)), Err(MoneyError::OutOfRange));
        assert_eq!(Money::new(i64::MIN, Currency::CNY).checked_neg(), Err(MoneyError::OutOfRange));
        let yen = Money::new(1, "JPY".parse().unwrap());
        assert!(matches!(most.checked_sub(yen), Err(MoneyError::CurrencyMismatch(..))));
    }

    proptest! {
        #[test]
        fn text_round_trips(minor in any::<i64>()) {
            let money = Money::new(minor, Currency::CNY);
            let text = money.to_string();
            prop_assert_eq!(Money::parse(text.trim_end_matches(" CNY"), Currency::CNY).unwrap(), money);
        }

        #[test]
        fn subtraction_undoes_addition(a in -1_000_000_000_i64..1_000_000_000, b in -1_000_000_000_i64..1_000_000_000) {
            let (a, b) = (Money::new(a, Currency::CNY), Money::new(b, Currency::CNY));
            prop_assert_eq!(a.checked_add(b).unwrap().checked_sub(b).unwrap(), a);
        }
    }
}
