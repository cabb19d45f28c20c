//! The contract of every store.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use dujiang_types::Revision;

use crate::{Entry, LeaseId, Listing, Result, Txn, TxnOutcome, Watch};

/// What a store takes on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size {
    /// Bytes its file takes; with several members the one asked.
    pub bytes: u64,
    /// Beyond this many nothing but deletions is taken; for a file a bound nothing enforces.
    pub quota_bytes: u64,
    /// Alarms the engine has raised itself, such as `NOSPACE`: it takes no writes until they are lifted.
    pub alarms: Vec<String>,
}

/// A revisioned store.
///
/// * Every write raises the store's revision; revisions may have gaps. The revision of a store never written to
///   is 1 or higher, so 0 can mean "does not exist".
/// * Reads are linearizable: a read that begins after a write was acknowledged sees it.
/// * An acknowledged write is durable.
/// * Keys and values are bounded, see [`crate::limits`]; both implementations refuse the same requests.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// The entry under the key, if there is one.
    async fn get(&self, key: &str) -> Result<Option<Entry>>;

    /// All entries whose key begins with the prefix, as of one revision. The empty prefix means all.
    async fn list(&self, prefix: &str) -> Result<Listing>;

    /// Carries out a transaction as a whole or not at all.
    ///
    /// After [`crate::Error::Unavailable`] or [`crate::Error::Closed`] it may have happened or not.
    async fn transact(&self, txn: Txn) -> Result<TxnOutcome>;

    /// All changes under the prefix with a revision above `after`: in order of revisions, none missing, none
    /// twice, the changes of one revision together. Ends only by an error, see [`Watch::next`].
    ///
    /// [`crate::Error::Compacted`] comes from here or from the first [`Watch::next`].
    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch>;

    /// Makes a lease. The time to live is rounded up to whole seconds and to at least
    /// [`crate::limits::LEASE_TTL_MIN`]; a lease never ends before it, and may end somewhat later.
    async fn grant(&self, ttl: Duration) -> Result<LeaseId>;

    /// Begins the lease's time to live anew. [`crate::Error::LeaseNotFound`] once it has expired.
    async fn keep_alive(&self, lease: LeaseId) -> Result<()>;

    /// Ends the lease: its keys are deleted, all in one revision. [`crate::Error::LeaseNotFound`] once it has
    /// expired.
    async fn revoke(&self, lease: LeaseId) -> Result<()>;

    /// True if other processes may write to it, too.
    fn is_shared(&self) -> bool;

    /// The current revision.
    async fn revision(&self) -> Result<Revision>;

    /// Forgets the history up to and including the revision: watches can be resumed after it or later, not
    /// before. What was compacted already stays so; a revision of the future is refused as invalid.
    async fn compact(&self, revision: Revision) -> Result<()>;

    /// What it takes on disk, and what it may take.
    async fn size(&self) -> Result<Size>;

    /// Gives space back that the history forgotten by [`Store::compact`] took, as far as that can be done while it
    /// is in use, and lifts the alarms that lack of space has raised. With several members only those of one.
    async fn reclaim(&self) -> Result<()>;

    /// Sets the key if its entry has the expected revision (0: if it does not exist).
    async fn compare_and_set(&self, key: &str, expected: Revision, value: Bytes) -> Result<TxnOutcome> {
        self.transact(Txn::new().check(key, expected).put(key, value)).await
    }

    /// Deletes the key if its entry has the expected revision.
    async fn delete_if(&self, key: &str, expected: Revision) -> Result<TxnOutcome> {
        self.transact(Txn::new().check(key, expected).delete(key)).await
    }
}
