//! Which codes an event of a product is booked under.

use std::collections::BTreeMap;

use dujiang_bank_parties::{BranchId, MemberId};
use dujiang_types::Money;
use serde::Deserialize;

use crate::chart::{Chart, ChartError, Code, Purpose, Side};

/// Most deviations from the standard: a handful per branch.
pub const DEVIATIONS_MAX: usize = 100_000;

/// What happens on accounts of products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A customer brings cash.
    CashDeposit,
    /// A customer takes cash.
    CashWithdrawal,
    /// From one customer to another of the same branch.
    Transfer,
    /// Interest of a day is owed to a depositor.
    DepositInterestAccrued,
    /// It is paid into the account.
    DepositInterestSettled,
    /// Tax is withheld from it.
    InterestTaxWithheld,
    /// A fee.
    FeeTaken,
    /// A loan is paid out into a deposit.
    LoanDisbursed,
    /// Principal is repaid out of a deposit.
    LoanRepaid,
    /// Interest of a day is owed by a borrower.
    LoanInterestAccrued,
    /// It is paid out of a deposit.
    LoanInterestPaid,
    /// Penalty interest of a day.
    PenaltyAccrued,
    /// It is paid out of a deposit.
    PenaltyPaid,
    /// The loss allowance rises.
    LoanImpaired,
    /// A loan is given up.
    LoanWrittenOff,
    /// Sent to another unit.
    UnitTransferSent,
    /// Arrived from another unit.
    UnitTransferReceived,
    /// Sent to another branch.
    BranchTransferSent,
    /// Arrived from another branch.
    BranchTransferReceived,
    /// Sent to another member.
    MemberTransferSent,
    /// Arrived from another member.
    MemberTransferReceived,
    /// Sent through a payment system.
    PaymentSent,
    /// Arrived through a payment system.
    PaymentReceived,
    /// Arrived, and nobody can be credited.
    PaymentUnassigned,
    /// Whose it is was found out.
    SuspenseAssigned,
    /// The account fell dormant.
    FellDormant,
    /// The customer came back.
    Revived,
}

impl Event {
    /// All of them: a mapping has each once.
    pub const ALL: [Self; 27] = [
        Self::CashDeposit,
        Self::CashWithdrawal,
        Self::Transfer,
        Self::DepositInterestAccrued,
        Self::DepositInterestSettled,
        Self::InterestTaxWithheld,
        Self::FeeTaken,
        Self::LoanDisbursed,
        Self::LoanRepaid,
        Self::LoanInterestAccrued,
        Self::LoanInterestPaid,
        Self::PenaltyAccrued,
        Self::PenaltyPaid,
        Self::LoanImpaired,
        Self::LoanWrittenOff,
        Self::UnitTransferSent,
        Self::UnitTransferReceived,
        Self::BranchTransferSent,
        Self::BranchTransferReceived,
        Self::MemberTransferSent,
        Self::MemberTransferReceived,
        Self::PaymentSent,
        Self::PaymentReceived,
        Self::PaymentUnassigned,
        Self::SuspenseAssigned,
        Self::FellDormant,
        Self::Revived,
    ];
}

/// What products are to the general ledger: `personal-current`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub struct ProductClass(String);

impl ProductClass {
    /// A class by its name; whether there is such a class the mapping knows.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

/// One side of an event, as data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
enum Leg {
    /// A code.
    Fixed(Code),
    /// The product's principal.
    Principal,
    /// The principal of the other product of the event.
    OtherPrincipal,
    /// The product's accrued interest.
    Accrued,
    /// The product's interest as income or expense.
    Result,
}

impl TryFrom<String> for Leg {
    type Error = ChartError;

    fn try_from(text: String) -> Result<Self, ChartError> {
        Ok(match text.as_str() {
            "principal" => Self::Principal,
            "other-principal" => Self::OtherPrincipal,
            "accrued" => Self::Accrued,
            "result" => Self::Result,
            code => Self::Fixed(Code::parse(code)?),
        })
    }
}

/// The codes of a class of products.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Product {
    class: ProductClass,
    principal: Code,
    accrued: Code,
    result: Code,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventRow {
    event: Event,
    debit: Leg,
    credit: Leg,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    products: Vec<Product>,
    events: Vec<EventRow>,
}

/// In whose books.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Of which member.
    pub member: MemberId,
    /// Of which branch.
    pub branch: BranchId,
}

/// A line of the general ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// In whose books.
    pub place: Place,
    /// Under which code.
    pub code: Code,
    /// On which side.
    pub side: Side,
    /// How much; above zero.
    pub amount: Money,
}

/// What is wrong with a mapping, or with what is asked of it.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// Not the form of a mapping.
    #[error("the mapping cannot be read")]
    Form(#[source] serde_json::Error),
    /// A code that nothing is booked under, or not in this place.
    #[error("{0} is no account of the chart that is booked under here")]
    Code(Code),
    /// Not there once.
    #[error("event {0:?} must be in the mapping exactly once")]
    Event(Event),
    /// Twice.
    #[error("product {0:?} is there twice")]
    ProductTwice(ProductClass),
    /// Both sides are the same.
    #[error("event {0:?} has the same account on both sides")]
    SameSides(Event),
    /// No such class.
    #[error("there is no class of products {0:?}")]
    NoProduct(ProductClass),
    /// The event needs a second product.
    #[error("event {0:?} needs the other account's product")]
    NoOther(Event),
    /// Not above zero.
    #[error("the amount of an entry is above zero")]
    Amount,
    /// Too many.
    #[error("at most {DEVIATIONS_MAX} deviations are kept")]
    TooMany,
}

