//! What a client did and saw.

use std::fmt;

/// One thing a transaction did, in the order it did them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Appended an element to a list. An element is appended to a list at most once in a history.
    Append {
        /// The list.
        list: u64,
        /// The element.
        element: u64,
    },
    /// Read a whole list.
    Read {
        /// The list.
        list: u64,
        /// What it held; `None` if no answer came.
        seen: Option<Vec<u64>>,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append { list, element } => write!(f, "append {element} to list {list}"),
            Self::Read { list, seen: None } => write!(f, "read list {list}"),
            Self::Read { list, seen: Some(seen) } => write!(f, "read list {list}: {}", Brief(seen)),
        }
    }
}

/// A list, cut short in the middle: its end is what a reader looks for.
pub(crate) struct Brief<'a>(pub(crate) &'a [u64]);

/// Elements shown at either end.
const SHOWN: usize = 4;

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |elements: &[u64]| elements.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
        match self.0.len() {
            0 => f.write_str("[]"),
            len if len <= 2 * SHOWN => write!(f, "[{}]", words(self.0)),
            len => write!(f, "[{} ... {}]", words(&self.0[..SHOWN]), words(&self.0[len - SHOWN..])),
        }
    }
}

/// What is known of a transaction's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was acknowledged.
    Done,
    /// It is certain that it did nothing.
    Failed,
    /// It may or may not have happened, and may yet.
    Unknown,
}

/// A transaction as its client knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// What people find it by.
    pub name: String,
    /// What it did.
    pub steps: Vec<Step>,
    /// How it ended.
    pub outcome: Outcome,
    /// Earliest time it may have begun, in microseconds of the history's clock.
    pub began_us: u64,
    /// When its outcome was known, likewise. Means nothing if the outcome is unknown.
    pub ended_us: u64,
}

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<_> = self.steps.iter().map(Step::to_string).collect();
        write!(f, "{} ({}; from {}", self.name, steps.join(", "), Seconds(self.began_us))?;
        match self.outcome {
            Outcome::Done => write!(f, " to {})", Seconds(self.ended_us)),
            Outcome::Failed => write!(f, " to {}, failed)", Seconds(self.ended_us)),
            Outcome::Unknown => f.write_str(", outcome unknown)"),
        }
    }
}

/// Microseconds as people read them.
pub(crate) struct Seconds(pub(crate) u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06} s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}
