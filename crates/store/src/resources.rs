//! Resources over a store: typed, with the revision filled in from the store.

use std::sync::Arc;

use bytes::Bytes;
use dujiang_types::{Kind, Resource, Revision};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Check, Entry, Error, Result, Store, Txn, TxnOutcome, Write};

/// Typed access to the resources of a store.
#[derive(Debug, Clone)]
pub struct Resources {
    store: Arc<dyn Store>,
}

/// All resources of a kind at one revision.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed<S, T> {
    /// The resources, ascending by name.
    pub items: Vec<Resource<S, T>>,
    /// The revision of the store at which they were all so.
    pub revision: Revision,
}

/// How saving a resource ended.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a conflict means that nothing was written"]
pub enum Saved<S, T> {
    /// Written: the resource with its new revision.
    Written(Resource<S, T>),
    /// Someone else was first, nothing was written: what is there now.
    Conflict(Option<Resource<S, T>>),
}

impl Resources {
    /// Resources of that store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// The store below.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The resource of that kind and name.
    pub async fn get<S, T>(&self, kind: Kind, name: &str) -> Result<Option<Resource<S, T>>>
    where
        S: DeserializeOwned,
        T: DeserializeOwned,
    {
        self.store.get(&kind.key(name)).await?.as_ref().map(decode).transpose()
    }

    /// All resources of that kind.
    pub async fn list<S, T>(&self, kind: Kind) -> Result<Listed<S, T>>
    where
        S: DeserializeOwned,
        T: DeserializeOwned,
    {
        let listing = self.store.list(&prefix(kind)).await?;
        let items = listing.entries.iter().map(decode).collect::<Result<_>>()?;
        Ok(Listed { items, revision: listing.revision })
    }

    /// Writes the resource if the stored one still has `resource.revision` (0: if there is none).
    pub async fn save<S, T>(&self, mut resource: Resource<S, T>) -> Result<Saved<S, T>>
    where
        S: Serialize + DeserializeOwned,
        T: Serialize + DeserializeOwned,
    {
        let (check, write) = change(&resource)?;
        match self.store.transact(Txn { checks: vec![check], writes: vec![write] }).await? {
            TxnOutcome::Committed(revision) => {
                resource.revision = revision;
                Ok(Saved::Written(resource))
            }
            TxnOutcome::Conflict { current, .. } => {
                Ok(Saved::Conflict(current.as_ref().map(decode).transpose()?))
            }
        }
    }

    /// Deletes the resource if the stored one has that revision.
    pub async fn delete(&self, kind: Kind, name: &str, revision: Revision) -> Result<TxnOutcome> {
        self.store.delete_if(&kind.key(name), revision).await
    }
}

/// The prefix of all keys of a kind: `units/`.
pub fn prefix(kind: Kind) -> String {
    kind.key("")
}

/// The check and the write that save a resource; for transactions over several resources.
pub fn change<S: Serialize, T: Serialize>(resource: &Resource<S, T>) -> Result<(Check, Write)> {
    let key = resource.kind.key(&resource.name);
    let value = encode(resource)?;
    Ok((Check { key: key.clone(), revision: resource.revision }, Write::Put { key, value, lease: None }))
}

/// The JSON that is stored. Its revision is 0: the true one is the entry's, and is not known before the write.
pub fn encode<S: Serialize, T: Serialize>(resource: &Resource<S, T>) -> Result<Bytes> {
    let stored = Resource {
        kind: resource.kind,
        name: resource.name.clone(),
        labels: resource.labels.clone(),
        revision: Revision(0),
        spec: &resource.spec,
        status: &resource.status,
    };
    let json = serde_json::to_vec(&stored);
    let json = json.map_err(|error| Error::Invalid { what: format!("{}: {error}", resource.name) })?;
    Ok(json.into())
}

/// The resource of an entry, with the entry's revision.
pub fn decode<S, T>(entry: &Entry) -> Result<Resource<S, T>>
where
    S: DeserializeOwned,
    T: DeserializeOwned,
{
    let corrupt = |what: String| Error::Corrupt { key: entry.key.clone(), what };
    let mut resource: Resource<S, T> =
        serde_json::from_slice(&entry.value).map_err(|error| corrupt(error.to_string()))?;
    if resource.kind.key(&resource.name) != entry.key {
        return Err(corrupt(format!("it says it is {}", resource.kind.key(&resource.name))));
    }
    resource.revision = entry.revision;
    Ok(resource)
}
