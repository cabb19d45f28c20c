//! Sites that customers are led away from: kept beside the data centers' records, so that putting those anew, as every
//! `up` does, does not undo it.

use dujiang_types::DcId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where the marks are kept.
const PREFIX: &str = "drained/";

/// That nobody new shall be sent to a site, and who wants that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Drained {
    /// Who asked for it.
    pub asked_by: String,
    /// When (wall clock).
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// The key of a site's mark.
pub(crate) fn key(dc: &DcId) -> String {
    format!("{PREFIX}{dc}")
}

/// The site whose mark has that key.
pub(crate) fn site_of(key: &str) -> Option<DcId> {
    DcId::new(key.strip_prefix(PREFIX)?).ok()
}
