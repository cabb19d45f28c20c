//! Whether a takeover would work now: what agents are asked to try, what they find, and what is concluded.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{DcId, UnitId};

/// `GET /v1/readiness`: what the control plane can tell of every unit and data center without trying anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// When this was looked at (wall clock).
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// By unit and data center.
    pub takeovers: Vec<Takeover>,
}

/// Whether a data center could take a unit over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Takeover {
    /// The unit.
    pub unit: UnitId,
    /// The data center.
    pub dc: DcId,
    /// True if the unit is at home there: then there is nothing to take over.
    pub home: bool,
    /// What was looked at. None for the home.
    pub checks: Vec<Check>,
}

impl Takeover {
    /// True if nothing speaks against it.
    pub fn is_ready(&self) -> bool {
        self.checks.iter().all(|check| check.holds)
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// What.
    pub aspect: Aspect,
    /// True if it does not stand in the way of a takeover.
    pub holds: bool,
    /// What was seen, in one sentence.
    pub detail: String,
}

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Aspect {
    /// The unit serves, and nothing is at work on it.
    Unit,
    /// The replica streams, and is close behind.
    Replica,
    /// The home waits for it.
    SyncSet,
    /// Without the home it is provable that nothing acknowledged is missing.
    NothingLost,
    /// The data center serves: its agent and its gateway are heard.
    Site,
    /// There is room: clients, processors, disk.
    Capacity,
    /// Who has to show an identity shows one that holds.
    Identities,
    /// A copy of the replica was promoted, and took a write.
    Trial,
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name it has in JSON.
        self.serialize(f)
    }
}

/// `POST /v1/examinations`: have a data center's agent look at what only it can see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExaminationRequest {
    /// The unit.
    pub unit: UnitId,
    /// The data center whose agent is to look.
    pub dc: DcId,
    /// True: promote a copy of the replica, too.
    pub trial: bool,
}

/// An examination that was asked for. It travels to the agent in the answers to its reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Examine {
    /// Its name: the same one is carried out once.
    pub id: String,
    /// The unit.
    pub unit: UnitId,
    /// True: promote a copy of the replica, too.
    pub trial: bool,
}

/// How the examination stands that an agent was asked for last. It travels in the agent's reports, and is what
/// `GET /v1/examinations/{id}` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Examined {
    /// Its name.
    pub id: String,
    /// The unit.
    pub unit: UnitId,
    /// What is being done, in a few words.
    pub doing: String,
    /// What was found, once it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<Findings>,
}

/// What an agent found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Findings {
    /// The identities shown by those a takeover needs: agent, gateway, database, instances of the application.
    pub identities: Vec<ShownIdentity>,
    /// What became of the copy; `None` if none was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
}

/// Whom somebody showed to be when the agent connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShownIdentity {
    /// Who was asked: `agent`, `gateway`, `database`, or an instance.
    pub of: String,
    /// When its certificate runs out; `None` if it showed none that is accepted.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub not_after: Option<Timestamp>,
    /// When it should be replaced by a newer one.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub renew_at: Option<Timestamp>,
    /// Why it is not accepted, or that it does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// What became of a copy that was to be promoted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Trial {
    /// It was promoted.
    Promoted(Promoted),
    /// It was not begun, or called off: nothing is known.
    Refused {
        /// Why.
        why: String,
    },
    /// It did not work.
    Failed {
        /// Why.
        why: String,
    },
}

/// A copy that was promoted, and gone again by now. Times are measured by the agent's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Promoted {
    /// The timeline it ended on: that of the epoch a takeover would have.
    pub timeline: u32,
    /// Size of the copy in bytes.
    pub bytes: u64,
    /// Copying.
    pub copied_ms: u64,
    /// From the start of the copy until it was consistent and answered. A replica that runs has that behind it.
    pub started_ms: u64,
    /// From asking for the promotion until a write was committed under the new epoch.
    pub promoted_ms: u64,
}
