//! Bounds of balances and movements.

use serde::{Deserialize, Serialize};

/// Bounds, in minor units. What is not said is not bounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The smallest balance; below zero for an overdraft.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance_min_minor: Option<i64>,
    /// The largest balance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance_max_minor: Option<i64>,
    /// The largest movement out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction_max_minor: Option<i64>,
    /// The most that moves out on one day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day_max_minor: Option<i64>,
}

/// The bound a movement would break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// The balance would fall below its minimum.
    #[error("the balance would be {balance_minor} minor units, and the smallest allowed is {min_minor}")]
    BalanceTooLow {
        /// What it would be.
        balance_minor: i64,
        /// The smallest.
        min_minor: i64,
    },
    /// The balance would rise above its maximum.
    #[error("the balance would be {balance_minor} minor units, and the largest allowed is {max_minor}")]
    BalanceTooHigh {
        /// What it would be.
        balance_minor: i64,
        /// The largest.
        max_minor: i64,
    },
    /// The movement is larger than one may be.
    #[error("one movement may be {max_minor} minor units at most")]
    TransactionTooLarge {
        /// The largest.
        max_minor: i64,
    },
    /// Too much would have moved out that day.
    #[error("{day_minor} minor units would have moved out today, and {max_minor} may at most")]
    DayTooLarge {
        /// What it would come to.
        day_minor: i64,
        /// The most.
        max_minor: i64,
    },
    /// The balance would leave what can be represented.
    #[error("the balance would be out of range")]
    OutOfRange,
}

impl Limits {
    /// Looks at a movement (positive: in) on a balance after `day_minor` have moved out on the same day. Only what makes
    /// things worse is refused: who is below the smallest balance may pay in less than would lift him above it.
    pub fn check(&self, balance_minor: i64, movement_minor: i64, day_minor: i64) -> Result<(), Breach> {
        let after = balance_minor.checked_add(movement_minor).ok_or(Breach::OutOfRange)?;
        if movement_minor > 0 {
            return match self.balance_max_minor {
                Some(max_minor) if after > max_minor => {
                    Err(Breach::BalanceTooHigh { balance_minor: after, max_minor })
                }
                _ => Ok(()),
            };
        }
        let out = movement_minor.checked_neg().ok_or(Breach::OutOfRange)?;
        let day = day_minor.checked_add(out).ok_or(Breach::OutOfRange)?;
        if let Some(max_minor) = self.transaction_max_minor.filter(|max| out > *max) {
            return Err(Breach::TransactionTooLarge { max_minor });
        }
        if let Some(max_minor) = self.day_max_minor.filter(|max| day > *max) {
            return Err(Breach::DayTooLarge { day_minor: day, max_minor });
        }
        match self.balance_min_minor {
            Some(min_minor) if out > 0 && after < min_minor => {
                Err(Breach::BalanceTooLow { balance_minor: after, min_minor })
            }
            _ => Ok(()),
        }
    }
}
