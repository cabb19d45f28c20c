//! Banks in messages.

use super::party::{ADDRESS, OTHER};
use super::{Address, Build, Coded, ID, OtherId, optional_text, required_text};
use crate::fault::Fault;
use crate::schema::{Content, Value, maybe, one, text, value};
use crate::xml::Element;

/// `BranchAndFinancialInstitutionIdentification6`.
pub(crate) const AGENT: Content =
    Content::Sequence(&[one("FinInstnId", INSTITUTION), maybe("BrnchId", BRANCH)]);

const INSTITUTION: Content = Content::Sequence(&[
    maybe("BICFI", value(Value::Bic)),
    maybe("ClrSysMmbId", MEMBER),
    maybe("LEI", value(Value::Lei)),
    maybe("Nm", text(140)),
    maybe("PstlAdr", ADDRESS),
    maybe("Othr", OTHER),
]);

const MEMBER: Content = Content::Sequence(&[
    maybe("ClrSysId", Content::Choice(&[one("Cd", value(Value::External(5))), one("Prtry", ID)])),
    one("MmbId", ID),
]);

const BRANCH: Content = Content::Sequence(&[
    maybe("Id", ID),
    maybe("LEI", value(Value::Lei)),
    maybe("Nm", text(140)),
    maybe("PstlAdr", ADDRESS),
]);

/// A bank's number in a clearing system: `CNAPS` is that of China.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClearingMember {
    /// Which system.
    pub system: Option<Coded>,
    /// The number.
    pub member: String,
}

/// A branch of a bank.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Branch {
    /// The bank's own number of it.
    pub id: Option<String>,
    /// ISO 17442.
    pub lei: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Where.
    pub address: Option<Address>,
}

/// A bank.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agent {
    /// ISO 9362.
    pub bic: Option<String>,
    /// Its number in a clearing system.
    pub clearing: Option<ClearingMember>,
    /// ISO 17442.
    pub lei: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Where.
    pub address: Option<Address>,
    /// Another identifier.
    pub other: Option<OtherId>,
    /// Which branch.
    pub branch: Option<Branch>,
}

impl Agent {
    /// A bank by its number in China's clearing system (12 digits).
    pub fn cnaps(member: impl Into<String>) -> Self {
        let system = Some(Coded::Code("CNAPS".into()));
        Self { clearing: Some(ClearingMember { system, member: member.into() }), ..Self::default() }
    }

    /// True if nothing says which bank it is.
    pub fn is_anonymous(&self) -> bool {
        self.bic.is_none()
            && self.clearing.is_none()
            && self.lei.is_none()
            && self.name.is_none()
            && self.other.is_none()
    }

    /// True if it is named by a number of China's clearing system that does not have its form, 12 digits.
    pub fn has_malformed_cnaps(&self) -> bool {
        self.clearing.as_ref().is_some_and(|clearing| {
            let number = clearing.member.as_bytes();
            clearing.system == Some(Coded::Code("CNAPS".into()))
                && !(number.len() == 12 && number.iter().all(u8::is_ascii_digit))
        })
    }

    pub(crate) fn read(element: &Element) -> Result<Self, Fault> {
        let institution = super::required(element, "FinInstnId")?;
        let clearing = |member: &Element| {
            Ok(ClearingMember {
                system: member.child("ClrSysId").map(Coded::read).transpose()?,
                member: required_text(member, "MmbId")?,
            })
        };
        let branch = |branch: &Element| Branch {
            id: optional_text(branch, "Id"),
            lei: optional_text(branch, "LEI"),
            name: optional_text(branch, "Nm"),
            address: branch.child("PstlAdr").map(Address::read),
        };
        Ok(Self {
            bic: optional_text(institution, "BICFI"),
            clearing: institution.child("ClrSysMmbId").map(clearing).transpose()?,
            lei: optional_text(institution, "LEI"),
            name: optional_text(institution, "Nm"),
            address: institution.child("PstlAdr").map(Address::read),
            other: institution.child("Othr").map(OtherId::read).transpose()?,
            branch: element.child("BrnchId").map(branch),
        })
    }

    pub(crate) fn write(&self, name: &str) -> Element {
        let clearing = self.clearing.as_ref().map(|clearing| {
            Build::new("ClrSysMmbId")
                .maybe(clearing.system.as_ref().map(|system| system.write("ClrSysId")))
                .text("MmbId", &clearing.member)
                .done()
        });
        let institution = Build::new("FinInstnId")
            .maybe_text("BICFI", self.bic.as_ref())
            .maybe(clearing)
            .maybe_text("LEI", self.lei.as_ref())
            .maybe_text("Nm", self.name.as_ref())
            .maybe(self.address.as_ref().map(Address::write))
            .maybe(self.other.as_ref().map(OtherId::write))
            .done();
        let branch = self.branch.as_ref().map(|branch| {
            Build::new("BrnchId")
                .maybe_text("Id", branch.id.as_ref())
                .maybe_text("LEI", branch.lei.as_ref())
                .maybe_text("Nm", branch.name.as_ref())
                .maybe(branch.address.as_ref().map(Address::write))
                .done()
        });
        Build::new(name).push(institution).maybe(branch).done()
    }
}
