//! The load client: an open loop of payments against the gateways, every attempt in a journal.
//!
//! *Open loop*: requests start on schedule whether or not earlier ones have been answered, so a bank that stalls
//! is not spared. What is in flight is bounded; an operation for which there is no room is counted, not queued.

pub mod client;
pub mod histogram;
pub mod plan;
pub mod prepare;
pub mod run;
pub mod summary;

use std::path::PathBuf;
use std::time::Duration;

use dujiang_types::{DcId, SlotRange, UnitId};
use serde::{Deserialize, Serialize};

use crate::journal::{JournalError, Outcome};
use crate::request::Request;

pub use client::Client;
pub use run::{Load, Progress};
pub use summary::{Summary, UnitSummary, is_failed_request};

/// A data center's gateway as clients reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Its data center.
    pub dc: DcId,
    /// `http://host:port`.
    pub url: String,
}

/// Slots of one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitSlots {
    /// The unit.
    pub unit: UnitId,
    /// What it owns.
    pub slots: Vec<SlotRange>,
}

/// Kinds of operations and how often each comes up, as weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mix {
    /// Transfers between accounts of one unit.
    pub within: u32,
    /// Transfers to an account of another unit.
    pub across: u32,
    /// Cash deposits.
    pub deposits: u32,
    /// Reversals of earlier transfers.
    pub reversals: u32,
    /// Balance look-ups.
    pub reads: u32,
}

impl Default for Mix {
    fn default() -> Self {
        Self { within: 50, across: 20, deposits: 10, reversals: 5, reads: 15 }
    }
}

impl Mix {
    /// Nothing but payments within units.
    pub const PAYMENTS: Self = Self { within: 100, across: 0, deposits: 0, reversals: 0, reads: 0 };

    fn total(&self) -> u32 {
        self.within + self.across + self.deposits + self.reversals + self.reads
    }
}

/// What to load the bank with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Gateways; clients are spread over them.
    pub gateways: Vec<Gateway>,
    /// Units and their slots; accounts are spread over them.
    pub units: Vec<UnitSlots>,
    /// Operations started per second.
    pub rate: u32,
    /// How long to go on; `None`: until stopped.
    pub duration: Option<Duration>,
    /// Accounts to open.
    pub accounts: u32,
    /// Kinds of operations.
    pub mix: Mix,
    /// All choices derive from it.
    pub seed: u64,
    /// Where to write the journal.
    pub journal: PathBuf,
    /// Bounds of a single operation.
    pub patience: Patience,
}

/// How long a client tries.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the answer to one attempt.
    pub answer: Duration,
    /// Attempts under one key.
    pub attempts: u32,
}

/// Longer than a gateway holds a request of a unit that moves, so that giving up is the gateway's decision.
const ANSWER_DEFAULT: Duration = Duration::from_secs(15);
/// With pauses growing to a second: about half a minute of refusals, several times what a failover may take.
const ATTEMPTS_DEFAULT: u32 = 30;

impl Default for Patience {
    fn default() -> Self {
        Self { answer: ANSWER_DEFAULT, attempts: ATTEMPTS_DEFAULT }
    }
}

/// Why a load cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The options make no sense.
    #[error("{0}")]
    Options(String),
    /// The journal cannot be written; without it nothing may be sent.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The HTTP client cannot be set up.
    #[error("cannot set up the HTTP client")]
    Http(#[source] reqwest::Error),
    /// Customers and accounts could not be made.
    #[error("preparing accounts failed at {request:?}: {outcome:?}")]
    Prepare {
        /// What was asked.
        request: Box<Request>,
        /// What came of it.
        outcome: Box<Outcome>,
    },
}
