//! `If-Match` and `If-None-Match`: which revision of a resource a write is meant for.

use axum::http::{HeaderMap, HeaderValue, header};
use dujiang_types::{Code, Revision};

use crate::error::{ApiError, ApiResult};

/// What must hold of the stored resource for the write to be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precondition {
    /// Nothing: the last writer wins.
    None,
    /// It has this revision.
    Revision(Revision),
    /// It exists.
    Exists,
    /// It does not exist.
    Absent,
}

impl Precondition {
    pub(super) fn of(headers: &HeaderMap) -> ApiResult<Self> {
        let matching = text(headers, &header::IF_MATCH)?;
        let none_matching = text(headers, &header::IF_NONE_MATCH)?;
        match (matching, none_matching) {
            (None, None) => Ok(Self::None),
            (Some("*"), None) => Ok(Self::Exists),
            (Some(tag), None) => parse(tag).map(Self::Revision),
            (None, Some("*")) => Ok(Self::Absent),
            (None, Some(_)) => Err(ApiError::invalid("If-None-Match: only * is understood")),
            (Some(_), Some(_)) => Err(ApiError::invalid("If-Match and If-None-Match exclude each other")),
        }
    }

    /// Checks the revision of what is stored; `None` if there is nothing.
    pub(super) fn check(self, current: Option<Revision>) -> ApiResult<()> {
        let conflict = |detail: String| Err(ApiError::new(Code::RevisionConflict, detail));
        match (self, current) {
            (Self::None, _) | (Self::Exists, Some(_)) | (Self::Absent, None) => Ok(()),
            (Self::Revision(wanted), Some(current)) if wanted == current => Ok(()),
            (Self::Revision(wanted), Some(current)) => {
                conflict(format!("its revision is {current}, not {wanted}; read it again"))
            }
            (Self::Revision(_) | Self::Exists, None) => conflict("it does not exist".to_owned()),
            (Self::Absent, Some(current)) => {
                Err(ApiError::new(Code::AlreadyExists, format!("it exists with revision {current}")))
            }
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> ApiResult<Option<&'a str>> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text.trim())),
        _ => Err(ApiError::invalid(format!("{name}: cannot be read"))),
    }
}

fn parse(tag: &str) -> ApiResult<Revision> {
    let inner = tag.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    let digits = inner.filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()));
    let revision = digits.and_then(|t| t.parse().ok()).map(Revision);
    revision.ok_or_else(|| {
        ApiError::invalid(format!("If-Match: {tag} is not a revision such as \"12\", in quotes"))
    })
}

/// The `ETag` of a revision.
pub(super) fn etag(revision: Revision) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{revision}\"")).unwrap_or_else(|_| unreachable!("digits and quotes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(header::HeaderName, &'static str)]) -> ApiResult<Precondition> {
        let pairs = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        Precondition::of(&pairs.collect())
    }

    #[test]
    fn preconditions_are_read_or_refused_never_ignored() {
        assert_eq!(of(&[]).unwrap(), Precondition::None);
        assert_eq!(of(&[(header::IF_MATCH, "\"7\"")]).unwrap(), Precondition::Revision(Revision(7)));
        assert_eq!(of(&[(header::IF_MATCH, "*")]).unwrap(), Precondition::Exists);
        assert_eq!(of(&[(header::IF_NONE_MATCH, "*")]).unwrap(), Precondition::Absent);
        for bad in ["7", "\"\"", "W/\"7\"", "\"7\", \"8\"", "\"-7\"", "\"99999999999999999999999\""] {
            assert!(of(&[(header::IF_MATCH, bad)]).is_err(), "{bad}");
        }
        assert!(of(&[(header::IF_NONE_MATCH, "\"7\"")]).is_err());
        assert!(of(&[(header::IF_MATCH, "*"), (header::IF_NONE_MATCH, "*")]).is_err());
    }

    #[test]
    fn what_is_stored_must_meet_them() {
        let code =
            |p: Precondition, current: Option<u64>| p.check(current.map(Revision)).err().map(|e| e.0.code);
        assert_eq!(code(Precondition::None, None), None);
        assert_eq!(code(Precondition::Revision(Revision(7)), Some(7)), None);
        assert_eq!(code(Precondition::Revision(Revision(7)), Some(8)), Some(Code::RevisionConflict));
        assert_eq!(code(Precondition::Revision(Revision(7)), None), Some(Code::RevisionConflict));
        assert_eq!(code(Precondition::Exists, None), Some(Code::RevisionConflict));
        assert_eq!(code(Precondition::Absent, Some(1)), Some(Code::AlreadyExists));
    }
}
