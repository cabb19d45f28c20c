//! What can be wrong with a history, and how it is told.

use std::fmt;

/// Kinds of anomalies, with the names they have in the literature where they have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Anomaly {
    /// A transaction's reads contradict what it did or read before.
    Internal,
    /// An element is in a list twice: something was done twice.
    Duplicate,
    /// A list holds an element that nobody appended.
    Invented,
    /// A list holds an element of a transaction that failed (G1a).
    DirtyRead,
    /// A list was read between two appends of one transaction (G1b).
    IntermediateRead,
    /// Two reads of a list fit no common order.
    IncompatibleOrder,
    /// Transactions overwrote each other in a circle (G0).
    DirtyWrite,
    /// Transactions saw each other's effects in a circle (G1c).
    CircularInformation,
    /// Two transactions read the same state of a list and both appended to it (G-single).
    LostUpdate,
    /// A transaction saw one effect of another one and not the other (G-single).
    ReadSkew,
    /// Transactions missed each other's effects in a circle (G2).
    WriteSkew,
    /// An acknowledged append was not in a list that was read later, nor in any list ever read.
    LostAppend,
    /// What was acknowledged before a transaction began was not seen by it.
    StaleRead,
    /// No order fits both what was seen and when.
    TimeContradicted,
}

impl Anomaly {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Duplicate => "duplicate",
            Self::Invented => "invented",
            Self::DirtyRead => "dirty-read",
            Self::IntermediateRead => "intermediate-read",
            Self::IncompatibleOrder => "incompatible-order",
            Self::DirtyWrite => "dirty-write",
            Self::CircularInformation => "circular-information",
            Self::LostUpdate => "lost-update",
            Self::ReadSkew => "read-skew",
            Self::WriteSkew => "write-skew",
            Self::LostAppend => "lost-append",
            Self::StaleRead => "stale-read",
            Self::TimeContradicted => "time-contradicted",
        }
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that cannot have happened in any serial execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing.
    pub anomaly: Anomaly,
    /// Why: for a cycle one sentence per edge, the last of which leads back to the first.
    pub because: Vec<String>,
    /// The transactions concerned, as their clients saw them.
    pub transactions: Vec<String>,
}

impl fmt::Display for Finding {
    /// One line: the kind, the reasons, the transactions.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}. ", self.anomaly, self.because.join("; and "))?;
        f.write_str(&self.transactions.join("; "))
    }
}
