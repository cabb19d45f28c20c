//! What several messages have in common: parties, banks, accounts, kinds of payment, remittance.

mod account;
mod agent;
mod party;

use dujiang_types::Money;
use jiff::civil::Date;

use crate::TRANSFERS_MAX;
use crate::fault::{Fault, FaultCode, Faults, Scope};
use crate::moment::{Moment, parse_date};
use crate::schema::{Content, Part, Value, Verdict, any, maybe, not_here, one, text, value};
use crate::value::{amount, amount_text};
use crate::xml::{BYTES_MAX, Document, ELEMENTS_MAX, Element};

pub use account::{Account, AccountId};
pub use agent::{Agent, Branch, ClearingMember};
pub use party::{Address, AddressLine, OtherId, Party, PartyId};

pub(crate) use account::{ACCOUNT, ACCOUNT_ID};
pub(crate) use agent::AGENT;
pub(crate) use party::PARTY;

/// Text of an identifier.
pub(crate) const ID: Content = text(35);
/// A time.
pub(crate) const MOMENT: Content = value(Value::Moment);
/// A day.
pub(crate) const DAY: Content = value(Value::Date);
/// A number of transfers.
pub(crate) const COUNT: Content = value(Value::Count);
/// A control sum.
pub(crate) const SUM: Content = value(Value::Decimal);
/// A payment's amount.
pub(crate) const AMOUNT: Content = Content::Amount { zero: false };

/// A code of at most four characters of an external list, or a text.
pub(crate) const CODED: Content = Content::Choice(&[one("Cd", value(Value::External(4))), one("Prtry", ID)]);

/// `PaymentTypeInformation26`, of customers.
pub(crate) const PAYMENT_TYPE: Content = Content::Sequence(&[
    maybe("InstrPrty", URGENCY),
    any("SvcLvl", CODED),
    maybe("LclInstrm", LOCAL_INSTRUMENT),
    maybe("CtgyPurp", CODED),
]);

/// `PaymentTypeInformation28`, of banks.
pub(crate) const PAYMENT_TYPE_OF_BANKS: Content = Content::Sequence(&[
    maybe("InstrPrty", URGENCY),
    not_here("ClrChanl"),
    any("SvcLvl", CODED),
    maybe("LclInstrm", LOCAL_INSTRUMENT),
    maybe("CtgyPurp", CODED),
]);

const URGENCY: Content = value(Value::Code(&["HIGH", "NORM"]));
const LOCAL_INSTRUMENT: Content = Content::Choice(&[one("Cd", value(Value::External(35))), one("Prtry", ID)]);

/// `ChargeBearerType1Code`.
pub(crate) const BEARER: Content = value(Value::Code(&["DEBT", "CRED", "SHAR", "SLEV"]));

/// `RemittanceInformation16`.
pub(crate) const REMITTANCE: Content = Content::Sequence(&[any("Ustrd", text(140)), not_here("Strd")]);

/// A code of a list that somebody keeps outside of the schema, or a text of the sender's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coded {
    /// `Cd`.
    Code(String),
    /// `Prtry`.
    Proprietary(String),
}

impl Coded {
    pub(crate) fn read(element: &Element) -> Result<Self, Fault> {
        match element.child("Cd") {
            Some(code) => Ok(Self::Code(code.text.clone())),
            None => Ok(Self::Proprietary(required_text(element, "Prtry")?)),
        }
    }

    pub(crate) fn write(&self, name: &str) -> Element {
        let inner = match self {
            Self::Code(code) => Element::leaf("Cd", code),
            Self::Proprietary(text) => Element::leaf("Prtry", text),
        };
        Element::with(name, vec![inner])
    }
}

/// Who pays the charges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChargeBearer {
    /// `DEBT`: the debtor.
    Debtor,
    /// `CRED`: the creditor.
    Creditor,
    /// `SHAR`: each on its side.
    Shared,
    /// `SLEV`: as the service level has it.
    ServiceLevel,
}

