//! Accounts in messages.

use std::fmt;

use dujiang_types::Currency;

use super::{Build, CODED, Coded, ID, optional_text, required, required_text};
use crate::fault::Fault;
use crate::schema::{Content, Value, maybe, not_here, one, text, value};
use crate::xml::Element;

/// `CashAccount38`, and `CashAccount39` without owner and bank.
pub(crate) const ACCOUNT: Content = Content::Sequence(&[
    one("Id", ACCOUNT_ID),
    maybe("Tp", CODED),
    maybe("Ccy", value(Value::Currency)),
    maybe("Nm", text(70)),
    not_here("Prxy"),
]);

/// `AccountIdentification4Choice`.
pub(crate) const ACCOUNT_ID: Content = Content::Choice(&[
    one("IBAN", value(Value::Iban)),
    one("Othr", Content::Sequence(&[one("Id", text(34)), maybe("SchmeNm", CODED), maybe("Issr", ID)])),
]);

/// The number of an account.
#[derive(Clone, PartialEq, Eq)]
pub enum AccountId {
    /// ISO 13616.
    Iban(String),
    /// The bank's own number, at most 34 characters: what China has.
    Other {
        /// The number.
        number: String,
        /// Which scheme it is of.
        scheme: Option<Coded>,
        /// Who gave it.
        issuer: Option<String>,
    },
}

impl AccountId {
    /// A bank's own number.
    pub fn own(number: impl Into<String>) -> Self {
        Self::Other { number: number.into(), scheme: None, issuer: None }
    }

    /// The number, whatever it is of.
    pub fn number(&self) -> &str {
        match self {
            Self::Iban(number) | Self::Other { number, .. } => number,
        }
    }

    pub(crate) fn read(element: &Element) -> Result<Self, Fault> {
        if let Some(iban) = element.child("IBAN") {
            return Ok(Self::Iban(iban.text.clone()));
        }
        let other = required(element, "Othr")?;
        Ok(Self::Other {
            number: required_text(other, "Id")?,
            scheme: other.child("SchmeNm").map(Coded::read).transpose()?,
            issuer: optional_text(other, "Issr"),
        })
    }

    pub(crate) fn write(&self) -> Element {
        let inner = match self {
            Self::Iban(number) => Element::leaf("IBAN", number),
            Self::Other { number, scheme, issuer } => Build::new("Othr")
                .text("Id", number)
                .maybe(scheme.as_ref().map(|scheme| scheme.write("SchmeNm")))
                .maybe_text("Issr", issuer.as_ref())
                .done(),
        };
        Element::with("Id", vec![inner])
    }
}

/// The last four characters only: numbers of accounts are personal data.
impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number: Vec<char> = self.number().chars().collect();
        let shown: String = number[number.len().saturating_sub(4)..].iter().collect();
        write!(f, "AccountId(*{})", if number.len() > 8 { &shown } else { "" })
    }
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub id: AccountId,
    /// What kind of account.
    pub kind: Option<Coded>,
    /// Which currency of it, where one number has several.
    pub currency: Option<Currency>,
    /// Its name, at most 70 characters.
    pub name: Option<String>,
}

impl Account {
    /// An account by a bank's own number.
    pub fn own(number: impl Into<String>) -> Self {
        Self { id: AccountId::own(number), kind: None, currency: None, name: None }
    }

    pub(crate) fn read(element: &Element) -> Result<Self, Fault> {
        Ok(Self {
            id: AccountId::read(required(element, "Id")?)?,
            kind: element.child("Tp").map(Coded::read).transpose()?,
            currency: element.text_at(&["Ccy"]).and_then(|code| code.parse().ok()),
            name: optional_text(element, "Nm"),
        })
    }

    pub(crate) fn parts(&self) -> Vec<Element> {
        let kind = self.kind.as_ref().map(|kind| kind.write("Tp"));
        let currency = self.currency.map(|currency| Element::leaf("Ccy", currency.code()));
        let name = self.name.as_ref().map(|name| Element::leaf("Nm", name));
        [Some(self.id.write()), kind, currency, name].into_iter().flatten().collect()
    }

    pub(crate) fn write(&self, name: &str) -> Element {
        Element::with(name, self.parts())
    }
}