/// Events and products to codes.
#[derive(Debug, Clone)]
pub struct Mapping {
    products: BTreeMap<ProductClass, Product>,
    events: BTreeMap<Event, (Leg, Leg)>,
    /// Standard code to the one used instead, for a branch or a whole member.
    deviations: BTreeMap<(MemberId, Option<BranchId>, Code), Code>,
}

impl Mapping {
    /// The mapping that is compiled in.
    pub fn standard(chart: &Chart) -> Result<Self, MappingError> {
        Self::parse(include_str!("../data/mapping.json"), chart)
    }

    /// Reads and validates a mapping: every event once, every code one that is booked under.
    pub fn parse(json: &str, chart: &Chart) -> Result<Self, MappingError> {
        let tables: Tables = serde_json::from_str(json).map_err(MappingError::Form)?;
        let mut mapping =
            Self { products: BTreeMap::new(), events: BTreeMap::new(), deviations: BTreeMap::new() };
        let bookable = |code: Code| {
            if chart.is_bookable(code) { Ok(()) } else { Err(MappingError::Code(code)) }
        };
        for product in tables.products {
            [product.principal, product.accrued, product.result].into_iter().try_for_each(bookable)?;
            if let Some(twice) = mapping.products.insert(product.class.clone(), product) {
                return Err(MappingError::ProductTwice(twice.class));
            }
        }
        for row in tables.events {
            for leg in [row.debit, row.credit] {
                if let Leg::Fixed(code) = leg {
                    bookable(code)?;
                }
            }
            if row.debit == row.credit {
                return Err(MappingError::SameSides(row.event));
            }
            if mapping.events.insert(row.event, (row.debit, row.credit)).is_some() {
                return Err(MappingError::Event(row.event));
            }
        }
        match Event::ALL.into_iter().find(|event| !mapping.events.contains_key(event)) {
            Some(event) => Err(MappingError::Event(event)),
            None => Ok(mapping),
        }
    }

    /// Has a member, or one branch of it, book under another code of the same class than the standard one; not for codes
    /// under which branches, members, units and payment systems clear with each other.
    pub fn deviate(
        &mut self,
        chart: &Chart,
        member: MemberId,
        branch: Option<BranchId>,
        standard: Code,
        instead: Code,
    ) -> Result<(), MappingError> {
        let class = |code| match chart.get(code) {
            Some(account) if chart.is_bookable(code) => Ok(account.class),
            _ => Err(MappingError::Code(code)),
        };
        if class(standard)? != class(instead)? {
            return Err(MappingError::Code(instead));
        }
        // What has not arrived yet is found under these codes: elsewhere it would look as if it had.
        let clears = [Purpose::InTransit, Purpose::Interbranch, Purpose::Intermember, Purpose::Clearing];
        if let Some(code) =
            clears.map(|p| chart.for_purpose(p)).into_iter().find(|c| [standard, instead].contains(c))
        {
            return Err(MappingError::Code(code));
        }
        if self.deviations.len() >= DEVIATIONS_MAX {
            return Err(MappingError::TooMany);
        }
        self.deviations.insert((member, branch, standard), instead);
        Ok(())
    }

    /// The two lines of an event: debit and credit, of the same amount, in the same books.
    pub fn entries(
        &self,
        event: Event,
        place: &Place,
        product: &ProductClass,
        other: Option<&ProductClass>,
        amount: Money,
    ) -> Result<[Entry; 2], MappingError> {
        if amount.minor <= 0 {
            return Err(MappingError::Amount);
        }
        let (debit, credit) = self.events.get(&event).ok_or(MappingError::Event(event))?;
        let of = |class: &ProductClass| {
            self.products.get(class).ok_or_else(|| MappingError::NoProduct(class.clone()))
        };
        let entry = |leg: Leg, side| {
            let code = match leg {
                Leg::Fixed(code) => code,
                Leg::Principal => of(product)?.principal,
                Leg::OtherPrincipal => of(other.ok_or(MappingError::NoOther(event))?)?.principal,
                Leg::Accrued => of(product)?.accrued,
                Leg::Result => of(product)?.result,
            };
            Ok(Entry { place: place.clone(), code: self.used(place, code), side, amount })
        };
        Ok([entry(*debit, Side::Debit)?, entry(*credit, Side::Credit)?])
    }

    /// The code used instead of the standard one: the branch's own before its member's.
    fn used(&self, place: &Place, standard: Code) -> Code {
        let at = |branch| self.deviations.get(&(place.member.clone(), branch, standard)).copied();
        at(Some(place.branch.clone())).or_else(|| at(None)).unwrap_or(standard)
    }
}
