//! Classes of risk by days overdue, and what is set aside for them.

use serde::{Deserialize, Serialize};

use crate::interest::share;
use crate::{Rate, RuleError};

/// The five classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Nothing is late.
    Normal,
    /// Special mention.
    SpecialMention,
    /// Substandard: the first of the non-performing ones.
    Substandard,
    /// Doubtful.
    Doubtful,
    /// Loss.
    Loss,
}

/// From how many days overdue a loan is at least of which class. A bank's own judgement may only be worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassTable {
    /// Special mention if overdue for more days than this.
    pub special_mention_after: u32,
    /// Substandard after so many days.
    pub substandard_after: u32,
    /// Doubtful after so many days.
    pub doubtful_after: u32,
    /// Loss after so many days.
    pub loss_after: u32,
}

impl ClassTable {
    /// Measures for the Risk Classification of Financial Assets of Commercial Banks (CBIRC and PBC, order 1 of 2023): what
    /// is overdue at all is at least of special mention, after 90 days substandard, 270 doubtful, 360 a loss.
    pub const CHINA: Self =
        Self { special_mention_after: 0, substandard_after: 90, doubtful_after: 270, loss_after: 360 };

    /// The class by the days the oldest unpaid amount is overdue.
    pub fn class(&self, days_overdue: u32) -> Class {
        match days_overdue {
            days if days > self.loss_after => Class::Loss,
            days if days > self.doubtful_after => Class::Doubtful,
            days if days > self.substandard_after => Class::Substandard,
            days if days > self.special_mention_after => Class::SpecialMention,
            _ => Class::Normal,
        }
    }

    /// True if the limits rise.
    pub fn rises(&self) -> bool {
        let limits =
            [self.special_mention_after, self.substandard_after, self.doubtful_after, self.loss_after];
        limits.is_sorted_by(|a, b| a < b)
    }
}

/// What is set aside, as shares of what is outstanding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvisionTable {
    /// Of normal loans.
    pub normal: Rate,
    /// Of loans of special mention.
    pub special_mention: Rate,
    /// Of substandard loans.
    pub substandard: Rate,
    /// Of doubtful loans.
    pub doubtful: Rate,
    /// Of losses.
    pub loss: Rate,
}

impl ProvisionTable {
    /// Guidance on Provisions for Loan Losses (PBC, Yinfa (2002) 98): one percent of all loans in general, and in particular
    /// 2, 25, 50 and 100 % of those that are worse than normal; substandard and doubtful may be a fifth higher or lower.
    pub const CHINA: Self = Self {
        normal: Rate::percent(1),
        special_mention: Rate::percent(2),
        substandard: Rate::percent(25),
        doubtful: Rate::percent(50),
        loss: Rate::percent(100),
    };

    /// What is to be set aside for an outstanding amount.
    pub fn provision(&self, class: Class, outstanding_minor: i64) -> Result<i64, RuleError> {
        let rate = match class {
            Class::Normal => self.normal,
            Class::SpecialMention => self.special_mention,
            Class::Substandard => self.substandard,
            Class::Doubtful => self.doubtful,
            Class::Loss => self.loss,
        };
        share(outstanding_minor, rate)
    }
}
