//! A store whose writes need a right that can be lost to somebody else.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dujiang_types::Revision;

use crate::{Check, Entry, Error, LeaseId, Listing, Result, Size, Store, Txn, TxnOutcome, Watch};

/// What a write needs beside its own conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Right {
    /// Nothing: nobody else writes.
    Exclusive,
    /// That this holds, too: whoever takes the right away changes the key.
    While(Check),
    /// There is none.
    Lost,
}

/// Passes reads on, and writes on condition of a right: without it they end with [`Error::Fenced`], and certainly
/// nothing was written.
pub struct Fenced {
    store: Arc<dyn Store>,
    right: Box<dyn Fn() -> Right + Send + Sync>,
}

impl Fenced {
    /// `right` is asked before each write.
    pub fn new(store: Arc<dyn Store>, right: impl Fn() -> Right + Send + Sync + 'static) -> Self {
        Self { store, right: Box::new(right) }
    }
}

impl fmt::Debug for Fenced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fenced").field(&self.store).finish()
    }
}

#[async_trait]
impl Store for Fenced {
    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        self.store.get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Listing> {
        self.store.list(prefix).await
    }

    async fn transact(&self, mut txn: Txn) -> Result<TxnOutcome> {
        let fence = match (self.right)() {
            Right::Exclusive => return self.store.transact(txn).await,
            Right::While(check) => check,
            Right::Lost => return Err(Error::Fenced),
        };
        let key = fence.key.clone();
        // The first one: a conflict then names it even if others do not hold either.
        txn.checks.insert(0, fence);
        match self.store.transact(txn).await? {
            TxnOutcome::Conflict { key: failed, .. } if failed == key => Err(Error::Fenced),
            outcome => Ok(outcome),
        }
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch> {
        self.store.watch(prefix, after).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId> {
        self.store.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<()> {
        self.store.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<()> {
        self.store.revoke(lease).await
    }

    fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    async fn revision(&self) -> Result<Revision> {
        self.store.revision().await
    }

    async fn size(&self) -> Result<Size> {
        self.store.size().await
    }

    async fn reclaim(&self) -> Result<()> {
        self.store.reclaim().await
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.store.compact(revision).await
    }
}
