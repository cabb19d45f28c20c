//! The resident identity number of GB 11643-1999: region, day of birth, sequence, check character.

use std::fmt;

use jiff::civil::Date;

use crate::mask;

/// Provinces by the first two digits of GB/T 2260; 83 is Taiwan in residence permits (State Council decree 2018).
const PROVINCES: &[u8] = &[
    11, 12, 13, 14, 15, 21, 22, 23, 31, 32, 33, 34, 35, 36, 37, 41, 42, 43, 44, 45, 46, 50, 51, 52, 53, 54,
    61, 62, 63, 64, 65, 71, 81, 82, 83,
];
/// Nobody has lived longer: an earlier day of birth is a typing error.
const AGE_MAX: i16 = 130;
/// Position of the check character.
const CHECK: usize = 17;

/// As the sequence number says: odd is male.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sex {
    /// Even.
    Female,
    /// Odd.
    Male,
}

/// A valid number: 18 characters, the last one in capitals.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ResidentId {
    text: String,
    born: Date,
}

/// Why a text is not a resident identity number. Does not repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResidentIdError {
    /// A number of the first generation.
    #[error(
        "it has 15 digits: cards of the first generation are not valid since 2013, ask for the present one"
    )]
    FirstGeneration,
    /// Not 17 digits and a digit or X.
    #[error("it has 17 digits, then a digit or X")]
    Form,
    /// No such province.
    #[error("its first two digits are no province of GB/T 2260")]
    Region,
    /// No such day, or one that nobody living is born on.
    #[error("its digits 7 to 14 are no day of birth")]
    Birth,
    /// The check character is another one.
    #[error("its check character does not fit: one of the characters is wrong, or two are swapped")]
    Check,
}

impl ResidentId {
    /// Checks a number as of a day, before which its holder must be born. A small x is taken for X.
    pub fn parse(text: &str, today: Date) -> Result<Self, ResidentIdError> {
        let b = text.as_bytes();
        if b.len() == 15 && b.iter().all(u8::is_ascii_digit) {
            return Err(ResidentIdError::FirstGeneration);
        }
        let formed = b.len() == CHECK + 1
            && b[..CHECK].iter().all(u8::is_ascii_digit)
            && matches!(b[CHECK], b'0'..=b'9' | b'X' | b'x');
        if !formed {
            return Err(ResidentIdError::Form);
        }
        let text = text.to_ascii_uppercase();
        let number =
            |from: usize, to: usize| text[from..to].parse::<i16>().map_err(|_| ResidentIdError::Form);
        let province = u8::try_from(number(0, 2)?).map_err(|_| ResidentIdError::Region)?;
        if !PROVINCES.contains(&province) {
            return Err(ResidentIdError::Region);
        }
        let part = |from, to| i8::try_from(number(from, to)?).map_err(|_| ResidentIdError::Birth);
        let born =
            Date::new(number(6, 10)?, part(10, 12)?, part(12, 14)?).map_err(|_| ResidentIdError::Birth)?;
        if born > today || born.year() < today.year().saturating_sub(AGE_MAX) {
            return Err(ResidentIdError::Birth);
        }
        if check_character(&text.as_bytes()[..CHECK]) != text.as_bytes()[CHECK] {
            return Err(ResidentIdError::Check);
        }
        Ok(Self { text, born })
    }

    /// The number itself: to store and compare, not to print.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// Day of birth.
    pub fn born(&self) -> Date {
        self.born
    }

    /// As the sequence number says.
    pub fn sex(&self) -> Sex {
        if self.text.as_bytes()[16].is_multiple_of(2) { Sex::Female } else { Sex::Male }
    }

    /// The six digits of the region where the number was given.
    pub fn region(&self) -> &str {
        &self.text[..6]
    }
}

impl fmt::Debug for ResidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask::number(&self.text))
    }
}

