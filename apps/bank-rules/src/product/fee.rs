//! Fees.

use serde::{Deserialize, Serialize};

use crate::interest::share;
use crate::{Rate, RuleError};

/// What a fee is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// An account is opened, a loan is drawn.
    Opening,
    /// Every month an account is open.
    Month,
    /// Cash is paid in.
    Deposit,
    /// Cash is paid out.
    Withdrawal,
    /// A transfer within the bank.
    Transfer,
    /// A transfer to another bank.
    TransferOut,
    /// A statement on paper.
    Statement,
    /// A notice that something is late.
    Reminder,
}

/// How much. The result is rounded once, a half up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// Always the same.
    Flat {
        /// In minor units.
        minor: i64,
    },
    /// A share of the amount it is for.
    Share {
        /// The share.
        rate: Rate,
        /// At least this.
        #[serde(default)]
        min_minor: i64,
        /// At most this.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_minor: Option<i64>,
    },
}

/// A fee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fee {
    /// What for.
    pub event: Event,
    /// How much.
    pub amount: Amount,
    /// How many a month are free.
    #[serde(default)]
    pub free_per_month: u32,
}

impl Amount {
    /// What it comes to for an amount.
    pub fn of(self, amount_minor: i64) -> Result<i64, RuleError> {
        match self {
            Self::Flat { minor } => Ok(minor),
            Self::Share { rate, min_minor, max_minor } => {
                let fee = share(amount_minor, rate)?.max(min_minor);
                Ok(max_minor.map_or(fee, |max| fee.min(max)))
            }
        }
    }
}

impl Fee {
    /// What it comes to for an amount when there have been so many of its event this month.
    pub fn due(&self, amount_minor: i64, this_month: u32) -> Result<i64, RuleError> {
        if this_month < self.free_per_month { Ok(0) } else { self.amount.of(amount_minor) }
    }
}
