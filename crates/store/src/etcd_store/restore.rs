//! Filling an empty cluster from a backup.

use bytes::Bytes;
use dujiang_types::Revision;
use etcd_client::GetOptions;

use super::call::{Again, call};
use super::convert::Base;
use super::{EtcdStore, NAMESPACE};
use crate::limits::{TXN_BYTES_MAX, TXN_OPS_MAX};
use crate::{Error, Result, Store as _, Txn, TxnOutcome};

/// Where a cluster says how far our revisions are above its own. Beside our keys, not among them.
const BASE_KEY: &str = "/dujiang-base";
/// Keys and values of one transaction while a cluster is filled: half of what is allowed.
const BATCH_BYTES: usize = TXN_BYTES_MAX / 2;

impl EtcdStore {
    /// How far our revisions are above the cluster's. It never changes while anybody is connected: it is written
    /// before a cluster is used.
    pub(super) async fn read_base(&self) -> Result<Base> {
        let got = call("read where it begins", Again::Always, self.kv.clone(), |mut kv| async move {
            kv.get(BASE_KEY, None).await
        });
        let got = got.await?;
        let Some(kv) = got.kvs().first() else { return Ok(Base::default()) };
        let number = kv.value_str().ok().and_then(|text| text.parse().ok());
        let corrupt = || Error::Corrupt { key: BASE_KEY.to_owned(), what: "it is no number".to_owned() };
        number.map(Base).ok_or_else(corrupt)
    }

    /// From now on revisions count from there. Nobody else may be connected: they would not know.
    pub async fn raise_to(&mut self, revision: Revision) -> Result<()> {
        let text = revision.0.to_string();
        let put = call(
            "write where it begins",
            Again::Always,
            (self.kv.clone(), text),
            |(mut kv, text)| async move { kv.put(BASE_KEY, text, None).await },
        );
        put.await?;
        self.base = Base(revision.0);
        Ok(())
    }

    /// Fills an empty cluster that nobody else uses yet; its revisions begin above that one.
    pub async fn fill(&mut self, revision: Revision, entries: &[(String, Bytes)]) -> Result<()> {
        let count = call("look whether it is empty", Again::Always, self.kv.clone(), |mut kv| async move {
            kv.get(NAMESPACE, Some(GetOptions::new().with_prefix().with_count_only())).await
        });
        if count.await?.count() > 0 {
            return Err(Error::Invalid { what: "a cluster that is not empty cannot be filled".to_owned() });
        }
        self.raise_to(revision).await?;
        let (mut txn, mut bytes) = (Txn::new(), 0);
        for (key, value) in entries {
            let size = key.len() + value.len();
            if !txn.writes.is_empty() && (txn.writes.len() == TXN_OPS_MAX || bytes + size > BATCH_BYTES) {
                self.write(std::mem::take(&mut txn)).await?;
                bytes = 0;
            }
            bytes += size;
            txn = txn.put(key.clone(), value.clone());
        }
        self.write(txn).await
    }

    async fn write(&self, txn: Txn) -> Result<()> {
        match self.transact(txn).await? {
            TxnOutcome::Committed(_) => Ok(()),
            TxnOutcome::Conflict { key, .. } => {
                Err(Error::Invalid { what: format!("{key} is written by somebody else") })
            }
        }
    }
}
