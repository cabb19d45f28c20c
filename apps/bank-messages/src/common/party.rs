//! Persons and companies in messages.

use std::fmt;

use super::{Build, CODED, Coded, ID, required_text};
use crate::fault::Fault;
use crate::schema::{Content, Value, any, maybe, not_here, one, text, up_to, value};
use crate::xml::Element;

/// `PartyIdentification135`.
pub(crate) const PARTY: Content = Content::Sequence(&[
    maybe("Nm", text(140)),
    maybe("PstlAdr", ADDRESS),
    maybe("Id", Content::Choice(&[one("OrgId", ORGANISATION), one("PrvtId", PERSON)])),
    maybe("CtryOfRes", value(Value::Country)),
    not_here("CtctDtls"),
]);

const ORGANISATION: Content = Content::Sequence(&[
    maybe("AnyBIC", value(Value::Bic)),
    maybe("LEI", value(Value::Lei)),
    any("Othr", OTHER),
]);

const PERSON: Content = Content::Sequence(&[not_here("DtAndPlcOfBirth"), any("Othr", OTHER)]);

pub(super) const OTHER: Content =
    Content::Sequence(&[one("Id", ID), maybe("SchmeNm", CODED), maybe("Issr", ID)]);

/// `PostalAddress24`.
pub(super) const ADDRESS: Content = Content::Sequence(&[
    not_here("AdrTp"),
    maybe("Dept", text(70)),
    maybe("SubDept", text(70)),
    maybe("StrtNm", text(70)),
    maybe("BldgNb", text(16)),
    maybe("BldgNm", text(35)),
    maybe("Flr", text(70)),
    maybe("PstBx", text(16)),
    maybe("Room", text(70)),
    maybe("PstCd", text(16)),
    maybe("TwnNm", text(35)),
    maybe("TwnLctnNm", text(35)),
    maybe("DstrctNm", text(35)),
    maybe("CtrySubDvsn", text(35)),
    maybe("Ctry", value(Value::Country)),
    up_to(7, "AdrLine", text(70)),
]);

/// What a line of an address is; in the schema's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressLine {
    /// `Dept`.
    Department,
    /// `SubDept`.
    SubDepartment,
    /// `StrtNm`.
    Street,
    /// `BldgNb`.
    BuildingNumber,
    /// `BldgNm`.
    BuildingName,
    /// `Flr`.
    Floor,
    /// `PstBx`.
    PostBox,
    /// `Room`.
    Room,
    /// `PstCd`.
    PostCode,
    /// `TwnNm`.
    Town,
    /// `TwnLctnNm`.
    TownLocation,
    /// `DstrctNm`.
    District,
    /// `CtrySubDvsn`: a province.
    Subdivision,
    /// `Ctry`: ISO 3166, two letters.
    Country,
    /// `AdrLine`: a line without structure, at most seven.
    Free,
}

impl AddressLine {
    /// All of them in the schema's order.
    pub const ALL: [Self; 15] = [
        Self::Department,
        Self::SubDepartment,
        Self::Street,
        Self::BuildingNumber,
        Self::BuildingName,
        Self::Floor,
        Self::PostBox,
        Self::Room,
        Self::PostCode,
        Self::Town,
        Self::TownLocation,
        Self::District,
        Self::Subdivision,
        Self::Country,
        Self::Free,
    ];

    fn element(self) -> &'static str {
        match self {
            Self::Department => "Dept",
            Self::SubDepartment => "SubDept",
            Self::Street => "StrtNm",
            Self::BuildingNumber => "BldgNb",
            Self::BuildingName => "BldgNm",
            Self::Floor => "Flr",
            Self::PostBox => "PstBx",
            Self::Room => "Room",
            Self::PostCode => "PstCd",
            Self::Town => "TwnNm",
            Self::TownLocation => "TwnLctnNm",
            Self::District => "DstrctNm",
            Self::Subdivision => "CtrySubDvsn",
            Self::Country => "Ctry",
            Self::Free => "AdrLine",
        }
    }
}

/// An address: its lines in the schema's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Address {
    /// What each line is, and the line.
    pub lines: Vec<(AddressLine, String)>,
}

