//! What a report says.

use std::collections::BTreeMap;

use dujiang_types::{DcId, Epoch, UnitId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Digest;

/// The format of a report, as it says itself.
pub const FORMAT: &str = "dujiang-evidence/1";

/// What is known of one move, failover or drill. Times are wall clock; durations were measured by monotonic clocks
/// where it says so, else they are differences of those times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// [`FORMAT`].
    pub format: String,
    /// Its name: that of the operation, or `drill-...`.
    pub id: String,
    /// The platform it happened on.
    pub platform: String,
    /// What kind of event this is about.
    pub kind: Kind,
    /// What happened, in a few words: `move of unit-1 from chengdu-1 to chengdu-2`.
    pub subject: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it ended so, in one sentence.
    pub conclusion: String,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub began: Timestamp,
    /// When it was over.
    #[schema(value_type = String, format = DateTime)]
    pub ended: Timestamp,
    /// When this was written.
    #[schema(value_type = String, format = DateTime)]
    pub written: Timestamp,
    /// Who asked for it.
    pub asked_by: String,
    /// Who approved it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approved_by: Vec<String>,
    /// What happened to each unit concerned.
    pub units: Vec<UnitPart>,
    /// Safety rules that were evaluated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// What was measured against a limit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub figures: Vec<Figure>,
    /// What the load's clients saw, if there was a load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// What the checker of the books found, if it ran: the proof of the recovery point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub books: Option<Books>,
    /// What did not come about, or could not be observed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// Operations it brought about, with reports of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<String>,
    /// Versions of what ran: `dujiang`, `postgresql@chengdu-1`, ...
    pub versions: BTreeMap<String, String>,
    /// The report before this one; none for the first that is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Link>,
}

/// What a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A planned move.
    Move,
    /// A failover.
    Failover,
    /// A fault brought about on purpose, under load.
    Drill,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should.
    Succeeded,
    /// It was not carried out, or did not show what it should.
    Failed,
}

/// What happened to one unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UnitPart {
    /// The unit.
    pub unit: UnitId,
    /// Its home before.
    pub from: Option<DcId>,
    /// Its home afterwards.
    pub to: Option<DcId>,
    /// Its epoch afterwards.
    pub epoch: Option<Epoch>,
    /// What happened, oldest first.
    pub timeline: Vec<Moment>,
    /// Recovery time by layer: milliseconds from the beginning until the layer served again.
    pub recovery_ms: BTreeMap<Layer, f64>,
    /// Its requests, as the gateways saw them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Requests>,
}

/// One moment of a timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Moment {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Milliseconds since the report's beginning.
    pub after_ms: f64,
    /// Where it happened.
    pub layer: Layer,
    /// What: `detected`, `fenced`, `promoted`, `published`, `first success`, or the phase that was entered.
    pub what: String,
    /// Details in one sentence.
    pub detail: String,
}

/// Layers of the platform, in the order a recovery passes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// Control plane: what was decided.
    Control,
    /// Databases: who was fenced, who was promoted.
    Data,
    /// Access: what gateways routed by.
    Access,
    /// Applications: requests answered.
    Application,
}

impl Layer {
    /// All of them, from the top.
    pub const ALL: [Self; 4] = [Self::Control, Self::Data, Self::Access, Self::Application];

    /// Its name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Data => "data",
            Self::Access => "access",
            Self::Application => "application",
        }
    }
}

/// A unit's requests while it changed its home, over all gateways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Requests {
    /// Held, and answered by the new home.
    pub held: u64,
    /// The longest hold in milliseconds.
    pub longest_hold_ms: f64,
    /// Answered with a server error: from ten seconds before the new epoch on.
    pub failed: u64,
    /// Gateways that reported; the others saw no request of the unit, or are not heard.
    pub gateways: u32,
}

/// One safety rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// True if it allowed the operation.
    pub holds: bool,
    /// What it looked at.
    pub detail: String,
}

/// A measured figure with its limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The value.
    pub value: f64,
    /// Its unit of measurement: `ms`, `requests`.
    pub unit: String,
    /// The largest value allowed, if there is a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
}

impl Figure {
    /// True if there is no limit, or the value is within it.
    pub fn is_within(&self) -> bool {
        self.limit.is_none_or(|limit| self.value <= limit)
    }
}

/// What a load's clients saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Load {
    /// Requests sent.
    pub sent: u64,
    /// Payments acknowledged.
    pub acknowledged: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Digest of the journal in which the clients wrote down every request and answer.
    pub journal: Digest,
    /// Size of that journal.
    pub journal_bytes: u64,
}

/// What the checker found: every acknowledged payment once, no refused one, each unknown one at most once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Books {
    /// Payments acknowledged and found in the books.
    pub acknowledged: u64,
    /// Payments refused and not found.
    pub refused: u64,
    /// Payments whose outcome the client did not learn.
    pub unknown: u64,
    /// Violations of any rule of the checker; a recovery point of zero means none, and nothing lost.
    pub violations: u64,
    /// Payments acknowledged and lost by a promotion without proof: those that loss manifests name. They are no violations.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
    /// The first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listed: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The report before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Link {
    /// Its name.
    pub id: String,
    /// Digest of its payload.
    pub digest: Digest,
}