impl ChargeBearer {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Debtor, Self::Creditor, Self::Shared, Self::ServiceLevel];

    /// The code of the schema.
    pub fn code(self) -> &'static str {
        match self {
            Self::Debtor => "DEBT",
            Self::Creditor => "CRED",
            Self::Shared => "SHAR",
            Self::ServiceLevel => "SLEV",
        }
    }

    pub(crate) fn read(parent: &Element) -> Option<Self> {
        let code = parent.text_at(&["ChrgBr"])?;
        Self::ALL.into_iter().find(|bearer| bearer.code() == code)
    }
}

/// What kind of payment it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PaymentType {
    /// True for `HIGH`, false for `NORM`.
    pub urgent: Option<bool>,
    /// Agreements under which it is carried out.
    pub service_levels: Vec<Coded>,
    /// The community's own kind of payment.
    pub local_instrument: Option<Coded>,
    /// What it is for, as far as banks treat it differently: `SALA` for salaries.
    pub category_purpose: Option<Coded>,
}

impl PaymentType {
    pub(crate) fn read(element: &Element) -> Result<Self, Fault> {
        Ok(Self {
            urgent: element.text_at(&["InstrPrty"]).map(|code| code == "HIGH"),
            service_levels: element.each("SvcLvl").map(Coded::read).collect::<Result<_, _>>()?,
            local_instrument: element.child("LclInstrm").map(Coded::read).transpose()?,
            category_purpose: element.child("CtgyPurp").map(Coded::read).transpose()?,
        })
    }

    pub(crate) fn write(&self) -> Element {
        Build::new("PmtTpInf")
            .maybe_text("InstrPrty", self.urgent.map(|urgent| if urgent { "HIGH" } else { "NORM" }))
            .all(self.service_levels.iter().map(|level| level.write("SvcLvl")))
            .maybe(self.local_instrument.as_ref().map(|code| code.write("LclInstrm")))
            .maybe(self.category_purpose.as_ref().map(|code| code.write("CtgyPurp")))
            .done()
    }
}

/// Lines of unstructured remittance information.
pub(crate) fn read_remittance(parent: &Element) -> Vec<String> {
    let Some(element) = parent.child("RmtInf") else { return Vec::new() };
    element.each("Ustrd").map(|line| line.text.clone()).collect()
}

pub(crate) fn write_remittance(lines: &[String]) -> Option<Element> {
    let lines: Vec<_> = lines.iter().map(|line| Element::leaf("Ustrd", line)).collect();
    (!lines.is_empty()).then(|| Element::with("RmtInf", lines))
}

/// A fault of a reader that asks for what its schema does not promise; it refuses, and never makes something up.
pub(crate) fn absent(parent: &Element, name: &str) -> Fault {
    Fault {
        path: format!("{}/{name}", parent.name),
        code: FaultCode::ElementMissing,
        detail: "it is not there".into(),
        scope: Scope::Message,
    }
}

pub(crate) fn required<'a>(parent: &'a Element, name: &str) -> Result<&'a Element, Fault> {
    parent.child(name).ok_or_else(|| absent(parent, name))
}

pub(crate) fn required_text(parent: &Element, name: &str) -> Result<String, Fault> {
    Ok(required(parent, name)?.text.clone())
}

pub(crate) fn optional_text(parent: &Element, name: &str) -> Option<String> {
    parent.child(name).map(|element| element.text.clone())
}

pub(crate) fn required_moment(parent: &Element, name: &str) -> Result<Moment, Fault> {
    required(parent, name)?.text.parse().map_err(|_| absent(parent, name))
}

pub(crate) fn optional_day(parent: &Element, name: &str) -> Option<Date> {
    parent.text_at(&[name]).and_then(|text| parse_date(text).ok())
}

pub(crate) fn optional_money(parent: &Element, name: &str) -> Option<Money> {
    let element = parent.child(name)?;
    amount(&element.text, element.currency.as_deref()?).ok()
}

pub(crate) fn required_money(parent: &Element, name: &str) -> Result<Money, Fault> {
    optional_money(parent, name).ok_or_else(|| absent(parent, name))
}

