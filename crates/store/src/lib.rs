//! The revisioned store under the control plane: keys with values, one revision for the whole store that every
//! write raises, multi-key transactions, watches without gaps and leases.
//!
//! Two implementations keep one contract, [`Store`], and pass one conformance suite: [`RedbStore`] in process for
//! a platform on one machine, [`EtcdStore`] over a cluster of machines. [`Resources`] is the typed layer above.

pub mod backup;
pub mod error;
mod etcd_store;
pub mod fenced;
pub mod limits;
pub mod model;
mod redb_store;
pub mod resources;
pub mod store;
pub mod watch;

use std::path::Path;
use std::sync::Arc;

use dujiang_identity::Identity;

pub use backup::Backup;
pub use error::{Error, Result};
pub use etcd_store::EtcdStore;
pub use model::{Check, Entry, Event, LeaseId, Listing, Txn, TxnOutcome, Write};
pub use redb_store::RedbStore;
pub use resources::{Listed, Resources, Saved};
pub use store::{Size, Store};
pub use watch::{Batch, Watch};

/// Opens the store a URL names: `redb:PATH` for a file of this machine, `etcd:https://10.0.0.1:2379,...` for an etcd
/// cluster, whose members are shown that identity.
pub async fn open(url: &str, identity: &Identity) -> Result<Arc<dyn Store>> {
    match url.split_once(':') {
        Some(("redb", path)) if !path.is_empty() => Ok(Arc::new(RedbStore::open(Path::new(path)).await?)),
        Some(("etcd", endpoints)) if !endpoints.is_empty() => {
            let endpoints: Vec<&str> = endpoints.split(',').collect();
            Ok(Arc::new(EtcdStore::connect(&endpoints, identity).await?))
        }
        _ => Err(Error::UrlInvalid { url: url.to_owned() }),
    }
}
