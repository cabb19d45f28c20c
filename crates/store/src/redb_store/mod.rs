//! Not written yet: every call fails.

use std::time::Duration;

use async_trait::async_trait;
use dujiang_types::Revision;

use crate::{Entry, Error, LeaseId, Listing, Result, Store, Txn, TxnOutcome, Watch};

/// A store.
#[derive(Debug)]
pub struct RedbStore;

impl RedbStore {
    /// Opens the file, or makes it.
    pub async fn open(path: &std::path::Path) -> Result<Self> {
        Err(Error::Locked { path: path.to_owned() })
    }
}

#[async_trait]
impl Store for RedbStore {
    async fn get(&self, _key: &str) -> Result<Option<Entry>> {
        Err(Error::Closed)
    }
    async fn list(&self, _prefix: &str) -> Result<Listing> {
        Err(Error::Closed)
    }
    async fn transact(&self, _txn: Txn) -> Result<TxnOutcome> {
        Err(Error::Closed)
    }
    async fn watch(&self, _prefix: &str, _after: Revision) -> Result<Watch> {
        Err(Error::Closed)
    }
    async fn grant(&self, _ttl: Duration) -> Result<LeaseId> {
        Err(Error::Closed)
    }
    async fn keep_alive(&self, _lease: LeaseId) -> Result<()> {
        Err(Error::Closed)
    }
    async fn revoke(&self, _lease: LeaseId) -> Result<()> {
        Err(Error::Closed)
    }
    async fn revision(&self) -> Result<Revision> {
        Err(Error::Closed)
    }
    async fn compact(&self, _revision: Revision) -> Result<()> {
        Err(Error::Closed)
    }
}
