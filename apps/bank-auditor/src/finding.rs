//! What the auditor found.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::TOLD_MAX;

/// Something that is not as the entries say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which rule does not hold, a stable word: `posting.unbalanced`.
    pub rule: String,
    /// Where: a posting, an account, a place with currency and code.
    pub at: String,
    /// What there should be, and what there is.
    pub detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.rule, self.at, self.detail)
    }
}

/// What an audit came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What was found, at most [`TOLD_MAX`] of a rule.
    pub findings: Vec<Finding>,
    /// How many there are of each rule.
    pub counts: BTreeMap<String, u64>,
    /// How much was looked at, so that "nothing found" is not "nothing looked at".
    pub looked_at: LookedAt,
}

/// How much was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookedAt {
    /// Entries.
    pub entries: u64,
    /// Postings.
    pub postings: u64,
    /// Accounts with their balances.
    pub balances: u64,
    /// Deposits whose interest was recomputed.
    pub deposits: u64,
    /// Settlements of interest that were recomputed.
    pub settlements: u64,
    /// Loans that were recomputed.
    pub loans: u64,
    /// Lines of the general ledger.
    pub lines: u64,
}

impl Report {
    /// True if nothing was found.
    pub fn is_clean(&self) -> bool {
        self.counts.is_empty()
    }

    pub(crate) fn tell(&mut self, rule: &str, at: impl fmt::Display, detail: impl fmt::Display) {
        let count = self.counts.entry(rule.to_owned()).or_default();
        *count += 1;
        if *count <= TOLD_MAX as u64 {
            let (at, detail) = (at.to_string(), detail.to_string());
            self.findings.push(Finding { rule: rule.to_owned(), at, detail });
        }
    }

    /// Tells if two numbers differ.
    pub(crate) fn compare(&mut self, rule: &str, at: impl fmt::Display, there_is: i128, expected: i128) {
        if there_is != expected {
            self.tell(rule, at, format!("there is {there_is}, expected {expected}"));
        }
    }
}
