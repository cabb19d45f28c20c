//! Account numbers. They carry the slot of their customer, so every layer routes by account without a lookup.
//!
//! 18 digits: `SSSSS` slot, `NNNNNNNNNNNN` serial number within the unit, `C` check digit after
//! ISO/IEC 7064 MOD 11,10, which finds every single wrong digit and nearly all swapped neighbours.

use std::fmt;
use std::str::FromStr;

use dujiang_types::Slot;
use serde::{Deserialize, Serialize};

const LEN: usize = 18;
/// Serial numbers are below this.
pub const SERIAL_LIMIT: u64 = 1_000_000_000_000;

/// A well-formed account number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountNumber(u64);

/// Why a text is not an account number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountNumberError {
    /// Not 18 digits.
    #[error("an account number has 18 digits")]
    Malformed,
    /// The check digit does not fit: mistyped.
    #[error("the check digit of the account number is wrong; was it mistyped?")]
    CheckDigit,
    /// The first five digits are not a slot.
    #[error("the account number belongs to no slot")]
    Slot,
}

impl AccountNumber {
    /// The number of the `serial`-th account of a unit for a customer in `slot`. `None` if the serial number is
    /// used up (10^12 and more).
    pub fn new(slot: Slot, serial: u64) -> Option<Self> {
        (serial < SERIAL_LIMIT).then(|| {
            let body = u64::from(slot.get()) * SERIAL_LIMIT + serial;
            Self(body * 10 + check_digit(body, LEN - 1))
        })
    }

    /// The customer's slot.
    pub fn slot(self) -> Slot {
        let slot = u16::try_from(self.0 / (SERIAL_LIMIT * 10)).ok().and_then(Slot::new);
        slot.unwrap_or_else(|| unreachable!("checked when the number was made"))
    }
}

/// ISO/IEC 7064 MOD 11,10 over the last `len` digits of `body`, leading zeros included.
fn check_digit(body: u64, len: usize) -> u64 {
    let digits = (0..len).rev().map(|at| body / 10_u64.pow(u32::try_from(at).unwrap_or(u32::MAX)) % 10);
    let remainder = digits.fold(10, |remainder, digit| {
        let sum = (digit + remainder) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    (11 - remainder) % 10
}

impl FromStr for AccountNumber {
    type Err = AccountNumberError;
    fn from_str(s: &str) -> Result<Self, AccountNumberError> {
        if s.len() != LEN || !s.bytes().all(|b| b.is_ascii_digit()) {
            return Err(AccountNumberError::Malformed);
        }
        let value: u64 = s.parse().map_err(|_| AccountNumberError::Malformed)?;
        if check_digit(value / 10, LEN - 1) != value % 10 {
            return Err(AccountNumberError::CheckDigit);
        }
        let slot = u16::try_from(value / (SERIAL_LIMIT * 10)).ok().and_then(Slot::new);
        slot.map(|_| Self(value)).ok_or(AccountNumberError::Slot)
    }
}

impl fmt::Display for AccountNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0LEN$}", self.0)
    }
}

impl TryFrom<String> for AccountNumber {
    type Error = AccountNumberError;
    fn try_from(value: String) -> Result<Self, AccountNumberError> {
        value.parse()
    }
}

impl From<AccountNumber> for String {
    fn from(number: AccountNumber) -> String {
        number.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_published_check_digit_example_holds() {
        // The standard's own example for MOD 11,10: 0794 takes check digit 5.
        assert_eq!(check_digit(794, 4), 5);
    }

    proptest! {
        #[test]
        fn numbers_carry_their_slot(slot in 0_u16..16_384, serial in 0..SERIAL_LIMIT) {
            let slot = Slot::new(slot).unwrap();
            let number = AccountNumber::new(slot, serial).unwrap();
            let text = number.to_string();
            prop_assert_eq!(text.len(), 18);
            prop_assert_eq!(text.parse::<AccountNumber>().unwrap(), number);
            prop_assert_eq!(number.slot(), slot);
        }

        #[test]
        fn one_wrong_digit_is_always_found(slot in 0_u16..16_384, serial in 0..SERIAL_LIMIT, at in 0_usize..18, by in 1_u8..10) {
            let text = AccountNumber::new(Slot::new(slot).unwrap(), serial).unwrap().to_string();
            let mut bytes = text.into_bytes();
            bytes[at] = b'0' + (bytes[at] - b'0' + by) % 10;
            prop_assert!(String::from_utf8(bytes).unwrap().parse::<AccountNumber>().is_err());
        }
    }
}
