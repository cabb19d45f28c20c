//! What a payment pays first.
//!
//! Without an agreement, costs come first, then interest, then principal (Civil Code of China, article 561). Contracts of
//! loans say more; the order is data.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::RuleError;

/// What can be owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Fees and costs.
    Fee,
    /// Penalty interest on principal that is late, and interest on interest that is.
    Penalty,
    /// Interest that is late.
    OverdueInterest,
    /// Interest that is due.
    Interest,
    /// Principal that is late.
    OverduePrincipal,
    /// Principal that is due.
    Principal,
}

impl Kind {
    /// All of them, in the customary order.
    pub const ALL: [Self; 6] = [
        Self::Fee,
        Self::Penalty,
        Self::OverdueInterest,
        Self::Interest,
        Self::OverduePrincipal,
        Self::Principal,
    ];
}

/// An amount that is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owed {
    /// Since when.
    pub due: Date,
    /// What.
    pub kind: Kind,
    /// How much.
    pub minor: i64,
}

/// Whether age or kind goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sequence {
    /// All that is owed of the oldest due date, by kind, then the next.
    OldestFirst,
    /// All that is owed of the first kind, the oldest first, then the next kind.
    KindFirst,
}

/// The order of allocation of a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Every kind once.
    pub kinds: Vec<Kind>,
    /// Whether age or kind goes first.
    pub sequence: Sequence,
}

/// What a payment paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// What was paid of what is owed, in the order it was paid; nothing that got nothing.
    pub paid: Vec<Owed>,
    /// What is left of the payment.
    pub left_minor: i64,
}

impl Order {
    /// True if every kind is in it exactly once.
    pub fn is_complete(&self) -> bool {
        let mut sorted = self.kinds.clone();
        sorted.sort_unstable();
        sorted == Kind::ALL
    }

    /// Allocates a payment. Paid and left add up to the payment; nothing gets more than is owed.
    pub fn allocate(&self, payment_minor: i64, owed: &[Owed]) -> Result<Allocation, RuleError> {
        if payment_minor < 0 || owed.iter().any(|owed| owed.minor < 0) {
            return Err(RuleError::NotPositive);
        }
        let rank = |kind: Kind| self.kinds.iter().position(|one| *one == kind).unwrap_or(self.kinds.len());
        let mut sorted = owed.to_vec();
        sorted.sort_by_key(|owed| match self.sequence {
            Sequence::OldestFirst => (Some(owed.due), rank(owed.kind), None),
            Sequence::KindFirst => (None, rank(owed.kind), Some(owed.due)),
        });
        let mut left_minor = payment_minor;
        let mut paid = Vec::new();
        for owed in sorted {
            let minor = owed.minor.min(left_minor);
            left_minor -= minor;
            if minor > 0 {
                paid.push(Owed { minor, ..owed });
            }
        }
        Ok(Allocation { paid, left_minor })
    }
}
