//! The unified social credit code of GB 32100-2015: authority, category, region, organisation, check character.

use std::fmt;

/// The 31 characters of the standard: digits and capitals without I, O, S, V and Z, which look like others.
const ALPHABET: &[u8; 31] = b"0123456789ABCDEFGHJKLMNPQRTUWXY";
/// Position of the check character.
const CHECK: usize = 17;

/// A valid code: 18 characters in capitals. It is public, and no personal data.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CreditCode(String);

/// Why a text is not a unified social credit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CreditCodeError {
    /// Not 18 characters.
    #[error("it has 18 characters")]
    Length,
    /// A character that the standard does not use.
    #[error("character {0} is none of 0-9 and A-Z without I, O, S, V, Z")]
    Character(usize),
    /// Characters 3 to 8 are digits: a region of GB/T 2260.
    #[error("characters 3 to 8 are the digits of a region")]
    Region,
    /// The check character is another one.
    #[error("its check character does not fit: one of the characters is wrong, or two are swapped")]
    Check,
}

impl CreditCode {
    /// Checks a code; small letters are taken for capitals.
    pub fn parse(text: &str) -> Result<Self, CreditCodeError> {
        let text = text.to_ascii_uppercase();
        if text.chars().count() != CHECK + 1 {
            return Err(CreditCodeError::Length);
        }
        let mut values = [0_u32; CHECK + 1];
        for (at, c) in text.chars().enumerate() {
            values[at] = value(c).ok_or(CreditCodeError::Character(at + 1))?;
        }
        if !text.as_bytes()[2..8].iter().all(u8::is_ascii_digit) {
            return Err(CreditCodeError::Region);
        }
        if check_value(&values[..CHECK]) != values[CHECK] {
            return Err(CreditCodeError::Check);
        }
        Ok(Self(text))
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The organisation within it: characters 9 to 17, a code of GB 11714.
    pub fn organisation(&self) -> &str {
        &self.0[8..17]
    }
}

impl fmt::Debug for CreditCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn value(c: char) -> Option<u32> {
    let at = ALPHABET.iter().position(|known| char::from(*known) == c)?;
    u32::try_from(at).ok()
}

/// MOD 31: the weights are powers of three modulo 31, and weighted sum and check character leave nothing.
fn check_value(values: &[u32]) -> u32 {
    let weighted = values.iter().fold((0, 1), |(sum, weight), value| (sum + value * weight, weight * 3 % 31));
    (31 - weighted.0 % 31) % 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn codes_are_judged() {
        let code = CreditCode::parse("91350100M000100Y43").unwrap();
        assert_eq!(code.organisation(), "M000100Y4");
        assert_eq!(CreditCode::parse("91350100m000100y43"), Ok(code));
        for (text, error) in [
            ("", CreditCodeError::Length),
            ("91350100M000100Y4", CreditCodeError::Length),
            ("91350100M000100Y433", CreditCodeError::Length),
            ("91350100M00O100Y43", CreditCodeError::Character(12)),
            ("91350100I000100Y43", CreditCodeError::Character(9)),
            ("91350100S000100Y43", CreditCodeError::Character(9)),
            ("91350100V000100Y43", CreditCodeError::Character(9)),
            ("Z1350100M000100Y43", CreditCodeError::Character(1)),
            ("91350100M000100Y4川", CreditCodeError::Character(18)),
            ("9135A100M000100Y43", CreditCodeError::Region),
            ("91350100M000100Y44", CreditCodeError::Check),
            ("91350100M001000Y43", CreditCodeError::Check),
        ] {
            assert_eq!(CreditCode::parse(text), Err(error), "{text}");
        }
    }

    fn valid() -> impl Strategy<Value = String> {
        ("[0-9A-HJ-NP-RTUW-Y]{2}", "[0-9]{6}", "[0-9A-HJ-NP-RTUW-Y]{9}").prop_map(
            |(kind, region, organisation)| {
                let body = format!("{kind}{region}{organisation}");
                let values: Vec<_> = body.chars().map(|c| value(c).unwrap()).collect();
                format!("{body}{}", char::from(ALPHABET[check_value(&values) as usize]))
            },
        )
    }

    proptest! {
        #[test]
        fn check_characters_fit_and_any_one_wrong_character_is_noticed(text in valid(), at in 0..18_usize, by in 1..31_usize) {
            prop_assert!(CreditCode::parse(&text).is_ok());
            let mut wrong = text.into_bytes();
            let now = ALPHABET.iter().position(|c| *c == wrong[at]).unwrap();
            wrong[at] = ALPHABET[(now + by) % 31];
            prop_assert!(CreditCode::parse(std::str::from_utf8(&wrong).unwrap()).is_err());
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,20}|[0-9A-Z]{18}") {
            let _ = CreditCode::parse(&text);
        }
    }
}
