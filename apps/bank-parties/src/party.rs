//! Persons and companies.

use std::fmt;

use jiff::civil::Date;

use crate::identity::{CreditCode, IdentityDocument};
use crate::mask;

/// Longest name, as in payment messages (ISO 20022 `Max140Text`).
pub const NAME_CHARS_MAX: usize = 140;
/// Most documents that are kept of a party: the present one and what came before it.
pub const DOCUMENTS_MAX: usize = 20;
/// Of age: Civil Code of the People's Republic of China, article 17.
pub const AGE_OF_MAJORITY: i16 = 18;

/// A customer's number: 1 to 32 of `A-Z a-z 0-9 -`, as the bank's API has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartyId(String);

/// Why a party was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PartyError {
    /// Not a customer's number.
    #[error("a customer's number has 1 to 32 of A-Z, a-z, 0-9 and '-'")]
    Id,
    /// Not a name.
    #[error("a name has 1 to {NAME_CHARS_MAX} characters, no blanks at its ends and no control characters")]
    Name,
    /// The document is not one that such a party has.
    #[error(
        "a person has an identity card, passport or the like; a company has a credit code or a registration"
    )]
    Document,
    /// The card says another day of birth.
    #[error("the day of birth is not that of the identity number")]
    Birth,
    /// It expires before it begins.
    #[error("the document expires before it begins")]
    Validity,
    /// Too many.
    #[error("at most {DOCUMENTS_MAX} documents are kept")]
    TooMany,
}

impl PartyId {
    /// Checks the form.
    pub fn new(id: impl Into<String>) -> Result<Self, PartyError> {
        let id = id.into();
        let ok = (1..=32).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if ok { Ok(Self(id)) } else { Err(PartyError::Id) }
    }

    /// The number as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name of a person or company.
#[derive(Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// Checks the bounds.
    pub fn new(name: impl Into<String>) -> Result<Self, PartyError> {
        let name = name.into();
        let ok = (1..=NAME_CHARS_MAX).contains(&name.chars().count())
            && name.trim() == name
            && !name.chars().any(char::is_control);
        if ok { Ok(Self(name)) } else { Err(PartyError::Name) }
    }

    /// The name itself: for statements and messages, not for logs.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Its first character, the others hidden.
    pub fn masked(&self) -> String {
        mask::name(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

/// A document that was shown, and how long it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldDocument {
    /// The document.
    pub document: IdentityDocument,
    /// From when.
    pub valid_from: Date,
    /// The last day it holds; none for cards without term, as persons above 46 get them.
    pub valid_until: Option<Date>,
}

impl HeldDocument {
    /// True if it holds on that day.
    pub fn holds_on(&self, day: Date) -> bool {
        self.valid_from <= day && self.valid_until.is_none_or(|until| day <= until)
    }
}

/// What kind of party it is.
#[derive(Clone, PartialEq, Eq)]
pub enum PartyKind {
    /// A natural person.
    Person {
        /// Day of birth.
        born: Date,
        /// True if a court has found that the person cannot act alone (Civil Code, article 24).
        incapable: bool,
    },
    /// A company, cooperative, authority or other organisation.
    Company,
}

/// A day of birth is personal data.
impl fmt::Debug for PartyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person { incapable: true, .. } => f.write_str("Person (incapable)"),
            Self::Person { .. } => f.write_str("Person"),
            Self::Company => f.write_str("Company"),
        }
    }
}

/// A person or company the bank knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    id: PartyId,
    name: Name,
    kind: PartyKind,
    documents: Vec<HeldDocument>,
}

impl Party {
    /// A party by the document that was shown. With a resident identity number the day of birth must be the card's.
    pub fn new(id: PartyId, name: Name, kind: PartyKind, document: HeldDocument) -> Result<Self, PartyError> {
        let mut party = Self { id, name, kind, documents: Vec::new() };
        party.show(document)?;
        Ok(party)
    }

    /// Takes another document: a renewed card, a passport beside it.
    pub fn show(&mut self, document: HeldDocument) -> Result<(), PartyError> {
        if document.valid_until.is_some_and(|until| until < document.valid_from) {
            return Err(PartyError::Validity);
        }
        match (&self.kind, &document.document) {
            (PartyKind::Person { born, .. }, IdentityDocument::Resident(id)) if id.born() != *born => {
                return Err(PartyError::Birth);
            }
            (PartyKind::Person { .. }, IdentityDocument::CreditCode(_))
            | (PartyKind::Company, IdentityDocument::Resident(_) | IdentityDocument::Passport { .. }) => {
                return Err(PartyError::Document);
            }
            _ => {}
        }
        if self.documents.len() >= DOCUMENTS_MAX {
            return Err(PartyError::TooMany);
        }
        self.documents.push(document);
        Ok(())
    }

