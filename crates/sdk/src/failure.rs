//! What can go wrong in a transaction, sorted by what is certain about it.
//!
//! The sorting is the heart of the SDK's promise: "nothing was done" is only said when it is certain, because
//! gateways and clients then send the request again.

use dujiang_types::{Code, Problem};
use tokio_postgres::error::{DbError, Severity, SqlState};

/// Raised by `dujiang.enter`: the request was meant for another epoch, or this database is no primary.
const SQLSTATE_OTHER_EPOCH: &str = "DJ001";
/// Seconds after which a retry makes sense: a planned move holds for less, a failover for a few of these.
const RETRY_AFTER_S: u32 = 1;

/// Why a transaction did not end as wanted.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The business says no. Its effects are rolled back; the refusal itself may be recorded.
    #[error("refused: {0}")]
    Refused(Problem),
    /// Nothing was done, for certain, and the unit cannot do it here and now. Never recorded.
    #[error("not done: {problem}")]
    NotDone {
        /// The answer: `unit.moved`, `unit.unavailable` or `unit.overloaded`.
        problem: Problem,
        /// What the database said.
        #[source]
        source: Option<tokio_postgres::Error>,
    },
    /// Nothing was done, and the whole transaction is worth repeating at once: a deadlock, a serialization
    /// failure, a collision with a concurrent insert.
    #[error("has to be repeated")]
    Repeat(#[source] tokio_postgres::Error),
    /// Nothing was done: a lock was not granted in time.
    #[error("a lock was not granted in time")]
    Locked(#[source] tokio_postgres::Error),
    /// The commit was sent and it is not known whether it holds.
    #[error("the outcome of the commit is not known: {why}")]
    Unknown {
        /// How that came about.
        why: &'static str,
        /// What the database said, if anything.
        #[source]
        source: Option<tokio_postgres::Error>,
    },
    /// A defect of ours. Nothing was committed.
    #[error("{what}")]
    Internal {
        /// What does not fit.
        what: String,
        /// What the database said, if anything.
        #[source]
        source: Option<tokio_postgres::Error>,
    },
}

impl Failure {
    /// A refusal by a rule of the business.
    pub fn refused(code: Code, detail: impl Into<String>) -> Self {
        Self::Refused(Problem::new(code, detail))
    }

    /// A broken invariant of our own.
    pub fn internal(what: impl Into<String>) -> Self {
        Self::Internal { what: what.into(), source: None }
    }

    /// Nothing was done and it may be sent again.
    pub fn not_done(code: Code, detail: impl Into<String>) -> Self {
        Self::NotDone { problem: retryable(code, detail), source: None }
    }

    /// The unit cannot be served here and now.
    pub(crate) fn unavailable(detail: &str, source: Option<tokio_postgres::Error>) -> Self {
        Self::NotDone { problem: retryable(Code::UnitUnavailable, detail), source }
    }

    /// Sorts an error of a statement *before* COMMIT was sent: nothing is committed, whatever it was.
    pub(crate) fn before_commit(error: tokio_postgres::Error) -> Self {
        let Some(state) = error.code().cloned() else {
            return if is_of_the_connection(&error) {
                Self::unavailable("the connection to the unit's database broke", Some(error))
            } else {
                Self::Internal { what: "a statement and its types do not fit".into(), source: Some(error) }
            };
        };
        match sort(&state) {
            Sort::Moved => Self::NotDone {
                problem: retryable(Code::UnitMoved, "the epoch is not the unit's"),
                source: Some(error),
            },
            Sort::Unavailable(detail) => Self::unavailable(detail, Some(error)),
            Sort::Overloaded => Self::NotDone {
                problem: retryable(Code::Overloaded, "the unit's database is at its limits"),
                source: Some(error),
            },
            Sort::Locked => Self::Locked(error),
            Sort::Repeat => Self::Repeat(error),
            Sort::Internal => Self::Internal { what: "a statement failed".into(), source: Some(error) },
        }
    }

    /// Sorts an error answered to COMMIT itself. Only an ERROR that PostgreSQL raises before it writes the commit
    /// record is certain; of everything else the outcome is unknown.
    pub(crate) fn of_commit(error: tokio_postgres::Error) -> Self {
        if error.as_db_error().is_some_and(is_certain_rollback) {
            Self::before_commit(error)
        } else {
            Self::Unknown { why: "COMMIT failed", source: Some(error) }
        }
    }

    /// True if it concerns a session that was dead when it was taken from the pool, or a database that went away.
    pub(crate) fn is_broken_connection(&self) -> bool {
        match self {
            Self::NotDone { source: Some(error), .. } => {
                error.is_closed() || is_of_the_connection(error) || error.code().is_some_and(is_shutdown)
            }
            _ => false,
        }
    }

    /// The answer to the client. `write` says whether an unknown outcome is possible at all.
    pub fn into_problem(self) -> Problem {
        match self {
            Self::Refused(problem) | Self::NotDone { problem, .. } => problem,
            Self::Repeat(_) | Self::Locked(_) => {
                retryable(Code::Overloaded, "too many requests want the same rows at the moment")
            }
            Self::Unknown { why, .. } => Problem::new(Code::OutcomeUnknown, why),
            Self::Internal { .. } => Problem::new(Code::Internal, "nothing was done"),
        }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::before_commit(error)
    }
}

fn retryable(code: Code, detail: impl Into<String>) -> Problem {
    Problem { retry_after: Some(RETRY_AFTER_S), ..Problem::new(code, detail) }
}

enum Sort {
    Moved,
    Unavailable(&'static str),
    Overloaded,
    Locked,
    Repeat,
    Internal,
}

fn sort(state: &SqlState) -> Sort {
    if state.code() == SQLSTATE_OTHER_EPOCH {
        return Sort::Moved;
    }
    if *state == SqlState::READ_ONLY_SQL_TRANSACTION {
        return Sort::Unavailable("the unit's database here is a standby");
    }
    if *state == SqlState::LOCK_NOT_AVAILABLE {
        return Sort::Locked;
    }
    // The collision with a concurrent insert: repeated, the transaction finds the other one's row.
    if [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::UNIQUE_VIOLATION]
        .contains(state)
    {
        return Sort::Repeat;
    }
    let no_schema_yet = [
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_COLUMN,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::INVALID_SCHEMA_NAME,
        SqlState::UNDEFINED_DATABASE,
    ];
    if no_schema_yet.contains(state) {
        return Sort::Unavailable("the unit's schema is not there yet");
    }
    if [SqlState::TOO_MANY_CONNECTIONS, SqlState::QUERY_CANCELED].contains(state) {
        return Sort::Overloaded;
    }
    match &state.code()[..2] {
        "57" => Sort::Unavailable("the unit's database is stopping or starting"),
        "28" => Sort::Unavailable("the unit's database admits nobody at the moment"),
        "08" => Sort::Unavailable("the connection to the unit's database broke"),
        "53" | "58" => Sort::Unavailable("the unit's database is out of resources"),
        _ => Sort::Internal,
    }
}

fn is_shutdown(state: &SqlState) -> bool {
    [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW].contains(state)
}

/// Errors of class 23 (constraints, the deferred ones too) and 40 (rollback) are raised before the commit record.
fn is_certain_rollback(error: &DbError) -> bool {
    let class = &error.code().code()[..2];
    error.parsed_severity() == Some(Severity::Error)
        && (class == "23" || class == "40")
        && *error.code() != SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN
}

fn is_of_the_connection(error: &tokio_postgres::Error) -> bool {
    use std::error::Error;
    error.is_closed() || error.source().is_some_and(<dyn Error>::is::<std::io::Error>)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(state: &str) -> Option<Code> {
        Some(match sort(&SqlState::from_code(state)) {
            Sort::Moved => Code::UnitMoved,
            Sort::Unavailable(_) => Code::UnitUnavailable,
            Sort::Overloaded | Sort::Locked => Code::Overloaded,
            Sort::Repeat => return None,
            Sort::Internal => Code::Internal,
        })
    }

    #[test]
    fn states_are_sorted_by_what_a_client_should_do() {
        let cases = [
            ("DJ001", Some(Code::UnitMoved)),
            ("DJ002", Some(Code::Internal)),
            ("25006", Some(Code::UnitUnavailable)),
            ("57P01", Some(Code::UnitUnavailable)),
            ("57P03", Some(Code::UnitUnavailable)),
            ("57014", Some(Code::Overloaded)),
            ("28000", Some(Code::UnitUnavailable)),
            ("28P01", Some(Code::UnitUnavailable)),
            ("53300", Some(Code::Overloaded)),
            ("53100", Some(Code::UnitUnavailable)),
            ("55P03", Some(Code::Overloaded)),
            ("42P01", Some(Code::UnitUnavailable)),
            ("40P01", None),
            ("40001", None),
            ("23505", None),
            ("23514", Some(Code::Internal)),
            ("25P02", Some(Code::Internal)),
        ];
        for (state, code) in cases {
            assert_eq!(code_of(state), code, "{state}");
        }
    }
}
