//! Products as data: what a bank sells is a document, checked as a whole, launched by date for whom it is meant.
//!
//! ```
//! use dujiang_bank_rules::product::Product;
//! let product: Product = serde_json::from_str(r#"{
//!     "name": "Notice deposit, 7 days", "currency": "CNY",
//!     "kind": {"type": "notice_deposit", "notice": {"notice_days": 7, "opening_min_minor": 5000000,
//!         "withdrawal_min_minor": 9000000}, "rate": {"fixed": "1.1%"}, "current_rate": {"fixed": "0.1%"}},
//!     "fees": [{"event": "opening", "amount": {"flat": {"minor": -1}}}]
//! }"#)?;
//! let fields: Vec<String> = product.faults().into_iter().map(|fault| fault.field).collect();
//! assert_eq!(fields, ["kind.notice.withdrawal_min_minor", "fees[0].amount.flat.minor"]);
//! # Ok::<(), serde_json::Error>(())
//! ```

pub mod check;
pub mod fee;
pub mod limit;
pub mod line;

use dujiang_types::Currency;
use serde::{Deserialize, Serialize};

pub use check::Fault;

use crate::fixed_term::TermCount;
use crate::loan::allocation::Order;
use crate::loan::early::EarlyTerms;
use crate::loan::overdue::PenaltyTerms;
use crate::loan::schedule::{Method, PeriodCount};
use crate::notice::NoticeTerms;
use crate::terms::TermTier;
use crate::{InterestTerms, RateSource};
use fee::Fee;
use limit::Limits;

/// One version of a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// What customers know it by.
    pub name: String,
    /// Its currency.
    pub currency: Currency,
    /// What it is.
    pub kind: Kind,
    /// What it costs; at most one for each event.
    #[serde(default)]
    pub fees: Vec<Fee>,
    /// Bounds of balances and movements.
    #[serde(default)]
    pub limits: Limits,
    /// Which version's terms hold for an account.
    #[serde(default)]
    pub holds: Holds,
}

/// What a product is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Kind {
    /// A current deposit.
    Current {
        /// Its interest.
        interest: InterestTerms,
    },
    /// A fixed-term deposit.
    FixedTerm {
        /// Terms on offer, in months.
        months: Vec<u16>,
        /// The rate by term, agreed on the opening day.
        rates: Vec<TermTier>,
        /// What is withdrawn early and what is left after the term earns.
        current_rate: RateSource,
        /// How the days of a term are counted.
        count: TermCount,
        /// Whether it is renewed at maturity unless the customer says otherwise.
        renews: bool,
        /// Whether a part may be withdrawn early.
        partial_withdrawal: bool,
        /// Tax withheld.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tax: Option<RateSource>,
    },
    /// A notice deposit.
    NoticeDeposit {
        /// Notice and smallest amounts.
        notice: NoticeTerms,
        /// What it earns.
        rate: RateSource,
        /// What does not keep to the notice earns.
        current_rate: RateSource,
    },
    /// A loan with a schedule.
    TermLoan(TermLoan),
    /// Credit that is drawn and repaid within a limit.
    RevolvingCredit {
        /// Interest on what is drawn.
        interest: InterestTerms,
        /// The highest limit an account may have.
        credit_max_minor: i64,
        /// The smallest payment of a month.
        minimum_payment: fee::Amount,
        /// Terms of lateness.
        penalty: PenaltyTerms,
        /// What a payment pays first.
        order: Order,
    },
}

/// A loan with a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermLoan {
    /// Ways of repayment on offer.
    pub methods: Vec<Method>,
    /// The rate.
    pub rate: RateSource,
    /// How a period's interest is counted.
    pub count: PeriodCount,
    /// Months from one due date to the next.
    pub every_months: u16,
    /// The shortest term in months.
    pub months_min: u16,
    /// The longest term in months.
    pub months_max: u16,
    /// The smallest loan.
    pub principal_min_minor: i64,
    /// The largest loan.
    pub principal_max_minor: i64,
    /// Terms of lateness.
    pub penalty: PenaltyTerms,
    /// Terms of early repayment; none if there is no right to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early: Option<EarlyTerms>,
    /// What a payment pays first.
    pub order: Order,
}

/// Which version's terms hold for an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionOf {
    /// The version it was opened under, for as long as it lives: what was agreed.
    Opening,
    /// The version in force on the day: what the bank announces.
    Day,
}

/// Which version's terms hold for an account, by group. The version it was opened under decides that: what was promised
/// to be kept is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holds {
    /// What the product is: interest, penalty, early withdrawal and repayment.
    pub kind: VersionOf,
    /// Fees.
    pub fees: VersionOf,
    /// Limits.
    pub limits: VersionOf,
}

impl Default for Holds {
    /// What was agreed stays, fees and limits follow what is announced.
    fn default() -> Self {
        Self { kind: VersionOf::Opening, fees: VersionOf::Day, limits: VersionOf::Day }
    }
}

impl Kind {
    /// Terms of daily interest, for the kinds that have some.
    pub fn interest(&self) -> Option<&InterestTerms> {
        match self {
            Self::Current { interest } | Self::RevolvingCredit { interest, .. } => Some(interest),
            Self::FixedTerm { .. } | Self::NoticeDeposit { .. } | Self::TermLoan(_) => None,
        }
    }
}