impl Address {
    pub(super) fn read(element: &Element) -> Self {
        let line = |child: &Element| {
            let kind = AddressLine::ALL.into_iter().find(|kind| kind.element() == &*child.name)?;
            Some((kind, child.text.clone()))
        };
        Self { lines: element.children.iter().filter_map(line).collect() }
    }

    pub(super) fn write(&self) -> Element {
        let lines = self.lines.iter().map(|(kind, text)| Element::leaf(kind.element(), text));
        Build::new("PstlAdr").all(lines).done()
    }
}

/// An identifier of some scheme: a number of an identity document, a credit code.
#[derive(Clone, PartialEq, Eq)]
pub struct OtherId {
    /// The identifier.
    pub id: String,
    /// Which scheme it is of.
    pub scheme: Option<Coded>,
    /// Who gave it.
    pub issuer: Option<String>,
}

/// Identity numbers of persons go through here: they are never printed.
impl fmt::Debug for OtherId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.id.chars().count();
        write!(f, "OtherId({length} characters, {:?}, {:?})", self.scheme, self.issuer)
    }
}

impl OtherId {
    pub(super) fn read(element: &Element) -> Result<Self, Fault> {
        Ok(Self {
            id: required_text(element, "Id")?,
            scheme: element.child("SchmeNm").map(Coded::read).transpose()?,
            issuer: super::optional_text(element, "Issr"),
        })
    }

    pub(super) fn write(&self) -> Element {
        Build::new("Othr")
            .text("Id", &self.id)
            .maybe(self.scheme.as_ref().map(|scheme| scheme.write("SchmeNm")))
            .maybe_text("Issr", self.issuer.as_ref())
            .done()
    }
}

/// By what a party is known beside its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartyId {
    /// A company or authority.
    Organisation {
        /// ISO 9362.
        bic: Option<String>,
        /// ISO 17442.
        lei: Option<String>,
        /// Others, such as the unified social credit code.
        others: Vec<OtherId>,
    },
    /// A person.
    Person {
        /// Numbers of identity documents.
        others: Vec<OtherId>,
    },
}

impl PartyId {
    fn read(element: &Element) -> Result<Option<Self>, Fault> {
        let others =
            |element: &Element| element.each("Othr").map(OtherId::read).collect::<Result<Vec<_>, _>>();
        if let Some(organisation) = element.child("OrgId") {
            return Ok(Some(Self::Organisation {
                bic: super::optional_text(organisation, "AnyBIC"),
                lei: super::optional_text(organisation, "LEI"),
                others: others(organisation)?,
            }));
        }
        let person = element.child("PrvtId").map(others).transpose()?;
        Ok(person.map(|others| Self::Person { others }))
    }

    fn write(&self) -> Element {
        let inner = match self {
            Self::Organisation { bic, lei, others } => Build::new("OrgId")
                .maybe_text("AnyBIC", bic.as_ref())
                .maybe_text("LEI", lei.as_ref())
                .all(others.iter().map(OtherId::write)),
            Self::Person { others } => Build::new("PrvtId").all(others.iter().map(OtherId::write)),
        };
        Element::with("Id", vec![inner.done()])
    }
}

/// A person or company: debtor, creditor, or who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Party {
    /// At most 140 characters.
    pub name: Option<String>,
    /// Where.
    pub address: Option<Address>,
    /// By what it is known besides.
    pub id: Option<PartyId>,
    /// ISO 3166, two letters.
    pub country_of_residence: Option<String>,
}

impl Party {
    /// A party by its name.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    pub(crate) fn read(element: &Element) -> Result<Self, Fault> {
        Ok(Self {
            name: super::optional_text(element, "Nm"),
            address: element.child("PstlAdr").map(Address::read),
            id: element.child("Id").map(PartyId::read).transpose()?.flatten(),
            country_of_residence: super::optional_text(element, "CtryOfRes"),
        })
    }

    pub(crate) fn write(&self, name: &str) -> Element {
        Build::new(name)
            .maybe_text("Nm", self.name.as_ref())
            .maybe(self.address.as_ref().map(Address::write))
            .maybe(self.id.as_ref().map(PartyId::write))
            .maybe_text("CtryOfRes", self.country_of_residence.as_ref())
            .done()
    }
}
