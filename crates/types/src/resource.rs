//! The envelope of everything the platform knows.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Revision;

/// Kinds of resources. The plural is the path segment of the API and the key prefix of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub enum Kind {
    /// See [`crate::platform::DataCenter`].
    #[serde(rename = "datacenters")]
    DataCenter,
    /// See [`crate::platform::Application`].
    #[serde(rename = "applications")]
    Application,
    /// See [`crate::unit::Unit`].
    #[serde(rename = "units")]
    Unit,
    /// See [`crate::operation::Operation`].
    #[serde(rename = "operations")]
    Operation,
}

impl Kind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[Self::DataCenter, Self::Application, Self::Unit, Self::Operation];

    /// `units`, `datacenters`, ...
    pub fn plural(self) -> &'static str {
        match self {
            Self::DataCenter => "datacenters",
            Self::Application => "applications",
            Self::Unit => "units",
            Self::Operation => "operations",
        }
    }

    /// Accepts plural, singular and the usual short form: `units`, `unit`, `u`; `dc`; `app`; `op`.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "datacenters" | "datacenter" | "dc" | "dcs" => Self::DataCenter,
            "applications" | "application" | "app" | "apps" => Self::Application,
            "units" | "unit" | "u" => Self::Unit,
            "operations" | "operation" | "op" | "ops" => Self::Operation,
            _ => return None,
        })
    }

    /// Key of a resource in the store: `units/unit-1`.
    pub fn key(self, name: &str) -> String {
        format!("{}/{name}", self.plural())
    }
}

/// A resource: what is wanted (`spec`) and what is (`status`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Resource<S, T> {
    /// What kind of thing this is.
    pub kind: Kind,
    /// Unique within the kind.
    pub name: String,
    /// Free key/value pairs to select by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Revision of the last write; set by the store, 0 before the first write.
    #[serde(default)]
    pub revision: Revision,
    /// Intent.
    pub spec: S,
    /// Observed, or decided by a controller.
    pub status: T,
}

/// One aspect of a resource's state with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Condition {
    /// `Ready`, `DurabilityKept`, ...
    pub kind: String,
    /// True, false, or unknown — which is never the same as false.
    pub state: Tri,
    /// One sentence saying why.
    pub reason: String,
    /// When the state last changed (wall clock, for people).
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

/// True, false or not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Tri {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be told at the moment.
    Unknown,
}
