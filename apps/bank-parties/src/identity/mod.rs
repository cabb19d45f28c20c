//! Identity documents: which ones there are, and when they hold.

mod credit_code;
mod resident;

use std::fmt;

pub use credit_code::{CreditCode, CreditCodeError};
pub use resident::{ResidentId, ResidentIdError, Sex};

use crate::mask;

/// Longest number of a document whose form no rule here knows.
pub const NUMBER_CHARS_MAX: usize = 30;

/// A document that says who somebody is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum IdentityDocument {
    /// Identity card or residence permit: the number of GB 11643-1999.
    Resident(ResidentId),
    /// Business licence: the code of GB 32100-2015.
    CreditCode(CreditCode),
    /// A passport of any country: one number, and who issued it.
    Passport {
        /// As printed: 5 to 20 of `A-Z 0-9`.
        number: DocumentNumber,
        /// ISO 3166, two letters.
        country: [u8; 2],
    },
    /// Another one, such as a permit for exiles from abroad or an officer's card.
    Other {
        /// As printed.
        number: DocumentNumber,
        /// Which document it is, at most 30 characters.
        kind: String,
    },
}

/// A number of a form that is only bounded: 1 to 30 characters without blanks at its ends and without control characters.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DocumentNumber(String);

/// Why a document was refused. None of these repeats its number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a resident identity number.
    #[error("not a resident identity number: {0}")]
    Resident(#[from] ResidentIdError),
    /// Not a unified social credit code.
    #[error("not a unified social credit code: {0}")]
    CreditCode(#[from] CreditCodeError),
    /// A number outside its bounds.
    #[error(
        "a document's number has 1 to {NUMBER_CHARS_MAX} characters, no blanks at its ends and no control characters"
    )]
    Number,
    /// A passport's number outside its bounds.
    #[error("a passport's number has 5 to 20 of A-Z and 0-9")]
    Passport,
    /// Not a country.
    #[error("a country is two letters A-Z of ISO 3166")]
    Country,
}

impl DocumentNumber {
    /// Checks the bounds.
    pub fn new(number: impl Into<String>) -> Result<Self, IdentityError> {
        let number = number.into();
        let ok = (1..=NUMBER_CHARS_MAX).contains(&number.chars().count())
            && number.trim() == number
            && !number.chars().any(char::is_control);
        if ok { Ok(Self(number)) } else { Err(IdentityError::Number) }
    }

    /// The number itself: to store and compare, not to print.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DocumentNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask::number(&self.0))
    }
}

impl IdentityDocument {
    /// A passport.
    pub fn passport(number: &str, country: &str) -> Result<Self, IdentityError> {
        let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
        if !(5..=20).contains(&number.len()) || !number.bytes().all(plain) {
            return Err(IdentityError::Passport);
        }
        let country: [u8; 2] = country.as_bytes().try_into().map_err(|_| IdentityError::Country)?;
        if !country.iter().all(u8::is_ascii_uppercase) {
            return Err(IdentityError::Country);
        }
        Ok(Self::Passport { number: DocumentNumber::new(number)?, country })
    }

    /// Another document.
    pub fn other(number: &str, kind: &str) -> Result<Self, IdentityError> {
        // The kind is shown as it is, so it has the bounds of a number, too.
        let kind = DocumentNumber::new(kind)?.0;
        Ok(Self::Other { number: DocumentNumber::new(number)?, kind })
    }

    /// The number with all but its last characters hidden: for screens and receipts.
    pub fn masked(&self) -> String {
        match self {
            Self::Resident(id) => mask::number(id.reveal()),
            // Published in a public register: nothing to hide.
            Self::CreditCode(code) => code.as_str().to_owned(),
            Self::Passport { number, .. } | Self::Other { number, .. } => mask::number(number.reveal()),
        }
    }

    /// What kind of document it is.
    pub fn kind(&self) -> &str {
        match self {
            Self::Resident(_) => "resident identity number",
            Self::CreditCode(_) => "unified social credit code",
            Self::Passport { .. } => "passport",
            Self::Other { kind, .. } => kind,
        }
    }
}

/// Masked: whatever is printed may end up in a log.
impl fmt::Debug for IdentityDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.masked())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_forms_are_bounded() {
        assert!(IdentityDocument::passport("E12345678", "CN").is_ok());
        for (number, country) in [
            ("E123", "CN"),
            ("E1234567890123456789X", "CN"),
            ("e1234567", "CN"),
            ("E12 4567", "CN"),
            ("E1234567", "cn"),
            ("E1234567", "CHN"),
            ("Ｅ1234567", "CN"),
        ] {
            assert!(IdentityDocument::passport(number, country).is_err(), "{number} {country}");
        }
        assert!(IdentityDocument::other("军字第1234567号", "军官证").is_ok());
        for number in ["", " 1", "1\n", "a\u{0}b", "1234567890123456789012345678901"] {
            assert!(IdentityDocument::other(number, "军官证").is_err(), "{number:?}");
        }
    }

    #[test]
    fn numbers_of_persons_are_never_printed() {
        let today = jiff::civil::date(2026, 11, 23);
        let documents = [
            (IdentityDocument::Resident(ResidentId::parse("11010519491231002X", today).unwrap()), "110105"),
            (IdentityDocument::passport("E12345678", "CN").unwrap(), "E1234"),
            (IdentityDocument::other("军字第1234567号", "军官证").unwrap(), "军字第"),
        ];
        for (document, secret) in documents {
            let printed = format!("{document:?} {document:#?} {} {:?}", document.masked(), Some(&document));
            assert!(!printed.contains(secret), "{printed}");
            assert!(printed.contains('*'), "{printed}");
        }
    }
}
