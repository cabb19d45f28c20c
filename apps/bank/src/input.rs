//! What clients send, checked.

use dujiang_routing::{AccountNumber, slot_of};
use dujiang_sdk::{Code, Failure, Problem, UnitContext};
use dujiang_types::{Currency, Money, MoneyError, Slot};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Largest amount of one posting, in minor units: ten trillion yuan, far above any payment, and so far below the
/// range of a 64-bit count that no sum of a day overflows.
pub const AMOUNT_MINOR_MAX: i64 = 1_000_000_000_000_000;
/// Largest balance a client can bring about, and the lowest limit; room is left for money that comes back.
pub const BALANCE_MINOR_MAX: i64 = 1_000_000_000_000_000_000;
/// Longest text of a posting, in characters.
const TEXT_LEN_MAX: usize = 140;
/// Longest name of a customer, in characters.
const NAME_LEN_MAX: usize = 200;
/// Longest customer number.
const CUSTOMER_LEN_MAX: usize = 32;

/// An amount as it is sent. Read leniently, so that what is wrong with it can be said by its own code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Amount {
    /// Count of minor units, 1 to 10^15.
    #[schema(value_type = i64, minimum = 1, example = 1050)]
    pub(crate) minor: serde_json::Number,
    /// ISO 4217 code.
    #[schema(example = "CNY")]
    pub(crate) currency: String,
}

impl Amount {
    /// The amount as money, above zero and within bounds.
    pub(crate) fn check(&self) -> Result<Money, Problem> {
        let currency = currency(&self.currency)?;
        let minor = self.minor.as_i64().filter(|minor| (1..=AMOUNT_MINOR_MAX).contains(minor));
        let detail = "an amount is a whole number of minor units from 1 to 10^15";
        minor
            .map(|minor| Money::new(minor, currency))
            .ok_or_else(|| Problem::new(Code::AmountInvalid, detail))
    }
}

pub(crate) fn currency(code: &str) -> Result<Currency, Problem> {
    code.parse().map_err(|error: MoneyError| Problem::new(Code::CurrencyUnknown, error.to_string()))
}

/// How far below zero a balance may go, as a number that is not above zero.
pub(crate) fn limit(minor: i64) -> Result<i64, Problem> {
    if (-BALANCE_MINOR_MAX..=0).contains(&minor) {
        return Ok(minor);
    }
    Err(Problem::new(Code::AmountInvalid, "limit_minor is from -10^18 to 0"))
}

pub(crate) fn account(text: &str) -> Result<AccountNumber, Problem> {
    text.parse().map_err(|error: dujiang_routing::AccountNumberError| {
        Problem::new(Code::AccountNumberInvalid, error.to_string())
    })
}

/// An account of the path: well formed, and one of the unit the request was routed to.
pub(crate) fn own_account(context: &UnitContext, text: &str) -> Result<AccountNumber, Failure> {
    let number = account(text).map_err(Failure::Refused)?;
    context.require(number.slot())?;
    Ok(number)
}

/// A customer of the path: well formed, and one of the unit the request was routed to.
pub(crate) fn own_customer(context: &UnitContext, text: &str) -> Result<Slot, Failure> {
    let fits = (1..=CUSTOMER_LEN_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !fits {
        let detail = format!("a customer number has 1 to {CUSTOMER_LEN_MAX} of A-Z, a-z, 0-9 and '-'");
        return Err(Failure::refused(Code::RequestInvalid, detail));
    }
    let slot = slot_of(text.as_bytes());
    context.require(slot)?;
    Ok(slot)
}

pub(crate) fn posting(text: &str) -> Result<uuid::Uuid, Failure> {
    // Only the usual form: one posting has one path.
    let parsed = uuid::Uuid::try_parse(text).ok().filter(|id| id.to_string() == text);
    parsed.ok_or_else(|| Failure::refused(Code::PostingNotFound, "a posting's id is a UUID in lower case"))
}

pub(crate) fn name(text: &str) -> Result<&str, Problem> {
    if text.trim().is_empty() {
        return Err(Problem::new(Code::RequestInvalid, "a name is not empty"));
    }
    line("name", text, NAME_LEN_MAX)
}

pub(crate) fn text(text: &str) -> Result<&str, Problem> {
    line("text", text, TEXT_LEN_MAX)
}

/// One line of text. PostgreSQL cannot store NUL, and nobody can read the other control characters.
fn line<'a>(field: &str, text: &'a str, len_max: usize) -> Result<&'a str, Problem> {
    if text.chars().count() <= len_max && !text.chars().any(char::is_control) {
        return Ok(text);
    }
    let detail = format!("{field}: at most {len_max} characters, no control characters");
    Err(Problem::new(Code::RequestInvalid, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> Result<i64, Code> {
        let amount: Amount = serde_json::from_str(json).unwrap();
        amount.check().map(|money| money.minor).map_err(|problem| problem.code)
    }

    #[test]
    fn amounts_are_whole_positive_and_bounded() {
        assert_eq!(check(r#"{"minor": 1, "currency": "CNY"}"#), Ok(1));
        assert_eq!(check(r#"{"minor": 1000000000000000, "currency": "JPY"}"#), Ok(AMOUNT_MINOR_MAX));
        let bad =
            ["0", "-1", "1.5", "1e3", "1000000000000001", "9223372036854775808", "99999999999999999999"];
        for minor in bad {
            let json = format!(r#"{{"minor": {minor}, "currency": "CNY"}}"#);
            assert_eq!(check(&json), Err(Code::AmountInvalid), "{minor}");
        }
        for code in ["", "cny", "XXX", "CNYY"] {
            let json = format!(r#"{{"minor": 1, "currency": "{code}"}}"#);
            assert_eq!(check(&json), Err(Code::CurrencyUnknown), "{code}");
        }
    }

    #[test]
    fn texts_are_one_line() {
        assert!(text("rent, 三月").is_ok());
        assert!(text(&"省".repeat(TEXT_LEN_MAX)).is_ok());
        assert!(text(&"a".repeat(TEXT_LEN_MAX + 1)).is_err());
        for bad in ["a\0b", "a\nb", "\u{7f}"] {
            assert!(text(bad).is_err(), "{bad:?}");
        }
        assert!(name(" ").is_err());
    }
}
