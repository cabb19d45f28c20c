//! What a single value may look like: lengths, patterns, check digits, calendar, decimals.

use dujiang_types::{Currency, Money};

use crate::fault::{FaultCode, shown};
use crate::moment::{Moment, parse_date};
use crate::xml::is_allowed;

/// Simple types of the schemas, and the rules this bank adds to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Text of 1 to so many characters, not only blanks.
    Text(usize),
    /// A code of an external list, which the schema bounds in length only: 1 to so many of `A-Z 0-9`.
    External(usize),
    /// One of these.
    Code(&'static [&'static str]),
    /// `true`, `false`, `1` or `0`.
    Flag,
    /// `Max15NumericText`: 1 to 15 digits.
    Count,
    /// `DecimalNumber`: at most 18 digits, of which at most 17 decimals.
    Decimal,
    /// `ISODate`, without time zone.
    Date,
    /// `ISODateTime`.
    Moment,
    /// Two letters of ISO 3166.
    Country,
    /// A currency this bank keeps.
    Currency,
    /// ISO 13616, with its check digits (ISO 7064 MOD 97-10).
    Iban,
    /// ISO 9362.
    Bic,
    /// ISO 17442, with its check digits (ISO 7064 MOD 97-10).
    Lei,
    /// A version 4 UUID in small letters.
    Uetr,
}

/// What is wrong with a value.
pub(crate) type Wrong = (FaultCode, String);

impl Value {
    /// Judges a text.
    pub(crate) fn check(self, text: &str) -> Result<(), Wrong> {
        if text.trim().is_empty() {
            return Err((FaultCode::ValueEmpty, "it is empty".into()));
        }
        if text.contains(|c| !is_allowed(c)) {
            return Err((FaultCode::ValuePattern, "a character that XML does not allow".into()));
        }
        match self {
            Self::Text(max) => at_most(text, max),
            Self::External(max) => {
                at_most(text, max)?;
                let upper = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
                pattern(text.bytes().all(upper), text, "A-Z and 0-9")
            }
            Self::Code(list) if list.contains(&text) => Ok(()),
            Self::Code(list) => {
                Err((FaultCode::ValueCode, format!("{} is none of {}", shown(text), list.join(", "))))
            }
            Self::Flag => pattern(matches!(text, "true" | "false" | "1" | "0"), text, "true or false"),
            Self::Count => {
                let ok = text.len() <= 15 && text.bytes().all(|b| b.is_ascii_digit());
                pattern(ok, text, "1 to 15 digits")
            }
            Self::Decimal => ExactDecimal::parse(text).map(|_| ()).ok_or_else(|| not_a_number(text)),
            Self::Date => parse_date(text).map(|_| ()).map_err(|_| not_a_date(text)),
            Self::Moment => text.parse::<Moment>().map(|_| ()).map_err(|_| not_a_date(text)),
            Self::Country => {
                let ok = text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase());
                pattern(ok, text, "two letters of ISO 3166")
            }
            Self::Currency => currency(text).map(|_| ()),
            Self::Iban => iban(text),
            Self::Bic => bic(text),
            Self::Lei => lei(text),
            Self::Uetr => pattern(is_uuid4(text), text, "a UUID of version 4 in small letters"),
        }
    }
}

fn at_most(text: &str, max: usize) -> Result<(), Wrong> {
    let length = text.chars().count();
    if length <= max {
        return Ok(());
    }
    Err((FaultCode::ValueTooLong, format!("{length} characters, at most {max}")))
}

fn pattern(ok: bool, text: &str, wanted: &str) -> Result<(), Wrong> {
    if ok { Ok(()) } else { Err((FaultCode::ValuePattern, format!("{} is not {wanted}", shown(text)))) }
}

fn not_a_number(text: &str) -> Wrong {
    (FaultCode::ValueNumber, format!("{} is not a number of at most 18 digits", shown(text)))
}

fn not_a_date(text: &str) -> Wrong {
    (FaultCode::ValueDate, format!("{} is not of the calendar", shown(text)))
}

