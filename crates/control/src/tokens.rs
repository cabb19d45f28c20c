//! What is kept of tokens by which machines join: who made one, for what, and what became of it. Nothing of the secret:
//! that is a key only the token has.

use std::fmt::Write as _;

use dujiang_types::DcId;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use utoipa::ToSchema;

/// Where they are kept. No watch shows it, and a restore leaves it out: a token that was used since the backup would be
/// unused again.
pub(crate) const PREFIX: &str = "tokens/";
/// How long the record of a token is kept after its time: somebody may ask who let a machine in.
const KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinToken {
    /// Its name.
    pub id: String,
    /// The data center whose agent it makes.
    pub dc: DcId,
    /// Who made it.
    pub created_by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Until when it can be used.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Its use, once it was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Used>,
}

/// The one use of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Used {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// SHA-256 of the signing request, by which its repetition is known.
    pub request: String,
}

/// What a token is good for at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Good {
    /// For its first use.
    Unused,
    /// The same was asked before, and the answer may have been lost on its way.
    Repeated,
}

impl JoinToken {
    /// Whether that request may be answered for the token now; or why not.
    pub(crate) fn judge(&self, dc: &DcId, request: &str, now: Timestamp) -> Result<Good, String> {
        if self.dc != *dc {
            return Err(format!("the token is for {}, not for {dc}", self.dc));
        }
        if self.expires_at <= now {
            return Err(format!("the token has expired at {:.0}", self.expires_at));
        }
        match &self.used {
            None => Ok(Good::Unused),
            Some(used) if used.request == digest(request) => Ok(Good::Repeated),
            Some(used) => Err(format!("the token was used at {:.0}; it works once", used.at)),
        }
    }

    /// Records its use.
    pub(crate) fn used(self, request: &str, at: Timestamp) -> Self {
        Self { used: Some(Used { at, request: digest(request) }), ..self }
    }

    /// True if nobody needs to know of it any more.
    pub(crate) fn is_forgotten(&self, now: Timestamp) -> bool {
        self.expires_at + KEPT < now
    }
}

/// The key of a token's record.
pub(crate) fn key(id: &str) -> String {
    format!("{PREFIX}{id}")
}

fn digest(request: &str) -> String {
    sha2::Sha256::digest(request).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap_or_default();
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_one_request_of_its_data_center_in_its_time() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let (a, b) = (DcId::new("a").unwrap(), DcId::new("b").unwrap());
        let (created_at, expires_at) = (at(0), at(60));
        let token = JoinToken {
            id: "t-1".to_owned(),
            dc: a.clone(),
            created_by: "zhang".to_owned(),
            created_at,
            expires_at,
            used: None,
        };
        assert_eq!(token.judge(&a, "one", at(59)), Ok(Good::Unused));
        assert!(token.judge(&b, "one", at(59)).unwrap_err().contains("for a, not for b"));
        assert!(token.judge(&a, "one", at(60)).unwrap_err().contains("expired"));
        let used = token.used("one", at(5));
        assert_eq!(used.judge(&a, "one", at(59)), Ok(Good::Repeated));
        assert!(used.judge(&a, "two", at(59)).unwrap_err().contains("works once"));
        assert!(used.judge(&a, "one", at(60)).is_err());
        assert!(
            !used.is_forgotten(at(61)) && used.is_forgotten(at(60) + KEPT + SignedDuration::from_secs(1))
        );
    }
}
