//! What only a log has that was left behind: written down before any of it is discarded.

use serde::{Deserialize, Serialize};

use crate::{DcId, Epoch, Lsn, Position, UnitId};

/// Everything that was committed in a replica's log past the point where it left the log of the home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// The unit.
    pub unit: UnitId,
    /// The data center whose replica it was.
    pub dc: DcId,
    /// Under which epoch it had been primary, if it had.
    pub epoch: Option<Epoch>,
    /// Where its log left the home's.
    pub fork: Lsn,
    /// How far its own log reached.
    pub end: Position,
    /// Transactions committed between the two, whatever they wrote.
    pub transactions: u64,
    /// Transfers among what they wrote.
    pub transfers: Vec<LostTransfer>,
    /// Why this is not everything; the log and the data were kept then, to be read by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
}

/// A transfer, in the application's own words: what stands in its tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostTransfer {
    /// Its id.
    pub id: String,
    /// Key of the request that ordered it, if a client did.
    pub key: Option<String>,
    /// What it is.
    pub kind: String,
    /// Whose order it was.
    pub account: String,
    /// Who receives it.
    pub to: Option<String>,
    /// How much, in minor units.
    pub amount_minor: i64,
    /// Currency.
    pub currency: String,
    /// When, as the database wrote it down.
    pub at: String,
    /// Its entries.
    pub entries: Vec<LostEntry>,
}

/// An entry of a transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostEntry {
    /// The account.
    pub account: String,
    /// Above zero: put in. Below zero: taken out.
    pub amount_minor: i64,
    /// Currency.
    pub currency: String,
}

/// The manifest's file in the folder of log that was kept.
pub const LOSSES_FILE: &str = "losses.json";

/// A line of a gateway's journal: what a client was told about a write it can retry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// When (wall clock).
    pub at: String,
    /// The unit the write was for.
    pub unit: UnitId,
    /// Under which epoch it was routed.
    pub epoch: Epoch,
    /// The client's key.
    pub key: String,
    /// HTTP status.
    pub status: u16,
}

/// The journal's file in a gateway's folder,
pub const ANSWERS_FILE: &str = "answers.jsonl";
/// and the extension of the one before it.
pub const OLDER_ANSWERS: &str = "older.jsonl";