/// ISO 7064 MOD 11-2: weights are powers of two modulo 11, and the whole must leave 1.
fn check_character(digits: &[u8]) -> u8 {
    let sum = digits.iter().fold(0_u32, |sum, digit| (sum + u32::from(digit - b'0')) * 2 % 11);
    b"10X98765432"[usize::try_from(sum).expect("a remainder of 11")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;
    use proptest::prelude::*;

    const TODAY: Date = date(2026, 11, 23);

    #[test]
    fn the_examples_of_the_standard_are_valid() {
        let woman = ResidentId::parse("11010519491231002X", TODAY).unwrap();
        assert_eq!((woman.born(), woman.sex(), woman.region()), (date(1949, 12, 31), Sex::Female, "110105"));
        let man = ResidentId::parse("440524188001010014", date(1999, 7, 1)).unwrap();
        assert_eq!((man.born(), man.sex()), (date(1880, 1, 1), Sex::Male));
        assert_eq!(ResidentId::parse("11010519491231002x", TODAY), Ok(woman));
    }

    #[test]
    fn others_are_refused_with_the_reason() {
        for (text, error) in [
            ("110105491231002", ResidentIdError::FirstGeneration),
            ("", ResidentIdError::Form),
            ("11010519491231002", ResidentIdError::Form),
            ("110105194912310020X", ResidentIdError::Form),
            ("X1010519491231002X", ResidentIdError::Form),
            ("11010519491231002Y", ResidentIdError::Form),
            ("１10105194912310", ResidentIdError::Form),
            ("10010519491231002X", ResidentIdError::Region),
            ("11010519490229002X", ResidentIdError::Birth),
            ("11010519491331002X", ResidentIdError::Birth),
            ("11010520270101002X", ResidentIdError::Birth),
            ("440524188001010014", ResidentIdError::Birth),
            ("110105194912310021", ResidentIdError::Check),
            ("11010519491213002X", ResidentIdError::Check),
        ] {
            assert_eq!(ResidentId::parse(text, TODAY), Err(error), "{text}");
        }
        assert!(ResidentId::parse("11010519491231002X", date(1949, 12, 31)).is_ok());
        assert_eq!(ResidentId::parse("11010519491231002X", date(1949, 12, 30)), Err(ResidentIdError::Birth));
    }

    /// The definition of ISO 7064 in its own words, beside the shorter loop above.
    fn fits(text: &str) -> bool {
        let value = |c: char| if c == 'X' { 10 } else { c.to_digit(10).unwrap() };
        let weights = (0..18).map(|at| (0..17 - at).fold(1, |weight, _| weight * 2 % 11));
        text.chars().map(value).zip(weights).map(|(value, weight)| value * weight).sum::<u32>() % 11 == 1
    }

    fn valid() -> impl Strategy<Value = String> {
        (prop::sample::select(PROVINCES), 0..10_000_u32, 0..40_000_i32, 0..1000_u32).prop_map(
            |(p, region, days, n)| {
                let born = date(1900, 1, 1) + jiff::Span::new().days(days);
                let body = format!("{p}{region:04}{}{n:03}", born.strftime("%Y%m%d"));
                let check = check_character(body.as_bytes());
                format!("{body}{}", char::from(check))
            },
        )
    }

    proptest! {
        #[test]
        fn check_characters_are_those_of_the_standard(text in valid()) {
            prop_assert!(fits(&text));
            prop_assert!(ResidentId::parse(&text, TODAY).is_ok());
        }

        #[test]
        fn any_one_wrong_digit_is_noticed(text in valid(), at in 0..17_usize, by in 1..10_u8) {
            let mut wrong = text.into_bytes();
            wrong[at] = (wrong[at] - b'0' + by) % 10 + b'0';
            let wrong = String::from_utf8(wrong).unwrap();
            prop_assert!(ResidentId::parse(&wrong, TODAY).is_err());
        }

        #[test]
        fn two_neighbours_swapped_are_noticed(text in valid(), at in 0..16_usize) {
            let mut wrong = text.clone().into_bytes();
            wrong.swap(at, at + 1);
            let wrong = String::from_utf8(wrong).unwrap();
            prop_assert!(wrong == text || ResidentId::parse(&wrong, TODAY).is_err());
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,20}|[0-9Xx]{18}") {
            let _ = ResidentId::parse(&text, TODAY);
        }
    }
}
