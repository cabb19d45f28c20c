//! What can go wrong with the store.

use std::path::PathBuf;
use std::sync::Arc;

use dujiang_types::Revision;

use crate::LeaseId;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The cause below an error of ours; shared, because one failed commit answers many callers.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// What can go wrong with the store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Events up to and including `oldest` may be gone, or the revision asked for lies beyond the store's own (the
    /// store was replaced by an older one). List again and watch from the listing's revision.
    #[error(
        "the revision is no longer kept (the oldest to watch from is {oldest}); list again and watch from there"
    )]
    Compacted {
        /// The lowest revision a watch can still be resumed after.
        oldest: Revision,
    },
    /// The lease has expired, was revoked or never existed. Its keys are gone.
    #[error("lease {0} does not exist or has expired; ask for a new one")]
    LeaseNotFound(LeaseId),
    /// The request breaks a rule that both implementations keep; nothing was done.
    #[error("the request to the store is not valid: {what}")]
    Invalid {
        /// What was wrong.
        what: String,
    },
    /// The request is over a size limit; nothing was done.
    #[error("the request to the store is too large: {what} has {size}, at most {max} are allowed")]
    TooLarge {
        /// What was too large, with its unit.
        what: String,
        /// Its size.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// The URL names no store.
    #[error("{url:?} names no store; write redb:PATH or etcd:https://ADDRESS:PORT,https://ADDRESS:PORT")]
    UrlInvalid {
        /// The URL.
        url: String,
    },
    /// Another process has the file open.
    #[error("{} is in use by another process; stop it first", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The store cannot be reached or cannot write. A *write* that ends so may have happened or not: read to learn.
    #[error("the store is not available while it should {doing}")]
    Unavailable {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: Cause,
    },
    /// Somebody else has the right to write by now; nothing was written.
    #[error("another server has the right to write to the store; nothing was written")]
    Fenced,
    /// What is stored cannot be read: a defect of ours or a foreign writer.
    #[error("what is stored under {key:?} cannot be read: {what}")]
    Corrupt {
        /// The key, or the file.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// The store was closed while the call was under way. A write may have happened or not.
    #[error("the store was closed")]
    Closed,
}

impl Error {
    /// Wraps a failure of the engine below.
    pub(crate) fn unavailable(
        doing: &'static str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Unavailable { doing, source: Arc::new(source) }
    }
}
