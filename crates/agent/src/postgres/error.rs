//! What can go wrong with a replica.

use std::io;
use std::path::PathBuf;

/// Why something could not be done with a replica.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No PostgreSQL is installed, or its user is missing.
    #[error("{0}")]
    Missing(String),
    /// The file system refused something.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// One of PostgreSQL's programs failed.
    #[error("{program} failed: {excerpt}")]
    Tool {
        /// Which.
        program: String,
        /// The end of what it wrote to its standard error.
        excerpt: String,
    },
    /// One of PostgreSQL's programs cannot be run at all.
    #[error("{program} cannot be run")]
    Run {
        /// Which.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An identity cannot be used: the agent's own, or that of the databases.
    #[error("the identity cannot be used")]
    Identity(#[source] dujiang_identity::Error),
    /// The guard cannot be started, found or stopped.
    #[error(transparent)]
    Guard(#[from] crate::process::ProcessError),
    /// The guard does not answer.
    #[error("the guard does not answer")]
    GuardSilent(#[source] io::Error),
    /// The guard refuses.
    #[error("the guard refuses: {0}")]
    GuardRefuses(String),
    /// The database process ended while it was being started.
    #[error("PostgreSQL does not start: {0}")]
    NotStarted(String),
    /// A connection or a statement failed.
    #[error("cannot {what}")]
    Sql {
        /// What was tried.
        what: &'static str,
        /// Why.
        #[source]
        source: tokio_postgres::Error,
    },
    /// Something took too long.
    #[error("cannot {0} in time")]
    Timeout(&'static str),
    /// It was broken off.
    #[error("called off: {0}")]
    CalledOff(String),
    /// The replica is not in the state the action needs.
    #[error("{0}")]
    State(String),
}

impl PostgresError {
    /// True if it only says that somebody else is not ready, so that trying again soon makes sense.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Sql { .. } | Self::Timeout(_) | Self::State(_) | Self::Identity(_))
    }

    /// The error with its causes, in one line.
    pub fn chain(&self) -> String {
        dujiang_types::error::chain(self)
    }
}

/// Shorthand for [`PostgresError::File`].
pub(super) fn file<'a>(
    what: &'static str,
    path: &'a std::path::Path,
) -> impl FnOnce(io::Error) -> PostgresError + 'a {
    move |source| PostgresError::File { what, path: path.to_owned(), source }
}