    /// Its number.
    pub fn id(&self) -> &PartyId {
        &self.id
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What kind it is.
    pub fn kind(&self) -> &PartyKind {
        &self.kind
    }

    /// The documents, in the order they were shown.
    pub fn documents(&self) -> &[HeldDocument] {
        &self.documents
    }

    /// A company's credit code, if it has one.
    pub fn credit_code(&self) -> Option<&CreditCode> {
        self.documents.iter().rev().find_map(|held| match &held.document {
            IdentityDocument::CreditCode(code) => Some(code),
            _ => None,
        })
    }

    /// True if one of its documents holds on that day. Without one, business is suspended after a time in which a new one
    /// may be brought: People's Bank of China and others, order No. 2 of 2007, article 19.
    pub fn is_identified_on(&self, day: Date) -> bool {
        self.documents.iter().any(|held| held.holds_on(day))
    }

    /// Full years of a person on a day.
    pub fn age_on(&self, day: Date) -> Option<i16> {
        let PartyKind::Person { born, .. } = &self.kind else { return None };
        let before_birthday = (day.month(), day.day()) < (born.month(), born.day());
        Some(day.year() - born.year() - i16::from(before_birthday))
    }

    /// True for persons who act alone: of age, and not found incapable. A company acts through others.
    pub fn acts_alone_on(&self, day: Date) -> bool {
        match &self.kind {
            PartyKind::Person { incapable, .. } => {
                !incapable && self.age_on(day).is_some_and(|age| age >= AGE_OF_MAJORITY)
            }
            PartyKind::Company => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::ResidentId;
    use jiff::civil::date;

    fn card() -> HeldDocument {
        let id = ResidentId::parse("11010519491231002X", date(2026, 11, 23)).unwrap();
        HeldDocument {
            document: IdentityDocument::Resident(id),
            valid_from: date(2010, 1, 1),
            valid_until: Some(date(2029, 12, 31)),
        }
    }

    fn person(born: Date, document: HeldDocument) -> Result<Party, PartyError> {
        let kind = PartyKind::Person { born, incapable: false };
        Party::new(PartyId::new("C-1").unwrap(), Name::new("王小丫").unwrap(), kind, document)
    }

    #[test]
    fn documents_must_be_the_partys_own_kind() {
        let born = date(1949, 12, 31);
        let party = person(born, card()).unwrap();
        assert!(party.is_identified_on(date(2029, 12, 31)));
        assert!(!party.is_identified_on(date(2030, 1, 1)));
        assert_eq!(person(date(1950, 1, 1), card()), Err(PartyError::Birth));
        let code = IdentityDocument::CreditCode(CreditCode::parse("91350100M000100Y43").unwrap());
        assert_eq!(person(born, HeldDocument { document: code, ..card() }), Err(PartyError::Document));
        let inverse = HeldDocument { valid_until: Some(date(2009, 1, 1)), ..card() };
        assert_eq!(person(born, inverse), Err(PartyError::Validity));
        let company = Party::new(
            PartyId::new("C-2").unwrap(),
            Name::new("青神县竹编专业合作社").unwrap(),
            PartyKind::Company,
            card(),
        );
        assert_eq!(company, Err(PartyError::Document));
        let mut party = party;
        assert!((1..DOCUMENTS_MAX).all(|_| party.show(card()).is_ok()));
        assert_eq!(party.show(card()), Err(PartyError::TooMany));
    }

    #[test]
    fn ages_count_birthdays_also_in_leap_years() {
        for (born, day, age) in [
            (date(2008, 11, 23), date(2026, 11, 22), 17),
            (date(2008, 11, 23), date(2026, 11, 23), 18),
            (date(2008, 2, 29), date(2026, 2, 28), 17),
            (date(2008, 2, 29), date(2026, 3, 1), 18),
        ] {
            let passport = IdentityDocument::passport("E12345678", "CN").unwrap();
            let party = person(born, HeldDocument { document: passport, ..card() }).unwrap();
            assert_eq!(party.age_on(day), Some(age), "{born} {day}");
            assert_eq!(party.acts_alone_on(day), age >= 18);
        }
    }

    #[test]
    fn a_party_prints_neither_name_nor_number_nor_birth() {
        let printed = format!("{:?}", person(date(1949, 12, 31), card()).unwrap());
        for secret in ["小丫", "110105", "1949"] {
            assert!(!printed.contains(secret), "{printed}");
        }
    }

    #[test]
    fn names_and_numbers_have_bounds() {
        for bad in ["", " a", "a ", "a\nb", &"农".repeat(141)] {
            assert_eq!(Name::new(bad), Err(PartyError::Name));
        }
        for bad in ["", "a b", "客户", &"a".repeat(33)] {
            assert_eq!(PartyId::new(bad), Err(PartyError::Id));
        }
    }
}