/// An element in the making.
pub(crate) struct Build(Element);

impl Build {
    pub(crate) fn new(name: &str) -> Self {
        Self(Element::new(name))
    }

    pub(crate) fn push(mut self, child: Element) -> Self {
        self.0.children.push(child);
        self
    }

    pub(crate) fn maybe(self, child: Option<Element>) -> Self {
        self.all(child)
    }

    pub(crate) fn all(mut self, children: impl IntoIterator<Item = Element>) -> Self {
        self.0.children.extend(children);
        self
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers have numbers and references alike")]
    pub(crate) fn text(self, name: &str, text: impl ToString) -> Self {
        self.push(Element::leaf(name, text.to_string()))
    }

    pub(crate) fn maybe_text(self, name: &str, text: Option<impl ToString>) -> Self {
        self.maybe(text.map(|text| Element::leaf(name, text.to_string())))
    }

    pub(crate) fn money(self, name: &str, money: Money) -> Self {
        let mut element = Element::leaf(name, amount_text(money));
        element.currency = Some(money.currency.code().into());
        self.push(element)
    }

    pub(crate) fn maybe_money(self, name: &str, money: Option<Money>) -> Self {
        match money {
            Some(money) => self.money(name, money),
            None => self,
        }
    }

    pub(crate) fn done(self) -> Element {
        self.0
    }

    /// The element, if there is anything in it.
    pub(crate) fn unless_empty(self) -> Option<Element> {
        (!self.0.children.is_empty()).then_some(self.0)
    }
}

/// Reads the XML and sees to it that it is the message that is wanted.
pub(crate) fn open(bytes: &[u8], namespace: &str) -> Result<Document, Faults> {
    let document = crate::xml::parse(bytes)?;
    if document.namespace == namespace {
        bound_number(&document.root)?;
        return Ok(document);
    }
    let detail = format!(
        "the message is {}, wanted is {}",
        crate::fault::shown(document.namespace.rsplit(':').next().unwrap_or_default()),
        namespace.rsplit(':').next().unwrap_or_default()
    );
    Err(Fault { path: "/Document".into(), code: FaultCode::MessageUnexpected, detail, scope: Scope::Message }
        .into())
}

/// Looks at the number of instructions and transfers before anything else does: faults are kept for each of them, so
/// a small message of many empty ones would take much more memory than its bytes.
fn bound_number(root: &Element) -> Result<(), Faults> {
    for name in ["PmtInf", "CdtTrfTxInf"] {
        let count = root.count(name);
        if count > TRANSFERS_MAX {
            let detail = format!("{count} of {name}, at most {TRANSFERS_MAX} are taken");
            return Err(too_large(detail));
        }
    }
    Ok(())
}

fn too_large(detail: String) -> Faults {
    let scope = Scope::Message;
    Fault { path: "/Document".into(), code: FaultCode::XmlTooLarge, detail, scope }.into()
}

/// Writes a message, provided that this bank would read it: by its schema, by the rules over several elements of its
/// body, and by its size.
pub(crate) fn seal(
    namespace: &str,
    schema: &Part,
    body: Element,
    rules: impl FnOnce(&Element, &mut Verdict),
) -> Result<Vec<u8>, Faults> {
    let document = Document { namespace: namespace.into(), root: Element::with("Document", vec![body]) };
    bound_number(&document.root)?;
    let mut verdict = crate::schema::check(&document.root, schema);
    if let Some(body) = document.root.children.first() {
        rules(body, &mut verdict);
    }
    verdict.into_result()?;
    let elements = document.root.size();
    if elements > ELEMENTS_MAX {
        return Err(too_large(format!("{elements} elements, at most {ELEMENTS_MAX} are read")));
    }
    let bytes = crate::xml::write(&document);
    if bytes.len() > BYTES_MAX {
        return Err(too_large(format!("{} bytes, at most {BYTES_MAX} are read", bytes.len())));
    }
    Ok(bytes)
}