pub(crate) fn currency(text: &str) -> Result<Currency, Wrong> {
    text.parse().map_err(|_| (FaultCode::CurrencyUnknown, format!("currency {}", shown(text))))
}

/// An account number must not be shown: the fault says what is wrong with it and not which it is.
fn iban(text: &str) -> Result<(), Wrong> {
    let b = text.as_bytes();
    let formed = (5..=34).contains(&b.len())
        && b[..2].iter().all(u8::is_ascii_uppercase)
        && b[2..4].iter().all(u8::is_ascii_digit)
        && b[4..].iter().all(u8::is_ascii_alphanumeric);
    if !formed {
        return Err((FaultCode::ValuePattern, "it is not formed as an IBAN".into()));
    }
    let (head, body) = text.split_at(4);
    if has_check_digits(&head[2..]) && mod_97(body.bytes().chain(head.bytes())) == 1 {
        Ok(())
    } else {
        Err((FaultCode::AccountCheckDigits, "the check digits of the IBAN do not fit".into()))
    }
}

fn bic(text: &str) -> Result<(), Wrong> {
    let b = text.as_bytes();
    let upper = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    let formed =
        matches!(b.len(), 8 | 11) && b.iter().all(upper) && b[4..6].iter().all(u8::is_ascii_uppercase);
    if formed { Ok(()) } else { Err((FaultCode::AgentIdentifier, format!("{} is not a BIC", shown(text)))) }
}

fn lei(text: &str) -> Result<(), Wrong> {
    let b = text.as_bytes();
    let upper = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    let formed = b.len() == 20 && b[..18].iter().all(upper) && b[18..].iter().all(u8::is_ascii_digit);
    if formed && has_check_digits(&text[18..]) && mod_97(text.bytes()) == 1 {
        Ok(())
    } else {
        Err((FaultCode::AgentIdentifier, format!("{} is not an LEI", shown(text))))
    }
}

/// Check digits are 98 less a remainder by 97: 02 to 98. Of 00, 01 and 99 each leaves the same remainder as another one.
fn has_check_digits(digits: &str) -> bool {
    digits.parse::<u8>().is_ok_and(|digits| (2..=98).contains(&digits))
}

/// The remainder by 97 of the number that digits and letters (A is 10, Z is 35) make: ISO 7064 MOD 97-10.
fn mod_97(bytes: impl Iterator<Item = u8>) -> u32 {
    bytes.fold(0, |rest, b| {
        let value = char::from(b).to_digit(36).expect("the form was checked before");
        (rest * if value < 10 { 10 } else { 100 } + value) % 97
    })
}

fn is_uuid4(text: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.len() == 36
        && text.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            14 => b == b'4',
            19 => matches!(b, b'8' | b'9' | b'a' | b'b'),
            _ => hex(b),
        })
}

/// Reads an amount of a currency; at most as many decimals as the currency has, never rounded.
pub(crate) fn amount(text: &str, code: &str) -> Result<Money, Wrong> {
    let currency = currency(code)?;
    let number = ExactDecimal::parse(text).ok_or_else(|| not_a_number(text))?;
    if number.coefficient < 0 {
        return Err((FaultCode::ValueNumber, "an amount is never negative: its direction says that".into()));
    }
    let written = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    if written > usize::from(currency.decimals()) {
        let detail =
            format!("{} has {written} decimals, {currency} has {}", shown(text), currency.decimals());
        return Err((FaultCode::AmountDecimals, detail));
    }
    let minor = number.at_scale(u32::from(currency.decimals())).and_then(|minor| i64::try_from(minor).ok());
    let minor = minor.ok_or_else(|| (FaultCode::AmountRange, format!("{} {currency}", shown(text))))?;
    Ok(Money::new(minor, currency))
}

/// An amount as the schemas have it: without its currency.
pub(crate) fn amount_text(money: Money) -> String {
    let text = money.to_string();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// An exact decimal: `coefficient` / 10^`scale`, without trailing zeros. Control sums add amounts of any currency, so
/// minor units of one do not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExactDecimal {
    coefficient: i128,
    scale: u32,
}

