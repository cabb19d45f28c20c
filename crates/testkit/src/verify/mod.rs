//! The checker: compares what a load was told with what the databases hold.
//!
//! It shares no code with the bank and reads the tables by its own queries, each unit in one snapshot. It first
//! waits until no message between units is under way, because only then every transfer has its two sides.

mod books;
mod claims;
mod ledger;
mod pairs;
pub(crate) mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use dujiang_types::{DcId, UnitId};
use serde::Serialize;

use crate::journal::Journal;
use crate::lists::{self, ListsReport};

pub use books::{Account, Books, Entry, Message, Posting};
pub use source::{Server, UnitSource};

/// Violations listed by name; beyond that they are only counted, so that a ruined database does not fill memory.
pub const VIOLATIONS_LISTED_MAX: usize = 1_000;

/// What has to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// An acknowledged operation is in the books.
    AcknowledgedMissing,
    /// What is in the books is what was asked for.
    Altered,
    /// One key has one posting, in all units together.
    Doubled,
    /// A refused operation left nothing.
    RefusedPresent,
    /// Every posting comes from an operation in the journal.
    NotInJournal,
    /// The entries of a posting sum to zero.
    PostingUnbalanced,
    /// The entries of a posting are those of its kind.
    PostingMalformed,
    /// An entry belongs to a posting and an account of its currency.
    EntryStray,
    /// A balance is the sum of its entries, now and after each of them.
    BalanceWrong,
    /// No balance is or was below its account's limit.
    BelowLimit,
    /// All balances of a unit, its house accounts among them, sum to zero.
    MoneyNotConserved,
    /// What is in transit in all units together is what has left one and not yet reached the other.
    InTransitWrong,
    /// A transfer that left a unit arrived once or came back once.
    PairBroken,
    /// A transfer that arrived had left somewhere.
    Invented,
    /// A posting is reversed at most once, and says so.
    ReversalWrong,
    /// Messages between units are delivered in the end.
    NotSettled,
    /// An account is kept by the unit that owns its slot.
    Misplaced,
    /// One database of a unit takes writes.
    TwoPrimaries,
    /// What clients saw of a unit's lists can have happened one after the other, in an order that agrees with time.
    NotSerializable,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name it has in JSON.
        self.serialize(f)
    }
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The rule broken.
    pub rule: Rule,
    /// Where; `None` if it concerns all units together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitId>,
    /// What exactly.
    pub what: String,
}

/// Violations found so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    listed: Vec<Violation>,
    count: u64,
}

impl Findings {
    pub(crate) fn add(&mut self, rule: Rule, unit: Option<&UnitId>, what: impl Into<String>) {
        self.count += 1;
        if self.listed.len() < VIOLATIONS_LISTED_MAX {
            self.listed.push(Violation { rule, unit: unit.cloned(), what: what.into() });
        }
    }
}

/// What the checker found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// Each unit's books.
    pub units: BTreeMap<UnitId, UnitReport>,
    /// The journal, if one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal: Option<JournalReport>,
    /// Transactions over lists in the journal, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lists: Option<ListsReport>,
    /// How long it took until no message was under way, in seconds.
    pub settled_s: f64,
    /// All violations, also those beyond the ones listed.
    pub violation_count: u64,
    /// Violations, at most [`VIOLATIONS_LISTED_MAX`].
    pub violations: Vec<Violation>,
}

impl Report {
    /// True if every rule holds.
    pub fn is_clean(&self) -> bool {
        self.violation_count == 0
    }
}

/// Size of one unit's books.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnitReport {
    /// Where the primary is.
    pub dc: DcId,
    /// Its epoch.
    pub epoch: u64,
    /// False as long as the application has not used the unit: it has no books yet.
    pub made: bool,
    /// Accounts.
    pub accounts: usize,
    /// Postings.
    pub postings: usize,
    /// Entries.
    pub entries: usize,
    /// Balances of all customers together, in minor units by currency.
    pub balances_minor: BTreeMap<String, i128>,
}

/// What became of a journal's operations that move money.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct JournalReport {
    /// Loads that wrote it.
    pub loads: usize,
    /// Operations that move money.
    pub operations: u64,
    /// Acknowledged, and found.
    pub acknowledged: u64,
    /// Acknowledged, and lost by a promotion without proof, as a manifest says.
    pub lost: u64,
    /// Refused, and not found.
    pub refused: u64,
    /// Unknown, and found once.
    pub unknown_done: u64,
    /// Unknown, and not found.
    pub unknown_not_done: u64,
    /// Acknowledged transfers across units that came back because the other unit refused them.
    pub returned: u64,
}

/// How to check.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// True if the journal covers the whole life of the platform, so that nothing else may be in the books.
    pub whole_life: bool,
    /// How long to wait for primaries and for messages under way.
    pub settle: Duration,
}

/// The relay between units works in fractions of a second; a failover in between takes a few seconds.
pub const SETTLE_DEFAULT: Duration = Duration::from_secs(60);

impl Default for Options {
    fn default() -> Self {
        Self { whole_life: false, settle: SETTLE_DEFAULT }
    }
}

/// Why nothing could be checked.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A unit without a primary.
    #[error("{unit} has no primary that answers: {why}")]
    NoPrimary {
        /// The unit.
        unit: UnitId,
        /// What each replica said.
        why: String,
    },
    /// A query failed.
    #[error("cannot read {what} of {unit}")]
    Read {
        /// The unit.
        unit: UnitId,
        /// The table.
        what: &'static str,
        /// What PostgreSQL said.
        #[source]
        source: tokio_postgres::Error,
    },
}

/// Waits until all units are settled, then checks all their books, and against the journal if there is one.
/// `say` is told how the waiting goes.
pub async fn verify(
    sources: &[UnitSource],
    journal: Option<&Journal>,
    options: Options,
    mut say: impl FnMut(&str),
) -> Result<Report, VerifyError> {
    let mut findings = Findings::default();
    let began = tokio::time::Instant::now();
    let primaries = source::settled_primaries(sources, options.settle, &mut findings, &mut say).await?;
    let settled = began.elapsed();
    let mut units = BTreeMap::new();
    let mut all = Vec::with_capacity(primaries.len());
    // All snapshots are taken before the first table is read, so that they lie as close together as can be.
    for primary in &primaries {
        primary.begin_snapshot().await?;
    }
    for primary in &primaries {
        say(&format!("reading the books of {} in {}", primary.unit, primary.dc));
        let books = books::read(primary).await?;
        units.insert(primary.unit.clone(), books.report(primary.dc.clone(), primary.epoch));
        all.push(books);
    }
    say("checking");
    let lost = sources.iter().flat_map(|source| source.lost.iter().map(String::as_str)).collect();
    let lists = journal.and_then(|journal| lists::check(journal, &mut findings));
    let journal = check(&all, journal, &lost, options.whole_life, &mut findings);
    Ok(Report {
        units,
        journal,
        lists,
        settled_s: settled.as_secs_f64(),
        violation_count: findings.count,
        violations: findings.listed,
    })
}

/// All rules over the books of all units.
fn check(
    all: &[Books],
    journal: Option<&Journal>,
    lost: &BTreeSet<&str>,
    whole_life: bool,
    findings: &mut Findings,
) -> Option<JournalReport> {
    for books in all {
        ledger::check(books, findings);
    }
    pairs::check(all, findings);
    claims::check_keys(all, findings);
    journal.map(|journal| claims::check(all, journal, lost, whole_life, findings))
}