/// Most decimals of a `DecimalNumber`.
const SCALE_MAX: usize = 17;
/// Most digits of one.
const DIGITS_MAX: usize = 18;

impl ExactDecimal {
    /// Nothing.
    pub(crate) const ZERO: Self = Self { coefficient: 0, scale: 0 };

    /// Reads a decimal of XML Schema with at most 18 digits, leading zeros and trailing decimal zeros not counted.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (negative, digits) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        if whole.len() + fraction.len() > DIGITS_MAX || fraction.len() > SCALE_MAX {
            return None;
        }
        let magnitude = format!("0{whole}{fraction}").parse::<i128>().ok()?;
        let scale = u32::try_from(fraction.len()).ok()?;
        Some(Self { coefficient: if negative { -magnitude } else { magnitude }, scale })
    }

    /// The value of an amount.
    pub(crate) fn of(money: Money) -> Self {
        Self { coefficient: money.minor.into(), scale: money.currency.decimals().into() }.normal()
    }

    /// The sum; `None` beyond 38 digits, which 10^19 amounts would take.
    pub(crate) fn checked_add(self, other: Self) -> Option<Self> {
        let scale = self.scale.max(other.scale);
        let coefficient = self.at_scale(scale)?.checked_add(other.at_scale(scale)?)?;
        Some(Self { coefficient, scale }.normal())
    }

    /// The value without its sign.
    pub(crate) fn magnitude(self) -> Self {
        Self { coefficient: self.coefficient.abs(), ..self }
    }

    /// True if it is a `DecimalNumber`: has at most 18 digits.
    pub(crate) fn is_decimal_number(self) -> bool {
        self.coefficient.unsigned_abs() < 10_u128.pow(18)
    }

    /// The coefficient for a scale that is at least this one's own.
    fn at_scale(self, scale: u32) -> Option<i128> {
        self.coefficient.checked_mul(10_i128.checked_pow(scale.checked_sub(self.scale)?)?)
    }

    fn normal(mut self) -> Self {
        while self.scale > 0 && self.coefficient % 10 == 0 {
            self = Self { coefficient: self.coefficient / 10, scale: self.scale - 1 };
        }
        self
    }
}

impl std::fmt::Display for ExactDecimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scale = self.scale as usize;
        let digits = format!("{:0>width$}", self.coefficient.unsigned_abs(), width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let sign = if self.coefficient < 0 { "-" } else { "" };
        write!(f, "{sign}{whole}{}{fraction}", if scale == 0 { "" } else { "." })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_judged() {
        let good = [
            (Value::Text(4), "四川农信"),
            (Value::External(4), "SALA"),
            (Value::Code(&["TRF"]), "TRF"),
            (Value::Count, "000000000000001"),
            (Value::Decimal, "123456789012345678"),
            (Value::Decimal, "-0.12345678901234567"),
            (Value::Country, "CN"),
            (Value::Currency, "CNY"),
            // The example of the IBAN registry for the United Kingdom; one with the lowest check digits there are.
            (Value::Iban, "GB29NWBK60161331926819"),
            (Value::Iban, "GB02NWBK000019"),
            (Value::Bic, "PCBCCNBJSCX"),
            // The identifier that the Global LEI Foundation has for itself.
            (Value::Lei, "506700GE1G29325QX363"),
            (Value::Uetr, "00000000-0000-4000-8000-000000000001"),
        ];
        for (value, text) in good {
            assert_eq!(value.check(text), Ok(()), "{value:?} {text}");
        }
        let bad = [
            (Value::Text(4), "四川省农信", FaultCode::ValueTooLong),
            (Value::Text(4), " \n", FaultCode::ValueEmpty),
            (Value::Text(4), "a\u{1}", FaultCode::ValuePattern),
            (Value::External(4), "Sala", FaultCode::ValuePattern),
            (Value::Code(&["TRF"]), "CHK", FaultCode::ValueCode),
            (Value::Count, "0000000000000001", FaultCode::ValuePattern),
            (Value::Count, "-1", FaultCode::ValuePattern),
            (Value::Decimal, "1234567890123456789", FaultCode::ValueNumber),
            (Value::Decimal, "1e3", FaultCode::ValueNumber),
            (Value::Decimal, ".", FaultCode::ValueNumber),
            (Value::Country, "cn", FaultCode::ValuePattern),
            (Value::Currency, "XXX", FaultCode::CurrencyUnknown),
            (Value::Iban, "GB28NWBK60161331926819", FaultCode::AccountCheckDigits),
            (Value::Iban, "GB29", FaultCode::ValuePattern),
            // The remainder is right, the check digits are not: 99 leaves the same one as 02, which belongs there.
            (Value::Iban, "GB99NWBK000019", FaultCode::AccountCheckDigits),
            (Value::Iban, "ＧＢ29NWBK60161331926819", FaultCode::ValuePattern),
            (Value::Bic, "PCBCCNB", FaultCode::AgentIdentifier),
            (Value::Lei, "506700GE1G29325QX364", FaultCode::AgentIdentifier),
            (Value::Uetr, "00000000-0000-1000-8000-000000000001", FaultCode::ValuePattern),
        ];
        for (value, text, code) in bad {
            assert_eq!(value.check(text).unwrap_err().0, code, "{value:?} {text}");
        }
    }

    #[test]
    fn amounts_are_exact_or_refused() {
        for (text, code, minor) in
            [("10.5", "CNY", 1050), ("0.01", "CNY", 1), ("7", "JPY", 7), ("1.005", "KWD", 1005)]
        {
            assert_eq!(amount(text, code).unwrap().minor, minor, "{text} {code}");
        }
        for (text, code, fault) in [
            ("1.005", "CNY", FaultCode::AmountDecimals),
            ("1.000", "CNY", FaultCode::AmountDecimals),
            ("1.0", "JPY", FaultCode::AmountDecimals),
            ("-1", "CNY", FaultCode::ValueNumber),
            ("1,5", "CNY", FaultCode::ValueNumber),
            ("NaN", "CNY", FaultCode::ValueNumber),
            ("999999999999999999", "CNY", FaultCode::AmountRange),
            ("1", "ABC", FaultCode::CurrencyUnknown),
        ] {
            assert_eq!(amount(text, code).unwrap_err().0, fault, "{text} {code}");
        }
    }

    proptest! {
        #[test]
        fn amounts_round_trip(minor in 0..=999_999_999_999_999_999_i64, code in prop::sample::select(vec!["CNY", "JPY", "KWD"])) {
            let money = Money::new(minor, code.parse().unwrap());
            prop_assert_eq!(amount(&amount_text(money), code).unwrap(), money);
        }

        #[test]
        fn decimals_add_exactly(a in -1_000_000_000_000_i64..1_000_000_000_000, b in -1_000_000_000_000_i64..1_000_000_000_000) {
            let text = |n: i64, scale: u32| {
                let power = 10_i64.pow(scale);
                format!("{}{}.{:0width$}", if n < 0 { "-" } else { "" }, n.abs() / power, n.abs() % power, width = scale as usize)
            };
            let parse = |t: &str| ExactDecimal::parse(t).unwrap();
            // The same numbers at different scales: a hundredths, b as thousandths of ten times as much.
            let sum = parse(&text(a, 2)).checked_add(parse(&text(b * 10, 3))).unwrap();
            prop_assert_eq!(sum, parse(&text(a + b, 2)));
            prop_assert_eq!(parse(&sum.to_string()), sum);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}|[0-9.+-]{0,40}") {
            for value in [Value::Iban, Value::Bic, Value::Lei, Value::Uetr, Value::Decimal, Value::Country] {
                let _ = value.check(&text);
            }
            let _ = amount(&text, "CNY");
        }
    }
}
